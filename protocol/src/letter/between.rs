//! Between whom a letter is: what the ratchet encrypts with it.
//!
//! Specification: docs/protocol.md, "Letters". Who opens an envelope can seal what was in it for somebody else, and who
//! publishes another's Olm keys can be taken for that one: a conversation's keys alone do not say between whom it is. So
//! every letter does, where only the two can write. This file never encrypts.

use super::{Letter, LetterError};
use crate::{address::Address, crypto, params::NetworkId};

/// A writer and a reader.
#[derive(Clone, Copy, Debug)]
pub struct Between<'a> {
    /// In which network.
    pub network: &'a NetworkId,
    /// Who writes.
    pub writer: &'a Address,
    /// Who reads.
    pub reader: &'a Address,
}

impl Between<'_> {
    /// What is to be encrypted: `mark 16 ‖ letter`, with
    /// `mark = BLAKE3("trefoil/1 between" ‖ network id 32 ‖ writer 32 ‖ reader 32)[..16]`.
    ///
    /// # Panics
    /// As [`Letter::encode`].
    pub fn say(&self, letter: &Letter) -> Vec<u8> {
        [&self.mark()[..], &letter.encode()].concat()
    }

    /// Takes what [`Self::say`] made, of this writer to this reader.
    ///
    /// # Errors
    /// [`LetterError::Between`] for what is between others, and what [`Letter::decode`] says.
    pub fn hear(&self, bytes: &[u8]) -> Result<Letter, LetterError> {
        let (mark, letter) = bytes.split_first_chunk().ok_or(LetterError::Form)?;
        if *mark != self.mark() {
            return Err(LetterError::Between);
        }
        Letter::decode(letter)
    }

    fn mark(&self) -> [u8; MARK] {
        let Self { network, writer, reader } = self;
        let hash = crypto::blake3(&[LABEL, network.as_bytes(), writer.as_bytes(), reader.as_bytes()]);
        *hash.first_chunk().expect("32 bytes have 16")
    }
}

const LABEL: &[u8] = b"trefoil/1 between";
const MARK: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        address::tests::person,
        letter::{Content, MessageId, Place},
        puzzle::Hour,
    };

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);

    fn letter() -> Letter {
        let place = Place { device: 0, sequence: 0 };
        Letter { id: MessageId([6; 16]), place, written: Hour(500_000), content: Content::Timer(0) }
    }

    #[test]
    fn a_letter_is_heard_between_its_writer_and_its_reader_in_its_network_and_nobody_else() {
        let [alice, bob, mallory] = [1, 2, 3].map(|seed| person(seed).address());
        let between = Between { network: &NETWORK, writer: &alice, reader: &bob };
        let said = between.say(&letter());
        assert_eq!(between.hear(&said).unwrap().encode(), letter().encode());
        let others = [
            Between { reader: &mallory, ..between },
            Between { writer: &mallory, ..between },
            Between { network: &NetworkId::from_bytes([9; 32]), ..between },
            Between { writer: &bob, reader: &alice, ..between },
        ];
        for other in others {
            assert_eq!(other.hear(&said).err(), Some(LetterError::Between), "{other:?}");
        }
        assert_eq!(between.hear(&said[..15]).err(), Some(LetterError::Form));
        assert_eq!(between.hear(&said[..16]).err(), Some(LetterError::Form));
    }

    #[test]
    fn the_mark_is_that_of_the_specification() {
        let [alice, bob] = [1, 2].map(|seed| person(seed).address());
        let said = Between { network: &NETWORK, writer: &alice, reader: &bob }.say(&letter());
        let bytes = [&b"trefoil/1 between"[..], &[1; 32], alice.as_bytes(), bob.as_bytes()].concat();
        assert_eq!(said, [&crypto::blake3(&[&bytes])[..16], &letter().encode()].concat());
    }
}
