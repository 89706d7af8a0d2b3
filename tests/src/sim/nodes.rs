//! A whole simulated network: relays, clients and the outside, all of it the production code in one thread.
//!
//! Under tokio's paused time and on one thread only. Relay N is at 10.N.0.1:9001, each in a netgroup of its own; each
//! client is at 192.168.N.1, with a port per guard. A task that panics makes the test fail when the network is dropped.

use std::{
    cell::Cell,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic,
    path::{Path, PathBuf},
    sync::{
        Arc, Once,
        atomic::{AtomicU8, AtomicU16, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};
use trefoil_client::{
    guards::Sockets,
    state::State,
    tunnel::{self as client, Client},
    up,
};
use trefoil_protocol::{
    entry::{RelayAddresses, RelayEntry},
    epoch::UnixSeconds,
    identity::{OnionSecret, RelaySecret},
    limits::ONION_KEY_LIFETIME,
    params::NetworkParams,
};
use trefoil_relay::{
    clock::Clock,
    endpoint::{Congestion, Endpoint, LinkIdentity, LinkOptions},
    mailbox::{MAILBOX_FILE, Mailbox, Terms},
    onion_keys::OnionKeys,
    relay::{Bound, Relay, Setup, Statement},
    sources::Loopback,
    store::Store,
};

use super::{
    outside::SimOutside,
    udp::{LinkModel, SimNet},
};

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides all that is drawn.
    pub seed: u64,
    /// How many relays; at most 200.
    pub relays: u8,
    /// How packets fare between any two addresses.
    pub model: LinkModel,
    /// The exit policy of the relays that are exits.
    pub exit: &'static str,
    /// The first relay that is an exit, from 1; those before it are not.
    pub first_exit: u8,
    /// Memory for the circuits of one relay, in bytes.
    pub memory: u64,
    /// How long each handshake takes a relay, one at a time; zero if it shall take as long as the computing does.
    pub handshake: Duration,
    /// How many of the last relays are not started: the others know them, and a test plays them.
    pub by_hand: u8,
    /// Through how many of the first relays each gets to know the network.
    pub bootstrap: u8,
    /// How many of the last relays are not started, and not known to anyone, until [`SimNetwork::start_again`].
    pub late: u8,
    /// A relay whose clock is ahead, and by how many seconds.
    pub ahead: Option<(u8, u64)>,
    /// A relay whose onion key is replaced, and how many seconds after the network's start.
    pub rotates: Option<(u8, u64)>,
    /// Whether its relays keep letters.
    pub mailboxes: bool,
    /// Its network's parameters.
    pub params: NetworkParams,
}

/// A running network.
pub struct SimNetwork {
    /// What carries its packets.
    pub net: SimNet,
    /// Where its exits connect to.
    pub outside: SimOutside,
    plan: Plan,
    params: NetworkParams,
    started: Instant,
    relays: Vec<Option<Relay>>,
    entries: Vec<RelayEntry>,
    clients: AtomicU8,
    statements: BTreeMap<u8, Statement>,
    stores: BTreeMap<u8, Store>,
    mailboxes: BTreeMap<u8, PathBuf>,
}

/// What the clocks of nodes show when their network starts, unless a test sets them otherwise.
pub const START: UnixSeconds = UnixSeconds(1_800_000_000);

/// Room for the letters of one relay.
const MAILBOX: u64 = 64 << 20;

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

impl Plan {
    /// This many relays, all exits to anywhere public, with room for everything.
    pub fn new(seed: u64, relays: u8, model: LinkModel) -> Self {
        Self {
            seed,
            relays,
            model,
            exit: "accept *:*",
            first_exit: 1,
            memory: 256 << 20,
            handshake: Duration::ZERO,
            by_hand: 0,
            bootstrap: relays,
            late: 0,
            ahead: None,
            rotates: None,
            mailboxes: false,
            params: NetworkParams::testnet("simulated".parse().expect("a good name")),
        }
    }

    /// With this many relays that come late.
    pub fn late(self, late: u8) -> Self {
        Self { late, ..self }
    }

    /// Starts the network.
    pub fn start(self) -> SimNetwork {
        count_panics();
        let mut network = SimNetwork {
            net: SimNet::new(self.seed, self.model),
            outside: SimOutside::default(),
            params: self.params.clone(),
            started: Instant::now(),
            relays: Vec::new(),
            entries: Vec::new(),
            clients: AtomicU8::new(1),
            statements: BTreeMap::new(),
            stores: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            plan: self,
        };
        let plan = network.plan.clone();
        let bound: Vec<_> =
            (1..=plan.relays).map(|number| network.bind(number, relay_address(number), plan.seed)).collect();
        let addresses = |number| RelayAddresses::new([relay_address(number)]).expect("one good address");
        network.entries = (1..).zip(&bound).map(|(number, bound)| bound.entry(addresses(number))).collect();
        let started = usize::from(plan.relays - plan.by_hand - plan.late);
        let named = &network.entries[..usize::from(plan.bootstrap.min(plan.relays - plan.late))];
        let start = |(bound, entry): (Bound, &RelayEntry)| Some(bound.start(entry.addresses, named.iter().cloned()));
        network.relays = bound.into_iter().zip(&network.entries).take(started).map(start).collect();
        network
    }

    fn ahead(&self, number: u8) -> u64 {
        self.ahead.filter(|(relay, _)| *relay == number).map_or(0, |(_, seconds)| seconds)
    }

    fn onion_keys(&self, number: u8, secret: OnionSecret) -> OnionKeys {
        match self.rotates {
            Some((relay, after)) if relay == number => {
                OnionKeys::made_at(secret, UnixSeconds(START.0 + after - ONION_KEY_LIFETIME.as_secs()))
            }
            _ => secret.into(),
        }
    }
}

impl SimNetwork {
    /// Its parameters.
    pub fn params(&self) -> &NetworkParams {
        &self.params
    }

    /// Its relays, as clients know them; relay N is at N - 1.
    pub fn entries(&self) -> &[RelayEntry] {
        &self.entries
    }

    /// A relay that was not stopped, by its number.
    pub fn relay(&self, number: u8) -> &Relay {
        self.relays[usize::from(number) - 1].as_ref().expect("the test did not stop it")
    }

    fn bind(&self, number: u8, address: SocketAddr, seed: u64) -> Bound {
        let sockets = sockets(&self.net, &self.params, address.ip());
        let bound = self.setup(number, seed).over(self.net.socket(address), sockets);
        let bound = bound.expect("a simulated socket has an address");
        let handshake = self.plan.handshake;
        if handshake.is_zero() { bound } else { bound.with_slow_handshakes(handshake) }
    }

    fn setup(&self, number: u8, run: u64) -> Setup {
        let (identity, onion) = secrets(number);
        let exit = if number >= self.plan.first_exit { self.plan.exit } else { "" };
        Setup {
            params: self.params.clone(),
            identity: Arc::new(identity),
            onion: self.plan.onion_keys(number, onion),
            exit: exit.parse().expect("the test's policy is one"),
            statement: self.statements.get(&number).cloned().unwrap_or_default(),
            outside: Arc::new(self.outside.clone()),
            mailbox: self.plan.mailboxes.then(|| self.mailbox(number)),
            outlets: usize::MAX,
            memory: self.plan.memory,
            congestion: Congestion::default(),
            clock: Clock::Simulated { at: self.started, unix: START.plus(self.plan.ahead(number)) },
            store: self.stores.get(&number).cloned().unwrap_or_default(),
            seed: seed(run, number),
        }
    }

    fn mailbox(&self, number: u8) -> Mailbox {
        let terms = Terms { network: self.params.id(), identity: secrets(number).0, size: MAILBOX, rebate: 0 };
        let opened = match self.mailboxes.get(&number) {
            Some(directory) => Mailbox::open(&directory.join(MAILBOX_FILE), terms),
            None => Mailbox::in_memory(terms),
        };
        opened.expect("a test's mailbox can be opened")
    }

    fn named(&self, numbers: &[u8]) -> Vec<RelayEntry> {
        numbers.iter().map(|number| self.entries[usize::from(*number) - 1].clone()).collect()
    }

    /// Starts a second relay with the keys of this one, at another address, in the same network.
    pub fn start_thief(&self, number: u8, address: SocketAddr, bootstrap: &[u8]) -> Relay {
        let addresses = RelayAddresses::new([address]).expect("one good address");
        self.bind(number, address, self.plan.seed + 1).start(addresses, self.named(bootstrap))
    }

    /// Starts a relay that comes late, or one that was stopped, which gets to know the network through these.
    pub fn start_again(&mut self, number: u8, bootstrap: &[u8]) {
        let bound = self.bind(number, relay_address(number), self.plan.seed + 1);
        let addresses = self.entries[usize::from(number) - 1].addresses;
        let relay = bound.start(addresses, self.named(bootstrap));
        let at = usize::from(number) - 1;
        self.relays.resize_with(self.relays.len().max(at + 1), || None);
        self.relays[at] = Some(relay);
    }

    /// Sets what a relay says of itself from its next start on.
    pub fn state(&mut self, number: u8, statement: Statement) {
        self.statements.insert(number, statement);
    }

    /// Has a relay keep what it knows in this directory, from its next start on.
    pub fn keep(&mut self, number: u8, directory: &Path) {
        self.stores.insert(number, Store::new(directory));
    }

    /// Has a relay keep its letters in this directory, from its next start on.
    pub fn keep_letters(&mut self, number: u8, directory: &Path) {
        self.mailboxes.insert(number, directory.to_owned());
    }

    /// Stops a relay in order.
    pub async fn stop(&mut self, number: u8) {
        let relay = self.relays[usize::from(number) - 1].take();
        relay.expect("the test stops it once").stop().await;
    }

    /// A new client, which may ask any relay about the others, once it knows all of them.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn client(&self) -> Client {
        let client = self.client_of(self.entries.clone());
        let all = usize::from(self.plan.relays - self.plan.late);
        let knows_all = async {
            while client.status().usable < all {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let waited = timeout(Duration::from_secs(120), knows_all).await;
        waited.unwrap_or_else(|_| panic!("the client does not know all relays: {}", client.status()));
        client
    }

    /// A new client that gets to know the network through these relays.
    pub fn client_of(&self, bootstrap: Vec<RelayEntry>) -> Client {
        self.client_with(bootstrap, State::none(), START)
    }

    /// A new client with these bootstrap relays, what it keeps, and what its clock showed when the network started.
    pub fn client_with(&self, bootstrap: Vec<RelayEntry>, state: State, start: UnixSeconds) -> Client {
        self.start_client(client::Setup {
            clock: Clock::Simulated { at: self.started, unix: start },
            ..self.client_setup(bootstrap, state)
        })
    }

    /// A new client that is one node with this relay: at the same address, from ports of its own, from this one on.
    pub fn client_beside(&self, number: u8, first_port: u16, bootstrap: Vec<RelayEntry>, state: State) -> Client {
        let relay = &self.entries[usize::from(number) - 1];
        let family = self.statements.get(&number).and_then(|statement| statement.family);
        self.start_client(client::Setup {
            own: vec![up::own(relay.clone(), family.map(|family| family.id))],
            sockets: sockets_from(&self.net, &self.params, relay_address(number).ip(), first_port),
            ..self.client_setup(bootstrap, state)
        })
    }

    fn client_setup(&self, bootstrap: Vec<RelayEntry>, state: State) -> client::Setup {
        let number = self.clients.fetch_add(1, Relaxed);
        client::Setup {
            params: self.params.clone(),
            bootstrap,
            own: Vec::new(),
            sockets: self.sockets(number),
            clock: Clock::Simulated { at: self.started, unix: START },
            state,
            lan: None,
            dht: None,
            new_guards: false,
            seed: seed(self.plan.seed, 255 - number),
        }
    }

    fn start_client(&self, setup: client::Setup) -> Client {
        Client::start(setup).expect("what it keeps can be read")
    }

    /// An endpoint with this identity at this address, for nodes that tests make by hand.
    pub fn endpoint(&self, address: SocketAddr, identity: LinkIdentity) -> Endpoint {
        endpoint(&self.net, &self.params, address, identity)
    }

    fn sockets(&self, client: u8) -> Sockets {
        sockets(&self.net, &self.params, [192, 168, client, 1].into())
    }
}

/// Makes sockets at this address, each at a port of its own.
pub fn sockets(net: &SimNet, params: &NetworkParams, address: IpAddr) -> Sockets {
    sockets_from(net, params, address, 10_000)
}

fn sockets_from(net: &SimNet, params: &NetworkParams, address: IpAddr, first: u16) -> Sockets {
    let (net, params) = (net.clone(), params.clone());
    let port = AtomicU16::new(first);
    Arc::new(move |_| {
        let address = SocketAddr::new(address, port.fetch_add(1, Relaxed));
        Ok(endpoint(&net, &params, address, LinkIdentity::Anonymous))
    })
}

/// The address of the relay of this number.
pub fn relay_address(number: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, number, 0, 1), 9001))
}

/// The keys of the relay of this number.
pub fn secrets(number: u8) -> (RelaySecret, OnionSecret) {
    let mut rng = StdRng::seed_from_u64(u64::from(number));
    (RelaySecret::generate(&mut rng), OnionSecret::generate(&mut rng))
}

fn endpoint(net: &SimNet, params: &NetworkParams, address: SocketAddr, identity: LinkIdentity) -> Endpoint {
    let network = *params.id().as_bytes();
    let options = LinkOptions { identity, network, congestion: Congestion::default(), loopback: Loopback::Exempt };
    let [low, high] = address.port().to_le_bytes();
    Endpoint::over(net.socket(address), &options, Some([low ^ high; 32])).expect("a simulated socket has an address")
}

fn seed(seed: u64, node: u8) -> [u8; 32] {
    let mut bytes = [node; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

/// Counts the panics of each thread, besides printing them: tokio keeps those of tasks to itself.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            print(info);
        }));
    });
}

impl Drop for SimNetwork {
    fn drop(&mut self) {
        assert!(thread::panicking() || PANICS.get() == 0, "a task of a node panicked: see above");
    }
}
