//! Bootstrap file: an invite on disk, which names relays to get to know the network through.
//!
//! Specification: docs/protocol.md, "Invites". What is read is checked against the network whole: one wrong line, and
//! nothing of it is used.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use trefoil_protocol::{
    invite::{Invite, InviteError},
    limits::MAX_INVITE,
    params::NetworkParams,
    uri::RelayUri,
};

/// Why a bootstrap file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapFileError {
    /// It cannot be read, or is no text.
    #[error("cannot read the bootstrap file {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is no invite to this network; the cause names the line.
    #[error("{}: {cause}", path.display())]
    Invite {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: InviteError,
    },
}

/// The relays that a bootstrap file names, all of them good for this network.
///
/// # Errors
/// [`BootstrapFileError`] names the file and the line.
pub fn load(path: &Path, params: &NetworkParams) -> Result<Vec<RelayUri>, BootstrapFileError> {
    let text = read(path).map_err(|cause| BootstrapFileError::Read { path: path.to_owned(), cause })?;
    let invite = text.parse::<Invite>().and_then(|invite| invite.check(params).map(|()| invite));
    let invite = invite.map_err(|cause| BootstrapFileError::Invite { path: path.to_owned(), cause })?;
    Ok(invite.relays().copied().collect())
}

/// At most one byte more than an invite has.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_INVITE as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const RELAY: &str = "trefoil-relay:aoqqpp7tzyil4hlq3umoos6atft6jvrqtosq2xy53sdgiesvgg4plfau@127.1.0.1:9001\
                         ?onion=r5amllnwr4swesxfwikou5t2n3eu3au5hv5v4gwrxjxt4ijyfbpqoqnz";

    /// What becomes of a file of these bytes.
    fn loaded(bytes: &[u8]) -> Result<Vec<RelayUri>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("friends");
        fs::write(&path, bytes).unwrap();
        let loaded = load(&path, &NetworkParams::testnet("test".parse().unwrap()));
        loaded.map_err(|error| {
            let words = error.to_string();
            assert!(words.contains(path.to_str().unwrap()), "{words}");
            words
        })
    }

    #[test]
    fn relays_are_read_from_a_file() {
        assert_eq!(loaded(format!("# hers\n{RELAY}\n").as_bytes()), Ok(vec![RELAY.parse().unwrap()]));
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_line() {
        let main = format!("network {}\n{RELAY}", NetworkParams::main().id());
        for (text, words) in [
            (format!("{RELAY}\n\ntrefoil-relay:x"), "line 3: expected trefoil-relay:"),
            (main, "line 1: its relays are of the network 717dbecc, and the network file is of"),
            (String::new(), "names no relay"),
            ("#".repeat(MAX_INVITE + 100), "more than 65536 bytes"),
        ] {
            let refused = loaded(text.as_bytes()).unwrap_err();
            assert!(refused.contains(words), "{words:?} is not in: {refused}");
        }
        assert!(loaded(b"\xff").unwrap_err().contains("cannot read"));
        assert!(matches!(load(Path::new("/nowhere"), &NetworkParams::main()), Err(BootstrapFileError::Read { .. })));
    }
}
