//! Renewal: all that is kept, written into a new file under a new store key.
//!
//! Specification: docs/architecture.md, "The client's letters". A database does not overwrite what is free in it, and one
//! key would open all that ever stood there: what was taken away, and earlier secrets. The new file is whole on disk
//! before it takes the old one's place, so that a crash leaves one or the other; the old one is overwritten, as far as
//! the system does that. It never looks into rows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::PoisonError,
};

use rand::Rng;
use redb::{Database, ReadableDatabase, ReadableTable};
use tracing::warn;
use trefoil_protocol::crypto::{KeptKey, Secret};
use trefoil_relay::file;

use super::{
    FILE, HEAD, LOCK, NAMES, NAMES_LABEL, Place, ROWS, Unlock, Vault, VaultError, failed,
    lock::{Lock, LockRow},
    memory::MemoryFile,
    open_file, open_with, read_head,
};

impl Vault {
    /// Writes all that is kept anew: nothing else can be read from then on, by whatever opens the vault.
    ///
    /// # Errors
    /// [`VaultError`], most of all where there is no room for both. All is as it was then.
    pub(crate) fn renew(&mut self) -> Result<(), VaultError> {
        let mut key = Secret::default();
        self.rng.get_mut().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut *key);
        let (database, old) = match &self.place {
            Place::Directory(directory) => self.renewed_file(directory, &key)?,
            Place::Memory(memory) => {
                let file = MemoryFile::default();
                let database = open_with(file.clone(), &self.place)?;
                self.copy(&database, &key)?;
                memory.replace(file);
                (database, None)
            }
        };
        self.database = database; // and the one before is closed
        self.key = KeptKey::new(&key);
        if let Some(Err(error)) = old.map(overwrite) {
            warn!(%error, "the file of letters that was replaced could not be overwritten"); // it is deleted all the same
        }
        Ok(())
    }

    /// Locks it in another way from now on: what opened it before opens nothing of it any more.
    ///
    /// # Errors
    /// [`VaultError`]; it is locked as before then.
    pub(crate) fn relock(&mut self, before: &Unlock<'_>, after: &Unlock<'_>) -> Result<(), VaultError> {
        let row = read_head(&self.database, LOCK)?.ok_or_else(|| self.damaged())?;
        LockRow::decode(&row, &self.place)?.open(before)?;
        let after = Lock::set(after, self.rng.get_mut().unwrap_or_else(PoisonError::into_inner))?;
        let before = std::mem::replace(&mut self.lock, after);
        let renewed = self.renew();
        if renewed.is_err() {
            self.lock = before;
        }
        renewed
    }

    /// The new file, in its place, and the one that was there.
    fn renewed_file(&self, directory: &Path, key: &Secret) -> Result<(Database, Option<File>), VaultError> {
        let (path, new) = (directory.join(FILE), directory.join(NEW));
        let unusable = |error| failed(redb::Error::Io(error));
        discard(&new).map_err(unusable)?; // a crash may have left one
        let old = OpenOptions::new().write(true).open(&path).ok();
        let made = open_file(&new, &self.place).and_then(|database| {
            self.copy(&database, key)?;
            fs::rename(&new, &path).map_err(unusable)?;
            Ok(database)
        });
        if made.is_err() {
            let _ = discard(&new); // what failed first is the news
        }
        let database = made?;
        if let Err(error) = file::sync_name(&path) {
            warn!(%error, "a crash may bring back the file of letters that was replaced: it is not overwritten");
            return Ok((database, None));
        }
        Ok((database, old))
    }

    fn copy(&self, to: &Database, key: &Secret) -> Result<(), VaultError> {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = self.lock.seal(key, &mut *rng);
        let key = KeptKey::new(key);
        let names = key.seal(NAMES_LABEL, &*self.names, &mut *rng);
        let reading = self.database.begin_read().map_err(|error| failed(error.into()))?;
        let from = reading.open_table(ROWS).map_err(|error| failed(error.into()))?;
        let writing = to.begin_write().map_err(|error| failed(error.into()))?;
        {
            let mut head = writing.open_table(HEAD).map_err(|error| failed(error.into()))?;
            head.insert(LOCK, &lock[..]).map_err(|error| failed(error.into()))?;
            head.insert(NAMES, &names[..]).map_err(|error| failed(error.into()))?;
            let mut rows = writing.open_table(ROWS).map_err(|error| failed(error.into()))?;
            for row in from.iter().map_err(|error| failed(error.into()))? {
                let (place, sealed) = row.map_err(|error| failed(error.into()))?;
                let text = self.key.open(place.value(), sealed.value()).map_err(|_| self.damaged())?;
                let sealed = key.seal(place.value(), &text, &mut *rng);
                rows.insert(place.value(), &sealed[..]).map_err(|error| failed(error.into()))?;
            }
        }
        writing.commit().map_err(|error| failed(error.into()))
    }
}

/// Overwrites a file and deletes it, if it is there.
fn discard(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => {
            overwrite(file)?;
            fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn overwrite(mut file: File) -> io::Result<()> {
    let length = file.metadata()?.len();
    io::copy(&mut io::Read::take(io::repeat(0), length), &mut file)?;
    file.flush()?;
    file.sync_data()
}

/// What the new file is called until it takes its place.
const NEW: &str = "letters.redb.new";
