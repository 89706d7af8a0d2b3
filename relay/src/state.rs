//! State: a relay's data directory, with its keys.
//!
//! Specification: docs/operator.md, "The data directory". The directory has mode 0700, its files 0600:
//!
//! ```text
//! identity.key   trefoil-relay-identity-1 <seed, 64 hex digits> <relay id>
//! onion.key      trefoil-relay-onion-1 <secret, 64 hex digits> <onion key> <made at, in Unix seconds>
//!                and, for the key before that one: trefoil-relay-onion-previous-1 <secret> <onion key>
//! work           see `work_file.rs`
//! lock           locked while a process uses the directory
//! ```
//!
//! The public half beside each secret shows damage. A damaged key is never replaced: that is for a person to do.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rand::CryptoRng;
use trefoil_protocol::{crypto::Secret, epoch::UnixSeconds, identity::RelaySecret};
use zeroize::Zeroizing;

use crate::{
    data_dir::{DataDir, DataDirError, DataLock},
    onion_keys::{self, OnionKeys},
};

/// What a relay keeps between runs.
#[derive(Debug)]
pub struct State {
    /// Who the relay is.
    pub identity: RelaySecret,
    /// Its keys for circuit handshakes.
    pub onion: OnionKeys,
    /// Keep it for as long as the directory is in use.
    pub lock: DataLock,
}

/// Why the data directory cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory or a file in it is of no use.
    #[error(transparent)]
    Directory(#[from] DataDirError),
    /// Another process has it.
    #[error("{} is in use by another relay: stop that one, or choose another data directory", .0.display())]
    InUse(PathBuf),
    /// A key file is damaged.
    #[error("{} is damaged: restore it from a backup; only to give the key up for ever, remove the file", .0.display())]
    Damaged(PathBuf),
    /// The identity is gone, but the directory is not new.
    #[error(
        "{} is gone, though the directory is in use: restore it from a backup; \
         to start as a new relay, choose an empty data directory", .0.display()
    )]
    IdentityGone(PathBuf),
}

impl State {
    /// Opens the data directory; makes it, and new keys, on first start. `now` is for the age of a new onion key; one
    /// that is too old is replaced later, by [`OnionKeys::rotate`].
    ///
    /// # Errors
    /// [`StateError`] says what to do. Nothing that is there is ever changed.
    pub fn open(directory: &Path, now: UnixSeconds, rng: &mut impl CryptoRng) -> Result<Self, StateError> {
        let (files, lock) = DataDir::open(directory)?;
        let lock = lock.ok_or_else(|| StateError::InUse(directory.to_owned()))?;
        let keys = Keys(files);
        let identity = keys.identity(rng)?;
        let onion = keys.onion(now, rng)?;
        Ok(Self { identity, onion, lock })
    }
}

/// The key files of a directory.
struct Keys(DataDir);

impl Keys {
    fn identity(&self, rng: &mut impl CryptoRng) -> Result<RelaySecret, StateError> {
        if let Some(text) = self.read(IDENTITY_FILE)? {
            return decode_identity(&text).ok_or_else(|| self.damaged(IDENTITY_FILE));
        }
        if self.0.join(ONION_FILE).exists() {
            return Err(StateError::IdentityGone(self.0.join(IDENTITY_FILE)));
        }
        let identity = RelaySecret::generate(rng);
        self.0.write(IDENTITY_FILE, encode_identity(&identity).as_bytes())?;
        Ok(identity)
    }

    fn onion(&self, now: UnixSeconds, rng: &mut impl CryptoRng) -> Result<OnionKeys, StateError> {
        let keys = match self.read(ONION_FILE)? {
            Some(text) => onion_keys::Keys::decode(&text).ok_or_else(|| self.damaged(ONION_FILE))?,
            None => {
                let keys = onion_keys::Keys::generate(now, rng);
                self.0.write(ONION_FILE, keys.encode().as_bytes())?;
                keys
            }
        };
        Ok(OnionKeys::in_file(keys, self.0.join(ONION_FILE)))
    }

    /// The text of a key file; `None` if there is no such file.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, StateError> {
        let Some(bytes) = self.0.read(name, MAX_KEY_FILE)? else { return Ok(None) };
        match str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
            Err(_) => Err(self.damaged(name)),
        }
    }

    fn damaged(&self, name: &str) -> StateError {
        StateError::Damaged(self.0.join(name))
    }
}

fn encode_identity(identity: &RelaySecret) -> Zeroizing<String> {
    encode_key(IDENTITY_LABEL, &identity.to_bytes(), &identity.id().to_string())
}

/// A line with a secret in it, and what follows it.
pub(crate) fn encode_key(label: &str, secret: &Secret, rest: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE));
    text.push_str(label);
    text.push(' ');
    HEXLOWER.encode_append(&**secret, &mut text);
    text.push(' ');
    text.push_str(rest);
    text.push('\n');
    text
}

fn decode_identity(text: &str) -> Option<RelaySecret> {
    let (secret, id) = decode_key(IDENTITY_LABEL, text)?;
    let identity = RelaySecret::from_bytes(&secret);
    (identity.id() == id.parse().ok()?).then_some(identity)
}

/// The secret after the label, and what follows it to the end of the one line.
pub(crate) fn decode_key<'a>(label: &str, text: &'a str) -> Option<(Secret, &'a str)> {
    let line = text.strip_suffix('\n')?;
    let (hex, rest) = line.strip_prefix(label)?.strip_prefix(' ')?.split_once(' ')?;
    let mut secret = Secret::default();
    if hex.len() != 2 * secret.len() {
        return None;
    }
    HEXLOWER.decode_mut(hex.as_bytes(), &mut *secret).ok()?;
    Some((secret, rest))
}

const IDENTITY_FILE: &str = "identity.key";
const ONION_FILE: &str = "onion.key";
const IDENTITY_LABEL: &str = "trefoil-relay-identity-1";
/// More than the longest key file has: two lines of a label, 64 digits, 56 characters, 20 digits, and what stands
/// between.
pub(crate) const MAX_KEY_FILE: usize = 512;

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rand::{SeedableRng, rngs::StdRng};
    use tempfile::TempDir;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn open(path: &Path) -> Result<State, StateError> {
        State::open(path, NOW, &mut StdRng::seed_from_u64(1))
    }

    /// A data directory that was used before, and what is in it.
    fn used() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        drop(open(&path).unwrap());
        (dir, path)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn keys_are_made_on_first_start_and_found_again() {
        let (_dir, path) = used();
        let first = open(&path).unwrap();
        assert_eq!(first.onion.made(), NOW);
        let (id, key) = (first.identity.id(), first.onion.present());
        drop(first);
        let second = State::open(&path, NOW.plus(1000), &mut StdRng::seed_from_u64(2)).unwrap();
        assert_eq!((second.identity.id(), second.onion.present()), (id, key));
        assert_eq!(second.onion.made(), NOW);
    }

    #[test]
    fn both_onion_keys_are_found_again_after_a_rotation() {
        let (_dir, path) = used();
        let first = open(&path).unwrap();
        let before = first.onion.present();
        first.onion.rotate(NOW.plus(28 * 24 * 3600), &mut StdRng::seed_from_u64(2)).unwrap();
        let present = first.onion.present();
        drop(first);
        let second = open(&path).unwrap();
        assert_eq!(second.onion.present(), present);
        assert!(present != before && second.onion.find(before.id()).is_some());
        assert_eq!(mode(&path.join("onion.key")), 0o600);
    }

    #[test]
    fn the_directory_and_its_files_are_private_and_nothing_else_is_left() {
        let (_dir, path) = used();
        assert_eq!(mode(&path), 0o700);
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["identity.key", "lock", "onion.key"]);
        names.iter().for_each(|name| assert_eq!(mode(&path.join(name)), 0o600));
    }

    #[test]
    fn a_loose_directory_is_refused_with_the_command_that_helps() {
        let (_dir, path) = used();
        for loose in [0o755, 0o750, 0o701, 0o777] {
            set_mode(&path, loose);
            let words = open(&path).unwrap_err().to_string();
            assert!(words.contains(&format!("chmod 700 {}", path.display())), "{words}");
        }
        set_mode(&path, 0o700);
        assert!(open(&path).is_ok());
    }

    #[test]
    fn a_loose_key_file_is_refused_with_the_command_that_helps() {
        for name in ["identity.key", "onion.key"] {
            let (_dir, path) = used();
            let file = path.join(name);
            set_mode(&file, 0o640);
            let words = open(&path).unwrap_err().to_string();
            assert!(words.contains(&format!("chmod 600 {}", file.display())), "{words}");
        }
    }

    #[test]
    fn a_key_file_cut_anywhere_is_refused_and_left_as_it_is() {
        for name in ["identity.key", "onion.key"] {
            let (_dir, path) = used();
            let file = path.join(name);
            let whole = fs::read_to_string(&file).unwrap();
            for length in 0..whole.len() {
                fs::write(&file, &whole[..length]).unwrap();
                assert!(matches!(open(&path), Err(StateError::Damaged(named)) if named == file), "{length}");
                assert_eq!(fs::read_to_string(&file).unwrap(), whole[..length]);
            }
            fs::write(&file, &whole).unwrap();
            assert!(open(&path).is_ok());
        }
    }

    #[test]
    fn a_key_file_with_a_wrong_character_or_more_is_refused() {
        let (_dir, path) = used();
        let file = path.join("identity.key");
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] = if wrong[at] == b'b' { b'c' } else { b'b' };
            fs::write(&file, &wrong).unwrap();
            assert!(matches!(open(&path), Err(StateError::Damaged(_))), "{at}");
        }
        for wrong in [[&whole[..], b"\n"].concat(), [&whole[..], &whole[..]].concat(), vec![0xff; 10], vec![b'a'; 9000]]
        {
            fs::write(&file, wrong).unwrap();
            assert!(matches!(open(&path), Err(StateError::Damaged(_))));
        }
    }

    #[test]
    fn one_key_is_not_taken_for_the_other() {
        let (_dir, path) = used();
        fs::copy(path.join("onion.key"), path.join("identity.key")).unwrap();
        assert!(matches!(open(&path), Err(StateError::Damaged(_))));
    }

    #[test]
    fn a_lost_identity_is_not_silently_replaced_but_an_onion_key_is() {
        let (_dir, path) = used();
        let id = open(&path).unwrap().identity.id();
        fs::remove_file(path.join("onion.key")).unwrap();
        assert_eq!(open(&path).unwrap().identity.id(), id);
        fs::remove_file(path.join("identity.key")).unwrap();
        assert!(matches!(open(&path), Err(StateError::IdentityGone(_))));
        assert!(!path.join("identity.key").exists());
    }

    #[test]
    fn two_cannot_use_one_directory() {
        let (_dir, path) = used();
        let first = open(&path).unwrap();
        assert!(matches!(open(&path), Err(StateError::InUse(named)) if named == path));
        drop(first);
        assert!(open(&path).is_ok());
    }

    #[test]
    fn what_is_no_directory_or_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(open(&file), Err(StateError::Directory(DataDirError::NotDirectory(named))) if named == file));
        let below = file.join("data");
        assert!(matches!(open(&below), Err(StateError::Directory(DataDirError::Create { path, .. })) if path == below));
    }

    #[test]
    fn a_directory_where_nothing_can_be_written_is_named() {
        let (_dir, path) = used();
        fs::create_dir_all(path.join(".probe/taken")).unwrap(); // stands for any failed write, even for root
        assert!(
            matches!(open(&path), Err(StateError::Directory(DataDirError::Unwritable { path: named, .. })) if named == path)
        );
    }

    #[test]
    fn a_key_file_that_is_a_directory_is_refused() {
        let (_dir, path) = used();
        fs::remove_file(path.join("identity.key")).unwrap();
        fs::create_dir(path.join("identity.key")).unwrap();
        set_mode(&path.join("identity.key"), 0o700);
        assert!(matches!(open(&path), Err(StateError::Directory(DataDirError::Read { .. }))));
    }

    #[test]
    fn printing_the_state_shows_no_secret() {
        let (_dir, path) = used();
        let file = fs::read_to_string(path.join("identity.key")).unwrap();
        let secret = file.split(' ').nth(1).unwrap();
        let printed = format!("{:?}", open(&path).unwrap());
        assert!(secret.len() == 64 && !printed.contains(secret));
    }
}
