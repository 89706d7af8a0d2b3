//! Directory: the relays that this one knows, and the set of them that is in use in this epoch.
//!
//! Specification: docs/protocol.md, "Directory". The rules are the protocol's (`view.rs`, `usable.rs`); here they meet
//! a clock and other tasks: `gossip.rs` asks and tells, `answer.rs` answers, `verify.rs` looks whether relays are
//! there, `publish.rs` makes this relay's own record, `store.rs` keeps all of it on disk. No lock is held across an
//! await.

mod intake;
mod settle;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
};

use tokio::{
    sync::Notify,
    time::{Duration, sleep},
};
use tracing::{info, warn};
use trefoil_protocol::{
    descriptor::Record,
    directory::Greeting,
    entry::RelayEntry,
    epoch::{Epoch, UnixSeconds},
    identity::RelayId,
    ip,
    limits::{CLOCK_SAMPLES_LEAST, DIRECTORY_TICK, NEIGHBOURS, PROVED_MAX, YOUNG_TICK},
    params::NetworkParams,
    settling::Settling,
    usable::{Seen, UsableSet},
    view::View,
};

pub(crate) use self::intake::{Budget, Manner, Sender, aside};
use crate::{
    agreement::Agreement,
    clock::{Clock, Pace, Skews},
    counters::{Cause, Counters},
    news::{Haste, News},
    node::Node,
    outages::Outages,
    senders::Senders,
    trouble::Trouble,
};

/// See the file's head.
pub struct Directory {
    params: NetworkParams,
    own: RelayId,
    clock: Clock,
    bootstrap: BTreeMap<RelayId, RelayEntry>,
    /// Relays of the saved view whose records had expired.
    expired: Vec<RelayEntry>,
    view: Mutex<View>,
    usable: Mutex<Arc<UsableSet>>,
    /// Who is in time for the epoch after that of `usable`.
    settling: Mutex<Settling>,
    /// Relays with which a link was made, at addresses that no record of theirs listed then.
    proved: Mutex<HashMap<RelayId, SocketAddr>>,
    /// By how many minutes the others' clocks are ahead of this one's; 0 for as little as is tolerated.
    ahead: AtomicI64,
    counters: Counters,
    news: News,
    /// News that can wait.
    renewals: News,
    pub(crate) senders: Senders,
    pub(crate) skews: Skews,
    pace: Pace,
    pub(crate) outages: Outages,
    pub(crate) agreement: Agreement,
    pub(crate) memory_hard: Budget,
    /// The view has changed since it was saved.
    pub(crate) changed: AtomicBool,
    /// There may be a relay that nobody has looked for.
    pub(crate) unseen: Notify,
    /// This relay's own record may have to change.
    pub(crate) own_changed: Notify,
}

impl Directory {
    /// What a relay begins with: the view that it has saved, and the relays that its operator names.
    pub(crate) fn new(
        params: &NetworkParams,
        own: RelayId,
        clock: Clock,
        bootstrap: impl IntoIterator<Item = RelayEntry>,
        view: View,
    ) -> Self {
        let bootstrap = bootstrap.into_iter().filter(|entry| entry.id != own).map(|entry| (entry.id, entry)).collect();
        let epoch = Epoch::of(clock.now(), &params.directory);
        let usable = UsableSet::freeze(epoch, [], &params.directory);
        let settling = Settling::after(&usable, &own, &params.directory);
        let directory = Self {
            params: params.clone(),
            own,
            clock,
            bootstrap,
            expired: Vec::new(),
            view: Mutex::new(view),
            usable: Mutex::new(Arc::new(usable)),
            settling: Mutex::new(settling),
            proved: Mutex::default(),
            ahead: AtomicI64::new(0),
            counters: Counters::default(),
            news: News::default(),
            renewals: News::default(),
            senders: Senders::default(),
            skews: Skews::default(),
            pace: Pace::new(clock.now()),
            outages: Outages::default(),
            agreement: Agreement::default(),
            memory_hard: Budget::default(),
            changed: AtomicBool::new(false),
            unseen: Notify::new(),
            own_changed: Notify::new(),
        };
        directory.freeze();
        directory.settle_next();
        directory
    }

    /// With relays that may still be where they were: to be asked where hardly anyone else is known.
    pub(crate) fn with_expired(self, expired: Vec<RelayEntry>) -> Self {
        Self { expired, ..self }
    }

    /// Whether all that is known of others is where some were, before their records expired.
    pub(crate) fn has_only_expired(&self) -> bool {
        !self.expired.is_empty() && self.view().iter().all(|(relay, _)| *relay == self.own)
    }

    /// How many relays have a record here, this one included.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether no relay has a record here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The relay as it says that it is, whether or not this one has ever reached it.
    pub fn find(&self, relay: &RelayId) -> Option<RelayEntry> {
        self.view().get(relay).map(|known| known.record.record().entry())
    }

    /// The first epoch in which the record of this relay that is held here no longer counts.
    pub fn counts_until(&self, relay: &RelayId) -> Option<Epoch> {
        self.view().get(relay).map(|known| known.record.record().expires())
    }

    /// The relays of this epoch.
    pub fn usable(&self) -> Arc<UsableSet> {
        Arc::clone(&self.usable.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether two contradicting records keep this relay out of use.
    pub fn is_barred(&self, relay: &RelayId) -> bool {
        self.view().is_barred(relay, self.now())
    }

    /// What was turned away.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A relay that circuits may be extended to: this one has reached it itself, or its operator names it, and it is
    /// not barred.
    pub(crate) fn entry(&self, relay: &RelayId) -> Option<RelayEntry> {
        let view = self.view();
        if view.is_barred(relay, self.now()) {
            return None;
        }
        let named = self.bootstrap.get(relay);
        match view.get(relay) {
            Some(known) if known.reached || named.is_some() => Some(known.dialled()),
            _ => named.cloned(),
        }
    }

    /// Whether this is a relay that was ever heard of in a way that costs something.
    pub(crate) fn knows(&self, relay: &RelayId) -> bool {
        self.bootstrap.contains_key(relay) || self.view().get(relay).is_some()
    }

    /// Whether this relay may send this record: one that is known any, and a newcomer its own.
    pub(crate) fn may_send(&self, relay: &RelayId, record: &[u8]) -> bool {
        self.knows(relay) || Record::decode(record).is_ok_and(|record| record.relay() == *relay)
    }

    /// All relays that may be asked, but this one: those of the view, and those that the operator names.
    pub(crate) fn acquaintances(&self) -> Vec<RelayEntry> {
        let view = self.view();
        let now = self.now();
        let known = view.iter().filter(|(relay, _)| !view.is_barred(relay, now));
        let mut all: BTreeMap<_, _> = known.map(|(relay, known)| (*relay, known.dialled())).collect();
        for (relay, entry) in &self.bootstrap {
            all.entry(*relay).or_insert_with(|| entry.clone());
        }
        if all.len() <= NEIGHBOURS {
            for entry in &self.expired {
                all.entry(entry.id).or_insert_with(|| entry.clone());
            }
        }
        all.remove(&self.own);
        all.into_values().collect()
    }

    /// Whether a relay that this one has reached lists this address.
    pub(crate) fn is_reached_at(&self, address: SocketAddr) -> bool {
        let view = self.view();
        let mut reached = view.iter().filter(|(_, known)| known.reached);
        reached.any(|(_, known)| known.dialled().addresses.iter().any(|proved| proved == address))
    }

    /// What neighbours are to know, this soon.
    pub(crate) fn news(&self, haste: Haste) -> &News {
        match haste {
            Haste::Now => &self.news,
            Haste::Later => &self.renewals,
        }
    }

    /// The relays that the operator names.
    pub(crate) fn bootstrap(&self) -> impl Iterator<Item = &RelayEntry> {
        self.bootstrap.values()
    }

    /// How many other relays there are to ask.
    pub(crate) fn others(&self) -> usize {
        let view = self.view();
        let unheard = self.bootstrap.keys().filter(|relay| view.get(relay).is_none()).count();
        unheard + view.len() - usize::from(view.get(&self.own).is_some())
    }

    /// Relays of the view that this one has not reached, in the order of their ids. Those that leave need not be.
    pub(crate) fn unreached(&self) -> Vec<RelayEntry> {
        let view = self.view();
        let unreached = view.iter().filter(|(relay, known)| !known.reached && **relay != self.own);
        let records = unreached.map(|(_, known)| known.record.record());
        records.filter(|record| !record.is_leaving()).map(Record::entry).collect()
    }

    /// A link handshake with a relay at this address was completed, whoever dialled: it is there.
    pub(crate) fn note_reached(&self, relay: &RelayId, address: SocketAddr) {
        let mut view = self.view();
        let listed = view.get(relay).map(|known| known.record.record().entry().addresses);
        match listed {
            Some(addresses) if addresses.iter().any(|listed| listed == address) => {
                view.mark_reached(relay, address.ip());
                self.changed.store(true, Relaxed);
            }
            _ => {
                let mut proved = self.proved();
                if proved.len() >= PROVED_MAX {
                    proved.clear(); // they will be dialled again
                }
                proved.insert(*relay, address);
            }
        }
    }

    /// A relay that was reached before did not answer. One that is established stays in use until its record is over:
    /// who dials whom at which moment is chance, and would make the relays' sets differ.
    pub(crate) fn note_unreachable(&self, relay: &RelayId) {
        let mut view = self.view();
        if view.get(relay).is_some_and(|known| !known.established) {
            view.forget_reached(relay);
            self.unseen.notify_one();
        }
    }

    /// Counts what was wrong with something from this address; whether its sender is to be dropped for it.
    pub(crate) fn turn_away(&self, cause: Cause, address: IpAddr) -> bool {
        self.counters.count(cause);
        self.blame(cause, address)
    }

    /// As [`Self::turn_away`], for what was counted.
    pub(crate) fn blame(&self, cause: Cause, address: IpAddr) -> bool {
        let pieces = cause.garbage();
        pieces > 0 && self.senders.garbage(address, pieces)
    }

    /// What this relay says of itself to whom it sees at this address.
    pub(crate) fn greeting(&self, seen: Option<SocketAddr>) -> Greeting {
        let usable = self.usable();
        Greeting {
            minutes: u32::try_from(self.now().0 / 60).unwrap_or(u32::MAX),
            network: self.params.id(),
            records: u32::try_from(self.len()).unwrap_or(u32::MAX),
            usable: usable.digest(),
            epoch: usable.epoch(),
            seen: seen.filter(|address| ip::canonical(address.ip()) == address.ip()),
        }
    }

    pub(crate) fn params(&self) -> &NetworkParams {
        &self.params
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch::of(self.now(), &self.params.directory)
    }

    /// Whether the clocks of others say that this one's is wrong, or it was set and they have not said anything since.
    pub fn is_clock_off(&self) -> bool {
        self.clock_off_by().is_some() || self.is_clock_unsure()
    }

    fn is_clock_unsure(&self) -> bool {
        self.pace.is_unsure(self.now(), &self.skews, self.voices())
    }

    /// How many others have a say about this clock. All their records look old or new to one that is far off: where
    /// none is left, whoever answers has.
    fn voices(&self) -> usize {
        let has_others = self.view().iter().any(|(relay, _)| *relay != self.own);
        let others = self.others();
        if has_others { others.max(CLOCK_SAMPLES_LEAST) } else { others.min(1) }
    }

    /// By how many minutes the others' clocks are ahead of this one's, if that is more than is tolerated.
    pub(crate) fn clock_off_by(&self) -> Option<i64> {
        Some(self.ahead.load(Relaxed)).filter(|ahead| *ahead != 0)
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }

    fn proved(&self) -> MutexGuard<'_, HashMap<RelayId, SocketAddr>> {
        self.proved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this clock is right, by those of others that were asked; tells the operator when that changes.
    pub(crate) fn judge_clock(&self) -> bool {
        if self.is_clock_unsure() {
            return false;
        }
        let off = self.skews.off_by(self.voices());
        let was = self.ahead.swap(off.unwrap_or(0), Relaxed) != 0;
        match off {
            Some(ahead) if !was => warn!("{}", Trouble::Clock { ahead }),
            None if was => info!("this machine's clock agrees with those of other relays again"),
            _ => {}
        }
        off.is_none()
    }

    /// The usable set of this epoch, as the view has it now, and as was settled before.
    fn freeze(&self) {
        let (now, epoch) = (self.now(), self.epoch());
        let settling = self.settling();
        let unsettled = Settling::unseen(epoch, &self.params.directory);
        let settled = if settling.epoch() == epoch { &*settling } else { &unsettled };
        let view = self.view();
        let seen = view.iter().map(|(relay, known)| {
            let is_candidate = settle::is_candidate(&view, known, now);
            Seen {
                relay: *relay,
                first_seen: known.first_seen,
                reached: known.reached || *relay == self.own,
                withdrawn: !is_candidate,
                settled: settled.is_settled(relay, known.first_seen, is_candidate),
            }
        });
        let usable = UsableSet::freeze(epoch, seen, &self.params.directory);
        drop(view);
        *self.usable.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(usable);
    }

    /// Begins to settle who is in time for the next epoch.
    fn settle_next(&self) {
        *self.settling() = Settling::after(&self.usable(), &self.own, &self.params.directory);
    }

    fn begin_epoch(&self) {
        self.freeze();
        self.settle_next();
        let usable = self.usable();
        self.view().begin_epoch(self.now(), |relay| usable.class(relay).is_some());
        self.changed.store(true, Relaxed);
    }
}

/// Begins epochs when it is time, and does what else is done every few seconds. In a young network, whose sets are small, a set also grows within its epoch.
pub(crate) async fn keep_time(node: Arc<Node>) {
    let directory = &node.directory;
    loop {
        let usable = directory.usable();
        let next = usable.epoch().next().start(&directory.params.directory);
        let is_young = usable.len() < directory.params.directory.min_usable.into();
        let tick = if is_young { YOUNG_TICK } else { DIRECTORY_TICK };
        let next = directory.next_look().map_or(next, |look| next.min(look));
        sleep(directory.clock.until(next).clamp(Duration::from_millis(100), tick)).await;
        let kept: Vec<_> = node.neighbours.all().iter().map(|entry| entry.id).collect();
        node.links.let_go_of_idle(&kept);
        if !directory.judge_clock() {
            sleep(DIRECTORY_TICK).await; // what is overdue stays so until the clock is right
            continue;
        }
        if directory.epoch() != usable.epoch() {
            directory.begin_epoch();
        } else if is_young {
            directory.freeze();
        }
        node.publisher.settle(directory);
    }
}
