//! Building a circuit: one handshake with the guard, then one more through each hop.
//!
//! Specification: docs/protocol.md, "Handshake" and "Extend". Nothing else is said on a circuit before it is whole. A
//! relay that asks for a puzzle gets it solved once; a second `Busy` is a failure.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::{Instant, timeout};
use trefoil_protocol::{
    cell::{self, Refusal},
    crypto::Secret,
    entry::RelayEntry,
    handshake::{CircuitKeys, HandshakeError, OriginHandshake, Peer},
    identity::RelayId,
    limits::{CELL, HOP_BUILD_TIMEOUT, MAX_EFFORT},
    message::{ExtendError, Message, MessageError},
    onion::{self, BackwardLayers, Cell, ForwardLayers, LayerError},
    params::NetworkId,
    puzzle::{Hour, Puzzle},
    rules::{self, OriginRules},
};
use trefoil_relay::{
    cells::{CellError, CellReader, CellWriter},
    endpoint::DialError,
    link::{Link, LinkError},
    reason::CloseReason,
    socket::BindError,
};

use crate::{
    circuit::{Hop, Parts},
    guards::Guards,
};

/// Why a circuit was not built, and at which relay it failed.
#[derive(Debug, thiserror::Error)]
#[error("relay {}: {cause}", .relay.short())]
pub(crate) struct BuildError {
    /// The relay that failed, as far as the origin can tell.
    pub(crate) relay: RelayId,
    /// The relay that says so, when only its word is there for it.
    pub(crate) witness: Option<RelayId>,
    pub(crate) cause: Cause,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("{0}")]
    Cells(#[from] CellError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Extend(#[from] ExtendError),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("{0}")]
    Layer(#[from] LayerError),
    #[error("{0}")]
    Message(#[from] MessageError),
    #[error("{0}")]
    Rules(#[from] rules::Violation),
    #[error("it asks for a puzzle of {0} bits, more than is allowed or a second time")]
    Puzzle(u8),
    #[error("it answered with something else")]
    Unexpected,
    #[error("it did not answer in time")]
    Timeout,
}

/// A circuit that has its first hops.
struct Unfinished {
    network: NetworkId,
    reader: CellReader,
    writer: CellWriter,
    forward: ForwardLayers,
    backward: BackwardLayers,
    rules: OriginRules,
    hops: Vec<Hop>,
    /// What claims at the last hop are tied to.
    binding: Secret,
    rng: StdRng,
}

/// How many hops a circuit under way has, for whoever waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made(Arc<AtomicUsize>);

impl Made {
    /// Hops that have been added.
    pub(crate) fn hops(&self) -> usize {
        self.0.load(Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Builds a circuit along `path`, guard first.
pub(crate) async fn build(
    network: NetworkId,
    guards: &Guards,
    path: &[RelayEntry],
    made: &Made,
    mut rng: StdRng,
) -> Result<Parts, BuildError> {
    let [guard, rest @ ..] = path else { panic!("a path has at least one hop") };
    let first = async {
        let link = guards.link(guard).await?;
        Unfinished::create(network, &link, guard, &mut rng).await
    };
    let mut circuit = hop(guard, None, first).await?;
    made.add();
    for (before, relay) in path.iter().zip(rest) {
        hop(relay, Some(before.id), circuit.extend(relay)).await?;
        made.add();
    }
    let Unfinished { reader, writer, forward, backward, rules, hops, binding, rng, .. } = circuit;
    Ok(Parts { reader, writer, forward, backward, rules, hops, binding, rng })
}

/// One hop's making, within its time; what fails is blamed on its relay.
async fn hop<T>(
    relay: &RelayEntry,
    before: Option<RelayId>,
    making: impl Future<Output = Result<T, Cause>>,
) -> Result<T, BuildError> {
    let made = timeout(HOP_BUILD_TIMEOUT, making).await.unwrap_or(Err(Cause::Timeout));
    made.map_err(|cause| {
        let witness = if let Cause::Extend(_) = cause { before } else { None };
        BuildError { relay: relay.id, witness, cause }
    })
}

impl Unfinished {
    /// The first hop.
    async fn create(network: NetworkId, link: &Link, guard: &RelayEntry, rng: &mut StdRng) -> Result<Self, Cause> {
        let started = Instant::now();
        let mut puzzle = Puzzle::NONE;
        loop {
            let mut circuit = link.open_circuit().await?;
            // Always, whatever happens later: a reason would let a bad last hop tell a bad guard something.
            circuit.reader.set_reason(CloseReason::Unspecified);
            circuit.writer.set_reason(CloseReason::Unspecified);
            let handshake = start(peer(network, guard), puzzle, rng).await;
            circuit.writer.write(one(&cell::create_cell(handshake.create()))).await?;
            let answer = next_cell(&mut circuit.reader).await?;
            match cell::read_created(&answer).map_err(|_| Cause::Unexpected)? {
                Ok(created) => {
                    let keys = handshake.finish(created)?;
                    let mut new = Self {
                        network,
                        reader: circuit.reader,
                        writer: circuit.writer,
                        forward: ForwardLayers::default(),
                        backward: BackwardLayers::default(),
                        rules: OriginRules::new(),
                        hops: Vec::new(),
                        binding: Secret::default(),
                        rng: StdRng::from_rng(rng),
                    };
                    new.push(keys, guard, started);
                    return Ok(new);
                }
                Err(Refusal::Busy(effort)) => puzzle = harder(puzzle, effort)?,
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    /// One hop more.
    async fn extend(&mut self, relay: &RelayEntry) -> Result<(), Cause> {
        let started = Instant::now();
        let mut puzzle = Puzzle::NONE;
        loop {
            let handshake = start(peer(self.network, relay), puzzle, &mut self.rng).await;
            assert!(self.rules.start_extend(), "a path has at most six hops, and one is added at a time");
            self.say(&Message::Extend { relay: relay.id, create: handshake.create() }).await?;
            let mut answer = next_cell(&mut self.reader).await?;
            let hop = self.backward.open(&mut answer)?;
            let message = Message::decode(onion::message(&answer))?;
            self.rules.check(hop, &message)?;
            match message {
                Message::Extended { created } => {
                    let keys = handshake.finish(created)?;
                    self.push(keys, relay, started);
                    return Ok(());
                }
                Message::ExtendFailed(ExtendError::Busy(effort)) => puzzle = harder(puzzle, effort)?,
                Message::ExtendFailed(error) => return Err(error.into()),
                _ => return Err(Cause::Unexpected),
            }
        }
    }

    fn push(&mut self, keys: CircuitKeys, relay: &RelayEntry, started: Instant) {
        self.forward.push(keys.forward);
        self.backward.push(keys.backward);
        self.binding = keys.binding;
        self.hops.push(Hop { relay: relay.clone(), took: started.elapsed() });
    }

    /// Says something to the last hop.
    async fn say(&mut self, message: &Message<'_>) -> Result<(), Cause> {
        let mut cell = [0; CELL];
        message.encode(onion::message_mut(&mut cell));
        self.forward.seal(self.hops.len() - 1, &mut cell, &mut self.rng);
        Ok(self.writer.write(one(&cell)).await?)
    }
}

/// A handshake; where it has a puzzle, on a thread that may be busy for a while.
async fn start(peer: Peer, puzzle: Puzzle, rng: &mut StdRng) -> OriginHandshake {
    if puzzle.effort == 0 {
        return OriginHandshake::start(peer, puzzle, rng);
    }
    let mut rng = StdRng::from_rng(rng);
    let solved = tokio::task::spawn_blocking(move || OriginHandshake::start(peer, puzzle, &mut rng));
    solved.await.expect("solving does not panic, and nobody aborts it")
}

/// The puzzle to solve after a refusal, if it is the first and within bounds.
fn harder(before: Puzzle, effort: u8) -> Result<Puzzle, Cause> {
    if before.effort > 0 || !(1..=MAX_EFFORT).contains(&effort) {
        return Err(Cause::Puzzle(effort));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(Puzzle { effort, hour: Hour::of_unix(now) })
}

fn peer(network: NetworkId, relay: &RelayEntry) -> Peer {
    Peer { network, relay: relay.id, onion: relay.onion_key }
}

fn one(cell: &Cell) -> Bytes {
    Bytes::copy_from_slice(cell)
}

/// The only cell that may come now.
async fn next_cell(reader: &mut CellReader) -> Result<Cell, Cause> {
    let cells: BytesMut = reader.cells().await?;
    cells.as_ref().try_into().map_err(|_| Cause::Unexpected)
}
