//! A whole network in this process: relays on loopback, for trying out and for tests.
//!
//! On Linux each relay has an address 127.N.0.1 of its own, so that the netgroup rules are the real ones; elsewhere all
//! are on 127.0.0.1 and the network's parameters allow that. Keys are made anew each time and never saved.

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::time::{interval, timeout};
use trefoil_protocol::{
    entry::{AddressError, RelayAddresses, RelayEntry},
    identity::{OnionSecret, RelayId, RelaySecret},
    params::NetworkParams,
    policy::ExitPolicy,
};
use trefoil_relay::{
    clock::Clock,
    endpoint::Congestion,
    mailbox::{Mailbox, MailboxOpenError, Terms},
    network::NetworkFile,
    open_files,
    outside::Internet,
    relay::{Bound, Relay, Setup, Statement},
    seed::seed,
    socket::BindError,
    store::Store,
};

/// Most relays of such a network: they share one machine, and on Linux one byte tells them apart.
pub const MAX_RELAYS: usize = 200;
/// Relays that the others, and clients, get to know the network from.
const BOOTSTRAP: usize = 2;
/// For all relays to find each other.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Memory for the circuits of one relay.
const MEMORY: u64 = 256 << 20;
/// Room for the letters of one relay, in memory.
const MAILBOX: u64 = 64 << 20;
/// What its relays connect to: this machine, and nothing else.
const EXIT_POLICY: &str = "accept 127.0.0.0/8:*; accept [::1]:*";

/// A running network. Call [`Testnet::stop`] to end it.
pub struct Testnet {
    relays: Vec<Relay>,
    file: NetworkFile,
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum TestnetError {
    /// Not a number of relays that works.
    #[error(
        "a test network has 3 to {MAX_RELAYS} relays: a circuit needs 3, and one byte of an address tells them apart"
    )]
    Size,
    /// A relay has no socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A relay's socket has no address.
    #[error("a relay's socket has no usable address")]
    Address(#[from] AddressError),
    /// A relay has no mailboxes.
    #[error(transparent)]
    Mailbox(#[from] MailboxOpenError),
    /// They did not find each other.
    #[error("the relays did not find each other within {PATIENCE:?}: is UDP on loopback blocked, or the machine busy?")]
    Apart,
    /// The system failed.
    #[error("a relay could not be set up")]
    System(#[from] io::Error),
}

impl Testnet {
    /// Starts this many relays, which know only the first two of them, and waits until all have found each other.
    ///
    /// # Errors
    /// [`TestnetError`].
    pub async fn start(count: usize) -> Result<Self, TestnetError> {
        if !(3..=MAX_RELAYS).contains(&count) {
            return Err(TestnetError::Size);
        }
        let mut params = NetworkParams::testnet("testnet".parse().expect("a good name"));
        params.allow_same_netgroup = !cfg!(target_os = "linux");
        let outside = Arc::new(Internet::new(&[]).map_err(io::Error::other)?);
        let outlets = open_files::outlets(count); // all are exits, and share this process's
        let bound = (1..=count)
            .map(|number| bind(&params, number, Arc::clone(&outside), outlets))
            .collect::<Result<Vec<_>, TestnetError>>()?;
        let entries = bound.iter().map(entry).collect::<Result<Vec<_>, TestnetError>>()?;
        let bootstrap = &entries[..BOOTSTRAP];
        let start = |(bound, entry): (Bound, &RelayEntry)| bound.start(entry.addresses, bootstrap.iter().cloned());
        let relays: Vec<_> = bound.into_iter().zip(&entries).map(start).collect();
        let testnet = Self { relays, file: NetworkFile { params, relays: bootstrap.to_vec() } };
        match timeout(PATIENCE, testnet.found_each_other()).await {
            Ok(()) => Ok(testnet),
            Err(_) => {
                testnet.stop().await;
                Err(TestnetError::Apart)
            }
        }
    }

    /// Waits until every relay has all of them in its usable set.
    async fn found_each_other(&self) {
        let mut ticks = interval(LOOK_EVERY);
        let all = self.relays.len();
        while self.relays.iter().any(|relay| relay.directory().usable().len() < all) {
            ticks.tick().await;
        }
    }

    /// Its parameters and bootstrap relays.
    pub fn file(&self) -> &NetworkFile {
        &self.file
    }

    /// One of its relays, if it runs.
    pub fn relay(&self, id: &RelayId) -> Option<&Relay> {
        self.relays.iter().find(|relay| relay.id() == *id)
    }

    /// Stops these relays for good, with all that they keep.
    pub async fn kill(&mut self, ids: &[RelayId]) {
        let (gone, left) = mem::take(&mut self.relays).into_iter().partition(|relay| ids.contains(&relay.id()));
        self.relays = left;
        stop_all(gone).await;
    }

    /// Stops all relays.
    pub async fn stop(self) {
        stop_all(self.relays).await;
    }
}

async fn stop_all(relays: Vec<Relay>) {
    let mut stopping = tokio::task::JoinSet::new();
    relays.into_iter().for_each(|relay| {
        stopping.spawn(relay.stop());
    });
    stopping.join_all().await;
}

fn bind(params: &NetworkParams, number: usize, outside: Arc<Internet>, outlets: usize) -> Result<Bound, TestnetError> {
    let mut rng = StdRng::from_seed(seed());
    let identity = RelaySecret::generate(&mut rng);
    let terms = Terms {
        network: params.id(),
        identity: RelaySecret::from_bytes(&identity.to_bytes()),
        size: MAILBOX,
        rebate: 0,
    };
    let setup = Setup {
        params: params.clone(),
        identity: Arc::new(identity),
        onion: OnionSecret::generate(&mut rng).into(),
        exit: EXIT_POLICY.parse::<ExitPolicy>().expect("a good policy"),
        statement: Statement::default(),
        mailbox: Some(Mailbox::in_memory(terms)?),
        outside,
        outlets,
        memory: MEMORY,
        congestion: Congestion::default(),
        clock: Clock::System,
        store: Store::default(),
        seed: seed(),
    };
    Ok(setup.bind(SocketAddr::new(address(number), 0))?)
}

fn address(number: usize) -> IpAddr {
    let number = if cfg!(target_os = "linux") { u8::try_from(number).expect("at most MAX_RELAYS") } else { 0 };
    Ipv4Addr::new(127, number, 0, 1).into()
}

fn entry(bound: &Bound) -> Result<RelayEntry, TestnetError> {
    let address = bound.local_address()?;
    Ok(bound.entry(RelayAddresses::new([address])?))
}
