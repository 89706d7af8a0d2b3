//! Work file: the proof of work of a relay's identity, found once and kept beside it.
//!
//! Specification: docs/operator.md, "The data directory". The file is no secret and can be made again, so one that is
//! damaged, or for another identity or network, is simply replaced.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use trefoil_protocol::{
    identity::RelayId,
    params::NetworkParams,
    work::{Search, Work},
};

use crate::file::{self, Access};

/// Where the work of one relay in one network is kept.
pub struct WorkFile<'a> {
    /// The file.
    pub path: PathBuf,
    /// The network that it is for.
    pub params: &'a NetworkParams,
    /// The relay that it is for.
    pub relay: RelayId,
}

impl<'a> WorkFile<'a> {
    /// In this data directory.
    pub fn in_directory(directory: &Path, params: &'a NetworkParams, relay: RelayId) -> Self {
        Self { path: directory.join("work"), params, relay }
    }

    /// The work in the file, if it is enough for this relay in this network; costs an Argon2id.
    pub fn load(&self) -> Option<Work> {
        let work = decode(&fs::read_to_string(&self.path).ok()?)?;
        let enough = work.has_hashcash(self.params, &self.relay) && work.has_memory_hard(self.params, &self.relay);
        enough.then_some(work)
    }

    /// Does the work and saves it: seconds of one core, for the public network. `go_on` is asked now and then; `None`
    /// once it says no.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn find(&self, go_on: impl Fn() -> bool) -> io::Result<Option<Work>> {
        let mut search = Search::new(self.params, self.relay);
        while go_on() {
            if let Some(work) = search.step(STEP) {
                file::write_atomic(&self.path, encode(&work).as_bytes(), Access::Private)?;
                return Ok(Some(work));
            }
        }
        Ok(None)
    }
}

fn encode(work: &Work) -> String {
    format!("{LABEL} {} {}\n", work.hashcash, work.argon2)
}

fn decode(text: &str) -> Option<Work> {
    let numbers = text.strip_prefix(LABEL)?.strip_prefix(' ')?.strip_suffix('\n')?;
    let (hashcash, argon2) = numbers.split_once(' ')?;
    Some(Work { hashcash: hashcash.parse().ok()?, argon2: argon2.parse().ok()? })
}

const LABEL: &str = "trefoil-relay-work-1";
/// Hashes between two questions whether to go on: at most half a second of memory-hard ones.
const STEP: u32 = 32;

#[cfg(test)]
mod tests {
    use trefoil_protocol::params::DirectoryParams;

    use super::*;

    const RELAY: RelayId = RelayId::from_bytes([1; 32]);

    fn params() -> NetworkParams {
        let params = NetworkParams::testnet("test".parse().unwrap());
        let directory = DirectoryParams { hashcash_bits: 12, ..params.directory };
        NetworkParams { directory, ..params }
    }

    #[test]
    fn work_is_done_once_and_found_again() {
        let (directory, params) = (tempfile::tempdir().unwrap(), params());
        let file = WorkFile::in_directory(directory.path(), &params, RELAY);
        assert_eq!(file.load(), None);
        let work = file.find(|| true).unwrap();
        assert!(work.is_some_and(|work| work.has_hashcash(&params, &RELAY)));
        assert_eq!(file.load(), work);
    }

    #[test]
    fn work_for_another_relay_or_damaged_is_not_used() {
        let (directory, params) = (tempfile::tempdir().unwrap(), params());
        let file = WorkFile::in_directory(directory.path(), &params, RELAY);
        file.find(|| true).unwrap();
        let other = WorkFile::in_directory(directory.path(), &params, RelayId::from_bytes([2; 32]));
        assert_eq!(other.load(), None);
        let text = fs::read_to_string(&file.path).unwrap();
        for length in 0..text.len() {
            fs::write(&file.path, &text[..length]).unwrap();
            assert_eq!(file.load(), None, "{length}");
        }
    }

    #[test]
    fn the_search_stops_when_it_is_told_to() {
        let (directory, params) = (tempfile::tempdir().unwrap(), NetworkParams::main());
        let file = WorkFile::in_directory(directory.path(), &params, RELAY);
        assert_eq!(file.find(|| false).unwrap(), None);
        assert!(!file.path.exists());
    }
}
