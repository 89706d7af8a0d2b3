//! Leaving: the last word of a relay that goes for good, so that nobody draws it for a path any more.
//!
//! Specification: docs/protocol.md, "Descriptors" (flag 0x20), and docs/operator.md, "Leaving for good". The last word is
//! a record that says so, for the epoch after the one for which the relay has said otherwise; it stands in all views
//! until it expires, so that no older record comes back. A relay that is only restarted says nothing of the kind.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use trefoil_protocol::{
    descriptor::{Descriptor, Record},
    epoch::{Epoch, UnixSeconds},
    identity::RelayId,
    limits::{LEAVE_PATIENCE, LEAVE_PAUSE},
    params::DirectoryParams,
};

use crate::{
    directory::Directory,
    file::{self, Access},
    gossip,
    node::Node,
    publish,
};

/// What became of a last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// No record of this relay counts: there is nothing to take back.
    Unlisted,
    /// Others have it.
    Told(Parting),
    /// Nobody could be told; others forget the relay when its last record expires.
    Untold(Parting),
    /// It cannot be saved, and so was not said.
    Unsaved,
    /// By how many minutes this machine's clock is behind that of others: nothing was said.
    Clock(i64),
}

/// When a relay is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parting {
    /// Relays that have its last word for certain; they tell the others.
    pub relays: usize,
    /// The epoch from which on no path has it: sets of usable relays last for an epoch.
    pub from: Epoch,
    /// Seconds until that begins; 0 if it has begun.
    pub seconds: u64,
    /// The epoch from which on nobody knows it.
    pub forgotten: Epoch,
}

/// The file in a relay's data directory that says that it has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftFile(PathBuf);

impl LeftFile {
    /// In this data directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self(directory.join("left"))
    }

    /// Where it is, or would be.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether the relay has left.
    pub fn is_there(&self) -> bool {
        self.0.exists()
    }

    /// Makes it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make(&self) -> io::Result<()> {
        file::write_atomic(&self.0, WORDS.as_bytes(), Access::Private)
    }
}

const WORDS: &str =
    "This relay has left its network for good. To have it come back, remove this file and start the relay.\n";

/// Says it, and waits until the neighbours have it.
pub(crate) async fn say(node: &Arc<Node>) -> Farewell {
    gossip::ask_first(node).await;
    let directory = &node.directory;
    directory.judge_clock();
    if let Some(ahead) = directory.clock_off_by() {
        return Farewell::Clock(ahead);
    }
    publish::take_over(node);
    let counts = |record: &Record| record.expires() > directory.epoch();
    let Some(last) = node.publisher.last_record().filter(counts) else { return Farewell::Unlisted };
    if !last.is_leaving() && !publish::publish(node, &last_word(&last, directory)) {
        return Farewell::Unsaved;
    }
    let mut told = BTreeSet::new();
    let _ = timeout(LEAVE_PATIENCE, tell(node, &mut told)).await; // whoever was told till then, was
    let record = node.publisher.last_record().unwrap_or(last);
    let parting = Parting::of(&record, told.len(), directory.now(), &directory.params().directory);
    if told.is_empty() { Farewell::Untold(parting) } else { Farewell::Told(parting) }
}

/// What the relay said last, but that it leaves, for the first epoch for which it has not spoken.
fn last_word(last: &Record, directory: &Directory) -> Descriptor {
    let issued = last.issued().next().max(directory.epoch());
    Descriptor { leaving: true, issued, ..last.descriptor() }
}

/// Tells neighbours, until all that answer have it; those that do not are replaced.
async fn tell(node: &Arc<Node>, told: &mut BTreeSet<RelayId>) {
    loop {
        node.neighbours.fill(node);
        let mut asking = JoinSet::new();
        for entry in node.neighbours.all().into_iter().filter(|entry| !told.contains(&entry.id)) {
            let node = Arc::clone(node);
            asking.spawn(async move {
                let has_it = gossip::has_own(&node, &entry).await;
                if has_it.is_none() {
                    node.neighbours.remove(&entry.id);
                }
                (entry.id, has_it == Some(true))
            });
        }
        let started = Instant::now();
        while let Some(Ok((relay, has_it))) = asking.join_next().await {
            if has_it {
                told.insert(relay);
            }
        }
        let neighbours = node.neighbours.all();
        if !neighbours.is_empty() && neighbours.iter().all(|entry| told.contains(&entry.id)) {
            return;
        }
        sleep(LEAVE_PAUSE.saturating_sub(started.elapsed())).await;
    }
}

impl Parting {
    fn of(last: &Record, relays: usize, now: UnixSeconds, params: &DirectoryParams) -> Self {
        let from = last.issued().max(Epoch::of(now, params).next());
        Self { relays, from, seconds: from.start(params).since(now), forgotten: last.expires() }
    }
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted => f.write_str("no record of this relay counts now, so there was nothing to take back"),
            Self::Told(Parting { relays, from, seconds, forgotten }) => write!(
                f,
                "{relays} relays know that this one leaves, and tell the others: from {from} on, which begins in {} \
                 minutes, it is in no path; from {forgotten} on nobody knows it",
                seconds.div_ceil(60)
            ),
            Self::Untold(Parting { forgotten, .. }) => write!(
                f,
                "no other relay could be told that this one leaves: run this again; without that, others forget it when \
                 its record expires, which is when {forgotten} begins"
            ),
            Self::Unsaved => {
                f.write_str("that this relay leaves cannot be saved, so it was not said: is the disk full?")
            }
            Self::Clock(ahead) => write!(
                f,
                "this machine's clock is {} minutes {} those of other relays, and nothing was said: set it (NTP), and \
                 run this again",
                ahead.unsigned_abs(),
                if *ahead > 0 { "behind" } else { "ahead of" }
            ),
        }
    }
}
