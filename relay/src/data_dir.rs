//! A data directory: private to its user, held by one process at a time, its files whole.
//!
//! Used for a relay's keys (`state.rs`) and for what a client keeps. The directory has mode 0700, its files 0600; the
//! file `lock` in it is locked while a process uses it. This file never looks at what the others hold.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::file::{self, Access, NotPrivate};

/// A data directory that was looked at, and found to be ours alone.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    user: u32,
}

/// Holds a data directory against other processes; given back when dropped.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why a data directory cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made.
    #[error("cannot make the data directory {}: {cause}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is something else.
    #[error("{} is not a directory: choose another data directory", .0.display())]
    NotDirectory(PathBuf),
    /// Others can read it, or own it.
    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),
    /// Nothing can be written there.
    #[error("cannot write in {}: {cause}; the data directory must belong to the user that runs this", path.display())]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file in it cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl DataDir {
    /// Opens a data directory, and makes it where there is none. The lock is `None` while another process has it.
    ///
    /// # Errors
    /// [`DataDirError`]; nothing that is there is changed.
    pub fn open(path: &Path) -> Result<(Self, Option<DataLock>), DataDirError> {
        let unwritable = |cause| DataDirError::Unwritable { path: path.to_owned(), cause };
        open_directory(path)?;
        let lock = DataLock::take(path).map_err(unwritable)?;
        let user = match &lock {
            Some(_) => file::own_user(path).map_err(unwritable)?,
            None => file::user_of(&path.join(LOCK)).map_err(unwritable)?, // a probe could meet the other's
        };
        let metadata = fs::metadata(path).map_err(unwritable)?;
        file::check_owner(path, &metadata, user)?;
        Ok((Self { path: path.to_owned(), user }, lock))
    }

    /// Where a file of this name is, or would be.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What a file holds, `most` bytes of it at most; `None` if there is no such file.
    ///
    /// # Errors
    /// [`DataDirError::Read`]; [`DataDirError::NotPrivate`] for one that others can reach.
    pub fn read(&self, name: &str, most: usize) -> Result<Option<Zeroizing<Vec<u8>>>, DataDirError> {
        let path = self.join(name);
        let failed = |cause| DataDirError::Read { path: path.clone(), cause };
        let mut opened = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let metadata = opened.metadata().map_err(failed)?;
        file::check_mode(&path, &metadata)?;
        file::check_owner(&path, &metadata, self.user)?;
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX).saturating_add(1).min(most);
        let mut bytes = Zeroizing::new(vec![0; length]); // of fixed size: growing would leave copies of keys behind
        let read = read_up_to(&mut opened, &mut bytes).map_err(failed)?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    /// Writes a file: after a crash there is the old one or the new one.
    ///
    /// # Errors
    /// [`DataDirError::Unwritable`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        file::write_atomic(&self.join(name), bytes, Access::Private)
            .map_err(|cause| DataDirError::Unwritable { path: self.path.clone(), cause })
    }

    /// Puts a file out of the way, and says where it is now; one that was put there before is gone.
    ///
    /// # Errors
    /// [`DataDirError::Unwritable`].
    pub fn set_aside(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let aside = self.join(&format!("{name}.damaged"));
        fs::rename(self.join(name), &aside)
            .map_err(|cause| DataDirError::Unwritable { path: self.path.clone(), cause })?;
        Ok(aside)
    }
}

fn open_directory(path: &Path) -> Result<(), DataDirError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            file::create_private_directory(path).and_then(|()| fs::metadata(path))
        }
        found => found,
    };
    let metadata = metadata.map_err(|cause| DataDirError::Create { path: path.to_owned(), cause })?;
    if !metadata.is_dir() {
        return Err(DataDirError::NotDirectory(path.to_owned()));
    }
    Ok(file::check_mode(path, &metadata)?)
}

impl DataLock {
    fn take(directory: &Path) -> io::Result<Option<Self>> {
        let file = file::open_or_create_private(&directory.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(cause)) => Err(cause),
        }
    }
}

fn read_up_to(file: &mut File, mut space: &mut [u8]) -> io::Result<usize> {
    let whole = space.len();
    while !space.is_empty() {
        match file.read(space)? {
            0 => break,
            read => space = &mut space[read..],
        }
    }
    Ok(whole - space.len())
}

const LOCK: &str = "lock";

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_second_to_come_reads_what_there_is_and_has_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let (first, lock) = DataDir::open(&path).unwrap();
        assert!(lock.is_some());
        first.write("words", b"abc").unwrap();
        let (second, none) = DataDir::open(&path).unwrap();
        assert!(none.is_none());
        assert_eq!(second.read("words", 100).unwrap().unwrap()[..], *b"abc");
        assert_eq!(second.read("words", 2).unwrap().unwrap()[..], *b"ab");
        assert!(second.read("others", 100).unwrap().is_none());
        drop(lock);
        assert!(DataDir::open(&path).unwrap().1.is_some());
    }

    #[test]
    fn what_is_set_aside_is_out_of_the_way_and_still_there() {
        let dir = tempfile::tempdir().unwrap();
        let (data, _lock) = DataDir::open(&dir.path().join("data")).unwrap();
        for words in [b"one", b"two"] {
            data.write("words", words).unwrap();
            let aside = data.set_aside("words").unwrap();
            assert_eq!(fs::read(aside).unwrap(), words);
            assert!(data.read("words", 100).unwrap().is_none());
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_command_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        let (data, _lock) = DataDir::open(&dir.path().join("data")).unwrap();
        data.write("words", b"abc").unwrap();
        fs::set_permissions(data.join("words"), fs::Permissions::from_mode(0o644)).unwrap();
        let words = data.read("words", 100).unwrap_err().to_string();
        assert!(words.contains(&format!("chmod 600 {}", data.join("words").display())), "{words}");
    }
}
