//! One stream at one of its ends: who has said what, what waits to be sent, and what was received.
//!
//! Specification: docs/protocol.md, "Streams". A direction ends with `Close{Done}`; credit and an abort may still
//! follow. Any other `Close` is its sender's last word, and every stream has exactly one from each end: `Ended` once
//! both directions are over and the received bytes are drained, or else the reason of an abort. So neither end can
//! meet a message for a stream that it has forgotten. This file never frames `Data` for two streams: see `streams.rs`.

use std::{collections::VecDeque, mem, time::Instant};

use crate::{
    credit::Window,
    limits::{IDLE_BUFFER, INITIAL_CREDIT, MAX_CREDIT, MAX_DATA, MESSAGE_HEADER, SEND_BUFFER},
    message::{Message, Reason, StreamId, Target},
    streams::{Event, Violation},
};

/// One stream at one end.
#[derive(Debug)]
pub(crate) struct Stream {
    id: StreamId,
    hop: u8,
    phase: Phase,
    sending: Sending,
    receiving: Receiving,
    /// What the local program wrote and no `Data` has taken yet.
    outgoing: VecDeque<u8>,
    /// Bytes that the peer allows us to send.
    credit: u32,
    /// Received and not yet taken by the local program.
    incoming: Vec<u8>,
    window: Window,
    /// The local program wanted to write more than there was room for.
    starved: bool,
    /// The local program reads no more: what comes is drained to nowhere.
    deaf: bool,
}

/// How far the stream's opening is.
#[derive(Debug)]
enum Phase {
    /// Origin: `Open` is yet to be said.
    Asking(Target),
    /// Origin: `Open` was said and not answered.
    Asked,
    /// Hop: the local program has not decided.
    Deciding,
    /// Hop: `Opened` is yet to be said.
    Accepting,
    /// `Opened` was said or heard.
    Open,
}

/// How far our direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// The local program may write.
    Open,
    /// It will write nothing more; `Done` or `Ended` follows what waits.
    Finishing,
    /// `Done` was said.
    Finished,
    /// This last word is yet to be said.
    Closing(Reason),
    /// The last word was said.
    Closed,
}

/// How far the peer's direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    /// `Data` may come.
    Open,
    /// `Done` came; credit and the last word may come.
    Finished,
    /// The last word came.
    Closed,
}

impl Stream {
    /// The origin's end of a stream that is to be opened at `hop`.
    pub(crate) fn asking(id: StreamId, hop: u8, target: Target) -> Self {
        Self::new(id, hop, Phase::Asking(target))
    }

    /// The hop's end of a stream that was just asked for.
    pub(crate) fn deciding(id: StreamId) -> Self {
        Self::new(id, 0, Phase::Deciding)
    }

    fn new(id: StreamId, hop: u8, phase: Phase) -> Self {
        Self {
            id,
            hop,
            phase,
            sending: Sending::Open,
            receiving: Receiving::Open,
            outgoing: VecDeque::new(),
            credit: INITIAL_CREDIT,
            incoming: Vec::new(),
            window: Window::new(),
            starved: false,
            deaf: false,
        }
    }

    pub(crate) fn hop(&self) -> u8 {
        self.hop
    }

    /// Bytes waiting to be sent, and bytes received and not yet drained.
    pub(crate) fn held(&self) -> usize {
        self.outgoing.len() + self.window.waiting() as usize
    }

    /// Whether both ends have had their last word.
    pub(crate) fn is_gone(&self) -> bool {
        self.sending == Sending::Closed && self.receiving == Receiving::Closed
    }

    /// Whether the peer's direction is over and the local program has all of it.
    pub(crate) fn is_drained(&self) -> bool {
        self.receiving != Receiving::Open && self.window.waiting() == 0
    }

    /// Whether the local program waits for room, and at least half of [`SEND_BUFFER`] is free.
    pub(crate) fn has_room(&self) -> bool {
        self.starved && self.outgoing.len() <= SEND_BUFFER / 2
    }

    pub(crate) fn told_of_room(&mut self) {
        self.starved = false;
    }
}

/// The local program's side.
impl Stream {
    pub(crate) fn accept(&mut self) {
        if matches!(self.phase, Phase::Deciding) && !self.is_ending() {
            self.phase = Phase::Accepting;
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        if self.sending != Sending::Open {
            return 0;
        }
        let taken = bytes.len().min(SEND_BUFFER.saturating_sub(self.outgoing.len()));
        self.outgoing.extend(bytes.get(..taken).unwrap_or_default());
        self.starved = taken < bytes.len();
        taken
    }

    pub(crate) fn finish(&mut self) {
        if self.sending == Sending::Open {
            self.sending = Sending::Finishing;
        }
    }

    pub(crate) fn abort(&mut self, reason: Reason) {
        if self.is_ending() {
            return;
        }
        if matches!(self.phase, Phase::Asking(_)) {
            self.receiving = Receiving::Closed; // the peer has never heard of it
            self.end(Sending::Closed);
        } else {
            self.end(Sending::Closing(reason));
        }
    }

    pub(crate) fn take_received(&mut self, into: &mut Vec<u8>) {
        into.clear();
        if !self.incoming.is_empty() {
            mem::swap(&mut self.incoming, into);
        } else if self.incoming.capacity() > IDLE_BUFFER {
            self.incoming = Vec::new();
        }
    }

    pub(crate) fn consumed(&mut self, length: usize, now: Instant) {
        self.window.consume(length, now);
    }

    pub(crate) fn discard_received(&mut self, now: Instant) {
        self.deaf = true;
        self.incoming = Vec::new();
        self.window.consume(usize::MAX, now);
    }

    /// Drops what waits in both directions.
    fn end(&mut self, sending: Sending) {
        self.sending = sending;
        self.outgoing = VecDeque::new();
        self.starved = false;
        self.incoming = Vec::new();
        self.window.clear();
    }

    /// Whether our last word is decided, so that nothing matters to the local program any more.
    fn is_ending(&self) -> bool {
        matches!(self.sending, Sending::Closing(_) | Sending::Closed)
    }
}

/// What the peer says.
impl Stream {
    pub(crate) fn handle_opened(&mut self) -> Result<Option<Event>, Violation> {
        match self.phase {
            Phase::Asked if self.receiving == Receiving::Open => self.phase = Phase::Open,
            _ => return Err(Violation::State),
        }
        Ok((!self.is_ending()).then_some(Event::Opened { stream: self.id }))
    }

    pub(crate) fn handle_data(&mut self, bytes: &[u8], now: Instant) -> Result<Option<Event>, Violation> {
        if !self.peer_is_open() || self.receiving != Receiving::Open || bytes.is_empty() {
            return Err(Violation::State);
        }
        if self.is_ending() {
            return self.window.discard(bytes.len()).map(|()| None);
        }
        self.window.receive(bytes.len(), now)?;
        if self.deaf {
            self.window.consume(bytes.len(), now);
            return Ok(None);
        }
        self.incoming.extend_from_slice(bytes);
        Ok(Some(Event::Received { stream: self.id }))
    }

    pub(crate) fn handle_credit(&mut self, bytes: u32) -> Result<Option<Event>, Violation> {
        if !matches!(self.phase, Phase::Open) || self.receiving == Receiving::Closed {
            return Err(Violation::State);
        }
        let credit = self.credit.checked_add(bytes).filter(|credit| *credit <= MAX_CREDIT);
        self.credit = credit.ok_or(Violation::Credit)?;
        Ok(None)
    }

    pub(crate) fn handle_close(&mut self, reason: Reason) -> Result<Option<Event>, Violation> {
        match reason {
            Reason::Done => self.handle_done(),
            Reason::Ended => self.handle_ended(),
            _ => self.handle_abort(reason),
        }
    }

    fn handle_done(&mut self) -> Result<Option<Event>, Violation> {
        if !self.peer_is_open() || self.receiving != Receiving::Open {
            return Err(Violation::State);
        }
        self.receiving = Receiving::Finished;
        Ok((!self.is_ending()).then_some(Event::Finished { stream: self.id }))
    }

    /// The peer may say so only when our direction is over, or about to be.
    fn handle_ended(&mut self) -> Result<Option<Event>, Violation> {
        let over = self.is_ending() || self.sending == Sending::Finished && self.peer_is_open();
        if !over || self.receiving == Receiving::Closed || matches!(self.phase, Phase::Asking(_)) {
            return Err(Violation::State);
        }
        let heard = mem::replace(&mut self.receiving, Receiving::Closed);
        let news = heard == Receiving::Open && !self.is_ending();
        Ok(news.then_some(Event::Finished { stream: self.id }))
    }

    fn handle_abort(&mut self, reason: Reason) -> Result<Option<Event>, Violation> {
        if self.receiving == Receiving::Closed || matches!(self.phase, Phase::Asking(_)) {
            return Err(Violation::State);
        }
        self.receiving = Receiving::Closed;
        if self.is_ending() {
            return Ok(None);
        }
        self.end(Sending::Closing(Reason::Ended));
        Ok(Some(Event::Aborted { stream: self.id, reason }))
    }

    /// Whether the peer may send anything but the answer to `Open`: an origin at once, a hop after `Opened`.
    fn peer_is_open(&self) -> bool {
        matches!(self.phase, Phase::Deciding | Phase::Accepting | Phase::Open)
    }
}

/// What we say.
impl Stream {
    /// Whether there is something to say besides `Data`.
    pub(crate) fn has_control(&self) -> bool {
        matches!(self.phase, Phase::Asking(_) | Phase::Accepting) || self.credit_due() || self.next_close().is_some()
    }

    /// What to say besides `Data`: the opening, then credit, then the end.
    pub(crate) fn poll_control(&mut self) -> Option<Message<'static>> {
        let stream = self.id;
        match mem::replace(&mut self.phase, Phase::Asked) {
            Phase::Asking(target) => return Some(Message::Open { stream, target }),
            Phase::Accepting => {
                self.phase = Phase::Open;
                return Some(Message::Opened { stream });
            }
            other => self.phase = other,
        }
        if self.credit_due() {
            return Some(Message::Credit { stream, bytes: self.window.grant() });
        }
        let reason = self.next_close()?;
        self.sending = if reason == Reason::Done { Sending::Finished } else { Sending::Closed };
        Some(Message::Close { stream, reason })
    }

    /// Whether there are bytes that may be sent now.
    pub(crate) fn has_data(&self) -> bool {
        !self.outgoing.is_empty() && self.credit > 0 && self.we_are_open()
    }

    /// Fills `space` with the next `Data`.
    #[expect(clippy::indexing_slicing, reason = "the length is at most what is buffered here")]
    pub(crate) fn encode_data(&mut self, space: &mut [u8]) {
        let fits = space.len().saturating_sub(MESSAGE_HEADER + 2).min(MAX_DATA);
        let length = fits.min(self.outgoing.len()).min(self.credit as usize);
        let (front, back) = self.outgoing.as_slices();
        let mut piece;
        let bytes = if length <= front.len() {
            &front[..length]
        } else {
            piece = [0; MAX_DATA];
            join(&mut piece, front, back, length)
        };
        Message::Data { stream: self.id, bytes }.encode(space);
        self.outgoing.drain(..length);
        self.credit -= u32::try_from(length).expect("a Data is shorter than 64 KiB");
        if self.outgoing.is_empty() && self.outgoing.capacity() > IDLE_BUFFER {
            self.outgoing = VecDeque::new();
        }
    }

    fn credit_due(&self) -> bool {
        let flowing = self.receiving == Receiving::Open && !self.is_ending();
        flowing && self.we_are_open() && self.window.grant_due()
    }

    fn next_close(&self) -> Option<Reason> {
        match self.sending {
            Sending::Closing(reason) => Some(reason),
            Sending::Finishing if self.outgoing.is_empty() && self.we_are_open() => {
                Some(if self.is_drained() { Reason::Ended } else { Reason::Done })
            }
            Sending::Finished if self.is_drained() => Some(Reason::Ended),
            _ => None,
        }
    }

    /// Whether we may say anything but the answer to `Open`: an origin at once, a hop after `Opened`.
    fn we_are_open(&self) -> bool {
        matches!(self.phase, Phase::Asked | Phase::Open)
    }
}

/// The first `length` bytes of a ring's two parts, in one piece.
#[expect(clippy::indexing_slicing, reason = "the length is at most the parts' together, and at most MAX_DATA")]
fn join<'a>(piece: &'a mut [u8; MAX_DATA], front: &[u8], back: &[u8], length: usize) -> &'a [u8] {
    let (head, tail) = piece[..length].split_at_mut(front.len());
    head.copy_from_slice(front);
    tail.copy_from_slice(&back[..tail.len()]);
    &piece[..length]
}
