//! SOCKS as a local program speaks it: bytes in, replies and one request out.
//!
//! SOCKS4 and SOCKS4a (Ying-Da Lee's memos), SOCKS5 (RFC 1928) with user name and password (RFC 1929), and `RESOLVE`
//! of Tor's socks-extensions. User names and passwords are never checked: they keep streams apart. This file never
//! touches a socket or a clock, and never resolves a name: `proxy.rs` drives it.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use trefoil_protocol::{host::Host, limits::MAX_SOCKS_FIELD, message::Reason};

use crate::tunnel::{Isolation, OpenError};

/// A greeting that is not complete yet. It holds at most one unfinished message, of at most 520 bytes, and what was
/// handed in last.
#[derive(Debug, Default)]
pub struct Negotiation {
    awaited: Awaited,
    received: Vec<u8>,
}

/// What the bytes so far lead to.
#[derive(Debug)]
pub enum Step {
    /// More bytes are needed.
    Incomplete(Negotiation),
    /// These bytes go to the program; then the negotiation goes on, perhaps with bytes that it already has.
    Reply(&'static [u8], Negotiation),
    /// The program has said what it wants; the bytes are those that followed, the first of its stream.
    Request(Request, Bytes),
}

/// What a program asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// Which streams it may share circuits with: the default one where the program gave no name.
    pub isolation: Isolation,
    version: Version,
}

/// What to do for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A TCP connection.
    Connect {
        /// Where to.
        host: Host,
        /// Which port; never 0.
        port: u16,
    },
    /// One address of a name.
    Resolve {
        /// Which name.
        host: Host,
    },
}

/// Which SOCKS a program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// SOCKS4 or SOCKS4a.
    Four,
    /// SOCKS5.
    Five,
}

/// Why bytes are not a greeting that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocksError {
    /// The first byte is no version.
    #[error("a SOCKS greeting begins with 4 or 5, not with {0}")]
    Version(u8),
    /// No authentication method of ours is among those offered.
    #[error("the program offers neither to go without authentication nor to send a user name")]
    NoMethod,
    /// The user name's message has another version than 1.
    #[error("version {0} of the user name and password message, expected 1")]
    PasswordVersion(u8),
    /// A SOCKS5 request with another version.
    #[error("version {0} in a SOCKS5 request")]
    RequestVersion(u8),
    /// The reserved byte is not zero.
    #[error("the reserved byte of a SOCKS5 request is {0}, expected 0")]
    Reserved(u8),
    /// A command that is not served, like `BIND` (2), `UDP ASSOCIATE` (3) or `RESOLVE_PTR` (0xF1).
    #[error("{0} command {1:#04x} is not supported, only CONNECT and RESOLVE are")]
    Command(Version, u8),
    /// No such address type.
    #[error("SOCKS5 address type {0} is not supported")]
    AddressType(u8),
    /// The host is neither a DNS name nor an address.
    #[error("the host of a {0} request is neither a DNS name nor an address")]
    Host(Version),
    /// Nothing can be connected to port 0.
    #[error("the port of a {0} request is 0")]
    Port(Version),
    /// A SOCKS4 user id or host name without an end.
    #[error("a text of a SOCKS4 request is longer than {MAX_SOCKS_FIELD} bytes")]
    TooLong,
}

/// The message that a negotiation waits for.
#[derive(Debug, Default)]
enum Awaited {
    #[default]
    Greeting,
    Password,
    Request(Isolation),
}

/// A command whose host and port are not read yet.
enum Verb {
    Connect,
    Resolve,
}

/// Why a message cannot be read.
enum Stop {
    Incomplete,
    Malformed(SocksError),
}

/// A message that was read whole.
enum Message {
    Reply(&'static [u8], Awaited),
    Request(Request),
}

const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;

impl Negotiation {
    /// Nothing received yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the program's next bytes, if there are any, and goes one step on.
    ///
    /// # Errors
    /// What is wrong with the greeting: [`SocksError::reply`] goes to the program, and the connection ends.
    pub fn advance(mut self, bytes: &[u8]) -> Result<Step, SocksError> {
        self.received.extend_from_slice(bytes);
        let mut unread = Reader(&self.received);
        let message = match self.awaited.read(&mut unread) {
            Ok(message) => message,
            Err(Stop::Incomplete) => return Ok(Step::Incomplete(self)),
            Err(Stop::Malformed(error)) => return Err(error),
        };
        let rest = unread.0.to_vec();
        Ok(match message {
            Message::Reply(reply, awaited) => Step::Reply(reply, Self { awaited, received: rest }),
            Message::Request(request) => Step::Request(request, rest.into()),
        })
    }
}

impl Awaited {
    fn read(&self, bytes: &mut Reader<'_>) -> Result<Message, Stop> {
        match self {
            Self::Greeting => match bytes.byte()? {
                4 => read_request4(bytes).map(Message::Request),
                5 => read_methods(bytes),
                other => Err(SocksError::Version(other).into()),
            },
            Self::Password => read_password(bytes),
            Self::Request(isolation) => read_request5(bytes, isolation.clone()).map(Message::Request),
        }
    }
}

/// RFC 1928, section 3. The user name is preferred: a program that has one wants its streams kept apart.
fn read_methods(bytes: &mut Reader<'_>) -> Result<Message, Stop> {
    let methods = bytes.counted()?;
    if methods.contains(&PASSWORD) {
        Ok(Message::Reply(&[5, PASSWORD], Awaited::Password))
    } else if methods.contains(&NO_AUTHENTICATION) {
        Ok(Message::Reply(&[5, NO_AUTHENTICATION], Awaited::Request(Isolation::default())))
    } else {
        Err(SocksError::NoMethod.into())
    }
}

/// RFC 1929, section 2. Everybody is let in.
fn read_password(bytes: &mut Reader<'_>) -> Result<Message, Stop> {
    match bytes.byte()? {
        1 => {
            let isolation = Isolation::new(&[b"password", bytes.counted()?, bytes.counted()?]);
            Ok(Message::Reply(&[1, 0], Awaited::Request(isolation)))
        }
        other => Err(SocksError::PasswordVersion(other).into()),
    }
}

/// RFC 1928, section 4.
fn read_request5(bytes: &mut Reader<'_>, isolation: Isolation) -> Result<Request, Stop> {
    let version = Version::Five;
    match bytes.array()? {
        [5, command, 0] => {
            let verb = Verb::decode(version, command)?;
            let host = read_address5(bytes)?;
            let port = u16::from_be_bytes(bytes.array()?);
            Ok(Request { command: verb.command(version, host, port)?, isolation, version })
        }
        [5, _, reserved] => Err(SocksError::Reserved(reserved).into()),
        [other, ..] => Err(SocksError::RequestVersion(other).into()),
    }
}

/// RFC 1928, section 5.
fn read_address5(bytes: &mut Reader<'_>) -> Result<Host, Stop> {
    match bytes.byte()? {
        1 => Ok(Host::Address(bytes.array::<4>()?.into())),
        3 => read_host(Version::Five, bytes.counted()?),
        4 => Ok(Host::Address(bytes.array::<16>()?.into())),
        other => Err(SocksError::AddressType(other).into()),
    }
}

/// A SOCKS4 request after its version. An address 0.0.0.x, x not 0, announces a name behind the user id (SOCKS4a).
fn read_request4(bytes: &mut Reader<'_>) -> Result<Request, Stop> {
    let version = Version::Four;
    let verb = Verb::decode(version, bytes.byte()?)?;
    let port = u16::from_be_bytes(bytes.array()?);
    let address: [u8; 4] = bytes.array()?;
    let isolation = match bytes.terminated()? {
        [] => Isolation::default(),
        user => Isolation::new(&[b"user id", user]),
    };
    let host = match address {
        [0, 0, 0, last] if last != 0 => read_host(version, bytes.terminated()?)?,
        _ => Host::Address(address.into()),
    };
    Ok(Request { command: verb.command(version, host, port)?, isolation, version })
}

fn read_host(version: Version, text: &[u8]) -> Result<Host, Stop> {
    let host = str::from_utf8(text).ok().and_then(Host::parse);
    host.ok_or(Stop::Malformed(SocksError::Host(version)))
}

impl Verb {
    /// Refuses an unknown command before the rest of its request is there.
    fn decode(version: Version, byte: u8) -> Result<Self, SocksError> {
        match byte {
            1 => Ok(Self::Connect),
            0xF0 => Ok(Self::Resolve),
            other => Err(SocksError::Command(version, other)),
        }
    }

    fn command(self, version: Version, host: Host, port: u16) -> Result<Command, SocksError> {
        match (self, port) {
            (Self::Resolve, _) => Ok(Command::Resolve { host }),
            (Self::Connect, 0) => Err(SocksError::Port(version)),
            (Self::Connect, port) => Ok(Command::Connect { host, port }),
        }
    }
}

impl Request {
    /// What the program is told when its stream is connected. The exit's own address is not told.
    pub fn granted(&self) -> Vec<u8> {
        self.version.granted(Ipv4Addr::UNSPECIFIED.into())
    }

    /// What the program is told when its name has `addresses`: the first that its SOCKS can express.
    pub fn resolved(&self, addresses: &[IpAddr]) -> Vec<u8> {
        match addresses.iter().find(|address| self.version == Version::Five || address.is_ipv4()) {
            Some(address) => self.version.granted(*address),
            None => self.failed(&OpenError::Stream(Reason::NameNotFound)),
        }
    }

    /// What the program is told when it cannot have what it asked for.
    pub fn failed(&self, error: &OpenError) -> Vec<u8> {
        self.version.refused(match error {
            OpenError::Stream(Reason::Policy) | OpenError::NoExit(_) => Refusal::NotAllowed,
            OpenError::NoPath(_) => Refusal::NetworkUnreachable,
            OpenError::Stream(Reason::Unreachable | Reason::NameNotFound) => Refusal::HostUnreachable,
            OpenError::Stream(Reason::Refused) => Refusal::ConnectionRefused,
            OpenError::Stream(Reason::Timeout) | OpenError::Timeout => Refusal::TtlExpired,
            OpenError::Stream(_) | OpenError::Shutdown => Refusal::General,
        })
    }
}

impl SocksError {
    /// What the program is told.
    pub fn reply(&self) -> Vec<u8> {
        match self {
            Self::Version(_) => Vec::new(),
            Self::NoMethod => vec![5, 0xFF],
            Self::PasswordVersion(_) => vec![1, 1],
            Self::RequestVersion(_) | Self::Reserved(_) => Version::Five.refused(Refusal::General),
            Self::Command(version, _) => version.refused(Refusal::CommandNotSupported),
            Self::AddressType(_) => Version::Five.refused(Refusal::AddressTypeNotSupported),
            Self::Host(version) | Self::Port(version) => version.refused(Refusal::General),
            Self::TooLong => Version::Four.refused(Refusal::General),
        }
    }
}

/// RFC 1928, section 6.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Refusal {
    General = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    TtlExpired = 6,
    CommandNotSupported = 7,
    AddressTypeNotSupported = 8,
}

impl Version {
    fn granted(self, address: IpAddr) -> Vec<u8> {
        match (self, address) {
            (Self::Four, IpAddr::V4(address)) => [&[0, 90, 0, 0][..], &address.octets()].concat(),
            (Self::Four, IpAddr::V6(_)) => self.refused(Refusal::AddressTypeNotSupported),
            (Self::Five, IpAddr::V4(address)) => [&[5, 0, 0, 1][..], &address.octets(), &[0, 0]].concat(),
            (Self::Five, IpAddr::V6(address)) => [&[5, 0, 0, 4][..], &address.octets(), &[0, 0]].concat(),
        }
    }

    /// SOCKS4 knows one refusal for all.
    fn refused(self, refusal: Refusal) -> Vec<u8> {
        match self {
            Self::Four => vec![0, 91, 0, 0, 0, 0, 0, 0],
            Self::Five => vec![5, refusal as u8, 0, 1, 0, 0, 0, 0, 0, 0],
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Four => "SOCKS4",
            Self::Five => "SOCKS5",
        })
    }
}

impl From<SocksError> for Stop {
    fn from(error: SocksError) -> Self {
        Self::Malformed(error)
    }
}

/// Takes bytes off the front of what was received.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Stop::Incomplete)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Stop::Incomplete)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.array().map(|[byte]| byte)
    }

    /// A length of one byte, and as many bytes.
    fn counted(&mut self) -> Result<&'a [u8], Stop> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// The bytes before the next zero byte, at most [`MAX_SOCKS_FIELD`].
    fn terminated(&mut self) -> Result<&'a [u8], Stop> {
        match self.0.iter().take(MAX_SOCKS_FIELD + 1).position(|byte| *byte == 0) {
            Some(length) => {
                let text = self.take(length)?;
                self.byte()?;
                Ok(text)
            }
            None if self.0.len() > MAX_SOCKS_FIELD => Err(SocksError::TooLong.into()),
            None => Err(Stop::Incomplete),
        }
    }
}

#[cfg(test)]
mod tests;
