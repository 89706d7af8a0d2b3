//! Messages: what a cell says to the hop that it is for, and what a hop says to the origin.
//!
//! Specification: docs/protocol.md, "Messages". A message is `type 1 ‖ length 2 ‖ body ‖ zeros`; the space it
//! fills is the caller's (1,929 bytes on a circuit). This file is bytes only: who may say what, and when, is in
//! `rules.rs` and `stream.rs`. It never keeps state.

use crate::{
    host::Host,
    identity::RelayId,
    limits::{MAX_BODY, MAX_CREDIT, MAX_DATA, MAX_PAD_BUDGET, MESSAGE_HEADER},
    wire::{Reader, Writer},
};

/// A stream's number within its circuit; the origin chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u16);

impl StreamId {
    fn bytes(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }
}

/// A message, borrowing the bytes that it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Origin to the last hop: add a hop. `create` is a `Create` cell's fields from version through extensions.
    Extend {
        /// The relay to add.
        relay: RelayId,
        /// `Create`, version through extensions.
        create: &'a [u8],
    },
    /// Answer to `Extend`: the new hop's `Created`, status through auth.
    Extended {
        /// `Created`, status through auth.
        created: &'a [u8],
    },
    /// Answer to `Extend`: there is no new hop.
    ExtendFailed(ExtendError),
    /// Origin: connect a stream to something at this hop.
    Open {
        /// The new stream.
        stream: StreamId,
        /// What to connect it to.
        target: Target,
    },
    /// The stream is connected.
    Opened {
        /// Which stream.
        stream: StreamId,
    },
    /// 1 to [`MAX_DATA`] bytes of a stream.
    Data {
        /// Which stream.
        stream: StreamId,
        /// The bytes, never empty.
        bytes: &'a [u8],
    },
    /// The receiver may be sent this many bytes more.
    Credit {
        /// Which stream.
        stream: StreamId,
        /// 1 to [`MAX_CREDIT`].
        bytes: u32,
    },
    /// The sender will send no more bytes on this stream.
    Close {
        /// Which stream.
        stream: StreamId,
        /// Why; [`Reason::Done`] is an orderly half-close, all others end both directions and are the last word.
        reason: Reason,
    },
    /// Origin: this hop may send up to `budget` [`Message::Padding`] more.
    PadStart {
        /// 1 to [`MAX_PAD_BUDGET`].
        budget: u16,
    },
    /// Nothing, at full length.
    Padding,
}

/// Why an `Extend` made no new hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// The next relay wants a puzzle of this many bits solved.
    #[error("the next relay is busy and asks for a puzzle of {0} bits")]
    Busy(u8),
    /// The next relay refused the handshake: it does not have the onion key that was named.
    #[error("the next relay refused the handshake")]
    Refused,
    /// The relay asked does not know the next relay.
    #[error("the relay does not know the next relay")]
    Unknown,
    /// No link to the next relay could be made.
    #[error("the next relay is unreachable")]
    Unreachable,
    /// The next relay did not answer in time.
    #[error("the next relay did not answer in time")]
    Timeout,
    /// A limit of the relay asked, or of the next one, was reached.
    #[error("a limit on circuits was reached")]
    Limit,
}

/// What a stream is connected to, at the hop where it is opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A TCP connection to the outside.
    Exit {
        /// Where to.
        host: Host,
        /// Which port; never 0.
        port: u16,
    },
    /// The addresses of a name: the stream carries them (docs/protocol.md, "Resolve") and ends.
    Resolve {
        /// Which name.
        host: Host,
    },
    /// The relay's directory.
    Directory,
    /// The relay's mailboxes.
    Mailbox,
    /// A service's port, end to end over a rendezvous.
    Service {
        /// Which port; never 0.
        port: u16,
    },
}

/// Why a stream ended. One byte on the wire; unknown values decode as a malformed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Reason {
    /// No more bytes in this direction; the other goes on.
    #[error("done")]
    Done = 0,
    /// The target refused the connection.
    #[error("the target refused the connection")]
    Refused = 1,
    /// The target's host or network cannot be reached.
    #[error("the target cannot be reached")]
    Unreachable = 2,
    /// The exit's policy does not allow the target.
    #[error("the exit's policy does not allow the target")]
    Policy = 3,
    /// The target did not answer in time.
    #[error("the target did not answer in time")]
    Timeout = 4,
    /// The name does not exist or could not be resolved.
    #[error("the name could not be resolved")]
    NameNotFound = 5,
    /// The connection broke, or the local program aborted it.
    #[error("the connection was reset")]
    Reset = 6,
    /// A limit was reached.
    #[error("a limit was reached")]
    Limit = 7,
    /// The hop offers nothing of this kind.
    #[error("the relay does not offer this")]
    NotOffered = 8,
    /// The hop is shutting down.
    #[error("the relay is shutting down")]
    Shutdown = 9,
    /// A fault of the hop's own.
    #[error("the relay failed")]
    Internal = 10,
    /// Both directions have ended in order, and this is the sender's last word on the stream.
    #[error("ended")]
    Ended = 11,
}

/// Why bytes are not a message. A peer that sends such bytes loses its circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The length runs past the message, or the space is too short for a header.
    #[error("the length runs past the message")]
    Length,
    /// The padding is not zero.
    #[error("the padding is not zero")]
    Padding,
    /// No such message type.
    #[error("unknown message type {0}")]
    Type(u8),
    /// The body does not have the form of its type.
    #[error("malformed body of message type {0}")]
    Body(u8),
}

const EXTEND: u8 = 1;
const EXTENDED: u8 = 2;
const OPEN: u8 = 3;
const OPENED: u8 = 4;
const DATA: u8 = 5;
const CREDIT: u8 = 6;
const CLOSE: u8 = 7;
const PAD_START: u8 = 8;
const PADDING: u8 = 9;

impl<'a> Message<'a> {
    /// Reads a message that fills `space` with its padding.
    pub fn decode(space: &'a [u8]) -> Result<Self, MessageError> {
        let (kind, body) = unframe(space)?;
        Self::decode_body(kind, body).ok_or(if (EXTEND..=PADDING).contains(&kind) {
            MessageError::Body(kind)
        } else {
            MessageError::Type(kind)
        })
    }

    /// Writes the message and its padding over all of `space`.
    ///
    /// # Panics
    /// If the body does not fit `space`; its parts are bounded by their types' documentation.
    pub fn encode(&self, space: &mut [u8]) {
        let mut body = Writer::new(space, MESSAGE_HEADER);
        let kind = self.encode_body(&mut body);
        let length = u16::try_from(body.at() - MESSAGE_HEADER).expect("a message is shorter than 64 KiB");
        body.fill_with_zeros();
        Writer::new(space, 0).put(&[kind]).put(&length.to_le_bytes());
    }

    fn decode_body(kind: u8, body: &'a [u8]) -> Option<Self> {
        let mut body = Reader::new(body);
        let message = match kind {
            EXTEND => Self::Extend { relay: RelayId::from_bytes(body.array()?), create: body.rest() },
            EXTENDED => match body.rest() {
                created @ [0, ..] => Self::Extended { created },
                failed => Self::ExtendFailed(ExtendError::decode(failed)?),
            },
            OPEN => Self::Open { stream: stream(&mut body)?, target: Target::decode(&mut body)? },
            OPENED => Self::Opened { stream: stream(&mut body)? },
            DATA => {
                let (stream, bytes) = (stream(&mut body)?, body.rest());
                (1..=MAX_DATA).contains(&bytes.len()).then_some(Self::Data { stream, bytes })?
            }
            CREDIT => {
                let (stream, bytes) = (stream(&mut body)?, body.u32()?);
                (1..=MAX_CREDIT).contains(&bytes).then_some(Self::Credit { stream, bytes })?
            }
            CLOSE => Self::Close { stream: stream(&mut body)?, reason: Reason::decode(body.byte()?)? },
            PAD_START => {
                let budget = body.u16()?;
                (1..=MAX_PAD_BUDGET).contains(&budget).then_some(Self::PadStart { budget })?
            }
            PADDING => Self::Padding,
            _ => return None,
        };
        body.is_empty().then_some(message)
    }

    fn encode_body(&self, out: &mut Writer<'_>) -> u8 {
        match self {
            Self::Extend { relay, create } => {
                out.put(relay.as_bytes()).put(create);
                EXTEND
            }
            Self::Extended { created } => {
                out.put(created);
                EXTENDED
            }
            Self::ExtendFailed(error) => {
                out.put(&error.encode());
                EXTENDED
            }
            Self::Open { stream, target } => {
                target.encode(out.put(&stream.bytes()));
                OPEN
            }
            Self::Opened { stream } => {
                out.put(&stream.bytes());
                OPENED
            }
            Self::Data { stream, bytes } => {
                out.put(&stream.bytes()).put(bytes);
                DATA
            }
            Self::Credit { stream, bytes } => {
                out.put(&stream.bytes()).put(&bytes.to_le_bytes());
                CREDIT
            }
            Self::Close { stream, reason } => {
                out.put(&stream.bytes()).put(&[*reason as u8]);
                CLOSE
            }
            Self::PadStart { budget } => {
                out.put(&budget.to_le_bytes());
                PAD_START
            }
            Self::Padding => PADDING,
        }
    }
}

/// Splits a message's space into its type and body, and checks that all else is zero.
pub fn unframe(space: &[u8]) -> Result<(u8, &[u8]), MessageError> {
    let (&[kind, low, high], rest) = space.split_first_chunk().ok_or(MessageError::Length)?;
    let length = usize::from(u16::from_le_bytes([low, high]));
    let (body, padding) = rest.split_at_checked(length).ok_or(MessageError::Length)?;
    if body.len() > MAX_BODY {
        return Err(MessageError::Length);
    }
    if padding.iter().any(|byte| *byte != 0) {
        return Err(MessageError::Padding);
    }
    Ok((kind, body))
}

impl ExtendError {
    fn encode(self) -> [u8; 2] {
        match self {
            Self::Busy(effort) => [1, effort],
            Self::Refused => [2, 0],
            Self::Unknown => [3, 0],
            Self::Unreachable => [4, 0],
            Self::Timeout => [5, 0],
            Self::Limit => [6, 0],
        }
    }

    fn decode(body: &[u8]) -> Option<Self> {
        Some(match body {
            [1, effort] => Self::Busy(*effort),
            [2, 0] => Self::Refused,
            [3, 0] => Self::Unknown,
            [4, 0] => Self::Unreachable,
            [5, 0] => Self::Timeout,
            [6, 0] => Self::Limit,
            _ => return None,
        })
    }
}

impl Target {
    fn encode(&self, out: &mut Writer<'_>) {
        match self {
            Self::Exit { host, port } => {
                host.encode(out.put(&[1]));
                out.put(&port.to_le_bytes());
            }
            Self::Resolve { host } => host.encode(out.put(&[2])),
            Self::Directory => {
                out.put(&[3]);
            }
            Self::Mailbox => {
                out.put(&[4]);
            }
            Self::Service { port } => {
                out.put(&[5]).put(&port.to_le_bytes());
            }
        }
    }

    fn decode(body: &mut Reader<'_>) -> Option<Self> {
        Some(match body.byte()? {
            1 => Self::Exit { host: Host::decode(body)?, port: port(body)? },
            2 => Self::Resolve { host: Host::decode(body)? },
            3 => Self::Directory,
            4 => Self::Mailbox,
            5 => Self::Service { port: port(body)? },
            _ => return None,
        })
    }
}

impl Reason {
    const ALL: [Self; 12] = [
        Self::Done,
        Self::Refused,
        Self::Unreachable,
        Self::Policy,
        Self::Timeout,
        Self::NameNotFound,
        Self::Reset,
        Self::Limit,
        Self::NotOffered,
        Self::Shutdown,
        Self::Internal,
        Self::Ended,
    ];

    fn decode(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

fn stream(body: &mut Reader<'_>) -> Option<StreamId> {
    body.u16().map(StreamId)
}

fn port(body: &mut Reader<'_>) -> Option<u16> {
    body.u16().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests;
