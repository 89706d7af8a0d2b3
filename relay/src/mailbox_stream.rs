//! Mailbox stream: frames on a circuit's stream to a mailbox, at either end.
//!
//! Specification: docs/protocol.md, "Mailbox streams". Bytes that have come count as the circuit's, and the other end
//! gets no credit for them, until their frame is whole: so nobody makes this end hold more than that credit. What a
//! frame says is the protocol's `mailbox.rs`.

use tokio::time::timeout;
use trefoil_protocol::{
    limits::MAILBOX_TIMEOUT,
    mailbox::{self, FRAME_HEADER, MailboxError},
};

use crate::pump::{Stream, StreamError};

/// See the file's head. Dropped before [`MailboxStream::close`], the stream is reset.
#[derive(Debug)]
pub struct MailboxStream {
    stream: Stream,
    /// Of a frame that is not whole yet, and of those that follow.
    came: Vec<u8>,
}

/// Why no frame came, or went.
#[derive(Debug, thiserror::Error)]
pub enum MailboxStreamError {
    /// The stream broke.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] MailboxError),
    /// The other end ended the stream within a frame.
    #[error("the stream ended within a frame")]
    Cut,
    /// The other end took too long.
    #[error("the other end took too long")]
    Timeout,
}

impl MailboxStream {
    /// On a stream that is open.
    pub fn new(stream: Stream) -> Self {
        Self { stream, came: Vec::new() }
    }

    /// One frame, without its length; `None` where the stream has ended in order. For its first byte it waits as long as
    /// it takes, for the rest [`MAILBOX_TIMEOUT`]. Cancel-safe.
    ///
    /// # Errors
    /// [`MailboxStreamError`].
    pub async fn read(&mut self) -> Result<Option<Vec<u8>>, MailboxStreamError> {
        if self.came.is_empty() && !self.more().await? {
            return Ok(None);
        }
        let frame = timeout(MAILBOX_TIMEOUT, self.rest()).await.map_err(|_| MailboxStreamError::Timeout)??;
        Ok(Some(frame))
    }

    /// Sends a frame, its length included, within [`MAILBOX_TIMEOUT`].
    ///
    /// # Errors
    /// [`MailboxStreamError`].
    pub async fn write(&mut self, frame: &[u8]) -> Result<(), MailboxStreamError> {
        let sent = timeout(MAILBOX_TIMEOUT, self.stream.send(frame)).await;
        Ok(sent.map_err(|_| MailboxStreamError::Timeout)??)
    }

    /// Ends this end's direction in order, and lets the other's go.
    pub fn close(self) {
        self.stream.close();
    }

    /// Does `work` for whoever is at the other end; gives it up when nobody is any more.
    pub(crate) async fn unless_broken<T>(&self, work: impl Future<Output = T>) -> Result<T, StreamError> {
        tokio::select! {
            biased; // so that a simulation repeats itself
            error = self.stream.broken() => Err(error),
            done = work => Ok(done),
        }
    }

    async fn rest(&mut self) -> Result<Vec<u8>, MailboxStreamError> {
        loop {
            if let Some(frame) = self.whole()? {
                return Ok(frame);
            }
            if !self.more().await? {
                return Err(MailboxStreamError::Cut);
            }
        }
    }

    /// The first frame of what has come, if all of it has.
    fn whole(&mut self) -> Result<Option<Vec<u8>>, MailboxStreamError> {
        let Some((header, rest)) = self.came.split_first_chunk::<FRAME_HEADER>() else { return Ok(None) };
        let length = mailbox::frame_length(*header)?;
        let Some(frame) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.came.drain(..FRAME_HEADER + length);
        if self.came.is_empty() {
            self.came = Vec::new(); // a stream that waits holds nothing
        }
        self.stream.consumed(FRAME_HEADER + length)?;
        Ok(Some(frame))
    }

    /// Whether anything more has come.
    async fn more(&mut self) -> Result<bool, StreamError> {
        let mut piece = Vec::new();
        self.stream.take(&mut piece).await?;
        self.came.extend_from_slice(&piece);
        Ok(!piece.is_empty())
    }
}
