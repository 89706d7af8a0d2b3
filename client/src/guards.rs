//! Guards: the relays that see this client's address, and the links to them.
//!
//! Specification: docs/protocol.md, "Links" and "Guards". Which relays are guards is the protocol's `guard.rs`; here
//! they are dialled, and what became of that is told to it. Each has a UDP socket of its own, so that two guards cannot
//! tell by the port that they serve the same client.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::Rng;
use tokio::{
    sync::Mutex as AsyncMutex,
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::warn;
use trefoil_protocol::{
    entry::RelayEntry,
    guard::{Attempt, CircuitEnd, GuardSample, NoGuard, SampleRules},
    identity::RelayId,
    limits::{GUARD_IDLE, SHUTDOWN_TIMEOUT},
    params::NetworkParams,
    relays::UsableRelays,
};
use trefoil_relay::{
    clock::Clock,
    endpoint::{Congestion, DialError, Endpoint, LinkIdentity, LinkOptions},
    link::{Link, LinkError},
    reason::CloseReason,
    sources::Loopback,
};

use crate::build::{BuildError, Cause};

pub use trefoil_relay::endpoint::Sockets;

/// Sockets of this machine, for a client of this network.
pub fn system_sockets(params: &NetworkParams, congestion: Congestion) -> Sockets {
    let options = LinkOptions {
        identity: LinkIdentity::Anonymous,
        network: *params.id().as_bytes(),
        congestion,
        loopback: Loopback::Counted,
    };
    Arc::new(move |target| {
        let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Endpoint::bind(SocketAddr::new(any, 0), &options)
    })
}

/// Draws of a guard to see whether there is a better one: with two in use, all but never too few.
const CHOICES: usize = 16;

/// See the file's head.
pub(crate) struct Guards {
    sockets: Sockets,
    clock: Clock,
    sample: Mutex<GuardSample>,
    links: Mutex<BTreeMap<RelayId, Arc<AsyncMutex<Option<Guard>>>>>,
}

struct Guard {
    endpoint: Endpoint,
    link: Link,
    /// When it was last seen to have circuits.
    used: Instant,
}

impl Guards {
    pub(crate) fn new(sockets: Sockets, clock: Clock, sample: GuardSample) -> Self {
        Self { sockets, clock, sample: Mutex::new(sample), links: Mutex::default() }
    }

    /// A copy of what is to be kept.
    pub(crate) fn sample(&self) -> GuardSample {
        self.locked_sample().clone()
    }

    /// Takes in a usable set that most sources agree on.
    pub(crate) fn update(&self, usable: &UsableRelays, rules: &SampleRules<'_>, rng: &mut impl Rng) {
        self.locked_sample().update(usable, rules, self.clock.now(), rng);
    }

    /// The guard for a new circuit: one that is not in `avoid` where there is a choice, else the one that is there since
    /// longest. So a dead guard is not tried twice in a row.
    pub(crate) fn choose(&self, avoid: &[RelayId], rng: &mut impl Rng) -> Result<RelayId, NoGuard> {
        let mut sample = self.locked_sample();
        let now = self.clock.now();
        let last_tried = |guard: &RelayId| avoid.iter().rposition(|relay| relay == guard);
        let mut best = sample.choose(now, rng)?;
        for _ in 0..CHOICES {
            if last_tried(&best).is_none() {
                break;
            }
            let other = sample.choose(now, rng)?;
            if last_tried(&other) < last_tried(&best) {
                best = other;
            }
        }
        Ok(best)
    }

    /// The guards that circuits begin at now.
    pub(crate) fn in_use(&self) -> Vec<RelayId> {
        self.locked_sample().in_use(self.clock.now())
    }

    /// A guard that is not in use, if it is time to see whether it is still there.
    pub(crate) fn feeler(&self, rng: &mut impl Rng) -> Option<RelayId> {
        self.locked_sample().feeler(self.clock.now(), rng)
    }

    /// Takes in how a feeler went.
    pub(crate) fn handle_feeler(&self, relay: &RelayId, attempt: Attempt) {
        self.locked_sample().handle_feeler(relay, attempt);
    }

    /// Takes in how a dial went that was no part of a circuit.
    pub(crate) fn handle_dial(&self, relay: &RelayId, attempt: Attempt) {
        self.locked_sample().handle_dial(relay, attempt, self.clock.now());
    }

    /// Takes in how a circuit went that begins at this relay.
    pub(crate) fn handle_built<T>(&self, guard: &RelayId, built: &Result<T, BuildError>) {
        let now = self.clock.now();
        let mut sample = self.locked_sample();
        let dropped = match built {
            Ok(_) => {
                sample.handle_dial(guard, Attempt::Reached, now);
                sample.handle_circuit(guard, CircuitEnd::Built, now)
            }
            // It is there and has all the circuits that it takes of us: another guard has room, and it is no worse for it.
            Err(error) if error.relay == *guard && matches!(error.cause, Cause::Link(LinkError::CircuitLimit)) => {
                sample.handle_dial(guard, Attempt::Reached, now);
                None
            }
            Err(error) if error.relay == *guard => {
                let offline = matches!(error.cause, Cause::Bind(_) | Cause::Dial(DialError::Address(_)));
                sample.handle_dial(guard, if offline { Attempt::Offline } else { Attempt::Failed }, now);
                None
            }
            Err(_) => {
                sample.handle_dial(guard, Attempt::Reached, now);
                sample.handle_circuit(guard, CircuitEnd::Failed, now)
            }
        };
        if let Some(dropped) = dropped {
            warn!("{dropped}: it may have chosen which of them live, and another takes its place");
        }
    }

    /// The link to this relay, dialled if there is none. Those who ask at once share one dial.
    pub(crate) async fn link(&self, relay: &RelayEntry) -> Result<Link, Cause> {
        let slot = self.slot(relay.id);
        let mut guard = slot.lock().await;
        if let Some(guard) = &*guard
            && !guard.link.is_closed()
        {
            return Ok(guard.link.clone());
        }
        let new = self.dial(relay).await?;
        let link = new.link.clone();
        *guard = Some(new);
        Ok(link)
    }

    /// A link to whoever is at this address, which serves for that relay from then on.
    pub(crate) async fn meet(&self, address: SocketAddr) -> Result<(RelayId, Link), Cause> {
        let endpoint = (self.sockets)(address)?;
        let (relay, link) = endpoint.meet(address).await?;
        let slot = self.slot(relay);
        let mut guard = slot.lock().await;
        if let Some(guard) = &*guard
            && !guard.link.is_closed()
        {
            return Ok((relay, guard.link.clone())); // the other ends with its endpoint
        }
        *guard = Some(Guard { endpoint, link: link.clone(), used: Instant::now() });
        Ok((relay, link))
    }

    /// Closes all links, and waits until the guards know, for at most [`SHUTDOWN_TIMEOUT`].
    pub(crate) async fn close(&self) {
        let slots: Vec<_> = std::mem::take(&mut *self.lock()).into_values().collect();
        let mut closing = JoinSet::new();
        for slot in slots {
            closing.spawn(async move {
                if let Some(guard) = slot.lock().await.take() {
                    guard.endpoint.close(CloseReason::Unspecified);
                    guard.endpoint.wait_idle().await;
                }
            });
        }
        // A guard that does not answer learns of it by silence.
        let _ = timeout(SHUTDOWN_TIMEOUT, async { while closing.join_next().await.is_some() {} }).await;
    }

    /// Closes links that nothing has used for a while: an idle one only tells its guard that this client is there.
    pub(crate) fn let_go_of_idle(&self) {
        self.lock().retain(|_, slot| {
            let Ok(mut guard) = slot.try_lock() else { return true };
            let Some(guard) = guard.as_mut() else { return Arc::strong_count(slot) > 1 };
            if guard.link.circuits() > 0 {
                guard.used = Instant::now();
            }
            let keep = guard.used.elapsed() < GUARD_IDLE && !guard.link.is_closed();
            if !keep {
                guard.endpoint.close(CloseReason::Unspecified);
            }
            keep
        });
    }

    async fn dial(&self, relay: &RelayEntry) -> Result<Guard, Cause> {
        let mut last = Cause::Dial(DialError::Timeout);
        for address in relay.addresses.iter() {
            let endpoint = (self.sockets)(address)?;
            match endpoint.dial(relay.id, address).await {
                Ok(link) => return Ok(Guard { endpoint, link, used: Instant::now() }),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    fn locked_sample(&self) -> MutexGuard<'_, GuardSample> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner) // it is whole after each call
    }

    fn slot(&self, relay: RelayId) -> Arc<AsyncMutex<Option<Guard>>> {
        Arc::clone(self.lock().entry(relay).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RelayId, Arc<AsyncMutex<Option<Guard>>>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
