//! Settling: this relay's part in agreeing on who was in time for the next epoch's usable set.
//!
//! Specification: docs/protocol.md, "Settling". The rules are the protocol's (`settling.rs`); here they meet the view
//! and this relay's key. Where both are locked, the settling is locked first.

use std::sync::{MutexGuard, PoisonError};

use tracing::debug;
use trefoil_protocol::{
    epoch::UnixSeconds,
    identity::{RelayId, RelaySecret},
    limits::DIRECTORY_FRAME,
    settling::Settling,
    sighting::{Sighting, SightingName},
    view::{Known, View},
};

use super::Directory;
use crate::{counters::Cause, news::Item};

impl Directory {
    /// Looks at the view if it is time, and says whom this relay saw if it is an observer.
    pub(crate) fn settle(&self, identity: &RelaySecret) {
        let now = self.now();
        let mut settling = self.settling();
        settling.look(now, || {
            let view = self.view();
            view.iter().filter(|(_, known)| is_candidate(&view, known, now)).map(|(relay, _)| *relay).collect()
        });
        {
            let view = self.view();
            settling.weigh(now, |relay| view.get(relay).is_some());
        }
        for relays in settling.to_sign(now) {
            let sighting = Sighting::sign(settling.epoch(), relays, &self.params.id(), identity);
            self.keep_sighting(&mut settling, sighting, None);
        }
    }

    /// When it has to look next.
    pub(crate) fn next_look(&self) -> Option<UnixSeconds> {
        self.settling().next_look()
    }

    /// Takes what somebody says is a sighting; whether it is news.
    ///
    /// # Errors
    /// [`Cause::Sighting`], which was counted.
    pub(crate) fn take_sighting(&self, bytes: &[u8], from: RelayId) -> Result<bool, Cause> {
        let taken = self.check_sighting(bytes, from);
        taken.inspect_err(|cause| self.counters.count(*cause))
    }

    fn check_sighting(&self, bytes: &[u8], from: RelayId) -> Result<bool, Cause> {
        let sighting = Sighting::decode(bytes).map_err(|_| Cause::Sighting)?;
        if !self.settling().would_take(&sighting, self.now()) {
            return Ok(false);
        }
        sighting.check(&self.params.id()).map_err(|_| Cause::Sighting)?;
        Ok(self.keep_sighting(&mut self.settling(), sighting, Some(from)))
    }

    fn keep_sighting(&self, settling: &mut Settling, sighting: Sighting, from: Option<RelayId>) -> bool {
        let now = self.now();
        let view = self.view();
        let is_news = settling.take(sighting.clone(), now, |relay| view.get(relay).is_some());
        drop(view);
        if is_news {
            debug!(relays = sighting.relays().len(), "a sighting is news");
            self.news.add(Item::Sighting(sighting), from);
        }
        is_news
    }

    /// The names of the sightings that are here, while they count.
    pub(crate) fn sighting_names(&self) -> Option<Vec<SightingName>> {
        let settling = self.settling();
        settling.is_open(self.now()).then(|| settling.names().collect())
    }

    /// The sightings that are not among these, as many as one frame may take, while they count.
    pub(crate) fn sightings_but(&self, names: &[SightingName]) -> Vec<Vec<u8>> {
        let settling = self.settling();
        if !settling.is_open(self.now()) {
            return vec![];
        }
        let mut room = DIRECTORY_FRAME;
        let fits = |sighting: &Vec<u8>| {
            room = room.saturating_sub(sighting.len());
            room > 0
        };
        settling.others(names).map(Sighting::encode).take_while(fits).collect()
    }

    pub(super) fn settling(&self) -> MutexGuard<'_, Settling> {
        self.settling.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

/// Whether a relay that is known counts for the next epoch: it neither leaves nor is barred.
pub(super) fn is_candidate(view: &View, known: &Known, now: UnixSeconds) -> bool {
    let record = known.record.record();
    !record.is_leaving() && !view.is_barred(&record.relay(), now)
}
