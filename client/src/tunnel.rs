//! The way into the network: streams to targets, over circuits that this module has found for them.
//!
//! A stream that cannot be opened on one circuit is tried on another, over other relays; one that is open is never
//! moved. What went wrong is told in the words of [`OpenError`].

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::debug;
use trefoil_protocol::{
    entry::RelayEntry,
    epoch::Epoch,
    host::Host,
    identity::RelayId,
    limits::{INVITE_DOORS, OPEN_HEDGE, OPEN_TIMEOUT, OPEN_TRIES},
    message::{Reason, Target},
    params::NetworkParams,
    path::NoPath,
    relays::UsableRelay,
    resolve,
    uri::RelayUri,
};
use trefoil_relay::{
    clock::Clock,
    data_dir::DataDirError,
    dht::Dht,
    hints::{Hints, Kind},
    lan::Lan,
    pump::StreamError,
};
pub use trefoil_relay::{pump::Stream, splice::Transferred};
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use crate::circuit::Hop;
use crate::{
    circuit::Circuit,
    directory::{self, Directory},
    guards::Sockets,
    invite,
    pool::{self, NoCircuit, Pool},
    rings::Rings,
    state::State,
    status::Status,
};

/// The way into the network. A clone is the same one.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    pool: Arc<Pool>,
    directory: Arc<Directory>,
    network: String,
    rings: Rings,
}

/// What a client is made of.
pub struct Setup {
    /// Its network.
    pub params: NetworkParams,
    /// Relays to get to know the others from; nothing else goes through them for that.
    pub bootstrap: Vec<RelayEntry>,
    /// This node's own relays, if it is one, too: never used, nor is what shares a netgroup or family with them.
    pub own: Vec<UsableRelay>,
    /// What it dials from.
    pub sockets: Sockets,
    /// Where its time comes from.
    pub clock: Clock,
    /// What it keeps between runs.
    pub state: State,
    /// Hears the beacons of relays on the local network.
    pub lan: Option<Lan>,
    /// Where relays are looked for while none is known.
    pub dht: Option<Dht>,
    /// Whether a person has read that too many guards were tried, and goes on with new ones.
    pub new_guards: bool,
    /// Seeds its generators; it decides keys and paths, so it must be secret and never used twice.
    pub seed: [u8; 32],
}

/// What decides whether two streams may share a circuit: equal tokens do. It may hold a password, so it never prints,
/// and is zeroized when dropped.
#[derive(Clone, Default, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
pub struct Isolation(Vec<Vec<u8>>);

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The far end said why.
    #[error("{0}")]
    Stream(Reason),
    /// No relay's exit policy allows the target.
    #[error("no exit allows this target: {0}")]
    NoExit(String),
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

/// How one attempt on one circuit ended.
enum Attempt {
    Opened(Stream),
    /// For good: another circuit would end the same way.
    Final(Reason),
    /// This circuit, or its exit, is not the right one.
    TryElsewhere(Reason),
}

impl Isolation {
    /// The token made of these parts.
    pub fn new(parts: &[&[u8]]) -> Self {
        Self(parts.iter().map(|part| part.to_vec()).collect())
    }
}

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Isolation(..)")
    }
}

impl Client {
    /// Starts a client. Must be called within a runtime.
    ///
    /// # Errors
    /// [`DataDirError`] when what it kept cannot be read.
    pub fn start(setup: Setup) -> Result<Self, DataDirError> {
        let Setup { params, bootstrap, own, sockets, clock, state, lan, dht, new_guards, seed } = setup;
        let saved = state.load(&params, clock.now())?;
        let mut guards = saved.guards.clone();
        if new_guards {
            guards.go_on();
        }
        let pool = Pool::new(pool::Setup { params: params.clone(), own: own.clone(), sockets, clock, guards, seed });
        let network = params.name.to_string();
        let hints = Arc::<Hints>::default();
        if lan.is_some() || dht.is_some() {
            hints.search();
        }
        let about = directory::Setup { bootstrap, own, hints, ..directory::Setup::over(saved, params, clock, state) };
        let directory = Directory::start(about, Arc::clone(&pool));
        let client = Self(Arc::new(Inner { pool, directory, network, rings: Rings::default() }));
        lan.into_iter().for_each(|lan| client.find_on_lan(lan));
        dht.into_iter().for_each(|dht| client.find_by_dht(dht));
        Ok(client)
    }

    /// Opens a stream; resolves when the far end is connected, at most 30 s later.
    ///
    /// # Errors
    /// [`OpenError`], after other circuits have been tried where that could help.
    pub async fn open(&self, isolation: &Isolation, target: Target) -> Result<Stream, OpenError> {
        if self.0.pool.is_closed() {
            return Err(OpenError::Shutdown);
        }
        if is_overlay_name(&target) {
            return Err(OpenError::Stream(Reason::NameNotFound));
        }
        let opened = timeout(OPEN_TIMEOUT, self.open_somewhere(isolation, &target)).await;
        opened.unwrap_or(Err(OpenError::Timeout))
    }

    /// Resolves a name at an exit.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub async fn resolve(&self, isolation: &Isolation, host: Host) -> Result<Vec<IpAddr>, OpenError> {
        if let Host::Address(address) = host {
            return Ok(vec![address]);
        }
        let mut stream = self.open(isolation, Target::Resolve { host }).await?;
        let (mut answer, mut piece) = (Vec::new(), Vec::new());
        while stream.receive(&mut piece).await? > 0 {
            answer.extend_from_slice(&piece);
            if answer.len() > MAX_ANSWER {
                return Err(OpenError::Stream(Reason::Internal));
            }
        }
        stream.finish()?;
        resolve::decode(&answer).map_err(|_| OpenError::Stream(Reason::Internal))
    }

    /// The hops of the circuits that streams of this isolation have used lately, newest last.
    pub fn paths(&self, isolation: &Isolation) -> Vec<Vec<Hop>> {
        self.0.pool.hops(isolation)
    }

    /// Circuits that are ready for use.
    pub fn ready_circuits(&self) -> usize {
        self.0.pool.spares()
    }

    /// Ends all circuits and links, and waits until the guards know.
    pub async fn close(&self) {
        self.0.directory.save_guards();
        self.0.pool.close().await;
    }

    /// What it keeps between runs.
    pub fn state(&self) -> &State {
        self.0.directory.state()
    }

    /// Relays for an invite to name: of those that all clients know, and of these where they are too few.
    pub(crate) fn doors(&self, named: &[RelayEntry]) -> Vec<RelayUri> {
        let usable = self.0.pool.usable();
        let known = usable.iter().flat_map(|usable| usable.iter()).map(|relay| relay.entry.clone());
        invite::choose(known.collect(), named, INVITE_DOORS, &mut self.0.pool.rng())
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.0.pool
    }

    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.0.directory
    }

    pub(crate) fn rings(&self) -> &Rings {
        &self.0.rings
    }

    fn find_on_lan(&self, lan: Lan) {
        let Inner { pool, directory, .. } = &*self.0;
        let (params, hints) = (directory.network().0.clone(), Arc::clone(directory.hints()));
        let listen = async move { lan.listen(&hints, &params).await };
        pool.tracker.spawn(pool.shutdown.clone().run_until_cancelled_owned(listen));
    }

    fn find_by_dht(&self, dht: Dht) {
        let Inner { pool, directory, .. } = &*self.0;
        let (params, clock) = directory.network();
        let search = dht.search(Arc::clone(directory.hints()), params.clone(), clock, pool.rng());
        pool.tracker.spawn(pool.shutdown.clone().run_until_cancelled_owned(search));
    }

    /// Where addresses are put at which relays of its network may be.
    pub fn hints(&self) -> &Arc<Hints> {
        self.0.directory.hints()
    }

    /// How it is now, for people.
    pub fn status(&self) -> Status {
        let Inner { pool, directory, network, .. } = &*self.0;
        let usable = pool.usable();
        let (sample, in_use) = (pool.guards.sample(), pool.guards.in_use());
        let report = directory.report();
        Status {
            network: network.clone(),
            known: directory.known(),
            usable: usable.as_ref().map_or(0, |usable| usable.len()),
            sources: report.sources,
            agreeing: report.agreeing,
            unknown: report.unknown,
            epoch: directory.epoch().0,
            usable_epoch: usable.as_ref().map(|usable| usable.epoch()).map(|Epoch(number)| number),
            guards: in_use.iter().map(RelayId::short).collect(),
            guards_dialled: sample.dialled(),
            met: Kind::ALL.map(|kind| (kind.name().to_owned(), directory.hints().met(kind))).into(),
            circuits: pool.spares(),
            clock_behind_minutes: report.ahead,
            kept: !directory.state().is_none(),
            trouble: report.trouble.map(|trouble| trouble.to_string()),
        }
    }

    /// Tries one circuit after the other. One that is slow to answer is not given up, but a second is asked beside it:
    /// a dead relay is noticed late, and a person waits.
    async fn open_somewhere(&self, isolation: &Isolation, target: &Target) -> Result<Stream, OpenError> {
        let started = Instant::now();
        let mut attempts = JoinSet::new();
        let mut avoid = Vec::new();
        let mut last = OpenError::Timeout;
        for number in 0..OPEN_TRIES {
            let since = (number > 0).then_some(started);
            let finding = self.0.pool.circuit(isolation, target, &avoid, since);
            let ended = match beside(&mut attempts, finding).await {
                Ok(Ok(circuit)) => {
                    avoid.extend(circuit.hops().iter().map(|hop| hop.relay.id));
                    attempts.spawn(attempt(Arc::clone(&circuit), target.clone()));
                    self.await_end(&mut attempts, &circuit).await
                }
                Ok(Err(error)) => {
                    last = self.no_path(error);
                    break;
                }
                Err(ended) => Some(ended),
            };
            match ended {
                Some(Attempt::Opened(stream)) => return Ok(stream),
                Some(Attempt::Final(reason)) => return Err(OpenError::Stream(reason)),
                Some(Attempt::TryElsewhere(reason)) => last = OpenError::Stream(reason),
                None => {}
            }
        }
        while let Some(ended) = first_of(&mut attempts, OPEN_TIMEOUT).await {
            match ended {
                Attempt::Opened(stream) => return Ok(stream),
                Attempt::Final(reason) => return Err(OpenError::Stream(reason)),
                Attempt::TryElsewhere(reason) => debug!(%reason, "a slow circuit did not open the stream either"),
            }
        }
        Err(last)
    }

    /// The first attempt to end while it is worth waiting for: for [`OPEN_HEDGE`] on a circuit that gives signs of life,
    /// since then its target is slow; for less on one that gives none.
    async fn await_end(&self, attempts: &mut JoinSet<Attempt>, circuit: &Circuit) -> Option<Attempt> {
        let asked = Instant::now();
        circuit.ask_for_life();
        let silence = self.0.pool.usual().hedge().min(OPEN_HEDGE);
        let ended = first_of(attempts, silence).await;
        if ended.is_none() && circuit.was_heard_since(asked) {
            return first_of(attempts, OPEN_HEDGE - silence).await;
        }
        ended
    }

    fn no_path(&self, error: NoCircuit) -> OpenError {
        match error {
            _ if self.0.pool.is_closed() => OpenError::Shutdown,
            NoCircuit::Path(reason @ NoPath::NoExit { .. }) => OpenError::NoExit(reason.to_string()),
            error => OpenError::NoPath(error.to_string()),
        }
    }
}

/// Whether the target's name belongs to an overlay network: no DNS server should ever be asked for it (RFC 7686).
fn is_overlay_name(target: &Target) -> bool {
    let (Target::Exit { host: Host::Name(name), .. } | Target::Resolve { host: Host::Name(name) }) = target else {
        return false;
    };
    [".onion", ".trefoil", ".i2p"].iter().any(|ending| name.as_str().ends_with(ending))
}

/// Opens a stream on this circuit and waits for its far end.
async fn attempt(circuit: Arc<Circuit>, target: Target) -> Attempt {
    let opened = match circuit.open(target) {
        Ok(mut stream) => stream.opened().await.map(|()| stream),
        Err(error) => Err(error),
    };
    match opened {
        Ok(stream) => Attempt::Opened(stream),
        Err(StreamError::Closed(reason)) if circuit.is_alive() && is_final(reason) => Attempt::Final(reason),
        Err(StreamError::Closed(reason)) => Attempt::TryElsewhere(reason),
        Err(StreamError::TooMany(_)) => Attempt::TryElsewhere(Reason::Limit),
        Err(StreamError::Local(_)) => Attempt::TryElsewhere(Reason::Internal),
    }
}

/// Whether another exit would meet the same.
fn is_final(reason: Reason) -> bool {
    match reason {
        Reason::Done
        | Reason::Refused
        | Reason::Unreachable
        | Reason::Timeout
        | Reason::NameNotFound
        | Reason::Reset
        | Reason::Ended => true,
        Reason::Policy | Reason::Limit | Reason::NotOffered | Reason::Shutdown | Reason::Internal => false,
    }
}

/// What `finding` gives, unless an attempt opens its stream or fails for good before.
async fn beside<T>(attempts: &mut JoinSet<Attempt>, finding: impl Future<Output = T>) -> Result<T, Attempt> {
    tokio::pin!(finding);
    loop {
        tokio::select! {
            biased; // both work: so that a simulation repeats itself
            Some(ended) = attempts.join_next() => match ended {
                Ok(ended @ (Attempt::Opened(_) | Attempt::Final(_))) => return Err(ended),
                Ok(Attempt::TryElsewhere(reason)) => debug!(%reason, "a slow circuit did not open the stream either"),
                Err(_) => {}
            },
            found = &mut finding => return Ok(found),
        }
    }
}

/// The first attempt to end within `patience`; at once `None` when there is none.
async fn first_of(attempts: &mut JoinSet<Attempt>, patience: Duration) -> Option<Attempt> {
    let ended = timeout(patience, attempts.join_next()).await.ok()??;
    Some(ended.unwrap_or(Attempt::TryElsewhere(Reason::Internal))) // a panic of ours is no reason to give up
}

impl From<StreamError> for OpenError {
    fn from(error: StreamError) -> Self {
        Self::Stream(match error {
            StreamError::Closed(reason) => reason,
            StreamError::TooMany(_) => Reason::Limit,
            StreamError::Local(_) => Reason::Internal,
        })
    }
}

/// Most bytes of an answer to a name resolution.
const MAX_ANSWER: usize = 17 * trefoil_protocol::limits::MAX_RESOLVED;
