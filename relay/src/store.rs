//! Store: what a relay's directory keeps on disk, beside its keys.
//!
//! Specification: docs/operator.md, "The data directory". Files are whole or not there. What is damaged is set aside
//! for a person to look at, and made anew: all of it can be had from other relays again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::time::{Duration, sleep};
use tracing::{info, warn};
use trefoil_protocol::{
    descriptor::Record,
    entry::RelayEntry,
    epoch::UnixSeconds,
    identity::RelayId,
    limits::{MAX_RECORD, SAVE_EVERY, SAVE_FIRST, VIEW_FILE_MAX},
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

/// A file that was there and could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

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

    /// This relay's own record; an error if there was one and it is damaged.
    pub(crate) fn load_record(&self) -> Result<Option<Record>, Damaged> {
        if !self.file(RECORD).is_some_and(|path| path.exists()) {
            return Ok(None);
        }
        let Some(bytes) = self.read(RECORD, MAX_RECORD) else { return Err(Damaged) };
        Record::decode(&bytes).map(Some).map_err(|_| {
            self.set_aside(RECORD);
            warn!(
                "this relay's own saved record is damaged, and was set aside: unless others have it, this relay lists \
                 itself when the next epoch begins, since what is lost may be for this one"
            );
            Damaged
        })
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
            warn!("the saved file {name} is too long to be one, and was set aside: what it held comes again");
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
    let mut pause = SAVE_FIRST; // one that is killed soon after its start shall find the others again
    loop {
        sleep(pause).await;
        save(&node, &store);
        pause = (pause * 2).min(SAVE_EVERY).min(epoch);
    }
}

/// Saves the view if it has changed, and says more than the file does: where nobody was found since the start, the
/// relays of the file may still be where they were the next time.
pub(crate) fn save(node: &Node, store: &Store) {
    if store.0.is_none() || node.directory.has_only_expired() || !node.directory.changed.swap(false, Relaxed) {
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

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};
    use trefoil_protocol::{
        descriptor::{Checked, Descriptor},
        entry::Weight,
        epoch::Epoch,
        identity::{OnionSecret, RelaySecret},
    };

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn params() -> NetworkParams {
        NetworkParams::testnet("test".parse().unwrap())
    }

    fn record(number: u64) -> Record {
        let (params, mut rng) = (params(), StdRng::seed_from_u64(number));
        let identity = RelaySecret::generate(&mut rng);
        let descriptor = Descriptor {
            relay: identity.id(),
            onion_key: OnionSecret::generate(&mut rng).public(),
            addresses: format!("127.{number}.0.1:9001").parse().unwrap(),
            weight: Weight::One,
            exit: None,
            mailbox: false,
            leaving: false,
            family: None,
            issued: Epoch::of(NOW, &params.directory),
            lifetime: params.directory.lifetime,
            work: Search::new(&params, identity.id()).step(u32::MAX).unwrap(),
        };
        descriptor.sign(&params.id(), &identity)
    }

    /// How many relays a file brings back.
    fn load(store: &Store) -> usize {
        store.load_view(&params(), NOW).0.len()
    }

    /// A view of three relays.
    fn view() -> View {
        let mut view = View::new(&params(), NOW);
        for number in 1..=3 {
            view.offer(Checked::trust_saved(record(number), &params(), NOW).unwrap(), NOW);
        }
        view
    }

    #[test]
    fn a_view_that_was_cut_anywhere_is_set_aside_and_what_is_whole_of_it_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let (store, path) = (Store::new(directory.path()), directory.path().join(VIEW));
        let aside = directory.path().join("view.damaged");
        store.save_view(&view()).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut before = 0;
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let found = load(&store);
            assert!((before..=before + 1).contains(&found), "{length}");
            assert_eq!(fs::read(&aside).unwrap(), whole[..length]);
            assert!(!path.exists(), "{length}");
            before = found;
        }
        assert_eq!(before, 3);
        fs::remove_file(&aside).unwrap();
        store.save_view(&view()).unwrap();
        assert_eq!((load(&store), aside.exists()), (3, false), "and made anew");
    }

    #[test]
    fn a_changed_byte_of_a_view_costs_one_relay_at_most() {
        let directory = tempfile::tempdir().unwrap();
        let (store, path) = (Store::new(directory.path()), directory.path().join(VIEW));
        store.save_view(&view()).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            fs::write(&path, &changed).unwrap();
            assert!(load(&store) >= 2, "{at}");
            assert!(!path.exists() && directory.path().join("view.damaged").exists(), "{at}");
        }
    }

    #[test]
    fn a_record_that_was_cut_is_set_aside_and_a_file_that_is_too_long_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let (store, path) = (Store::new(directory.path()), directory.path().join(RECORD));
        let record = record(1);
        assert_eq!(store.load_record(), Ok(None));
        store.save_record(&record).unwrap();
        assert_eq!(store.load_record(), Ok(Some(record.clone())));
        for length in 0..record.bytes().len() {
            fs::write(&path, &record.bytes()[..length]).unwrap();
            assert_eq!(store.load_record(), Err(Damaged), "{length}");
            assert_eq!(fs::read(directory.path().join("record.damaged")).unwrap(), record.bytes()[..length]);
        }
        fs::write(&path, [0; MAX_RECORD + 1]).unwrap();
        assert_eq!((store.load_record(), path.exists()), (Err(Damaged), false));
    }
}
