//! Tombstones: the owner's signature that a letter is to be gone.
//!
//! Specification: docs/protocol.md, "Mailbox streams". It counts at every mailbox, so replicas pass it on to each other,
//! and a deleted letter does not come back from one that had not heard of it. This file never keeps any.

use std::fmt;

use crate::{blind::BlindedSecret, envelope::LetterId, params::NetworkId, puzzle::Hour, ring::Placement, wire::Reader};

/// That a letter is deleted. 100 bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// Which letter.
    pub letter: LetterId,
    /// Until when it counts: the letter's own expiry, or later.
    pub until: Hour,
    /// Over `"trefoil/1 tombstone" ‖ network id ‖ inbox ‖ letter id ‖ until`, by the inbox's key.
    pub signature: [u8; 64],
}

impl Tombstone {
    /// Bytes of its form.
    pub const LENGTH: usize = 32 + 4 + 64;

    /// Signs it.
    pub fn sign(owner: &BlindedSecret, network: &NetworkId, inbox: &Placement, letter: LetterId, until: Hour) -> Self {
        Self { letter, until, signature: owner.sign(LABEL, &message(network, inbox, &letter, until)) }
    }

    /// Whether the owner of this inbox signed it.
    pub fn is_of(&self, network: &NetworkId, inbox: &Placement) -> bool {
        inbox.key.verify(LABEL, &message(network, inbox, &self.letter, self.until), &self.signature)
    }

    /// `letter id 32 ‖ until 4 ‖ signature 64`.
    pub fn encode(&self) -> Vec<u8> {
        [&self.letter.as_bytes()[..], &self.until.0.to_le_bytes(), &self.signature].concat()
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (letter, until) = (LetterId::from_bytes(reader.array()?), Hour(reader.u32()?));
        Some(Self { letter, until, signature: reader.array()? })
    }
}

fn message(network: &NetworkId, inbox: &Placement, letter: &LetterId, until: Hour) -> Vec<u8> {
    [&network.as_bytes()[..], &inbox.encode(), letter.as_bytes(), &until.0.to_le_bytes()].concat()
}

impl fmt::Debug for Tombstone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tombstone({:?}, until {:?})", self.letter, self.until)
    }
}

const LABEL: &[u8] = b"trefoil/1 tombstone";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{address::tests::person, crypto, inbox::Inbox, period::Day};

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
    const LETTER: LetterId = LetterId::from_bytes([2; 32]);

    fn inbox() -> Inbox {
        Inbox::request(&NETWORK, person(1).address(), Day(20_000))
    }

    fn tombstone() -> Tombstone {
        Tombstone::sign(&inbox().secret(&person(1)), &NETWORK, &inbox().placement(), LETTER, Hour(0x0007_a120))
    }

    #[test]
    fn a_tombstone_is_of_its_network_inbox_letter_and_time_only() {
        let (tombstone, inbox) = (tombstone(), inbox().placement());
        assert!(tombstone.is_of(&NETWORK, &inbox));
        assert!(!tombstone.is_of(&NetworkId::from_bytes([9; 32]), &inbox));
        assert!(!tombstone.is_of(&NETWORK, &Placement { period: 1, ..inbox }));
        let stranger = Inbox::request(&NETWORK, person(2).address(), Day(20_000)).placement();
        assert!(!tombstone.is_of(&NETWORK, &stranger));
        assert!(!Tombstone { letter: LetterId::from_bytes([9; 32]), ..tombstone }.is_of(&NETWORK, &inbox));
        assert!(!Tombstone { until: Hour(1), ..tombstone }.is_of(&NETWORK, &inbox));
    }

    #[test]
    fn a_tombstone_signs_the_bytes_of_the_specification() {
        let message = [&[1; 32][..], &inbox().placement().encode(), &[2; 32], &[0x20, 0xa1, 7, 0]].concat();
        let key = inbox().placement().key;
        assert!(crypto::verify(key.as_bytes(), b"trefoil/1 tombstone", &message, &tombstone().signature));
    }

    #[test]
    fn a_tombstone_survives_its_bytes_and_no_part_of_it_is_one() {
        let bytes = tombstone().encode();
        assert_eq!(bytes.len(), Tombstone::LENGTH);
        assert_eq!(Tombstone::read(&mut Reader::new(&bytes)), Some(tombstone()));
        (0..bytes.len()).for_each(|length| assert_eq!(Tombstone::read(&mut Reader::new(&bytes[..length])), None));
    }
}
