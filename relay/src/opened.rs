//! A stream that a peer has opened on a link: what it is, by its first byte.
//!
//! Specification: docs/protocol.md, "Links". Streams of type 0x01 are circuits, whose first cell is a `Create`; those
//! of type 0x02 carry requests to the directory, those of type 0x03 requests to the mailboxes. A stream of another type, or
//! one that stays silent, ends with a reason.

use bytes::BytesMut;
use quinn::{RecvStream, SendStream, WriteError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use trefoil_protocol::limits::HANDSHAKE_TIMEOUT;

use crate::{
    cells::{CellError, Circuit},
    half::{Receiving, Sending},
    link::{LinkError, Seat},
    reason::CloseReason,
};

/// A stream that the peer has opened and may not have said anything on. Dropped, it is reset.
#[derive(Debug)]
pub struct Opened {
    sending: Sending,
    receiving: Receiving,
    seat: Seat,
}

/// What a stream is.
#[derive(Debug)]
pub enum Arrival {
    /// A circuit, and its first cell.
    Circuit(Circuit, BytesMut),
    /// A stream for requests to the directory.
    Directory(RequestStream),
    /// A stream for requests to the mailboxes.
    Mailbox(RequestStream),
}

/// A stream for requests and their answers, on a link. Dropped before [`RequestStream::finish`], it is reset.
#[derive(Debug)]
pub struct RequestStream {
    sending: Sending,
    receiving: Receiving,
    _seat: Seat,
}

/// Why an opened stream is none that is served.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenedError {
    /// The peer sent no first byte, or no first cell, in time.
    #[error("the peer opened a stream and said nothing in time")]
    Silent,
    /// The stream is of a type that is not known here.
    #[error("unknown stream type {0}")]
    StreamType(u8),
    /// The peer has as many streams for requests as it may.
    #[error("the peer opened too many streams for requests")]
    TooMany,
    /// It ended before it began.
    #[error(transparent)]
    Ended(#[from] CellError),
}

/// The first byte of a stream that is a circuit: that of a `Create` cell.
const CIRCUIT: u8 = 0x01;
/// The first byte of a stream for requests to the directory.
pub(crate) const DIRECTORY: u8 = 0x02;
/// The first byte of a stream for requests to the mailboxes.
pub(crate) const MAILBOX: u8 = 0x03;

impl Opened {
    pub(crate) fn new(send: SendStream, receive: RecvStream, seat: Seat) -> Self {
        Self { sending: Sending::new(send), receiving: Receiving::new(receive), seat }
    }

    /// Waits until it is known what this is, for at most [`HANDSHAKE_TIMEOUT`].
    ///
    /// # Errors
    /// [`OpenedError`]; the peer is told of what it did wrong.
    pub async fn arrive(mut self) -> Result<Arrival, OpenedError> {
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        match timeout_at(deadline, self.first_byte()).await {
            Ok(Ok(CIRCUIT)) => self.circuit(deadline).await,
            Ok(Ok(DIRECTORY)) => self.requests(Arrival::Directory),
            Ok(Ok(MAILBOX)) => self.requests(Arrival::Mailbox),
            Ok(Ok(other)) => self.refuse(OpenedError::StreamType(other)),
            Ok(Err(error)) => self.refuse(error.into()),
            Err(_) => self.refuse(OpenedError::Silent),
        }
    }

    async fn first_byte(&mut self) -> Result<u8, CellError> {
        let mut byte = [0];
        let read = self.receiving.stream().read(&mut byte).await?;
        if read == Some(1) { Ok(byte[0]) } else { Err(CellError::Ended) }
    }

    async fn circuit(self, deadline: Instant) -> Result<Arrival, OpenedError> {
        let mut circuit = Circuit::new(self.sending, self.receiving, &[CIRCUIT], self.seat);
        let error = match timeout_at(deadline, circuit.reader.first_cell()).await {
            Ok(Ok(first)) => return Ok(Arrival::Circuit(circuit, first)),
            Ok(Err(error)) => error.into(),
            Err(_) => OpenedError::Silent,
        };
        circuit.close(error.reason_for_peer());
        Err(error)
    }

    fn requests(mut self, to: impl FnOnce(RequestStream) -> Arrival) -> Result<Arrival, OpenedError> {
        if self.seat.make_requests().is_err() {
            return self.refuse(OpenedError::TooMany);
        }
        Ok(to(RequestStream::new(self.sending, self.receiving, self.seat)))
    }

    fn refuse(mut self, error: OpenedError) -> Result<Arrival, OpenedError> {
        self.sending.set_reason(error.reason_for_peer());
        self.receiving.set_reason(error.reason_for_peer());
        Err(error)
    }
}

impl OpenedError {
    fn reason_for_peer(&self) -> CloseReason {
        match self {
            Self::Silent => CloseReason::Timeout,
            Self::StreamType(_) => CloseReason::Protocol,
            Self::TooMany => CloseReason::Limit,
            Self::Ended(_) => CloseReason::Unspecified,
        }
    }
}

impl RequestStream {
    fn new(sending: Sending, receiving: Receiving, seat: Seat) -> Self {
        Self { sending, receiving, _seat: seat }
    }

    /// Of a stream that this node opens; says of which type it is.
    pub(crate) async fn open((send, receive): (SendStream, RecvStream), seat: Seat, of: u8) -> Result<Self, LinkError> {
        let mut stream = Self::new(Sending::new(send), Receiving::new(receive), seat);
        match stream.sending.stream().write_all(&[of]).await {
            Err(WriteError::ConnectionLost(error)) => Err(error.into()),
            _ => Ok(stream), // one that is stopped already says so when it is used
        }
    }

    /// To read from and to write to.
    pub fn halves(&mut self) -> (impl AsyncRead + Unpin + Send, impl AsyncWrite + Unpin + Send) {
        (self.receiving.stream(), self.sending.stream())
    }

    /// Ends the stream in order.
    pub fn finish(mut self) {
        self.receiving.set_reason(CloseReason::Unspecified);
        self.sending.finish();
    }

    /// Ends the stream, for this reason.
    pub fn close(mut self, reason: CloseReason) {
        self.sending.set_reason(reason);
        self.receiving.set_reason(reason);
    }
}
