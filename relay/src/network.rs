//! Network file: a network's parameters and its bootstrap relays, as TOML.
//!
//! Specification: docs/operator.md, "The network file". It has a `[network]` table
//! ([`NetworkParams`]) and a `[[relay]]` table for each relay ([`RelayEntry`]). Unknown keys are errors.

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use trefoil_protocol::{
    entry::RelayEntry,
    params::{BadDirectoryParams, NetworkParams},
};

use crate::file::{self, Access};

/// A network: what its nodes agree on, and the relays through which one gets to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    /// What its nodes agree on.
    #[serde(rename = "network")]
    pub params: NetworkParams,
    /// Its bootstrap relays; they are no part of the network's id.
    #[serde(rename = "relay", default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<RelayEntry>,
}

/// Why a network file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkFileError {
    /// It cannot be read.
    #[error("cannot read the network file {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the network file {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is not a network file; the cause names line and key.
    #[error("{}: {}", path.display(), cause.to_string().trim_end())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: Box<toml::de::Error>,
    },
    /// Its parameters or relays cannot be those of one network.
    #[error("{}: {cause}", path.display())]
    Network {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: BadNetwork,
    },
}

/// Why parameters and relays cannot be those of one network. Relays are counted from 1, as `[[relay]]` tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// No network can have these parameters.
    #[error(transparent)]
    Directory(#[from] BadDirectoryParams),
    /// Two have one id.
    #[error("relays {0} and {1} have the same id: remove one of them")]
    SameId(usize, usize),
    /// Two have one address.
    #[error("relays {0} and {1} have the same address {2}: remove one of them")]
    SameAddress(usize, usize, SocketAddr),
    /// One has an address that nobody outside can mean.
    #[error(
        "relay {0} has the address {1}, which is private or special: \
         give its public one, or set `allow_loopback = true` in a network of your own"
    )]
    Special(usize, SocketAddr),
}

impl NetworkFile {
    /// Reads a network file.
    ///
    /// # Errors
    /// [`NetworkFileError`] names the file, and the line and key or the relay that is wrong.
    pub fn load(path: &Path) -> Result<Self, NetworkFileError> {
        let owned = || path.to_owned();
        let text = fs::read_to_string(path).map_err(|cause| NetworkFileError::Read { path: owned(), cause })?;
        let file: Self =
            toml::from_str(&text).map_err(|cause| NetworkFileError::Parse { path: owned(), cause: Box::new(cause) })?;
        file.check().map_err(|cause| NetworkFileError::Network { path: owned(), cause })?;
        Ok(file)
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// [`NetworkFileError::Write`]; [`NetworkFileError::Network`] for what [`Self::load`] would refuse.
    pub fn save(&self, path: &Path) -> Result<(), NetworkFileError> {
        let owned = || path.to_owned();
        self.check().map_err(|cause| NetworkFileError::Network { path: owned(), cause })?;
        file::write_atomic(path, self.to_toml().as_bytes(), Access::Public)
            .map_err(|cause| NetworkFileError::Write { path: owned(), cause })
    }

    /// The file's text.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("texts, numbers and flags always have a TOML form")
    }

    /// Whether these parameters and relays can be those of one network.
    ///
    /// # Errors
    /// [`BadNetwork`]: parameters that no network can have, an id or an address twice, or an address that the parameters do not allow.
    pub fn check(&self) -> Result<(), BadNetwork> {
        self.params.directory.check()?;
        let (mut ids, mut addresses) = (HashMap::new(), HashMap::new());
        for (number, relay) in (1..).zip(&self.relays) {
            if let Some(before) = ids.insert(relay.id, number) {
                return Err(BadNetwork::SameId(before, number));
            }
            for address in relay.addresses.iter() {
                if !self.params.allows_relay_at(address.ip()) {
                    return Err(BadNetwork::Special(number, address));
                }
                if let Some(before) = addresses.insert(address, number) {
                    return Err(BadNetwork::SameAddress(before, number, address));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};
    use trefoil_protocol::{
        entry::Weight,
        identity::{OnionSecret, RelaySecret},
    };

    use super::*;

    fn relay(seed: u64, address: &str) -> RelayEntry {
        let mut rng = StdRng::seed_from_u64(seed);
        RelayEntry {
            id: RelaySecret::generate(&mut rng).id(),
            onion_key: OnionSecret::generate(&mut rng).public(),
            addresses: address.parse().unwrap(),
            weight: Weight::One,
            exit: "".parse().unwrap(),
        }
    }

    fn testnet() -> NetworkFile {
        let exit = RelayEntry {
            weight: Weight::Two,
            exit: "accept 127.0.0.0/8:*; reject *:25; accept *:*".parse().unwrap(),
            ..relay(2, "127.2.0.1:9001,[::1]:9001")
        };
        let params = NetworkParams::testnet("box".parse().unwrap());
        NetworkFile { params, relays: vec![relay(1, "127.1.0.1:9001"), exit] }
    }

    /// What loading this text says.
    fn refusal(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network.toml");
        fs::write(&path, text).unwrap();
        let words = NetworkFile::load(&path).unwrap_err().to_string();
        assert!(words.contains(path.to_str().unwrap()), "{words}");
        words
    }

    #[test]
    fn a_network_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network.toml");
        for network in [testnet(), NetworkFile { params: NetworkParams::main(), relays: Vec::new() }] {
            network.save(&path).unwrap();
            assert_eq!(NetworkFile::load(&path).unwrap(), network);
        }
    }

    #[test]
    fn the_file_is_plain_to_read() {
        let text = testnet().to_toml();
        let lines = ["[network]", "name = \"box\"", "allow_loopback = true", "[[relay]]", "weight = 2"];
        lines.iter().for_each(|line| assert!(text.lines().any(|l| l == *line), "{line} in {text}"));
        assert!(text.contains("address = \"127.2.0.1:9001,[::1]:9001\""), "{text}");
        assert!(text.contains("\"accept 127.0.0.0/8:*\""), "{text}");
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named_with_their_line() {
        let text = testnet().to_toml();
        let line = |needle: &str, text: &str| 1 + text.lines().position(|line| line.contains(needle)).unwrap();
        let cases = [
            (text.replace("name =", "colour = 1\nname ="), "colour"),
            (text.replace("weight = 2", "wait = 2"), "wait"),
            (text.replace("weight = 2", "weight = 3"), "weight = 3"),
            (text.replace("127.1.0.1:9001", "127.1.0.1"), "\"127.1.0.1\""),
            (text.replace("name = \"box\"", "name = \"My Box\""), "My Box"),
            (text.replace("reject *:25", "refuse *:25"), "refuse"),
            (text.replace("[[relay]]", "[[relays]]"), "relays"),
            (text.replace("allow_loopback = true", "allow_loopback = 1"), "allow_loopback"),
        ];
        for (bad, needle) in cases {
            let words = refusal(&bad);
            assert!(words.contains(&format!("line {}", line(needle, &bad))), "{words}");
        }
        assert!(refusal("").contains("network"));
    }

    #[test]
    fn relays_that_collide_are_refused() {
        let mut network = testnet();
        network.relays.push(RelayEntry { addresses: "127.3.0.1:1".parse().unwrap(), ..network.relays[0].clone() });
        assert_eq!(network.check(), Err(BadNetwork::SameId(1, 3)));
        assert!(refusal(&network.to_toml()).contains("relays 1 and 3 have the same id"));
        network.relays[2] = relay(3, "[::1]:9001");
        assert_eq!(network.check(), Err(BadNetwork::SameAddress(2, 3, "[::1]:9001".parse().unwrap())));
        network.relays[2] = relay(3, "[::1]:9002");
        assert_eq!(network.check(), Ok(()));
    }

    #[test]
    fn special_addresses_are_for_networks_that_allow_them() {
        let mut network = testnet();
        network.params.allow_loopback = false;
        assert!(refusal(&network.to_toml()).contains("allow_loopback"));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(network.save(&dir.path().join("n.toml")), Err(NetworkFileError::Network { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_file_or_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/network.toml");
        assert!(matches!(NetworkFile::load(&path), Err(NetworkFileError::Read { .. })));
        assert!(testnet().save(&path).unwrap_err().to_string().contains("no/network.toml"));
    }
}
