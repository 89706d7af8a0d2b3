//! A circuit as its origin sees it, once it is built: a task that carries both directions, and the streams on it.
//!
//! Specification: docs/protocol.md, "Circuits". `build.rs` makes them, `pool.rs` decides what they are used for. A cell
//! that does not open, or says what it must not, ends the circuit; nothing is dropped in silence.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rand::rngs::StdRng;
use tokio::{sync::Notify, time::Instant};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::debug;
use trefoil_protocol::{
    crypto::Secret,
    entry::RelayEntry,
    identity::RelayId,
    limits::{CELL, CELL_BATCH, CIRCUIT_LIFETIME},
    message::{Message, MessageError, Reason, Target},
    onion::{self, BackwardLayers, Cell, ForwardLayers, LayerError},
    rules::{self, OriginRules},
    streams,
};
use trefoil_relay::{
    cells::{CellError, CellReader, CellWriter},
    pump::{CircuitStreams, Stream, StreamError},
};

use crate::pulse::{Act, Pulse};

/// Between two looks at whether the circuit is alive.
const PULSE_EVERY: Duration = Duration::from_millis(250);

/// A circuit in use. It closes when the last handle is dropped.
pub(crate) struct Circuit {
    streams: CircuitStreams,
    shared: Arc<Shared>,
    hops: Vec<Hop>,
    binding: Secret,
    made: Instant,
    closed: CancellationToken,
    _close: DropGuard,
}

/// A hop of a circuit, for people to look at.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The relay.
    pub relay: RelayEntry,
    /// From asking for this hop to having its keys.
    pub took: Duration,
}

/// All that a circuit needs, when its last hop has been added.
pub(crate) struct Parts {
    pub(crate) reader: CellReader,
    pub(crate) writer: CellWriter,
    pub(crate) forward: ForwardLayers,
    pub(crate) backward: BackwardLayers,
    pub(crate) rules: OriginRules,
    pub(crate) hops: Vec<Hop>,
    /// What claims at the last hop are tied to.
    pub(crate) binding: Secret,
    pub(crate) rng: StdRng,
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
    #[error("its relays do not answer any more")]
    Silent,
}

/// What the two directions share.
struct Shared {
    streams: CircuitStreams,
    rules: Mutex<OriginRules>,
    pulse: Mutex<Pulse>,
    ask: Notify,
    last_hop: usize,
}

impl Circuit {
    /// Starts the circuit's task.
    pub(crate) fn start(parts: Parts, tracker: &TaskTracker, shutdown: &CancellationToken) -> Arc<Self> {
        let streams = CircuitStreams::new(streams::End::Origin);
        let slowest = parts.hops.iter().map(|hop| hop.took).max().unwrap_or_default();
        let shared = Arc::new(Shared {
            streams: streams.clone(),
            rules: Mutex::new(parts.rules),
            pulse: Mutex::new(Pulse::new(slowest, Instant::now())),
            ask: Notify::new(),
            last_hop: parts.hops.len() - 1,
        });
        let closed = shutdown.child_token();
        let inwards = Inwards { shared: Arc::clone(&shared), reader: parts.reader, layers: parts.backward };
        let outwards =
            Outwards { shared: Arc::clone(&shared), writer: parts.writer, layers: parts.forward, rng: parts.rng };
        tracker.spawn(run(Arc::clone(&shared), inwards, outwards, closed.clone()));
        let (made, _close) = (Instant::now(), closed.clone().drop_guard());
        Arc::new(Self { streams, shared, hops: parts.hops, binding: parts.binding, made, closed, _close })
    }

    /// Opens a stream at the last hop; [`Stream::opened`] tells when it is connected.
    pub(crate) fn open(&self, target: Target) -> Result<Stream, StreamError> {
        let last = u8::try_from(self.hops.len() - 1).expect("a circuit has at most six hops");
        self.streams.open(last, target)
    }

    /// Asks the last hop for a sign of life, unless one was asked for already.
    pub(crate) fn ask_for_life(&self) {
        if self.shared.pulse().urge(Instant::now()) {
            self.shared.ask.notify_one();
        }
    }

    /// Whether anything came from the last hop since then.
    pub(crate) fn was_heard_since(&self, then: Instant) -> bool {
        self.shared.pulse().last_heard() > then
    }

    /// When it was made.
    pub(crate) fn made(&self) -> Instant {
        self.made
    }

    /// The relays, guard first.
    pub(crate) fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// What claims at the last hop are tied to.
    pub(crate) fn binding(&self) -> &[u8; 32] {
        &self.binding
    }

    /// Whether any of these relays is on it.
    pub(crate) fn has_any(&self, relays: &[RelayId]) -> bool {
        self.hops.iter().any(|hop| relays.contains(&hop.relay.id))
    }

    /// Whether it may take this stream: alive, young enough, and its exit may serve the target.
    pub(crate) fn may_take(&self, target: &Target) -> bool {
        let exit = self.hops.last().is_some_and(|hop| hop.relay.exit.may_allow(target));
        exit && self.is_alive() && self.made.elapsed() < CIRCUIT_LIFETIME
    }

    /// Whether it has streams.
    pub(crate) fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        !self.closed.is_cancelled()
    }

    /// Whether nothing is lost by letting go of it: it has ended, or is too old for new streams and has none.
    pub(crate) fn is_spent(&self) -> bool {
        !self.is_alive() || (self.made.elapsed() >= CIRCUIT_LIFETIME && self.streams.is_empty())
    }
}

/// Runs both directions until either ends.
async fn run(shared: Arc<Shared>, mut inwards: Inwards, mut outwards: Outwards, closed: CancellationToken) {
    let ended = tokio::select! {
        biased; // one that is to close says nothing more, whatever waits to be said
        () = closed.cancelled() => None,
        error = inwards.carry() => Some(error),
        error = outwards.carry() => Some(error),
        error = watch(&shared) => Some(error),
    };
    if let Some(error) = ended {
        debug!(%error, "a circuit ended");
    }
    closed.cancel();
    shared.streams.fail(Reason::Reset);
}

/// Asks for signs of life while there are streams; ends when there is none.
async fn watch(shared: &Shared) -> CircuitError {
    let mut ticks = tokio::time::interval(PULSE_EVERY);
    loop {
        ticks.tick().await;
        let mut pulse = shared.pulse();
        if shared.streams.is_empty() {
            pulse.rest(Instant::now());
            continue;
        }
        match pulse.poll(Instant::now()) {
            Act::Nothing => {}
            Act::Ask => {
                shared.ask.notify_one();
            }
            Act::GiveUp => return CircuitError::Silent,
        }
    }
}

impl Shared {
    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self) -> MutexGuard<'_, OriginRules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The direction towards the origin.
struct Inwards {
    shared: Arc<Shared>,
    reader: CellReader,
    layers: BackwardLayers,
}

impl Inwards {
    async fn carry(&mut self) -> CircuitError {
        loop {
            let handled = match self.reader.cells().await {
                Ok(mut cells) => cells.as_chunks_mut::<CELL>().0.iter_mut().try_for_each(|cell| self.handle(cell)),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = handled {
                return error;
            }
        }
    }

    fn handle(&mut self, cell: &mut Cell) -> Result<(), CircuitError> {
        let hop = self.layers.open(cell)?;
        let message = Message::decode(onion::message(cell))?;
        self.shared.rules().check(hop, &message)?;
        let now = Instant::now();
        if message == Message::Padding {
            self.shared.pulse().answered(now);
            return Ok(());
        }
        self.shared.pulse().heard(now);
        let hop = u8::try_from(hop).expect("a circuit has at most six hops");
        self.shared.streams.handle_message(hop, &message, now.into_std())?;
        Ok(())
    }
}

/// The direction away from the origin.
struct Outwards {
    shared: Arc<Shared>,
    writer: CellWriter,
    layers: ForwardLayers,
    rng: StdRng,
}

impl Outwards {
    async fn carry(&mut self) -> CircuitError {
        loop {
            let written = tokio::select! {
                biased; // so that a simulation repeats itself; a question is rare, and holds nothing up
                () = self.shared.ask.notified() => self.ask_for_life().await,
                () = self.shared.streams.ready() => self.write_batch().await,
            };
            if let Err(error) = written {
                return error.into();
            }
        }
    }

    /// Writes what the streams have to say, one batch at most.
    async fn write_batch(&mut self) -> Result<(), CellError> {
        let (layers, rng) = (&mut self.layers, &mut self.rng);
        let cells = self.shared.streams.pack(|hop, cell| layers.seal(usize::from(hop), cell, rng));
        let whole = cells.len() == CELL_BATCH * CELL;
        if !cells.is_empty() {
            self.writer.write(cells.freeze()).await?;
        }
        if whole {
            self.shared.pulse().wrote_batch(Instant::now());
        }
        Ok(())
    }

    /// Writes a cell that asks the last hop for one in return.
    async fn ask_for_life(&mut self) -> Result<(), CellError> {
        let hop = self.shared.last_hop;
        self.shared.rules().start_padding(hop, 1);
        let mut cell = [0; CELL];
        Message::PadStart { budget: 1 }.encode(onion::message_mut(&mut cell));
        self.layers.seal(hop, &mut cell, &mut self.rng);
        self.writer.write(Bytes::copy_from_slice(&cell)).await?;
        self.shared.pulse().asked(Instant::now());
        Ok(())
    }
}
