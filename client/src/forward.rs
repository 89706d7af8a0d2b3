//! One local TCP port whose every connection is a stream to one fixed target.
//!
//! It listens on loopback only, and shares circuits with nothing else.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use trefoil_protocol::message::Target;

use crate::{
    listener::Listener,
    local::LocalSocket,
    tunnel::{Client, Isolation, OpenError},
};

/// A forwarded port that is bound and not served yet.
pub struct Forward {
    listener: Listener,
    target: Target,
}

/// Why there is no forwarded port.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Something else listens there.
    #[error("port {0} of 127.0.0.1 is in use: choose another local port")]
    InUse(u16),
    /// The system refused for another reason.
    #[error("cannot listen on port {0} of 127.0.0.1")]
    Bind(u16, #[source] io::Error),
}

impl Forward {
    /// Listens on `port` of 127.0.0.1, for streams to `target`; port 0 lets the system choose.
    pub async fn bind(port: u16, target: Target) -> Result<Self, ForwardError> {
        match Listener::bind((Ipv4Addr::LOCALHOST, port).into()).await {
            Ok(listener) => Ok(Self { listener, target }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ForwardError::InUse(port)),
            Err(error) => Err(ForwardError::Bind(port, error)),
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Carries local connections through `client` until `shutdown`, then resets what is left.
    pub async fn run(self, client: Client, shutdown: CancellationToken) {
        let Self { listener, target } = self;
        let isolation = Isolation::new(&[b"forward", &listener.local_addr().port().to_be_bytes()]);
        let connection = |socket| carry(socket, client.clone(), isolation.clone(), target.clone());
        listener.serve(shutdown, connection).await;
    }
}

/// A target that cannot be reached is a reset: there is no other way to tell a program that speaks no proxy protocol.
async fn carry(socket: TcpStream, client: Client, isolation: Isolation, target: Target) {
    let local = LocalSocket::new(socket);
    match client.open(&isolation, target).await {
        Ok(stream) => local.carry(&[], stream, Bytes::new()).await,
        Err(OpenError::NoExit(reason)) => {
            warn!("a forwarded connection was not made: no exit allows its target");
            debug!(%reason, "there is no exit"); // it names the target
        }
        Err(OpenError::NoPath(reason)) => {
            warn!("a forwarded connection was not made: no path through the network; --log debug says more");
            debug!(%reason, "there is no path"); // it may name the target
        }
        Err(error) => warn!(%error, "a forwarded connection was not made"),
    }
}

#[cfg(test)]
mod tests {
    use crate::target;

    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_says_what_to_do() {
        let target = target::parse("example.com:80").unwrap();
        let first = Forward::bind(0, target.clone()).await.unwrap();
        assert!(first.local_addr().ip().is_loopback());
        let second = Forward::bind(first.local_addr().port(), target).await;
        let error = second.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("choose another local port"), "{error}");
    }
}
