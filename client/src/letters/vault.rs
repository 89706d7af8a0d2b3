//! Vault: all that a person's program keeps of letters, in one encrypted file.
//!
//! Specification: docs/architecture.md, "The client's letters". A row is sealed under the store key, with its shelf and
//! key as associated data; keys of rows are numbers or keyed hashes, so neither names nor addresses can be read. What
//! belongs together is changed in one `Draft`, which is on disk when it is kept, or nothing of it is. What was taken away
//! is there until the vault is renewed. It never looks into rows.

mod lock;
mod memory;
mod renewal;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use redb::{
    Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction, backends::FileBackend,
};
use serde::{Serialize, de::DeserializeOwned};
use trefoil_protocol::{
    crypto::{self, KeptKey, Secret},
    limits::VAULT_CACHE,
};
use trefoil_relay::{
    data_dir::{DataDir, DataDirError, DataLock},
    file,
};
use zeroize::Zeroizing;

use self::lock::{Lock, LockRow};
pub use self::{
    lock::{KeyFileError, Unlock, new_key_file},
    memory::Memory,
};

/// Where a vault is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a directory of its own, with mode 0700.
    Directory(PathBuf),
    /// In memory: for tests and simulations, which can open it again.
    Memory(Memory),
}

/// See the file's head.
pub(crate) struct Vault {
    database: Database,
    place: Place,
    /// Seals the store key.
    lock: Lock,
    key: KeptKey,
    /// Makes the keys of rows from what is not to be read: from the first store key, and kept since.
    names: Secret,
    /// For nonces.
    rng: Mutex<StdRng>,
    /// Rows and keys that were looked at.
    #[cfg(test)]
    reads: std::sync::atomic::AtomicUsize,
    _held: Option<DataLock>,
}

/// Which kind of row; its number stands before the row's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Shelf {
    Person = 1,
    Contact = 2,
    ContactOf = 3,
    Sessions = 4,
    Outgoing = 5,
    Envelope = 6,
    Entry = 7,
    EntryOf = 8,
    Seen = 9,
    Prekeys = 10,
    Record = 11,
    Invite = 12,
    Ticket = 13,
    Kept = 14,
    Owed = 15,
    File = 16,
    Piece = 17,
    Backup = 18,
    Sheet = 19,
    Waiting = 20,
    Unread = 21,
    Going = 22,
    Forgotten = 23,
    Renewed = 24,
    Answered = 25,
    Former = 26,
}

/// Changes that belong together. Dropped, it has changed nothing.
pub(crate) struct Draft<'v> {
    vault: &'v Vault,
    transaction: WriteTransaction,
    changed: bool,
}

/// Why what is kept cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DataDirError),
    /// There is nobody.
    #[error("there is no profile in {0}: make one, or restore one from its phrase")]
    Absent(String),
    /// There is somebody already.
    #[error("there is a profile in {0} already: choose another directory")]
    Present(String),
    /// Another process has it.
    #[error("{0} is in use: is the program running with this profile already?")]
    InUse(String),
    /// Not the passphrase, or not that key file.
    #[error("the passphrase or key file is not that of the profile: try again; nothing was changed")]
    Locked,
    /// It wants a key file, and was given a passphrase; or the other way round.
    #[error("the profile is locked with a {0}, and not with what was given")]
    OtherLock(&'static str),
    /// The key file cannot be used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A newer program made it.
    #[error("the profile in {place} has version {version}, which this program does not know: use a newer program")]
    Version {
        /// Where.
        place: String,
        /// Which.
        version: u8,
    },
    /// It was changed by something else.
    #[error("the profile in {0} is damaged: restore it from a copy, or the person from the phrase")]
    Damaged(String),
    /// There is no room.
    #[error("the disk is full: what was asked for was not done; make room, and start the program again")]
    Full,
    /// It cannot be read or written.
    #[error("cannot read or write the profile: {0}; what was asked for was not done")]
    Unusable(Box<redb::Error>),
}

impl Vault {
    /// Makes one where there is none.
    pub(crate) fn create(place: &Place, unlock: &Unlock<'_>, seed: &Secret) -> Result<Self, VaultError> {
        let (database, held) = open_database(place)?;
        if read_head(&database, LOCK)?.is_some() {
            return Err(VaultError::Present(place.to_string()));
        }
        let mut rng = StdRng::from_seed(**seed);
        let lock = Lock::set(unlock, &mut rng)?;
        let mut key = Secret::default();
        rng.fill_bytes(&mut *key);
        write_lock(&database, &lock.seal(&key, &mut rng))?;
        Self::with((database, held), place, (lock, &key), rng)
    }

    /// Opens one.
    pub(crate) fn open(place: &Place, unlock: &Unlock<'_>, seed: &Secret) -> Result<Self, VaultError> {
        if let Place::Directory(path) = place
            && !path.join(FILE).exists()
        {
            return Err(VaultError::Absent(place.to_string()));
        }
        let (database, held) = open_database(place)?;
        let row = read_head(&database, LOCK)?.ok_or_else(|| VaultError::Absent(place.to_string()))?;
        let (lock, key) = LockRow::decode(&row, place)?.open(unlock)?;
        Self::with((database, held), place, (lock, &key), StdRng::from_seed(**seed))
    }

    fn with(
        (database, held): (Database, Option<DataLock>),
        place: &Place,
        (lock, secret): (Lock, &Secret),
        rng: StdRng,
    ) -> Result<Self, VaultError> {
        let key = KeptKey::new(secret);
        let names = match read_head(&database, NAMES)? {
            None => Zeroizing::new(crypto::blake3(&[NAMES_LABEL, &**secret])),
            Some(row) => {
                let damaged = || VaultError::Damaged(place.to_string());
                let names = key.open(NAMES_LABEL, &row).map_err(|_| damaged())?;
                Zeroizing::new(*names.first_chunk().ok_or_else(damaged)?)
            }
        };
        Ok(Self {
            database,
            place: place.clone(),
            lock,
            key,
            names,
            rng: Mutex::new(rng),
            #[cfg(test)]
            reads: Default::default(),
            _held: held,
        })
    }

    /// The key of a row that is named by what is not to be read.
    pub(crate) fn name(&self, shelf: Shelf, parts: &[&[u8]]) -> [u8; 16] {
        let what = parts.concat();
        let hash = crypto::blake3(&[&*self.names, &[shelf as u8], &what]);
        *hash.first_chunk().expect("32 bytes have 16")
    }

    /// Begins to change it.
    pub(crate) fn draft(&self) -> Result<Draft<'_>, VaultError> {
        let transaction = self.database.begin_write().map_err(|error| failed(error.into()))?;
        Ok(Draft { vault: self, transaction, changed: false })
    }

    fn count(&self) {
        #[cfg(test)]
        self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn damaged(&self) -> VaultError {
        VaultError::Damaged(self.place.to_string())
    }
}

impl Draft<'_> {
    /// The row with this key.
    pub(crate) fn get<T: DeserializeOwned>(&self, shelf: Shelf, key: &[u8]) -> Result<Option<T>, VaultError> {
        let table = self.transaction.open_table(ROWS).map_err(|error| failed(error.into()))?;
        let place = place_of(shelf, key);
        let found = table.get(&place[..]).map_err(|error| failed(error.into()))?;
        found.map(|sealed| self.open(&place, sealed.value())).transpose()
    }

    /// Puts a row.
    pub(crate) fn put<T: Serialize>(&mut self, shelf: Shelf, key: &[u8], row: &T) -> Result<(), VaultError> {
        let text = Zeroizing::new(postcard::to_stdvec(row).expect("rows have their bytes"));
        let place = place_of(shelf, key);
        let mut rng = self.vault.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = self.vault.key.seal(&place, &text, &mut *rng);
        self.changed = true;
        let mut table = self.transaction.open_table(ROWS).map_err(|error| failed(error.into()))?;
        table.insert(&place[..], &sealed[..]).map_err(|error| failed(error.into()))?;
        Ok(())
    }

    /// Puts a row, if it is another than is there.
    pub(crate) fn put_if_new<T: Serialize>(&mut self, shelf: Shelf, key: &[u8], row: &T) -> Result<(), VaultError> {
        let text = Zeroizing::new(postcard::to_stdvec(row).expect("rows have their bytes"));
        let place = place_of(shelf, key);
        let is_there = {
            let table = self.transaction.open_table(ROWS).map_err(|error| failed(error.into()))?;
            let found = table.get(&place[..]).map_err(|error| failed(error.into()))?;
            let opened = found.and_then(|sealed| self.vault.key.open(&place, sealed.value()).ok());
            opened.is_some_and(|before| *before == *text)
        };
        if is_there { Ok(()) } else { self.put(shelf, key, row) }
    }

    /// Takes a row away, if it is there.
    pub(crate) fn remove(&mut self, shelf: Shelf, key: &[u8]) -> Result<(), VaultError> {
        let mut table = self.transaction.open_table(ROWS).map_err(|error| failed(error.into()))?;
        let removed = table.remove(&place_of(shelf, key)[..]).map_err(|error| failed(error.into()))?;
        self.changed |= removed.is_some();
        Ok(())
    }

    /// The rows of a shelf whose keys begin like this, in the order of their keys.
    pub(crate) fn scan<T: DeserializeOwned>(
        &self,
        shelf: Shelf,
        beginning: &[u8],
    ) -> Result<Vec<(Vec<u8>, T)>, VaultError> {
        let table = self.transaction.open_table(ROWS).map_err(|error| failed(error.into()))?;
        let from = place_of(shelf, beginning);
        let rows = table.range::<&[u8]>(&from[..]..).map_err(|error| failed(error.into()))?;
        let mut found = vec![];
        for row in rows {
            let (place, sealed) = row.map_err(|error| failed(error.into()))?;
            if !place.value().starts_with(&from) {
                break;
            }
            found.push((place.value()[1..].to_vec(), self.open(place.value(), sealed.value())?));
        }
        Ok(found)
    }

    /// The first row of a shelf.
    pub(crate) fn first<T: DeserializeOwned>(&self, shelf: Shelf) -> Result<Option<(Vec<u8>, T)>, VaultError> {
        let table = self.transaction.open_table(ROWS).map_err(|error| failed(error.into()))?;
        let mut rows = table.range::<&[u8]>(&[shelf as u8][..]..).map_err(|error| failed(error.into()))?;
        let first = rows.next().transpose().map_err(|error| failed(error.into()))?;
        let Some((place, sealed)) = first else { return Ok(None) };
        let Some(key) = place.value().strip_prefix(&[shelf as u8]) else { return Ok(None) };
        Ok(Some((key.to_vec(), self.open(place.value(), sealed.value())?)))
    }

    /// The keys of a shelf that begin like this, in order.
    pub(crate) fn keys(&self, shelf: Shelf, beginning: &[u8]) -> Result<Vec<Vec<u8>>, VaultError> {
        let table = self.transaction.open_table(ROWS).map_err(|error| failed(error.into()))?;
        let from = place_of(shelf, beginning);
        let rows = table.range::<&[u8]>(&from[..]..).map_err(|error| failed(error.into()))?;
        let mut found = vec![];
        for row in rows {
            let (place, _) = row.map_err(|error| failed(error.into()))?;
            if !place.value().starts_with(&from) {
                break;
            }
            self.vault.count();
            found.push(place.value()[1..].to_vec());
        }
        Ok(found)
    }

    /// See [`Vault::name`].
    pub(crate) fn name(&self, shelf: Shelf, parts: &[&[u8]]) -> [u8; 16] {
        self.vault.name(shelf, parts)
    }

    /// Keeps all of it: it is on disk afterwards.
    pub(crate) fn keep(self) -> Result<(), VaultError> {
        if !self.changed {
            return self.transaction.abort().map_err(|error| failed(error.into()));
        }
        self.transaction.commit().map_err(|error| failed(error.into()))
    }

    fn open<T: DeserializeOwned>(&self, place: &[u8], sealed: &[u8]) -> Result<T, VaultError> {
        self.vault.count();
        let text = self.vault.key.open(place, sealed).map_err(|_| self.vault.damaged())?;
        postcard::from_bytes(&text).map_err(|_| self.vault.damaged())
    }
}

fn place_of(shelf: Shelf, key: &[u8]) -> Vec<u8> {
    [&[shelf as u8], key].concat()
}

/// Keeps others from the vault in this directory, which is made where there is none, until dropped.
///
/// # Errors
/// [`VaultError::InUse`], or what is wrong with the directory.
pub fn hold(directory: &Path) -> Result<DataLock, VaultError> {
    let (_, lock) = DataDir::open(directory)?;
    lock.ok_or_else(|| VaultError::InUse(directory.display().to_string()))
}

fn open_database(place: &Place) -> Result<(Database, Option<DataLock>), VaultError> {
    match place {
        Place::Directory(path) => {
            let (directory, lock) = DataDir::open(path)?;
            let lock = lock.ok_or_else(|| VaultError::InUse(place.to_string()))?;
            Ok((open_file(&directory.join(FILE), place)?, Some(lock)))
        }
        Place::Memory(memory) => Ok((open_with(memory.file(), place)?, None)),
    }
}

/// Opens a file of this place, or makes it.
fn open_file(path: &Path, place: &Place) -> Result<Database, VaultError> {
    let file = file::open_or_create_private(path).map_err(|error| failed(redb::Error::Io(error)))?;
    let metadata = fs::metadata(path).map_err(|error| failed(redb::Error::Io(error)))?;
    file::check_mode(path, &metadata).map_err(DataDirError::from)?;
    file::sync_name(path).map_err(|error| failed(redb::Error::Io(error)))?;
    open_with(FileBackend::new(file).map_err(|error| failed(error.into()))?, place)
}

fn open_with(backend: impl StorageBackend, place: &Place) -> Result<Database, VaultError> {
    let mut builder = Database::builder();
    builder.set_cache_size(VAULT_CACHE);
    builder.create_with_backend(backend).map_err(|error| match redb::Error::from(error) {
        redb::Error::DatabaseAlreadyOpen => VaultError::InUse(place.to_string()),
        redb::Error::Corrupted(_) | redb::Error::RepairAborted | redb::Error::UpgradeRequired(_) => {
            VaultError::Damaged(place.to_string())
        }
        redb::Error::Io(cause) if cause.kind() == io::ErrorKind::InvalidData => VaultError::Damaged(place.to_string()),
        error => failed(error),
    })
}

fn read_head(database: &Database, row: u8) -> Result<Option<Vec<u8>>, VaultError> {
    let reading = database.begin_read().map_err(|error| failed(error.into()))?;
    match reading.open_table(HEAD) {
        Ok(table) => Ok(table.get(row).map_err(|error| failed(error.into()))?.map(|row| row.value().to_vec())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(failed(error.into())),
    }
}

fn write_lock(database: &Database, row: &[u8]) -> Result<(), VaultError> {
    let writing = database.begin_write().map_err(|error| failed(error.into()))?;
    writing.open_table(ROWS).map_err(|error| failed(error.into()))?;
    let mut head = writing.open_table(HEAD).map_err(|error| failed(error.into()))?;
    head.insert(LOCK, row).map_err(|error| failed(error.into()))?;
    drop(head);
    writing.commit().map_err(|error| failed(error.into()))
}

fn failed(error: redb::Error) -> VaultError {
    match error {
        redb::Error::Io(cause) if cause.kind() == io::ErrorKind::StorageFull => VaultError::Full,
        error => VaultError::Unusable(Box::new(error)),
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Memory(_) => f.write_str("memory"),
        }
    }
}

impl Place {
    /// The directory of this path.
    pub fn directory(path: &Path) -> Self {
        Self::Directory(path.to_owned())
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.place)
    }
}

const FILE: &str = "letters.redb";
const LOCK: u8 = 1;
const NAMES: u8 = 2;
const HEAD: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("head");
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const NAMES_LABEL: &[u8] = b"trefoil/1 vault names";

#[cfg(test)]
mod tests;
