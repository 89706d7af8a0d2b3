//! Intake: what becomes of the records and fraud proofs that others send.
//!
//! Specification: docs/protocol.md, "Gossip". Checks go from the cheapest to the dearest, and the dearest has a budget:
//! see `Budget`. What does not pass is counted, and changes nothing.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::{self, PoisonError, atomic::Ordering::Relaxed},
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};
use trefoil_protocol::{
    descriptor::{Checked, DescriptorError, Record, Signed},
    fraud::FraudProof,
    identity::RelayId,
    limits::{MEMORY_HARD_PATIENCE, MEMORY_HARD_SHARE, MEMORY_HARD_WAITING, MEMORY_HARD_WAITING_EACH},
    params::NetworkParams,
    view::Offer,
};

use super::Directory;
use crate::{
    counters::Cause,
    news::{Haste, Item},
    senders,
    trouble::Trouble,
};

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    /// The relay.
    pub(crate) relay: RelayId,
    /// The address that it is seen at.
    pub(crate) address: IpAddr,
    /// Why it sends.
    pub(crate) manner: Manner,
}

/// Why somebody sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It thinks that this is news.
    Pushed,
    /// It was asked for it.
    Pulled,
}

/// A share of one core for work that strangers cause: one piece at a time, and a pause after each.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// When the next piece may begin.
    next: Mutex<Option<Instant>>,
    /// How many wait for each host that sends.
    waiting: sync::Mutex<HashMap<IpAddr, usize>>,
}

/// A place among those who wait.
struct Place<'a> {
    budget: &'a Budget,
    host: IpAddr,
}

/// What a record is to the view, before it is checked.
struct Look {
    is_new: bool,
    /// The work was checked before, with another record of the relay.
    is_work_known: bool,
}

impl Directory {
    /// Takes what somebody says is a record.
    ///
    /// # Errors
    /// Why it is of no use, which was counted.
    pub(crate) async fn take(&self, bytes: &[u8], from: &Sender) -> Result<Offer, Cause> {
        let taken = match self.check(bytes, from).await {
            Ok(checked) => self.keep(checked, Some(from.relay)),
            Err(cause) => Err(cause),
        };
        if let Err(cause) = taken {
            debug!(?cause, "a record was turned away");
            self.counters.count(cause);
        }
        taken
    }

    /// Puts a record into the view, and tells whom it concerns.
    pub(crate) fn keep(&self, checked: Checked, from: Option<RelayId>) -> Result<Offer, Cause> {
        let record = checked.record().clone();
        let relay = record.relay();
        let was_barred = self.view().is_barred(&relay, self.now());
        let offer = self.offer(checked);
        match &offer {
            Offer::Renewed | Offer::Changed | Offer::Barred | Offer::Fraud(_) if was_barred => {} // it can be found
            Offer::Renewed => self.note_news(record, from, Haste::Later),
            Offer::New | Offer::Changed | Offer::Barred => self.note_news(record, from, Haste::Now),
            Offer::Fraud(proof) => {
                self.note_news(record, from, Haste::Now);
                self.note_fraud(proof, from);
            }
            Offer::Known | Offer::Older | Offer::Expired => return Err(Cause::Stale),
            Offer::NoRoom => return Err(Cause::NoRoom),
        }
        self.unseen.notify_one();
        Ok(offer)
    }

    /// Takes what somebody says is a fraud proof; whether it is news.
    ///
    /// # Errors
    /// [`Cause::Fraud`], which was counted.
    pub(crate) fn take_fraud(&self, bytes: &[u8], from: RelayId) -> Result<bool, Cause> {
        let proof = self.check_fraud(bytes).inspect_err(|cause| self.counters.count(*cause))?;
        let Some(proof) = proof else { return Ok(false) };
        let mut view = self.view();
        let was_barred = view.is_barred(&proof.relay(), self.now());
        let is_news = view.offer_fraud(proof.clone(), self.now()) && !was_barred;
        drop(view);
        if is_news {
            self.note_fraud(&proof, Some(from));
        }
        Ok(is_news)
    }

    /// The proof, if the view would take it. Signatures are checked last.
    fn check_fraud(&self, bytes: &[u8]) -> Result<Option<FraudProof>, Cause> {
        let proof = FraudProof::decode(bytes).map_err(|_| Cause::Fraud)?;
        if !self.view().would_take_fraud(&proof, self.now()) {
            return Ok(None);
        }
        match proof.check(&self.params, self.now()) {
            Ok(()) => Ok(Some(proof)),
            Err(error @ (DescriptorError::Future | DescriptorError::Expired)) => Err(error.into()),
            Err(_) => Err(Cause::Fraud),
        }
    }

    /// Offers a record to the view; a relay that has moved has to be reached again.
    fn offer(&self, checked: Checked) -> Offer {
        let (relay, addresses) = (checked.record().relay(), checked.record().entry().addresses);
        let proved = self.proved_at(checked.record());
        let mut view = self.view();
        let before = view.get(&relay).map(|known| known.record.record().entry().addresses);
        let offer = match proved {
            Some(address) => view.offer_reached(checked, address.ip(), self.now()),
            None => view.offer(checked, self.now()),
        };
        let after = view.get(&relay).map(|known| known.record.record().entry().addresses);
        let is_held = after == Some(addresses);
        if is_held && proved.is_some() {
            self.proved().remove(&relay);
        } else if is_held && before != after {
            view.forget_reached(&relay);
        }
        offer
    }

    async fn check(&self, bytes: &[u8], from: &Sender) -> Result<Checked, Cause> {
        let record = Record::decode(bytes)?;
        let (params, now) = (&self.params, self.now());
        record.check_cheap(params, now)?;
        let look = self.look(&record)?;
        record.check_hashcash(params)?;
        if from.manner == Manner::Pushed && look.is_new && !self.senders.identity(from.address) {
            return Err(Cause::TooMany);
        }
        if look.is_work_known {
            return Ok(Checked::trust_saved(record, params, now)?);
        }
        let signed = record.check_signature(params, now)?;
        self.memory_hard.check(signed, params, from.address).await
    }

    /// The address at which a link with the relay was made, if the record lists it.
    fn proved_at(&self, record: &Record) -> Option<SocketAddr> {
        let proved = self.proved().get(&record.relay()).copied();
        proved.filter(|address| record.entry().addresses.iter().any(|listed| listed == *address))
    }

    fn look(&self, record: &Record) -> Result<Look, Cause> {
        let is_proved = self.proved_at(record).is_some();
        let view = self.view();
        let known = view.get(&record.relay());
        if !view.would_take(record, is_proved, self.now()) {
            return Err(if known.is_some() { Cause::Stale } else { Cause::NoRoom });
        }
        let work = record.descriptor().work;
        let is_work_known = known.is_some_and(|known| known.record.record().descriptor().work == work);
        Ok(Look { is_new: known.is_none(), is_work_known })
    }

    fn note_news(&self, record: Record, from: Option<RelayId>, haste: Haste) {
        if record.relay() == self.own && from.is_some() {
            warn!(
                "another relay has a record of this one that is newer than its own: if its keys are in use elsewhere, \
                 stop one of the two; after a restore from a backup this is as it should be"
            );
            self.own_changed.notify_one();
        }
        self.changed.store(true, Relaxed);
        self.news(haste).add(Item::Record(record), from);
    }

    fn note_fraud(&self, proof: &FraudProof, from: Option<RelayId>) {
        let relay = proof.relay();
        if relay == self.own {
            warn!("{}", Trouble::Twice);
        } else {
            warn!("relay {relay} has signed two records for one epoch and is left out: its key is in two places");
        }
        self.changed.store(true, Relaxed);
        self.news(Haste::Now).add(Item::Fraud(Box::new(proof.clone())), from);
    }
}

impl Budget {
    /// The last check of a record.
    async fn check(&self, signed: Signed, params: &NetworkParams, from: IpAddr) -> Result<Checked, Cause> {
        if params.directory.argon2_bits == 0 {
            return Ok(signed.check_memory_hard(params)?);
        }
        let _place = self.place(senders::host(from)).ok_or(Cause::Busy)?;
        let checked = timeout(MEMORY_HARD_PATIENCE, self.run(|| signed.check_memory_hard(params))).await;
        Ok(checked.map_err(|_| Cause::Busy)??)
    }

    fn place(&self, host: IpAddr) -> Option<Place<'_>> {
        let mut waiting = self.waiting();
        let all: usize = waiting.values().sum();
        let of_host = waiting.get(&host).copied().unwrap_or_default();
        let has_share = of_host < MEMORY_HARD_WAITING_EACH || host.is_loopback(); // a network on one machine is all there
        let has_room = all < MEMORY_HARD_WAITING && has_share;
        has_room.then(|| {
            waiting.insert(host, of_host + 1);
            Place { budget: self, host }
        })
    }

    fn waiting(&self) -> sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }

    async fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        let mut next = self.next.lock().await;
        if let Some(next) = *next {
            sleep_until(next).await;
        }
        let start = Instant::now();
        let result = aside(work);
        *next = Some(Instant::now() + start.elapsed() * (MEMORY_HARD_SHARE - 1));
        result
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.budget.waiting();
        if let Entry::Occupied(mut place) = waiting.entry(self.host) {
            *place.get_mut() -= 1;
            if *place.get() == 0 {
                place.remove();
            }
        }
    }
}

/// Does what takes long while other tasks go on. On a runtime of one thread, as in simulations, nothing can.
pub(crate) fn aside<R>(work: impl FnOnce() -> R) -> R {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_does_not_fill_the_queue_of_those_whose_work_is_to_be_checked() {
        let budget = Budget::default();
        let host = |number: u8| IpAddr::from([10, 0, number, 1]);
        let mut taken: Vec<_> = (0..100).filter_map(|_| budget.place(host(0))).collect();
        assert_eq!(taken.len(), MEMORY_HARD_WAITING_EACH);
        taken.extend((1..=255).flat_map(|number| [budget.place(host(number)), budget.place(host(number))]).flatten());
        assert_eq!(taken.len(), MEMORY_HARD_WAITING);
        taken.clear();
        assert!(budget.waiting().is_empty() && budget.place(host(0)).is_some());
    }
}
