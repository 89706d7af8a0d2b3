//! Files that are whole after a crash, and files that are nobody else's to read.
//!
//! Used for data directories (`data_dir.rs`) and network files (`network.rs`). This file never looks at what it writes.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner only: mode 0600.
    Private,
    /// Anyone: mode 0644.
    Public,
}

/// Why a path is not private enough for keys, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPrivate {
    /// Its mode lets others in.
    #[error("other users can reach {} (mode {mode:04o}): run `chmod {wanted:o} {}`", path.display(), path.display())]
    Loose {
        /// The directory or file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode that it should have.
        wanted: u32,
    },
    /// Somebody else owns it.
    #[error("{} belongs to another user: run as that user, or `chown` it to the one that you run as", .0.display())]
    Foreign(PathBuf),
}

/// Writes a file so that after a crash there is the old one or the new one, never a part.
///
/// # Errors
/// Those of the file system; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let temporary = temporary(path);
    let written = write_new(&temporary, bytes, access).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // what failed first is the news
    }
    written?;
    sync_name(path)
}

/// Opens a file for reading and writing, made with mode 0600 if there is none.
///
/// # Errors
/// Those of the file system.
pub fn open_or_create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    platform::set_mode(options.read(true).write(true).create(true).truncate(false), Access::Private).open(path)
}

/// Has the name of a file that was made survive a crash of the machine.
///
/// # Errors
/// Those of the file system.
pub fn sync_name(path: &Path) -> io::Result<()> {
    platform::sync_directory(directory(path))
}

/// Makes a directory with mode 0700 where there is none; parents too.
///
/// # Errors
/// Those of the file system.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    platform::set_directory_mode(builder.recursive(true)).create(path)
}

/// Which user new files in `directory` belong to: the one that this process runs as. Makes a file, and removes it.
///
/// # Errors
/// Those of the file system; most of all, when the directory cannot be written.
pub fn own_user(directory: &Path) -> io::Result<u32> {
    let probe = directory.join(".probe");
    write_new(&probe, b"", Access::Private)?;
    let user = user_of(&probe);
    fs::remove_file(&probe)?;
    user
}

/// Which user a file or directory belongs to.
///
/// # Errors
/// Those of the file system.
pub fn user_of(path: &Path) -> io::Result<u32> {
    fs::metadata(path).map(|metadata| platform::user(&metadata))
}

/// Checks that only its owner can reach the directory or file that this metadata is of.
///
/// # Errors
/// [`NotPrivate::Loose`].
pub fn check_mode(path: &Path, metadata: &Metadata) -> Result<(), NotPrivate> {
    let mode = platform::mode(metadata);
    let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
    if mode & 0o077 == 0 { Ok(()) } else { Err(NotPrivate::Loose { path: path.to_owned(), mode, wanted }) }
}

/// Checks that `user` ([`own_user`]) owns the directory or file that this metadata is of.
///
/// # Errors
/// [`NotPrivate::Foreign`].
pub fn check_owner(path: &Path, metadata: &Metadata, user: u32) -> Result<(), NotPrivate> {
    if platform::user(metadata) == user { Ok(()) } else { Err(NotPrivate::Foreign(path.to_owned())) }
}

fn write_new(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // there is none, or one that a crash has left
    }
    let mut options = OpenOptions::new();
    let mut file = platform::set_mode(options.write(true).create_new(true), access).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
mod platform {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};

    use super::{Access, DirBuilder, File, Metadata, OpenOptions, Path, io};

    pub(super) fn set_mode(options: &mut OpenOptions, access: Access) -> &mut OpenOptions {
        options.mode(match access {
            Access::Private => 0o600,
            Access::Public => 0o644,
        })
    }

    pub(super) fn set_directory_mode(builder: &mut DirBuilder) -> &mut DirBuilder {
        builder.mode(0o700)
    }

    pub(super) fn mode(metadata: &Metadata) -> u32 {
        metadata.mode() & 0o7777
    }

    pub(super) fn user(metadata: &Metadata) -> u32 {
        metadata.uid()
    }

    pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// Elsewhere a user's own directories are private as they are made, and there are no modes to look at.
#[cfg(not(unix))]
mod platform {
    use super::{Access, DirBuilder, Metadata, OpenOptions, Path, io};

    pub(super) fn set_mode(options: &mut OpenOptions, _access: Access) -> &mut OpenOptions {
        options
    }

    pub(super) fn set_directory_mode(builder: &mut DirBuilder) -> &mut DirBuilder {
        builder
    }

    pub(super) fn mode(_metadata: &Metadata) -> u32 {
        0o700
    }

    pub(super) fn user(_metadata: &Metadata) -> u32 {
        0
    }

    pub(super) fn sync_directory(_path: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_written_file_replaces_the_old_one_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        fs::write(dir.path().join("keys.new"), "left by a crash").unwrap();
        for (bytes, access, wanted) in [("one", Access::Public, 0o644), ("two", Access::Private, 0o600)] {
            write_atomic(&path, bytes.as_bytes(), access).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), bytes);
            assert_eq!(mode(&path) & !0o644, 0);
            assert_eq!(mode(&path) & 0o600, wanted & 0o600);
        }
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write_atomic(&path, b"x", Access::Private).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_can_reach_or_own_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = |mode| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            fs::metadata(dir.path()).unwrap()
        };
        assert_eq!(check_mode(dir.path(), &metadata(0o700)), Ok(()));
        for loose in [0o701, 0o710, 0o740, 0o755, 0o777] {
            let words = check_mode(dir.path(), &metadata(loose)).unwrap_err().to_string();
            assert!(words.contains(&format!("chmod 700 {}", dir.path().display())), "{words}");
        }
        let user = own_user(dir.path()).unwrap();
        assert_eq!(check_owner(dir.path(), &metadata(0o700), user), Ok(()));
        assert!(check_owner(dir.path(), &metadata(0o700), user + 1).is_err());
    }
}
