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
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;
use trefoil_protocol::{
    entry::RelayEntry,
    identity::RelayId,
    limits::{CIRCUIT_BUILD_TIMEOUT, CIRCUIT_BUILD_TRIES, PATH_HOPS, RELAY_FAILURE_MEMORY, SPARE_CIRCUITS},
    message::Target,
    params::NetworkParams,
    path::{self, Need, NoPath, PathRules},
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
    #[error("{tries} circuits in a row could not be built; the last failed because {}", reason(.last))]
    Build { tries: usize, last: BuildError },
}

/// See the file's head.
pub(crate) struct Pool {
    params: NetworkParams,
    relays: Vec<RelayEntry>,
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
            relays,
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
        &self,
        isolation: &Isolation,
        target: &Target,
        avoid: &[RelayId],
    ) -> Result<Arc<Circuit>, NoCircuit> {
        let slot = Arc::clone(self.lock().used.entry(isolation.clone()).or_default());
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

    /// Builds a circuit; one that fails is tried again over other relays.
    async fn build(&self, need: Need<'_>, avoid: &[RelayId]) -> Result<Arc<Circuit>, NoCircuit> {
        let mut tries = 0;
        loop {
            tries += 1;
            let path = self.draw(need, avoid)?;
            let last = match self.build_along(&path).await {
                Ok(circuit) => return Ok(circuit),
                Err(error) => error,
            };
            debug!(%last, "a circuit was not built");
            self.lock().failed.insert(last.relay, Instant::now());
            if tries == CIRCUIT_BUILD_TRIES || self.is_closed() {
                return Err(NoCircuit::Build { tries, last });
            }
        }
    }

    /// Draws a path around the relays to avoid and those that failed lately; if none is left, around the former only.
    fn draw(&self, need: Need<'_>, avoid: &[RelayId]) -> Result<Vec<RelayEntry>, NoPath> {
        let mut state = self.lock();
        state.failed.retain(|_, failed| failed.elapsed() < RELAY_FAILURE_MEMORY);
        let all: Vec<_> = avoid.iter().chain(state.failed.keys()).copied().collect();
        let mut choose = |exclude: &[RelayId]| {
            let allow_same_netgroup = self.params.allow_same_netgroup;
            let rules = PathRules { hops: PATH_HOPS, allow_same_netgroup, need, exclude };
            let path = path::choose(&self.relays, &rules, &mut state.rng)?;
            Ok(path.into_iter().cloned().collect())
        };
        choose(&all).or_else(|_: NoPath| choose(avoid)).or_else(|_| choose(&[]))
    }

    async fn build_along(&self, path: &[RelayEntry]) -> Result<Arc<Circuit>, BuildError> {
        let [guard, ..] = path else { unreachable!("a path has three hops") };
        let rng = StdRng::from_rng(&mut self.lock().rng);
        let deadline = Instant::now() + CIRCUIT_BUILD_TIMEOUT;
        let link = build::at(guard, deadline, self.guards.link(guard)).await?;
        let parts = build::build(self.params.id(), &link, path, rng, deadline).await?;
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

    async fn keep_spares(&self) {
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
    fn find(&self, target: &Target, avoid: &[RelayId]) -> Option<Arc<Circuit>> {
        let circuits = self.lock();
        circuits.iter().rev().find(|circuit| circuit.may_take(target) && !circuit.has_any(avoid)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Circuit>>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A build error without the relay's name: these words reach logs and other programs.
fn reason(error: &BuildError) -> &Cause {
    &error.cause
}
