//! The proxy port: SOCKS and HTTP CONNECT for local programs, told apart by their first byte.
//!
//! This file never looks a name up, and never connects to anything but the network.

use std::{future::Future, io, net::SocketAddr, sync::Once, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use trefoil_protocol::{host::Host, limits::GREETING_TIMEOUT, message::Target};

use crate::{
    http::{self, Answered},
    listener::Listener,
    local::LocalSocket,
    socks::{Command, Negotiation, Request, SocksError, Step},
    tunnel::Client,
};

/// A proxy port that is bound and not served yet.
pub struct Proxy {
    listener: Listener,
}

/// Who may use the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposure {
    /// Programs on this machine.
    #[default]
    Loopback,
    /// Everybody who can reach the address.
    Everybody,
}

/// Why there is no proxy port.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Not a loopback address, and not asked for by name.
    #[error(
        "{0} is not a loopback address: everybody who can reach it could use this proxy and see what passes; \
         if that is meant, say so with --expose"
    )]
    Exposed(SocketAddr),
    /// Something else listens there.
    #[error("{0} is in use: is another trefoil or Tor using it? choose another with --socks")]
    InUse(SocketAddr),
    /// The system refused for another reason.
    #[error("cannot listen on {0}")]
    Bind(SocketAddr, #[source] io::Error),
}

/// Why a greeting led to nothing.
#[derive(Debug, thiserror::Error)]
enum GreetingError {
    #[error("the program did not say what it wants within {GREETING_TIMEOUT:?}")]
    Timeout,
    #[error("the program hung up before it said what it wants")]
    HungUp,
    #[error("reading the program's greeting failed")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Socks(#[from] SocksError),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// Bytes of a greeting that are read at once.
const READ: usize = 1024;

impl Proxy {
    /// Listens on `address`; port 0 lets the system choose. Any address but a loopback one must be asked for.
    pub async fn bind(address: SocketAddr, exposure: Exposure) -> Result<Self, ProxyError> {
        if !address.ip().is_loopback() {
            match exposure {
                Exposure::Loopback => return Err(ProxyError::Exposed(address)),
                Exposure::Everybody => warn!("everybody who can reach the proxy's address can use it"),
            }
        }
        match Listener::bind(address).await {
            Ok(listener) => Ok(Self { listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ProxyError::InUse(address)),
            Err(error) => Err(ProxyError::Bind(address, error)),
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves local programs through `client` until `shutdown`, then resets what is left.
    pub async fn run(self, client: Client, shutdown: CancellationToken) {
        let connection = |socket| {
            let client = client.clone();
            async move {
                if let Err(error) = serve(socket, &client).await {
                    debug!(%error, "a local program was not served");
                }
            }
        };
        self.listener.serve(shutdown, connection).await;
    }
}

async fn serve(socket: TcpStream, client: &Client) -> Result<(), GreetingError> {
    let deadline = Instant::now() + GREETING_TIMEOUT;
    let mut first = [0];
    match before(deadline, async { Ok(socket.peek(&mut first).await?) }).await? {
        0 => Err(GreetingError::HungUp),
        _ => match first {
            [4 | 5] => serve_socks(socket, deadline, client).await,
            _ => serve_http(socket, deadline - Instant::now(), client).await,
        },
    }
}

async fn serve_socks(mut socket: TcpStream, deadline: Instant, client: &Client) -> Result<(), GreetingError> {
    let greeting = before(deadline, negotiate(&mut socket)).await;
    let local = LocalSocket::new(socket);
    match greeting {
        Ok((request, pipelined)) => fulfil(local, request, pipelined, client).await,
        Err(GreetingError::Socks(error)) => {
            local.close(&error.reply()).await;
            return Err(error.into());
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Talks SOCKS with a program until it has said what it wants, and gives back what it sent after that.
async fn negotiate(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(Request, Bytes), GreetingError> {
    let mut received = [0; READ];
    let mut step = Step::Incomplete(Negotiation::new());
    loop {
        step = match step {
            Step::Incomplete(negotiation) => {
                let length = io.read(&mut received).await?;
                if length == 0 {
                    return Err(GreetingError::HungUp);
                }
                negotiation.advance(&received[..length])?
            }
            Step::Reply(reply, negotiation) => {
                io.write_all(reply).await?;
                negotiation.advance(&[])?
            }
            Step::Request(request, pipelined) => return Ok((request, pipelined)),
        }
    }
}

async fn fulfil(local: LocalSocket, request: Request, pipelined: Bytes, client: &Client) {
    match request.command.clone() {
        Command::Connect { host, port } => {
            warn_of_leak(&host);
            match client.open(&request.isolation, Target::Exit { host, port }).await {
                Ok(stream) => local.carry(&request.granted(), stream, pipelined).await,
                Err(error) => local.close(&request.failed(&error)).await,
            }
        }
        Command::Resolve { host } => match client.resolve(&request.isolation, host).await {
            Ok(addresses) => local.close(&request.resolved(&addresses)).await,
            Err(error) => local.close(&request.failed(&error)).await,
        },
    }
}

/// A program that names an address may have looked it up by itself, outside of the network: said once per process.
fn warn_of_leak(host: &Host) {
    static ONCE: Once = Once::new();
    if matches!(host, Host::Address(address) if !address.is_loopback()) {
        debug!("a program asked for an address and not for a name");
        ONCE.call_once(|| {
            warn!(
                "a program asked for an address and not for a name: if it looked a name up for that, whoever answers \
                 its DNS questions knows where it goes; make it resolve through the proxy (socks5h or socks4a)"
            );
        });
    }
}

async fn serve_http(socket: TcpStream, patience: Duration, client: &Client) -> Result<(), GreetingError> {
    let open = async |isolation, target| client.open(&isolation, target).await;
    let Answered { io, pipelined, stream } = http::answer(socket, patience, open).await?;
    let local = LocalSocket::new(io);
    match stream {
        Some(stream) => local.carry(&[], stream, pipelined).await,
        None => local.close(&[]).await,
    }
    Ok(())
}

async fn before<T>(
    deadline: Instant,
    greeting: impl Future<Output = Result<T, GreetingError>>,
) -> Result<T, GreetingError> {
    time::timeout_at(deadline, greeting).await.unwrap_or(Err(GreetingError::Timeout))
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const ASKED: [u8; 13] = [5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0, 80];

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_program_that_waits_for_each_reply_is_understood() {
        let (mut program, mut proxy) = duplex(1024);
        let talking = tokio::spawn(async move {
            program.write_all(&ASKED[..3]).await.unwrap();
            let mut reply = [0; 2];
            program.read_exact(&mut reply).await.unwrap();
            program.write_all(&ASKED[3..]).await.unwrap();
            reply
        });
        let (request, pipelined) = negotiate(&mut proxy).await.unwrap();
        let host = Host::parse("192.0.2.1").unwrap();
        assert_eq!(request.command, Command::Connect { host, port: 80 });
        assert!(pipelined.is_empty());
        assert_eq!(talking.await.unwrap(), [5, 0]);
    }

    async fn failure(bytes: &[u8]) -> GreetingError {
        let (mut program, mut proxy) = duplex(1024);
        program.write_all(bytes).await.unwrap();
        program.shutdown().await.unwrap();
        negotiate(&mut proxy).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_program_that_hangs_up_is_told_from_one_that_talks_nonsense() {
        for end in 0..ASKED.len() {
            assert!(matches!(failure(&ASKED[..end]).await, GreetingError::HungUp), "{end}");
        }
        let nonsense = failure(&[5, 1, 0, 9, 9, 9]).await;
        assert!(matches!(nonsense, GreetingError::Socks(SocksError::RequestVersion(9))), "{nonsense}");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_greeting_is_waited_for_30_seconds() {
        let started = Instant::now();
        let (mut program, mut proxy) = duplex(1024);
        program.write_all(&ASKED[..7]).await.unwrap();
        let greeting = before(started + GREETING_TIMEOUT, negotiate(&mut proxy)).await;
        assert!(matches!(greeting, Err(GreetingError::Timeout)));
        assert_eq!(started.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_says_what_to_do() {
        let first = Proxy::bind(address("127.0.0.1:0"), Exposure::Loopback).await.unwrap();
        let second = Proxy::bind(first.local_addr(), Exposure::Loopback).await;
        let error = second.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("--socks"), "{error}");
    }

    #[tokio::test]
    async fn only_a_loopback_address_is_bound_without_asking() {
        for exposed in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9150"] {
            let refused = Proxy::bind(address(exposed), Exposure::Loopback).await;
            assert!(matches!(refused, Err(ProxyError::Exposed(_))), "{exposed}");
        }
        Proxy::bind(address("127.0.0.2:0"), Exposure::Loopback).await.unwrap();
    }
}
