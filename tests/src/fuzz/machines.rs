//! Rules for what keeps state: bytes are cut into pieces, cells or a script, and drive it.

use std::time::{Duration, Instant};

use rand::{SeedableRng, rngs::StdRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use trefoil_client::{
    http,
    socks::{Negotiation, Request, SocksError, Step},
};
use trefoil_protocol::{
    crypto::Secret,
    identity::RelayId,
    limits::{
        CELL, GREETING_TIMEOUT, MAX_CREDIT, MAX_EXTENDS, MAX_HOPS, MAX_PAD_BUDGET, MAX_STREAMS, MESSAGE, SEND_BUFFER,
    },
    message::{ExtendError, Message, Reason, StreamId, Target},
    onion::{self, BackwardLayer, BackwardLayers, Cell, ForwardLayer, ForwardLayers},
    rules::{HopRules, OriginRules},
    streams::{End, Streams, Violation},
};

use super::{Verdict, padded};

/// What came of a SOCKS greeting: the replies on the way, and the request with the bytes behind it.
type Greeted = (Vec<u8>, Result<Option<(Request, Vec<u8>)>, SocksError>);

/// A SOCKS greeting ends the same way however it is cut. The first byte says how long the pieces are.
pub fn socks(data: &[u8]) -> Verdict {
    let Some((size, greeting)) = data.split_first() else { return Verdict::Refused };
    let whole = greet([greeting].into_iter());
    assert_eq!(greet(greeting.chunks(usize::from(*size).max(1))), whole);
    if let Ok(Some(_)) = whole.1 { Verdict::Accepted } else { Verdict::Refused }
}

fn greet<'a>(mut pieces: impl Iterator<Item = &'a [u8]>) -> Greeted {
    let (mut replies, mut negotiation) = (Vec::new(), Negotiation::new());
    let mut piece = pieces.next();
    while let Some(bytes) = piece {
        negotiation = match negotiation.advance(bytes) {
            Ok(Step::Incomplete(next)) => {
                piece = pieces.next();
                next
            }
            Ok(Step::Reply(reply, next)) => {
                replies.extend_from_slice(reply);
                piece = Some(&[]);
                next
            }
            Ok(Step::Request(request, rest)) => {
                let mut rest = rest.to_vec();
                rest.extend(pieces.flatten());
                return (replies, Ok(Some((request, rest))));
            }
            Err(error) => return (replies, Err(error)),
        };
    }
    (replies, Ok(None))
}

/// Whatever a program sends to the HTTP door, it hears one answer: 200 if a tunnel to a target that can be asked for is
/// open, and then what it sent behind its request is the tunnel's; else a refusal, or nothing when it asked nothing.
pub fn http(data: &[u8]) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads").block_on(async {
        let (mut program, proxy) = duplex(data.len() + ANSWERS);
        program.write_all(data).await.expect("there is room");
        program.shutdown().await.expect("a pipe ends");
        let answered = http::answer(proxy, GREETING_TIMEOUT, async |_, target| Ok(target)).await;
        let tunnel = answered.ok().and_then(|answered| Some((answered.stream?, answered.pipelined)));
        let mut said = Vec::new();
        program.read_to_end(&mut said).await.expect("a pipe does not fail");
        let Some((target, pipelined)) = tunnel else {
            assert!(said.is_empty() || said.starts_with(b"HTTP/1."), "{said:?}");
            return Verdict::Refused;
        };
        assert!(said.starts_with(b"HTTP/1.") && said.get(8..12) == Some(b" 200"), "{said:?}");
        assert!(data.ends_with(&pipelined));
        Message::Open { stream: StreamId(1), target }.encode(&mut [0; MESSAGE]);
        Verdict::Accepted
    })
}

/// Room for what the HTTP door says to one program.
const ANSWERS: usize = 64 * 1024;

/// Whatever a peer says in whatever order, the rules hold their bounds: hops, extensions, and padding that was asked
/// for. Two bytes a step: what is said or done, and by which hop or how often.
pub fn rules(data: &[u8]) -> Verdict {
    let (mut hop, mut origin) = (HopRules::default(), OriginRules::new());
    let (mut extends, mut asked, mut padding) = (0, 0u32, 0u32);
    let mut verdict = Verdict::Accepted;
    for step in data.as_chunks::<2>().0 {
        let [act, value] = step.map(usize::from);
        let speaker = value % MAX_HOPS;
        match act % 14 {
            10 => hop.extend_done(),
            11 => hop.extend_failed(),
            12 => drop(origin.start_extend()),
            13 => {
                asked += u32::from(step[1]);
                origin.start_padding(speaker, u16::from(step[1]));
            }
            kind => {
                let message = one_of_each(kind, value);
                let allowed = (hop.check(&message).is_ok(), origin.check(speaker, &message).is_ok());
                extends += usize::from(allowed.0 && matches!(message, Message::Extend { .. }));
                padding += u32::from(allowed.1 && message == Message::Padding);
                if allowed == (false, false) {
                    verdict = Verdict::Refused;
                }
            }
        }
        assert!(origin.hops() <= MAX_HOPS && extends <= usize::from(MAX_EXTENDS) && padding <= asked);
    }
    assert!(hop.take_padding() <= MAX_PAD_BUDGET);
    verdict
}

fn one_of_each(kind: usize, value: usize) -> Message<'static> {
    let stream = StreamId(1);
    let budget = u16::try_from(value).unwrap_or(u16::MAX);
    match kind {
        0 => Message::Extend { relay: RelayId::from_bytes([1; 32]), create: b"" },
        1 => Message::Extended { created: b"\0" },
        2 => Message::ExtendFailed(ExtendError::Unknown),
        3 => Message::Open { stream, target: Target::Directory },
        4 => Message::Opened { stream },
        5 => Message::Data { stream, bytes: b"x" },
        6 => Message::Credit { stream, bytes: 1 },
        7 => Message::Close { stream, reason: Reason::Done },
        8 => Message::PadStart { budget },
        _ => Message::Padding,
    }
}

/// Bytes of a stranger open in no layer, nor does a cell of the right peer with any bit changed. The bytes are both:
/// a cell, and the bits to change.
pub fn onion_hop(data: &[u8]) -> Verdict {
    let stranger = padded(data);
    assert!(ForwardLayer::new(key()).open(&mut stranger.clone()).is_err());
    assert!(origin().open(&mut stranger.clone()).is_err());

    let (mut forward, mut backward) = valid_cells();
    let unchanged = stranger.iter().all(|byte| *byte == 0);
    for cell in [&mut forward, &mut backward] {
        cell.iter_mut().zip(stranger).for_each(|(byte, change)| *byte ^= change);
    }
    assert_eq!(ForwardLayer::new(key()).open(&mut forward).is_ok(), unchanged);
    assert_eq!(origin().open(&mut backward).is_ok(), unchanged);
    if unchanged { Verdict::Accepted } else { Verdict::Refused }
}

/// The first cell in each direction of a circuit of one hop.
fn valid_cells() -> (Cell, Cell) {
    let (mut forward, mut backward) = ([0; CELL], [0; CELL]);
    for cell in [&mut forward, &mut backward] {
        Message::Padding.encode(onion::message_mut(cell));
    }
    let mut layers = ForwardLayers::default();
    layers.push(key());
    layers.seal(0, &mut forward, &mut StdRng::seed_from_u64(1));
    BackwardLayer::new(key()).speak(&mut backward);
    (forward, backward)
}

fn origin() -> BackwardLayers {
    let mut layers = BackwardLayers::default();
    layers.push(key());
    layers
}

fn key() -> Secret {
    Secret::new([7; 32])
}

/// Two ends of a circuit that follow a script understand each other until it lies, and hold no more than they may.
/// Each three bytes of the script are a deed, a stream and an amount.
pub fn streams(data: &[u8]) -> Verdict {
    let mut pair = Pair::new();
    for step in data.chunks_exact(3) {
        let (deed, id, amount) = (step[0], StreamId(step[1].into()), usize::from(step[2]) * 1024);
        if pair.act(deed, id, amount).is_err() {
            assert!(pair.lied, "an honest end was accused");
            return Verdict::Refused;
        }
        pair.check();
    }
    Verdict::Accepted
}

/// A circuit's ends, the origin's first.
struct Pair {
    ends: [Streams; 2],
    now: Instant,
    lied: bool,
    taken: Vec<u8>,
}

impl Pair {
    fn new() -> Self {
        let ends = [Streams::new(End::Origin), Streams::new(End::Hop)];
        Self { ends, now: Instant::now(), lied: false, taken: Vec::new() }
    }

    /// An odd deed is done at the hop, an even one at the origin.
    fn act(&mut self, deed: u8, id: StreamId, amount: usize) -> Result<(), Violation> {
        self.now += Duration::from_millis(1);
        let (at, now) = (usize::from(deed % 2), self.now);
        let end = &mut self.ends[at];
        match deed / 2 {
            0 if at == 0 => drop(end.open(0, Target::Directory)),
            0 => end.accept(id),
            1 => drop(end.write(id, &vec![7; amount])),
            2 => end.finish(id),
            3 => end.abort(id, Reason::Reset),
            4 => {
                end.take_received(id, &mut self.taken);
                end.consumed(id, self.taken.len(), now);
            }
            5 => end.discard_received(id, now),
            6 => return self.deliver(at),
            lie => return self.lie(at, lie, id, amount),
        }
        Ok(())
    }

    /// Hands over all that one end has to say.
    fn deliver(&mut self, from: usize) -> Result<(), Violation> {
        let mut space = [0; MESSAGE];
        while self.ends[from].poll_message(&mut space).is_some() {
            let message = Message::decode(&space).expect("an end says only what can be read");
            self.ends[1 - from].handle_message(0, &message, self.now)?;
        }
        Ok(())
    }

    /// Says to one end what the other has not said.
    fn lie(&mut self, to: usize, lie: u8, stream: StreamId, amount: usize) -> Result<(), Violation> {
        self.lied = true;
        let bytes = u32::try_from(amount + 1).expect("at most 256 KiB");
        let message = match lie % 7 {
            0 => Message::Open { stream, target: Target::Mailbox },
            1 => Message::Opened { stream },
            2 => Message::Data { stream, bytes: &[7; 1000] },
            3 => Message::Credit { stream, bytes },
            4 => Message::Close { stream, reason: Reason::Done },
            5 => Message::Close { stream, reason: Reason::Ended },
            _ => Message::Close { stream, reason: Reason::Refused },
        };
        self.ends[to].handle_message(0, &message, self.now).map(drop)
    }

    fn check(&self) {
        let most = SEND_BUFFER + usize::try_from(MAX_CREDIT).expect("a few MiB");
        for end in &self.ends {
            assert!(end.len() <= MAX_STREAMS);
            assert!(end.buffered() <= end.len() * most);
        }
    }
}
