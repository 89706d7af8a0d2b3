//! Settling: how relays agree on who was there in time for an epoch's usable set.
//!
//! Specification: docs/protocol.md, "Settling". Each relay looks at its own view around the deadline. Who was there
//! well before it, and still is, is in time. About the others each observer of the epoch says whom it saw, and an
//! observer who is convinced by others says so too. Two steps after the deadline one observer's word is enough, two steps
//! later it takes two, and so on; an observer itself may be convinced a step later than the others. So whatever convinces
//! one honest relay convinces all observers a step later, and all relays two steps later, and a record that is shown to
//! half of the network at the last moment is in all sets, or in none. (Dolev and Strong, "Authenticated algorithms for
//! Byzantine agreement", 1983; with a committee and two steps for each round: Chan, Pass and Shi, "Sublinear-round
//! Byzantine agreement under corrupt majority", 2020.)

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    crypto,
    epoch::{Epoch, UnixSeconds},
    identity::RelayId,
    limits::{OBSERVERS, SETTLE_STEPS, SIGHTED_EACH, SIGHTED_MAX, SIGHTING_PARTS, SIGHTINGS_EACH, SIGHTINGS_ENOUGH},
    params::DirectoryParams,
    sighting::{Sighting, SightingName},
    usable::{AgeClass, UsableSet},
};

/// Who was in time for one epoch, as far as one relay knows. Its questions about the view are answered by the caller: a
/// relay is *known* if its record is there, and a *candidate* if besides it does not leave and is not barred.
#[derive(Clone, Debug)]
pub struct Settling {
    epoch: Epoch,
    deadline: UnixSeconds,
    /// Seconds in which what one honest relay has comes to all.
    step: u64,
    /// In the order of their ids.
    observers: Vec<RelayId>,
    /// This node is one of them.
    observes: bool,
    looks: Looks,
    /// Whom observers saw, by their places in `observers`.
    seen_by: BTreeMap<RelayId, u32>,
    /// What each observer has said, by its place.
    said: [Said; OBSERVERS],
    sightings: BTreeMap<SightingName, Sighting>,
    /// Those who were in time by what observers say.
    accepted: BTreeSet<RelayId>,
    own: Own,
}

/// What was seen at the five moments of one step each, from three steps before the deadline to one after it.
#[derive(Clone, Debug, Default)]
struct Looks {
    /// How many moments are over.
    over: u64,
    /// One was not seen in time: what was seen at the others means nothing.
    missed: bool,
    /// Candidates at all of them.
    throughout: BTreeSet<RelayId>,
    /// At the second and the fourth.
    in_time: BTreeSet<RelayId>,
    /// At the third or the fourth.
    late: BTreeSet<RelayId>,
}

/// How much an observer has said.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    sightings: usize,
    relays: usize,
}

/// What this node has to say as an observer.
#[derive(Clone, Debug, Default)]
struct Own {
    /// Those whom others have convinced it of.
    convinced: BTreeSet<RelayId>,
    signed: BTreeSet<RelayId>,
    /// When it may sign again.
    next: UnixSeconds,
}

impl Settling {
    /// As this node knows it, for the epoch after that of this set, which the observers are drawn from.
    pub fn after(usable: &UsableSet, own: &RelayId, params: &DirectoryParams) -> Self {
        let epoch = usable.epoch().next();
        let observers = observers(usable, epoch);
        let observes = observers.binary_search(own).is_ok();
        Self { observers, observes, ..Self::unseen(epoch, params) }
    }

    /// For an epoch that this node has not looked at, and of which it knows no observers.
    pub fn unseen(epoch: Epoch, params: &DirectoryParams) -> Self {
        let settle = u64::from(params.settle);
        Self {
            epoch,
            deadline: UnixSeconds(epoch.start(params).0.saturating_sub(settle)),
            step: settle / SETTLE_STEPS,
            observers: vec![],
            observes: false,
            looks: Looks::default(),
            seen_by: BTreeMap::new(),
            said: [Said::default(); OBSERVERS],
            sightings: BTreeMap::new(),
            accepted: BTreeSet::new(),
            own: Own::default(),
        }
    }

    /// The epoch whose usable set it is about.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The relays whose sightings count, in the order of their ids; at most [`OBSERVERS`].
    pub fn observers(&self) -> &[RelayId] {
        &self.observers
    }

    /// When [`Self::look`] is to be called next; `None` once it was often enough.
    pub fn next_look(&self) -> Option<UnixSeconds> {
        (self.looks.over < LOOKS).then(|| self.moment(self.looks.over))
    }

    /// Takes note of the candidates there are now, if it is the time.
    pub fn look(&mut self, now: UnixSeconds, candidates: impl Fn() -> BTreeSet<RelayId>) {
        while let Some(moment) = self.next_look().filter(|moment| *moment <= now) {
            self.looks.missed |= self.step == 0 || now.since(moment) > self.step;
            if !self.looks.missed {
                self.looks.note(candidates());
            }
            self.looks.over += 1;
        }
    }

    /// Whether [`Self::take`] would take this sighting if it is signed: to be asked before its signature is checked.
    pub fn would_take(&self, sighting: &Sighting, now: UnixSeconds) -> bool {
        let said = self.place(&sighting.observer()).and_then(|place| self.said.get(place));
        sighting.epoch() == self.epoch
            && self.needed(now).is_some()
            && said.is_some_and(|said| {
                said.sightings < SIGHTINGS_EACH && said.relays + sighting.relays().len() <= SIGHTED_EACH
            })
            && !self.sightings.contains_key(&sighting.name())
    }

    /// Takes a sighting, whose signature the caller has checked; whether it is news.
    pub fn take(&mut self, sighting: Sighting, now: UnixSeconds, is_known: impl Fn(&RelayId) -> bool) -> bool {
        let Some(place) = self.place(&sighting.observer()).filter(|_| self.would_take(&sighting, now)) else {
            return false;
        };
        if let Some(said) = self.said.get_mut(place) {
            said.sightings += 1;
            said.relays += sighting.relays().len();
        }
        for relay in sighting.relays() {
            let places = self.seen_by.entry(*relay).or_default();
            *places |= 1 << place;
            let seen = places.count_ones();
            self.accept(relay, seen, now, &is_known);
        }
        self.sightings.insert(sighting.name(), sighting);
        true
    }

    /// Accepts those who are known and whom enough observers have seen by now. To be called now and then, since a record
    /// may come after what observers say of its relay. That it leaves is no matter here: others may hear of it later.
    pub fn weigh(&mut self, now: UnixSeconds, is_known: impl Fn(&RelayId) -> bool) {
        let doubted = self.seen_by.iter().filter(|(relay, _)| !self.accepted.contains(relay));
        let seen: Vec<_> = doubted.map(|(relay, places)| (*relay, places.count_ones())).collect();
        seen.iter().for_each(|(relay, seen)| self.accept(relay, *seen, now, &is_known));
    }

    fn accept(&mut self, relay: &RelayId, seen: u32, now: UnixSeconds, is_known: impl Fn(&RelayId) -> bool) {
        let enough = self.needed(now).is_some_and(|needed| seen >= needed);
        if enough && !self.accepted.contains(relay) && is_known(relay) {
            self.accepted.insert(*relay);
            self.own.convinced.insert(*relay);
        }
    }

    /// The relays that this node should sign now that it saw, if it is an observer, each list in a sighting of its own;
    /// they count as signed. First those that it saw itself, then those that most observers saw; and nobody who was
    /// there throughout, since all others have seen that, too.
    pub fn to_sign(&mut self, now: UnixSeconds) -> Vec<Vec<RelayId>> {
        let has_looked = self.looks.over == LOOKS && !self.looks.missed;
        if !(self.observes && has_looked && now >= self.own.next && self.needed(now).is_some()) {
            return vec![];
        }
        let late = &self.looks.late;
        let doubted = late.union(&self.own.convinced).filter(|relay| !self.looks.throughout.contains(relay));
        let mut new: Vec<_> = doubted.filter(|relay| !self.own.signed.contains(relay)).copied().collect();
        let seen = |relay: &RelayId| self.seen_by.get(relay).map_or(0, |places| places.count_ones());
        new.sort_by_key(|relay| (!late.contains(relay), Reverse(seen(relay))));
        new.truncate(SIGHTED_EACH.saturating_sub(self.own.signed.len()));
        if !new.is_empty() {
            self.own.signed.extend(&new);
            self.own.next = now.plus(self.step / SIGHTING_PARTS);
        }
        new.chunks(SIGHTED_MAX).map(<[_]>::to_vec).collect()
    }

    /// Whether this relay was in time: by what observers say, or by what this node saw itself. Where this node did not
    /// look in time itself, what counts is when it heard of the relay first, and whether it is a candidate now.
    pub fn is_settled(&self, relay: &RelayId, first_seen: UnixSeconds, is_candidate: bool) -> bool {
        if self.accepted.contains(relay) {
            return true;
        }
        if self.looks.over < LOOKS || self.looks.missed {
            return is_candidate && first_seen.plus(2 * self.step) <= self.deadline;
        }
        self.looks.in_time.contains(relay)
    }

    /// Whether what observers say still counts for something, or soon will: then relays ask each other for it.
    pub fn is_open(&self, now: UnixSeconds) -> bool {
        now >= self.deadline && self.needed(now).is_some()
    }

    /// The names of the sightings that this node has.
    pub fn names(&self) -> impl Iterator<Item = SightingName> {
        self.sightings.keys().copied()
    }

    /// The sightings that are not among these.
    pub fn others(&self, names: &[SightingName]) -> impl Iterator<Item = &Sighting> {
        let names: BTreeSet<_> = names.iter().collect();
        self.sightings.iter().filter(move |(name, _)| !names.contains(name)).map(|(_, sighting)| sighting)
    }

    fn moment(&self, look: u64) -> UnixSeconds {
        UnixSeconds((self.deadline.0 + look * self.step).saturating_sub(DEADLINE_LOOK * self.step))
    }

    fn place(&self, observer: &RelayId) -> Option<usize> {
        self.observers.binary_search(observer).ok()
    }

    /// How many observers must have seen a relay for it to be accepted now; `None` when it is too late for any.
    fn needed(&self, now: UnixSeconds) -> Option<u32> {
        let steps = match now.since(self.deadline) {
            0 => 0,
            passed => passed.checked_div(self.step)? + u64::from(passed % self.step > 0),
        };
        let needed = steps.saturating_sub(u64::from(self.observes)).div_ceil(2).max(1);
        u32::try_from(needed).ok().filter(|needed| *needed <= SIGHTINGS_ENOUGH)
    }
}

impl Looks {
    fn note(&mut self, candidates: BTreeSet<RelayId>) {
        match self.over {
            0 => self.throughout = candidates,
            1 => {
                self.stay(&candidates);
                self.in_time = candidates;
            }
            2 => {
                self.stay(&candidates);
                self.late = candidates;
            }
            3 => {
                self.stay(&candidates);
                self.in_time.retain(|relay| candidates.contains(relay));
                self.late.extend(candidates);
            }
            _ => self.stay(&candidates),
        }
    }

    fn stay(&mut self, candidates: &BTreeSet<RelayId>) {
        self.throughout.retain(|relay| candidates.contains(relay));
    }
}

/// The observers of an epoch, in the order of their ids: those members of the set before it whose
/// `BLAKE3("trefoil/1 observer" ‖ epoch 4 ‖ RelayId)` are smallest; of age class 2 only, where there are twice as many.
fn observers(usable: &UsableSet, epoch: Epoch) -> Vec<RelayId> {
    let is_old = |(_, class): &(RelayId, AgeClass)| *class == AgeClass::Old;
    let enough = usable.iter().filter(is_old).count() >= 2 * OBSERVERS;
    let drawn = usable.iter().filter(|member| !enough || is_old(member)).map(|(relay, _)| relay);
    let mut drawn: Vec<_> = drawn.map(|relay| (draw(epoch, &relay), relay)).collect();
    drawn.sort_unstable();
    drawn.truncate(OBSERVERS);
    let mut observers: Vec<_> = drawn.into_iter().map(|(_, relay)| relay).collect();
    observers.sort_unstable();
    observers
}

fn draw(epoch: Epoch, relay: &RelayId) -> [u8; 32] {
    crypto::blake3(&[OBSERVER_LABEL, &epoch.0.to_le_bytes(), relay.as_bytes()])
}

const OBSERVER_LABEL: &[u8] = b"trefoil/1 observer";
/// Moments at which the view is looked at.
const LOOKS: u64 = 5;
/// Which of them is the deadline, counted from 0.
const DEADLINE_LOOK: u64 = 3;

#[cfg(test)]
mod tests;
