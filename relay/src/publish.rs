//! Publishing: this relay's own record, made when it starts, changes or is about to expire.
//!
//! Specification: docs/protocol.md, "Descriptors". A relay signs one record in an epoch: two would be a fraud. So the
//! record is on disk before anyone else has it, one that the network has is taken over, and a change waits for the next
//! epoch. A relay that nobody can dial, or whose clock is wrong, publishes nothing.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::time::{Duration, Instant, sleep, timeout};
use tracing::{error, info, warn};
use trefoil_protocol::{
    descriptor::{Checked, Descriptor, Record},
    entry::{RelayAddresses, Weight},
    epoch::Epoch,
    exit_summary::ExitSummary,
    identity::RelaySecret,
    limits::{DIRECTORY_TICK, REACH_PAUSE, REACH_RETRY},
    work::Work,
};

use crate::{
    directory::aside,
    gossip,
    node::Node,
    reach::{self, Verdict},
    store::Store,
    trouble::Trouble,
};

/// What this relay's record is made of, besides its onion key.
pub(crate) struct Publisher {
    identity: Arc<RelaySecret>,
    addresses: RelayAddresses,
    exit: Option<ExitSummary>,
    store: Store,
    last: Mutex<Option<Record>>,
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

/// What a look at the own record says.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// A record for this epoch.
    Now(Epoch),
    /// Nothing, until this epoch begins.
    At(Epoch),
}

impl Publisher {
    pub(crate) fn new(
        identity: Arc<RelaySecret>,
        addresses: RelayAddresses,
        exit: Option<ExitSummary>,
        store: Store,
    ) -> Self {
        let (last, progress, unsaved) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { identity, addresses, exit, store, last, progress, unsaved }
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

    fn last(&self) -> Option<Record> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_last(&self, record: Record) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(record);
    }

    /// What this relay says of itself from this epoch on.
    fn descriptor(&self, node: &Node, work: Work, issued: Epoch) -> Descriptor {
        Descriptor {
            relay: node.id(),
            onion_key: node.onion.present(),
            addresses: self.addresses,
            weight: Weight::default(),
            exit: self.exit.clone(),
            mailbox: false,
            leaving: false,
            family: None,
            issued,
            lifetime: node.directory.params().directory.lifetime,
            work,
        }
    }
}

/// Publishes, until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    gossip::ask_first(&node).await;
    node.publisher.set_progress(Progress::Working);
    let Some(work) = find_work(&node) else { return };
    node.publisher.set_progress(Progress::Checking);
    take_over(&node);
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
            Due::Now(epoch) => {
                publish(&node, work, epoch);
                is_listed = true;
            }
            Due::At(epoch) => wait(&node, epoch).await,
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
    let Some(last) = node.publisher.last() else { return Due::Now(now) };
    if known(node).is_some_and(|known| known.issued() > last.issued()) {
        return Due::Now(now); // somebody else has this relay's key: two records for one epoch will tell everyone
    }
    let said = last.descriptor();
    let is_same = node.publisher.descriptor(node, work, said.issued) == said;
    let renewal = Epoch(last.expires().0.saturating_sub(margin(said.lifetime)));
    let wanted = if is_same { renewal } else { now };
    let possible = said.issued.next();
    let at = wanted.max(possible);
    if at <= now { Due::Now(now) } else { Due::At(at) }
}

/// A record is renewed so many epochs before it expires.
fn margin(lifetime: u8) -> u32 {
    (u32::from(lifetime) / 4).max(1)
}

/// Signs a record and keeps it, on disk first.
fn publish(node: &Node, work: Work, epoch: Epoch) {
    let publisher = &node.publisher;
    let record = publisher.descriptor(node, work, epoch).sign(&node.network, &publisher.identity);
    let saved = publisher.store.save_record(&record);
    publisher.unsaved.store(saved.is_err(), Relaxed);
    if let Err(cause) = saved {
        error!(%cause, "{}", Trouble::Unsaved);
    } else {
        keep(node, &record);
        info!(epoch = epoch.0, known = node.directory.len(), "this relay is listed");
    }
    publisher.set_last(record); // even if it was not saved: this epoch is over then
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

/// Takes this relay's newest record for its last, whether it is on disk or the network has it.
fn take_over(node: &Node) {
    let publisher = &node.publisher;
    let last = publisher.last().or_else(|| publisher.store.load_record().filter(|record| record.relay() == node.id()));
    let known = known(node);
    let is_known = known.is_some();
    let Some(newest) = [known, last].into_iter().flatten().max_by_key(Record::issued) else { return };
    if !is_known && newest.expires() > node.directory.epoch() {
        keep(node, &newest);
    }
    publisher.set_last(newest);
}

/// This relay's record as the view has it.
fn known(node: &Node) -> Option<Record> {
    node.directory.view().get(&node.id()).map(|known| known.record.record().clone())
}

async fn wait(node: &Node, epoch: Epoch) {
    let start = epoch.start(&node.directory.params().directory);
    let time = node.directory.clock().until(start).clamp(Duration::from_millis(100), DIRECTORY_TICK);
    let _ = timeout(time, node.directory.own_changed.notified()).await;
}

/// The work of this relay's identity, which is done once; `None` if the node stops first.
fn find_work(node: &Node) -> Option<Work> {
    let (params, relay) = (node.directory.params(), node.id());
    aside(|| node.publisher.store.work(params, relay, || !node.shutdown.is_cancelled()))
}
