//! Inbox: which mailboxes are asked for letters, when, and in which order; and the chores at them.
//!
//! Specification: docs/protocol.md, "Inboxes" and "Looking for letters". One replica of the private inbox is watched, a
//! different one each day, the others are looked at at random times, and now and then the rest of the ring, too; the
//! request inbox is looked at at random times only, so that a stranger's letter does not tell whether anyone is there. All
//! of it is in memory: what is forgotten is asked for again, and what has come is known by the vault. It never opens a
//! letter.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rand::rngs::StdRng;
use trefoil_protocol::{
    blind::{BlindUse, BlindedSecret},
    crypto,
    envelope::LetterId,
    identity::RelayId,
    limits::{
        GONE_MOST, INVITED, LOOK_INVITED, LOOK_OUTER, LOOK_PAST, LOOK_PRIVATE, LOOK_UNWATCHED, MAILBOX_LIST,
        PLAN_AGAIN, REPLICAS, RING_MAX, USELESS_MOST, USELESS_PAUSE, WATCH,
    },
    mailbox::Listed,
    period::{Day, Week},
    prekeys::PrekeysRecord,
    puzzle::Hour,
    ring::Placement,
    stamp::Stamp,
    tombstone::Tombstone,
};

use super::{
    agenda::Job,
    errand::{Busy, Errand, What},
    outbox::{Stamps, back_off},
    person::InboxName,
    work::{Work, delay},
};

/// What is under way, and what is known of mailboxes while the program runs.
#[derive(Default)]
pub(super) struct Transit {
    busy: BTreeSet<Busy>,
    pub(super) visits: BTreeMap<(InboxName, RelayId), Visit>,
    pub(super) chores: BTreeMap<Busy, Chore>,
    pub(super) lookups: BTreeMap<(u32, u32), Lookup>,
    /// When the present prekeys of contacts were looked up.
    checked: BTreeMap<u32, u64>,
    /// Since when letters in the name of contacts wait for that: another device wrote them than is known.
    doubted: BTreeMap<u32, u64>,
    stamps: Mutex<Stamps>,
}

/// One replica of one inbox.
pub(super) struct Visit {
    placement: Placement,
    secret: Arc<BlindedSecret>,
    /// When it is asked next.
    pub(super) due: u64,
    /// Where its last answer ended.
    pub(super) after: u64,
    pub(super) fetch: VecDeque<Listed>,
    pub(super) delete: Vec<LetterId>,
    kind: Kind,
    tries: u8,
    /// Since when it waits for letters.
    waits: u64,
    /// Letters that it had listed, and then had not.
    gone: usize,
    /// Envelopes that nobody could have a use for.
    useless: usize,
    /// Until when it is left alone, whatever else is due.
    alone: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Private,
    Request,
    Past,
    /// Behind the replicas of a private inbox: letters are left there that were not confirmed for a day.
    Outer,
}

/// Where the person waits for what comes to a private inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// At this replica.
    Here,
    /// At another one.
    Elsewhere,
    /// Nowhere: the replica to watch today does not answer, or not wait, and what is left there first is not seen.
    Broken,
}

/// Something that has to be at a mailbox: tickets, or prekeys.
pub(super) struct Chore {
    pub(super) placement: Placement,
    pub(super) due: u64,
    pub(super) tries: u8,
    pub(super) bits: u8,
}

/// A search for somebody's prekeys.
#[derive(Default)]
pub(super) struct Lookup {
    pub(super) asked: BTreeSet<RelayId>,
    /// How many said something, if only that there is none.
    pub(super) answered: usize,
    /// How many said nothing of use.
    pub(super) silent: usize,
    pub(super) found: Vec<PrekeysRecord>,
    pub(super) tries: u8,
}

impl Transit {
    pub(super) fn is_busy(&self, busy: &Busy) -> bool {
        self.busy.contains(busy)
    }

    pub(super) fn begin(&mut self, errand: &Errand) {
        self.busy.insert(errand.busy());
    }

    pub(super) fn end(&mut self, errand: &Errand) {
        self.busy.remove(&errand.busy());
    }

    /// The stamp of a letter, which whoever needs it first makes.
    pub(super) fn stamp(&self, serial: u64, inbox: &[u8], bits: u8) -> Arc<OnceLock<Stamp>> {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let others: Vec<_> = stamps.keys().filter(|(of, ..)| *of == serial).cloned().collect();
        let key = (serial, inbox.to_vec(), bits);
        others.iter().filter(|other| **other != key).for_each(|other| drop(stamps.remove(other)));
        Arc::clone(stamps.entry(key).or_default())
    }

    /// Letters in the name of this contact wait until it is known whose device wrote them.
    pub(super) fn doubt(&mut self, contact: u32, now: u64) {
        self.doubted.entry(contact).or_insert(now);
    }

    /// Which contacts' prekeys were looked up after letters in their name began to wait.
    pub(super) fn is_checked(&self, contact: u32) -> bool {
        self.doubted.get(&contact).is_some_and(|since| self.checked.get(&contact) > Some(since))
    }

    /// The present prekeys of a contact were looked up.
    pub(super) fn checked(&mut self, contact: u32, now: u64) {
        self.checked.insert(contact, now);
        if self.doubted.contains_key(&contact) {
            self.list_again(now);
        }
    }

    /// A contact's device is known.
    pub(super) fn met(&mut self, contact: u32, now: u64) {
        if self.doubted.remove(&contact).is_some() {
            self.list_again(now);
        }
    }

    /// Takes no letter for a false one that only came after the last look.
    pub(super) fn forget_doubts(&mut self, now: u64) {
        let Self { doubted, checked, .. } = self;
        doubted.retain(|id, since| checked.get(id).is_none_or(|at| at <= since || now < at + DOUBTED));
    }

    /// What waits at mailboxes is listed from its beginning.
    fn list_again(&mut self, now: u64) {
        self.visits.values_mut().for_each(|visit| (visit.after, visit.due) = (0, now));
    }

    /// When something is due here.
    pub(super) fn next(&self) -> Option<u64> {
        let visits = self.visits.iter().filter(|((inbox, relay), _)| !self.is_busy(&Busy::Visit(*inbox, *relay)));
        let visits = visits.map(|(_, visit)| if visit.is_at_work() { visit.alone } else { visit.due.max(visit.alone) });
        let chores = self.chores.iter().filter(|(busy, _)| !self.is_busy(busy)).map(|(_, chore)| chore.due);
        visits.chain(chores).min()
    }
}

impl Visit {
    fn is_at_work(&self) -> bool {
        !self.fetch.is_empty() || !self.delete.is_empty()
    }

    /// It was asked, and has no more to do: when it is asked again. Whether it did not wait, and was to.
    pub(super) fn rest(&mut self, now: u64, watch: Watch, requests: u64, rng: &mut StdRng) -> bool {
        if watch == Watch::Here && now < self.waits + u64::from(WATCH / 2) {
            // It was to wait: whoever does not could have a circuit built for each answer.
            self.due = now + back_off(self.tries);
            self.tries = self.tries.saturating_add(1);
            return true;
        }
        self.tries = 0;
        let mean = match self.kind {
            Kind::Private => match watch {
                Watch::Here => 0,
                Watch::Elsewhere => LOOK_PRIVATE,
                Watch::Broken => LOOK_UNWATCHED,
            },
            Kind::Request => requests,
            Kind::Past => LOOK_PAST,
            Kind::Outer => LOOK_OUTER,
        };
        self.due = now + delay(mean, rng);
        false
    }

    /// It is asked at once, whatever it said before.
    pub(super) fn retry(&mut self, now: u64) {
        (self.due, self.tries) = (now, 0);
    }

    /// It did not answer.
    pub(super) fn fail(&mut self, now: u64) {
        self.due = now + back_off(self.tries);
        self.tries = self.tries.saturating_add(1);
        self.fetch.clear(); // it is asked for all of it again
        self.after = 0;
    }

    /// It has not what it listed: that can be, once in a while. One that invents letters is left alone for a day.
    pub(super) fn note_gone(&mut self, now: u64) {
        self.gone += 1;
        if self.gone >= GONE_MOST {
            self.fail(now);
            (self.alone, self.gone) = (now + LOOK_PAST, 0);
        }
    }

    /// It brought an envelope that is of no use. Somebody may have left it there: so it is not left alone at once, nor for
    /// long at first.
    pub(super) fn note_useless(&mut self, now: u64) {
        self.useless += 1;
        if let Some(pause) = pause(self.useless) {
            self.fail(now);
            self.alone = now + pause;
        }
    }
}

/// For how long a mailbox is left alone with the last of so many envelopes of no use.
fn pause(useless: usize) -> Option<u64> {
    let times = useless / USELESS_MOST;
    let doublings = u32::try_from(times).unwrap_or(u32::MAX).checked_sub(1)?.min(16);
    useless.is_multiple_of(USELESS_MOST).then(|| (USELESS_PAUSE << doublings).min(LOOK_PAST))
}

impl Work<'_> {
    /// The replicas of the present private inbox.
    pub(super) fn replicas(&self, ring: super::work::Ring<'_>) -> Vec<RelayId> {
        let home = self.home();
        let name = InboxName::Private(home.generation(), Week::of(self.now, home.offset()).0);
        let replicas = self.placement_of(name).map(|placement| ring(&placement));
        replicas.into_iter().flatten().take(REPLICAS).collect()
    }

    /// Which replicas are to be visited from now on.
    pub(super) fn plan_visits(&mut self, transit: &mut Transit, ring: super::work::Ring<'_>) {
        let (mut wanted, requests) = (BTreeSet::new(), self.look_requests());
        for name in self.inboxes() {
            let (Some(placement), Some(secret)) = (self.placement_of(name), self.secret_of(name)) else { continue };
            let secret = Arc::new(secret);
            let width = if matches!(name, InboxName::Private(..)) { RING_MAX } else { REPLICAS };
            for (rank, relay) in ring(&placement).into_iter().take(width).enumerate() {
                wanted.insert((name, relay));
                let kind = self.kind(name, rank);
                let wait = self.first_wait(name, kind);
                let visit = transit.visits.entry((name, relay)).or_insert_with(|| Visit {
                    placement,
                    secret: Arc::clone(&secret),
                    due: self.now.0 + wait,
                    after: 0,
                    fetch: VecDeque::new(),
                    delete: vec![],
                    kind,
                    tries: 0,
                    waits: 0,
                    gone: 0,
                    useless: 0,
                    alone: 0,
                });
                if visit.kind == Kind::Outer && kind != Kind::Outer {
                    visit.retry(self.now.0); // it has moved up
                }
                visit.kind = kind;
                if visit.tries == 0 && is_watched(self.now.0, visit, &relay, ring) {
                    visit.due = self.now.0; // since today
                } else if kind == Kind::Request {
                    visit.due = visit.due.min(self.now.0 + delay(requests, self.rng));
                }
            }
        }
        transit.visits.retain(|key, _| wanted.contains(key));
    }

    fn kind(&self, name: InboxName, rank: usize) -> Kind {
        match (self.is_present(name), name) {
            _ if rank >= REPLICAS => Kind::Outer,
            (true, InboxName::Private(..)) => Kind::Private,
            (true, InboxName::Request(_)) => Kind::Request,
            (true, InboxName::Own(_)) | (false, _) => Kind::Past,
        }
    }

    /// Seconds until a mailbox is asked that was not asked since the start.
    fn first_wait(&mut self, name: InboxName, kind: Kind) -> u64 {
        match kind {
            Kind::Past if self.is_emptied(name) => delay(LOOK_PAST, self.rng),
            // Also by programs that run now and then only.
            Kind::Outer => delay(LOOK_OUTER, self.rng).saturating_sub(self.now.0.saturating_sub(self.person.asked)),
            Kind::Private | Kind::Request | Kind::Past => 0,
        }
    }

    /// Seconds between two looks at a mailbox of the request inbox, on average: fewer for a while after an invite, since whoever
    /// has it may wait for an answer, and knows that the person is there.
    pub(super) fn look_requests(&self) -> u64 {
        let usual = self.settings.requests;
        if self.now.0 < self.person.invited + INVITED { usual.min(LOOK_INVITED) } else { usual }
    }

    /// What is to be asked for letters now.
    pub(super) fn visit(&mut self, transit: &mut Transit, ring: super::work::Ring<'_>) -> Vec<Errand> {
        let mut errands = vec![];
        let due: Vec<_> = transit
            .visits
            .iter()
            .filter(|((name, relay), visit)| {
                let is_due = visit.alone <= self.now.0 && (visit.is_at_work() || visit.due <= self.now.0);
                is_due && !transit.busy.contains(&Busy::Visit(*name, *relay))
            })
            .map(|(key, _)| *key)
            .collect();
        for (name, relay) in due {
            let Some(visit) = transit.visits.get_mut(&(name, relay)) else { continue };
            let patience = if is_watched(self.now.0, visit, &relay, ring) { WATCH } else { 0 };
            if patience > 0 {
                visit.waits = self.now.0;
            }
            let placement = visit.placement;
            let what = self.next_step(name, visit, patience);
            errands.push(self.errand(relay, placement, what));
        }
        errands
    }

    fn next_step(&self, inbox: InboxName, visit: &mut Visit, patience: u16) -> What {
        let secret = Arc::clone(&visit.secret);
        if let Some(listed) = visit.fetch.front() {
            return What::Fetch { inbox, secret, letter: listed.letter };
        }
        if visit.delete.is_empty() {
            return What::List { inbox, secret, after: visit.after, patience };
        }
        let some = visit.delete.len().min(MAILBOX_LIST);
        // For as long as the inbox: whoever leaves the letter again could have it kept for longer than it was.
        let until = Hour::of_unix(visit.placement.kept_until().0);
        let sign = |letter| Tombstone::sign(&visit.secret, self.network, &visit.placement, letter, until);
        What::Delete { inbox, tombstones: visit.delete.drain(..some).map(sign).collect() }
    }

    /// Where the inbox of this visit is watched.
    pub(super) fn watch(
        &self,
        transit: &Transit,
        (name, relay): &(InboxName, RelayId),
        ring: super::work::Ring<'_>,
    ) -> Watch {
        let mut visits = transit.visits.iter().filter(|((of, _), _)| of == name);
        match visits.find(|((_, at), visit)| is_watched(self.now.0, visit, at, ring)) {
            Some(((_, at), _)) if at == relay => Watch::Here,
            Some((_, visit)) if visit.tries > 0 || visit.alone > self.now.0 => Watch::Broken,
            _ => Watch::Elsewhere,
        }
    }

    /// A mailbox has not answered: others may keep the inbox by now, and where it was watched, the others are looked at.
    pub(super) fn visit_failed(
        &mut self,
        transit: &mut Transit,
        key: &(InboxName, RelayId),
        ring: super::work::Ring<'_>,
    ) {
        let is_watched = self.watch(transit, key, ring) == Watch::Here;
        transit.visits.get_mut(key).into_iter().for_each(|visit| visit.fail(self.now.0));
        if is_watched {
            self.look_elsewhere(transit, key);
        }
        self.wake(PLAN_AGAIN, Job::Plan);
    }

    /// The other replicas of an inbox are looked at: the one that is watched is of no use.
    pub(super) fn look_elsewhere(&mut self, transit: &mut Transit, key: &(InboxName, RelayId)) {
        let others = transit.visits.iter_mut().filter(|((name, relay), _)| *name == key.0 && *relay != key.1);
        for (_, visit) in others.filter(|(_, visit)| visit.kind == Kind::Private) {
            visit.due = visit.due.min(self.now.0 + delay(LOOK_UNWATCHED, self.rng));
        }
    }
}

fn is_watched(now: u64, visit: &Visit, relay: &RelayId, ring: super::work::Ring<'_>) -> bool {
    if visit.kind != Kind::Private {
        return false;
    }
    let relays: Vec<_> = ring(&visit.placement).into_iter().take(REPLICAS).collect();
    let day = Day::of(trefoil_protocol::epoch::UnixSeconds(now));
    watched(&visit.placement, day, relays.len()).and_then(|rank| relays.get(rank)) == Some(relay)
}

/// Which rank of a private inbox's replicas the owner watches on a day: contacts leave letters there at once. `None` for
/// a request inbox, which nobody watches, and where there is nobody.
pub(super) fn watched(inbox: &Placement, day: Day, replicas: usize) -> Option<usize> {
    let replicas = u32::try_from(replicas.min(REPLICAS)).ok().filter(|replicas| *replicas > 0)?;
    let [a, b, c, d, ..] = crypto::blake3(&[WATCHED_LABEL, &inbox.encode(), &day.0.to_le_bytes()]);
    let rank = u32::from_le_bytes([a, b, c, d]) % replicas;
    (inbox.of == BlindUse::PrivateInbox).then(|| usize::try_from(rank).unwrap_or(0))
}

/// Seconds after a look within which what waited for it is fetched again.
const DOUBTED: u64 = 600;
const WATCHED_LABEL: &[u8] = b"trefoil/1 watched";

#[cfg(test)]
mod tests {
    use trefoil_protocol::limits::TICKET_SLOTS;

    use super::*;

    #[test]
    fn a_mailbox_that_brings_what_is_of_no_use_is_left_alone_for_longer_each_time() {
        let pauses: Vec<_> = (1..=8 * USELESS_MOST).filter_map(pause).map(|seconds| seconds / 3600).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 24, 24, 24]);
        assert!(
            TICKET_SLOTS.iter().all(|most| usize::from(*most) < USELESS_MOST),
            "no contact brings that about alone"
        );
    }
}
