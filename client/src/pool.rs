//! The circuits of a client: built ahead of need, kept apart by isolation, and let go when they are old or dead.
//!
//! Specification: docs/protocol.md, "Circuits" and "Paths". A circuit serves one isolation token only, and new streams
//! for ten minutes only. Which relays it goes through is drawn anew for each; relays that just failed are left out for
//! a short while, never preferred or remembered for longer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;
use trefoil_protocol::{
    entry::RelayEntry,
    identity::RelayId,
    limits::{
        BUILD_HEDGE, CIRCUIT_BUILD_TRIES, HOP_BUILD_TIMEOUT, MAX_ISOLATIONS, PATH_HOPS, RELAY_FAILURE_MEMORY,
        SPARE_CIRCUITS,
    },
    message::Target,
    params::NetworkParams,
    path::{self, Need, NoPath, PathRules},
    relays::UsableRelays,
};

use crate::{
    build::{self, BuildError, Cause},
    circuit::{Circuit, Hop},
    guards::{Guards, Sockets},
    tunnel::Isolation,
};

/// The port that spare circuits must be able to exit to, until a stream says what is really wanted.
const USUAL_PORT: u16 = 443;
/// Between two looks at which circuits are spent and how many spares there are.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// Between two failed attempts to build a spare: doubles from the first to the second.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// Why there is no circuit, in words for a person.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCircuit {
    #[error("{0}")]
    Path(#[from] NoPath),
    #[error("{tries} circuits could not be built; the last failed because {}", reason(.last))]
    Build { tries: usize, last: Box<BuildError> },
    #[error("{MAX_ISOLATIONS} isolation tokens have streams, and no more are kept apart")]
    Isolations,
    #[error("{tries} circuits are not built yet; the network is too slow, or gone")]
    Slow { tries: usize },
}

/// See the file's head.
pub(crate) struct Pool {
    params: NetworkParams,
    relays: UsableRelays,
    guards: Guards,
    state: Mutex<State>,
    spare_wanted: Notify,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

struct State {
    rng: StdRng,
    spares: Vec<Arc<Circuit>>,
    /// What spares should be able to exit to: the port that was asked for last.
    port: u16,
    used: HashMap<Isolation, Arc<Slot>>,
    failed: HashMap<RelayId, Instant>,
}

type Built = Result<Arc<Circuit>, BuildError>;

/// The circuits of one isolation token.
#[derive(Default)]
struct Slot {
    circuits: Mutex<Vec<Arc<Circuit>>>,
    /// Held while one is found or built, so that streams that come together share it.
    finding: AsyncMutex<()>,
}

impl Pool {
    pub(crate) fn new(params: NetworkParams, relays: Vec<RelayEntry>, sockets: Sockets, seed: [u8; 32]) -> Arc<Self> {
        let state = State {
            rng: StdRng::from_seed(seed),
            spares: Vec::new(),
            port: USUAL_PORT,
            used: HashMap::new(),
            failed: HashMap::new(),
        };
        let pool = Arc::new(Self {
            params,
            relays: UsableRelays::fixed(relays),
            guards: Guards::new(sockets),
            state: Mutex::new(state),
            spare_wanted: Notify::new(),
            tracker: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        });
        pool.tracker.spawn(Arc::clone(&pool).keep());
        pool
    }

    /// A circuit for a stream of this isolation to this target, through none of the relays in `avoid`.
    pub(crate) async fn circuit(
        self: &Arc<Self>,
        isolation: &Isolation,
        target: &Target,
        avoid: &[RelayId],
    ) -> Result<Arc<Circuit>, NoCircuit> {
        let slot = self.slot(isolation)?;
        let _finding = slot.finding.lock().await;
        if let Some(circuit) = slot.find(target, avoid) {
            return Ok(circuit);
        }
        let circuit = match self.take_spare(target, avoid) {
            Some(spare) => spare,
            None => self.build(Need::Target(target), avoid).await?,
        };
        slot.lock().push(Arc::clone(&circuit));
        Ok(circuit)
    }

    /// The circuits of this isolation. When there are too many tokens, those without streams give way.
    fn slot(&self, isolation: &Isolation) -> Result<Arc<Slot>, NoCircuit> {
        let used = &mut self.lock().used;
        if used.len() >= MAX_ISOLATIONS && !used.contains_key(isolation) {
            used.retain(|_, slot| slot.is_busy());
            if used.len() >= MAX_ISOLATIONS {
                return Err(NoCircuit::Isolations);
            }
        }
        Ok(Arc::clone(used.entry(isolation.clone()).or_default()))
    }

    /// The hops of the circuits that this isolation has, newest last.
    pub(crate) fn hops(&self, isolation: &Isolation) -> Vec<Vec<Hop>> {
        let slot = self.lock().used.get(isolation).cloned();
        slot.map_or_else(Vec::new, |slot| slot.lock().iter().map(|circuit| circuit.hops().to_vec()).collect())
    }

    /// Circuits that are ready and not in use.
    pub(crate) fn spares(&self) -> usize {
        self.lock().spares.iter().filter(|circuit| circuit.is_alive()).count()
    }

    /// Ends all circuits and links.
    pub(crate) async fn close(&self) {
        self.shutdown.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        self.guards.close().await;
    }

    /// Whether [`Pool::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    fn take_spare(&self, target: &Target, avoid: &[RelayId]) -> Option<Arc<Circuit>> {
        let mut state = self.lock();
        if let Target::Exit { port, .. } = target {
            state.port = *port;
        }
        let at = state.spares.iter().position(|spare| spare.may_take(target) && !spare.has_any(avoid))?;
        self.spare_wanted.notify_one();
        Some(state.spares.swap_remove(at))
    }

    /// Builds a circuit. One that fails is tried again over other relays; one that is slow gets company.
    async fn build(self: &Arc<Self>, need: Need<'_>, avoid: &[RelayId]) -> Result<Arc<Circuit>, NoCircuit> {
        let mut building = JoinSet::new();
        let mut avoid = avoid.to_vec();
        let mut tries = 0;
        let mut last = None;
        while tries < CIRCUIT_BUILD_TRIES && !self.is_closed() {
            match self.draw(need, &avoid) {
                Ok(path) => {
                    avoid.extend(path.iter().map(|relay| relay.id));
                    building.spawn(Arc::clone(self).build_along(path));
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
            match first_of(&mut building, BUILD_HEDGE).await {
                Some(Ok(circuit)) => return Ok(circuit),
                Some(Err(error)) => last = Some(self.failed(error)),
                None => {}
            }
        }
        while let Some(ended) = first_of(&mut building, HOP_BUILD_TIMEOUT).await {
            match ended {
                Ok(circuit) => return Ok(circuit),
                Err(error) => last = Some(self.failed(error)),
            }
        }
        Err(last.map_or(NoCircuit::Slow { tries }, |last| NoCircuit::Build { tries, last: Box::new(last) }))
    }

    /// Takes note of the relay that failed, and of the one that says so: either may be the one that does harm.
    fn failed(&self, error: BuildError) -> BuildError {
        debug!(%error, "a circuit was not built");
        let now = Instant::now();
        self.lock().failed.extend([Some(error.relay), error.witness].into_iter().flatten().map(|relay| (relay, now)));
        error
    }

    /// Draws a path around the relays to avoid and those that failed lately; if none is left, around the former only.
    fn draw(&self, need: Need<'_>, avoid: &[RelayId]) -> Result<Vec<RelayEntry>, NoPath> {
        let mut state = self.lock();
        state.failed.retain(|_, failed| failed.elapsed() < RELAY_FAILURE_MEMORY);
        let all: Vec<_> = avoid.iter().chain(state.failed.keys()).copied().collect();
        let mut choose = |exclude: &[RelayId]| {
            let allow_same_netgroup = self.params.allow_same_netgroup;
            let rules = PathRules { hops: PATH_HOPS, allow_same_netgroup, guard: None, need, exclude, own: &[] };
            let path = path::choose(&self.relays, &rules, &mut state.rng)?;
            Ok(path.into_iter().cloned().collect())
        };
        choose(&all).or_else(|_: NoPath| choose(avoid)).or_else(|_| choose(&[]))
    }

    async fn build_along(self: Arc<Self>, path: Vec<RelayEntry>) -> Result<Arc<Circuit>, BuildError> {
        let rng = StdRng::from_rng(&mut self.lock().rng);
        let parts = build::build(self.params.id(), &self.guards, &path, rng).await?;
        Ok(Circuit::start(parts, &self.tracker, &self.shutdown))
    }

    /// Keeps the spares up and lets go of what is spent, until the end.
    async fn keep(self: Arc<Self>) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep_spares() => {}
            () = self.keep_clean() => {}
        }
        let mut state = self.lock();
        state.spares.clear();
        state.used.clear();
    }

    async fn keep_spares(self: &Arc<Self>) {
        let mut pause = RETRY_FIRST;
        loop {
            if self.spares() >= SPARE_CIRCUITS {
                let _ = timeout(KEEP_EVERY, self.spare_wanted.notified()).await;
                continue;
            }
            let port = self.lock().port;
            match self.build(Need::Port(port), &[]).await {
                Ok(circuit) => {
                    self.lock().spares.push(circuit);
                    pause = RETRY_FIRST;
                }
                Err(error) => {
                    debug!(%error, "no spare circuit");
                    let _ = timeout(pause, self.spare_wanted.notified()).await;
                    pause = (pause * 2).min(RETRY_LAST);
                }
            }
        }
    }

    async fn keep_clean(&self) {
        let mut ticks = tokio::time::interval(KEEP_EVERY);
        loop {
            ticks.tick().await;
            self.guards.let_go_of_idle();
            let mut state = self.lock();
            state.spares.retain(|spare| !spare.is_spent());
            state.used.retain(|_, slot| {
                slot.lock().retain(|circuit| !circuit.is_spent());
                !slot.lock().is_empty() || Arc::strong_count(slot) > 1
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Whether somebody uses it, or is about to.
    fn is_busy(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || self.lock().iter().any(|circuit| circuit.has_streams())
    }

    fn find(&self, target: &Target, avoid: &[RelayId]) -> Option<Arc<Circuit>> {
        let circuits = self.lock();
        circuits.iter().rev().find(|circuit| circuit.may_take(target) && !circuit.has_any(avoid)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Circuit>>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first build to end within `patience`; at once `None` when there is none.
async fn first_of(building: &mut JoinSet<Built>, patience: Duration) -> Option<Built> {
    match timeout(patience, building.join_next()).await {
        Ok(Some(Ok(built))) => Some(built),
        Ok(Some(Err(_))) | Ok(None) | Err(_) => None,
    }
}

/// A build error without the relay's name: these words reach logs and other programs.
fn reason(error: &BuildError) -> &Cause {
    &error.cause
}
