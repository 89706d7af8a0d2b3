//! The two halves of a QUIC stream, each with the reason for which it closes.
//!
//! Specification: docs/protocol.md, "Closing". A half is the only holder of its quinn stream, because quinn takes a
//! dropped one for an orderly end: here a dropped half ends the stream with a reason.

use quinn::{RecvStream, SendStream};

use crate::reason::CloseReason;

/// What the peer sends. Dropped before its end, it tells the peer to stop.
#[derive(Debug)]
pub(crate) struct Receiving {
    stream: RecvStream,
    reason: CloseReason,
}

/// What the peer gets. Dropped before it is finished, it resets the stream.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: SendStream,
    reason: CloseReason,
    finished: bool,
}

impl Receiving {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, reason: CloseReason::Internal }
    }

    /// What the peer is told when this is dropped: [`CloseReason::Internal`] until set.
    pub(crate) fn set_reason(&mut self, reason: CloseReason) {
        self.reason = reason;
    }

    /// To read from. It must not be taken out.
    pub(crate) fn stream(&mut self) -> &mut RecvStream {
        &mut self.stream
    }
}

impl Sending {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, reason: CloseReason::Internal, finished: false }
    }

    /// Ends in order, without waiting until the peer has all of it.
    pub(crate) fn finish(mut self) {
        let _ = self.stream.finish(); // an error means that the peer reads no more
        self.finished = true;
    }

    /// What the peer is told when this is dropped: [`CloseReason::Internal`] until set.
    pub(crate) fn set_reason(&mut self, reason: CloseReason) {
        self.reason = reason;
    }

    /// To write to. It must not be taken out.
    pub(crate) fn stream(&mut self) -> &mut SendStream {
        &mut self.stream
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let _ = self.stream.stop(self.reason.code()); // an error means that there is nothing to stop
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(self.reason.code()); // an error means that all has been acknowledged
        }
    }
}
