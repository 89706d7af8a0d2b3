//! Beacon: what a relay says on a local network so that others of its network find it.
//!
//! Specification: docs/protocol.md, "Beacons". To whoever does not know the network's id a beacon is its version and
//! random bytes: it names nobody, and no two are alike. It is no proof: whoever knows the network's id can make one.

use crate::{crypto, params::NetworkId, wire::Reader};

/// See the file's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Fresh random bytes.
    pub nonce: [u8; NONCE],
    /// The UDP port that the sender's links are accepted at, never 0; its address is the packet's.
    pub port: u16,
}

/// Bytes of a beacon.
pub const BEACON: usize = 1 + NONCE + TAG + PORT;
/// Bytes of its nonce.
pub const NONCE: usize = 16;

const VERSION: u8 = 1;
const TAG: usize = 16;
const PORT: usize = 2;
const LABEL: &[u8] = b"trefoil/1 beacon";

impl Beacon {
    /// As a packet for the nodes of this network.
    pub fn encode(&self, network: &NetworkId) -> [u8; BEACON] {
        let (tag, mask) = mark(network, &self.nonce);
        let mut packet = [0; BEACON];
        let fields = [&[VERSION][..], &self.nonce, &tag, &(self.port ^ mask).to_le_bytes()].concat();
        packet.copy_from_slice(&fields);
        packet
    }

    /// Reads a packet; `None` for one that is none, or for another network.
    pub fn decode(packet: &[u8], network: &NetworkId) -> Option<Self> {
        let mut fields = Reader::new(packet);
        if packet.len() != BEACON || fields.byte()? != VERSION {
            return None;
        }
        let nonce = fields.array()?;
        let (tag, mask) = mark(network, &nonce);
        let is_ours = fields.array::<TAG>()? == tag;
        let port = fields.u16()? ^ mask;
        (is_ours && port != 0).then_some(Self { nonce, port })
    }
}

/// What only those who know the network's id can make of a nonce: a tag, and what hides the port.
fn mark(network: &NetworkId, nonce: &[u8; NONCE]) -> ([u8; TAG], u16) {
    let [tag @ .., low, high, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
        crypto::blake3(&[LABEL, network.as_bytes(), nonce]);
    (tag, u16::from_le_bytes([low, high]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::NetworkParams;

    const EXAMPLE: &str = "01000102030405060708090a0b0c0d0e0f5dce6382579a0618864056fd78eef4458d90";

    fn network(name: &str) -> NetworkId {
        NetworkParams::testnet(name.parse().unwrap()).id()
    }

    fn beacon() -> Beacon {
        Beacon { nonce: (0..16).collect::<Vec<_>>().try_into().unwrap(), port: 9001 }
    }

    #[test]
    fn a_beacon_has_its_documented_bytes_and_survives_them() {
        let network = NetworkParams::main().id();
        let packet = beacon().encode(&network);
        let hash = crypto::blake3(&[b"trefoil/1 beacon", network.as_bytes(), &beacon().nonce]);
        let port = [hash[16] ^ 0x29, hash[17] ^ 0x23];
        assert_eq!(packet, *[&[1][..], &beacon().nonce, &hash[..16], &port].concat());
        assert_eq!(Beacon::decode(&packet, &network), Some(beacon()));
        assert_eq!(data_encoding::HEXLOWER.encode(&packet), EXAMPLE);
    }

    #[test]
    fn beacons_of_other_networks_are_none_and_show_no_port() {
        let (ours, theirs) = (network("a"), network("b"));
        let packet = beacon().encode(&ours);
        assert_eq!(Beacon::decode(&packet, &theirs), None);
        assert_ne!(packet[33..], 9001u16.to_le_bytes());
        let other = Beacon { nonce: [7; NONCE], ..beacon() }.encode(&ours);
        let alike = packet.iter().zip(&other).skip(1).filter(|(a, b)| a == b).count();
        assert!(alike < 5, "but for the version two beacons of one sender have nothing in common: {alike}");
    }

    #[test]
    fn what_is_not_whole_or_was_changed_is_none() {
        let network = network("a");
        let packet = beacon().encode(&network);
        (0..BEACON).for_each(|length| assert_eq!(Beacon::decode(&packet[..length], &network), None));
        assert_eq!(Beacon::decode(&[&packet[..], &[0]].concat(), &network), None);
        for at in 0..BEACON - PORT {
            let mut changed = packet;
            changed[at] ^= 1;
            assert_eq!(Beacon::decode(&changed, &network), None, "{at}");
        }
        let nowhere = Beacon { port: 0, ..beacon() }.encode(&network);
        assert_eq!(Beacon::decode(&nowhere, &network), None);
    }
}
