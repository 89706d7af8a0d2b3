//! One encrypted connection between two nodes, and the streams on it: circuits, and few for requests.
//!
//! Specification: docs/protocol.md, "Links". Each circuit is one QUIC stream (`cells.rs`). The send window follows
//! the number of streams, because quinn starves streams for ever where it binds; the number of streams that a relay
//! may open follows their use, because quinn pays for each in advance.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::time::{Instant, timeout};
use trefoil_protocol::{
    identity::RelayId,
    limits::{
        DIRECTORY_STREAMS, SEND_WINDOW_FACTOR, SEND_WINDOW_MIN, STREAM_OPEN_TIMEOUT, STREAM_WINDOW, STREAMS_CLIENT,
        STREAMS_RELAY, STREAMS_RELAY_MAX,
    },
};

use crate::{
    cells::Circuit,
    endpoint::canonical,
    half::{Receiving, Sending},
    opened::{DIRECTORY, MAILBOX, Opened, RequestStream},
    reason::CloseReason,
    sources::Place,
};

/// Names a link within this process, and never another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(u64);

#[cfg(test)]
impl LinkId {
    /// A name that no real link of the test has.
    pub(crate) fn for_tests(number: u64) -> Self {
        Self(number)
    }
}

/// Who dialled a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialler {
    /// This node.
    Us,
    /// The peer.
    Peer,
}

/// A link. A clone is the same link; it closes when the last clone and the last circuit are dropped.
#[derive(Clone, Debug)]
pub struct Link(Arc<Inner>);

/// Why a link is gone, or does not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer closed it.
    #[error("the peer closed the link: {0}")]
    Closed(CloseReason),
    /// This node closed it.
    #[error("the link was closed here")]
    ClosedHere,
    /// Nothing was heard of the peer for too long.
    #[error("the peer is gone")]
    TimedOut,
    /// The peer has as many streams from us as it allows; the link goes on.
    #[error("the peer allows no more circuits on this link")]
    CircuitLimit,
    /// Anything else.
    #[error("the link broke: {0}")]
    Broken(#[source] ConnectionError),
}

/// The peer has as many streams for requests as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// A stream's place in its link's count. One that the peer has opened counts as a circuit until it is known to be none.
#[derive(Debug)]
pub(crate) struct Seat {
    link: Link,
    opener: Dialler,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Circuit,
    Requests,
}

#[derive(Debug)]
struct Inner {
    id: LinkId,
    connection: Connection,
    peer: Option<RelayId>,
    dialler: Dialler,
    made: Instant,
    address: SocketAddr,
    counts: Mutex<Counts>,
    _place: Option<Place>,
}

#[derive(Debug)]
struct Counts {
    /// Streams that we opened.
    ours: Streams,
    /// Streams that the peer opened.
    theirs: Streams,
    /// How many the peer may open now.
    allowed: u32,
    /// How many it may open at most.
    most: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Streams {
    circuits: usize,
    requests: usize,
}

impl Link {
    /// A link over a connection whose handshake is done.
    pub(crate) fn new(connection: Connection, peer: Option<RelayId>, dialler: Dialler, place: Option<Place>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = LinkId(NEXT.fetch_add(1, Ordering::Relaxed));
        let (allowed, most) = match dialler {
            Dialler::Us => (STREAMS_RELAY, STREAMS_RELAY_MAX),
            Dialler::Peer => (STREAMS_CLIENT, STREAMS_CLIENT),
        };
        if dialler == Dialler::Peer {
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(allowed));
        }
        let counts = Mutex::new(Counts { ours: Streams::default(), theirs: Streams::default(), allowed, most });
        let address = canonical(connection.remote_address());
        let made = Instant::now();
        Self(Arc::new(Inner { id, connection, peer, dialler, made, address, counts, _place: place }))
    }

    /// Its name within this process.
    pub fn id(&self) -> LinkId {
        self.0.id
    }

    /// The relay at its other end; `None` if that is an anonymous client.
    pub fn peer(&self) -> Option<RelayId> {
        self.0.peer
    }

    /// Who dialled it.
    pub fn dialler(&self) -> Dialler {
        self.0.dialler
    }

    /// The peer's address when the handshake was done, which has proved it. The peer may have moved since then, or say
    /// so: where QUIC's packets go now is nobody's proof of anything.
    pub fn remote_address(&self) -> SocketAddr {
        self.0.address
    }

    /// For how long it is there.
    pub fn age(&self) -> Duration {
        self.0.made.elapsed()
    }

    /// The present estimate of the round-trip time.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// How many circuits are open on it, by either side.
    pub fn circuits(&self) -> usize {
        let counts = self.0.counts();
        counts.ours.circuits + counts.theirs.circuits
    }

    /// Whether nothing is open on it.
    pub fn is_idle(&self) -> bool {
        let counts = self.0.counts();
        counts.ours.all() + counts.theirs.all() == 0
    }

    /// Opens a circuit, within [`STREAM_OPEN_TIMEOUT`]. The peer learns of it by its first cell.
    ///
    /// At the peer's limit, quinn offers room again only when an eighth of the limit has become free.
    ///
    /// # Errors
    /// [`LinkError::CircuitLimit`] if the peer allows no more; the others if the link is gone.
    pub async fn open_circuit(&self) -> Result<Circuit, LinkError> {
        let seat = self.seat(Dialler::Us, Kind::Circuit);
        let (send, receive) = self.open().await?;
        Ok(Circuit::new(Sending::new(send), Receiving::new(receive), &[], seat))
    }

    /// Opens a stream for directory messages, as [`Link::open_circuit`] does a circuit.
    ///
    /// # Errors
    /// As there.
    pub async fn open_directory(&self) -> Result<RequestStream, LinkError> {
        self.open_requests(DIRECTORY).await
    }

    /// Opens a stream for requests to the mailboxes, as [`Link::open_circuit`] does a circuit.
    ///
    /// # Errors
    /// As there.
    pub async fn open_mailbox(&self) -> Result<RequestStream, LinkError> {
        self.open_requests(MAILBOX).await
    }

    async fn open_requests(&self, of: u8) -> Result<RequestStream, LinkError> {
        let seat = self.seat(Dialler::Us, Kind::Requests);
        RequestStream::open(self.open().await?, seat, of).await
    }

    async fn open(&self) -> Result<(SendStream, RecvStream), LinkError> {
        let opened = timeout(STREAM_OPEN_TIMEOUT, self.0.connection.open_bi()).await;
        Ok(opened.map_err(|_| LinkError::CircuitLimit)??)
    }

    /// The next stream that the peer opens. Cancel-safe.
    ///
    /// # Errors
    /// [`LinkError`] when the link is gone.
    pub async fn accept(&self) -> Result<Opened, LinkError> {
        let (send, receive) = self.0.connection.accept_bi().await?;
        Ok(Opened::new(send, receive, self.seat(Dialler::Peer, Kind::Circuit)))
    }

    /// The peer is a relay of the view: from now on it may have more circuits, up to [`STREAMS_RELAY_MAX`] as it uses
    /// them. A key alone is no reason, since anyone can make one.
    pub fn trust(&self) {
        self.0.counts().most = STREAMS_RELAY_MAX;
    }

    /// Closes the link with all its circuits.
    pub fn close(&self, reason: CloseReason) {
        self.0.connection.close(reason.code(), b"");
    }

    /// Waits until the link is gone, and says why. Cancel-safe.
    pub async fn closed(&self) -> LinkError {
        self.0.connection.closed().await.into()
    }

    /// Whether the link is gone.
    pub fn is_closed(&self) -> bool {
        self.0.connection.close_reason().is_some()
    }

    fn seat(&self, opener: Dialler, kind: Kind) -> Seat {
        self.0.count(opener, |streams| *streams.of(kind) += 1);
        Seat { link: self.clone(), opener, kind }
    }
}

impl Inner {
    /// Changes the count of one side's streams, and what depends on it while no other can.
    fn count<R>(&self, opener: Dialler, change: impl FnOnce(&mut Streams) -> R) -> R {
        let mut counts = self.counts();
        let result = change(match opener {
            Dialler::Us => &mut counts.ours,
            Dialler::Peer => &mut counts.theirs,
        });
        self.connection.set_send_window(send_window(counts.ours.all() + counts.theirs.all()));
        if opener == Dialler::Peer && counts.raise_allowed() {
            self.connection.set_max_concurrent_bi_streams(VarInt::from_u32(counts.allowed));
        }
        result
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner) // counting cannot leave it half done
    }
}

impl Counts {
    /// Doubles what a relay may open when three quarters are in use; whether it did.
    fn raise_allowed(&mut self) -> bool {
        let allowed = usize::try_from(self.allowed).unwrap_or(usize::MAX);
        let raise = self.theirs.all() >= allowed / 4 * 3 && self.allowed < self.most;
        if raise {
            self.allowed = self.allowed.saturating_mul(2).min(self.most);
        }
        raise
    }
}

impl Streams {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Circuit => &mut self.circuits,
            Kind::Requests => &mut self.requests,
        }
    }

    fn all(self) -> usize {
        self.circuits + self.requests
    }
}

impl Seat {
    /// This is a stream for requests, if its opener may have another.
    pub(crate) fn make_requests(&mut self) -> Result<(), TooMany> {
        self.link.0.count(self.opener, |streams| {
            if streams.requests >= DIRECTORY_STREAMS {
                return Err(TooMany);
            }
            streams.circuits -= 1;
            streams.requests += 1;
            Ok(())
        })?;
        self.kind = Kind::Requests;
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.link.0.count(self.opener, |streams| *streams.of(self.kind) -= 1);
    }
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Closed(CloseReason::from_code(close.error_code)),
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::TimedOut => Self::TimedOut,
            other => Self::Broken(other),
        }
    }
}

/// Bytes that may be sent and unacknowledged with this many streams.
fn send_window(streams: usize) -> u64 {
    let streams = u64::try_from(streams).unwrap_or(u64::MAX);
    streams.saturating_mul(SEND_WINDOW_FACTOR * u64::from(STREAM_WINDOW)).max(SEND_WINDOW_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(theirs: usize, allowed: u32, most: u32) -> Counts {
        Counts { ours: Streams::default(), theirs: Streams { circuits: theirs, requests: 0 }, allowed, most }
    }

    #[test]
    fn the_send_window_never_binds() {
        assert_eq!(send_window(0), SEND_WINDOW_MIN);
        assert_eq!(send_window(64), 128 * u64::from(STREAM_WINDOW));
        assert_eq!(send_window(usize::MAX), u64::MAX);
    }

    #[test]
    fn what_a_relay_may_open_doubles_with_use_up_to_the_limit() {
        let mut counts = counts(95, STREAMS_RELAY, STREAMS_RELAY_MAX);
        assert!(!counts.raise_allowed());
        counts.theirs.requests = 1;
        assert!(counts.raise_allowed());
        assert_eq!(counts.allowed, 2 * STREAMS_RELAY);
        counts.theirs.circuits = 1_000_000;
        while counts.raise_allowed() {}
        assert_eq!(counts.allowed, STREAMS_RELAY_MAX);
    }

    #[test]
    fn what_a_stranger_may_open_does_not_grow() {
        let mut counts = counts(1000, STREAMS_CLIENT, STREAMS_CLIENT);
        assert!(!counts.raise_allowed());
    }
}
