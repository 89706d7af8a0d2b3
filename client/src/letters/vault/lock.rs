//! Lock: the store key, sealed by a passphrase or a key file.
//!
//! Specification: docs/architecture.md, "The client's letters". Only this row of a vault can be read without the store
//! key: its version, what a passphrase costs, and a salt.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use trefoil_protocol::crypto::{KeptKey, PassphraseCost, Secret};
use trefoil_relay::file::{self, Access, NotPrivate};
use zeroize::Zeroizing;

use super::{Place, VaultError};

/// What opens a vault.
#[derive(Clone, Copy)]
pub enum Unlock<'a> {
    /// A passphrase, and what it is to cost where it is set; where it is tried, the vault says so.
    Passphrase(&'a str, PassphraseCost),
    /// A file of 32 random bytes, for its owner only.
    KeyFile(&'a Path),
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("cannot use the key file {}: {cause}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Others can read it.
    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),
    /// It does not have 32 bytes.
    #[error("{} is no key file: it has to have {KEY} bytes", .0.display())]
    Length(PathBuf),
}

/// What the passphrase or the key file of a vault has come to: it seals the store key, and the next one.
pub(super) struct Lock {
    by: By,
    key: Secret,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LockRow {
    by: By,
    sealed: Vec<u8>,
}

#[derive(Clone, Serialize, Deserialize)]
enum By {
    Passphrase { kib: u32, passes: u32, salt: [u8; 16] },
    KeyFile,
}

impl Lock {
    /// One that this opens.
    pub(super) fn set(unlock: &Unlock<'_>, rng: &mut impl CryptoRng) -> Result<Self, VaultError> {
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let by = match unlock {
            Unlock::Passphrase(_, cost) => By::Passphrase { kib: cost.kib, passes: cost.passes, salt },
            Unlock::KeyFile(_) => By::KeyFile,
        };
        Ok(Self { key: by.key(unlock)?, by })
    }

    /// The row of this store key.
    pub(super) fn seal(&self, key: &Secret, rng: &mut impl CryptoRng) -> Vec<u8> {
        let sealed = KeptKey::new(&self.key).seal(LABEL, &**key, rng);
        let row = LockRow { by: self.by.clone(), sealed };
        let row = postcard::to_stdvec(&row).expect("a lock has its bytes");
        [&[VERSION][..], &row].concat()
    }
}

impl LockRow {
    /// Takes what [`Lock::seal`] made.
    pub(super) fn decode(bytes: &[u8], place: &Place) -> Result<Self, VaultError> {
        let damaged = || VaultError::Damaged(place.to_string());
        let (version, row) = bytes.split_first().ok_or_else(damaged)?;
        if *version != VERSION {
            return Err(VaultError::Version { place: place.to_string(), version: *version });
        }
        postcard::from_bytes(row).map_err(|_| damaged())
    }

    /// The lock, and the store key.
    pub(super) fn open(self, unlock: &Unlock<'_>) -> Result<(Lock, Secret), VaultError> {
        let lock = Lock { key: self.by.key(unlock)?, by: self.by };
        let opened = KeptKey::new(&lock.key).open(LABEL, &self.sealed).map_err(|_| VaultError::Locked)?;
        let key = Zeroizing::new(*opened.first_chunk().ok_or(VaultError::Locked)?);
        Ok((lock, key))
    }
}

impl By {
    fn key(&self, unlock: &Unlock<'_>) -> Result<Secret, VaultError> {
        match (self, unlock) {
            (Self::Passphrase { kib, passes, salt }, Unlock::Passphrase(words, _)) => {
                let cost = PassphraseCost { kib: *kib, passes: *passes };
                cost.key(words.as_bytes(), salt).ok_or(VaultError::Locked)
            }
            (Self::KeyFile, Unlock::KeyFile(path)) => Ok(read_key_file(path)?),
            (Self::Passphrase { .. }, Unlock::KeyFile(_)) => Err(VaultError::OtherLock("passphrase")),
            (Self::KeyFile, Unlock::Passphrase(..)) => Err(VaultError::OtherLock("key file")),
        }
    }
}

/// Makes a key file, with mode 0600.
///
/// # Errors
/// [`KeyFileError::Unusable`], also where there is one already.
pub fn new_key_file(path: &Path, rng: &mut impl CryptoRng) -> Result<(), KeyFileError> {
    let unusable = |cause| KeyFileError::Unusable { path: path.to_owned(), cause };
    if path.exists() {
        return Err(unusable(io::ErrorKind::AlreadyExists.into()));
    }
    let mut key = Secret::default();
    rng.fill_bytes(&mut *key);
    file::write_atomic(path, &*key, Access::Private).map_err(unusable)
}

fn read_key_file(path: &Path) -> Result<Secret, KeyFileError> {
    let unusable = |cause| KeyFileError::Unusable { path: path.to_owned(), cause };
    let mut opened = fs::File::open(path).map_err(unusable)?;
    let metadata = opened.metadata().map_err(unusable)?;
    file::check_mode(path, &metadata)?;
    if metadata.len() != KEY {
        return Err(KeyFileError::Length(path.to_owned()));
    }
    let mut key = Secret::default();
    opened.read_exact(&mut *key).map_err(unusable)?;
    Ok(key)
}

const VERSION: u8 = 1;
const KEY: u64 = 32;
const LABEL: &[u8] = b"trefoil/1 vault lock";
