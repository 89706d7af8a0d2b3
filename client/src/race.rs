//! A race: one circuit, built by as many tries as it takes.
//!
//! Specification: docs/protocol.md, "Building". A try that fails is followed by another over other relays, and one that
//! is slow gets company: the first to be whole wins. How far a slow one has come tells which relay it waits for, so only
//! that one and who was to reach it are left out of the next. What is slow depends on what circuits took lately. The
//! others are not cut short, since how they end tells which relays are gone.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use trefoil_protocol::{
    entry::RelayEntry,
    guard::Attempt,
    identity::RelayId,
    limits::{
        BUILD_HEDGE, BUILD_HEDGE_FACTOR, BUILD_HEDGE_LEAST, CIRCUIT_BUILD_TRIES, GUARD_SILENCE_FACTOR,
        GUARD_SILENCE_LEAST, HOP_BUILD_TIMEOUT, MAILBOX_REACHED,
    },
    path::Need,
};

use crate::{
    build::{BuildError, Made},
    circuit::Circuit,
    pool::{Built, NoCircuit, Pool},
};

/// What building a circuit took lately.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usual(Option<Duration>);

/// See the file's head.
struct Race {
    pool: Arc<Pool>,
    building: JoinSet<Built>,
    tries: Vec<Try>,
    /// How many of them may come as far as to their last relay before another is begun.
    reach: usize,
    last: Option<BuildError>,
}

/// A circuit that was begun.
struct Try {
    path: Vec<RelayEntry>,
    made: Made,
    started: Instant,
    /// Its guard counts as one that failed.
    judged: bool,
}

impl Pool {
    /// Builds a circuit that begins at a guard.
    pub(crate) async fn build(self: &Arc<Self>, need: Need<'_>, avoid: &[RelayId]) -> Result<Arc<Circuit>, NoCircuit> {
        self.race(CIRCUIT_BUILD_TRIES, |suspects| self.draw(need, &[avoid, suspects].concat())).await
    }

    /// Builds a circuit that begins at a guard and ends at this relay, which does not choose how often others are drawn.
    pub(crate) async fn build_to(self: &Arc<Self>, relay: &RelayId) -> Result<Arc<Circuit>, NoCircuit> {
        self.race(MAILBOX_REACHED, |suspects| self.draw_to(relay, suspects)).await
    }

    /// Builds one of the circuits that `draw` draws around relays that may be why others are slow.
    async fn race(
        self: &Arc<Self>,
        reach: usize,
        draw: impl Fn(&[RelayId]) -> Result<Vec<RelayEntry>, NoCircuit>,
    ) -> Result<Arc<Circuit>, NoCircuit> {
        self.await_usable().await?;
        let (building, tries) = (JoinSet::new(), Vec::new());
        let mut race = Race { pool: Arc::clone(self), building, tries, reach, last: None };
        let built = race.run(draw).await;
        race.watch_the_others();
        built
    }
}

impl Race {
    async fn run(
        &mut self,
        draw: impl Fn(&[RelayId]) -> Result<Vec<RelayEntry>, NoCircuit>,
    ) -> Result<Arc<Circuit>, NoCircuit> {
        while self.tries.len() < CIRCUIT_BUILD_TRIES && self.reached() < self.reach && !self.pool.is_closed() {
            match draw(&self.suspects()) {
                Ok(path) => self.start(path),
                Err(error) if self.building.is_empty() => return Err(error),
                Err(_) => {} // what is under way may yet be built
            }
            if let Some(circuit) = self.first(self.pool.usual().hedge()).await {
                return Ok(circuit);
            }
            self.judge_guards();
        }
        while !self.building.is_empty() && !self.pool.is_closed() {
            if let Some(circuit) = self.first(BUILD_HEDGE).await {
                return Ok(circuit);
            }
            self.judge_guards();
        }
        let tries = self.tries.len();
        Err(self.last.take().map_or(NoCircuit::Slow { tries }, |last| NoCircuit::Build { tries, last: Box::new(last) }))
    }

    /// Begins a circuit, unless it would only wait for a guard beside one that does already.
    fn start(&mut self, path: Vec<RelayEntry>) {
        let waits = |other: &Try| other.waits_for_guard() && other.path.first() == path.first();
        if self.tries.iter().any(waits) && !self.building.is_empty() {
            return;
        }
        let made = Made::default();
        self.building.spawn(Arc::clone(&self.pool).build_along(path.clone(), made.clone()));
        self.tries.push(Try { path, made, started: Instant::now(), judged: false });
    }

    /// The first circuit that is whole within `patience`; `None` also when one has failed.
    async fn first(&mut self, patience: Duration) -> Option<Arc<Circuit>> {
        match timeout(patience, self.building.join_next()).await {
            Ok(Some(Ok(Ok(circuit)))) => Some(circuit),
            Ok(Some(Ok(Err(error)))) => {
                let failed = |other: &&mut Try| other.path.first().is_some_and(|guard| guard.id == error.relay);
                self.tries.iter_mut().filter(failed).for_each(|other| other.judged = true);
                self.last = Some(self.pool.failed(error));
                None
            }
            Ok(Some(Err(_))) | Ok(None) | Err(_) => None,
        }
    }

    /// How many came as far as to their last relays.
    fn reached(&self) -> usize {
        self.tries.iter().filter(|other| other.made.hops() + 1 >= other.path.len()).count()
    }

    /// Who may be why the tries are slow.
    fn suspects(&self) -> Vec<RelayId> {
        self.tries.iter().flat_map(Try::suspects).collect()
    }

    /// Lets another guard take the place of one that has answered before and is silent for much longer than usual.
    fn judge_guards(&mut self) {
        let Some(patience) = self.pool.usual().guard_patience() else { return };
        for other in &mut self.tries {
            if other.waits_for_guard() && !other.judged && other.started.elapsed() >= patience {
                other.judged = true;
                other.path.first().inspect(|guard| self.pool.guards.handle_dial(&guard.id, Attempt::Failed));
            }
        }
    }

    /// Lets the tries that are left go on to their ends.
    fn watch_the_others(mut self) {
        let (tracker, shutdown) = (self.pool.tracker.clone(), self.pool.shutdown.clone());
        tracker.spawn(shutdown.run_until_cancelled_owned(async move {
            while !self.building.is_empty() {
                drop(self.first(HOP_BUILD_TIMEOUT).await);
            }
        }));
    }
}

impl Try {
    fn waits_for_guard(&self) -> bool {
        self.made.hops() == 0
    }

    /// The relay that it waits for, and the one that was to reach it, unless that is the guard.
    fn suspects(&self) -> impl Iterator<Item = RelayId> {
        let waiting = self.made.hops();
        let from = if waiting > 1 { waiting - 1 } else { waiting };
        self.path.iter().take(waiting + 1).skip(from).map(|relay| relay.id)
    }
}

impl Usual {
    /// A circuit was built within this time.
    pub(crate) fn note(&mut self, took: Duration) {
        self.0 = Some(self.0.map_or(took, |usual| (usual * 7 + took) / 8));
    }

    /// How long a circuit may take, or be silent, before another is tried beside it.
    pub(crate) fn hedge(self) -> Duration {
        let hedge = self.0.map_or(BUILD_HEDGE, |usual| usual * BUILD_HEDGE_FACTOR);
        hedge.clamp(BUILD_HEDGE_LEAST, BUILD_HEDGE)
    }

    /// How long a guard may be silent before another is used; `None` while nothing tells how long it should take.
    pub(crate) fn guard_patience(self) -> Option<Duration> {
        self.0.map(|usual| (usual * GUARD_SILENCE_FACTOR).clamp(GUARD_SILENCE_LEAST, HOP_BUILD_TIMEOUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_slow_depends_on_what_circuits_took_lately() {
        let mut usual = Usual::default();
        assert_eq!((usual.hedge(), usual.guard_patience()), (BUILD_HEDGE, None));
        usual.note(20 * MS);
        assert_eq!((usual.hedge(), usual.guard_patience()), (BUILD_HEDGE_LEAST, Some(GUARD_SILENCE_LEAST)));
        (0..50).for_each(|_| usual.note(200 * MS));
        assert!((590 * MS..=600 * MS).contains(&usual.hedge()), "{:?}", usual.hedge());
        (0..50).for_each(|_| usual.note(5000 * MS));
        assert_eq!((usual.hedge(), usual.guard_patience()), (BUILD_HEDGE, Some(HOP_BUILD_TIMEOUT)));
    }
}
