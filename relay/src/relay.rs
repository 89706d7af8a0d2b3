//! A whole relay, to be embedded: bound to its socket first, so that its address is known, then started with the relays
//! through which it gets to know the network.
//!
//! The daemon around it is `main.rs`; the client's testnet runs several in one process.

use std::{
    net::SocketAddr,
    num::NonZero,
    sync::{Arc, Mutex},
    time::Duration,
};

use quinn::AsyncUdpSocket;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tokio::{
    sync::mpsc,
    time::{Instant, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};
use trefoil_protocol::{
    entry::{RelayAddresses, RelayEntry},
    exit_summary::ExitSummary,
    identity::{OnionKey, RelayId, RelaySecret},
    limits::{
        DIALLED_QUEUE, DIRECTORY_ASKERS, EXPIRED_KEPT, EXTENDS_RUNNING, EXTENDS_RUNNING_PER_LINK, GATE_WAITING,
        GATE_WAITING_PER_LINK, ONION_KEY_CHECK, REACH_RUNNING, SESSIONS_RUNNING, SHUTDOWN_TIMEOUT,
    },
    params::NetworkParams,
    policy::ExitPolicy,
};
use zeroize::Zeroize;

pub use crate::publish::Statement;
use crate::{
    answer,
    askers::Askers,
    circuit,
    clock::Clock,
    counters::Cause,
    dht::Dht,
    directory::{self, Directory},
    effort::Effort,
    endpoint::{Arriving, Congestion, Endpoint, LinkIdentity, LinkOptions, Sockets},
    exit::Exit,
    extend::Shares,
    gate::{Gate, GateLimits},
    gossip::{self, Neighbours},
    hints::Hints,
    lan::Lan,
    leave::{self, Farewell},
    link::Link,
    links::Links,
    mailbox::Mailbox,
    meet,
    memory::{Memory, SWEEP_EVERY},
    metrics::{self, MetricsListener},
    news::Haste,
    node::Node,
    onion_keys::{OnionKeys, Rotation},
    opened::{Arrival, Opened},
    outlets::Outlets,
    outside::Outside,
    post::{self, Post},
    publish::{self, Publisher},
    reason::CloseReason,
    repair,
    socket::BindError,
    sources::Loopback,
    spent::Spent,
    status::{self, Status},
    store::{self, Store},
    verify,
};

/// What makes a relay.
pub struct Setup {
    /// The network that it is part of.
    pub params: NetworkParams,
    /// Who it is.
    pub identity: Arc<RelaySecret>,
    /// Its keys for circuit handshakes.
    pub onion: OnionKeys,
    /// What it connects to for others.
    pub exit: ExitPolicy,
    /// What it says of itself besides.
    pub statement: Statement,
    /// Its mailboxes, if it keeps any: it says so in its record.
    pub mailbox: Option<Mailbox>,
    /// How it reaches the outside.
    pub outside: Arc<dyn Outside>,
    /// Sockets that it may have open to the outside; see [`crate::open_files::outlets`].
    pub outlets: usize,
    /// Most bytes that its circuits may hold together.
    pub memory: u64,
    /// How its links behave where the network is full.
    pub congestion: Congestion,
    /// Where its time comes from.
    pub clock: Clock,
    /// Where it keeps its directory.
    pub store: Store,
    /// Seeds its generators: secret, and never used twice.
    pub seed: [u8; 32],
}

/// A relay that has a socket and serves nobody yet.
pub struct Bound {
    setup: Setup,
    endpoint: Endpoint,
    sockets: Sockets,
    slow_handshakes: Option<Duration>,
}

/// A relay at work. It stops when [`Relay::stop`] is called; dropped, it goes on.
pub struct Relay {
    node: Arc<Node>,
    endpoint: Endpoint,
    store: Store,
}

impl Setup {
    /// Binds a UDP socket.
    ///
    /// # Errors
    /// [`BindError`] when the address cannot be had.
    pub fn bind(self, listen: SocketAddr) -> Result<Bound, BindError> {
        let fresh = LinkOptions { identity: LinkIdentity::Anonymous, ..self.link_options() };
        let local = SocketAddr::new(listen.ip(), 0);
        let sockets: Sockets = Arc::new(move |_| Endpoint::bind(local, &fresh));
        self.bound(|options| Endpoint::bind(listen, options), sockets)
    }

    /// Takes a socket of a simulated network, and what makes others there.
    ///
    /// # Errors
    /// [`BindError`] when it is of no use.
    pub fn over(mut self, socket: Arc<dyn AsyncUdpSocket>, sockets: Sockets) -> Result<Bound, BindError> {
        let visible = self.split_seed();
        self.bound(|options| Endpoint::over(socket, options, Some(visible)), sockets)
    }

    /// Takes a seed for what peers see, such as connection ids; handshakes must not come from the same.
    fn split_seed(&mut self) -> [u8; 32] {
        let mut parent = StdRng::from_seed(self.seed);
        self.seed = parent.random();
        parent.random()
    }

    fn bound(
        self,
        endpoint: impl FnOnce(&LinkOptions) -> Result<Endpoint, BindError>,
        sockets: Sockets,
    ) -> Result<Bound, BindError> {
        let endpoint = endpoint(&self.link_options())?;
        Ok(Bound { setup: self, endpoint, sockets, slow_handshakes: None })
    }

    fn link_options(&self) -> LinkOptions {
        LinkOptions {
            identity: LinkIdentity::Relay(Arc::clone(&self.identity)),
            network: *self.params.id().as_bytes(),
            congestion: self.congestion,
            loopback: if self.params.allow_loopback { Loopback::Exempt } else { Loopback::Counted },
        }
    }
}

impl Bound {
    /// The address of its socket.
    ///
    /// # Errors
    /// If the system does not know it.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_address()
    }

    /// This relay as others should know it, reachable at these addresses.
    pub fn entry(&self, addresses: RelayAddresses) -> RelayEntry {
        RelayEntry {
            id: self.setup.identity.id(),
            onion_key: self.setup.onion.present(),
            addresses,
            weight: self.setup.statement.weight,
            exit: self.setup.exit.clone(),
        }
    }

    /// For simulations, where computing takes no time: the relay makes one handshake at once, and each takes this long.
    #[must_use]
    pub fn with_slow_handshakes(self, each: Duration) -> Self {
        Self { slow_handshakes: Some(each), ..self }
    }

    /// Starts to serve, reachable at these addresses. The relay gets to know the network through `bootstrap`, relays
    /// that its operator trusts to be there; it extends circuits to these and to those that it has reached itself.
    pub fn start(self, addresses: RelayAddresses, bootstrap: impl IntoIterator<Item = RelayEntry>) -> Relay {
        let Self { mut setup, endpoint, sockets, slow_handshakes } = self;
        let (dialled, arrivals) = mpsc::channel(DIALLED_QUEUE);
        let own = addresses.iter().chain(endpoint.local_address().ok()).map(|address| address.ip()).collect();
        let (view, mut expired) = setup.store.load_view(&setup.params, setup.clock.now());
        let mut rng = StdRng::from_seed(setup.seed);
        expired.shuffle(&mut rng); // whoever makes identities can choose their ids
        expired.truncate(EXPIRED_KEPT);
        let identity = setup.identity.id();
        let exit = ExitSummary::of(&setup.exit);
        let at_once = slow_handshakes.map_or_else(handshakes_at_once, |_| 1);
        let node = Arc::new(Node {
            started: Instant::now(),
            network: setup.params.id(),
            relay: identity,
            onion: setup.onion,
            directory: Directory::new(&setup.params, identity, setup.clock, bootstrap, view).with_expired(expired),
            neighbours: Neighbours::default(),
            hints: Arc::default(),
            publisher: Publisher::new(setup.identity, addresses, exit, setup.statement, setup.store.clone()),
            sockets,
            askers: Askers::new(DIRECTORY_ASKERS),
            dials_back: Askers::new(REACH_RUNNING),
            sessions: Askers::new(SESSIONS_RUNNING),
            links: Links::serving(endpoint.clone(), dialled),
            exit: Exit::new(setup.exit, setup.outside, Outlets::new(setup.outlets), own),
            post: setup.mailbox.map(Post::new),
            handshakes: Gate::new(gate_limits(at_once, at_once)),
            slow_handshakes,
            spent: Spent::default(),
            extends: Gate::new(gate_limits(EXTENDS_RUNNING, EXTENDS_RUNNING_PER_LINK)),
            shares: Shares::default(),
            memory: Memory::new(setup.memory),
            tracker: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            effort: Mutex::new(Effort::new(Instant::now().into_std())),
            rng: Mutex::new(rng),
        });
        setup.seed.zeroize();
        spawn(&node, accept_links(Arc::clone(&node), endpoint.clone()));
        spawn(&node, accept_on_dialled(Arc::clone(&node), arrivals));
        spawn(&node, watch_memory(Arc::clone(&node)));
        spawn(&node, watch_links(Arc::clone(&node)));
        spawn(&node, rotate_onion_keys(Arc::clone(&node)));
        spawn(&node, post::keep_clean(Arc::clone(&node)));
        spawn(&node, repair::run(Arc::clone(&node)));
        spawn(&node, publish::run(Arc::clone(&node)));
        spawn(&node, gossip::reconcile(Arc::clone(&node)));
        spawn(&node, gossip::push(Arc::clone(&node), Haste::Now));
        spawn(&node, gossip::push(Arc::clone(&node), Haste::Later));
        spawn(&node, verify::run(Arc::clone(&node)));
        spawn(&node, meet::run(Arc::clone(&node)));
        spawn(&node, directory::keep_time(Arc::clone(&node)));
        spawn(&node, store::keep_saved(Arc::clone(&node), setup.store.clone()));
        spawn(&node, status::serve(Arc::clone(&node), setup.store.clone()));
        Relay { node, endpoint, store: setup.store }
    }
}

impl Relay {
    /// Its name.
    pub fn id(&self) -> RelayId {
        self.node.relay
    }

    /// Circuits that go through it.
    pub fn circuits(&self) -> usize {
        self.node.memory.circuits()
    }

    /// The relays that it knows.
    pub fn directory(&self) -> &Directory {
        &self.node.directory
    }

    /// How it is.
    pub fn status(&self) -> Status {
        Status::of(&self.node)
    }

    /// Offers its metrics to whoever connects there, until it stops.
    pub fn serve_metrics(&self, listener: MetricsListener) {
        spawn(&self.node, metrics::serve(Arc::clone(&self.node), listener));
    }

    /// Tells of it by beacons on the local network and listens for those of others, until it stops.
    pub fn find_on_lan(&self, lan: Lan) {
        let node = Arc::clone(&self.node);
        let port = self.endpoint.local_address().map_or(0, |address| address.port());
        spawn(&self.node, async move {
            let telling = lan.tell(node.network, port, node.rng());
            let listening = lan.listen(&node.hints, node.directory.params());
            tokio::join!(telling, listening);
        });
    }

    /// Announces it in the DHT and finds others there, until it stops.
    pub fn find_by_dht(&self, dht: Dht) {
        spawn(&self.node, dht.serve(Arc::clone(&self.node)));
    }

    /// Where addresses are put at which other relays may be.
    pub fn hints(&self) -> &Arc<Hints> {
        &self.node.hints
    }

    /// Tells other relays that this one, which was set up to leave, leaves for good, and waits until those that it talks
    /// to know; for [`LEAVE_PATIENCE`](trefoil_protocol::limits::LEAVE_PATIENCE) at most.
    pub async fn say_farewell(&self) -> Farewell {
        leave::say(&self.node).await
    }

    /// The onion key to tell others of, as it is now.
    pub fn onion_key(&self) -> OnionKey {
        self.node.onion.present()
    }

    #[cfg(test)]
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Stops: accepts nothing more, closes the links and with them all circuits, and waits until the peers know and
    /// all tasks have ended, for at most [`SHUTDOWN_TIMEOUT`].
    pub async fn stop(self) {
        self.stop_within(SHUTDOWN_TIMEOUT).await;
    }

    pub(crate) async fn stop_within(self, time: Duration) {
        self.endpoint.close(CloseReason::Shutdown);
        self.node.shutdown.cancel();
        self.node.tracker.close();
        let stopped = async { tokio::join!(self.node.tracker.wait(), self.endpoint.wait_idle()) };
        if timeout(time, stopped).await.is_err() {
            debug!("a task has not ended, or a peer may not know that this relay stops");
        }
        store::save(&self.node, &self.store);
    }
}

fn gate_limits(running: usize, running_per_link: usize) -> GateLimits {
    GateLimits { running, running_per_link, waiting_per_link: GATE_WAITING_PER_LINK, waiting: GATE_WAITING }
}

/// Half of the cores make handshakes, so that a flood of them leaves the other half to the circuits there are.
fn handshakes_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2)
}

/// Runs this for as long as the node does.
fn spawn(node: &Arc<Node>, work: impl Future<Output = ()> + Send + 'static) {
    node.tracker.spawn(until_shutdown(Arc::clone(node), work));
}

async fn until_shutdown(node: Arc<Node>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = node.shutdown.cancelled() => {}
    }
}

async fn accept_links(node: Arc<Node>, endpoint: Endpoint) {
    while let Some(arriving) = endpoint.accept().await {
        node.tracker.spawn(accept_link(Arc::clone(&node), arriving));
    }
}

async fn accept_link(node: Arc<Node>, arriving: Arriving) {
    let finished = tokio::select! {
        finished = arriving.finish() => finished,
        () = node.shutdown.cancelled() => return,
    };
    match finished {
        Ok(link) => {
            if let Some(peer) = link.peer() {
                node.directory.note_reached(&peer, link.remote_address()); // it need not be dialled any more
                if node.directory.knows(&peer) {
                    node.trust(&link); // strangers with keys of their own would fill the table
                }
            }
            accept_streams(node, link).await;
        }
        Err(error) => debug!(%error, "a link did not come to be"),
    }
}

/// The peers of links that this relay has dialled open circuits on them too.
async fn accept_on_dialled(node: Arc<Node>, mut arrivals: mpsc::Receiver<Link>) {
    while let Some(link) = arrivals.recv().await {
        node.tracker.spawn(accept_streams(Arc::clone(&node), link));
    }
}

/// Runs until the link ends, or the node stops: then it closes the link, since one that its last holder drops closes
/// without a reason.
async fn accept_streams(node: Arc<Node>, link: Link) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = node.shutdown.cancelled() => return link.close(CloseReason::Shutdown),
            accepted = link.accept() => accepted,
        };
        match accepted {
            Ok(opened) => {
                let serve = serve(Arc::clone(&node), link.clone(), opened);
                node.tracker.spawn(serve);
            }
            Err(error) => {
                debug!(%error, "a link ended");
                return node.links.remove(&link);
            }
        }
    }
}

/// Serves what the peer has opened.
async fn serve(node: Arc<Node>, link: Link, opened: Opened) {
    let arrived = tokio::select! {
        arrived = opened.arrive() => arrived,
        () = node.shutdown.cancelled() => return,
    };
    match arrived {
        Ok(Arrival::Circuit(circuit, first)) => circuit::serve(node, link, circuit, first).await,
        Ok(Arrival::Directory(stream)) => answer::serve_link(node, link, stream).await,
        Ok(Arrival::Mailbox(stream)) => post::serve_link(node, link, stream).await,
        Err(error) => debug!(%error, "a stream did not come to be"),
    }
}

async fn watch_memory(node: Arc<Node>) {
    let mut ticks = interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        let killed = node.memory.sweep();
        if killed > 0 {
            node.directory.counters().add(Cause::CircuitMemory, killed as u64);
            warn!(circuits = killed, "circuits were closed because memory is full: raise `memory` if this goes on");
        }
    }
}

async fn watch_links(node: Arc<Node>) {
    node.links.keep_clean().await;
}

async fn rotate_onion_keys(node: Arc<Node>) {
    let mut ticks = interval(ONION_KEY_CHECK);
    loop {
        ticks.tick().await;
        match node.onion.rotate(node.directory.now(), &mut node.rng()) {
            Ok(Rotation::NewKey) => {
                info!("a new onion key; the one before is accepted for 7 days more");
                node.directory.own_changed.notify_one();
            }
            Ok(Rotation::PreviousDropped | Rotation::Unchanged) => {}
            Err(error) => warn!(%error, "the onion key is due to change, but the data directory cannot be written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use trefoil_protocol::identity::OnionSecret;

    use super::*;
    use crate::outside::Internet;

    impl Setup {
        /// A relay of a test network that exits to anywhere public and keeps nothing.
        pub(crate) fn for_tests(rng: &mut StdRng) -> Self {
            Self {
                params: NetworkParams::testnet("test".parse().unwrap()),
                identity: Arc::new(RelaySecret::generate(rng)),
                onion: OnionSecret::generate(rng).into(),
                exit: "accept *:*".parse().unwrap(),
                statement: Statement::default(),
                mailbox: None,
                outside: Arc::new(Internet::new(&[]).unwrap()),
                outlets: 4,
                memory: 1 << 30,
                congestion: Congestion::Cubic,
                clock: Clock::System,
                store: Store::default(),
                seed: [7; 32],
            }
        }

        /// Starts it on a free port of this machine.
        pub(crate) fn start_for_tests(self, bootstrap: Vec<RelayEntry>) -> (Relay, SocketAddr) {
            let bound = self.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let address = bound.local_address().unwrap();
            (bound.start(RelayAddresses::new([address]).unwrap(), bootstrap), address)
        }
    }

    #[tokio::test]
    async fn what_peers_see_and_handshakes_have_seeds_of_their_own() {
        let mut setup = Setup::for_tests(&mut StdRng::seed_from_u64(1));
        let visible = setup.split_seed();
        assert!(visible != [7; 32] && setup.seed != [7; 32] && visible != setup.seed);
    }
}
