//! A connection from a local program, once its greeting is over.
//!
//! A program must be able to tell a complete answer from a broken one: whatever is dropped here is reset, and only
//! a stream that ended in order, or a refusal that was said, ends in order.

use bytes::Bytes;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};
use tracing::debug;
use trefoil_protocol::limits::{GOODBYE_BYTES, GOODBYE_TIMEOUT};

use crate::tunnel::Stream;

/// A local program's socket: reset when it is dropped.
pub(crate) struct LocalSocket {
    socket: TcpStream,
    end: End,
}

/// How the program sees its connection end.
enum End {
    Reset,
    Orderly,
}

impl LocalSocket {
    /// From now on, whoever drops it resets it.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, end: End::Reset }
    }

    /// Tells the program `words`, then carries `stream` both ways until both have ended, `pipelined` bytes from the
    /// program first. A broken stream is a reset.
    pub(crate) async fn carry(mut self, words: &[u8], stream: Stream, pipelined: Bytes) {
        if let Err(error) = self.socket.write_all(words).await {
            return debug!(%error, "the program went away before its stream was connected");
        }
        let (mut reader, mut writer) = self.socket.split();
        match stream.splice(&pipelined, &mut reader, &mut writer).await {
            Ok(_) => self.finish(),
            Err(error) => debug!(%error, "a stream broke, its local connection is reset"),
        }
    }

    /// Tells the program `words`, and ends the connection so that it can read them.
    pub(crate) async fn close(mut self, words: &[u8]) {
        match time::timeout(GOODBYE_TIMEOUT, say_goodbye(&mut self.socket, words)).await {
            Ok(Err(error)) => debug!(%error, "the program did not wait for its answer"),
            Ok(Ok(())) | Err(_) => self.finish(),
        }
    }

    fn finish(mut self) {
        self.end = End::Orderly;
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        if let End::Reset = self.end
            && let Err(error) = self.socket.set_zero_linger()
        {
            debug!(%error, "a local connection could not be reset");
        }
    }
}

/// Closing a socket with unread bytes in it would reset it, and the words might be lost: those bytes are read first.
async fn say_goodbye(socket: &mut TcpStream, words: &[u8]) -> io::Result<()> {
    socket.write_all(words).await?;
    socket.shutdown().await?;
    io::copy(&mut socket.take(GOODBYE_BYTES), &mut io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn connected() -> (TcpStream, LocalSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (program, LocalSocket::new(listener.accept().await.unwrap().0))
    }

    #[tokio::test]
    async fn a_dropped_connection_is_a_reset_to_its_program() {
        let (mut program, local) = connected().await;
        drop(local);
        let error = program.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_connection_that_finished_ends_in_order() {
        let (mut program, local) = connected().await;
        local.finish();
        assert_eq!(program.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_refusal_reaches_a_program_that_already_sent_more() {
        let (mut program, local) = connected().await;
        program.write_all(&[7; 1000]).await.unwrap();
        program.shutdown().await.unwrap();
        local.close(b"no").await;
        let mut answer = Vec::new();
        program.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"no");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_program_that_never_hangs_up_is_not_waited_for() {
        let (mut program, local) = connected().await;
        local.close(b"no").await;
        let mut answer = Vec::new();
        program.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"no");
    }
}
