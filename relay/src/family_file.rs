//! Family file: the key that all relays of one operator share.
//!
//! Specification: docs/operator.md, "Several relays". One line in a file of mode 0600, which the operator copies to
//! each of the machines:
//!
//! ```text
//! trefoil-family-1 <secret, 64 hex digits> <public key, 64 hex digits>
//! ```
//!
//! The public half shows damage. A key that is there is never replaced: its relays would not be of one family any more.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use rand::CryptoRng;
use trefoil_protocol::family::{FamilyId, FamilySecret};
use zeroize::Zeroizing;

use crate::{
    file::{self, Access, NotPrivate},
    state::{MAX_KEY_FILE, decode_key, encode_key},
};

/// Why there is no family key, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// There is one already.
    #[error("{} is there already, and stays as it is: to make another family, choose another file", .0.display())]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("cannot write the family key {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It cannot be read.
    #[error(
        "cannot read the family key {}: {cause}; copy it from another of your relays, or make it with \
         `trefoil-relay --make-family {}`", path.display(), path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Others can read it.
    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),
    /// It is something else.
    #[error("{} is no family key, or damaged: copy it anew from another of your relays", .0.display())]
    Damaged(PathBuf),
}

/// Makes a new family, in a new file.
///
/// # Errors
/// [`FamilyError::Exists`] and [`FamilyError::Write`]; nothing is changed then.
pub fn make(path: &Path, rng: &mut impl CryptoRng) -> Result<FamilyId, FamilyError> {
    let failed = |cause| FamilyError::Write { path: path.to_owned(), cause };
    if path.try_exists().map_err(failed)? {
        return Err(FamilyError::Exists(path.to_owned()));
    }
    let family = FamilySecret::generate(rng);
    file::write_atomic(path, encode(&family).as_bytes(), Access::Private).map_err(failed)?;
    Ok(family.id())
}

/// The family of a file.
///
/// # Errors
/// [`FamilyError`] says what to do.
pub fn load(path: &Path) -> Result<FamilySecret, FamilyError> {
    let failed = |cause| FamilyError::Read { path: path.to_owned(), cause };
    let file = File::open(path).map_err(failed)?;
    file::check_mode(path, &file.metadata().map_err(failed)?)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE)); // of fixed size: growing would leave copies
    file.take(MAX_KEY_FILE as u64).read_to_end(&mut bytes).map_err(failed)?;
    str::from_utf8(&bytes).ok().and_then(decode).ok_or_else(|| FamilyError::Damaged(path.to_owned()))
}

fn encode(family: &FamilySecret) -> Zeroizing<String> {
    encode_key(LABEL, &family.to_bytes(), &HEXLOWER.encode(family.id().as_bytes()))
}

fn decode(text: &str) -> Option<FamilySecret> {
    let (secret, id) = decode_key(LABEL, text)?;
    let family = FamilySecret::from_bytes(&secret);
    (HEXLOWER.encode(family.id().as_bytes()) == id).then_some(family)
}

const LABEL: &str = "trefoil-family-1";

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rand::{SeedableRng, rngs::StdRng};
    use tempfile::TempDir;

    use super::*;

    fn made() -> (TempDir, PathBuf, FamilyId) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("family.key");
        let id = make(&path, &mut StdRng::seed_from_u64(1)).unwrap();
        (directory, path, id)
    }

    #[test]
    fn a_family_is_made_once_for_its_owner_alone_and_found_again() {
        let (directory, path, id) = made();
        assert_eq!(load(&path).unwrap().id(), id);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let again = make(&path, &mut StdRng::seed_from_u64(2)).unwrap_err();
        assert!(matches!(&again, FamilyError::Exists(there) if *there == path), "{again}");
        assert_eq!(load(&path).unwrap().id(), id);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
        let (_directory, path, _) = made();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let words = load(&path).unwrap_err().to_string();
        assert!(words.contains(&format!("chmod 600 {}", path.display())), "{words}");
    }

    #[test]
    fn a_key_cut_anywhere_or_changed_is_refused_and_left_as_it_is() {
        let (_directory, path, _) = made();
        let whole = fs::read(&path).unwrap();
        let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
        let changed = (0..whole.len()).map(|at| {
            let mut wrong = whole.clone();
            wrong[at] = if wrong[at] == b'b' { b'c' } else { b'b' };
            wrong
        });
        for wrong in cut.chain(changed).chain([[&whole[..], b"\n"].concat(), vec![0xff; 9000]]) {
            fs::write(&path, &wrong).unwrap();
            assert!(matches!(load(&path), Err(FamilyError::Damaged(named)) if named == path));
            assert_eq!(fs::read(&path).unwrap(), wrong);
        }
    }

    #[test]
    fn a_key_that_is_not_there_is_told_with_how_to_make_it() {
        let nowhere = Path::new("/nowhere/family.key");
        let words = load(nowhere).unwrap_err().to_string();
        assert!(words.contains("--make-family /nowhere/family.key"), "{words}");
        assert!(matches!(make(nowhere, &mut StdRng::seed_from_u64(1)), Err(FamilyError::Write { .. })));
    }
}
