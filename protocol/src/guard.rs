//! Guards: the few relays that a client's circuits begin at, kept for months.
//!
//! Specification: docs/protocol.md, "Guards". Whoever draws a first hop anew for each circuit meets every bad relay in
//! time. So a client draws a sample once, uses two of it, and moves on slowly: however guards are made to fail, it
//! dials no more than [`GUARDS_DIALLED`] of them in [`GUARDS_DIALLED_SPAN`] before a person was told.
//!
//! Time is counted, not compared: what a clock says once cannot throw guards away ([`GUARD_CLOCK_STEP`]). This file
//! never dials; it is asked whom to dial, and told how it went.

mod saved;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rand::{Rng, RngExt, seq::IteratorRandom};
use serde::{Deserialize, Serialize};

pub use self::saved::BadSample;
use crate::{
    epoch::{Epoch, UnixSeconds},
    identity::RelayId,
    limits::{
        FEELER_EVERY, FEELER_MISSES, GUARD_CIRCUITS_JUDGED, GUARD_CIRCUITS_KEPT, GUARD_CLOCK_STEP,
        GUARD_FAILED_PERCENT, GUARD_LIFETIME, GUARD_LIFETIME_SPREAD, GUARD_RETRY_ALONE, GUARD_RETRY_MAX,
        GUARD_RETRY_MIN, GUARD_UNLISTED, GUARD_WORSE_PERCENT, GUARDS_DIALLED, GUARDS_DIALLED_KEPT, GUARDS_DIALLED_SPAN,
        GUARDS_DROPPED, GUARDS_IN_USE, GUARDS_SAMPLED, VIEW_CONFIRMED, VIEW_STALE_EPOCHS,
    },
    path::{self, Need, PathRules},
    relays::{UsableRelay, UsableRelays},
};

/// A client's guards. See the file's head. Its saved form is what serde makes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "saved::Saved", into = "saved::Saved")]
pub struct GuardSample {
    /// The clock when time was last counted.
    clock: UnixSeconds,
    /// Seconds counted since the sample was begun; all other times are in these.
    lived: u64,
    /// The epoch of the last usable set.
    epoch: Option<Epoch>,
    /// Epochs whose sets came after the first, without a long gap; at most [`VIEW_CONFIRMED`].
    confirmed: u8,
    /// In the order in which they are preferred.
    guards: Vec<Guard>,
    /// The guards that were reached last, newest first; at most [`GUARDS_IN_USE`].
    anchors: Vec<RelayId>,
    /// Whom the client dialled within [`GUARDS_DIALLED_SPAN`], each once.
    dialled: Vec<Dialled>,
    /// Whom it dropped for failing, and when; not to be drawn again.
    dropped: Vec<(RelayId, u64)>,
    /// Anchors that are still to be dialled after a start. Not saved.
    starting: Vec<RelayId>,
    /// When the next feeler is due. Not saved.
    next_feeler: u64,
}

/// A member of the sample.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Guard {
    relay: RelayId,
    /// When it has served its time.
    until: u64,
    /// While the view that it was drawn from is not confirmed: how many seniors that view had.
    provisional: Option<u32>,
    /// Since when the usable set does not have it.
    unlisted: Option<u64>,
    circuits: u32,
    failed: u32,
    /// Feelers in a row that did not reach it.
    misses: u8,
    /// Dials in a row that did not reach it, and when the last was. Not saved.
    failures: u32,
    tried: u64,
}

/// A relay that saw this client's address, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dialled {
    relay: RelayId,
    /// When it was last handed out.
    at: u64,
    /// Whether a dial of it left this machine, as far as is known.
    left: bool,
    /// Whether a person was told of it, and went on.
    told: bool,
}

/// What a sample must keep to.
#[derive(Clone, Copy, Debug)]
pub struct SampleRules<'a> {
    /// Whether several guards may be in one netgroup; a parameter of the network.
    pub allow_same_netgroup: bool,
    /// One's own relays: never guards, nor is what shares a netgroup or family with them.
    pub own: &'a [UsableRelay],
}

/// How a dial or a feeler went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// A link handshake was completed (dial), or the relay joined the circuit (feeler).
    Reached,
    /// It was not.
    Failed,
    /// Nothing left this machine: it has no network.
    Offline,
}

/// How a circuit went whose guard had been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitEnd {
    /// All hops were added.
    Built,
    /// It ended before that.
    Failed,
}

/// A guard was dropped, since most circuits through it fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a guard is given up: {failed} of its last {circuits} circuits failed")]
pub struct GuardDropped {
    /// Which.
    pub relay: RelayId,
    /// Circuits that failed.
    pub failed: u32,
    /// Circuits that were counted.
    pub circuits: u32,
}

/// Why there is no guard for a circuit, in words for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoGuard {
    /// The sample is empty: no usable set was ever seen, or all relays in it are one's own.
    #[error("no relay is known yet that may be a guard")]
    Empty,
    /// The usable set has none of the sample.
    #[error(
        "none of the {sampled} guards is listed by the network now; they are kept in case that it is a passing outage"
    )]
    Unlisted {
        /// Guards in the sample.
        sampled: usize,
    },
    /// Guards that may be dialled were tried just now.
    #[error("none of the guards answers; the next try is in {seconds} s")]
    Waiting {
        /// Seconds until a guard is to be tried again.
        seconds: u64,
    },
    /// Another would be one too many. [`GuardSample::go_on`] lifts it.
    #[error(
        "{dialled} guards were tried within 30 days, and those that may still be used do not answer: this network may \
         block them, or somebody may want to move you to guards of theirs. Try from another network before going on \
         with new guards"
    )]
    TooMany {
        /// Guards dialled within [`GUARDS_DIALLED_SPAN`].
        dialled: usize,
    },
}

impl GuardSample {
    /// An empty sample, begun now.
    pub fn new(now: UnixSeconds) -> Self {
        Self {
            clock: now,
            lived: 0,
            epoch: None,
            confirmed: 0,
            guards: Vec::new(),
            anchors: Vec::new(),
            dialled: Vec::new(),
            dropped: Vec::new(),
            starting: Vec::new(),
            next_feeler: 0,
        }
    }

    /// Takes in a usable set that most sources agree on: lets go of guards whose time is over, and fills the sample.
    ///
    /// A lasting guard that the set does not have stays for [`GUARD_UNLISTED`]: outages pass. A provisional one, drawn
    /// before the view was confirmed, goes; unless the set has shrunk to less than half, which is an outage too.
    pub fn update(&mut self, usable: &UsableRelays, rules: &SampleRules<'_>, now: UnixSeconds, rng: &mut impl Rng) {
        self.tick(now);
        let is_new = self.note_epoch(usable.epoch());
        let seniors = usable.seniors();
        for guard in &mut self.guards {
            let apart = |relay: &UsableRelay| relay.is_apart(rules.own, rules.allow_same_netgroup);
            let listed = usable.find(&guard.relay).is_some_and(apart);
            guard.unlisted = if listed { None } else { guard.unlisted.or(Some(self.lived)) };
        }
        let Self { guards, dialled, lived, .. } = self;
        let was_dialled = |relay: &RelayId| dialled.iter().any(|dialled| dialled.relay == *relay);
        guards.retain(|guard| {
            let served = *lived >= guard.until;
            let gone = guard.unlisted.is_some_and(|since| *lived - since >= secs(GUARD_UNLISTED));
            !served && !gone && guard.outlives(seniors, is_new && !was_dialled(&guard.relay))
        });
        if self.confirmed >= VIEW_CONFIRMED {
            self.guards.iter_mut().for_each(|guard| guard.provisional = None);
        }
        self.fill(usable, rules, rng);
    }

    /// The guard for a new circuit: one of the [`GUARDS_IN_USE`] first in the sample that are listed and answer, at
    /// random. After a start, the anchors come first.
    ///
    /// Whom it names counts as dialled. Tell [`GuardSample::handle_dial`] how that went.
    ///
    /// # Errors
    /// [`NoGuard`] when none may be dialled now.
    pub fn choose(&mut self, now: UnixSeconds, rng: &mut impl Rng) -> Result<RelayId, NoGuard> {
        self.tick(now);
        while let Some(anchor) = self.starting.pop() {
            if self.ready(0).any(|relay| relay == anchor) {
                return Ok(self.hand_out(anchor));
            }
        }
        let ready = self.ready(secs(GUARD_RETRY_MAX)).take(GUARDS_IN_USE).choose(rng);
        match ready.or_else(|| self.ready(secs(GUARD_RETRY_ALONE)).next()) {
            Some(relay) => Ok(self.hand_out(relay)),
            None => Err(self.no_guard()),
        }
    }

    /// The guards that circuits begin at now.
    pub fn in_use(&mut self, now: UnixSeconds) -> Vec<RelayId> {
        self.tick(now);
        self.ready(secs(GUARD_RETRY_MAX)).take(GUARDS_IN_USE).collect()
    }

    /// Takes in how a dial of this guard went.
    pub fn handle_dial(&mut self, relay: &RelayId, attempt: Attempt, now: UnixSeconds) {
        self.tick(now);
        if attempt == Attempt::Offline {
            self.dialled.retain(|dialled| dialled.left || dialled.relay != *relay); // it has seen nothing
            return;
        }
        self.hand_out(*relay);
        self.dialled.iter_mut().filter(|dialled| dialled.relay == *relay).for_each(|dialled| dialled.left = true);
        let Some(guard) = self.guards.iter_mut().find(|guard| guard.relay == *relay) else { return };
        if attempt == Attempt::Reached {
            (guard.failures, guard.misses) = (0, 0);
            self.anchors.retain(|anchor| anchor != relay);
            self.anchors.insert(0, *relay);
            self.anchors.truncate(GUARDS_IN_USE);
        } else {
            guard.failures = guard.failures.saturating_add(1);
            guard.tried = self.lived;
        }
    }

    /// Takes in how a circuit through this guard went, after the guard was reached. A guard through which
    /// [`GUARD_FAILED_PERCENT`] of at least [`GUARD_CIRCUITS_JUDGED`] circuits fail is dropped: it may be choosing which
    /// of them live. Not so where through the others hardly fewer fail: then it is the rest of the paths.
    pub fn handle_circuit(&mut self, relay: &RelayId, end: CircuitEnd, now: UnixSeconds) -> Option<GuardDropped> {
        self.tick(now);
        let at = self.guards.iter().position(|guard| guard.relay == *relay)?;
        let guard = self.guards.get_mut(at)?;
        guard.circuits += 1;
        guard.failed += u32::from(end == CircuitEnd::Failed);
        let (circuits, failed) = (guard.circuits, guard.failed);
        let is_bad = circuits >= GUARD_CIRCUITS_JUDGED && failed * 100 >= circuits * GUARD_FAILED_PERCENT;
        if is_bad && self.is_worse(relay, circuits, failed) {
            self.guards.remove(at);
            self.dropped.push((*relay, self.lived));
            let over = self.dropped.len().saturating_sub(GUARDS_DROPPED);
            self.dropped.drain(..over);
            return Some(GuardDropped { relay: *relay, failed, circuits });
        }
        if let Some(guard) = self.guards.get_mut(at)
            && circuits >= GUARD_CIRCUITS_KEPT
        {
            (guard.circuits, guard.failed) = (circuits / 2, failed / 2); // what is long ago counts less
        }
        None
    }

    /// Whether clearly more circuits fail through this guard than through the others, if there are enough to say.
    fn is_worse(&self, relay: &RelayId, circuits: u32, failed: u32) -> bool {
        let others = self.guards.iter().filter(|guard| guard.relay != *relay);
        let (theirs, lost) = others.fold((0, 0), |sum, guard| (sum.0 + guard.circuits, sum.1 + guard.failed));
        let few = theirs < GUARD_CIRCUITS_JUDGED;
        few || u64::from(failed) * u64::from(theirs) * 100
            >= u64::from(lost) * u64::from(circuits) * u64::from(GUARD_WORSE_PERCENT)
    }

    /// A member of the sample that is not in use, if it is time to see whether it is still there.
    ///
    /// It is to be the last hop of an ordinary circuit, and never to be dialled: so it learns nothing of this client.
    pub fn feeler(&mut self, now: UnixSeconds, rng: &mut impl Rng) -> Option<RelayId> {
        self.tick(now);
        if self.lived < self.next_feeler {
            return None;
        }
        let every = secs(FEELER_EVERY);
        self.next_feeler = self.lived + rng.random_range(every / 2..=every + every / 2);
        let idle = |guard: &&Guard| guard.unlisted.is_none() && !self.was_dialled(&guard.relay);
        self.guards.iter().filter(idle).choose(rng).map(|guard| guard.relay)
    }

    /// Takes in how a feeler went. A guard that [`FEELER_MISSES`] in a row do not reach goes behind all others, until it
    /// is reached.
    pub fn handle_feeler(&mut self, relay: &RelayId, attempt: Attempt) {
        let Some(guard) = self.guards.iter_mut().find(|guard| guard.relay == *relay) else { return };
        match attempt {
            Attempt::Reached => guard.misses = 0,
            Attempt::Failed => guard.misses = guard.misses.saturating_add(1),
            Attempt::Offline => {}
        }
    }

    /// A person has read [`NoGuard::TooMany`] and wants to go on: [`GUARDS_DIALLED`] more may be dialled.
    pub fn go_on(&mut self) {
        self.dialled.iter_mut().for_each(|dialled| dialled.told = true);
        let over = self.dialled.len().saturating_sub(GUARDS_DIALLED_KEPT);
        self.dialled.drain(..over);
    }

    /// Guards that saw this client's address within [`GUARDS_DIALLED_SPAN`], or may have.
    pub fn dialled(&self) -> usize {
        self.dialled.len()
    }

    /// The members of the sample, in the order in which they are preferred.
    pub fn members(&self) -> impl Iterator<Item = RelayId> {
        self.guards.iter().map(|guard| guard.relay)
    }

    /// Whether the view that the guards come from is confirmed.
    pub fn is_confirmed(&self) -> bool {
        self.guards.iter().all(|guard| guard.provisional.is_none())
    }

    /// Counts the time since the clock was last read: none if it went back, [`GUARD_CLOCK_STEP`] at most.
    fn tick(&mut self, now: UnixSeconds) {
        self.lived += now.since(self.clock).min(secs(GUARD_CLOCK_STEP));
        self.clock = now;
        let lived = self.lived;
        self.dialled.retain(|dialled| lived - dialled.at < secs(GUARDS_DIALLED_SPAN));
        self.dropped.retain(|(_, at)| lived - at < secs(GUARD_LIFETIME));
    }

    /// Counts the epochs that confirm the view. Whether this one is new.
    fn note_epoch(&mut self, epoch: Epoch) -> bool {
        let before = self.epoch.replace(epoch);
        match before {
            Some(before) if before == epoch => return false,
            Some(before) if before < epoch && epoch.0 - before.0 <= VIEW_STALE_EPOCHS => {
                self.confirmed = (self.confirmed + 1).min(VIEW_CONFIRMED);
            }
            _ => self.confirmed = 0,
        }
        true
    }

    /// Draws guards from the seniors, each by weight, until the sample is full; no two of one netgroup or family.
    fn fill(&mut self, usable: &UsableRelays, rules: &SampleRules<'_>, rng: &mut impl Rng) {
        let seniors = usable.seniors();
        let members = self.guards.iter().filter_map(|guard| usable.find(&guard.relay));
        let mut near: Vec<_> = rules.own.iter().chain(members).cloned().collect();
        let exclude: Vec<_> = self.members().chain(self.dropped.iter().map(|(relay, _)| *relay)).collect();
        while self.guards.len() < GUARDS_SAMPLED {
            let rules = PathRules {
                hops: 1,
                allow_same_netgroup: rules.allow_same_netgroup,
                guard: None,
                need: Need::Any,
                exclude: &exclude,
                own: &near,
            };
            let Some(relay) =
                path::choose(usable, &rules, rng).ok().and_then(|path| path.first().map(|entry| entry.id))
            else {
                return;
            };
            near.extend(usable.find(&relay).cloned());
            let spread = rng.random_range(0..=secs(GUARD_LIFETIME_SPREAD));
            let guard = Guard::new(relay, self.lived + secs(GUARD_LIFETIME) - spread);
            let provisional = (self.confirmed < VIEW_CONFIRMED).then_some(seniors);
            self.guards.push(Guard { provisional, ..guard });
        }
    }

    /// The guards that may be dialled now, in the order in which they are preferred; those that failed, again after a
    /// time that doubles up to `longest` seconds.
    fn ready(&self, longest: u64) -> impl Iterator<Item = RelayId> {
        let full = self.dialled.iter().filter(|dialled| !dialled.told).count() >= GUARDS_DIALLED;
        let may = move |guard: &&Guard| {
            guard.unlisted.is_none()
                && self.lived >= guard.next_try(longest)
                && (!full || self.was_dialled(&guard.relay))
        };
        let missed = |guard: &&Guard| guard.misses >= FEELER_MISSES;
        let guards = move || self.guards.iter().filter(may);
        guards().filter(move |guard| !missed(guard)).chain(guards().filter(missed)).map(|guard| guard.relay)
    }

    fn no_guard(&self) -> NoGuard {
        let listed = || self.guards.iter().filter(|guard| guard.unlisted.is_none());
        if self.guards.is_empty() {
            NoGuard::Empty
        } else if listed().next().is_none() {
            NoGuard::Unlisted { sampled: self.guards.len() }
        } else if listed().any(|guard| !self.was_dialled(&guard.relay)) {
            NoGuard::TooMany { dialled: self.dialled.len() }
        } else {
            let next = listed().map(|guard| guard.next_try(secs(GUARD_RETRY_ALONE))).min().unwrap_or(self.lived);
            NoGuard::Waiting { seconds: next.saturating_sub(self.lived) }
        }
    }

    fn hand_out(&mut self, relay: RelayId) -> RelayId {
        match self.dialled.iter_mut().find(|dialled| dialled.relay == relay) {
            Some(dialled) => dialled.at = self.lived,
            None => self.dialled.push(Dialled { relay, at: self.lived, left: false, told: false }),
        }
        relay
    }

    fn was_dialled(&self, relay: &RelayId) -> bool {
        self.dialled.iter().any(|dialled| dialled.relay == *relay)
    }
}

impl Guard {
    fn new(relay: RelayId, until: u64) -> Self {
        Self {
            relay,
            until,
            provisional: None,
            unlisted: None,
            circuits: 0,
            failed: 0,
            misses: 0,
            failures: 0,
            tried: 0,
        }
    }

    /// Whether it stays for a view of so many seniors. `redraw`: it is not dialled yet, and the view is a new one.
    fn outlives(&self, seniors: u32, redraw: bool) -> bool {
        let Some(drawn_from) = self.provisional else { return true };
        let outage = seniors < drawn_from / 2;
        let narrow = drawn_from < seniors / 2;
        outage || !(self.unlisted.is_some() || narrow || redraw)
    }

    fn next_try(&self, longest: u64) -> u64 {
        let Some(doublings) = self.failures.checked_sub(1) else { return 0 };
        self.tried + (secs(GUARD_RETRY_MIN) << doublings.min(16)).min(longest)
    }
}

fn secs(duration: Duration) -> u64 {
    duration.as_secs()
}
