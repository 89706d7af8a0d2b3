//! Frames of a stream for requests, read from and written to any pair of byte halves.
//!
//! Specification: docs/protocol.md, "Directory streams" and "Mailbox streams". What a frame says is the protocol's
//! `directory.rs` and `mailbox.rs`.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use trefoil_protocol::{
    directory::{self, DirectoryError, FRAME_HEADER, Request},
    limits::{DIRECTORY_TIMEOUT, MAILBOX_TIMEOUT},
    mailbox::{self, MailboxError},
};

/// Why no frame came, or went.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream broke.
    #[error("the stream broke")]
    Broken(#[from] io::Error),
    /// The peer took too long.
    #[error("the peer took too long")]
    Timeout,
    /// The peer sent no frame.
    #[error(transparent)]
    Protocol(#[from] DirectoryError),
    /// The peer sent no frame of a mailbox stream.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
    /// The peer ended the stream where an answer was due.
    #[error("the peer ended the stream instead of answering")]
    Ended,
}

/// Reads one frame, without its length, of at most `most` bytes; `None` where the stream has ended in order. Bytes are
/// kept as they come, so a length alone makes nobody hold anything.
///
/// # Errors
/// [`FrameError`]; also when the rest of a frame takes longer than [`DIRECTORY_TIMEOUT`].
pub async fn read(reader: &mut (impl AsyncRead + Unpin), most: usize) -> Result<Option<Vec<u8>>, FrameError> {
    read_by(reader, |header| match directory::frame_length(header)? {
        length if length <= most => Ok(length),
        _ => Err(DirectoryError::Length(u32::from_le_bytes(header)).into()),
    })
    .await
}

/// As [`read`], one of a mailbox stream.
///
/// # Errors
/// As there.
pub(crate) async fn read_mailbox(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<Vec<u8>>, FrameError> {
    read_by(reader, |header| Ok(mailbox::frame_length(header)?)).await
}

async fn read_by(
    reader: &mut (impl AsyncRead + Unpin),
    length: impl FnOnce([u8; FRAME_HEADER]) -> Result<usize, FrameError>,
) -> Result<Option<Vec<u8>>, FrameError> {
    let mut header = [0; FRAME_HEADER];
    let read = reader.read(&mut header).await?;
    if read == 0 {
        return Ok(None);
    }
    let body = async {
        reader.read_exact(&mut header[read..]).await?;
        let length = length(header)?;
        let mut frame = Vec::new();
        let read = reader.take(length as u64).read_to_end(&mut frame).await?;
        if read == length { Ok(Some(frame)) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
    };
    timeout(DIRECTORY_TIMEOUT, body).await.map_err(|_| FrameError::Timeout)?
}

/// Writes a frame, its length included.
///
/// # Errors
/// [`FrameError`]; also when that takes longer than [`DIRECTORY_TIMEOUT`].
pub async fn write(writer: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> Result<(), FrameError> {
    let written = async {
        writer.write_all(frame).await?;
        writer.flush().await
    };
    Ok(timeout(DIRECTORY_TIMEOUT, written).await.map_err(|_| FrameError::Timeout)??)
}

/// Asks, and waits for the answer's frame, at most [`DIRECTORY_TIMEOUT`].
///
/// # Errors
/// [`FrameError`].
pub async fn ask(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    request: &Request<'_>,
) -> Result<Vec<u8>, FrameError> {
    write(writer, &request.encode()).await?;
    answer(reader).await
}

/// As [`ask`], and says with the question that it is the last: so the answer brings the peer's end, which is waited for.
///
/// # Errors
/// [`FrameError`].
pub async fn ask_last(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    request: &Request<'_>,
) -> Result<Vec<u8>, FrameError> {
    write(writer, &request.encode()).await?;
    writer.shutdown().await?;
    let answer = answer(reader).await?;
    let _ = timeout(DIRECTORY_TIMEOUT, reader.read(&mut [0])).await; // the answer counts, whatever follows it
    Ok(answer)
}

/// As [`ask`], on a mailbox stream: the answer is waited for at most [`MAILBOX_TIMEOUT`].
///
/// # Errors
/// [`FrameError`].
pub(crate) async fn ask_mailbox(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    request: &mailbox::Request<'_>,
) -> Result<Vec<u8>, FrameError> {
    write(writer, &request.encode()).await?;
    let answer = timeout(MAILBOX_TIMEOUT, read_mailbox(reader)).await;
    answer.map_err(|_| FrameError::Timeout)??.ok_or(FrameError::Ended)
}

async fn answer(reader: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, FrameError> {
    let answer = timeout(DIRECTORY_TIMEOUT, read(reader, trefoil_protocol::limits::DIRECTORY_FRAME)).await;
    answer.map_err(|_| FrameError::Timeout)??.ok_or(FrameError::Ended)
}

#[cfg(test)]
mod tests {
    use trefoil_protocol::limits::DIRECTORY_FRAME;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_frame_survives_any_pieces() {
        let frame = Request::Hello.encode();
        let (mut near, mut far) = tokio::io::duplex(1);
        let (written, read) = tokio::join!(write(&mut near, &frame), read(&mut far, DIRECTORY_FRAME));
        written.unwrap();
        assert_eq!(read.unwrap().as_deref(), Some(&frame[FRAME_HEADER..]));
        drop(near);
        assert!(super::read(&mut far, DIRECTORY_FRAME).await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_too_long_or_never_ends_is_refused() {
        for length in [0, 101, u32::MAX] {
            let mut frame = length.to_le_bytes().to_vec();
            frame.resize(200, 0);
            assert!(matches!(read(&mut &frame[..], 100).await, Err(FrameError::Protocol(_))), "{length}");
        }
        let cut = [5, 0, 0, 0, 1, 2];
        assert!(matches!(read(&mut &cut[..], 100).await, Err(FrameError::Broken(_))));
        let (mut near, mut far) = tokio::io::duplex(100);
        near.write_all(&cut).await.unwrap();
        assert!(matches!(read(&mut far, 100).await, Err(FrameError::Timeout)));
    }
}
