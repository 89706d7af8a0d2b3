//! Rings as this client sees them: which relays keep what is placed somewhere.
//!
//! Specification: docs/protocol.md, "Rings". The rule is the protocol's; here it meets the relays of this epoch. To place
//! something costs milliseconds where there are thousands of them, so what was asked for is remembered, within bounds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use trefoil_protocol::{
    identity::RelayId,
    limits::RINGS_KEPT,
    relays::UsableRelays,
    ring::{self, Candidate, Placement},
};

use crate::{directory::Directory, source, tunnel::Client};

/// See the file's head.
#[derive(Default)]
pub(crate) struct Rings(Mutex<Option<Kept>>);

struct Kept {
    of: Arc<UsableRelays>,
    candidates: Vec<Candidate>,
    rings: HashMap<Placement, Vec<RelayId>>,
}

impl Client {
    /// Waits until relays are known.
    pub(crate) async fn known(&self) {
        while self.pool().await_usable().await.is_err() {}
    }

    /// The relays that keep what is placed there, nearest first; none while no relays are known.
    pub fn ring(&self, placement: &Placement) -> Vec<RelayId> {
        let Some(usable) = self.pool().usable() else { return Vec::new() };
        self.rings().find(placement, &usable, self.directory())
    }
}

impl Rings {
    fn find(&self, placement: &Placement, usable: &Arc<UsableRelays>, directory: &Directory) -> Vec<RelayId> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner); // each change is one call
        let kept = match &mut *kept {
            Some(kept) if Arc::ptr_eq(&kept.of, usable) => kept,
            other => other.insert(Kept::new(usable, directory)),
        };
        if let Some(ring) = kept.rings.get(placement) {
            return ring.clone();
        }
        let ring = ring::ring(placement, directory.network().0, kept.candidates.iter().cloned());
        if kept.rings.len() >= RINGS_KEPT {
            kept.rings.clear(); // they are found again
        }
        kept.rings.insert(*placement, ring.clone());
        ring
    }
}

impl Kept {
    fn new(usable: &Arc<UsableRelays>, directory: &Directory) -> Self {
        let view = source::lock(directory.view());
        let known = |relay: &RelayId| view.get(relay).map(|known| known.record.record().descriptor());
        let listed = usable.iter().filter_map(|relay| Some((known(&relay.entry.id)?, relay.class)));
        let candidates = listed.map(|(descriptor, class)| Candidate::new(&descriptor, class)).collect();
        Self { of: Arc::clone(usable), candidates, rings: HashMap::new() }
    }
}
