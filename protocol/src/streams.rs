//! The streams of one circuit at one of its ends: a state machine over "say a message of at most n bytes".
//!
//! Specification: docs/protocol.md, "Streams". Messages go in with [`Streams::handle_message`] and come out of
//! [`Streams::poll_message`]; in between, the local programs write, read and close. One stream's rules are in
//! `stream.rs`. This file never waits, and never keeps more of a peer's bytes than it gave credit for.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Instant,
};

use crate::{
    limits::MAX_STREAMS,
    message::{Message, Reason, StreamId, Target},
    stream::Stream,
};

/// Which end of the circuit this is. Only the origin opens streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The circuit's origin: its streams may end at any hop.
    Origin,
    /// A hop: all its streams come from the origin.
    Hop,
}

/// What a message meant for a local program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Hop: the origin asks for a stream. Answer with [`Streams::accept`] or [`Streams::abort`].
    Opening {
        /// The new stream.
        stream: StreamId,
        /// What to connect it to.
        target: Target,
    },
    /// Origin: the hop has connected the stream.
    Opened {
        /// Which stream.
        stream: StreamId,
    },
    /// There are bytes to take.
    Received {
        /// Which stream.
        stream: StreamId,
    },
    /// The peer will send nothing more; what it sent may still wait here, and our direction goes on.
    Finished {
        /// Which stream.
        stream: StreamId,
    },
    /// The peer ended both directions, and what waited in them is gone. Its id may soon name another stream.
    Aborted {
        /// Which stream.
        stream: StreamId,
        /// Why; never [`Reason::Done`] or [`Reason::Ended`].
        reason: Reason,
    },
}

/// Why a peer loses its circuit: it said what no stream allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A message for a stream that is not open at the hop which said it.
    #[error("no such stream")]
    NotOpen,
    /// An `Open` with an id in use, or from a hop.
    #[error("a stream was opened that may not be")]
    Open,
    /// More than [`MAX_STREAMS`] streams.
    #[error("too many streams")]
    Limit,
    /// A message that the stream's state does not allow.
    #[error("a message out of turn")]
    State,
    /// More bytes than there was credit for.
    #[error("more bytes than credit")]
    Overrun,
    /// More credit than [`crate::limits::MAX_CREDIT`].
    #[error("more credit than a stream can have")]
    Credit,
    /// A message that is about no stream.
    #[error("not a message of a stream")]
    Foreign,
}

/// The circuit has [`MAX_STREAMS`] streams already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit has no room for another stream")]
pub struct TooManyStreams;

/// All streams of one circuit at one end. Calls that name a stream which is gone do nothing.
#[derive(Debug)]
pub struct Streams {
    end: End,
    streams: BTreeMap<StreamId, Slot>,
    /// Streams with something to say besides `Data`.
    controls: VecDeque<StreamId>,
    /// Streams with bytes and credit, in the order of their turns.
    ready: VecDeque<StreamId>,
    /// Streams whose local program waited for room and now has it.
    writable: VecDeque<StreamId>,
    /// Bytes held for all streams.
    held: usize,
    /// Where the search for an unused id begins.
    next: StreamId,
}

/// A stream, and which queues it is in.
#[derive(Debug)]
struct Slot {
    stream: Stream,
    in_controls: bool,
    in_ready: bool,
    in_writable: bool,
}

impl Streams {
    /// No streams yet.
    pub fn new(end: End) -> Self {
        Self {
            end,
            streams: BTreeMap::new(),
            controls: VecDeque::new(),
            ready: VecDeque::new(),
            writable: VecDeque::new(),
            held: 0,
            next: StreamId(0),
        }
    }

    /// How many streams there are; one counts until both ends have had their last word.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there are no streams.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Bytes held in both directions: written and not sent, and received and not [`consumed`](Self::consumed).
    pub fn buffered(&self) -> usize {
        self.held
    }

    /// Runs `act` on a stream, then does the bookkeeping for all that it may have changed.
    fn update<R>(&mut self, id: StreamId, act: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        let slot = self.streams.get_mut(&id)?;
        let before = slot.stream.held();
        let result = act(&mut slot.stream);
        self.held = self.held - before + slot.stream.held();
        if slot.stream.has_control() && !mem::replace(&mut slot.in_controls, true) {
            self.controls.push_back(id);
        }
        if slot.stream.has_data() && !mem::replace(&mut slot.in_ready, true) {
            self.ready.push_back(id);
        }
        if slot.stream.has_room() && !mem::replace(&mut slot.in_writable, true) {
            self.writable.push_back(id);
        }
        if slot.stream.is_gone() {
            self.forget(id);
        }
        Some(result)
    }

    fn insert(&mut self, id: StreamId, stream: Stream) {
        self.streams.insert(id, Slot { stream, in_controls: false, in_ready: false, in_writable: false });
        self.update(id, |_| ());
    }

    /// Removes a stream that is gone, so that its id can be used again.
    fn forget(&mut self, id: StreamId) {
        let Some(slot) = self.streams.remove(&id) else { return };
        let queues = [
            (slot.in_controls, &mut self.controls),
            (slot.in_ready, &mut self.ready),
            (slot.in_writable, &mut self.writable),
        ];
        for (_, queue) in queues.into_iter().filter(|(queued, _)| *queued) {
            queue.retain(|other| *other != id);
        }
    }
}

/// The local programs' side.
impl Streams {
    /// Origin: asks `hop` for a stream to `target`. Bytes may be written at once.
    ///
    /// # Panics
    /// At a hop's end.
    pub fn open(&mut self, hop: u8, target: Target) -> Result<StreamId, TooManyStreams> {
        assert_eq!(self.end, End::Origin, "only an origin opens streams");
        if self.streams.len() >= MAX_STREAMS {
            return Err(TooManyStreams);
        }
        let id = self.unused_id();
        self.insert(id, Stream::asking(id, hop, target));
        Ok(id)
    }

    /// Ids are used in turn, so that one comes back as late as can be.
    fn unused_id(&mut self) -> StreamId {
        let mut id = self.next;
        while self.streams.contains_key(&id) {
            id = StreamId(id.0.wrapping_add(1));
        }
        self.next = StreamId(id.0.wrapping_add(1));
        id
    }

    /// Hop: says that the stream is connected.
    pub fn accept(&mut self, stream: StreamId) {
        self.update(stream, Stream::accept);
    }

    /// Takes as many of `bytes` as there is room for, and says how many. After a short write, the stream comes out of
    /// [`poll_writable`](Self::poll_writable) when it is worth writing again.
    pub fn write(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        self.update(stream, |stream| stream.write(bytes)).unwrap_or(0)
    }

    /// The local program will write nothing more: an orderly half-close, after what was written.
    pub fn finish(&mut self, stream: StreamId) {
        self.update(stream, Stream::finish);
    }

    /// Ends both directions at once and drops what waits in them. `reason` is an error, not `Done` or `Ended`.
    pub fn abort(&mut self, stream: StreamId, reason: Reason) {
        debug_assert!(!matches!(reason, Reason::Done | Reason::Ended), "an abort has an error for a reason");
        self.update(stream, |stream| stream.abort(reason));
    }

    /// Puts all bytes received in place of what is in `into`, whose memory is kept for the next ones.
    pub fn take_received(&mut self, stream: StreamId, into: &mut Vec<u8>) {
        if self.update(stream, |stream| stream.take_received(into)).is_none() {
            into.clear();
        }
    }

    /// The local program has drained `length` of the bytes taken: they count no more, and the peer may get credit.
    pub fn consumed(&mut self, stream: StreamId, length: usize, now: Instant) {
        self.update(stream, |stream| stream.consumed(length, now));
    }

    /// The local program will read nothing more: what was received and what may still come is drained to nowhere, and
    /// our direction goes on.
    pub fn discard_received(&mut self, stream: StreamId, now: Instant) {
        self.update(stream, |stream| stream.discard_received(now));
    }

    /// Whether the peer has ended its direction and the local program has drained all of it.
    pub fn is_drained(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|slot| slot.stream.is_drained())
    }

    /// The next stream whose last write was short and which has room for half a buffer now.
    pub fn poll_writable(&mut self) -> Option<StreamId> {
        let id = self.writable.pop_front()?;
        if let Some(slot) = self.streams.get_mut(&id) {
            slot.in_writable = false;
            slot.stream.told_of_room();
        }
        Some(id)
    }
}

/// The circuit's side.
impl Streams {
    /// Takes a message that `hop` said; at a hop's end, the origin is 0. An error is the circuit's end.
    pub fn handle_message(&mut self, hop: u8, message: &Message<'_>, now: Instant) -> Result<Option<Event>, Violation> {
        match message {
            Message::Open { stream, target } => self.handle_open(*stream, target),
            Message::Opened { stream } => self.said(hop, *stream, Stream::handle_opened),
            Message::Data { stream, bytes } => self.said(hop, *stream, |stream| stream.handle_data(bytes, now)),
            Message::Credit { stream, bytes } => self.said(hop, *stream, |stream| stream.handle_credit(*bytes)),
            Message::Close { stream, reason } => self.said(hop, *stream, |stream| stream.handle_close(*reason)),
            _ => Err(Violation::Foreign),
        }
    }

    fn handle_open(&mut self, id: StreamId, target: &Target) -> Result<Option<Event>, Violation> {
        if self.end == End::Origin || self.streams.contains_key(&id) {
            return Err(Violation::Open);
        }
        if self.streams.len() >= MAX_STREAMS {
            return Err(Violation::Limit);
        }
        self.insert(id, Stream::deciding(id));
        Ok(Some(Event::Opening { stream: id, target: target.clone() }))
    }

    /// Runs `act` on a stream if it is open at the hop that said something about it.
    fn said(
        &mut self,
        hop: u8,
        id: StreamId,
        act: impl FnOnce(&mut Stream) -> Result<Option<Event>, Violation>,
    ) -> Result<Option<Event>, Violation> {
        let open = self.streams.get(&id).is_some_and(|slot| slot.stream.hop() == hop);
        let result = if open { self.update(id, act) } else { None };
        result.unwrap_or(Err(Violation::NotOpen))
    }

    /// Whether [`poll_message`](Self::poll_message) would give a message.
    pub fn has_message(&self) -> bool {
        !self.controls.is_empty() || !self.ready.is_empty()
    }

    /// Fills `space` with the next message and says which hop it is for; `None` when there is nothing to say.
    /// Whatever is not `Data` goes first; then each stream with bytes and credit has its turn.
    ///
    /// # Panics
    /// If `space` is too short for any message but `Data`: it needs 300 bytes.
    pub fn poll_message(&mut self, space: &mut [u8]) -> Option<u8> {
        self.poll_control(space).or_else(|| self.poll_data(space))
    }

    fn poll_control(&mut self, space: &mut [u8]) -> Option<u8> {
        while let Some(id) = self.controls.pop_front() {
            let Some(slot) = self.streams.get_mut(&id) else { continue };
            slot.in_controls = false;
            let hop = slot.stream.hop();
            if let Some(message) = self.update(id, Stream::poll_control).flatten() {
                message.encode(space);
                return Some(hop);
            }
        }
        None
    }

    fn poll_data(&mut self, space: &mut [u8]) -> Option<u8> {
        while let Some(id) = self.ready.pop_front() {
            let Some(slot) = self.streams.get_mut(&id) else { continue };
            slot.in_ready = false;
            let hop = slot.stream.hop();
            if slot.stream.has_data() {
                self.update(id, |stream| stream.encode_data(space));
                return Some(hop);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
