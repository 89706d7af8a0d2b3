//! The client core's interface, with nothing behind it yet: every stream ends with [`OpenError::NoPath`].

use std::{convert::Infallible, net::IpAddr};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use trefoil_protocol::message::{Host, Reason, Target};

/// The way into the network.
#[derive(Clone, Debug, Default)]
pub struct Client;

/// What decides whether two streams may share a circuit: equal tokens do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Isolation(Vec<Vec<u8>>);

/// A connected stream.
#[derive(Debug)]
pub struct Stream(Infallible);

/// How much a stream carried.
#[derive(Debug)]
pub struct Transferred;

/// Why a stream broke.
#[derive(Debug, thiserror::Error)]
#[error("the stream broke")]
pub struct StreamError;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The far end said why.
    #[error("{0}")]
    Stream(Reason),
    /// No circuit could be built, with the reason.
    #[error("no path through the network: {0}")]
    NoPath(String),
    /// Nothing answered in time.
    #[error("the network did not answer in time")]
    Timeout,
    /// The client is shutting down.
    #[error("the client is shutting down")]
    Shutdown,
}

impl Isolation {
    /// The token made of these parts.
    pub fn new(parts: &[&[u8]]) -> Self {
        Self(parts.iter().map(|part| part.to_vec()).collect())
    }
}

impl Client {
    /// Opens a stream; resolves when the far end is connected.
    pub async fn open(&self, _isolation: &Isolation, _target: Target) -> Result<Stream, OpenError> {
        Err(OpenError::NoPath("there is no network yet".into()))
    }

    /// Resolves a name at an exit.
    pub async fn resolve(&self, _isolation: &Isolation, _host: Host) -> Result<Vec<IpAddr>, OpenError> {
        Err(OpenError::NoPath("there is no network yet".into()))
    }
}

impl Stream {
    /// Carries both directions until both have ended.
    pub async fn splice(
        self,
        _prefix: Bytes,
        _reader: &mut (impl AsyncRead + Unpin),
        _writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Transferred, StreamError> {
        match self.0 {}
    }
}
