//! One encrypted connection between two nodes, and the circuits on it.
//!
//! Specification: docs/protocol.md, "Links". Each circuit is one QUIC stream (`cells.rs`). The send window follows
//! the number of circuits, because quinn starves streams for ever where it binds; the number of circuits that a relay
//! may open follows their use, because quinn pays for each in advance.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, ConnectionError, VarInt};
use tokio::time::timeout;
use trefoil_protocol::{
    identity::RelayId,
    limits::{
        SEND_WINDOW_FACTOR, SEND_WINDOW_MIN, STREAM_OPEN_TIMEOUT, STREAM_WINDOW, STREAMS_CLIENT, STREAMS_RELAY,
        STREAMS_RELAY_MAX,
    },
};

use crate::{cells::Circuit, endpoint::canonical, reason::CloseReason, sources::Place};

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
    /// The peer has as many circuits from us as it allows; the link goes on.
    #[error("the peer allows no more circuits on this link")]
    CircuitLimit,
    /// Anything else.
    #[error("the link broke: {0}")]
    Broken(#[source] ConnectionError),
}

/// A circuit's place in its link's count, shared by its two halves.
#[derive(Debug)]
pub(crate) struct Seat {
    link: Link,
    opener: Dialler,
}

#[derive(Debug)]
struct Inner {
    id: LinkId,
    connection: Connection,
    peer: Option<RelayId>,
    dialler: Dialler,
    counts: Mutex<Counts>,
    _place: Option<Place>,
}

#[derive(Debug)]
struct Counts {
    /// Circuits that we opened.
    ours: usize,
    /// Circuits that the peer opened.
    theirs: usize,
    /// How many the peer may open now.
    allowed: u32,
    /// How many it may open at most.
    most: u32,
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
        let counts = Mutex::new(Counts { ours: 0, theirs: 0, allowed, most });
        Self(Arc::new(Inner { id, connection, peer, dialler, counts, _place: place }))
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

    /// The peer's present address; it changes when the peer's network does.
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.0.connection.remote_address())
    }

    /// The present estimate of the round-trip time.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// How many circuits are open on it, by either side.
    pub fn circuits(&self) -> usize {
        let counts = self.0.counts();
        counts.ours + counts.theirs
    }

    /// Opens a circuit, within [`STREAM_OPEN_TIMEOUT`]. The peer learns of it by its first cell.
    ///
    /// At the peer's limit, quinn offers room again only when an eighth of the limit has become free.
    ///
    /// # Errors
    /// [`LinkError::CircuitLimit`] if the peer allows no more; the others if the link is gone.
    pub async fn open_circuit(&self) -> Result<Circuit, LinkError> {
        let seat = self.seat(Dialler::Us);
        let opened = timeout(STREAM_OPEN_TIMEOUT, self.0.connection.open_bi()).await;
        let (send, receive) = opened.map_err(|_| LinkError::CircuitLimit)??;
        Ok(Circuit::new(send, receive, seat))
    }

    /// The next circuit that the peer opens. Cancel-safe.
    ///
    /// # Errors
    /// [`LinkError`] when the link is gone.
    pub async fn accept_circuit(&self) -> Result<Circuit, LinkError> {
        let (send, receive) = self.0.connection.accept_bi().await?;
        Ok(Circuit::new(send, receive, self.seat(Dialler::Peer)))
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

    fn seat(&self, opener: Dialler) -> Arc<Seat> {
        self.0.count(opener, |circuits| *circuits += 1);
        Arc::new(Seat { link: self.clone(), opener })
    }
}

impl Inner {
    /// Changes the count of one side's circuits, and what depends on it while no other can.
    fn count(&self, opener: Dialler, change: impl FnOnce(&mut usize)) {
        let mut counts = self.counts();
        change(match opener {
            Dialler::Us => &mut counts.ours,
            Dialler::Peer => &mut counts.theirs,
        });
        self.connection.set_send_window(send_window(counts.ours + counts.theirs));
        if opener == Dialler::Peer && counts.raise_allowed() {
            self.connection.set_max_concurrent_bi_streams(VarInt::from_u32(counts.allowed));
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner) // counting cannot leave it half done
    }
}

impl Counts {
    /// Doubles what a relay may open when three quarters are in use; whether it did.
    fn raise_allowed(&mut self) -> bool {
        let allowed = usize::try_from(self.allowed).unwrap_or(usize::MAX);
        let raise = self.theirs >= allowed / 4 * 3 && self.allowed < self.most;
        if raise {
            self.allowed = self.allowed.saturating_mul(2).min(self.most);
        }
        raise
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.link.0.count(self.opener, |circuits| *circuits -= 1);
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

/// Bytes that may be sent and unacknowledged with this many circuits.
fn send_window(circuits: usize) -> u64 {
    let circuits = u64::try_from(circuits).unwrap_or(u64::MAX);
    circuits.saturating_mul(SEND_WINDOW_FACTOR * u64::from(STREAM_WINDOW)).max(SEND_WINDOW_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_send_window_never_binds() {
        assert_eq!(send_window(0), SEND_WINDOW_MIN);
        assert_eq!(send_window(64), 128 * u64::from(STREAM_WINDOW));
        assert_eq!(send_window(usize::MAX), u64::MAX);
    }

    #[test]
    fn what_a_relay_may_open_doubles_with_use_up_to_the_limit() {
        let mut counts = Counts { ours: 0, theirs: 95, allowed: STREAMS_RELAY, most: STREAMS_RELAY_MAX };
        assert!(!counts.raise_allowed());
        counts.theirs = 96;
        assert!(counts.raise_allowed());
        assert_eq!(counts.allowed, 2 * STREAMS_RELAY);
        counts.theirs = 1_000_000;
        while counts.raise_allowed() {}
        assert_eq!(counts.allowed, STREAMS_RELAY_MAX);
    }

    #[test]
    fn what_a_stranger_may_open_does_not_grow() {
        let mut counts = Counts { ours: 0, theirs: 1000, allowed: STREAMS_CLIENT, most: STREAMS_CLIENT };
        assert!(!counts.raise_allowed());
    }
}
