//! A listening TCP socket on this machine, and the tasks of its connections.
//!
//! It bounds how many there are, and ends them at shutdown. It never looks at what they carry.

use std::{future::Future, net::SocketAddr, sync::Arc};

use tokio::{
    io,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};
use trefoil_protocol::limits::{ACCEPT_PAUSE, MAX_LOCAL_CONNECTIONS};

/// A socket that local programs connect to.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    room: Arc<Semaphore>,
}

impl Listener {
    /// Listens on `address`; port 0 lets the system choose.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::with_room(address, MAX_LOCAL_CONNECTIONS).await
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Runs `connection` for each connection, until `shutdown`; then drops those that are left, and returns when
    /// they are gone.
    pub(crate) async fn serve<F, C>(self, shutdown: CancellationToken, connection: F)
    where
        F: Fn(TcpStream) -> C,
        C: Future<Output = ()> + Send + 'static,
    {
        let tasks = TaskTracker::new();
        while let Some((socket, seat)) = shutdown.run_until_cancelled(self.accept()).await {
            let served = shutdown.clone().run_until_cancelled_owned(connection(socket));
            tasks.spawn(async move {
                served.await;
                drop(seat);
            });
        }
        drop(self);
        tasks.close();
        tasks.wait().await;
    }

    async fn with_room(address: SocketAddr, room: usize) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self { address: socket.local_addr()?, socket, room: Arc::new(Semaphore::new(room)) })
    }

    /// The next connection and its seat, when there is one free.
    async fn accept(&self) -> (TcpStream, OwnedSemaphorePermit) {
        if self.room.available_permits() == 0 {
            debug!("too many local connections at once, new ones wait");
        }
        let seat = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.socket.accept().await {
                Ok((socket, _)) => {
                    if let Err(error) = socket.set_nodelay(true) {
                        debug!(%error, "small writes to a local program may be late");
                    }
                    return (socket, seat);
                }
                Err(error) => {
                    warn!(%error, "cannot accept local connections, trying again in {ACCEPT_PAUSE:?}");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::mpsc,
    };

    use super::*;

    async fn listener(room: usize) -> Listener {
        Listener::with_room("127.0.0.1:0".parse().unwrap(), room).await.unwrap()
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_a_seat() {
        let (listener, shutdown) = (listener(1).await, CancellationToken::new());
        let address = listener.local_addr();
        let (served, mut numbers) = mpsc::unbounded_channel();
        tokio::spawn(listener.serve(shutdown, move |mut socket| {
            let served = served.clone();
            async move {
                served.send(socket.read_u8().await.unwrap()).unwrap();
                socket.read_u8().await.unwrap_err();
            }
        }));

        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_u8(2).await.unwrap();
        first.write_u8(1).await.unwrap();
        assert_eq!(numbers.recv().await, Some(1));
        numbers.try_recv().unwrap_err();
        drop(first);
        assert_eq!(numbers.recv().await, Some(2));
    }

    #[tokio::test]
    async fn shutdown_ends_the_connections_and_frees_the_port() {
        let (listener, shutdown) = (listener(2).await, CancellationToken::new());
        let address = listener.local_addr();
        let (held, mut sockets) = mpsc::unbounded_channel();
        let serving = tokio::spawn(listener.serve(shutdown.clone(), move |socket| {
            held.send(()).unwrap();
            async move {
                let _socket = socket;
                future::pending::<Infallible>().await;
            }
        }));

        let mut program = TcpStream::connect(address).await.unwrap();
        sockets.recv().await.unwrap();
        shutdown.cancel();
        serving.await.unwrap();
        assert_eq!(program.read(&mut [0]).await.unwrap(), 0);
        TcpStream::connect(address).await.unwrap_err();
    }
}
