//! Asking relays about the network: those that are known by their addresses, and sources through circuits.

use std::{sync::Arc, time::Duration};

use rand::{
    RngExt,
    seq::{IndexedRandom, SliceRandom},
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tracing::debug;
use trefoil_protocol::{
    entry::RelayEntry,
    guard::Attempt,
    identity::RelayId,
    limits::{
        DOOR_GRACE, SOURCE_HEDGE, SOURCES_CIRCUITS, SOURCES_EXTRA, SOURCES_MIN, SOURCES_PATIENCE, SOURCES_TIMEOUT,
    },
    majority::SourceSet,
    relays::{UsableRelay, UsableRelays},
    usable::AgeClass,
};
use trefoil_relay::{link::Link, reason::CloseReason};

use super::{Beginning, Directory, Door, Trouble};
use crate::{
    build::Cause,
    pool::NoCircuit,
    source::{Source, SourceError},
};

/// What a relay said.
pub(super) struct Told {
    relay: RelayEntry,
    /// Its clock.
    pub(super) minutes: u32,
    pub(super) set: SourceSet,
    /// To ask it further.
    source: Option<Source>,
}

/// Why a relay said nothing.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("{0}")]
    Link(#[from] Cause),
    #[error("{0}")]
    Circuit(#[from] NoCircuit),
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("it shows no record of its own")]
    Unlisted,
    #[error("it is this node's own relay")]
    Own,
    #[error("asking it failed")]
    Internal,
}

impl Told {
    pub(super) fn relay(&self) -> RelayId {
        self.relay.id
    }

    /// Ends the stream.
    pub(super) fn finish(&mut self) {
        if let Some(source) = self.source.take() {
            source.finish();
        }
    }
}

impl Directory {
    /// Asks these relays over links for all that they know. Waits for all of them; but when one has answered, for the
    /// others only [`DOOR_GRACE`].
    pub(super) async fn visit(self: &Arc<Self>, doors: Vec<Door>, beginning: Beginning) -> Result<Vec<Told>, Trouble> {
        let tried = doors.len();
        let mut visits = JoinSet::new();
        for door in doors {
            visits.spawn(Arc::clone(self).visit_one(door, beginning));
        }
        let mut told = Vec::new();
        let mut last = Unheard::Internal;
        let mut deadline = Instant::now() + SOURCES_TIMEOUT;
        while let Ok(Some(visit)) = timeout_at(deadline, visits.join_next()).await {
            match visit.unwrap_or(Err(Unheard::Internal)) {
                Ok(new) => {
                    told.push(new);
                    deadline = deadline.min(Instant::now() + DOOR_GRACE);
                }
                Err(error) => {
                    debug!(%error, "a relay told nothing of the network");
                    last = error;
                }
            }
        }
        if told.is_empty() { Err(Trouble::Silent { tried, last: last.to_string() }) } else { Ok(told) }
    }

    async fn visit_one(self: Arc<Self>, door: Door, beginning: Beginning) -> Result<Told, Unheard> {
        let (relay, link) = match &door {
            Door::Named(relay) => (relay.id, self.link_to(relay, beginning).await?),
            Door::Hint(hint) => self.pool.guards.meet(hint.address).await?,
        };
        if let Door::Hint(hint) = &door
            && self.is_own(&relay)
        {
            self.hints.note_itself(hint);
            link.close(CloseReason::Unspecified);
            return Err(Unheard::Own);
        }
        let mut source = Source::on_link(relay, &link).await?;
        let minutes = source.hello(&self.params).await?.minutes;
        source.pull(&self.view, &self.params, || self.now(), self.pool.rng()).await?;
        let set = source.usable(self.pool.rng().random()).await?;
        let relay = match door {
            Door::Named(relay) => relay,
            Door::Hint(hint) => {
                let entry = self.entry(&relay).ok_or(Unheard::Unlisted)?;
                self.hints.note_met(&hint);
                entry
            }
        };
        Ok(Told { relay, minutes, set, source: Some(source) })
    }

    async fn link_to(&self, relay: &RelayEntry, beginning: Beginning) -> Result<Link, Cause> {
        let linked = self.pool.guards.link(relay).await;
        if beginning == Beginning::Guards {
            let attempt = if linked.is_ok() { Attempt::Reached } else { Attempt::Failed };
            self.pool.guards.handle_dial(&relay.id, attempt);
        }
        linked
    }

    /// The usable sets of `wanted` relays in different netgroups: of some that were visited, and of at least
    /// [`SOURCES_CIRCUITS`] others, which are asked through circuits that begin at `through`, or else at guards. As many
    /// as answer.
    pub(super) async fn ask(
        self: &Arc<Self>,
        visits: Vec<Told>,
        relays: Arc<UsableRelays>,
        through: &[RelayId],
        wanted: usize,
    ) -> Vec<Told> {
        let mut asked = Vec::new();
        let mut told = Vec::new();
        let visited: Vec<_> = visits.iter().map(Told::relay).collect();
        for visit in visits {
            let relay = relays.find(&visit.relay()).cloned();
            let relay = relay.unwrap_or_else(|| unlisted(visit.relay.clone())); // it counts in its netgroup, too
            if told.len() + SOURCES_CIRCUITS < wanted && self.fits(&relay, &asked) {
                asked.push(relay);
                told.push(visit);
            }
        }
        let mut left: Vec<_> = relays.iter().filter(|relay| !visited.contains(&relay.entry.id)).cloned().collect();
        left.shuffle(&mut self.pool.rng());
        let mut asking = JoinSet::new();
        let start = Instant::now();
        let mut extra = 0;
        while told.len() < wanted && start.elapsed() < SOURCES_TIMEOUT {
            while told.len() + asking.len() < wanted + extra
                && let Some(at) = left.iter().position(|relay| self.fits(relay, &asked))
            {
                let relay = left.swap_remove(at);
                asked.push(relay.clone());
                let first = through.choose(&mut self.pool.rng()).copied();
                asking.spawn(Arc::clone(self).ask_one(Arc::clone(&relays), first, relay));
            }
            match timeout(SOURCE_HEDGE, asking.join_next()).await {
                Ok(None) => break, // nobody is left to ask
                Ok(Some(Ok((_, Ok(new))))) => told.push(new),
                Ok(Some(Ok((relay, Err(error))))) => {
                    debug!(%error, "a source did not answer");
                    asked.retain(|other| other.entry.id != relay);
                }
                Ok(Some(Err(_))) => {}
                Err(_) if told.len() >= SOURCES_MIN && start.elapsed() >= SOURCES_PATIENCE => break,
                Err(_) => extra = (extra + 1).min(SOURCES_EXTRA),
            }
        }
        told
    }

    fn fits(&self, relay: &UsableRelay, asked: &[UsableRelay]) -> bool {
        let same = self.params.allow_same_netgroup;
        relay.is_apart(asked, same) && relay.is_apart(&self.own, same)
    }

    async fn ask_one(
        self: Arc<Self>,
        relays: Arc<UsableRelays>,
        first: Option<RelayId>,
        relay: UsableRelay,
    ) -> (RelayId, Result<Told, Unheard>) {
        let id = relay.entry.id;
        let asked = async {
            let circuit = self.pool.circuit_to(&relays, first, &relay).await?;
            let mut source = Source::on_circuit(circuit).await?;
            let minutes = source.hello(&self.params).await?.minutes;
            let set = source.usable(self.pool.rng().random()).await?;
            Ok(Told { relay: relay.entry, minutes, set, source: Some(source) })
        };
        (id, asked.await)
    }

    /// Asks sources for the records that they list and nobody has shown us.
    pub(super) async fn pull_again(self: &Arc<Self>, sources: &mut [Told]) {
        let mut pulling = JoinSet::new();
        for mut source in sources.iter_mut().filter_map(|told| told.source.take()) {
            let directory = Arc::clone(self);
            pulling.spawn(async move {
                let rng = directory.pool.rng();
                let pulled = source.pull(&directory.view, &directory.params, || directory.now(), rng).await;
                if let Err(error) = pulled {
                    debug!(%error, relay = %source.relay().short(), "a source did not show what it lists");
                }
                source.finish();
            });
        }
        let _ = timeout(Duration::from_secs(10), async { while pulling.join_next().await.is_some() {} }).await;
    }
}

/// A relay that was named to us and that nobody lists.
fn unlisted(entry: RelayEntry) -> UsableRelay {
    UsableRelay { entry, class: AgeClass::New, family: None }
}
