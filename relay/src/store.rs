//! Store: what a relay's directory keeps on disk, beside its keys.
//!
//! Specification: docs/operator.md, "The data directory". Files are whole or not there. What is damaged is set aside
//! for a person to look at, and made anew: all of it can be had from other relays again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::time::{Duration, interval};
use tracing::{info, warn};
use trefoil_protocol::{
    descriptor::Record,
    entry::RelayEntry,
    epoch::UnixSeconds,
    identity::RelayId,
    limits::{MAX_RECORD, SAVE_EVERY, VIEW_FILE_MAX},
    params::NetworkParams,
    view::View,
    work::{Search, Work},
};

use crate::{
    directory::aside,
    file::{self, Access},
    node::Node,
    work_file::WorkFile,
};

/// A data directory; or none, and nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Store(Option<PathBuf>);

impl Store {
    /// In this directory, which is there.
    pub fn new(directory: &Path) -> Self {
        Self(Some(directory.to_owned()))
    }

    /// Where a file of this name is, or would be; `None` where nothing is kept.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.0.as_ref()?.join(name))
    }

    /// The view as it was saved, or an empty one; and relays that it had, whose records have expired meanwhile.
    pub(crate) fn load_view(&self, params: &NetworkParams, now: UnixSeconds) -> (View, Vec<RelayEntry>) {
        let Some(bytes) = self.read(VIEW, VIEW_FILE_MAX) else { return (View::new(params, now), vec![]) };
        let loaded = View::decode(&bytes, params, now);
        if loaded.damaged > 0 {
            self.set_aside(VIEW);
            warn!(
                damaged = loaded.damaged,
                whole = loaded.view.len(),
                "the saved view is damaged: the file was set aside, what was whole is used, and the rest comes again"
            );
        }
        if loaded.stale > 0 {
            info!(stale = loaded.stale, whole = loaded.view.len(), "records of the saved view have expired meanwhile");
        }
        (loaded.view, loaded.expired)
    }

    fn save_view(&self, view: &View) -> io::Result<()> {
        self.write(VIEW, &view.encode())
    }

    pub(crate) fn load_record(&self) -> Option<Record> {
        let record = Record::decode(&self.read(RECORD, MAX_RECORD)?);
        if record.is_err() {
            self.set_aside(RECORD);
            warn!("this relay's own saved record is damaged, and was set aside");
        }
        record.ok()
    }

    pub(crate) fn save_record(&self, record: &Record) -> io::Result<()> {
        self.write(RECORD, record.bytes())
    }

    /// The work of this relay's identity, from its file or done now; `None` once `go_on` says no.
    pub(crate) fn work(&self, params: &NetworkParams, relay: RelayId, go_on: impl Fn() -> bool) -> Option<Work> {
        let Some(directory) = &self.0 else { return Search::new(params, relay).step(u32::MAX) };
        let file = WorkFile::in_directory(directory, params, relay);
        if let Some(work) = file.load() {
            return Some(work);
        }
        file.find(go_on).unwrap_or_else(|cause| {
            warn!(%cause, "cannot save the proof of work, so it is done again at each start: is the disk full?");
            Search::new(params, relay).step(u32::MAX)
        })
    }

    /// A file of at most this many bytes; a longer one is none of ours.
    fn read(&self, name: &str, most: usize) -> Option<Vec<u8>> {
        let path = self.file(name)?;
        let size = fs::metadata(&path).ok()?.len();
        if size > most as u64 {
            self.set_aside(name);
            return None;
        }
        fs::read(&path).inspect_err(|cause| warn!(%cause, "cannot read {}", path.display())).ok()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let Some(directory) = &self.0 else { return Ok(()) };
        file::write_atomic(&directory.join(name), bytes, Access::Private)
    }

    fn set_aside(&self, name: &str) {
        let Some(directory) = &self.0 else { return };
        let moved = fs::rename(directory.join(name), directory.join(format!("{name}.damaged")));
        if let Err(cause) = moved {
            warn!(%cause, "cannot set aside the damaged file {name}");
        }
    }
}

/// Saves the view while the node runs, once in an epoch where that is sooner; [`save`] does it once more when it stops.
pub(crate) async fn keep_saved(node: Arc<Node>, store: Store) {
    let epoch = Duration::from_secs(node.directory.params().directory.epoch.get().into());
    let mut ticks = interval(SAVE_EVERY.min(epoch));
    loop {
        ticks.tick().await;
        save(&node, &store);
    }
}

/// Saves the view if it has changed.
pub(crate) fn save(node: &Node, store: &Store) {
    if store.0.is_none() || !node.directory.changed.swap(false, Relaxed) {
        return;
    }
    let view = node.directory.view().clone();
    if let Err(cause) = aside(|| store.save_view(&view)) {
        node.directory.changed.store(true, Relaxed);
        warn!(%cause, "cannot save the view: is the disk full?");
    }
}

const VIEW: &str = "view";
const RECORD: &str = "record";
