//! View: the records that a node holds, one for each relay, and the proofs that some relays said two things at once.
//!
//! Specification: docs/protocol.md, "The view". Merging is by union: in whatever order records come, and however often,
//! the same are held. What a flood can add is bounded (`view/pending.rs`), and adds nothing at the price of what was
//! established before. This file never reads a clock or a disk, and never checks records: it takes only checked ones.

mod pending;
#[cfg(test)]
pub(crate) mod sample;
mod saved;

use std::{cmp::Ordering, collections::BTreeMap, net::IpAddr};

use self::pending::{Netgroup, Pending, place};
pub use self::saved::Loaded;
use crate::{
    descriptor::{Checked, Record},
    entry::{RelayAddresses, RelayEntry},
    epoch::{Epoch, UnixSeconds},
    fraud::FraudProof,
    identity::RelayId,
    limits::{FRAUDS_MAX, PENDING_MIN, PENDING_PART, PENDING_PER_NETGROUP, PENDING_YOUNG, VIEW_YOUNG_EPOCHS},
    params::{DirectoryParams, NetworkParams},
};

/// The relays that a node knows. Copies share the records' bytes.
#[derive(Clone, Debug)]
pub struct View {
    params: DirectoryParams,
    bounds: Bounds,
    /// The epoch that places of pending relays depend on.
    epoch: Epoch,
    /// The epoch in which this view began, empty.
    begun: Epoch,
    known: BTreeMap<RelayId, Known>,
    /// Those of `known` that are not established.
    pending: Pending,
    frauds: BTreeMap<RelayId, FraudProof>,
}

/// How many relays may be pending.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Of one netgroup.
    crowd: usize,
    /// At least, however few are established.
    least: usize,
    /// While the view is young.
    young: usize,
}

/// What a view knows of one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The newest that the relay says of itself.
    pub record: Checked,
    /// When this node heard of the relay first; never what others say.
    pub first_seen: UnixSeconds,
    /// This node, itself, completed a link handshake with the relay.
    pub reached: bool,
    /// The last time at its IPv6 address, not at its IPv4 address.
    pub at_v6: bool,
    /// The relay was in a usable set since then: no flood displaces it.
    pub established: bool,
}

/// What became of a record that was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The relay was not known.
    New,
    /// It is newer than the one before, and says the same: nobody needs it soon ([`Record::only_renews`]).
    Renewed,
    /// It is newer than the one before, and says something else, or comes late.
    Changed,
    /// It was known.
    Known,
    /// It is older than what is known, and was not taken.
    Older,
    /// It no longer counts, and was not taken.
    Expired,
    /// It was taken, but the relay is barred by a fraud proof.
    Barred,
    /// The relay said two things in one epoch; the proof is held now.
    Fraud(Box<FraudProof>),
    /// Too many relays are pending, or too many of its netgroup; it was not taken.
    NoRoom,
}

impl View {
    /// Knows nothing yet.
    pub fn new(params: &NetworkParams, now: UnixSeconds) -> Self {
        let epoch = Epoch::of(now, &params.directory);
        let crowd = if params.allow_same_netgroup { usize::MAX } else { PENDING_PER_NETGROUP };
        let bounds = Bounds { crowd, least: PENDING_MIN, young: PENDING_YOUNG };
        Self {
            params: params.directory.clone(),
            bounds,
            epoch,
            begun: epoch,
            known: BTreeMap::new(),
            pending: Pending::default(),
            frauds: BTreeMap::new(),
        }
    }

    /// Takes a record if it is news.
    pub fn offer(&mut self, checked: Checked, now: UnixSeconds) -> Offer {
        self.offer_as(checked, false, now)
    }

    /// Takes a record if it is news, of a relay that this node has reached at this address, which the record lists.
    pub fn offer_reached(&mut self, checked: Checked, address: IpAddr, now: UnixSeconds) -> Offer {
        let record = checked.record().clone();
        let offer = self.offer_as(checked, true, now);
        if self.get(&record.relay()).is_some_and(|known| *known.record.record() == record) {
            self.mark_reached(&record.relay(), address);
        }
        offer
    }

    fn offer_as(&mut self, checked: Checked, reached: bool, now: UnixSeconds) -> Offer {
        let record = checked.record();
        let relay = record.relay();
        if self.is_over(record, now) {
            return Offer::Expired;
        }
        let Some(known) = self.known.get_mut(&relay) else { return self.take(checked, reached, now) };
        let can_wait = record.only_renews(known.record.record(), Epoch::of(now, &self.params));
        match compare(record, known.record.record()) {
            News::Older => return Offer::Older,
            News::Same => return Offer::Known,
            News::Newer => known.record = checked,
            News::Contradiction(order) => {
                let proof = FraudProof::of(known.record.record(), record);
                if order == Ordering::Greater {
                    known.record = checked;
                }
                if let Some(proof) = proof.filter(|proof| self.keep_fraud(proof.clone())) {
                    return Offer::Fraud(Box::new(proof));
                }
                if order == Ordering::Less {
                    return Offer::Older;
                }
            }
        }
        match can_wait {
            _ if self.is_barred(&relay, now) => Offer::Barred,
            true => Offer::Renewed,
            false => Offer::Changed,
        }
    }

    /// Whether [`Self::offer`], or [`Self::offer_reached`], would take this record if it passed its checks: to be asked
    /// before the dear ones.
    pub fn would_take(&self, record: &Record, reached: bool, now: UnixSeconds) -> bool {
        let relay = record.relay();
        let Some(known) = self.known.get(&relay) else {
            return self.has_room(record, reached) && !self.is_over(record, now);
        };
        match compare(record, known.record.record()) {
            News::Older | News::Same => false,
            News::Newer | News::Contradiction(Ordering::Greater) => !self.is_over(record, now),
            News::Contradiction(_) => self.frauds.get(&relay).is_none_or(|held| held.issued() < record.issued()),
        }
    }

    /// Takes a proof, whose signatures the caller has checked, if it is news, still bars, and its relay is known. So
    /// nobody can fill the view with proofs about relays that cost no work.
    pub fn offer_fraud(&mut self, proof: FraudProof, now: UnixSeconds) -> bool {
        self.known.contains_key(&proof.relay()) && self.bars(&proof, now) && self.keep_fraud(proof)
    }

    /// Whether [`Self::offer_fraud`] would take this proof: to be asked before its signatures are checked.
    pub fn would_take_fraud(&self, proof: &FraudProof, now: UnixSeconds) -> bool {
        let is_more = self.frauds.get(&proof.relay()).is_none_or(|held| rank_of(held) < rank_of(proof));
        is_more && self.known.contains_key(&proof.relay()) && self.bars(proof, now)
    }

    /// Takes all that another view holds; not when it first saw it, nor whom it reached.
    pub fn merge(&mut self, other: &Self, now: UnixSeconds) {
        for known in other.known.values() {
            self.offer(known.record.clone(), now);
        }
        for proof in other.frauds.values() {
            self.offer_fraud(proof.clone(), now);
        }
    }

    /// Forgets records that no longer count, and proofs that no longer bar. Gives how many records.
    pub fn expire(&mut self, now: UnixSeconds) -> usize {
        let epoch = Epoch::of(now, &self.params);
        let before = self.known.len();
        let (seed, pending) = (self.epoch, &mut self.pending);
        self.known.retain(|relay, known| {
            let counts = known.record.record().expires() > epoch;
            if !counts {
                pending.remove(&place(seed, relay, known.reached));
            }
            counts
        });
        self.frauds.retain(|_, proof| proof.barred_until() > epoch);
        before - self.known.len()
    }

    /// At an epoch's beginning: what is over is forgotten, what is in the usable set is established, and the pending
    /// relays have new places.
    pub fn begin_epoch(&mut self, now: UnixSeconds, is_usable: impl Fn(&RelayId) -> bool) {
        self.expire(now);
        self.epoch = Epoch::of(now, &self.params);
        self.establish(is_usable);
    }

    /// The relays that a usable set has are established from now on, for as long as their records count: a node that
    /// could reach nobody for a while must not lose whom it knew.
    pub fn establish(&mut self, is_usable: impl Fn(&RelayId) -> bool) {
        for (relay, known) in &mut self.known {
            known.established |= is_usable(relay);
        }
        self.place_again();
    }

    /// What is known of a relay.
    pub fn get(&self, relay: &RelayId) -> Option<&Known> {
        self.known.get(relay)
    }

    /// All relays, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&RelayId, &Known)> {
        self.known.iter()
    }

    /// How many relays are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// All proofs, in the order of their relays' ids.
    pub fn frauds(&self) -> impl Iterator<Item = &FraudProof> {
        self.frauds.values()
    }

    /// Whether a proof keeps the relay out of use.
    pub fn is_barred(&self, relay: &RelayId, now: UnixSeconds) -> bool {
        self.frauds.get(relay).is_some_and(|proof| self.bars(proof, now))
    }

    /// This node completed a link handshake with the relay, at this address.
    pub fn mark_reached(&mut self, relay: &RelayId, address: IpAddr) {
        self.set_reached(relay, true);
        self.known.get_mut(relay).into_iter().for_each(|known| known.at_v6 = address.is_ipv6());
    }

    /// This node could not reach the relay again.
    pub fn forget_reached(&mut self, relay: &RelayId) {
        self.set_reached(relay, false);
    }

    fn set_reached(&mut self, relay: &RelayId, reached: bool) {
        let crowd = self.crowd();
        let Some(known) = self.known.get_mut(relay) else { return };
        let before = place(self.epoch, relay, known.reached);
        known.reached = reached;
        if let Some(netgroup) = self.pending.remove(&before) {
            self.pending.insert(place(self.epoch, relay, reached), netgroup, crowd);
        }
    }

    /// Takes the record of a relay that is not known.
    fn take(&mut self, checked: Checked, reached: bool, now: UnixSeconds) -> Offer {
        if !self.has_room(checked.record(), reached) {
            return Offer::NoRoom;
        }
        self.insert(Known { record: checked, first_seen: now, reached, at_v6: false, established: false });
        Offer::New
    }

    fn has_room(&self, record: &Record, reached: bool) -> bool {
        let victim = self.pending.victim(Netgroup::of(record), self.room());
        victim.is_none_or(|victim| victim > place(self.epoch, &record.relay(), reached))
    }

    /// Puts in a relay that is not known; the pending one that has to give way for it goes.
    fn insert(&mut self, known: Known) {
        let record = known.record.record();
        let (relay, netgroup, crowd) = (record.relay(), Netgroup::of(record), self.crowd());
        let place = place(self.epoch, &relay, known.reached);
        if !known.established {
            if let Some(victim) = self.pending.victim(netgroup, self.room()) {
                self.pending.remove(&victim);
                self.known.remove(&victim.relay);
            }
            self.pending.insert(place, netgroup, crowd);
        }
        self.known.insert(relay, known);
    }

    /// Gives all pending relays their places of this epoch; those that have none left go.
    fn place_again(&mut self) {
        self.pending = Pending::default();
        let waiting = self.known.iter().filter(|(_, known)| !known.established);
        let with_place = |(relay, known): (&RelayId, &Known)| {
            (place(self.epoch, relay, known.reached), Netgroup::of(known.record.record()))
        };
        let mut waiting: Vec<_> = waiting.map(with_place).collect();
        waiting.sort_unstable_by_key(|(place, _)| *place);
        let (room, crowd) = (self.room_beside(self.known.len() - waiting.len()), self.crowd());
        for (place, netgroup) in waiting {
            if self.pending.victim(netgroup, room).is_some() {
                self.known.remove(&place.relay);
            } else {
                self.pending.insert(place, netgroup, crowd);
            }
        }
    }

    /// How many relays of one netgroup may be pending: any number while the view is young, when the honest relays of a
    /// large hosting company are pending too, and nobody can be told from them.
    fn crowd(&self) -> usize {
        if self.is_young() { usize::MAX } else { self.bounds.crowd }
    }

    /// How many relays may be pending.
    fn room(&self) -> usize {
        self.room_beside(self.known.len() - self.pending.len())
    }

    fn room_beside(&self, established: usize) -> usize {
        if self.is_young() { self.bounds.young } else { self.bounds.least.max(established / PENDING_PART) }
    }

    fn is_young(&self) -> bool {
        self.epoch < self.begun.plus(VIEW_YOUNG_EPOCHS)
    }

    fn is_over(&self, record: &Record, now: UnixSeconds) -> bool {
        record.expires() <= Epoch::of(now, &self.params)
    }

    fn bars(&self, proof: &FraudProof, now: UnixSeconds) -> bool {
        proof.barred_until() > Epoch::of(now, &self.params)
    }

    /// Of two proofs about one relay, the larger is kept, so that all keep the same. Gives whether it is news.
    fn keep_fraud(&mut self, proof: FraudProof) -> bool {
        let relay = proof.relay();
        let is_news = self.frauds.get(&relay).is_none_or(|held| rank_of(held) < rank_of(&proof));
        if is_news {
            self.frauds.insert(relay, proof);
        }
        if self.frauds.len() > FRAUDS_MAX {
            let last = self.frauds.keys().map(|relay| place(self.epoch, relay, true)).max();
            last.and_then(|last| self.frauds.remove(&last.relay));
        }
        is_news && self.frauds.contains_key(&relay)
    }
}

impl Known {
    /// The relay as this node dials it: at the address where it reached it, or else at all that it lists. Nobody may have
    /// a node dial another's address again and again by listing it beside its own.
    pub fn dialled(&self) -> RelayEntry {
        let entry = self.record.record().entry();
        let proved = entry.addresses.iter().filter(|address| address.is_ipv6() == self.at_v6);
        match RelayAddresses::new(proved) {
            Ok(addresses) if self.reached => RelayEntry { addresses, ..entry },
            _ => entry,
        }
    }
}

/// What a record is, beside another of the same relay.
enum News {
    Older,
    Same,
    Newer,
    /// Another of the same epoch; how its digest compares.
    Contradiction(Ordering),
}

fn compare(record: &Record, known: &Record) -> News {
    match record.issued().cmp(&known.issued()) {
        Ordering::Less => News::Older,
        Ordering::Greater => News::Newer,
        Ordering::Equal if record == known => News::Same,
        Ordering::Equal => News::Contradiction(record.digest().cmp(&known.digest())),
    }
}

/// The later one bars longer; of those of one epoch, any order will do that all have in common.
fn rank_of(proof: &FraudProof) -> (Epoch, [[u8; 32]; 2]) {
    let [smaller, larger] = proof.records().map(Record::digest);
    (proof.issued(), [larger, smaller])
}

#[cfg(test)]
mod tests;
