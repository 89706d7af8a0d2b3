//! Mailbox streams: what is asked of a relay that keeps letters, and what it answers.
//!
//! Specification: docs/protocol.md, "Mailbox streams". Whoever opened the stream asks, the other answers, one at a time.
//! This file is bytes only, and the owner's claim: it never keeps a letter, and never says who is answered what.

mod asking;
mod refusal;

pub use self::{
    asking::{Ask, Owned},
    refusal::Refusal,
};
pub use crate::frame::FRAME_HEADER;
use crate::{
    blind::BlindUse,
    envelope::{LetterId, SizeClass},
    frame,
    inbox::Claim,
    limits::{LETTER_HOURS, LETTER_SIZES, MAILBOX_FRAME, MAILBOX_LIST, MAX_DATA},
    prekeys::PrekeysRecord,
    puzzle::Hour,
    receipt::Receipt,
    ring::Placement,
    stamp::Stamp,
    ticket::Ticket,
    tombstone::Tombstone,
    wire::Reader,
};

/// A question, borrowing the bytes that it was decoded from. An inbox in it is a request or a private one, always, and
/// the placement of prekeys is one of prekeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Keep this letter.
    Deposit(Deposit<'a>),
    /// What only the owner may ask.
    Owned(Owned),
    /// These letters are to be gone. Whoever brings what the owner signed may ask it.
    Delete {
        /// Whose.
        inbox: Placement,
        /// 1 to [`MAILBOX_LIST`].
        tombstones: Vec<Tombstone>,
    },
    /// Which letters and tombstones came after this place? Only for replicas of the inbox.
    Pull {
        /// Of which inbox.
        inbox: Placement,
        /// Where the answer before ended; 0 at first.
        after: u64,
    },
    /// This letter, as it was deposited. Only for replicas of the inbox.
    Take {
        /// Of which inbox.
        inbox: Placement,
        /// Which.
        letter: LetterId,
    },
    /// Keep these prekeys. Whoever brings what the owner signed may ask it.
    Publish {
        /// Whose, and of which week.
        placement: Placement,
        /// For the placement and what is [`left`](crate::stamp::left) there.
        stamp: Stamp,
        /// The prekeys.
        record: PrekeysRecord,
    },
    /// The prekeys there with the highest revision.
    Look {
        /// Whose, and of which week.
        placement: Placement,
    },
    /// Which inboxes and prekeys do you keep that I am to keep, too? Only for relays.
    Kept {
        /// Where the answer before ended; 0 at first.
        after: u64,
    },
}

/// A letter on its way to an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deposit<'a> {
    /// Where to.
    pub inbox: Placement,
    /// For how many hours it is to be kept: 1 to [`LETTER_HOURS`].
    pub hours: u16,
    /// What it has cost.
    pub postage: Postage,
    /// The envelope: as many bytes as one of the classes has; a stranger's is not of the longest.
    pub envelope: &'a [u8],
}

/// What a deposit costs: for a request inbox a stamp, for a private one a ticket, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Postage {
    /// A stranger's.
    Stamp(Stamp),
    /// A contact's.
    Ticket(Ticket),
}

/// An answer, borrowing the bytes that it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// To any request: no.
    Refused(Refusal),
    /// To `Deposit`: it is on disk, or was, and was deleted.
    Accepted(Receipt),
    /// To `List`.
    Letters {
        /// Where the next question begins.
        next: u64,
        /// Those that are there, in the order in which they came; at most [`MAILBOX_LIST`].
        letters: Vec<Listed>,
    },
    /// To `Fetch`: an envelope.
    Letter(&'a [u8]),
    /// To `Delete`.
    Deleted,
    /// To `Register`.
    Registered,
    /// To `Pull`.
    Pulled {
        /// Where the next question begins.
        next: u64,
        /// As in `Letters`.
        letters: Vec<Listed>,
        /// At most [`MAILBOX_LIST`].
        tombstones: Vec<Tombstone>,
    },
    /// To `Take`.
    Taken {
        /// What it had cost.
        postage: Postage,
        /// The envelope.
        envelope: &'a [u8],
    },
    /// To `Publish`.
    Published,
    /// To `Look`.
    Prekeys(PrekeysRecord),
    /// To `Kept`.
    Kept {
        /// Where the next question begins; where it began, if there are no more for now.
        next: u64,
        /// At most [`MAILBOX_LIST`].
        placements: Vec<Placement>,
    },
}

/// A letter that waits. 37 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub letter: LetterId,
    /// Its size.
    pub class: SizeClass,
    /// Until when it is kept.
    pub expiry: Hour,
}

/// Why bytes are not a frame of a mailbox stream. A peer that sends such bytes loses the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// A length of 0, or above [`MAILBOX_FRAME`].
    #[error("a frame has 1 to {MAILBOX_FRAME} bytes, not {0}")]
    Length(u32),
    /// No such type.
    #[error("unknown type {0} on a mailbox stream")]
    Type(u8),
    /// The body does not have the form of its type.
    #[error("malformed body of type {0} on a mailbox stream")]
    Body(u8),
}

const REFUSED: u8 = 0;
const DEPOSIT: u8 = 1;
const LIST: u8 = 2;
const FETCH: u8 = 3;
const REGISTER: u8 = 4;
const DELETE: u8 = 5;
const PULL: u8 = 6;
const TAKE: u8 = 7;
const PUBLISH: u8 = 8;
const LOOK: u8 = 9;
const KEPT: u8 = 10;

const TICKET: usize = 16;
/// A short letter's deposit fits one `Data` message on a circuit, with the dearer kind of postage.
const _: () = assert!(FRAME_HEADER + 1 + Placement::LENGTH + 2 + TICKET + LETTER_SIZES[0] <= MAX_DATA);
const _: () = assert!(1 + Placement::LENGTH + 2 + TICKET + LETTER_SIZES[2] <= MAILBOX_FRAME);

/// How many bytes come after a frame's length.
///
/// # Errors
/// [`MailboxError::Length`] if no frame has that many.
pub fn frame_length(header: [u8; FRAME_HEADER]) -> Result<usize, MailboxError> {
    frame::length(header, MAILBOX_FRAME).map_err(MailboxError::Length)
}

impl<'a> Request<'a> {
    /// Reads a frame without its length.
    pub fn decode(frame: &'a [u8]) -> Result<Self, MailboxError> {
        decode(frame, DEPOSIT, Self::read)
    }

    /// The frame, with its length.
    ///
    /// # Panics
    /// If it breaks the bounds that its parts are documented with.
    pub fn encode(&self) -> Vec<u8> {
        let mut frame = frame::begin(self.kind());
        match self {
            Self::Deposit(deposit) => deposit.put(&mut frame),
            Self::Owned(owned) => owned.put(&mut frame),
            Self::Delete { inbox, tombstones } => {
                assert!(!tombstones.is_empty(), "there is something to delete");
                frame.extend(inbox.encode());
                put_tombstones(&mut frame, tombstones);
            }
            Self::Pull { inbox, after } => {
                frame.extend(inbox.encode());
                frame.extend(after.to_le_bytes());
            }
            Self::Take { inbox, letter } => {
                frame.extend(inbox.encode());
                frame.extend(letter.as_bytes());
            }
            Self::Publish { placement, stamp, record } => {
                frame.extend(placement.encode());
                frame.extend(stamp.encode());
                frame.extend(record.as_bytes());
            }
            Self::Look { placement } => frame.extend(placement.encode()),
            Self::Kept { after } => frame.extend(after.to_le_bytes()),
        }
        frame::finish(frame, MAILBOX_FRAME)
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Deposit(_) => DEPOSIT,
            Self::Owned(owned) => owned.ask.operation(),
            Self::Delete { .. } => DELETE,
            Self::Pull { .. } => PULL,
            Self::Take { .. } => TAKE,
            Self::Publish { .. } => PUBLISH,
            Self::Look { .. } => LOOK,
            Self::Kept { .. } => KEPT,
        }
    }

    fn read(kind: u8, body: &mut Reader<'a>) -> Option<Self> {
        if kind == KEPT {
            return Some(Self::Kept { after: body.u64()? });
        }
        let inbox = Placement::decode(body.take_array()?)?;
        let of_prekeys = inbox.of == BlindUse::Prekeys;
        (of_prekeys == matches!(kind, PUBLISH | LOOK)).then_some(())?;
        Some(match kind {
            DEPOSIT => Self::Deposit(Deposit::read(inbox, body)?),
            LIST | FETCH | REGISTER => {
                let ask = Ask::read(kind, body)?;
                Self::Owned(Owned { inbox, ask, claim: Claim(body.array()?) })
            }
            DELETE => {
                let tombstones = tombstones(body)?;
                (!tombstones.is_empty()).then_some(Self::Delete { inbox, tombstones })?
            }
            PULL => Self::Pull { inbox, after: body.u64()? },
            TAKE => Self::Take { inbox, letter: LetterId::from_bytes(body.array()?) },
            PUBLISH => {
                let stamp = Stamp::decode(body.take_array()?);
                Self::Publish { placement: inbox, stamp, record: PrekeysRecord::from_bytes(body.take_array()?) }
            }
            LOOK => Self::Look { placement: inbox },
            _ => return None,
        })
    }
}

impl<'a> Answer<'a> {
    /// Reads a frame without its length.
    pub fn decode(frame: &'a [u8]) -> Result<Self, MailboxError> {
        decode(frame, REFUSED, Self::read)
    }

    /// The frame, with its length.
    ///
    /// # Panics
    /// If it breaks the bounds that its parts are documented with.
    pub fn encode(&self) -> Vec<u8> {
        let mut frame = frame::begin(self.kind());
        match self {
            Self::Refused(refusal) => frame.extend(refusal.encode()),
            Self::Accepted(Receipt { expiry, signature }) => {
                frame.extend(expiry.0.to_le_bytes());
                frame.extend(signature);
            }
            Self::Letters { next, letters } => {
                frame.extend(next.to_le_bytes());
                put_letters(&mut frame, letters);
            }
            Self::Letter(envelope) => put_envelope(&mut frame, envelope),
            Self::Deleted | Self::Registered | Self::Published => {}
            Self::Prekeys(record) => frame.extend(record.as_bytes()),
            Self::Pulled { next, letters, tombstones } => {
                frame.extend(next.to_le_bytes());
                put_letters(&mut frame, letters);
                put_tombstones(&mut frame, tombstones);
            }
            Self::Taken { postage, envelope } => {
                frame.push(postage.of() as u8);
                postage.put(&mut frame);
                put_envelope(&mut frame, envelope);
            }
            Self::Kept { next, placements } => {
                frame.extend(next.to_le_bytes());
                put_count(&mut frame, placements.len());
                placements.iter().for_each(|placement| frame.extend(placement.encode()));
            }
        }
        frame::finish(frame, MAILBOX_FRAME)
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Refused(_) => REFUSED,
            Self::Accepted(_) => DEPOSIT,
            Self::Letters { .. } => LIST,
            Self::Letter(_) => FETCH,
            Self::Registered => REGISTER,
            Self::Deleted => DELETE,
            Self::Pulled { .. } => PULL,
            Self::Taken { .. } => TAKE,
            Self::Published => PUBLISH,
            Self::Prekeys(_) => LOOK,
            Self::Kept { .. } => KEPT,
        }
    }

    fn read(kind: u8, body: &mut Reader<'a>) -> Option<Self> {
        Some(match kind {
            REFUSED => Self::Refused(Refusal::read(body)?),
            DEPOSIT => Self::Accepted(Receipt { expiry: Hour(body.u32()?), signature: body.array()? }),
            LIST => Self::Letters { next: body.u64()?, letters: letters(body)? },
            FETCH => Self::Letter(envelope(body)?),
            REGISTER => Self::Registered,
            DELETE => Self::Deleted,
            PULL => Self::Pulled { next: body.u64()?, letters: letters(body)?, tombstones: tombstones(body)? },
            TAKE => {
                let of = BlindUse::try_from(body.byte()?).ok()?;
                let postage = Postage::read(of, body)?;
                Self::Taken { postage, envelope: envelope(body).filter(|envelope| postage.is_for(envelope))? }
            }
            PUBLISH => Self::Published,
            LOOK => Self::Prekeys(PrekeysRecord::from_bytes(body.take_array()?)),
            KEPT => {
                let (next, count) = (body.u64()?, count(body)?);
                let placements = (0..count).map(|_| Placement::decode(body.take_array()?)).collect::<Option<_>>()?;
                Self::Kept { next, placements }
            }
            _ => return None,
        })
    }
}

impl<'a> Deposit<'a> {
    fn put(&self, frame: &mut Vec<u8>) {
        assert!((1..=LETTER_HOURS).contains(&self.hours), "a letter is kept for 1 to {LETTER_HOURS} hours");
        assert_eq!(self.inbox.of, self.postage.of(), "strangers have stamps, contacts have tickets");
        assert!(self.postage.is_for(self.envelope), "strangers send no long letters");
        frame.extend(self.inbox.encode());
        frame.extend(self.hours.to_le_bytes());
        self.postage.put(frame);
        put_envelope(frame, self.envelope);
    }

    fn read(inbox: Placement, body: &mut Reader<'a>) -> Option<Self> {
        let hours = body.u16().filter(|hours| (1..=LETTER_HOURS).contains(hours))?;
        let postage = Postage::read(inbox.of, body)?;
        let envelope = envelope(body).filter(|envelope| postage.is_for(envelope))?;
        Some(Self { inbox, hours, postage, envelope })
    }
}

impl Postage {
    /// The use of the inboxes that it is for.
    pub fn of(&self) -> BlindUse {
        match self {
            Self::Stamp(_) => BlindUse::RequestInbox,
            Self::Ticket(_) => BlindUse::PrivateInbox,
        }
    }

    /// Whether letters of this size have such postage: long ones are contacts' alone.
    pub fn is_for(&self, envelope: &[u8]) -> bool {
        matches!(self, Self::Ticket(_)) || envelope.len() < SizeClass::Long.bytes()
    }

    fn put(&self, frame: &mut Vec<u8>) {
        match self {
            Self::Stamp(stamp) => frame.extend(stamp.encode()),
            Self::Ticket(ticket) => frame.extend(ticket.0),
        }
    }

    fn read(of: BlindUse, body: &mut Reader<'_>) -> Option<Self> {
        match of {
            BlindUse::RequestInbox => body.array().map(|stamp| Self::Stamp(Stamp::decode(&stamp))),
            BlindUse::PrivateInbox => body.array().map(|ticket| Self::Ticket(Ticket(ticket))),
            BlindUse::Prekeys => None,
        }
    }
}

impl Listed {
    fn read(body: &mut Reader<'_>) -> Option<Self> {
        let (letter, class) = (LetterId::from_bytes(body.array()?), SizeClass::from_number(body.byte()?)?);
        Some(Self { letter, class, expiry: Hour(body.u32()?) })
    }
}

fn decode<'a, T>(
    frame: &'a [u8],
    first: u8,
    read: impl FnOnce(u8, &mut Reader<'a>) -> Option<T>,
) -> Result<T, MailboxError> {
    let (kind, body) = frame.split_first().ok_or(MailboxError::Length(0))?;
    if !(first..=KEPT).contains(kind) {
        return Err(MailboxError::Type(*kind));
    }
    let mut body = Reader::new(body);
    let said = read(*kind, &mut body).filter(|_| body.is_empty());
    said.ok_or(MailboxError::Body(*kind))
}

fn envelope<'a>(body: &mut Reader<'a>) -> Option<&'a [u8]> {
    Some(body.rest()).filter(|envelope| SizeClass::of(envelope.len()).is_some())
}

fn put_envelope(frame: &mut Vec<u8>, envelope: &[u8]) {
    assert!(SizeClass::of(envelope.len()).is_some(), "an envelope of {} bytes", envelope.len());
    frame.extend(envelope);
}

fn count(body: &mut Reader<'_>) -> Option<usize> {
    body.u16().map(usize::from).filter(|count| *count <= MAILBOX_LIST)
}

fn put_count(frame: &mut Vec<u8>, count: usize) {
    assert!(count <= MAILBOX_LIST, "a list of {count}");
    frame.extend(u16::try_from(count).expect("a list is bounded").to_le_bytes());
}

fn letters(body: &mut Reader<'_>) -> Option<Vec<Listed>> {
    let count = count(body)?;
    (0..count).map(|_| Listed::read(body)).collect()
}

fn put_letters(frame: &mut Vec<u8>, letters: &[Listed]) {
    put_count(frame, letters.len());
    for Listed { letter, class, expiry } in letters {
        frame.extend(letter.as_bytes());
        frame.push(*class as u8);
        frame.extend(expiry.0.to_le_bytes());
    }
}

fn tombstones(body: &mut Reader<'_>) -> Option<Vec<Tombstone>> {
    let count = count(body)?;
    (0..count).map(|_| Tombstone::read(body)).collect()
}

fn put_tombstones(frame: &mut Vec<u8>, tombstones: &[Tombstone]) {
    put_count(frame, tombstones.len());
    tombstones.iter().for_each(|tombstone| frame.extend(tombstone.encode()));
}

#[cfg(test)]
mod tests;
