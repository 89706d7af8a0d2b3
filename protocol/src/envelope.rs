//! Envelopes: letters as mailboxes see them, sealed and of one of three sizes.
//!
//! Specification: docs/protocol.md, "Envelopes". Neither who wrote a letter, nor what is in it, nor how long it is can
//! be seen from its envelope.

use std::fmt;

use crate::{crypto, limits::LETTER_SIZES};

/// How many bytes an envelope has; its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SizeClass {
    /// 1,792 bytes: with all that a deposit says besides, one message on a circuit.
    Short = 1,
    /// 8 KiB.
    Middle = 2,
    /// 64 KiB: pieces of files.
    Long = 3,
}

/// The name of a letter: `BLAKE3(envelope)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LetterId([u8; 32]);

impl SizeClass {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Short, Self::Middle, Self::Long];

    /// The class of an envelope of so many bytes, if one has just as many.
    pub fn of(length: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.bytes() == length)
    }

    /// The class with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == number)
    }

    /// Bytes of an envelope.
    pub const fn bytes(self) -> usize {
        let [short, middle, long] = LETTER_SIZES;
        match self {
            Self::Short => short,
            Self::Middle => middle,
            Self::Long => long,
        }
    }
}

impl LetterId {
    /// The name of this envelope.
    pub fn of(envelope: &[u8]) -> Self {
        Self(crypto::blake3(&[envelope]))
    }

    /// The name whose bytes these are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "LetterId({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_has_just_as_many_bytes_as_its_class() {
        assert_eq!(SizeClass::ALL.map(SizeClass::bytes), [1792, 8192, 65_536]);
        for length in 0..70_000 {
            let class = SizeClass::of(length);
            assert_eq!(class.is_some(), [1792, 8192, 65_536].contains(&length));
            assert!(class.is_none_or(|class| SizeClass::from_number(class as u8) == Some(class)));
        }
        [0, 4, 255].iter().for_each(|number| assert_eq!(SizeClass::from_number(*number), None));
    }

    #[test]
    fn a_letter_is_named_by_all_of_its_envelope() {
        assert_eq!(*LetterId::of(&[1; 1792]).as_bytes(), crypto::blake3(&[&[1; 1792]]));
    }
}
