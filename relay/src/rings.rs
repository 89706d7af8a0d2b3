//! Rings: which relays keep what is placed somewhere, by what this relay knows in this epoch.
//!
//! Specification: docs/protocol.md, "Rings"; the rule is the protocol's `ring.rs`. To find a ring takes milliseconds in a
//! large network, and anyone may ask for any: so one is looked for at a time, and those that were found are remembered
//! for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Semaphore, time::Instant};
use trefoil_protocol::{
    identity::RelayId,
    limits::{RINGS_FRESH, RINGS_KEPT},
    ring::{self, Candidate, Placement},
    usable::UsableSet,
};

use crate::directory::{Directory, aside};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Rings {
    turns: Semaphore,
    found: Mutex<Option<Found>>,
}

/// The rings of one usable set that were asked for.
#[derive(Debug)]
struct Found {
    usable: Arc<UsableSet>,
    since: Instant,
    candidates: Arc<[Candidate]>,
    rings: HashMap<Placement, Ring>,
}

/// Its relays, nearest first.
pub(crate) type Ring = Arc<[RelayId]>;

impl Rings {
    pub(crate) fn new() -> Self {
        Self { turns: Semaphore::new(1), found: Mutex::default() }
    }

    /// The ring of this placement; `None` while no relay is known to be usable.
    pub(crate) async fn find(&self, directory: &Directory, placement: &Placement) -> Option<Ring> {
        let usable = directory.usable();
        if usable.is_empty() {
            return None;
        }
        if let Some(ring) = self.remembered(&usable, placement) {
            return Some(ring);
        }
        let _turn = self.turns.acquire().await.ok()?;
        if let Some(ring) = self.remembered(&usable, placement) {
            return Some(ring);
        }
        Some(aside(|| self.look(directory, usable, placement)))
    }

    fn remembered(&self, usable: &Arc<UsableSet>, placement: &Placement) -> Option<Ring> {
        self.lock().as_ref().filter(|found| found.is_of(usable))?.rings.get(placement).cloned()
    }

    fn look(&self, directory: &Directory, usable: Arc<UsableSet>, placement: &Placement) -> Ring {
        let known =
            self.lock().as_ref().filter(|found| found.is_of(&usable)).map(|found| Arc::clone(&found.candidates));
        let is_news = known.is_none();
        let candidates = known.unwrap_or_else(|| candidates(directory, &usable));
        let ring: Ring = ring::ring(placement, directory.params(), candidates.iter().cloned()).into();
        let mut found = self.lock();
        if is_news {
            *found = Some(Found { usable, since: Instant::now(), candidates, rings: HashMap::new() });
        }
        if let Some(found) = &mut *found {
            if found.rings.len() >= RINGS_KEPT {
                found.rings.clear(); // they will be found again
            }
            found.rings.insert(*placement, Arc::clone(&ring));
        }
        ring
    }

    fn lock(&self) -> MutexGuard<'_, Option<Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner) // what is half changed is forgotten with its set
    }
}

impl Found {
    /// Whether these are the rings of this set, by records that are as good as new.
    fn is_of(&self, usable: &Arc<UsableSet>) -> bool {
        self.since.elapsed() < RINGS_FRESH && (Arc::ptr_eq(&self.usable, usable) || self.usable == *usable)
    }
}

/// The usable relays, as their records have them now.
fn candidates(directory: &Directory, usable: &UsableSet) -> Arc<[Candidate]> {
    let view = directory.view();
    let record = |relay: &RelayId| view.get(relay).map(|known| known.record.record().descriptor());
    usable.iter().filter_map(|(relay, class)| Some(Candidate::new(&record(&relay)?, class))).collect()
}
