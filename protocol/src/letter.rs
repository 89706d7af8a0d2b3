//! Letters: what people say to each other, as it is before it is encrypted.
//!
//! Specification: docs/protocol.md, "Letters". Inside the conversation's ratchet, which says who wrote it; so letters are
//! never signed, and prove nothing to others. Each has one form as bytes. This file never shows or keeps a letter.

mod between;
mod content;
mod dispatch;

use std::fmt;

pub use self::{
    between::Between,
    content::{Contact, Content, FileOffer, Introduction, InviteToken, Published, Receipts, clean, is_plain},
    dispatch::{Dispatch, Form},
};
use crate::{puzzle::Hour, wire::Reader};

/// The name of what somebody said, whatever envelope it comes in and however often: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

/// Where a letter stands among those of its writer in a conversation. Of two, the lower was written first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The writer's device, counted as in the writer's prekeys.
    pub device: u32,
    /// Counted from 0 for each device.
    pub sequence: u32,
}

/// Something that somebody says.
#[derive(Debug)]
pub struct Letter {
    /// Its name.
    pub id: MessageId,
    /// Its place.
    pub place: Place,
    /// When it was written, by the writer's clock.
    pub written: Hour,
    /// What it says.
    pub content: Content,
}

/// Why bytes are not a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// Of a version that this program does not know.
    #[error("a letter of version {0}: a newer program may know it")]
    Version(u8),
    /// Of a kind that this program does not know.
    #[error("a letter of kind {0}: a newer program may know it")]
    Kind(u8),
    /// Of another form.
    #[error("a malformed letter")]
    Form,
    /// Not between these two: whoever sealed it passed on what was written to or by somebody else.
    #[error("a letter that is not from this writer to this reader")]
    Between,
}

impl Letter {
    /// `version 1 ‖ id 16 ‖ device 4 ‖ sequence 4 ‖ written 4 ‖ kind 1 ‖ body`.
    ///
    /// # Panics
    /// If its content breaks the bounds that its parts are documented with.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.id.0);
        bytes.extend(self.place.device.to_le_bytes());
        bytes.extend(self.place.sequence.to_le_bytes());
        bytes.extend(self.written.0.to_le_bytes());
        bytes.push(self.content.kind());
        self.content.put(&mut bytes);
        bytes
    }

    /// Takes what [`Self::encode`] made.
    ///
    /// # Errors
    /// [`LetterError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, LetterError> {
        match bytes.first() {
            Some(&VERSION) => Self::read(&mut Reader::new(bytes)),
            Some(version) => Err(LetterError::Version(*version)),
            None => Err(LetterError::Form),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, LetterError> {
        let (id, place, written, kind) = read_head(reader).ok_or(LetterError::Form)?;
        if !Content::is_kind(kind) {
            return Err(LetterError::Kind(kind));
        }
        let content = Content::read(kind, reader).filter(|_| reader.is_empty()).ok_or(LetterError::Form)?;
        Ok(Self { id, place, written, content })
    }
}

fn read_head(reader: &mut Reader<'_>) -> Option<(MessageId, Place, Hour, u8)> {
    reader.byte()?; // the version
    let id = MessageId(reader.array()?);
    let place = Place { device: reader.u32()?, sequence: reader.u32()? };
    Some((id, place, Hour(reader.u32()?), reader.byte()?))
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "MessageId({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests;
