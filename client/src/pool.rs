//! The circuits of a client: built ahead of need, kept apart by isolation, and let go when they are old or dead.
//!
//! Specification: docs/protocol.md, "Circuits" and "Paths". A circuit serves one isolation token only, and new streams
//! for ten minutes only. It begins at a guard; the other relays are drawn anew for each, from the usable set as it is
//! then. Relays that just failed are left out for a short while, never preferred or remembered for longer.

use std::{
    collections::{BTreeMap, HashMap},
    slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;
use trefoil_protocol::{
    entry::RelayEntry,
    guard::{GuardSample, NoGuard, SampleRules},
    identity::RelayId,
    limits::{DIRECTORY_WAIT, MAILBOX_HOPS, MAX_ISOLATIONS, PATH_HOPS, RELAY_FAILURE_MEMORY, SPARE_CIRCUITS},
    message::Target,
    params::{NetworkId, NetworkParams},
    path::{self, Need, NoPath, PathRules},
    relays::{UsableRelay, UsableRelays},
};
use trefoil_relay::clock::Clock;

use crate::{
    build::{self, BuildError, Cause, Made},
    circuit::{Circuit, Hop},
    guards::{Guards, Sockets},
    race::Usual,
    tunnel::Isolation,
};

/// The port that spare circuits must be able to exit to, until a stream says what is really wanted.
const USUAL_PORT: u16 = 443;
/// Draws of a guard for one path: which of the two is right may depend on who must be last.
const GUARD_TRIES: usize = 8;
/// Between two looks at which circuits are spent and how many spares there are.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// Between two failed attempts to build a spare: doubles from the first to the second.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// Why there is no circuit, in words for a person.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCircuit {
    #[error("{0}")]
    NotYet(Arc<str>),
    #[error("the relay is not in use now")]
    Unknown,
    #[error("{0}")]
    Guard(#[from] NoGuard),
    #[error("{0}")]
    Path(#[from] NoPath),
    #[error("{tries} circuits could not be built; the last failed because {}", reason(.last))]
    Build { tries: usize, last: Box<BuildError> },
    #[error("{MAX_ISOLATIONS} isolation tokens have streams, and no more are kept apart")]
    Isolations,
    #[error("{tries} circuits are not built yet; the network is too slow, or gone")]
    Slow { tries: usize },
}

impl NoCircuit {
    /// Whether it is this relay that failed.
    pub(crate) fn blames(&self, relay: &RelayId) -> bool {
        matches!(self, Self::Build { last, .. } if last.relay == *relay)
    }
}

/// See the file's head.
pub(crate) struct Pool {
    params: NetworkParams,
    /// This node's own relay, if it is one: never used.
    own: Vec<UsableRelay>,
    known: watch::Sender<Known>,
    pub(crate) guards: Guards,
    state: Mutex<State>,
    spare_wanted: Notify,
    pub(crate) tracker: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

/// What a pool is made of.
pub(crate) struct Setup {
    pub(crate) params: NetworkParams,
    pub(crate) own: Vec<UsableRelay>,
    pub(crate) sockets: Sockets,
    pub(crate) clock: Clock,
    pub(crate) guards: GuardSample,
    pub(crate) seed: [u8; 32],
}

/// The relays that circuits are drawn from now, if any; and if none, why, in words for a person.
#[derive(Clone)]
struct Known {
    usable: Option<Arc<UsableRelays>>,
    trouble: Arc<str>,
}

struct State {
    rng: StdRng,
    spares: Vec<Arc<Circuit>>,
    /// What spares should be able to exit to: the port that was asked for last.
    port: u16,
    used: HashMap<Isolation, Arc<Slot>>,
    failed: BTreeMap<RelayId, Instant>, // in order, so that a simulation repeats itself
    usual: Usual,
}

pub(crate) type Built = Result<Arc<Circuit>, BuildError>;

/// The circuits of one isolation token.
#[derive(Default)]
struct Slot {
    circuits: Mutex<Vec<Arc<Circuit>>>,
    /// Held while one is found or built, so that streams that come together share it.
    finding: AsyncMutex<()>,
}

impl Pool {
    pub(crate) fn new(setup: Setup) -> Arc<Self> {
        let state = State {
            rng: StdRng::from_seed(setup.seed),
            spares: Vec::new(),
            port: USUAL_PORT,
            used: HashMap::new(),
            failed: BTreeMap::new(),
            usual: Usual::default(),
        };
        let known = Known { usable: None, trouble: "the network's relays are not known yet".into() };
        let pool = Arc::new(Self {
            params: setup.params,
            own: setup.own,
            known: watch::Sender::new(known),
            guards: Guards::new(setup.sockets, setup.clock, setup.guards),
            state: Mutex::new(state),
            spare_wanted: Notify::new(),
            tracker: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        });
        pool.tracker.spawn(Arc::clone(&pool).keep());
        pool
    }

    /// From now on, circuits are drawn from these relays.
    pub(crate) fn use_relays(&self, usable: Arc<UsableRelays>) {
        let rules = SampleRules { allow_same_netgroup: self.params.allow_same_netgroup, own: &self.own };
        self.guards.update(&usable, &rules, &mut self.rng());
        self.known.send_modify(|known| known.usable = Some(usable));
        self.spare_wanted.notify_one();
    }

    /// What people are told while there are no relays to draw from.
    pub(crate) fn set_trouble(&self, trouble: &str) {
        self.known.send_modify(|known| known.trouble = trouble.into());
    }

    /// The relays that circuits are drawn from now.
    pub(crate) fn usable(&self) -> Option<Arc<UsableRelays>> {
        self.known.borrow().usable.clone()
    }

    /// A generator of its own for some task.
    pub(crate) fn rng(&self) -> StdRng {
        StdRng::from_rng(&mut self.lock().rng)
    }

    /// A circuit for a stream of this isolation to this target, through none of the relays in `avoid`, and built since
    /// `since`, if that is given: older ones may have died with those that were tried.
    pub(crate) async fn circuit(
        self: &Arc<Self>,
        isolation: &Isolation,
        target: &Target,
        avoid: &[RelayId],
        since: Option<Instant>,
    ) -> Result<Arc<Circuit>, NoCircuit> {
        let slot = self.slot(isolation)?;
        let _finding = slot.finding.lock().await;
        let fits = |circuit: &Circuit| {
            circuit.may_take(target) && !circuit.has_any(avoid) && since.is_none_or(|since| circuit.made() >= since)
        };
        if let Some(circuit) = slot.find(fits) {
            return Ok(circuit);
        }
        let circuit = match self.take_spare(target, fits) {
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

    /// The network that it is for.
    pub(crate) fn network(&self) -> NetworkId {
        self.params.id()
    }

    /// Whether [`Pool::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    fn take_spare(&self, target: &Target, fits: impl Fn(&Circuit) -> bool) -> Option<Arc<Circuit>> {
        let mut state = self.lock();
        if let Target::Exit { port, .. } = target {
            state.port = *port;
        }
        let at = state.spares.iter().position(|spare| fits(spare))?;
        self.spare_wanted.notify_one();
        Some(state.spares.swap_remove(at))
    }

    /// The relays to draw from, as soon as there are any; at most [`DIRECTORY_WAIT`] later the reason why there are none.
    pub(crate) async fn await_usable(&self) -> Result<(), NoCircuit> {
        let mut known = self.known.subscribe();
        let waited = timeout(DIRECTORY_WAIT, known.wait_for(|known| known.usable.is_some())).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NoCircuit::NotYet(Arc::clone(&self.known.borrow().trouble))),
        }
    }

    /// A circuit to ask `last` something, through `first` or else a guard, and one relay more.
    pub(crate) async fn circuit_to(
        self: &Arc<Self>,
        relays: &UsableRelays,
        first: Option<RelayId>,
        last: &UsableRelay,
    ) -> Result<Arc<Circuit>, NoCircuit> {
        let guard = match first {
            Some(first) => first,
            None => self.guards.choose(&[last.entry.id], &mut self.rng())?,
        };
        let mut path = {
            let mut state = self.lock();
            let near: Vec<_> = self.own.iter().chain([last]).cloned().collect();
            let failed: Vec<_> = state.failed.keys().filter(|relay| **relay != guard).copied().collect();
            let rules = |exclude| PathRules {
                hops: PATH_HOPS - 1,
                allow_same_netgroup: self.params.allow_same_netgroup,
                guard: Some(guard),
                need: Need::Any,
                exclude,
                own: &near,
            };
            let drawn = path::choose(relays, &rules(&failed), &mut state.rng);
            owned(drawn.or_else(|_| path::choose(relays, &rules(&[]), &mut state.rng))?)
        };
        path.push(last.entry.clone());
        let built = match first {
            Some(_) => self.build_from_anywhere(&path, &Made::default()).await, // it is no guard, and never becomes one by this
            None => Arc::clone(self).build_along(path, Made::default()).await,
        };
        built.map_err(|error| NoCircuit::Build { tries: 1, last: Box::new(self.failed(error)) })
    }

    /// Takes note of the relay that failed, and of the one that says so: either may be the one that does harm.
    pub(crate) fn failed(&self, error: BuildError) -> BuildError {
        debug!(%error, "a circuit was not built");
        let now = Instant::now();
        let mut state = self.lock();
        state.failed.extend([Some(error.relay), error.witness].into_iter().flatten().map(|relay| (relay, now)));
        state.spares.retain(|spare| !spare.has_any(&[error.relay]));
        drop(state);
        error
    }

    /// Draws a path around the relays to avoid and those that failed lately; if none is left, around fewer of them.
    /// Guards are few: one that is to be avoided is taken where the other leads nowhere.
    pub(crate) fn draw(&self, need: Need<'_>, avoid: &[RelayId]) -> Result<Vec<RelayEntry>, NoCircuit> {
        let usable = self.usable().ok_or_else(|| NoCircuit::NotYet(Arc::clone(&self.known.borrow().trouble)))?;
        let mut rng = self.rng();
        let lately = [avoid, &self.failed_lately()].concat();
        let mut none = None;
        for exclude in [&lately[..], avoid, &[]] {
            for _ in 0..GUARD_TRIES {
                let guard = self.guards.choose(exclude, &mut rng)?;
                let others: Vec<_> = exclude.iter().filter(|relay| **relay != guard).copied().collect();
                let rules = PathRules {
                    hops: PATH_HOPS,
                    allow_same_netgroup: self.params.allow_same_netgroup,
                    guard: Some(guard),
                    need,
                    exclude: &others,
                    own: &self.own,
                };
                match path::choose(&usable, &rules, &mut rng) {
                    Ok(path) => return Ok(owned(path)),
                    Err(error) => none = Some(error),
                }
            }
        }
        Err(none.expect("it was tried").into())
    }

    /// Draws a path to this relay: around all that share a netgroup or family with it, and around those in `avoid`.
    pub(crate) fn draw_to(&self, last: &RelayId, avoid: &[RelayId]) -> Result<Vec<RelayEntry>, NoCircuit> {
        let usable = self.usable().ok_or_else(|| NoCircuit::NotYet(Arc::clone(&self.known.borrow().trouble)))?;
        let last = usable.find(last).ok_or(NoCircuit::Unknown)?;
        let near = |relay: &&UsableRelay| !relay.is_apart(slice::from_ref(last), self.params.allow_same_netgroup);
        let near: Vec<_> = usable.iter().filter(near).map(|relay| relay.entry.id).collect();
        for avoid in [avoid, &[]] {
            let mut path = self.draw(Need::Any, &[avoid, &near].concat())?;
            if !path.iter().any(|hop| near.contains(&hop.id)) {
                path.push(last.entry.clone());
                return Ok(path);
            } // else there was no other way around all of them
        }
        Err(NoPath::Netgroups { hops: MAILBOX_HOPS }.into())
    }

    /// The relays that failed lately, the last one at the end.
    fn failed_lately(&self) -> Vec<RelayId> {
        let failed = &mut self.lock().failed;
        failed.retain(|_, failed| failed.elapsed() < RELAY_FAILURE_MEMORY);
        let mut failed: Vec<_> = failed.iter().map(|(relay, at)| (*at, *relay)).collect();
        failed.sort_unstable();
        failed.into_iter().map(|(_, relay)| relay).collect()
    }

    /// Builds a circuit that begins at a guard, which learns how that went.
    pub(crate) async fn build_along(self: Arc<Self>, path: Vec<RelayEntry>, made: Made) -> Built {
        let built = self.build_from_anywhere(&path, &made).await;
        if let Some(guard) = path.first() {
            self.guards.handle_built(&guard.id, &built);
        }
        built
    }

    async fn build_from_anywhere(&self, path: &[RelayEntry], made: &Made) -> Built {
        let rng = StdRng::from_rng(&mut self.lock().rng);
        let parts = build::build(self.params.id(), &self.guards, path, made, rng).await?;
        let took = parts.hops.iter().map(|hop| hop.took).sum();
        self.lock().usual.note(took);
        Ok(Circuit::start(parts, &self.tracker, &self.shutdown))
    }

    /// What building a circuit took lately.
    pub(crate) fn usual(&self) -> Usual {
        self.lock().usual
    }

    /// Keeps the spares up and lets go of what is spent, until the end.
    async fn keep(self: Arc<Self>) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased; // both work: so that a simulation repeats itself
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

    fn find(&self, fits: impl Fn(&Circuit) -> bool) -> Option<Arc<Circuit>> {
        self.lock().iter().rev().find(|circuit| fits(circuit)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Circuit>>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owned(path: Vec<&RelayEntry>) -> Vec<RelayEntry> {
    path.into_iter().cloned().collect()
}

/// A build error without the relay's name: these words reach logs and other programs.
fn reason(error: &BuildError) -> &Cause {
    &error.cause
}
