//! Directory streams: what a node asks another about relays, and what that one answers.
//!
//! Specification: docs/protocol.md, "Directory streams". Whoever opened the stream asks, the other answers, one at a
//! time. This file is bytes only: it never looks into records (`descriptor.rs`) or the messages of a reconciliation
//! (`reconcile.rs`), and who may ask what is the node's affair.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

pub use crate::frame::FRAME_HEADER;
use crate::{
    entry::RelayAddresses,
    epoch::Epoch,
    frame,
    limits::{
        DIRECTORY_FRAME, DIRECTORY_LIST, DIRECTORY_MEMBERS, MAX_FRAUD, MAX_RECORD, MAX_SIGHTING, RECONCILE_FRAME,
        SIGHTINGS_MAX,
    },
    params::NetworkId,
    reconcile::{Salt, SaltedId},
    sighting::SightingName,
    usable::{AgeClass, Member},
    wire::Reader,
};

/// A question, borrowing the bytes that it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Who and how far are you?
    Hello,
    /// One message of a reconciliation's asking side.
    Reconcile {
        /// With the first message of a session; it ends any session before it on this stream.
        begin: Option<Salt>,
        /// At most [`RECONCILE_FRAME`] bytes.
        message: &'a [u8],
    },
    /// The records with these names, at most [`DIRECTORY_LIST`], as the session on this stream named them.
    Want(Vec<SaltedId>),
    /// What the asker thinks is new to the other. Only relays may push.
    Push {
        /// Records, at most [`DIRECTORY_LIST`].
        records: Vec<&'a [u8]>,
        /// Fraud proofs, at most [`DIRECTORY_LIST`].
        frauds: Vec<&'a [u8]>,
    },
    /// The members of your usable set from this one on.
    Usable {
        /// Under which they are named.
        salt: Salt,
        /// How many of them to leave out at the front.
        offset: u32,
    },
    /// Can you dial me at these addresses? Only for a relay, and only for the address that it comes from.
    Reach(RelayAddresses),
    /// The fraud proofs that you hold, in the order of their relays, from this one on.
    Frauds {
        /// How many of them to leave out at the front.
        offset: u16,
    },
    /// Sightings that the asker thinks are new to the other, at most [`DIRECTORY_LIST`]. Only relays may push.
    Sight(Vec<&'a [u8]>),
    /// The sightings that you have and I have not: I have these, at most [`SIGHTINGS_MAX`].
    Sightings(Vec<SightingName>),
}

/// An answer, borrowing the bytes that it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// To any request: no.
    Refused(Refusal),
    /// To `Hello`.
    Hello(Greeting),
    /// To `Reconcile`: one message of the answering side, at most [`RECONCILE_FRAME`] bytes.
    Reconcile(&'a [u8]),
    /// To `Want`: the first of what was asked for, as many as fit, in its order; empty where there is none any more.
    Records(Vec<&'a [u8]>),
    /// To `Push` and `Sight`: how many were news.
    Taken(u16),
    /// To `Usable`.
    Usable {
        /// Whose set this is.
        epoch: Epoch,
        /// How many members it has in all.
        total: u32,
        /// At most [`DIRECTORY_MEMBERS`] of them.
        members: Vec<Member>,
    },
    /// To `Reach`: for each address, IPv4 first.
    Reach(Vec<Reach>),
    /// To `Frauds`: as many as fit; none when there are no more.
    Frauds(Vec<&'a [u8]>),
    /// To `Sightings`: as many as fit of those that the asker did not name.
    Sightings(Vec<&'a [u8]>),
}

/// What a node tells about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its clock: minutes since the Unix epoch.
    pub minutes: u32,
    /// Its network, whole.
    pub network: NetworkId,
    /// How many records it holds.
    pub records: u32,
    /// The digest of its usable set.
    pub usable: [u8; 32],
    /// The epoch of its usable set.
    pub epoch: Epoch,
    /// Where it sees the asker; never on a circuit.
    pub seen: Option<SocketAddr>,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// Only relays may ask this, and only on a link.
    #[error("only relays may ask this")]
    NotForYou = 1,
    /// Too much was asked, or too often.
    #[error("a limit was reached")]
    Limit = 2,
    /// There is no session of which this could be a part.
    #[error("there is no such session")]
    NoSession = 3,
    /// There is nothing to answer with yet.
    #[error("the relay does not know enough yet")]
    NotReady = 4,
}

/// Whether a relay could be dialled at an address that it wants to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reach {
    /// Yes, and it proved to be the asker.
    Reached = 0,
    /// Nothing answered there.
    Silent = 1,
    /// Something else answered there.
    Stranger = 2,
    /// Not tried: it is not where the asker comes from.
    NotYours = 3,
    /// Not tried: the address had its turn a moment ago.
    TooSoon = 4,
}

/// Why bytes are not a frame of a directory stream. A peer that sends such bytes loses the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// A length of 0, or above [`DIRECTORY_FRAME`].
    #[error("a frame has 1 to {DIRECTORY_FRAME} bytes, not {0}")]
    Length(u32),
    /// No such type.
    #[error("unknown type {0} on a directory stream")]
    Type(u8),
    /// The body does not have the form of its type.
    #[error("malformed body of type {0} on a directory stream")]
    Body(u8),
}

const REFUSED: u8 = 0;
const HELLO: u8 = 1;
const RECONCILE: u8 = 2;
const WANT: u8 = 3;
const PUSH: u8 = 4;
const USABLE: u8 = 5;
const REACH: u8 = 6;
const FRAUDS: u8 = 7;
const SIGHTINGS: u8 = 8;
const SIGHT: u8 = 9;

/// How many bytes come after a frame's length.
///
/// # Errors
/// [`DirectoryError::Length`] if no frame has that many.
pub fn frame_length(header: [u8; FRAME_HEADER]) -> Result<usize, DirectoryError> {
    frame::length(header, DIRECTORY_FRAME).map_err(DirectoryError::Length)
}

/// The first of `items` (records, fraud proofs or sightings), as many as one frame takes.
pub fn fitting<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut room = DIRECTORY_FRAME - 1 - 2 * COUNT;
    let fits = |item: &&[u8]| match room.checked_sub(COUNT + item.len()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    items.into_iter().take(DIRECTORY_LIST).take_while(fits).collect()
}

impl<'a> Request<'a> {
    /// Reads a frame without its length.
    pub fn decode(frame: &'a [u8]) -> Result<Self, DirectoryError> {
        decode(frame, HELLO..=SIGHT, Self::decode_body)
    }

    /// The frame, with its length.
    ///
    /// # Panics
    /// If it breaks the bounds that its parts are documented with.
    pub fn encode(&self) -> Vec<u8> {
        let mut frame = frame::begin(self.kind());
        match self {
            Self::Hello => {}
            Self::Reconcile { begin, message } => {
                match begin {
                    Some(salt) => frame.extend([&[1], &salt.0[..]].concat()),
                    None => frame.push(0),
                }
                frame.extend(*message);
            }
            Self::Want(names) => {
                put_count(&mut frame, names.len());
                names.iter().for_each(|name| frame.extend(name.0));
            }
            Self::Push { records, frauds } => {
                put_list(&mut frame, records);
                put_list(&mut frame, frauds);
            }
            Self::Usable { salt, offset } => {
                frame.extend(salt.0);
                frame.extend(offset.to_le_bytes());
            }
            Self::Reach(addresses) => put_addresses(&mut frame, addresses),
            Self::Frauds { offset } => frame.extend(offset.to_le_bytes()),
            Self::Sight(sightings) => put_list(&mut frame, sightings),
            Self::Sightings(names) => {
                assert!(names.len() <= SIGHTINGS_MAX, "{} names", names.len());
                names.iter().for_each(|name| frame.extend(name.0));
            }
        }
        frame::finish(frame, DIRECTORY_FRAME)
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello => HELLO,
            Self::Reconcile { .. } => RECONCILE,
            Self::Want(_) => WANT,
            Self::Push { .. } => PUSH,
            Self::Usable { .. } => USABLE,
            Self::Reach(_) => REACH,
            Self::Frauds { .. } => FRAUDS,
            Self::Sight(_) => SIGHT,
            Self::Sightings(_) => SIGHTINGS,
        }
    }

    fn decode_body(kind: u8, body: &mut Reader<'a>) -> Option<Self> {
        Some(match kind {
            HELLO => Self::Hello,
            RECONCILE => {
                let begin = match body.byte()? {
                    0 => None,
                    1 => Some(Salt(body.array()?)),
                    _ => return None,
                };
                Self::Reconcile { begin, message: message(body)? }
            }
            WANT => {
                let count = count(body)?;
                Self::Want((0..count).map(|_| body.array().map(SaltedId)).collect::<Option<_>>()?)
            }
            PUSH => {
                let (records, frauds) = (list(body, 1..=MAX_RECORD)?, list(body, 1..=MAX_FRAUD)?);
                Self::Push { records, frauds }
            }
            USABLE => Self::Usable { salt: Salt(body.array()?), offset: body.u32()? },
            REACH => Self::Reach(addresses(body)?),
            FRAUDS => Self::Frauds { offset: body.u16()? },
            SIGHT => Self::Sight(list(body, 1..=MAX_SIGHTING)?),
            SIGHTINGS => {
                let (names, []) = body.rest().as_chunks() else { return None };
                (names.len() <= SIGHTINGS_MAX)
                    .then(|| Self::Sightings(names.iter().copied().map(SightingName).collect()))?
            }
            _ => return None,
        })
    }
}

impl<'a> Answer<'a> {
    /// Reads a frame without its length.
    pub fn decode(frame: &'a [u8]) -> Result<Self, DirectoryError> {
        decode(frame, REFUSED..=SIGHTINGS, Self::decode_body)
    }

    /// The frame, with its length.
    ///
    /// # Panics
    /// If it breaks the bounds that its parts are documented with.
    pub fn encode(&self) -> Vec<u8> {
        let mut frame = frame::begin(self.kind());
        match self {
            Self::Refused(refusal) => frame.push(*refusal as u8),
            Self::Hello(greeting) => greeting.encode(&mut frame),
            Self::Reconcile(message) => frame.extend(*message),
            Self::Records(items) | Self::Frauds(items) | Self::Sightings(items) => put_list(&mut frame, items),
            Self::Taken(count) => frame.extend(count.to_le_bytes()),
            Self::Usable { epoch, total, members } => {
                frame.extend(epoch.0.to_le_bytes());
                frame.extend(total.to_le_bytes());
                members.iter().for_each(|member| {
                    frame.extend(member.name);
                    frame.push(member.class.into());
                    frame.extend(member.said);
                });
            }
            Self::Reach(outcomes) => frame.extend(outcomes.iter().map(|outcome| *outcome as u8)),
        }
        frame::finish(frame, DIRECTORY_FRAME)
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Refused(_) => REFUSED,
            Self::Hello(_) => HELLO,
            Self::Reconcile(_) => RECONCILE,
            Self::Records(_) => WANT,
            Self::Taken(_) => PUSH,
            Self::Usable { .. } => USABLE,
            Self::Reach(_) => REACH,
            Self::Frauds(_) => FRAUDS,
            Self::Sightings(_) => SIGHTINGS,
        }
    }

    fn decode_body(kind: u8, body: &mut Reader<'a>) -> Option<Self> {
        Some(match kind {
            REFUSED => Self::Refused(Refusal::decode(body.byte()?)?),
            HELLO => Self::Hello(Greeting::decode(body)?),
            RECONCILE => Self::Reconcile(message(body)?),
            WANT => Self::Records(list(body, 0..=MAX_RECORD)?),
            PUSH => Self::Taken(body.u16()?),
            USABLE => {
                let (epoch, total) = (Epoch(body.u32()?), body.u32()?);
                Self::Usable { epoch, total, members: members(body)? }
            }
            REACH => {
                let outcomes = body.rest();
                (1..=2).contains(&outcomes.len()).then_some(())?;
                Self::Reach(outcomes.iter().map(|outcome| Reach::decode(*outcome)).collect::<Option<_>>()?)
            }
            FRAUDS => Self::Frauds(list(body, 1..=MAX_FRAUD)?),
            SIGHTINGS => Self::Sightings(list(body, 1..=MAX_SIGHTING)?),
            _ => return None,
        })
    }
}

impl Greeting {
    fn encode(&self, frame: &mut Vec<u8>) {
        frame.extend(self.minutes.to_le_bytes());
        frame.extend(self.network.as_bytes());
        frame.extend(self.records.to_le_bytes());
        frame.extend(self.usable);
        frame.extend(self.epoch.0.to_le_bytes());
        match RelayAddresses::new(self.seen) {
            Ok(seen) => put_addresses(frame, &seen),
            Err(_) => frame.push(0),
        }
    }

    fn decode(body: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            minutes: body.u32()?,
            network: NetworkId::from_bytes(body.array()?),
            records: body.u32()?,
            usable: body.array()?,
            epoch: Epoch(body.u32()?),
            seen: match body.byte()? {
                0 => None,
                V4 => Some(SocketAddr::V4(v4(body)?)),
                V6 => Some(SocketAddr::V6(v6(body)?)),
                _ => return None,
            },
        })
    }
}

impl Refusal {
    fn decode(byte: u8) -> Option<Self> {
        [Self::NotForYou, Self::Limit, Self::NoSession, Self::NotReady].into_iter().find(|known| *known as u8 == byte)
    }
}

impl Reach {
    fn decode(byte: u8) -> Option<Self> {
        let all = [Self::Reached, Self::Silent, Self::Stranger, Self::NotYours, Self::TooSoon];
        all.into_iter().find(|known| *known as u8 == byte)
    }
}

const COUNT: usize = 2;
/// Bits of the byte before addresses.
const V4: u8 = 1;
const V6: u8 = 2;

fn decode<'a, T>(
    frame: &'a [u8],
    kinds: std::ops::RangeInclusive<u8>,
    decode_body: impl FnOnce(u8, &mut Reader<'a>) -> Option<T>,
) -> Result<T, DirectoryError> {
    let (kind, body) = frame.split_first().ok_or(DirectoryError::Length(0))?;
    if !kinds.contains(kind) {
        return Err(DirectoryError::Type(*kind));
    }
    let mut body = Reader::new(body);
    let said = decode_body(*kind, &mut body).filter(|_| body.is_empty());
    said.ok_or(DirectoryError::Body(*kind))
}

fn message<'a>(body: &mut Reader<'a>) -> Option<&'a [u8]> {
    let message = body.rest();
    (1..=RECONCILE_FRAME).contains(&message.len()).then_some(message)
}

fn count(body: &mut Reader<'_>) -> Option<usize> {
    let count = usize::from(body.u16()?);
    (count <= DIRECTORY_LIST).then_some(count)
}

fn list<'a>(body: &mut Reader<'a>, lengths: std::ops::RangeInclusive<usize>) -> Option<Vec<&'a [u8]>> {
    let count = count(body)?;
    let mut item = || {
        let length = usize::from(body.u16()?);
        lengths.contains(&length).then(|| body.take(length))?
    };
    (0..count).map(|_| item()).collect()
}

fn members(body: &mut Reader<'_>) -> Option<Vec<Member>> {
    let mut members = vec![];
    while !body.is_empty() {
        let (name, class, said) = (body.array()?, AgeClass::try_from(body.byte()?).ok()?, body.array()?);
        (members.len() < DIRECTORY_MEMBERS).then(|| members.push(Member { name, class, said }))?;
    }
    Some(members)
}

fn addresses(body: &mut Reader<'_>) -> Option<RelayAddresses> {
    let flags = body.byte()?;
    let v4 = if flags & V4 == 0 { None } else { Some(SocketAddr::V4(v4(body)?)) };
    let v6 = if flags & V6 == 0 { None } else { Some(SocketAddr::V6(v6(body)?)) };
    (flags <= V4 | V6).then(|| RelayAddresses::new(v4.into_iter().chain(v6)).ok())?
}

fn v4(body: &mut Reader<'_>) -> Option<SocketAddrV4> {
    Some(SocketAddrV4::new(body.array::<4>()?.into(), body.u16()?))
}

fn v6(body: &mut Reader<'_>) -> Option<SocketAddrV6> {
    Some(SocketAddrV6::new(body.array::<16>()?.into(), body.u16()?, 0, 0))
}

fn put_count(frame: &mut Vec<u8>, count: usize) {
    assert!(count <= DIRECTORY_LIST, "a list of {count}");
    frame.extend(u16::try_from(count).expect("a list is bounded").to_le_bytes());
}

fn put_list(frame: &mut Vec<u8>, items: &[&[u8]]) {
    put_count(frame, items.len());
    for item in items {
        frame.extend(u16::try_from(item.len()).expect("records and fraud proofs are short").to_le_bytes());
        frame.extend(*item);
    }
}

fn put_addresses(frame: &mut Vec<u8>, addresses: &RelayAddresses) {
    frame.push(addresses.v4().map_or(0, |_| V4) | addresses.v6().map_or(0, |_| V6));
    for address in addresses.iter() {
        match address {
            SocketAddr::V4(v4) => frame.extend(v4.ip().octets()),
            SocketAddr::V6(v6) => frame.extend(v6.ip().octets()),
        }
        frame.extend(address.port().to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
