//! The two halves of a circuit on one link: whole cells in, whole cells out.
//!
//! Specification: docs/protocol.md, "Links" and "Closing". A dropped half closes the circuit with a reason (`half.rs`).
//! Cells are not looked into.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, ResetError, StoppedError, WriteError};
use tokio::time::timeout;
use trefoil_protocol::limits::{CELL, CELL_BATCH, FINISH_TIMEOUT};

use crate::{
    half::{Receiving, Sending},
    link::{LinkError, Seat},
    reason::CloseReason,
};

/// A circuit on one link.
#[derive(Debug)]
pub struct Circuit {
    /// What the peer sends.
    pub reader: CellReader,
    /// What the peer gets.
    pub writer: CellWriter,
}

/// Reads a circuit's cells. Dropped before the end, it tells the peer to stop.
///
/// It holds no buffer while it waits between cells.
#[derive(Debug)]
pub struct CellReader {
    half: Receiving,
    /// What has come and was not handed out; less than a cell but after the first one.
    rest: BytesMut,
    _seat: Arc<Seat>,
}

/// Writes a circuit's cells. Dropped without [`CellWriter::finish`], it resets the circuit.
#[derive(Debug)]
pub struct CellWriter {
    half: Sending,
    _seat: Arc<Seat>,
}

/// Why no more cells come, or go.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CellError {
    /// The peer ended its direction after a whole cell.
    #[error("the peer ended the circuit")]
    Ended,
    /// The peer closed the circuit.
    #[error("the peer closed the circuit: {0}")]
    Closed(CloseReason),
    /// The peer ended its direction within a cell.
    #[error("the circuit ended within a cell")]
    Truncated,
    /// The peer did not acknowledge the last cells in time.
    #[error("the peer did not acknowledge the last cells in time")]
    Unacknowledged,
    /// The link is gone.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Pieces of a stream that are taken at once: a batch of cells in packets of about 1,400 bytes.
const PIECES: usize = CELL_BATCH * CELL / 1400 + 1;

impl Circuit {
    /// Of these halves; `rest` was read before.
    pub(crate) fn new(sending: Sending, receiving: Receiving, rest: &[u8], seat: Seat) -> Self {
        let seat = Arc::new(seat);
        Self {
            reader: CellReader { half: receiving, rest: rest.into(), _seat: Arc::clone(&seat) },
            writer: CellWriter { half: sending, _seat: seat },
        }
    }

    /// Closes both directions, for this reason.
    pub fn close(mut self, reason: CloseReason) {
        self.reader.set_reason(reason);
        self.writer.set_reason(reason);
    }
}

impl CellReader {
    /// What the peer is told when this half is dropped: [`CloseReason::Internal`] until set.
    pub fn set_reason(&mut self, reason: CloseReason) {
        self.half.set_reason(reason);
    }

    /// Waits for cells and hands out all that have come, usually at most [`CELL_BATCH`], never more than a stream
    /// window's worth. The length is a multiple of [`CELL`], and the buffer belongs to these cells alone.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`CellError`] when no more will come; a close by the peer overtakes cells that were not read.
    pub async fn cells(&mut self) -> Result<BytesMut, CellError> {
        self.fill().await?;
        let whole = self.rest.len() / CELL * CELL;
        Ok(self.take(whole))
    }

    /// Waits until the peer closes the circuit or the link is gone, while cells are left unread. Cancel-safe.
    pub async fn closed(&mut self) -> CellError {
        match self.half.stream().received_reset().await {
            Ok(Some(code)) => CellError::Closed(CloseReason::from_code(code)),
            Ok(None) => CellError::Ended,
            Err(ResetError::ConnectionLost(error)) => CellError::Link(error.into()),
            Err(ResetError::ZeroRttRejected) => CellError::Ended,
        }
    }

    /// Waits for the first cell alone; what came behind it is kept.
    pub(crate) async fn first_cell(&mut self) -> Result<BytesMut, CellError> {
        self.fill().await?;
        Ok(self.take(CELL))
    }

    /// Waits until there is at least one whole cell in `rest`.
    async fn fill(&mut self) -> Result<(), CellError> {
        while self.rest.len() < CELL {
            let mut pieces = [const { Bytes::new() }; PIECES];
            match self.half.stream().read_chunks(&mut pieces).await? {
                Some(_) => self.join(&pieces),
                None if self.rest.is_empty() => return Err(CellError::Ended),
                None => return Err(CellError::Truncated),
            }
        }
        Ok(())
    }

    /// Puts `rest` and the pieces into a buffer of just their size.
    fn join(&mut self, pieces: &[Bytes]) {
        let length = pieces.iter().map(Bytes::len).sum::<usize>() + self.rest.len();
        let mut joined = BytesMut::with_capacity(length);
        joined.extend_from_slice(&self.rest);
        pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
        self.rest = joined;
    }

    /// Takes bytes off the front, without letting what stays keep their buffer alive.
    fn take(&mut self, length: usize) -> BytesMut {
        let stays = self.rest.get(length..).map(BytesMut::from).unwrap_or_default();
        let mut taken = std::mem::replace(&mut self.rest, stays);
        taken.truncate(length);
        taken
    }
}

impl CellWriter {
    /// What the peer is told when this half is dropped: [`CloseReason::Internal`] until set.
    pub fn set_reason(&mut self, reason: CloseReason) {
        self.half.set_reason(reason);
    }

    /// Sends whole cells, without copying them; waits while the peer has a stream window's worth unread.
    ///
    /// Not cancel-safe: a cancelled write may have sent part of a cell, and the half must then be dropped.
    ///
    /// # Errors
    /// [`CellError::Closed`] if the peer reads no more, [`CellError::Link`] if the link is gone.
    pub async fn write(&mut self, cells: Bytes) -> Result<(), CellError> {
        debug_assert!(cells.len().is_multiple_of(CELL), "only whole cells travel");
        Ok(self.half.stream().write_chunk(cells).await?)
    }

    /// Ends this direction in order: returns when the peer's QUIC has all cells, at most [`FINISH_TIMEOUT`] later.
    ///
    /// # Errors
    /// [`CellError::Unacknowledged`] if that took too long: the direction is then reset. Others as for
    /// [`CellWriter::write`].
    pub async fn finish(mut self) -> Result<(), CellError> {
        if self.half.stream().finish().is_err() {
            return Ok(()); // stopped by the peer, which then needs no end
        }
        match timeout(FINISH_TIMEOUT, self.half.stream().stopped()).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(code))) => Err(CellError::Closed(CloseReason::from_code(code))),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                self.half.set_reason(CloseReason::Timeout);
                Err(CellError::Unacknowledged)
            }
        }
    }
}

impl From<ReadError> for CellError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Closed(CloseReason::from_code(code)),
            ReadError::ConnectionLost(error) => Self::Link(error.into()),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => Self::Ended,
        }
    }
}

impl From<WriteError> for CellError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Closed(CloseReason::from_code(code)),
            WriteError::ConnectionLost(error) => Self::Link(error.into()),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Ended,
        }
    }
}

impl From<StoppedError> for CellError {
    fn from(error: StoppedError) -> Self {
        WriteError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use trefoil_protocol::identity::RelaySecret;
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        endpoint::{Congestion, Endpoint, LinkIdentity, LinkOptions},
        link::Link,
        opened::Arrival,
        sources::Loopback,
    };

    fn endpoint(seed: u8) -> Endpoint {
        let options = LinkOptions {
            identity: LinkIdentity::Relay(Arc::new(RelaySecret::from_bytes(&Zeroizing::new([seed; 32])))),
            network: [0; 32],
            congestion: Congestion::Cubic,
            loopback: Loopback::Exempt,
        };
        Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), &options).unwrap()
    }

    /// A writer that has written these bytes after a first cell, the reader of them, and what keeps them alive.
    async fn halves(bytes: &[u8]) -> (CellWriter, CellReader, [Link; 2]) {
        let (a, b) = (endpoint(1), endpoint(2));
        let dial = a.dial(b.own_id().unwrap(), b.local_address().unwrap());
        let (ours, theirs) = tokio::join!(dial, async { b.accept().await.unwrap().finish().await });
        let links = [ours.unwrap(), theirs.unwrap()];
        let mut writer = links[0].open_circuit().await.unwrap().writer;
        writer.half.stream().write_all(&[1; CELL]).await.unwrap();
        let opened = links[1].accept().await.unwrap();
        let Arrival::Circuit(circuit, _first) = opened.arrive().await.unwrap() else { panic!("a circuit arrives") };
        writer.half.stream().write_all(bytes).await.unwrap();
        (writer, circuit.reader, links)
    }

    #[tokio::test]
    async fn an_end_within_a_cell_is_not_an_end() {
        let (writer, mut reader, _links) = halves(&[1; CELL + 1]).await;
        writer.finish().await.unwrap();
        assert_eq!(reader.first_cell().await.unwrap().len(), CELL);
        assert!(matches!(reader.cells().await, Err(CellError::Truncated)));
    }

    #[tokio::test]
    async fn a_read_that_was_given_up_loses_nothing() {
        let (mut writer, mut reader, _links) = halves(&[1; CELL / 2]).await;
        assert!(timeout(Duration::from_millis(20), reader.cells()).await.is_err());
        writer.half.stream().write_all(&[2; CELL / 2]).await.unwrap();
        assert_eq!(reader.cells().await.unwrap(), [[1; CELL / 2], [2; CELL / 2]].concat());
        assert!(reader.rest.is_empty());
    }

    #[tokio::test]
    async fn cells_behind_the_first_one_are_kept_for_later() {
        let (_writer, mut reader, _links) = halves(&[1; 3 * CELL]).await;
        assert_eq!(reader.first_cell().await.unwrap().len(), CELL);
        let mut rest = reader.cells().await.unwrap();
        if rest.len() == CELL {
            rest.unsplit(reader.cells().await.unwrap());
        }
        assert_eq!(rest, vec![1; 2 * CELL]);
    }

    #[tokio::test]
    async fn a_close_is_noticed_while_cells_are_left_unread() {
        let (mut writer, mut reader, _links) = halves(&[1; 2 * CELL]).await;
        assert!(timeout(Duration::from_millis(20), reader.closed()).await.is_err());
        writer.set_reason(CloseReason::Unspecified);
        drop(writer);
        let closed = timeout(Duration::from_secs(5), reader.closed()).await.unwrap();
        assert!(matches!(closed, CellError::Closed(CloseReason::Unspecified)));
    }
}
