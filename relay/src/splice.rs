//! A stream joined to a local connection: bytes, half-closes and resets, both ways at once.
//!
//! Specification: docs/protocol.md, "Streams". Memory follows the flow: a side that is idle holds a small buffer or
//! none. This file never turns a stream's error into an orderly end.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use trefoil_protocol::{limits::IDLE_BUFFER, message::Reason};

use crate::pump::{Stream, StreamError};

/// Bytes that went through a stream which ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// From the local program.
    pub sent: u64,
    /// To the local program.
    pub received: u64,
}

impl Stream {
    /// Sends `prefix` and then what `reader` gives, and writes what arrives to `writer`, until both have ended.
    /// The end of one direction is passed on at once, and the other goes on.
    ///
    /// # Errors
    /// When the local side fails, the other end is told that the stream was reset. When the other end or the circuit
    /// broke off, the caller must reset the local connection: `writer` was not shut down in that direction. This is
    /// noticed at once, even while the local side neither sends nor takes anything.
    pub async fn splice(
        self,
        prefix: &[u8],
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Transferred, StreamError> {
        let carry = async { tokio::try_join!(self.upload(prefix, reader), self.download(writer)) };
        let result = tokio::select! {
            biased; // what ended in order is not broken by a circuit that closes right after
            result = carry => result,
            error = self.broken() => Err(error),
        };
        if result.is_err() {
            self.abort(Reason::Reset);
        }
        result.map(|(sent, received)| Transferred { sent, received })
    }

    async fn upload(&self, prefix: &[u8], reader: &mut (impl AsyncRead + Unpin)) -> Result<u64, StreamError> {
        self.write_all(prefix).await?;
        let mut sent = prefix.len() as u64;
        let mut buffer = Vec::with_capacity(IDLE_BUFFER);
        while reader.read_buf(&mut buffer).await? > 0 {
            self.write_all(&buffer).await?;
            sent += buffer.len() as u64;
            fit(&mut buffer);
        }
        self.finish()?;
        Ok(sent)
    }

    async fn download(&self, writer: &mut (impl AsyncWrite + Unpin)) -> Result<u64, StreamError> {
        let mut received = 0;
        let mut buffer = Vec::new();
        loop {
            self.take(&mut buffer).await?;
            if buffer.is_empty() {
                writer.shutdown().await?;
                return Ok(received);
            }
            for piece in buffer.chunks(PIECE) {
                writer.write_all(piece).await?;
                self.consumed(piece.len())?;
            }
            writer.flush().await?;
            received += buffer.len() as u64;
        }
    }
}

/// Empties a read buffer: the next is twice as large while reads fill it, and small again when one does not.
fn fit(buffer: &mut Vec<u8>) {
    let full = buffer.len() == buffer.capacity();
    let size = if full { (buffer.capacity() * 2).min(PIECE) } else { IDLE_BUFFER };
    buffer.clear();
    if buffer.capacity() != size {
        *buffer = Vec::with_capacity(size);
    }
}

/// Most bytes that are read from or written to a local connection at once.
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests;
