//! What all of a relay's circuits share: its keys, its view of the network, its links and its limits.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trefoil_protocol::{
    entry::RelayEntry,
    handshake::Peer,
    identity::{OnionKeyId, OnionSecret, RelayId},
    params::NetworkId,
    puzzle::Hour,
};

use crate::{
    askers::Askers,
    clock,
    directory::Directory,
    effort::Effort,
    endpoint::{DialError, Sockets},
    exit::Exit,
    extend::Shares,
    gate::Gate,
    gossip::Neighbours,
    hints::Hints,
    link::Link,
    links::Links,
    memory::Memory,
    onion_keys::OnionKeys,
    post::Post,
    publish::Publisher,
    spent::Spent,
};

/// See the file's head.
pub(crate) struct Node {
    pub(crate) started: Instant,
    pub(crate) network: NetworkId,
    pub(crate) relay: RelayId,
    pub(crate) onion: OnionKeys,
    pub(crate) directory: Directory,
    pub(crate) neighbours: Neighbours,
    /// Shared with what names addresses.
    pub(crate) hints: Arc<Hints>,
    pub(crate) publisher: Publisher,
    /// For dialling others from a port that they have not heard of.
    pub(crate) sockets: Sockets,
    /// Those who ask the directory through circuits.
    pub(crate) askers: Askers,
    /// Relays that asked to be dialled, and are.
    pub(crate) dials_back: Askers,
    /// Reconciliations that others have under way here.
    pub(crate) sessions: Askers,
    pub(crate) links: Links,
    pub(crate) exit: Exit,
    /// `None` where it keeps no letters.
    pub(crate) post: Option<Post>,
    pub(crate) handshakes: Gate,
    /// How long each handshake takes in a simulation; see [`crate::relay::Bound::with_slow_handshakes`].
    pub(crate) slow_handshakes: Option<Duration>,
    pub(crate) spent: Spent,
    pub(crate) extends: Gate,
    pub(crate) shares: Shares,
    pub(crate) memory: Arc<Memory>,
    pub(crate) tracker: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    pub(crate) effort: Mutex<Effort>,
    pub(crate) rng: Mutex<StdRng>,
}

impl Node {
    /// This relay's name.
    pub(crate) fn id(&self) -> RelayId {
        self.relay
    }

    /// The onion secret that a `Create` names.
    pub(crate) fn onion_secret(&self, id: OnionKeyId) -> Option<Arc<OnionSecret>> {
        self.onion.find(id)
    }

    /// A link to the relay, at the first of its addresses that answers.
    pub(crate) async fn link(&self, entry: &RelayEntry) -> Result<Link, DialError> {
        let mut failed = DialError::Timeout;
        for address in entry.addresses.iter() {
            match self.links.get(entry.id, address).await {
                Ok(link) => return Ok(link),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The peer is a relay that is known: the link is used for new circuits to it, and it may open more.
    pub(crate) fn trust(&self, link: &Link) {
        link.trust();
        self.links.insert(link);
    }

    /// This relay as a handshake's transcript has it.
    pub(crate) fn peer_for(&self, onion: &OnionSecret) -> Peer {
        Peer { network: self.network, relay: self.relay, onion: onion.public() }
    }

    /// The effort to ask for now.
    pub(crate) fn effort(&self) -> u8 {
        let mut effort = self.effort.lock().unwrap_or_else(PoisonError::into_inner);
        effort.asked(self.handshakes.waiting(), Instant::now().into_std())
    }

    /// This machine's hour.
    pub(crate) fn hour(&self) -> Hour {
        Hour::of_unix(clock::now().0)
    }

    /// A generator for one handshake, so that handshakes do not wait for each other.
    pub(crate) fn rng(&self) -> StdRng {
        StdRng::from_rng(&mut *self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
