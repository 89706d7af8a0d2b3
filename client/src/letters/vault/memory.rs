//! A disk in memory: for tests and simulations, which run the code that people's files are kept with.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// See the file's head. All clones are one disk, which has one file.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<MemoryFile>>);

/// A file. All clones are one, whether it is still the disk's or not.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryFile(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// Another disk that holds the same, as it is now.
    pub fn copy(&self) -> Self {
        let bytes = self.file().lock().clone();
        Self(Arc::new(Mutex::new(MemoryFile(Arc::new(Mutex::new(bytes))))))
    }

    /// Whether these bytes stand anywhere on it: for tests of what a thief can read.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        self.file().lock().windows(bytes.len()).any(|window| window == bytes)
    }

    pub(super) fn file(&self) -> MemoryFile {
        self.lock().clone()
    }

    /// Has another file take the place of the one that was there.
    pub(super) fn replace(&self, file: MemoryFile) {
        *self.lock() = file;
    }

    fn lock(&self) -> MutexGuard<'_, MemoryFile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

impl MemoryFile {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

impl StorageBackend for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.lock();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = disk.get(start..).and_then(|rest| rest.get(..out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.lock().resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.lock();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let space = disk.get_mut(start..).and_then(|rest| rest.get_mut(..data.len()));
        space.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        Ok(())
    }
}
