//! What somebody on the way can read of a link: the dialler's first packets, whose keys come from the packets
//! themselves, and the headers of all.
//!
//! RFC 9000, sections 16 to 19; RFC 9001, section 5.2; RFC 8446, section 4.1.2. It panics at what it does not expect.

use std::collections::{BTreeMap, BTreeSet};

use quinn::rustls::{
    Side, SupportedCipherSuite,
    crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{Keys, Version},
};
use trefoil_protocol::look::{ANSWER, QUESTION};

use super::udp::Seen;

/// A dialler's first packets, put together.
#[derive(Debug)]
pub(super) struct FirstFlight {
    /// The connection id that it made up for the relay.
    pub(super) to_id: Vec<u8>,
    /// The one that it chose for itself.
    pub(super) from_id: Vec<u8>,
    /// What proves its address, or that it has been there.
    pub(super) token: Vec<u8>,
    pub(super) hello: Hello,
}

/// A ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) random: Vec<u8>,
    pub(super) session_id: Vec<u8>,
    pub(super) suites: Vec<u8>,
    pub(super) compressions: Vec<u8>,
    /// By type; rustls sends them in a random order.
    pub(super) extensions: BTreeMap<u16, Vec<u8>>,
    /// QUIC's transport parameters, which are an extension; quinn sends them in a random order.
    pub(super) parameters: BTreeMap<u64, Vec<u8>>,
}

/// Extensions, by IANA's names.
pub(super) mod extension {
    pub(in crate::sim) const SERVER_NAME: u16 = 0;
    pub(in crate::sim) const SUPPORTED_GROUPS: u16 = 10;
    pub(in crate::sim) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub(in crate::sim) const ALPN: u16 = 16;
    pub(in crate::sim) const CLIENT_CERTIFICATE_TYPE: u16 = 19;
    pub(in crate::sim) const SERVER_CERTIFICATE_TYPE: u16 = 20;
    pub(in crate::sim) const SESSION_TICKET: u16 = 35;
    pub(in crate::sim) const PRE_SHARED_KEY: u16 = 41;
    pub(in crate::sim) const EARLY_DATA: u16 = 42;
    pub(in crate::sim) const KEY_SHARE: u16 = 51;
    pub(in crate::sim) const QUIC: u16 = 57;
}

/// Transport parameters, by IANA's names.
pub(super) mod parameter {
    pub(in crate::sim) const MAX_IDLE_TIMEOUT: u64 = 1;
    pub(in crate::sim) const INITIAL_MAX_DATA: u64 = 4;
    pub(in crate::sim) const INITIAL_MAX_STREAM_DATA: [u64; 2] = [5, 6];
    pub(in crate::sim) const INITIAL_MAX_STREAMS_BIDI: u64 = 8;
    pub(in crate::sim) const INITIAL_MAX_STREAMS_UNI: u64 = 9;
    pub(in crate::sim) const INITIAL_SOURCE_CONNECTION_ID: u64 = 15;
    pub(in crate::sim) const MAX_DATAGRAM_FRAME_SIZE: u64 = 32;
}

/// Bytes of the connection ids that both ends choose for themselves.
const ID: usize = 8;
const LONG_HEADER: u8 = 0x80;
const SPIN: u8 = 0x20;

impl FirstFlight {
    /// Of the first connection attempt among these packets.
    pub(super) fn of(packets: &[Seen]) -> Self {
        let mut first: Option<Header> = None;
        let mut crypto = Vec::new();
        for packet in packets {
            let Some((ids, frames)) = read_initial(&packet.contents, first.as_ref().map(|(to_id, ..)| to_id)) else {
                continue;
            };
            first.get_or_insert(ids);
            put_together(&frames, &mut crypto);
        }
        let (to_id, from_id, token) = first.expect("somebody dials");
        Self { to_id, from_id, token, hello: Hello::read(&crypto) }
    }
}

/// An Initial packet's destination and source connection ids, and its token.
type Header = (Vec<u8>, Vec<u8>, Vec<u8>);

/// The header and the frames of an Initial packet to this id, if it is one; without an id, of any.
fn read_initial(datagram: &[u8], expected: Option<&Vec<u8>>) -> Option<(Header, Vec<u8>)> {
    let mut reader = Reader(datagram);
    if reader.byte() & 0xb0 != LONG_HEADER {
        return None; // the fixed bit may be anything
    }
    assert_eq!(reader.take(4), [0, 0, 0, 1], "QUIC version 1");
    let (to_id, from_id) = (reader.counted(1).to_vec(), reader.counted(1).to_vec());
    if expected.is_some_and(|expected| *expected != to_id) {
        return None;
    }
    let length = reader.varint();
    let token = reader.take(length).to_vec();
    let length = reader.varint();
    let header = datagram.len() - reader.0.len();
    let frames = unprotect(&datagram[..header + length], header, &to_id);
    Some(((to_id, from_id, token), frames))
}

/// Removes the protection of an Initial packet, whose number stands at this place.
fn unprotect(packet: &[u8], number_at: usize, to_id: &[u8]) -> Vec<u8> {
    let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256;
    let keys = Keys::initial(Version::V1, suite, suite.quic.expect("it is for QUIC"), to_id, Side::Server).remote;
    let mut packet = packet.to_vec();
    let sample = packet[number_at + 4..][..keys.header.sample_len()].to_vec();
    let (head, tail) = packet.split_at_mut(number_at);
    keys.header.decrypt_in_place(&sample, &mut head[0], &mut tail[..4]).unwrap();
    let number_end = number_at + usize::from(packet[0] & 3) + 1;
    let number = packet[number_at..number_end].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (header, payload) = packet.split_at_mut(number_end);
    keys.packet.decrypt_in_place(number, header, payload).expect("a stranger can read it").to_vec()
}

/// Puts what is in the CRYPTO frames to its place.
fn put_together(frames: &[u8], crypto: &mut Vec<u8>) {
    let mut reader = Reader(frames);
    while !reader.0.is_empty() {
        match reader.byte() {
            0 | 1 => {} // PADDING, PING
            6 => {
                let (at, length) = (reader.varint(), reader.varint());
                crypto.resize(crypto.len().max(at + length), 0);
                crypto[at..at + length].copy_from_slice(reader.take(length));
            }
            other => panic!("frame {other} in a first flight"),
        }
    }
}

impl Hello {
    fn read(crypto: &[u8]) -> Self {
        let mut message = Reader(crypto);
        assert_eq!(message.byte(), 1, "a ClientHello");
        let mut hello = Reader(message.counted(3));
        assert_eq!(hello.take(2), [3, 3]);
        let random = hello.take(32).to_vec();
        let session_id = hello.counted(1).to_vec();
        let suites = hello.counted(2).to_vec();
        let compressions = hello.counted(1).to_vec();
        let mut list = Reader(hello.counted(2));
        assert!(message.0.is_empty() && hello.0.is_empty(), "nothing follows");
        let mut extensions = BTreeMap::new();
        while !list.0.is_empty() {
            let twice = extensions.insert(list.number(2), list.counted(2).to_vec());
            assert_eq!(twice, None);
        }
        let parameters = read_parameters(&extensions.remove(&extension::QUIC).expect("it is QUIC"));
        Self { random, session_id, suites, compressions, extensions, parameters }
    }

    /// With zeros for what is random in each, and without QUIC's grease.
    pub(super) fn without_random_fields(&self) -> Self {
        let mut same = self.clone();
        same.random.fill(0);
        let share = same.extensions.get_mut(&extension::KEY_SHARE).expect("there is one");
        share[KEY_SHARE_HEAD..].fill(0);
        same.parameters.retain(|id, _| id % 31 != 27); // RFC 9000, section 18.1
        same.parameters.get_mut(&parameter::INITIAL_SOURCE_CONNECTION_ID).expect("there is one").fill(0);
        same
    }

    /// The only key share's public key.
    pub(super) fn key_share(&self) -> &[u8] {
        &self.extensions[&extension::KEY_SHARE][KEY_SHARE_HEAD..]
    }

    /// A transport parameter that is a number.
    pub(super) fn parameter(&self, id: u64) -> Option<usize> {
        self.parameters.get(&id).map(|value| Reader(value).varint())
    }
}

/// Lengths of the list and of the key, and the group between them.
const KEY_SHARE_HEAD: usize = 6;

fn read_parameters(bytes: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    let (mut reader, mut parameters) = (Reader(bytes), BTreeMap::new());
    while !reader.0.is_empty() {
        let id = reader.varint() as u64;
        let length = reader.varint();
        assert_eq!(parameters.insert(id, reader.take(length).to_vec()), None);
    }
    parameters
}

/// All connection ids that can be read in these packets, but for those that have the size of a look's.
pub(super) fn connection_ids(packets: &[Seen]) -> BTreeSet<Vec<u8>> {
    let mut ids = BTreeSet::new();
    for packet in packets.iter().filter(|packet| ![QUESTION, ANSWER].contains(&packet.contents.len())) {
        let mut reader = Reader(&packet.contents);
        if reader.byte() & LONG_HEADER == 0 {
            ids.insert(reader.take(ID).to_vec());
        } else {
            reader.take(4);
            ids.extend([reader.counted(1).to_vec(), reader.counted(1).to_vec()]);
        }
    }
    ids
}

/// The spin bits of these packets, as far as they have one, in their order.
pub(super) fn spin_bits<'a>(packets: impl IntoIterator<Item = &'a Seen>) -> Vec<bool> {
    let first = packets.into_iter().map(|packet| packet.contents[0]);
    first.filter(|byte| byte & LONG_HEADER == 0).map(|byte| byte & SPIN != 0).collect()
}

/// Takes bytes off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    /// An integer of this many bytes, the highest first, as TLS has them.
    fn number<T: TryFrom<usize>>(&mut self, bytes: usize) -> T {
        let number = self.take(bytes).iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        number.try_into().ok().expect("it is as short as the type")
    }

    /// A length of this many bytes, and as many bytes.
    fn counted(&mut self, bytes: usize) -> &'a [u8] {
        let length = self.number(bytes);
        self.take(length)
    }

    /// QUIC's integers: the top two bits say how many bytes there are.
    fn varint(&mut self) -> usize {
        let length = 1 << (self.0[0] >> 6);
        let number: usize = self.number(length);
        number & !(3 << (8 * length - 2))
    }
}
