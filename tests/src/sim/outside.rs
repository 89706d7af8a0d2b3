//! The outside of a simulated network: names, and servers in memory that an exit connects to.
//!
//! What a server does is decided by the port, so that any public address will do. Nothing here touches a real network.

use std::{
    future::pending,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use trefoil_protocol::host::HostName;
use trefoil_relay::outside::{Boxed, Connection, Outside};

/// Sends back all that comes.
pub const ECHO: u16 = 7;
/// Reads all that comes, and answers with its length (8 bytes, little-endian) when it has ended.
pub const SINK: u16 = 9;
/// Reads a length (8 bytes, little-endian), sends that many bytes of [`byte_at`], and ends.
pub const SOURCE: u16 = 19;
/// Refuses.
pub const REFUSING: u16 = 1;
/// Never answers.
pub const SILENT: u16 = 2;
/// Cannot be reached.
pub const UNREACHABLE: u16 = 3;

/// A public address, where all these servers are; so is the name `site.test`.
pub const SITE: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 215, 14));
/// What the name `inside.test` stands for.
pub const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));

/// Bytes that a connection holds between an exit and a server.
const PIPE: usize = 64 * 1024;

/// The outside. A clone is the same one.
#[derive(Clone, Default)]
pub struct SimOutside(Arc<Counts>);

#[derive(Default)]
struct Counts {
    sourced: AtomicU64,
    resets: AtomicUsize,
    lookups: AtomicUsize,
}

/// An exit's end of a connection.
struct Pipe {
    stream: DuplexStream,
    outside: SimOutside,
}

/// The byte that [`SOURCE`] sends at this place.
pub fn byte_at(place: u64) -> u8 {
    place.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

impl SimOutside {
    /// Bytes that sources have got rid of.
    pub fn sourced(&self) -> u64 {
        self.0.sourced.load(Relaxed)
    }

    /// Connections that exits have reset.
    pub fn resets(&self) -> usize {
        self.0.resets.load(Relaxed)
    }

    /// Names that exits have looked up.
    pub fn lookups(&self) -> usize {
        self.0.lookups.load(Relaxed)
    }

    async fn serve(self, mut stream: DuplexStream, port: u16) -> io::Result<()> {
        match port {
            ECHO => {
                let (mut reader, mut writer) = tokio::io::split(stream);
                tokio::io::copy(&mut reader, &mut writer).await?;
                writer.shutdown().await
            }
            SINK => {
                let length = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                stream.write_all(&length.to_le_bytes()).await
            }
            SOURCE => self.source(stream).await,
            _ => Ok(()),
        }
    }

    async fn source(self, mut stream: DuplexStream) -> io::Result<()> {
        let length = stream.read_u64_le().await?;
        let mut piece = Vec::with_capacity(PIPE);
        for place in 0..length {
            piece.push(byte_at(place));
            if piece.len() == PIPE || place + 1 == length {
                stream.write_all(&piece).await?;
                self.0.sourced.fetch_add(piece.len() as u64, Relaxed);
                piece.clear();
            }
        }
        Ok(())
    }
}

impl Outside for SimOutside {
    fn resolve<'a>(&'a self, name: &'a HostName) -> Boxed<'a, io::Result<Vec<IpAddr>>> {
        self.0.lookups.fetch_add(1, Relaxed);
        Box::pin(async move {
            match name.as_str() {
                "site.test" => Ok(vec![SITE]),
                "inside.test" => Ok(vec![INSIDE]),
                "both.test" => Ok(vec![INSIDE, SITE]),
                "broken.test" => Err(io::Error::other("the name server failed")),
                "silent.test" => pending().await,
                _ => Ok(Vec::new()),
            }
        })
    }

    fn connect(&self, target: SocketAddr) -> Boxed<'_, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            match target.port() {
                REFUSING => Err(io::ErrorKind::ConnectionRefused.into()),
                UNREACHABLE => Err(io::ErrorKind::HostUnreachable.into()),
                SILENT => pending().await,
                port => {
                    let (stream, theirs) = duplex(PIPE);
                    let outside = self.clone();
                    tokio::spawn(self.clone().serve(theirs, port));
                    Ok(Box::new(Pipe { stream, outside }) as Box<dyn Connection>)
                }
            }
        })
    }
}

impl Connection for Pipe {
    fn reset(self: Box<Self>) {
        self.outside.0.resets.fetch_add(1, Relaxed);
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
