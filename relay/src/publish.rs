//! Publishing: this relay's own record, made when it starts, changes or is about to expire.
//!
//! Specification: docs/protocol.md, "Descriptors". A relay signs one record in an epoch: two would be a fraud. So the
//! record is on disk before anyone else has it, one that the network has is taken over, and a change waits for the next
//! epoch. A record is renewed at a moment that each relay draws among a few, so that those of one epoch do not all do
//! so at once, and those that do share packets. A relay that nobody can dial, or whose clock is wrong, publishes
//! nothing; one that leaves says only that (`leave.rs`).

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use rand::{Rng, RngExt};
use tokio::time::{Duration, Instant, sleep, timeout};
use tracing::{error, info, warn};
use trefoil_protocol::{
    descriptor::{Checked, Descriptor, Record},
    entry::{RelayAddresses, Weight},
    epoch::{Epoch, UnixSeconds},
    exit_summary::ExitSummary,
    family::Family,
    identity::RelaySecret,
    limits::{DIRECTORY_TICK, REACH_PAUSE, REACH_RETRY, RENEWAL_MOMENTS},
    params::DirectoryParams,
    work::Work,
};

use crate::{
    directory::{Directory, aside},
    gossip,
    node::Node,
    reach::{self, Verdict},
    store::Store,
    trouble::Trouble,
};

/// What a relay says of itself because its operator wants it to, besides its addresses and where it exits to.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    /// How likely it is drawn.
    pub weight: Weight,
    /// The other relays of its operator.
    pub family: Option<Family>,
    /// It leaves for good: see [`crate::relay::Relay::say_farewell`], which says so.
    pub leaving: bool,
}

/// What this relay's record is made of, besides its onion key.
pub(crate) struct Publisher {
    identity: Arc<RelaySecret>,
    addresses: RelayAddresses,
    exit: Option<ExitSummary>,
    statement: Statement,
    store: Store,
    last: Mutex<Option<Last>>,
    /// The epoch for which a change of what this relay says of itself waits.
    change: Mutex<Option<Epoch>>,
    progress: Mutex<Progress>,
    /// The last record is not on disk, and so not published.
    unsaved: AtomicBool,
}

/// How far a relay has come with listing itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Others are asked for the directory.
    #[default]
    Asking,
    /// Its proof of work is being done, or looked for on disk.
    Working,
    /// Others are asked to dial it, and none has tried yet.
    Checking,
    /// Others could not dial it.
    Unreachable,
    /// Others could, or there is nobody to ask: its records are published when they are due.
    Done,
}

/// The newest record that this relay has signed.
#[derive(Clone, Debug)]
struct Last {
    record: Record,
    /// When it is to be renewed.
    renewal: UnixSeconds,
}

/// What a look at the own record says.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// A record for this epoch.
    Now(Epoch),
    /// The same as the last, at this time.
    Renewal(UnixSeconds),
    /// Another than the last, when this epoch begins.
    Change(Epoch),
}

impl Publisher {
    pub(crate) fn new(
        identity: Arc<RelaySecret>,
        addresses: RelayAddresses,
        exit: Option<ExitSummary>,
        statement: Statement,
        store: Store,
    ) -> Self {
        let (last, change, progress) = (Mutex::default(), Mutex::default(), Mutex::default());
        let unsaved = AtomicBool::new(false);
        Self { identity, addresses, exit, statement, store, last, change, progress, unsaved }
    }

    /// Where others reach this relay.
    pub(crate) fn addresses(&self) -> RelayAddresses {
        self.addresses
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_progress(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Whether the last record could not be saved.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.unsaved.load(Relaxed)
    }

    /// The first epoch in which this relay's record no longer counts; `None` if it has none that counts now.
    pub(crate) fn listed_until(&self, node: &Node) -> Option<Epoch> {
        known(node).map(|record| record.expires()).filter(|expires| *expires > node.directory.epoch())
    }

    /// The epoch for which a change of what this relay says of itself waits, if there is one.
    pub(crate) fn change_waits_for(&self) -> Option<Epoch> {
        *self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that is news.
    fn set_change(&self, epoch: Option<Epoch>) -> bool {
        let before = std::mem::replace(&mut *self.change.lock().unwrap_or_else(PoisonError::into_inner), epoch);
        before != epoch
    }

    /// Signs whom this relay saw, if it is to say so.
    pub(crate) fn settle(&self, directory: &Directory) {
        directory.settle(&self.identity);
    }

    /// The newest record that this relay has signed, as far as it knows.
    pub(crate) fn last_record(&self) -> Option<Record> {
        self.last().map(|last| last.record)
    }

    fn last(&self) -> Option<Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_last(&self, last: Last) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// What this relay says of itself from this epoch on.
    fn descriptor(&self, node: &Node, work: Work, issued: Epoch) -> Descriptor {
        Descriptor {
            relay: node.id(),
            onion_key: node.onion.present(),
            addresses: self.addresses,
            weight: self.statement.weight,
            exit: self.exit.clone(),
            mailbox: node.post.as_ref().is_some_and(|post| !post.is_broken()),
            leaving: false,
            family: self.statement.family,
            issued,
            lifetime: node.directory.params().directory.lifetime,
            work,
        }
    }
}

/// Publishes, until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    if node.publisher.statement.leaving {
        return;
    }
    gossip::ask_first(&node).await;
    node.publisher.set_progress(Progress::Working);
    let Some(work) = find_work(&node) else { return };
    node.publisher.set_progress(Progress::Checking);
    let silent_until = take_over(&node);
    let (mut is_checked, mut is_listed, mut next_check) = (false, false, Instant::now());
    loop {
        if !node.directory.judge_clock() {
            sleep(DIRECTORY_TICK).await;
            continue;
        }
        if !is_checked && Instant::now() >= next_check {
            let Some(checked) = check(&node, is_listed).await else { continue };
            node.publisher.set_progress(Progress::Done);
            (is_checked, next_check) = (checked, Instant::now() + REACH_PAUSE * 6);
        }
        match due(&node, work) {
            Due::Now(epoch) if epoch < silent_until => {
                wait(&node, silent_until.start(&node.directory.params().directory)).await;
            }
            Due::Now(epoch) => {
                publish(&node, &node.publisher.descriptor(&node, work, epoch));
                is_listed = true;
            }
            Due::Renewal(at) => {
                node.publisher.set_change(None);
                wait(&node, at).await;
            }
            Due::Change(epoch) => {
                tell_of_change(&node, epoch);
                wait(&node, epoch.start(&node.directory.params().directory)).await;
            }
        }
    }
}

/// Whether others can dial this relay. `None` if they can't, or not yet, and it is time to ask again; `Some(false)` if
/// nobody can say. A relay that listed itself when there was nobody to ask goes on until somebody has tried.
async fn check(node: &Arc<Node>, is_listed: bool) -> Option<bool> {
    match reach::ask(node, node.publisher.addresses).await {
        Verdict::Reachable => Some(true),
        Verdict::Unanswered(others) if !is_listed && others > 0 && node.links.count() > 0 => {
            sleep(REACH_PAUSE).await; // they are there, and had no time for it
            None
        }
        Verdict::Unanswered(_) => Some(false),
        Verdict::Unreachable => {
            node.publisher.set_progress(Progress::Unreachable);
            warn!(
                "{}; this relay lists itself when it can be reached, and asks again in {} minutes",
                Trouble::Unreachable { addresses: node.publisher.addresses },
                REACH_RETRY.as_secs() / 60,
            );
            sleep(REACH_RETRY).await;
            None
        }
    }
}

/// When the next record is due.
fn due(node: &Node, work: Work) -> Due {
    let now = node.directory.epoch();
    let Some(Last { record, renewal }) = node.publisher.last() else { return Due::Now(now) };
    if known(node).is_some_and(|known| known.issued() > record.issued()) {
        return Due::Now(now); // somebody else has this relay's key: two records for one epoch will tell everyone
    }
    let said = record.descriptor();
    let is_same = node.publisher.descriptor(node, work, said.issued) == said;
    let (possible, is_time) = (said.issued < now, renewal <= node.directory.now());
    match (is_same, possible) {
        (false, true) => Due::Now(now),
        (true, true) if is_time => Due::Now(now),
        (true, _) => Due::Renewal(renewal.max(said.issued.next().start(&node.directory.params().directory))),
        (false, false) => Due::Change(said.issued.next()),
    }
}

/// When a record is to be renewed: a quarter of its lifetime before it expires, or up to half of that later, at one of
/// the moments of an epoch that relays have in common. Never in its first epoch, where another would be a fraud, and
/// always where enough is left for all to hear of it.
fn renewal(record: &Record, params: &DirectoryParams, rng: &mut impl Rng) -> UnixSeconds {
    let margin = (u32::from(record.descriptor().lifetime) / 4).max(1);
    let first = Epoch(record.expires().0.saturating_sub(margin)).max(record.issued().next()).start(params);
    let spread = record.expires().start(params).since(first) / 2;
    let step = u64::from((params.epoch.get() / RENEWAL_MOMENTS).max(1));
    first.plus(rng.random_range(0..=spread) / step * step)
}

/// Says that a change has to wait, since this epoch's record is out.
fn tell_of_change(node: &Node, epoch: Epoch) {
    if node.publisher.set_change(Some(epoch)) {
        let start = epoch.start(&node.directory.params().directory);
        info!(
            epoch = epoch.0,
            "what this relay says of itself has changed; it has said something else for this epoch already, so others \
             learn of it when the next one begins, in {} minutes",
            start.since(node.directory.now()).div_ceil(60)
        );
    }
}

/// Signs a record and keeps it, on disk first; whether it was published.
pub(crate) fn publish(node: &Node, descriptor: &Descriptor) -> bool {
    let publisher = &node.publisher;
    let record = descriptor.sign(&node.network, &publisher.identity);
    let saved = publisher.store.save_record(&record);
    let is_saved = saved.is_ok();
    publisher.unsaved.store(!is_saved, Relaxed);
    if let Err(cause) = saved {
        error!(%cause, "{}", Trouble::Unsaved);
    } else {
        keep(node, &record);
        info!(epoch = record.issued().0, known = node.directory.len(), "this relay is {}", doing(&record));
    }
    publisher.set_change(None);
    note_last(node, record); // even if it was not saved: this epoch is over then
    is_saved
}

fn doing(record: &Record) -> &'static str {
    if record.is_leaving() { "leaving" } else { "listed" }
}

fn note_last(node: &Node, record: Record) {
    let renewal = renewal(&record, &node.directory.params().directory, &mut node.rng());
    node.publisher.set_last(Last { record, renewal });
}

fn keep(node: &Node, record: &Record) {
    let directory = &node.directory;
    match Checked::trust_saved(record.clone(), directory.params(), directory.now()) {
        Ok(checked) => {
            let _ = directory.keep(checked, None); // an error means that it is there
        }
        Err(error) => error!(%error, "this relay's own record does not pass its checks"),
    }
}

/// Takes this relay's newest record for its last, whether it is on disk or the network has it. The first epoch for which
/// it may sign another: a record that cannot be read, and that nobody else has, may be for this one.
pub(crate) fn take_over(node: &Node) -> Epoch {
    let (publisher, now) = (&node.publisher, node.directory.epoch());
    let saved = publisher.last_record().map_or_else(|| publisher.store.load_record(), |record| Ok(Some(record)));
    let may_sign = if saved.is_err() { now.next() } else { now };
    let known = known(node);
    let is_known = known.is_some();
    let last = saved.ok().flatten().filter(|record| record.relay() == node.id());
    let Some(newest) = [known, last].into_iter().flatten().max_by_key(Record::issued) else { return may_sign };
    if !is_known && newest.expires() > now {
        keep(node, &newest);
    }
    note_last(node, newest);
    may_sign
}

/// This relay's record as the view has it.
fn known(node: &Node) -> Option<Record> {
    node.directory.view().get(&node.id()).map(|known| known.record.record().clone())
}

async fn wait(node: &Node, at: UnixSeconds) {
    let time = node.directory.clock().until(at).clamp(Duration::from_millis(100), DIRECTORY_TICK);
    let _ = timeout(time, node.directory.own_changed.notified()).await;
}

/// The work of this relay's identity, which is done once; `None` if the node stops first.
fn find_work(node: &Node) -> Option<Work> {
    let (params, relay) = (node.directory.params(), node.id());
    aside(|| node.publisher.store.work(params, relay, || !node.shutdown.is_cancelled()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng, rngs::StdRng};
    use trefoil_protocol::{identity::OnionSecret, params::NetworkParams};

    use super::*;

    /// When a record of this lifetime, issued for epoch 100, is renewed, as many relays draw it.
    fn renewals(params: &NetworkParams, lifetime: u8) -> Vec<UnixSeconds> {
        let mut rng = StdRng::seed_from_u64(1);
        let identity = RelaySecret::generate(&mut rng);
        let descriptor = Descriptor {
            relay: identity.id(),
            onion_key: OnionSecret::generate(&mut rng).public(),
            addresses: "127.0.0.1:9001".parse().unwrap(),
            weight: Weight::One,
            exit: None,
            mailbox: false,
            leaving: false,
            family: None,
            issued: Epoch(100),
            lifetime,
            work: Work { hashcash: 0, argon2: 0 },
        };
        let record = descriptor.sign(&params.id(), &identity);
        (0..500).map(|_| renewal(&record, &params.directory, &mut rng)).collect()
    }

    #[test]
    fn a_record_is_renewed_in_time_and_never_in_its_first_epoch() {
        for params in [NetworkParams::main(), NetworkParams::testnet("test".parse().unwrap())] {
            for lifetime in 1..=params.directory.lifetime {
                let rules = &params.directory;
                let (next, over) = (Epoch(101).start(rules), Epoch(100 + u32::from(lifetime)).start(rules));
                for at in renewals(&params, lifetime) {
                    let (margin, left) = (over.since(next), over.since(at));
                    assert!(at >= next && at <= over, "{lifetime}");
                    assert!(left >= margin.min(u64::from(rules.epoch.get())) / 2, "{lifetime}: {left} s are left");
                }
            }
        }
    }

    #[test]
    fn relays_of_one_epoch_do_not_renew_their_records_at_once() {
        let params = NetworkParams::main();
        let all = renewals(&params, params.directory.lifetime);
        let hour = |at: &UnixSeconds| at.since(Epoch(106).start(&params.directory)) / 3600;
        let hours: BTreeSet<_> = all.iter().map(hour).collect();
        assert!((0..6).all(|hour| hours.contains(&hour)), "{hours:?}");
        let most = (0..6).map(|of| all.iter().filter(|at| hour(at) == of).count()).max().unwrap();
        assert!(most < 2 * all.len() / 6, "{most} of {} in one hour", all.len());
    }
}
