//! Rings: which relays keep what is placed somewhere, by what this relay knows in this epoch.
//!
//! Specification: docs/protocol.md, "Rings"; the rule is the protocol's `ring.rs`. To find a ring takes milliseconds in a
//! large network, and anyone may ask for any, for nothing: so no ring is looked for that this relay is too far from, few
//! wait for one at a time, those that were found are remembered for a while, and what is kept here already, or asked by
//! another relay, waits for no stranger's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Semaphore, time::Instant};
use trefoil_protocol::{
    identity::RelayId,
    limits::{RINGS_FRESH, RINGS_KEPT, RINGS_OWN, RINGS_WAITING},
    mailbox::Refusal,
    ring::{self, Candidate, Placement, Reach},
    usable::UsableSet,
};

use crate::{
    directory::{Directory, aside},
    node::Node,
};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Rings {
    ours: Queue,
    pub(crate) strange: Queue,
    found: Mutex<Option<Found>>,
}

/// Those who wait until a ring is looked for; one is at a time.
#[derive(Debug)]
pub(crate) struct Queue {
    places: Semaphore,
    pub(crate) turn: Semaphore,
}

/// Whose question a ring is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Anyone's, of what is kept here.
    OfOurs,
    /// Another relay's.
    ByRelay,
    /// Anyone's, of what is not kept here, and may never be.
    OfStrange,
}

/// The rings of one usable set that were asked for.
#[derive(Debug)]
struct Found {
    usable: Arc<UsableSet>,
    since: Instant,
    candidates: Arc<[Candidate]>,
    reach: Reach,
    ours: HashMap<Placement, Ring>,
    strange: HashMap<Placement, Ring>,
}

/// Its relays, nearest first.
pub(crate) type Ring = Arc<[RelayId]>;

impl Rings {
    pub(crate) fn new() -> Self {
        Self { ours: Queue::new(), strange: Queue::new(), found: Mutex::default() }
    }

    /// The ring of this placement, where it needs not be looked for.
    ///
    /// # Errors
    /// [`Refusal::NotReady`] while no relay is known to be usable, [`Refusal::NotHere`] where this relay is too far away
    /// to be in the ring.
    pub(crate) fn known(&self, node: &Node, placement: &Placement) -> Result<Option<Ring>, Refusal> {
        let usable = node.directory.usable();
        if usable.is_empty() {
            return Err(Refusal::NotReady);
        }
        let found = self.lock();
        let Some(found) = found.as_ref().filter(|found| found.is_of(&usable)) else { return Ok(None) };
        if found.reach.is_beyond(placement, &node.id()) {
            return Err(Refusal::NotHere);
        }
        Ok(found.ours.get(placement).or_else(|| found.strange.get(placement)).cloned())
    }

    /// The ring of this placement, in its turn.
    ///
    /// # Errors
    /// Those of [`Self::known`], and [`Refusal::Limit`] where too many wait.
    pub(crate) async fn find(&self, node: &Node, placement: &Placement, asked: Asked) -> Result<Ring, Refusal> {
        let queue = if asked == Asked::OfStrange { &self.strange } else { &self.ours };
        let _place = queue.places.try_acquire().map_err(|_| Refusal::Limit)?;
        let _turn = queue.turn.acquire().await.map_err(|_| Refusal::NotReady)?;
        match self.known(node, placement)? {
            Some(ring) => Ok(ring),
            None => Ok(aside(|| self.look(&node.directory, placement, asked))),
        }
    }

    fn look(&self, directory: &Directory, placement: &Placement, asked: Asked) -> Ring {
        let usable = directory.usable();
        let known =
            self.lock().as_ref().filter(|found| found.is_of(&usable)).map(|found| Arc::clone(&found.candidates));
        let candidates = known.unwrap_or_else(|| self.renew(directory, usable));
        let ring: Ring = ring::ring(placement, directory.params(), candidates.iter().cloned()).into();
        if let Some(found) = &mut *self.lock() {
            found.remember(placement, asked, &ring);
        }
        ring
    }

    /// Forgets the rings of other sets than this one.
    fn renew(&self, directory: &Directory, usable: Arc<UsableSet>) -> Arc<[Candidate]> {
        let candidates = candidates(directory, &usable);
        let (reach, since) = (Reach::of(directory.params(), &candidates), Instant::now());
        let (ours, strange) = Default::default();
        *self.lock() = Some(Found { usable, since, candidates: Arc::clone(&candidates), reach, ours, strange });
        candidates
    }

    fn lock(&self) -> MutexGuard<'_, Option<Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner) // what is half changed is forgotten with its set
    }
}

impl Queue {
    fn new() -> Self {
        Self { places: Semaphore::new(RINGS_WAITING), turn: Semaphore::new(1) }
    }
}

impl Found {
    /// Whether these are the rings of this set, by records that are as good as new.
    fn is_of(&self, usable: &Arc<UsableSet>) -> bool {
        self.since.elapsed() < RINGS_FRESH && (Arc::ptr_eq(&self.usable, usable) || self.usable == *usable)
    }

    fn remember(&mut self, placement: &Placement, asked: Asked, ring: &Ring) {
        let (rings, most) = match asked {
            Asked::OfOurs => (&mut self.ours, RINGS_OWN),
            Asked::ByRelay | Asked::OfStrange => (&mut self.strange, RINGS_KEPT),
        };
        if rings.len() >= most {
            rings.clear(); // they will be found again
        }
        rings.insert(*placement, Arc::clone(ring));
    }
}

/// The usable relays, as their records have them now.
fn candidates(directory: &Directory, usable: &UsableSet) -> Arc<[Candidate]> {
    let view = directory.view();
    let record = |relay: &RelayId| view.get(relay).map(|known| known.record.record().descriptor());
    usable.iter().filter_map(|(relay, class)| Some(Candidate::new(&record(&relay)?, class))).collect()
}
