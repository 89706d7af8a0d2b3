//! State: what a client keeps between runs, in a data directory of its own.
//!
//! Specification: docs/user-guide.md, "What is kept". The directory has mode 0700, its files 0600:
//!
//! ```text
//! guards.toml   the guards, and when they were dialled: without them a client would meet new ones at each start
//! view.bin      the relays that are known
//! usable.bin    which of them may be used, by the last majority
//! lock          locked while a process uses the directory
//! ```
//!
//! A second process on one directory reads all of it and writes nothing: it has the guards that the first has, where
//! new ones would be more that see this client. Damaged files are set aside, with a warning.

use std::path::{Path, PathBuf};

use tracing::warn;
use trefoil_protocol::{
    epoch::UnixSeconds,
    guard::GuardSample,
    limits::{GUARDS_FILE, VIEW_FILE},
    params::NetworkParams,
    usable::UsableSet,
    view::View,
};
use trefoil_relay::data_dir::{DataDir, DataDirError, DataLock};

/// See the file's head.
#[derive(Debug)]
pub struct State(Option<Files>);

#[derive(Debug)]
struct Files {
    directory: DataDir,
    /// `None` in a second process.
    lock: Option<DataLock>,
}

/// What a client knew when it last ran.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) view: View,
    pub(crate) usable: Option<UsableSet>,
    pub(crate) guards: GuardSample,
}

impl State {
    /// Nothing is read and nothing is kept.
    pub fn none() -> Self {
        Self(None)
    }

    /// What is kept in this directory, which is made where there is none.
    ///
    /// # Errors
    /// [`DataDirError`] says what to do.
    pub fn open(directory: &Path) -> Result<Self, DataDirError> {
        let (directory, lock) = DataDir::open(directory)?;
        Ok(Self(Some(Files { directory, lock })))
    }

    /// Whether nothing is kept.
    pub fn is_none(&self) -> bool {
        self.writable().is_none()
    }

    /// Whether another process holds the directory, so that this one keeps nothing.
    pub fn is_second(&self) -> bool {
        self.0.as_ref().is_some_and(|files| files.lock.is_none())
    }

    /// Where a file of this name is, if this process is the one that holds the directory.
    pub fn own_file(&self, name: &str) -> Option<PathBuf> {
        Some(self.writable()?.join(name))
    }

    /// What the last run has left.
    ///
    /// # Errors
    /// [`DataDirError`] for files that cannot be read, or that others can.
    pub(crate) fn load(&self, params: &NetworkParams, now: UnixSeconds) -> Result<Saved, DataDirError> {
        let none = Saved { view: View::new(params, now), usable: None, guards: GuardSample::new(now) };
        let Some(Files { directory, .. }) = &self.0 else { return Ok(none) };
        let mut saved = none;
        if let Some(bytes) = directory.read(VIEW, VIEW_FILE)? {
            let loaded = View::decode(&bytes, params, now);
            saved.view = loaded.view;
            if loaded.damaged > 0 {
                self.set_aside(VIEW, "what is whole of it is used, and the rest is asked for again");
            }
        }
        if let Some(bytes) = directory.read(USABLE, VIEW_FILE)? {
            saved.usable = UsableSet::decode(&bytes).ok();
            if saved.usable.is_none() {
                self.set_aside(USABLE, "it is asked for again");
            }
        }
        if let Some(bytes) = directory.read(GUARDS, GUARDS_FILE)? {
            match str::from_utf8(&bytes).ok().and_then(|text| toml::from_str(text).ok()) {
                Some(guards) => saved.guards = guards,
                None => self.set_aside(GUARDS, "new guards are drawn; restore it from a backup to have the old ones"),
            }
        }
        Ok(saved)
    }

    /// Keeps the guards.
    pub(crate) fn save_guards(&self, guards: &GuardSample) {
        let text = toml::to_string(guards).expect("texts, numbers and flags always have a TOML form");
        self.write(GUARDS, text.as_bytes());
    }

    /// Keeps what is known of relays.
    pub(crate) fn save_view(&self, view: &[u8], usable: &UsableSet) {
        self.write(VIEW, view);
        self.write(USABLE, &usable.encode());
    }

    fn writable(&self) -> Option<&DataDir> {
        self.0.as_ref().filter(|files| files.lock.is_some()).map(|files| &files.directory)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        if let Some(directory) = self.writable()
            && let Err(error) = directory.write(name, bytes)
        {
            warn!(%error, "what is known now will be forgotten at the end");
        }
    }

    fn set_aside(&self, name: &str, then: &str) {
        let Some(directory) = self.writable() else { return };
        match directory.set_aside(name) {
            Ok(aside) => warn!("{name} was damaged and is {} now: {then}", aside.display()),
            Err(error) => warn!(%error, "{name} is damaged: {then}"),
        }
    }
}

/// Where a client of this network keeps its state if nobody says otherwise: by the XDG base directory specification.
/// `None` where there is no home directory.
pub fn default_directory(params: &NetworkParams) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")))?;
    Some(data.join("trefoil").join(params.name.as_str()))
}

const GUARDS: &str = "guards.toml";
const VIEW: &str = "view.bin";
const USABLE: &str = "usable.bin";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn params() -> NetworkParams {
        NetworkParams::testnet("test".parse().unwrap())
    }

    /// A directory in which a client has kept its state.
    fn used() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client");
        let state = State::open(&path).unwrap();
        let saved = state.load(&params(), NOW).unwrap();
        state.save_guards(&saved.guards);
        state.save_view(&saved.view.encode(), &UsableSet::decode(&[7, 0, 0, 0]).unwrap());
        (dir, path)
    }

    #[test]
    fn what_was_kept_is_found_again() {
        let (_dir, path) = used();
        let saved = State::open(&path).unwrap().load(&params(), NOW).unwrap();
        assert_eq!(saved.guards, GuardSample::new(NOW));
        assert!(saved.view.is_empty() && saved.usable.unwrap().is_empty());
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [GUARDS, "lock", USABLE, VIEW]);
    }

    #[test]
    fn damaged_files_are_set_aside_and_left_to_a_person() {
        let (_dir, path) = used();
        for name in [GUARDS, USABLE, VIEW] {
            fs::write(path.join(name), b"\xffdamaged").unwrap();
        }
        let saved = State::open(&path).unwrap().load(&params(), NOW).unwrap();
        assert_eq!((saved.guards, saved.usable), (GuardSample::new(NOW), None));
        for name in [GUARDS, USABLE, VIEW] {
            assert_eq!(fs::read(path.join(format!("{name}.damaged"))).unwrap(), b"\xffdamaged");
        }
    }

    #[test]
    fn a_second_process_reads_and_writes_nothing() {
        let (_dir, path) = used();
        let first = State::open(&path).unwrap();
        let second = State::open(&path).unwrap();
        assert!(!first.is_second() && second.is_second() && second.is_none());
        assert_eq!(second.own_file("x"), None);
        fs::write(path.join(VIEW), b"damaged").unwrap();
        let before = fs::read(path.join(GUARDS)).unwrap();
        let saved = second.load(&params(), NOW.plus(5)).unwrap();
        second.save_guards(&GuardSample::new(NOW.plus(9)));
        assert_eq!(saved.guards, GuardSample::new(NOW));
        assert_eq!(fs::read(path.join(GUARDS)).unwrap(), before);
        assert_eq!(fs::read(path.join(VIEW)).unwrap(), b"damaged");
    }

    #[test]
    fn where_nothing_is_kept_nothing_is_made() {
        let state = State::none();
        assert!(state.is_none() && !state.is_second());
        assert!(state.load(&params(), NOW).unwrap().view.is_empty());
    }
}
