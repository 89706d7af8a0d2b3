//! A node's links to relays: one for new circuits to each, whoever dialled it.
//!
//! Specification: docs/protocol.md, "Links". Dials of one relay at the same time are one dial, and a relay that failed
//! is left alone for a while. Links of anonymous clients are not here, and no task is spawned: what is over goes when
//! the table is next changed, by [`Links::remove`], or while somebody runs [`Links::keep_clean`].

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval},
};
use trefoil_protocol::{
    identity::RelayId,
    limits::{DIAL_BACKOFF_MAX, DIAL_BACKOFF_MIN, HANDSHAKE_TIMEOUT, LINK_DRAIN, LINK_IDLE_KEPT, LINKS_MAX},
};

use crate::{
    endpoint::{DialError, Effort, Endpoint},
    link::{Dialler, Link},
    reason::CloseReason,
};

/// Between two looks at which links are over.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The links of one endpoint to relays. A clone is the same table.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    dialled: Option<mpsc::Sender<Link>>,
    table: Mutex<Table>,
}

struct Table {
    own: Option<RelayId>,
    entries: BTreeMap<RelayId, Entry>, // in order, so that a simulation repeats itself
    /// Second links, which take no new circuits, and when they were last seen to have any.
    draining: Vec<(Link, Instant)>,
    /// Since when nothing is open on the links of these relays.
    idle: BTreeMap<RelayId, Instant>,
}

enum Entry {
    Open(Link),
    Dialling { outcome: Outcome, failures: Failures },
    Failed(Failures),
}

type Outcome = watch::Receiver<Option<Result<Link, DialError>>>;

/// Of one relay, by the address that was dialled.
type Failures = HashMap<SocketAddr, Failure>;

struct Failure {
    error: DialError,
    until: Instant,
    backoff: Duration,
}

/// What one caller of [`Links::get`] is to do.
enum Step {
    Use(Link),
    GiveUp(DialError),
    Wait(Outcome),
    Dial(Turn),
}

/// One caller's turn to dial, for all who wait. Dropped before its end, it lets the next one dial.
struct Turn {
    links: Links,
    relay: RelayId,
    address: SocketAddr,
    outcome: watch::Sender<Option<Result<Link, DialError>>>,
}

impl Links {
    /// The links of a client, whose peers open no circuits.
    pub fn new(endpoint: Endpoint) -> Self {
        Self::over(endpoint, None)
    }

    /// The links of a relay: each one that it dials goes to `dialled` too, so that the peer's circuits are accepted.
    ///
    /// The channel needs room for the links that are not taken from it yet: where it is full, dials fail.
    pub fn serving(endpoint: Endpoint, dialled: mpsc::Sender<Link>) -> Self {
        Self::over(endpoint, Some(dialled))
    }

    fn over(endpoint: Endpoint, dialled: Option<mpsc::Sender<Link>>) -> Self {
        let table =
            Table { own: endpoint.own_id(), entries: BTreeMap::new(), draining: Vec::new(), idle: BTreeMap::new() };
        Self(Arc::new(Inner { endpoint, dialled, table: Mutex::new(table) }))
    }

    /// A link to this relay: the open one, or a new one dialled at this address. Cancel-safe.
    ///
    /// # Errors
    /// [`DialError`], also of a dial that failed a short time ago: [`DIAL_BACKOFF_MIN`] at first, doubling up to
    /// [`DIAL_BACKOFF_MAX`]. Another address is tried at once.
    pub async fn get(&self, relay: RelayId, address: SocketAddr) -> Result<Link, DialError> {
        loop {
            match self.step(relay, address) {
                Step::Use(link) => return Ok(link),
                Step::GiveUp(error) => return Err(error),
                Step::Dial(turn) => {
                    let dialled = self.0.endpoint.dial(relay, address).await;
                    return turn.end(dialled);
                }
                Step::Wait(mut outcome) => {
                    if let Ok(ended) = outcome.wait_for(Option::is_some).await
                        && let Some(result) = ended.clone()
                    {
                        return result;
                    } // else its dialler gave up: perhaps it is our turn
                }
            }
        }
    }

    /// Whether a link to this relay at this address is open.
    pub fn is_open(&self, relay: RelayId, address: SocketAddr) -> bool {
        self.table().open(relay).is_some_and(|link| link.remote_address() == address)
    }

    /// Whether this relay is at this address: an open link says so, or the relay itself.
    ///
    /// # Errors
    /// As [`Endpoint::look`].
    pub async fn look(&self, relay: RelayId, address: SocketAddr, effort: Effort) -> Result<(), DialError> {
        if self.is_open(relay, address) {
            return Ok(());
        }
        self.0.endpoint.look(relay, address, effort).await
    }

    /// Dials whoever is at this address. The peer's circuits are accepted, and its link is nobody's until it is
    /// [inserted](Self::insert).
    ///
    /// # Errors
    /// As [`Endpoint::meet`]; nothing is remembered of a failure.
    pub async fn meet(&self, address: SocketAddr) -> Result<(RelayId, Link), DialError> {
        let (relay, link) = self.0.endpoint.meet(address).await?;
        Ok((relay, self.announce(link)?))
    }

    /// Adds a link that was accepted from a relay, or on which it was met. Of two links to one relay, the one dialled by
    /// the smaller id stays for new circuits; of two by the same dialler, the newer; and the newer, too, where the other
    /// is older than a dial can take, since then the relay has lost it. The other ends with its circuits.
    ///
    /// Links of anonymous peers are left out.
    pub fn insert(&self, accepted: &Link) {
        let Some(relay) = accepted.peer() else { return };
        let mut table = self.table();
        table.sweep(Instant::now());
        table.put(relay, accepted.clone());
    }

    /// Forgets a link that is closed.
    pub fn remove(&self, link: &Link) {
        let mut table = self.table();
        table.draining.retain(|(draining, _)| draining.id() != link.id());
        if let Some(relay) = link.peer()
            && table.open(relay).is_some_and(|open| open.id() == link.id())
        {
            table.entries.remove(&relay);
        }
    }

    /// Lets go of what is over, for as long as it is polled: second links close here even if nothing else changes.
    pub async fn keep_clean(&self) {
        let mut ticks = interval(SWEEP_EVERY);
        loop {
            let now = ticks.tick().await;
            self.table().sweep(now);
        }
    }

    /// Closes links that this node has dialled and on which nothing was open for [`LINK_IDLE_KEPT`], but for those to
    /// these relays: each costs both ends a packet now and then. To be called every few seconds.
    pub fn let_go_of_idle(&self, kept: &[RelayId]) {
        let now = Instant::now();
        let mut table = self.table();
        let Table { entries, idle, .. } = &mut *table;
        idle.retain(|relay, _| matches!(entries.get(relay), Some(Entry::Open(link)) if link.is_idle()));
        for (relay, entry) in entries {
            let Entry::Open(link) = entry else { continue };
            if link.is_idle() && link.dialler() == Dialler::Us && !kept.contains(relay) {
                let since = *idle.entry(*relay).or_insert(now);
                if now >= since + LINK_IDLE_KEPT {
                    link.close(CloseReason::Unspecified);
                }
            }
        }
    }

    /// How many links are open for new circuits.
    pub fn count(&self) -> usize {
        self.table().entries.values().filter(|entry| matches!(entry, Entry::Open(link) if !link.is_closed())).count()
    }

    /// Has the circuits accepted that the peer opens on a link that was dialled here.
    fn announce(&self, link: Link) -> Result<Link, DialError> {
        let Some(dialled) = &self.0.dialled else { return Ok(link) };
        dialled.try_send(link.clone()).map(|()| link.clone()).map_err(|_| {
            link.close(CloseReason::Limit);
            DialError::Limit
        })
    }

    fn step(&self, relay: RelayId, address: SocketAddr) -> Step {
        let now = Instant::now();
        let mut table = self.table();
        match table.entries.get(&relay) {
            Some(Entry::Open(link)) if !link.is_closed() => return Step::Use(link.clone()),
            Some(Entry::Dialling { outcome, .. }) => return Step::Wait(outcome.clone()),
            Some(Entry::Failed(failures)) => match failures.get(&address) {
                Some(failure) if now < failure.until => return Step::GiveUp(failure.error.clone()),
                _ => {}
            },
            Some(Entry::Open(_)) | None => {}
        }
        table.sweep(now);
        let failures = table.take_failures(relay);
        if table.entries.len() >= LINKS_MAX {
            return Step::GiveUp(DialError::Limit);
        }
        let (sender, outcome) = watch::channel(None);
        table.entries.insert(relay, Entry::Dialling { outcome, failures });
        Step::Dial(Turn { links: self.clone(), relay, address, outcome: sender })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

impl Turn {
    /// Enters what the dial gave, and tells those who wait what they all get.
    fn end(self, dialled: Result<Link, DialError>) -> Result<Link, DialError> {
        let dialled = dialled.and_then(|link| self.links.announce(link));
        let mut table = self.links.table();
        let result = match dialled {
            Ok(link) => Ok(table.put(self.relay, link)),
            Err(error) => match table.open(self.relay) {
                Some(link) => Ok(link.clone()), // the relay dialled us meanwhile
                None => Err(self.remember(&mut table, error)),
            },
        };
        drop(table);
        self.outcome.send_replace(Some(result.clone()));
        result
    }

    fn remember(&self, table: &mut Table, error: DialError) -> DialError {
        if table.own_turn(self).is_none() {
            return error;
        }
        let mut failures = table.take_failures(self.relay);
        let last = failures.get(&self.address).map(|failure| failure.backoff);
        let backoff = last.map_or(DIAL_BACKOFF_MIN, |last| (last * 2).min(DIAL_BACKOFF_MAX));
        let failure = Failure { error: error.clone(), until: Instant::now() + backoff, backoff };
        failures.insert(self.address, failure);
        table.entries.insert(self.relay, Entry::Failed(failures));
        error
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut table = self.links.table();
        if table.own_turn(self).is_some() {
            let failures = table.take_failures(self.relay);
            if !failures.is_empty() {
                table.entries.insert(self.relay, Entry::Failed(failures));
            }
        }
    }
}

impl Table {
    /// Takes a relay's entry out, for what it remembers of failed dials.
    fn take_failures(&mut self, relay: RelayId) -> Failures {
        match self.entries.remove(&relay) {
            Some(Entry::Failed(failures) | Entry::Dialling { failures, .. }) => failures,
            Some(Entry::Open(_)) | None => Failures::new(),
        }
    }

    /// Enters a link; gives back the one that new circuits to its relay use from here on.
    fn put(&mut self, relay: RelayId, link: Link) -> Link {
        let (stays, drains) = match self.open(relay) {
            None => (link, None),
            Some(open) if open.id() == link.id() => (link, None),
            Some(open) if self.prefers(relay, &link, open) => (link, Some(open.clone())),
            Some(open) => (open.clone(), Some(link)),
        };
        self.draining.extend(drains.map(|link| (link, Instant::now())));
        self.entries.insert(relay, Entry::Open(stays.clone()));
        stays
    }

    fn prefers(&self, relay: RelayId, new: &Link, open: &Link) -> bool {
        let smaller = if self.own.is_some_and(|own| own < relay) { Dialler::Us } else { Dialler::Peer };
        new.dialler() == open.dialler() || new.dialler() == smaller || open.age() >= HANDSHAKE_TIMEOUT
    }

    fn open(&self, relay: RelayId) -> Option<&Link> {
        match self.entries.get(&relay) {
            Some(Entry::Open(link)) if !link.is_closed() => Some(link),
            _ => None,
        }
    }

    /// The entry of this very dial, if it is still there.
    fn own_turn(&self, turn: &Turn) -> Option<&Entry> {
        self.entries.get(&turn.relay).filter(
            |entry| matches!(entry, Entry::Dialling { outcome, .. } if outcome.same_channel(&turn.outcome.subscribe())),
        )
    }

    /// Forgets what is over, and closes second links that are no longer used.
    fn sweep(&mut self, now: Instant) {
        self.entries.retain(|_, entry| match entry {
            Entry::Open(link) => !link.is_closed(),
            Entry::Dialling { .. } => true,
            Entry::Failed(failures) => {
                failures.retain(|_, failure| now < failure.until + DIAL_BACKOFF_MAX);
                !failures.is_empty()
            }
        });
        self.draining.retain_mut(|(link, used)| {
            if link.circuits() > 0 {
                *used = now;
            }
            let over = now >= *used + LINK_DRAIN;
            if over {
                link.close(CloseReason::Duplicate);
            }
            !over && !link.is_closed()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        endpoint::{Congestion, LinkIdentity, LinkOptions},
        sources::Loopback,
    };

    #[tokio::test]
    async fn a_relay_that_failed_at_two_addresses_is_left_alone_at_both() {
        let identity = LinkIdentity::Anonymous;
        let congestion = Congestion::Cubic;
        let options = LinkOptions { identity, network: [0; 32], congestion, loopback: Loopback::Exempt };
        let links = Links::new(Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), &options).unwrap());
        let relay = RelayId::from_bytes([1; 32]);
        let addresses = [SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2))];
        for address in addresses {
            let Step::Dial(turn) = links.step(relay, address) else { panic!("{address} was not dialled yet") };
            assert!(turn.end(Err(DialError::Timeout)).is_err());
        }
        for address in addresses {
            assert!(matches!(links.step(relay, address), Step::GiveUp(DialError::Timeout)), "{address}");
        }
    }
}
