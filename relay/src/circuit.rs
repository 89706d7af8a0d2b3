//! A circuit as one of its relays sees it: a handshake, then two tasks, one for each direction.
//!
//! ```text
//!            forward task: open our layer ──► pass on │ handle what is for us
//! upstream ◄──────────────────────────────────────────────────────────────► downstream
//!            backward task: seal our layer ◄── what comes back │ what we say
//! ```
//!
//! Specification: docs/protocol.md, "Circuits". Each task owns the key and the stream half that it writes with; they
//! share the streams that end here and one shutdown token. A task that cannot write does not read: that is all the
//! flow control between relays there is.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{Semaphore, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use trefoil_protocol::{
    cell::{self, Create, Refusal},
    crypto::Secret,
    handshake::{self, CircuitKeys, HandshakeError},
    limits::{DIRECTORY_STREAMS, MAILBOX_STREAMS},
    message::{ExtendError, MessageError, Reason},
    onion::{BackwardLayer, Cell, ForwardLayer, LayerError},
    puzzle::Puzzle,
    rules, streams,
};

use crate::{
    backward::Backward,
    cells::{self, CellError, CellReader},
    forward::Forward,
    gate::Pass,
    link::Link,
    memory::OpenAccount,
    node::Node,
    outlets::CircuitOutlets,
    pump::CircuitStreams,
    reason::CloseReason,
};

/// What the forward task asks the backward task to say. Few: a hop is rarely asked for anything at once.
const SAY_QUEUE: usize = 4;

/// What both tasks of a circuit share.
pub(crate) struct Shared {
    pub(crate) node: Arc<Node>,
    pub(crate) streams: CircuitStreams,
    pub(crate) account: OpenAccount,
    pub(crate) outlets: CircuitOutlets,
    /// Places for its streams to the directory.
    pub(crate) askers: Semaphore,
    /// Places for its streams to the mailbox.
    pub(crate) mailbox_places: Semaphore,
    /// Whose turn it is of these to have a ring looked for.
    pub(crate) ring_turn: Semaphore,
    /// What claims on this circuit are tied to; there once the handshake is done.
    pub(crate) binding: OnceLock<Secret>,
    pub(crate) closed: CancellationToken,
    /// Why the task that ended first did, for both halves of the link towards the origin.
    reason: OnceLock<CloseReason>,
}

/// Something for the backward task, besides stream messages.
pub(crate) enum Say {
    /// The circuit has a next hop now: tell the origin, and read from it.
    Extended(Vec<u8>, CellReader),
    /// It has not.
    NotExtended(ExtendError),
    /// This many padding cells.
    Padding(u16),
}

/// What a handshake gives here.
struct Answer {
    created: Vec<u8>,
    keys: CircuitKeys,
    shared: Arc<Shared>,
}

/// Why a circuit ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CircuitError {
    #[error("{0}")]
    Cells(#[from] CellError),
    #[error("{0}")]
    Layer(#[from] LayerError),
    #[error("{0}")]
    Message(#[from] MessageError),
    #[error("{0}")]
    Rules(#[from] rules::Violation),
    #[error("{0}")]
    Stream(#[from] streams::Violation),
    #[error("a cell for a next hop that is not there")]
    NoNextHop,
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error("closed by this relay")]
    Closed,
}

/// Serves a circuit that a peer has opened, from its first cell to its end.
pub(crate) async fn serve(node: Arc<Node>, link: Link, mut circuit: cells::Circuit, first: BytesMut) {
    let created = tokio::select! {
        // Boxed: what a handshake needs is not kept for the circuit's life.
        created = Box::pin(create(&node, &link, &mut circuit, first)) => created,
        () = node.shutdown.cancelled() => return circuit.close(CloseReason::Shutdown), // its link has closed for this reason
    };
    let (keys, shared) = match created {
        Ok(made) => made,
        Err(error) => return refuse(circuit, &error).await,
    };
    shared.binding.get_or_init(|| keys.binding);
    let (say, said) = mpsc::channel(SAY_QUEUE);

    let backward = Backward::new(Arc::clone(&shared), circuit.writer, BackwardLayer::new(keys.backward), said);
    node.tracker.spawn(backward.run());
    Forward::new(shared, link, circuit.reader, ForwardLayer::new(keys.forward), say).run().await;
}

/// Ends what did not become a circuit; a refusal must reach the peer first.
async fn refuse(mut circuit: cells::Circuit, error: &CircuitError) {
    debug!(%error, "a circuit was not made");
    let CircuitError::Refused(_) = error else { return circuit.close(error.reason_for_peer()) };
    circuit.reader.set_reason(error.reason_for_peer());
    if let Err(error) = circuit.writer.finish().await {
        debug!(%error, "a refusal did not arrive");
    }
}

/// Answers the first cell. What it gives is of a circuit whose `Created` is on its way.
async fn create(
    node: &Arc<Node>,
    link: &Link,
    circuit: &mut cells::Circuit,
    mut first: BytesMut,
) -> Result<(CircuitKeys, Arc<Shared>), CircuitError> {
    match answer(node, link, as_cell(&mut first)).await {
        Ok(Answer { created, keys, shared }) => {
            circuit.writer.write(one(&cell::created_cell(&created))).await?;
            Ok((keys, shared))
        }
        Err(refusal) => {
            node.directory.counters().count(refusal.into());
            circuit.writer.write(one(&cell::refusal_cell(refusal))).await?;
            Err(CircuitError::Refused(refusal))
        }
    }
}

/// The handshake itself, when it is this link's turn; cheap checks first.
async fn answer(node: &Arc<Node>, link: &Link, first: &Cell) -> Result<Answer, Refusal> {
    let create = Create::from_cell(first).map_err(|_| Refusal::Refused)?;
    let onion = node.onion_secret(create.onion_key).ok_or(Refusal::Refused)?;
    let peer = node.peer_for(&onion);
    let asked = node.effort();
    let puzzle = Puzzle { effort: asked, hour: node.hour() };
    if !puzzle.is_solved_by(&peer.relay, create.x, &create.solution) {
        return Err(Refusal::Busy(asked));
    }
    if asked > 0 {
        node.spent.take(create.x).map_err(|_| Refusal::Busy(asked))?;
    }
    let (shared, _pass) = enter(node, link).await.inspect_err(|_| {
        if asked > 0 {
            node.spent.give_back(create.x);
        }
    })?;
    let (created, keys) = handshake::respond(&peer, &onion, &create, &mut node.rng()).map_err(|error| {
        debug!(%error, "a handshake failed");
        Refusal::Refused
    })?;
    Ok(Answer { created, keys, shared })
}

/// Waits for this link's turn; the circuit's place is taken before the work is done.
async fn enter(node: &Arc<Node>, link: &Link) -> Result<(Arc<Shared>, Pass), Refusal> {
    let shared = Shared::new(node).ok_or(Refusal::Limit)?;
    let pass = node.handshakes.enter(link.id()).await.map_err(|_| Refusal::Busy(node.effort()))?;
    if let Some(time) = node.slow_handshakes {
        sleep(time).await;
    }
    Ok((shared, pass))
}

impl CircuitError {
    /// What the neighbour that sent the offending cell is told; see docs/protocol.md, "Closing".
    fn reason_for_peer(&self) -> CloseReason {
        match self {
            Self::Cells(_) | Self::Closed => CloseReason::Unspecified,
            Self::Refused(_) => CloseReason::Limit,
            Self::Layer(_)
            | Self::Message(_)
            | Self::Rules(_)
            | Self::Stream(_)
            | Self::NoNextHop
            | Self::Handshake(_) => CloseReason::Protocol,
        }
    }
}

impl Shared {
    /// Of a new circuit, if there is room for it.
    fn new(node: &Arc<Node>) -> Option<Arc<Self>> {
        let closed = node.shutdown.child_token();
        let streams = CircuitStreams::new(streams::End::Hop);
        let account = node.memory.open(streams.clone(), closed.clone())?;
        let outlets = node.exit.circuit_outlets();
        Some(Arc::new(Self {
            node: Arc::clone(node),
            streams,
            account,
            outlets,
            askers: Semaphore::new(DIRECTORY_STREAMS),
            mailbox_places: Semaphore::new(MAILBOX_STREAMS),
            ring_turn: Semaphore::new(1),
            binding: OnceLock::new(),
            closed,
            reason: OnceLock::new(),
        }))
    }

    /// What the neighbour towards the origin is told: the same by both tasks, whichever ended first.
    pub(crate) fn reason_for_peer(&self, error: &CircuitError) -> CloseReason {
        *self.reason.get_or_init(|| error.reason_for_peer())
    }

    /// Ends everything that this circuit has here.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.streams.fail(Reason::Reset);
    }
}

/// A cell as it is handed to a link.
pub(crate) fn one(cell: &Cell) -> Bytes {
    Bytes::copy_from_slice(cell)
}

/// A buffer of exactly one cell, as one.
pub(crate) fn as_cell(bytes: &mut [u8]) -> &mut Cell {
    bytes.try_into().expect("the reader gives whole cells, and the caller takes one")
}

#[cfg(test)]
mod tests;
