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
//! new ones would be more that see this client. Damaged files are set aside, with a warning. The guards and the usable
//! relays end with a line `# whole <checksum, 16 hex digits>`: cut at the right place they would else be shorter lists
//! that look whole, and no other client has such. The view looks after itself.

use std::path::{Path, PathBuf};

use tracing::warn;
use trefoil_protocol::{
    crypto,
    entry::RelayEntry,
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
    /// Relays whose records have expired since then.
    pub(crate) former: Vec<RelayEntry>,
    pub(crate) usable: Option<UsableSet>,
    pub(crate) guards: GuardSample,
    /// Some of the view is gone: the usable relays are fewer than those of other clients until it was asked for again.
    pub(crate) is_lacking: bool,
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
        let (view, guards) = (View::new(params, now), GuardSample::new(now));
        let none = Saved { view, former: Vec::new(), usable: None, guards, is_lacking: false };
        let Some(Files { directory, .. }) = &self.0 else { return Ok(none) };
        let mut saved = none;
        if let Some(bytes) = directory.read(VIEW, VIEW_FILE)? {
            let loaded = View::decode(&bytes, params, now);
            saved.former = loaded.expired.into_iter().chain(loaded.expired_unreached).collect();
            saved.view = loaded.view;
            saved.is_lacking = loaded.damaged > 0;
            if saved.is_lacking {
                self.set_aside(VIEW, "what is whole of it is used, and the rest is asked for again");
            }
        }
        if let Some(bytes) = directory.read(USABLE, VIEW_FILE)? {
            saved.usable = whole(&bytes).and_then(|bytes| UsableSet::decode(bytes).ok());
            if saved.usable.is_none() {
                self.set_aside(USABLE, "it is asked for again");
            }
        }
        if let Some(bytes) = directory.read(GUARDS, GUARDS_FILE)? {
            match whole(&bytes).and_then(|bytes| toml::from_str(str::from_utf8(bytes).ok()?).ok()) {
                Some(guards) => saved.guards = guards,
                None => self.set_aside(GUARDS, "new guards are drawn; restore it from a backup to have the old ones"),
            }
        }
        Ok(saved)
    }

    /// Keeps the guards.
    pub(crate) fn save_guards(&self, guards: &GuardSample) {
        let text = toml::to_string(guards).expect("texts, numbers and flags always have a TOML form");
        self.write(GUARDS, &with_sum(text.as_bytes()));
    }

    /// Keeps what is known of relays.
    pub(crate) fn save_view(&self, view: &[u8], usable: &UsableSet) {
        self.write(VIEW, view);
        self.write(USABLE, &with_sum(&usable.encode()));
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

fn with_sum(content: &[u8]) -> Vec<u8> {
    [content, sum(content).as_bytes()].concat()
}

/// What [`with_sum`] was given; `None` if it has changed since.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (content, last) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    (last == sum(content).as_bytes()).then_some(content)
}

/// The last line of a file with this content: [`SUM`] bytes.
fn sum(content: &[u8]) -> String {
    let [a, b, c, d, e, f, g, h, ..] = crypto::blake3(&[SUM_LABEL, content]);
    format!("# whole {:016x}\n", u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// Where a client of this network keeps its state if nobody says otherwise: by the XDG base directory specification.
/// `None` where there is no home directory.
pub fn default_directory(params: &NetworkParams) -> Option<PathBuf> {
    Some(all_directories()?.join(params.name.as_str()))
}

/// Where those of all networks are.
pub fn all_directories() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")))?;
    Some(data.join("trefoil"))
}

const GUARDS: &str = "guards.toml";
const VIEW: &str = "view.bin";
const USABLE: &str = "usable.bin";
const SUM: usize = 25;
const SUM_LABEL: &[u8] = b"trefoil/1 client file";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn params() -> NetworkParams {
        NetworkParams::testnet("test".parse().unwrap())
    }

    /// Three relays that are usable.
    fn usable() -> UsableSet {
        let members = (1..=3).flat_map(|number| [vec![number; 32], vec![0]].concat());
        UsableSet::decode(&[7, 0, 0, 0].into_iter().chain(members).collect::<Vec<_>>()).unwrap()
    }

    /// A directory in which a client has kept its state.
    fn used() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client");
        let state = State::open(&path).unwrap();
        let saved = state.load(&params(), NOW).unwrap();
        state.save_guards(&saved.guards);
        state.save_view(&saved.view.encode(), &usable());
        (dir, path)
    }

    #[test]
    fn what_was_kept_is_found_again() {
        let (_dir, path) = used();
        let saved = State::open(&path).unwrap().load(&params(), NOW).unwrap();
        assert_eq!(saved.guards, GuardSample::new(NOW));
        assert!(saved.view.is_empty() && !saved.is_lacking);
        assert_eq!(saved.usable, Some(usable()));
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
    fn a_file_that_was_cut_anywhere_or_changed_is_set_aside_and_made_anew() {
        let (_dir, path) = used();
        let state = State::open(&path).unwrap();
        for name in [GUARDS, USABLE, VIEW] {
            let whole = fs::read(path.join(name)).unwrap();
            let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
            let changed = (0..whole.len()).map(|at| {
                let mut changed = whole.clone();
                changed[at] ^= 1;
                changed
            });
            for wrong in cut.chain(changed).chain([[&whole[..], b"\n"].concat()]) {
                state.write(name, &wrong);
                let saved = state.load(&params(), NOW).unwrap();
                assert_eq!(fs::read(path.join(format!("{name}.damaged"))).unwrap(), wrong);
                assert!(!path.join(name).exists());
                assert_eq!((saved.usable.is_none(), saved.is_lacking), (name == USABLE, name == VIEW), "{wrong:?}");
                state.write(name, &whole);
            }
            fs::remove_file(path.join(name)).unwrap();
            state.save_guards(&GuardSample::new(NOW));
            state.save_view(&View::new(&params(), NOW).encode(), &usable());
            assert_eq!(fs::read(path.join(name)).unwrap(), whole, "{name} is as it was");
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
