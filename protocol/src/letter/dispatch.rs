//! What is sealed in an envelope: who wrote, and the message of the conversation's ratchet.
//!
//! Specification: docs/protocol.md, "Letters". The writer's address is a claim until the ratchet has opened the message.
//! What the ratchet's messages are is Olm's affair.

use std::fmt;

use crate::{address::Address, limits::RATCHET_MESSAGE, wire::Reader};

/// What stands in an envelope.
#[derive(Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// Who says to have written it.
    pub writer: Address,
    /// How the ratchet's message is to be read.
    pub form: Form,
    /// Olm's message: 1 to [`RATCHET_MESSAGE`] bytes.
    pub message: Vec<u8>,
}

/// What kind of message Olm made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// One that begins a conversation, to prekeys.
    Beginning = 0,
    /// One that goes on with it.
    Going = 1,
}

impl Dispatch {
    /// `version 1 ‖ writer's address 32 ‖ form 1 ‖ message`.
    ///
    /// # Panics
    /// If the message is empty or too long.
    pub fn encode(&self) -> Vec<u8> {
        assert!(is_message(&self.message), "a message of {} bytes", self.message.len());
        [&[VERSION][..], self.writer.as_bytes(), &[self.form as u8], &self.message].concat()
    }

    /// Takes what [`Self::encode`] made; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        (reader.byte()? == VERSION).then_some(())?;
        let writer = Address::from_bytes(reader.array()?).ok()?;
        let form = match reader.byte()? {
            0 => Form::Beginning,
            1 => Form::Going,
            _ => return None,
        };
        let message = reader.rest();
        is_message(message).then(|| Self { writer, form, message: message.to_vec() })
    }
}

fn is_message(message: &[u8]) -> bool {
    (1..=RATCHET_MESSAGE).contains(&message.len())
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dispatch({:?}, {} bytes)", self.form, self.message.len())
    }
}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{address::tests::person, envelope::SizeClass};

    fn dispatch(length: usize) -> Dispatch {
        Dispatch { writer: person(1).address(), form: Form::Going, message: vec![9; length] }
    }

    #[test]
    fn a_dispatch_survives_its_bytes_and_the_longest_fits_an_envelope() {
        for length in [1, 300, RATCHET_MESSAGE] {
            let bytes = dispatch(length).encode();
            assert_eq!(Dispatch::decode(&bytes), Some(dispatch(length)));
            assert!(bytes.len() <= SizeClass::Long.room());
        }
        let expected = [&[1][..], person(1).address().as_bytes(), &[1, 9]].concat();
        assert_eq!(dispatch(1).encode(), expected);
    }

    #[test]
    fn what_is_cut_or_of_another_form_is_none() {
        let bytes = dispatch(1).encode();
        (0..bytes.len()).for_each(|length| assert_eq!(Dispatch::decode(&bytes[..length]), None));
        for (at, byte) in [(0, 2), (33, 2)] {
            let mut changed = bytes.clone();
            changed[at] = byte;
            assert_eq!(Dispatch::decode(&changed), None);
        }
        let nobody = [&[1][..], &[0xff; 32], &[1, 9]].concat();
        assert_eq!(Dispatch::decode(&nobody), None);
        let long = [&bytes[..], &vec![9; RATCHET_MESSAGE]].concat();
        assert_eq!(Dispatch::decode(&long), None);
    }
}
