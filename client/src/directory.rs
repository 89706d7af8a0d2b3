//! Directory: how a client gets to know its network's relays, and which of them it uses.
//!
//! Specification: docs/protocol.md, "The directory" and "Usable sets". Records come from relays whose addresses are
//! known: at first those of the network file and of the command line, later only guards. Which relays are used is
//! decided by the majority of several sources, most of them asked through circuits. The client asks once an epoch, at a
//! moment of its own, and goes on for ever where nobody answers. It tells nobody anything.

mod ask;
mod trouble;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng, RngExt, seq::SliceRandom};
use tokio::time::{interval, sleep, timeout};
use tracing::{debug, info, warn};
use trefoil_protocol::{
    entry::RelayEntry,
    epoch::{Epoch, UnixSeconds},
    guard::Attempt,
    identity::RelayId,
    limits::{
        CLOCK_TOLERANCE, DOORS_MAX, GUARDS_LOOK, GUARDS_SAVE, PATH_HOPS, REFRESH_RETRY_FIRST, REFRESH_RETRY_LAST,
        SOURCES,
    },
    majority::{self, Majority},
    params::NetworkParams,
    relays::{UsableRelay, UsableRelays},
    usable::{AgeClass, UsableSet},
    view::View,
};
use trefoil_relay::{
    clock::Clock,
    hints::{Hint, Hints},
};

pub(crate) use self::trouble::Trouble;
use self::{ask::Told, trouble::median};
use crate::{
    pool::Pool,
    source,
    state::{Saved, State},
};

/// See the file's head.
pub(crate) struct Directory {
    params: NetworkParams,
    clock: Clock,
    bootstrap: Vec<RelayEntry>,
    own: Vec<UsableRelay>,
    pool: Arc<Pool>,
    state: State,
    /// Where addresses are put at which some relay may be.
    hints: Arc<Hints>,
    former: Vec<RelayEntry>,
    view: Mutex<View>,
    report: Mutex<Report>,
}

/// What a directory is made of, besides its pool.
pub(crate) struct Setup {
    pub(crate) params: NetworkParams,
    pub(crate) clock: Clock,
    pub(crate) bootstrap: Vec<RelayEntry>,
    pub(crate) own: Vec<UsableRelay>,
    pub(crate) state: State,
    /// What else may name addresses.
    pub(crate) hints: Arc<Hints>,
    pub(crate) view: View,
    pub(crate) former: Vec<RelayEntry>,
    pub(crate) usable: Option<UsableSet>,
    /// The view lacks relays that it once had.
    pub(crate) is_lacking: bool,
}

/// How it went the last time, for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Sources that told their sets of the epoch that is used.
    pub(crate) sources: usize,
    /// Of these, how many told just the set that is used.
    pub(crate) agreeing: usize,
    /// Relays that sources list and nobody has shown us.
    pub(crate) unknown: usize,
    /// How many minutes the clocks of others are ahead of ours, by their median.
    pub(crate) ahead: Option<i64>,
    /// What is wrong, if anything is.
    pub(crate) trouble: Option<Trouble>,
}

/// A relay to begin at.
#[derive(Clone, Debug)]
enum Door {
    Named(RelayEntry),
    /// Whoever is at an address that anyone may have named.
    Hint(Hint),
}

/// How a refresh begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// At a guard, and then through circuits that begin at guards.
    Guards,
    /// At relays that were named to us, and then through circuits that begin there.
    Doors,
}

impl Setup {
    /// What is kept of an earlier run, and the rest.
    pub(crate) fn over(saved: Saved, params: NetworkParams, clock: Clock, state: State) -> Self {
        let Saved { view, former, usable, is_lacking, .. } = saved;
        let (bootstrap, own, hints) = (Vec::new(), Vec::new(), Arc::default());
        Self { params, clock, bootstrap, own, state, hints, view, former, usable, is_lacking }
    }
}

impl Directory {
    /// Starts to keep the pool supplied. What an earlier run has left is used at once; where it has gaps, only until
    /// they are filled.
    pub(crate) fn start(setup: Setup, pool: Arc<Pool>) -> Arc<Self> {
        let Setup { params, clock, bootstrap, own, state, hints, view, former, usable, is_lacking } = setup;
        let (view, report) = (Mutex::new(view), Mutex::default());
        let directory = Arc::new(Self { params, clock, bootstrap, own, pool, state, hints, former, view, report });
        let is_used = |usable: &UsableSet| directory.use_set(usable).is_ok() && directory.is_of_now(usable);
        let current = usable.is_some_and(|usable| is_used(&usable)) && !is_lacking;
        let (tracker, shutdown) = (directory.pool.tracker.clone(), directory.pool.shutdown.clone());
        let keep = [directory.clone(), directory.clone()];
        let [refreshing, saving] = keep;
        tracker.spawn(shutdown.clone().run_until_cancelled_owned(async move { refreshing.run(current).await }));
        tracker.spawn(shutdown.run_until_cancelled_owned(async move { saving.keep_guards().await }));
        directory
    }

    /// How it went the last time.
    pub(crate) fn report(&self) -> Report {
        self.locked_report().clone()
    }

    /// How many relays are known.
    pub(crate) fn known(&self) -> usize {
        source::lock(&self.view).len()
    }

    /// All records that are known.
    pub(crate) fn view(&self) -> &Mutex<View> {
        &self.view
    }

    /// Where addresses are put at which some relay may be.
    pub(crate) fn hints(&self) -> &Arc<Hints> {
        &self.hints
    }

    /// Which network, and the time there.
    pub(crate) fn network(&self) -> (&NetworkParams, Clock) {
        (&self.params, self.clock)
    }

    /// What is kept between runs.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The epoch now.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch::of(self.clock.now(), &self.params.directory)
    }

    /// Keeps the guards as they are now.
    pub(crate) fn save_guards(&self) {
        self.state.save_guards(&self.pool.guards.sample());
    }

    async fn run(self: Arc<Self>, mut current: bool) {
        let mut pause = REFRESH_RETRY_FIRST;
        let (mut beginning, mut has_failed) = (Beginning::Guards, false);
        loop {
            if current {
                sleep(self.until_next()).await;
            }
            match self.refresh(beginning, has_failed).await {
                Ok(()) => {
                    (current, beginning, pause) = (true, Beginning::Guards, REFRESH_RETRY_FIRST);
                    has_failed = false;
                    self.hints.enough();
                    self.locked_report().trouble = None;
                }
                Err(trouble) => {
                    self.tell(trouble);
                    self.pause(pause).await;
                    has_failed = true;
                    (current, pause) = (false, (pause * 2).min(REFRESH_RETRY_LAST));
                    beginning = match beginning {
                        Beginning::Guards => Beginning::Doors, // guards may be gone for good
                        Beginning::Doors => Beginning::Guards,
                    };
                }
            }
        }
    }

    /// Waits after a failure. While nothing is known, an address where a relay may be is followed soon.
    async fn pause(&self, time: Duration) {
        sleep(REFRESH_RETRY_FIRST).await;
        let rest = time - REFRESH_RETRY_FIRST;
        if self.pool.usable().is_some() {
            sleep(rest).await;
        } else {
            self.hints.need();
            let _ = timeout(rest, self.hints.wait()).await;
        }
    }

    /// A moment in the next epoch, of this client's own choice: clients must not all come at once.
    fn until_next(&self) -> Duration {
        let params = &self.params.directory;
        let next = self.epoch().next().start(params);
        let spread = u64::from(params.epoch.get()) * 9 / 10;
        Duration::from_secs(next.since(self.clock.now()) + self.pool.rng().random_range(0..=spread))
    }

    fn is_of_now(&self, usable: &UsableSet) -> bool {
        usable.epoch() == self.epoch()
    }

    fn tell(&self, trouble: Trouble) {
        debug!(%trouble, "the directory was not refreshed");
        self.pool.set_trouble(&trouble.to_string());
        let before = self.locked_report().trouble.replace(trouble.clone());
        if before.as_ref() != Some(&trouble) {
            warn!("{trouble}");
        }
    }

    /// Takes in what is new, and decides anew which relays are used.
    async fn refresh(self: &Arc<Self>, beginning: Beginning, has_failed: bool) -> Result<(), Trouble> {
        let usable = self.pool.usable();
        let (doors, beginning) = match usable {
            Some(_) => self.doors(beginning)?,
            None => (self.first_doors(has_failed)?, Beginning::Doors),
        };
        let visits = self.visit(doors, beginning).await?;
        self.note_clocks(visits.iter().map(|told| told.minutes).collect());
        let usable_before = usable.clone();
        let relays = match usable.filter(|_| beginning == Beginning::Guards) {
            Some(usable) => usable,
            None => Arc::new(self.provisional()),
        };
        if relays.len() < PATH_HOPS {
            return Err(self.too_few(relays.len()));
        }
        let mut through: Vec<_> = visits.iter().map(Told::relay).filter(|door| relays.find(door).is_some()).collect();
        if beginning == Beginning::Guards {
            through.clear();
        }
        let mut sources = self.ask(visits, Arc::clone(&relays), &through, SOURCES).await;
        self.note_clocks(sources.iter().map(|told| told.minutes).collect());
        let mut found = self.settle(&mut sources).await?;
        if !sources.iter().all(|told| told.set.agrees(&found.set)) {
            if usable_before.is_none() {
                self.adopt(&found, &sources)?; // better than nothing, until more have been asked
            }
            let wanted = majority::sources_in_doubt(found.set.len());
            sources = self.ask(sources, relays, &through, wanted).await;
            found = self.settle(&mut sources).await?;
        }
        sources.iter_mut().for_each(Told::finish);
        self.adopt(&found, &sources)?;
        self.try_feeler();
        Ok(())
    }

    /// What most sources say, once they were asked for the records that it takes.
    async fn settle(self: &Arc<Self>, sources: &mut [Told]) -> Result<Majority, Trouble> {
        let found = self.majority(sources)?;
        if found.unknown == 0 {
            return Ok(found);
        }
        self.pull_again(sources).await;
        self.majority(sources)
    }

    /// The relays to begin at, and whether the circuits that follow begin at these or at guards.
    fn doors(&self, beginning: Beginning) -> Result<(Vec<Door>, Beginning), Trouble> {
        let doors = self.bootstrap_doors(&mut self.pool.rng());
        if beginning == Beginning::Guards || doors.is_empty() {
            let guard = self.pool.guards.choose(&[], &mut self.pool.rng())?;
            if let Some(guard) = self.entry(&guard) {
                return Ok((vec![Door::Named(guard)], Beginning::Guards));
            }
        }
        if doors.is_empty() { Err(Trouble::NoBootstrap) } else { Ok((named(doors), Beginning::Doors)) }
    }

    fn bootstrap_doors(&self, rng: &mut impl Rng) -> Vec<RelayEntry> {
        let mut doors: Vec<_> = self.bootstrap.iter().filter(|relay| !self.is_own(&relay.id)).cloned().collect();
        doors.shuffle(rng);
        doors.truncate(DOORS_MAX);
        doors
    }

    /// The relays to begin at while no usable set is known: bootstrap relays, where these are few some that are known
    /// from earlier, and where all that failed or there are none, hints. A client that has guards must not be seen by
    /// ever more relays.
    fn first_doors(&self, has_failed: bool) -> Result<Vec<Door>, Trouble> {
        let mut doors = named(self.known_doors());
        if has_failed || doors.is_empty() {
            let hints = self.hints.due(DOORS_MAX, || self.pool.rng(), |hint| !self.is_at_own(hint.address.ip()));
            doors.extend(hints.into_iter().map(Door::Hint));
        }
        match doors.is_empty() {
            true if self.hints.is_searching() => Err(Trouble::Searching),
            true => Err(Trouble::NoBootstrap),
            false => Ok(doors),
        }
    }

    fn known_doors(&self) -> Vec<RelayEntry> {
        let mut rng = self.pool.rng();
        let mut doors = self.bootstrap_doors(&mut rng);
        let mut saved: Vec<_> = source::lock(&self.view).iter().map(|(id, _)| *id).collect();
        saved.retain(|id| !self.is_own(id) && doors.iter().all(|door| door.id != *id));
        saved.shuffle(&mut rng);
        let room = DOORS_MAX - doors.len();
        doors.extend(saved.iter().filter_map(|id| self.entry(id)).take(room));
        let is_new = |relay: &&RelayEntry| !self.is_own(&relay.id) && doors.iter().all(|door| door.id != relay.id);
        let mut former: Vec<_> = self.former.iter().filter(is_new).cloned().collect();
        former.shuffle(&mut rng);
        former.truncate(DOORS_MAX - doors.len());
        doors.extend(former);
        doors
    }

    fn is_own(&self, relay: &RelayId) -> bool {
        self.own.iter().any(|own| own.entry.id == *relay)
    }

    /// Whether this is an address of this node's own relay.
    fn is_at_own(&self, address: IpAddr) -> bool {
        self.own.iter().flat_map(|own| own.entry.addresses.iter()).any(|own| own.ip() == address)
    }

    fn entry(&self, relay: &RelayId) -> Option<RelayEntry> {
        source::lock(&self.view).get(relay).map(|known| known.record.record().entry())
    }

    /// All relays that are known, for asking some of them: nothing else goes through them.
    fn provisional(&self) -> UsableRelays {
        let now = self.clock.now();
        let view = source::lock(&self.view);
        let others = view.iter().filter(|(id, _)| !self.is_own(id));
        resolve(&view, now, self.epoch(), others.map(|(id, _)| (*id, AgeClass::New)))
    }

    /// What most sources say about the epoch that most of them speak of.
    fn majority(&self, sources: &[Told]) -> Result<Majority, Trouble> {
        let view = source::lock(&self.view);
        let known: Vec<_> = view.iter().map(|(id, known)| (*id, known.record.record().statement())).collect();
        drop(view);
        let (now, params) = (self.clock.now(), &self.params.directory);
        let (earliest, latest) = (Epoch::earliest(now, params), Epoch::latest(now, params));
        let sets: Vec<_> = sources.iter().map(|told| &told.set).collect();
        let sets: Vec<_> = sets.into_iter().filter(|set| (earliest..=latest).contains(&set.epoch())).collect();
        let few = |answered| Trouble::FewSources { answered };
        let epoch = majority::most_named(&sets).ok_or(few(0))?;
        majority::majority(epoch, &sets, known).map_err(|error| few(error.answered))
    }

    fn adopt(&self, found: &Majority, sources: &[Told]) -> Result<(), Trouble> {
        let set = &found.set;
        source::lock(&self.view).begin_epoch(self.clock.now(), |relay| set.class(relay).is_some());
        self.use_set(set)?;
        let of_epoch = || sources.iter().filter(|told| told.set.epoch() == set.epoch());
        {
            let mut report = self.locked_report();
            report.sources = of_epoch().count();
            report.agreeing = of_epoch().filter(|told| told.set.agrees(set)).count();
            report.unknown = found.unknown;
        }
        info!(usable = set.len(), sources = of_epoch().count(), "the network's relays are known");
        self.state.save_view(&source::lock(&self.view).encode(), set);
        self.save_guards();
        Ok(())
    }

    /// Lets circuits be drawn from this set, as far as records are there.
    fn use_set(&self, set: &UsableSet) -> Result<(), Trouble> {
        let relays = resolve(&source::lock(&self.view), self.clock.now(), set.epoch(), set.iter());
        let others = relays.iter().filter(|relay| !self.is_own(&relay.entry.id)).count();
        if others < PATH_HOPS {
            return Err(self.too_few(others));
        }
        self.pool.use_relays(Arc::new(relays));
        Ok(())
    }

    /// Why hardly any relay is known: where the clock is wrong, good records look old or new.
    fn too_few(&self, known: usize) -> Trouble {
        match self.locked_report().ahead {
            Some(ahead) if ahead.unsigned_abs() > CLOCK_TOLERANCE / 60 => Trouble::Clock { ahead },
            _ => Trouble::TooSmall { known },
        }
    }

    fn note_clocks(&self, minutes: Vec<u32>) {
        let ours = i64::try_from(self.clock.now().0 / 60).unwrap_or(i64::MAX);
        let mut ahead: Vec<_> = minutes.into_iter().map(|theirs| i64::from(theirs) - ours).collect();
        let Some(ahead) = median(&mut ahead) else { return };
        let before = self.locked_report().ahead.replace(ahead);
        let is_off = |ahead: i64| ahead.unsigned_abs() > CLOCK_TOLERANCE / 60;
        if is_off(ahead) && !before.is_some_and(is_off) {
            warn!("{}", Trouble::Clock { ahead });
        }
    }

    /// Now and then, sees whether a guard that is not in use is still there.
    fn try_feeler(self: &Arc<Self>) {
        let Some(relay) = self.pool.guards.feeler(&mut self.pool.rng()) else { return };
        let Some(usable) = self.pool.usable() else { return };
        let Some(last) = usable.find(&relay).cloned() else { return };
        let pool = Arc::clone(&self.pool);
        let tried = async move {
            let attempt = match pool.circuit_to(&usable, None, &last).await {
                Ok(_) => Attempt::Reached,
                Err(error) if error.blames(&relay) => Attempt::Failed,
                Err(_) => Attempt::Offline, // it was not reached, and not for its own fault
            };
            pool.guards.handle_feeler(&relay, attempt);
        };
        self.pool.tracker.spawn(self.pool.shutdown.clone().run_until_cancelled_owned(tried));
    }

    /// Keeps the guards on disk: at once when another was dialled, else now and then.
    async fn keep_guards(&self) {
        let mut ticks = interval(GUARDS_LOOK);
        let (mut kept, mut since) = (None, self.clock.now());
        loop {
            ticks.tick().await;
            let sample = self.pool.guards.sample();
            let now = self.clock.now();
            let seen = Some((sample.dialled(), sample.members().collect::<Vec<_>>()));
            if seen != kept || now.since(since) >= GUARDS_SAVE.as_secs() {
                self.state.save_guards(&sample);
                (kept, since) = (seen, now);
            }
        }
    }

    fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    fn locked_report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(relays: Vec<RelayEntry>) -> Vec<Door> {
    relays.into_iter().map(Door::Named).collect()
}

/// These relays with what their records say, ready for drawing; nobody uses one that is barred, or that leaves, though
/// it may be in the set for an epoch more.
fn resolve(
    view: &View,
    now: UnixSeconds,
    epoch: Epoch,
    relays: impl Iterator<Item = (RelayId, AgeClass)>,
) -> UsableRelays {
    let relay = |(id, class)| {
        let record = view.get(&id)?.record.record();
        let is_usable = !view.is_barred(&id, now) && !record.is_leaving();
        let family = record.descriptor().family.map(|family| family.id);
        is_usable.then(|| UsableRelay { entry: record.entry(), class, family })
    };
    UsableRelays::new(epoch, relays.filter_map(relay))
}

#[cfg(test)]
mod tests;
