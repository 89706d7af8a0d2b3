//! Paths through a large network, and what a client does once an epoch to draw them.

use std::net::{Ipv4Addr, SocketAddr};

use rand::RngExt;
use trefoil_protocol::{
    entry::{RelayAddresses, RelayEntry, Weight},
    epoch::{Epoch, UnixSeconds},
    guard::{GuardSample, SampleRules},
    identity::{OnionKey, RelayId},
    limits::PATH_HOPS,
    path::{self, Need, PathRules},
    relays::{UsableRelay, UsableRelays},
    usable::AgeClass,
};

use crate::{Operation, Per, seeded, time_each};

const RELAYS: usize = 10_000;
const TIMES: u32 = 10;

/// One path, four candidate paths at once, the snapshot that they are drawn from, and a new sample of guards.
pub(crate) fn operations() -> Vec<Operation> {
    vec![one(), four(), snapshot(), sample()]
}

fn rules() -> PathRules<'static> {
    let need = Need::Port(443);
    PathRules { hops: PATH_HOPS, allow_same_netgroup: false, guard: None, need, exclude: &[], own: &[] }
}

fn one() -> Operation {
    let relays = UsableRelays::new(Epoch(1), relays());
    let mut rngs = [seeded()];
    Operation::new("path: one through 10,000 relays", Per::Path, move || {
        time_each(
            TIMES,
            &mut rngs,
            |_| (),
            |rng| {
                std::hint::black_box(path::choose(&relays, &rules(), rng).expect("there are many"));
            },
        )
    })
}

fn four() -> Operation {
    let relays = UsableRelays::new(Epoch(1), relays());
    let guard = relays.iter().next().map(|relay| relay.entry.id);
    let mut rngs = [seeded()];
    Operation::new("path: four candidates behind a guard", Per::Path, move || {
        let rules = PathRules { guard, ..rules() };
        time_each(
            TIMES,
            &mut rngs,
            |_| (),
            |rng| {
                std::hint::black_box(path::choose_many(&relays, &rules, 4, rng).expect("there are many"));
            },
        )
    })
}

fn snapshot() -> Operation {
    let all = relays();
    Operation::new("usable relays: 10,000 made ready", Per::Path, move || {
        time_each(
            1,
            &mut [all.clone()],
            |_| (),
            |all| {
                std::hint::black_box(UsableRelays::new(Epoch(1), std::mem::take(all)));
            },
        )
    })
}

fn sample() -> Operation {
    let relays = UsableRelays::new(Epoch(1), relays());
    let mut rngs = [seeded()];
    Operation::new("guards: a sample of 20 from 10,000", Per::Path, move || {
        time_each(
            1,
            &mut rngs,
            |_| (),
            |rng| {
                let mut sample = GuardSample::new(UnixSeconds(0));
                sample.update(&relays, &SampleRules { allow_same_netgroup: false, own: &[] }, UnixSeconds(0), rng);
                std::hint::black_box(sample);
            },
        )
    })
}

/// Relays in 2,500 netgroups, a third of them exits, a fifth newcomers.
fn relays() -> Vec<UsableRelay> {
    let mut rng = seeded();
    let mut relay = |number: usize| {
        let address = Ipv4Addr::from_bits(0x0800_0000 + rng.random_range(0..2500 << 16));
        let exit = if number.is_multiple_of(3) { "reject *:25; accept *:*" } else { "" };
        let entry = RelayEntry {
            id: RelayId::from_bytes(rng.random()),
            onion_key: OnionKey::from_bytes(rng.random()),
            addresses: RelayAddresses::new([SocketAddr::new(address.into(), 9001)]).expect("an address"),
            weight: if rng.random() { Weight::One } else { Weight::Two },
            exit: exit.parse().expect("a policy"),
        };
        let class = if number.is_multiple_of(5) { AgeClass::Grown } else { AgeClass::Old };
        UsableRelay { entry, class, family: None }
    };
    (0..RELAYS).map(&mut relay).collect()
}
