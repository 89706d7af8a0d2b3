//! Disk: a mailbox's file, opened, and opened again after it could not be written.
//!
//! Specification: docs/operator.md, "The data directory". A file that is damaged is set aside for a person to look at,
//! with a warning, and another one is made; one that cannot be read or written is left as it is.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use redb::{
    Database,
    backends::{FileBackend, InMemoryBackend},
};
use tracing::{error, warn};
use trefoil_protocol::limits::MAILBOX_CACHE;

use super::{Terms, ledger::Ledger};
use crate::file;

/// Where a mailbox is kept.
#[derive(Debug)]
pub(super) struct Disk {
    place: Place,
    /// None while it cannot be used.
    database: Mutex<Option<Arc<Database>>>,
    broken: AtomicBool,
}

/// What holds it.
#[derive(Clone, Debug)]
pub(super) enum Place {
    File(PathBuf),
    Memory,
    /// One that fails when a test wants it to.
    #[cfg(test)]
    Faulty(super::tests::faulty::Faulty),
}

/// Why a mailbox cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum MailboxOpenError {
    /// Another process has it, or this one has it already.
    #[error("the mailboxes in {0} are in use: is another relay running with this data directory?")]
    InUse(String),
    /// They broke down since the relay was started.
    #[error("the mailboxes in {0} broke down: restart the relay, and report this")]
    Broken(String),
    /// It cannot be read or written.
    #[error("cannot open the mailboxes in {place}: {cause}")]
    Unusable {
        /// Where.
        place: String,
        /// Why.
        cause: Box<redb::Error>,
    },
}

impl Disk {
    /// Opens it, and makes it where there is none. All of it is read.
    pub(super) fn open(place: Place, terms: &Terms) -> Result<Self, MailboxOpenError> {
        let disk = Self { place, database: Mutex::default(), broken: AtomicBool::new(false) };
        disk.reopen(terms)?;
        Ok(disk)
    }

    /// The database, if it can be used.
    pub(super) fn database(&self) -> Option<Arc<Database>> {
        self.lock().clone()
    }

    /// The database; opened again, if it has failed.
    pub(super) fn reopen(&self, terms: &Terms) -> Result<Arc<Database>, MailboxOpenError> {
        if let Some(database) = self.database() {
            return Ok(database);
        }
        if self.is_broken() {
            return Err(MailboxOpenError::Broken(self.place.to_string()));
        }
        let opened = self.place.open(terms).or_else(|error| match error {
            error if is_damage(&error) => {
                self.place.set_aside(&error);
                self.place.open(terms)
            }
            error => Err(error),
        });
        let opened = Arc::new(opened.map_err(|error| self.place.failed(error))?);
        *self.lock() = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// It has failed: it must be opened again.
    pub(super) fn close(&self) {
        let failed = self.lock().take();
        drop(failed); // without the lock: it still writes what it can
    }

    /// What keeps the file has panicked: nobody knows what it would do next, and it is not used again.
    pub(super) fn break_down(&self) {
        if !self.broken.swap(true, Relaxed) {
            error!("the mailboxes broke down, and are not offered any more: restart the relay, and report this");
        }
        // never dropped: that would panic, too, and who reads just now may be the last to have it
        std::mem::forget(self.lock().take());
    }

    /// Whether it has broken down.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Database>>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

impl Place {
    fn open(&self, terms: &Terms) -> Result<Database, redb::Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(MAILBOX_CACHE).set_check_integrity_on_open(true);
        let database = match self {
            Self::File(path) => {
                let file = file::open_or_create_private(path)?;
                file::sync_name(path)?;
                builder.create_with_backend(FileBackend::new(file)?)?
            }
            Self::Memory => builder.create_with_backend(InMemoryBackend::new())?,
            #[cfg(test)]
            Self::Faulty(faulty) => builder.create_with_backend(faulty.clone())?,
        };
        let transaction = database.begin_write()?;
        Ledger::open(&transaction, terms)?.close()?;
        transaction.commit()?;
        Ok(database)
    }

    fn set_aside(&self, error: &redb::Error) {
        let moved = match self {
            Self::File(path) => {
                let mut name = path.as_os_str().to_owned();
                name.push(".damaged");
                fs::rename(path, name)
            }
            Self::Memory => Ok(()),
            #[cfg(test)]
            Self::Faulty(faulty) => {
                faulty.set_aside();
                Ok(())
            }
        };
        warn!(
            %error,
            "the file of the mailboxes is damaged, and was set aside: the letters in it are lost here, and come again \
             from other relays or from whoever sent them"
        );
        if let Err(cause) = moved {
            warn!(%cause, "cannot set aside the damaged file {self}");
        }
    }

    fn failed(&self, error: redb::Error) -> MailboxOpenError {
        match error {
            redb::Error::DatabaseAlreadyOpen => MailboxOpenError::InUse(self.to_string()),
            error => MailboxOpenError::Unusable { place: self.to_string(), cause: Box::new(error) },
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory => f.write_str("memory"),
            #[cfg(test)]
            Self::Faulty(_) => f.write_str("a test's memory"),
        }
    }
}

/// Whether what is there is no whole file of ours, so that another try would find the same.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(cause) => matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
        redb::Error::Corrupted(_) | redb::Error::RepairAborted => true,
        _ => false, // also what another version of this program made: that one can still read it
    }
}
