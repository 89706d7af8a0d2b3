//! The asynchronous side of a circuit's streams, shared by exits and by the client's proxies.
//!
//! Specification: docs/protocol.md, "Streams"; the rules are in the protocol's `streams.rs`. A [`CircuitStreams`]
//! stands between the circuit's tasks, which bring and fetch messages, and one [`Stream`] per local program. No lock
//! is held across an await, and this file never reads or writes a cell or a socket: see `splice.rs` for the latter.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::BytesMut;
use tokio::sync::Notify;
use trefoil_protocol::{
    limits::{CELL, CELL_BATCH},
    message::{Message, Reason, StreamId, Target},
    onion::{self, Cell},
    streams::{End, Event, Streams, TooManyStreams, Violation},
};

/// All streams of one circuit at one end. Clones are the same circuit.
#[derive(Clone, Debug)]
pub struct CircuitStreams(Arc<Shared>);

/// A stream's local half. Dropping it before both directions have ended resets the stream: see [`Stream::close`].
#[derive(Debug)]
pub struct Stream {
    circuit: CircuitStreams,
    id: StreamId,
    local: Arc<Local>,
}

/// What the origin asks of a hop.
#[derive(Debug)]
pub struct Incoming {
    /// The new stream, to be [accepted](Stream::accept) or [refused](Stream::refuse).
    pub stream: Stream,
    /// What to connect it to.
    pub target: Target,
}

/// Why a stream did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The other end closed it, or the circuit died. The local program must see a reset, not an orderly end.
    #[error("the stream was closed: {0}")]
    Closed(Reason),
    /// The local program's connection failed; the other end has been told.
    #[error("the local connection failed")]
    Local(#[from] io::Error),
    /// The circuit has no room for another stream.
    #[error(transparent)]
    TooMany(#[from] TooManyStreams),
}

#[derive(Debug)]
struct Shared {
    end: End,
    state: Mutex<State>,
    /// There may be a message to fetch. One task at a time waits for it.
    outgoing: Notify,
}

#[derive(Debug)]
struct State {
    streams: Streams,
    locals: BTreeMap<StreamId, Arc<Local>>,
    failed: Option<Reason>,
    /// Bytes that were held and are no more, ever.
    left: u64,
}

/// What a circuit's streams hold, and whether it moves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Bytes.
    pub(crate) bytes: u64,
    /// All bytes that were held and have left, since the circuit began.
    pub(crate) left: u64,
}

/// What a local half waits for. It outlives its id, which may name another stream after an abort; the flags are only
/// used under the circuit's lock.
#[derive(Debug, Default)]
struct Local {
    opened: AtomicBool,
    /// We will write nothing more.
    written: AtomicBool,
    /// The peer will send nothing more, and the local half has all of it.
    drained: AtomicBool,
    /// The stream is gone before its time.
    closed: OnceLock<Reason>,
    room: Notify,
    news: Notify,
    /// For [`Stream::broken`] alone: what waits for bytes or room may be busy elsewhere.
    end: Notify,
}

impl CircuitStreams {
    /// No streams yet.
    pub fn new(end: End) -> Self {
        let state = State { streams: Streams::new(end), locals: BTreeMap::new(), failed: None, left: 0 };
        Self(Arc::new(Shared { end, state: Mutex::new(state), outgoing: Notify::new() }))
    }

    /// Origin: asks `hop` for a stream to `target`. Bytes may be sent at once.
    ///
    /// # Panics
    /// At a hop's end.
    pub fn open(&self, hop: u8, target: Target) -> Result<Stream, StreamError> {
        self.with(|state| {
            if let Some(reason) = state.failed {
                return Err(StreamError::Closed(reason));
            }
            let id = state.streams.open(hop, target)?;
            Ok(self.local_half(state, id))
        })
    }

    /// Streams that are not gone.
    pub fn len(&self) -> usize {
        self.lock().streams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held for local programs and for the circuit.
    pub fn buffered(&self) -> usize {
        self.lock().streams.buffered()
    }

    pub(crate) fn held(&self) -> Held {
        let state = self.lock();
        Held { bytes: state.streams.buffered() as u64, left: state.left }
    }

    /// Takes a message that `hop` said (0 at a hop's end). An error is the circuit's end: call [`fail`](Self::fail).
    pub fn handle_message(&self, hop: u8, message: &Message<'_>, now: Instant) -> Result<Option<Incoming>, Violation> {
        self.with(|state| {
            if state.failed.is_some() {
                return Ok(None);
            }
            let event = state.streams.handle_message(hop, message, now)?;
            Ok(event.and_then(|event| self.handle_event(state, event)))
        })
    }

    /// Fills `space` with the next message and says which hop it is for.
    pub fn poll_message(&self, space: &mut [u8]) -> Option<u8> {
        let mut state = self.lock();
        let hop = state.count_left(|state| state.streams.poll_message(space));
        while let Some(id) = state.streams.poll_writable() {
            if let Some(local) = state.locals.get(&id) {
                local.room.notify_one();
            }
        }
        hop
    }

    /// Makes cells of the next messages, [`CELL_BATCH`] at most: `seal` is given each with the hop that it is for.
    pub fn pack(&self, mut seal: impl FnMut(u8, &mut Cell)) -> BytesMut {
        let mut cells = BytesMut::new();
        while cells.len() < CELL_BATCH * CELL {
            let start = cells.len();
            cells.reserve(CELL_BATCH * CELL - start);
            cells.resize(start + CELL, 0);
            let cell: &mut Cell = cells.last_chunk_mut().expect("a cell was just added");
            match self.poll_message(onion::message_mut(cell)) {
                Some(hop) => seal(hop, cell),
                None => {
                    cells.truncate(start);
                    break;
                }
            }
        }
        cells
    }

    /// Waits until [`poll_message`](Self::poll_message) gives a message; for ever on a circuit that failed. Only one
    /// task at a time may wait. Nothing is lost when this is dropped.
    pub async fn ready(&self) {
        while !self.lock().streams.has_message() {
            self.0.outgoing.notified().await;
        }
    }

    /// The circuit died: every local half ends with `reason`, and no stream can be opened any more.
    pub fn fail(&self, reason: Reason) {
        let mut state = self.lock();
        state.failed.get_or_insert(reason);
        state.count_left(|state| state.streams = Streams::new(self.0.end));
        for local in std::mem::take(&mut state.locals).into_values() {
            local.close(reason);
        }
    }

    fn handle_event(&self, state: &mut State, event: Event) -> Option<Incoming> {
        match event {
            Event::Opening { stream, target } => {
                return Some(Incoming { stream: self.local_half(state, stream), target });
            }
            Event::Opened { stream } => state.tell(stream, |local| local.opened.store(true, Relaxed)),
            Event::Received { stream } => state.tell(stream, |_| ()),
            Event::Finished { stream } => {
                let drained = state.streams.is_drained(stream);
                state.tell(stream, |local| local.drained.store(drained, Relaxed));
            }
            Event::Aborted { stream, reason } => {
                if let Some(local) = state.locals.remove(&stream) {
                    local.close(reason);
                }
            }
        }
        None
    }

    fn local_half(&self, state: &mut State, id: StreamId) -> Stream {
        let local = Arc::new(Local::default());
        state.locals.insert(id, local.clone());
        Stream { circuit: self.clone(), id, local }
    }

    /// Runs `act`, and wakes the circuit's task if that made a first message.
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let had = state.streams.has_message();
        let result = state.count_left(act);
        if !had && state.streams.has_message() {
            self.0.outgoing.notify_one();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Runs `act`, which adds bytes or takes some away, and counts those.
    fn count_left<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.streams.buffered();
        let result = act(self);
        self.left += before.saturating_sub(self.streams.buffered()) as u64;
        result
    }

    fn tell(&self, id: StreamId, news: impl FnOnce(&Local)) {
        if let Some(local) = self.locals.get(&id) {
            news(local);
            local.news.notify_one();
        }
    }
}

impl Local {
    fn close(&self, reason: Reason) {
        self.closed.get_or_init(|| reason);
        self.news.notify_one();
        self.room.notify_one();
        self.end.notify_one();
    }
}

impl Stream {
    /// Origin: waits until the hop has connected the stream.
    pub async fn opened(&mut self) -> Result<(), StreamError> {
        while !self.with(|_| self.local.opened.load(Relaxed))? {
            self.local.news.notified().await;
        }
        Ok(())
    }

    /// Hop: says that the stream is connected.
    pub fn accept(&mut self) {
        if !self.local.opened.swap(true, Relaxed) {
            _ = self.with(|streams| streams.accept(self.id));
        }
    }

    /// Ends both directions for `reason`, which is an error: not `Done` or `Ended`.
    pub fn refuse(self, reason: Reason) {
        self.abort(reason);
    }

    /// Sends all of `bytes`; waits while there is no room. After [`finish`](Self::finish) it is an error.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.write_all(bytes).await
    }

    /// Sends nothing more: an orderly half-close, after what was sent.
    pub fn finish(&self) -> Result<(), StreamError> {
        if self.local.written.load(Relaxed) {
            return Ok(());
        }
        self.with(|streams| {
            streams.finish(self.id);
            self.local.written.store(true, Relaxed);
        })
    }

    /// Finishes and reads nothing more. What was sent still goes out, which it does not when a stream is just dropped.
    pub fn close(self) {
        _ = self.finish();
        let now = tokio::time::Instant::now().into_std();
        _ = self.with(|streams| {
            if !self.local.drained.swap(true, Relaxed) {
                streams.discard_received(self.id, now);
            }
        });
    }

    /// Waits for bytes and puts them in place of what is in `into`. 0 is the other end's orderly half-close.
    pub async fn receive(&mut self, into: &mut Vec<u8>) -> Result<usize, StreamError> {
        self.take(into).await?;
        if !into.is_empty() {
            self.consumed(into.len())?;
        }
        Ok(into.len())
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> Result<(), StreamError> {
        if self.local.written.load(Relaxed) {
            return Err(StreamError::Closed(Reason::Done));
        }
        loop {
            let taken = self.with(|streams| streams.write(self.id, bytes))?;
            bytes = bytes.get(taken..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            self.local.room.notified().await;
        }
    }

    /// Like [`receive`](Self::receive), but what is taken counts as held until it is [`consumed`](Self::consumed).
    pub(crate) async fn take(&self, into: &mut Vec<u8>) -> Result<(), StreamError> {
        while !self.with(|streams| self.try_take(streams, into))? {
            *into = Vec::new(); // nothing is held while nothing comes
            self.local.news.notified().await;
        }
        Ok(())
    }

    /// Whether there was something to take, or never will be.
    fn try_take(&self, streams: &mut Streams, into: &mut Vec<u8>) -> bool {
        if self.local.drained.load(Relaxed) {
            into.clear(); // the stream may be gone, and its id another's
            return true;
        }
        streams.take_received(self.id, into);
        !into.is_empty()
    }

    /// Bytes of the last [`take`](Self::take) are out of our hands, and the other end may get credit for them.
    pub(crate) fn consumed(&self, length: usize) -> Result<(), StreamError> {
        let now = tokio::time::Instant::now().into_std();
        self.with(|streams| {
            streams.consumed(self.id, length, now);
            self.local.drained.store(streams.is_drained(self.id), Relaxed);
        })
    }

    pub(crate) fn abort(&self, reason: Reason) {
        _ = self.with(|streams| {
            let over = self.local.written.load(Relaxed) && self.local.drained.load(Relaxed);
            if !over {
                streams.abort(self.id, reason);
                self.local.closed.get_or_init(|| reason);
            }
        });
    }

    /// Waits until the other end aborts the stream or the circuit dies, while whoever serves it waits for something
    /// else. Only one task at a time may wait. Cancel-safe.
    pub(crate) async fn broken(&self) -> StreamError {
        loop {
            if let Err(error) = self.with(|_| ()) {
                return error;
            }
            self.local.end.notified().await;
        }
    }

    /// Runs `act` unless the stream was closed: then its id may be another's. The same goes for one that is over, which
    /// callers take care of.
    fn with<R>(&self, act: impl FnOnce(&mut Streams) -> R) -> Result<R, StreamError> {
        self.circuit.with(|state| match self.local.closed.get() {
            Some(reason) => Err(StreamError::Closed(*reason)),
            None => Ok(act(&mut state.streams)),
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.abort(Reason::Reset);
        let mut state = self.circuit.lock();
        if state.locals.get(&self.id).is_some_and(|local| Arc::ptr_eq(local, &self.local)) {
            state.locals.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests;
