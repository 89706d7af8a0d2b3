//! Network parameters: the rules on which all nodes of one network agree, and the network's id.
//!
//! Specification: docs/protocol.md, "Networks". The parameters are data; the code runs on any of them unchanged.
//! Sizes and bounds that are the same in every network are in `limits.rs`.

use std::{fmt, net::IpAddr, num::NonZeroU32, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::{
    crypto, ip,
    limits::{ARGON2_BITS_MAX, ARGON2_KIB, HASHCASH_BITS_MAX, LIFETIME_MAX, MAX_NETWORK_NAME},
};

/// What all nodes of a network agree on.
///
/// All of it enters the [`NetworkId`], so nodes that disagree never meet. A parameter that comes later goes to the
/// end. Bootstrap relays are deliberately no part of it: a changed list must not fork the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkParams {
    /// What people call the network.
    pub name: NetworkName,
    /// Relays may have loopback and private addresses. (Exit policies must name such targets in any network.)
    #[serde(default)]
    pub allow_loopback: bool,
    /// Paths may have several relays in one netgroup.
    #[serde(default)]
    pub allow_same_netgroup: bool,
    /// The rules of the directory.
    #[serde(default)]
    pub directory: DirectoryParams,
}

/// What all nodes of a network agree on about its directory: see docs/protocol.md, "Networks".
///
/// In a file, what is left out is as in [`NetworkParams::main`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DirectoryParams {
    /// Seconds of an epoch.
    pub epoch: NonZeroU32,
    /// A relay is usable in an epoch if it was there so many seconds before the epoch's start (`settling.rs`).
    pub settle: u32,
    /// Epochs that a record is valid for, at most; 1 to [`LIFETIME_MAX`].
    pub lifetime: u8,
    /// From this age on, in seconds, a relay is of class 1.
    pub grown: u32,
    /// From this age on, in seconds, a relay is of class 2.
    pub old: u32,
    /// Zero bits of a descriptor's hashcash; 0 for none. At most [`HASHCASH_BITS_MAX`].
    pub hashcash_bits: u8,
    /// KiB of memory of a descriptor's Argon2id; within [`ARGON2_KIB`].
    pub argon2_kib: u32,
    /// Zero bits of its result; with 0 there is no Argon2id at all. At most [`ARGON2_BITS_MAX`].
    pub argon2_bits: u8,
    /// Seconds between reconciliations with a random neighbour.
    pub reconcile: u32,
    /// Seconds until one neighbour is replaced by another.
    pub redraw: u32,
    /// A usable set smaller than this gives way to all relays that are known and were reached.
    pub min_usable: u16,
}

/// Directory parameters that no network can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDirectoryParams {
    /// No record would be valid, or for too long.
    #[error("directory: `lifetime` must be 1 to {LIFETIME_MAX} epochs")]
    Lifetime,
    /// The age classes are in the wrong order.
    #[error("directory: `old` must not be below `grown`")]
    Ages,
    /// Nobody could ever do the work, or check it.
    #[error(
        "directory: `hashcash_bits` must be at most {HASHCASH_BITS_MAX}, `argon2_bits` at most {ARGON2_BITS_MAX}, \
         and `argon2_kib` {} to {}", ARGON2_KIB.start(), ARGON2_KIB.end()
    )]
    Work,
    /// Gossip would never rest.
    #[error("directory: `reconcile` and `redraw` must be at least 1 second")]
    Gossip,
}

/// A network's name: 1 to [`MAX_NETWORK_NAME`] characters from a-z, 0-9 and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct NetworkName(String);

/// A network's id: `BLAKE3("trefoil/1 network" ‖ parameters in postcard's canonical form)`. As text, 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetworkId([u8; 32]);

/// The text is not a network's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network's name has 1 to {MAX_NETWORK_NAME} characters from a-z, 0-9 and -")]
pub struct BadName;

/// The text is not a network's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network id has 64 digits from 0-9 and a-f")]
pub struct BadNetworkId;

impl NetworkParams {
    /// The public network.
    pub fn main() -> Self {
        Self {
            name: NetworkName("main".to_owned()),
            allow_loopback: false,
            allow_same_netgroup: false,
            directory: DirectoryParams::MAIN,
        }
    }

    /// A network on one machine or in one room: its relays may have loopback and private addresses, its epochs are
    /// short, and its work is small.
    pub fn testnet(name: NetworkName) -> Self {
        Self { name, allow_loopback: true, allow_same_netgroup: false, directory: DirectoryParams::TESTNET }
    }

    /// The network's id.
    pub fn id(&self) -> NetworkId {
        let bytes = postcard::to_stdvec(self).expect("a short text, flags and numbers have a postcard form");
        NetworkId(crypto::blake3(&[NETWORK_LABEL, &bytes]))
    }

    /// Whether a relay of this network may have this address, and others may dial it there.
    pub fn allows_relay_at(&self, address: IpAddr) -> bool {
        ip::is_public(address) || (self.allow_loopback && ip::is_local(address))
    }
}

impl DirectoryParams {
    const MAIN: Self = Self {
        epoch: NonZeroU32::new(6 * 3600).expect("not 0"),
        settle: 2 * 3600,
        lifetime: 8,
        grown: 7 * DAY,
        old: 30 * DAY,
        hashcash_bits: 24,
        argon2_kib: 16 * 1024,
        argon2_bits: 6,
        reconcile: 60,
        redraw: 30 * 60,
        min_usable: 50,
    };

    const TESTNET: Self = Self {
        epoch: NonZeroU32::new(10).expect("not 0"),
        settle: 2,
        lifetime: 3,
        grown: 0,
        old: 0,
        hashcash_bits: 8,
        argon2_kib: 64,
        argon2_bits: 1,
        reconcile: 2,
        redraw: 5,
        min_usable: 12,
    };

    /// Whether a network can have these.
    ///
    /// # Errors
    /// [`BadDirectoryParams`] names what is out of bounds.
    pub fn check(&self) -> Result<(), BadDirectoryParams> {
        let work = self.hashcash_bits <= HASHCASH_BITS_MAX
            && self.argon2_bits <= ARGON2_BITS_MAX
            && ARGON2_KIB.contains(&self.argon2_kib);
        if !(1..=LIFETIME_MAX).contains(&self.lifetime) {
            Err(BadDirectoryParams::Lifetime)
        } else if self.old < self.grown {
            Err(BadDirectoryParams::Ages)
        } else if !work {
            Err(BadDirectoryParams::Work)
        } else if self.reconcile == 0 || self.redraw == 0 {
            Err(BadDirectoryParams::Gossip)
        } else {
            Ok(())
        }
    }
}

impl Default for DirectoryParams {
    /// Those of the public network.
    fn default() -> Self {
        Self::MAIN
    }
}

impl NetworkName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NetworkId {
    /// The id whose bytes these are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 digits of its text form: enough for a person, never for a program.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NetworkName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let characters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let length = (1..=MAX_NETWORK_NAME).contains(&text.len());
        if characters && length { Ok(Self(text.to_owned())) } else { Err(BadName) }
    }
}

impl TryFrom<String> for NetworkName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkId({})", self.short())
    }
}

impl FromStr for NetworkId {
    type Err = BadNetworkId;

    fn from_str(text: &str) -> Result<Self, BadNetworkId> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| BadNetworkId)?;
        bytes.try_into().map(Self).map_err(|_| BadNetworkId)
    }
}

const NETWORK_LABEL: &[u8] = b"trefoil/1 network";
const DAY: u32 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NetworkName {
        text.parse().unwrap()
    }

    #[test]
    fn every_parameter_changes_the_id() {
        let base = NetworkParams::testnet(name("a"));
        let others = [
            NetworkParams::main(),
            NetworkParams { name: name("b"), ..base.clone() },
            NetworkParams { allow_loopback: false, ..base.clone() },
            NetworkParams { allow_same_netgroup: true, ..base.clone() },
        ];
        let directory = base.directory.clone();
        let directories = [
            DirectoryParams { epoch: NonZeroU32::MIN, ..directory.clone() },
            DirectoryParams { settle: 9, ..directory.clone() },
            DirectoryParams { lifetime: 9, ..directory.clone() },
            DirectoryParams { grown: 9, ..directory.clone() },
            DirectoryParams { old: 9, ..directory.clone() },
            DirectoryParams { hashcash_bits: 9, ..directory.clone() },
            DirectoryParams { argon2_kib: 9, ..directory.clone() },
            DirectoryParams { argon2_bits: 9, ..directory.clone() },
            DirectoryParams { reconcile: 9, ..directory.clone() },
            DirectoryParams { redraw: 9, ..directory.clone() },
            DirectoryParams { min_usable: 9, ..directory.clone() },
        ];
        let others = others.into_iter().chain(directories.map(|directory| NetworkParams { directory, ..base.clone() }));
        let ids: Vec<_> = others.map(|other| other.id()).chain([base.id()]).collect();
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{at}");
        }
    }

    #[test]
    fn directory_parameters_that_make_no_network_are_refused() {
        let good = DirectoryParams::default();
        assert_eq!((good.check(), DirectoryParams::TESTNET.check()), (Ok(()), Ok(())));
        let cases = [
            (DirectoryParams { lifetime: 0, ..good.clone() }, BadDirectoryParams::Lifetime),
            (DirectoryParams { lifetime: LIFETIME_MAX + 1, ..good.clone() }, BadDirectoryParams::Lifetime),
            (DirectoryParams { grown: good.old + 1, ..good.clone() }, BadDirectoryParams::Ages),
            (DirectoryParams { hashcash_bits: HASHCASH_BITS_MAX + 1, ..good.clone() }, BadDirectoryParams::Work),
            (DirectoryParams { argon2_bits: ARGON2_BITS_MAX + 1, ..good.clone() }, BadDirectoryParams::Work),
            (DirectoryParams { argon2_kib: ARGON2_KIB.start() - 1, ..good.clone() }, BadDirectoryParams::Work),
            (DirectoryParams { argon2_kib: ARGON2_KIB.end() + 1, ..good.clone() }, BadDirectoryParams::Work),
            (DirectoryParams { reconcile: 0, ..good.clone() }, BadDirectoryParams::Gossip),
            (DirectoryParams { redraw: 0, ..good.clone() }, BadDirectoryParams::Gossip),
        ];
        cases.iter().for_each(|(params, error)| assert_eq!(params.check(), Err(*error), "{params:?}"));
    }

    #[test]
    fn the_id_is_the_hash_of_label_and_canonical_bytes() {
        let directory = [
            &[0xe0, 0xa8, 0x01][..],   // epoch
            &[0xa0, 0x38],             // settle
            &[0x08],                   // lifetime
            &[0x80, 0xf5, 0x24],       // grown
            &[0x80, 0x9a, 0x9e, 0x01], // old
            &[0x18],                   // hashcash_bits
            &[0x80, 0x80, 0x01],       // argon2_kib
            &[0x06],                   // argon2_bits
            &[0x3c],                   // reconcile
            &[0x88, 0x0e],             // redraw
            &[0x32],                   // min_usable
        ]
        .concat();
        let expected = crypto::blake3(&[b"trefoil/1 network", b"\x04main\x00\x00", &directory]);
        assert_eq!(NetworkParams::main().id(), NetworkId(expected));
        let text = NetworkParams::main().id().to_string();
        assert_eq!(text, "717dbecc42d3cfeb3691857f870d02982f881da6f630f0e86333fc8e8e41e37c");
    }

    #[test]
    fn an_id_survives_its_text_form_and_nothing_else_is_one() {
        let id = NetworkParams::main().id();
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert!(text.starts_with(&id.short()));
        (0..text.len()).for_each(|length| assert_eq!(text[..length].parse::<NetworkId>(), Err(BadNetworkId)));
        assert_eq!(text.replace(|c: char| c.is_ascii_digit(), "g").parse::<NetworkId>(), Err(BadNetworkId));
    }

    #[test]
    fn names_have_their_characters_and_length() {
        let long = "a".repeat(MAX_NETWORK_NAME);
        ["a", "main", "test-net-2", &long].iter().for_each(|text| assert_eq!(name(text).as_str(), *text));
        let longer = "a".repeat(MAX_NETWORK_NAME + 1);
        ["", "Main", "a b", "ä", "a_b", &longer].iter().for_each(|text| {
            assert_eq!(text.parse::<NetworkName>(), Err(BadName), "{text}");
        });
    }

    #[test]
    fn only_a_testnet_has_relays_on_local_addresses() {
        let (main, test) = (NetworkParams::main(), NetworkParams::testnet(name("t")));
        for local in ["127.3.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd00::1"].map(|text| text.parse().unwrap()) {
            assert!(test.allows_relay_at(local) && !main.allows_relay_at(local), "{local}");
        }
        for never in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "::"].map(|text| text.parse().unwrap()) {
            assert!(!test.allows_relay_at(never) && !main.allows_relay_at(never), "{never}");
        }
        assert!(main.allows_relay_at("1.1.1.1".parse().unwrap()));
    }
}
