//! Client: somebody who builds circuits, with production guards and paths.

use rand::rngs::StdRng;
use trefoil_protocol::{
    entry::RelayEntry,
    epoch::{Epoch, UnixSeconds},
    guard::{Attempt, CircuitEnd, GuardSample, NoGuard, SampleRules},
    identity::RelayId,
    path::{self, Need, PathRules},
    relays::{UsableRelay, UsableRelays},
    usable::AgeClass,
};

use super::world::{FIRST, Relay, World};

/// Hops of a circuit.
pub const HOPS: usize = 3;

/// A person's client.
pub struct Client {
    sample: GuardSample,
    /// How often a guard was dropped, since most circuits through it failed.
    pub dropped: u32,
    /// How often the client would dial no further guard until a person said so.
    pub stopped: u32,
}

/// Any path of three: the first drawn like the others, or this guard.
pub fn rules(guard: Option<RelayId>) -> PathRules<'static> {
    PathRules { hops: HOPS, allow_same_netgroup: false, guard, need: Need::Any, exclude: &[], own: &[] }
}

/// A relay as paths are drawn from it.
pub fn usable(world: &World, relay: &Relay, class: AgeClass) -> UsableRelay {
    let described = world.describe(relay, FIRST);
    let entry = RelayEntry {
        id: relay.id,
        onion_key: described.onion_key,
        addresses: described.addresses,
        weight: described.weight,
        exit: "".parse().expect("a policy of no rules"),
    };
    UsableRelay { entry, class, family: None }
}

/// When an epoch begins, so many after the first.
pub fn epoch(world: &World, number: u32) -> (Epoch, UnixSeconds) {
    let epoch = FIRST.plus(number);
    (epoch, epoch.start(&world.params.directory))
}

impl Client {
    /// Has no guards yet.
    pub fn new(now: UnixSeconds) -> Self {
        Self { sample: GuardSample::new(now), dropped: 0, stopped: 0 }
    }

    /// Takes in a usable set.
    pub fn update(&mut self, usable: &UsableRelays, now: UnixSeconds, rng: &mut StdRng) {
        self.sample.update(usable, &SampleRules { allow_same_netgroup: false, own: &[] }, now, rng);
    }

    /// A path for a circuit. Every relay can be dialled; `None` when the client dials nobody without a person's word,
    /// which it then gets for the next time.
    pub fn draw<'r>(
        &mut self,
        usable: &'r UsableRelays,
        now: UnixSeconds,
        rng: &mut StdRng,
    ) -> Option<Vec<&'r RelayEntry>> {
        let guard = match self.sample.choose(now, rng) {
            Ok(guard) => guard,
            Err(NoGuard::TooMany { .. }) => {
                self.stopped += 1;
                self.sample.go_on();
                return None;
            }
            Err(_) => return None,
        };
        self.sample.handle_dial(&guard, Attempt::Reached, now);
        path::choose(usable, &rules(Some(guard)), rng).ok()
    }

    /// Takes in whether the circuit over this path was built.
    pub fn handle_end(&mut self, path: &[&RelayEntry], end: CircuitEnd, now: UnixSeconds) {
        let dropped = self.sample.handle_circuit(&path[0].id, end, now);
        self.dropped += u32::from(dropped.is_some());
    }

    /// The guards that it uses.
    pub fn guards(&mut self, now: UnixSeconds) -> Vec<RelayId> {
        self.sample.in_use(now)
    }
}
