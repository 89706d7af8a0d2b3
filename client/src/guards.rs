//! Links to guards: the relays that see this client's address.
//!
//! Each guard has a UDP socket of its own, so that two guards cannot tell by the port that they serve the same client.
//! Specification: docs/protocol.md, "Links".

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::Mutex as AsyncMutex,
    task::JoinSet,
    time::{Instant, timeout},
};
use trefoil_protocol::{
    entry::RelayEntry,
    identity::RelayId,
    limits::{GUARD_IDLE, SHUTDOWN_TIMEOUT},
    params::NetworkParams,
};
use trefoil_relay::{
    endpoint::{Congestion, DialError, Endpoint, LinkIdentity, LinkOptions},
    link::Link,
    reason::CloseReason,
    sources::Loopback,
};

use crate::build::Cause;

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

/// See the file's head.
pub(crate) struct Guards {
    sockets: Sockets,
    links: Mutex<HashMap<RelayId, Arc<AsyncMutex<Option<Guard>>>>>,
}

struct Guard {
    endpoint: Endpoint,
    link: Link,
    /// When it was last seen to have circuits.
    used: Instant,
}

impl Guards {
    pub(crate) fn new(sockets: Sockets) -> Self {
        Self { sockets, links: Mutex::default() }
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

    /// Closes all links, and waits until the guards know, for at most [`SHUTDOWN_TIMEOUT`].
    pub(crate) async fn close(&self) {
        let slots: Vec<_> = self.lock().drain().map(|(_, slot)| slot).collect();
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

    fn slot(&self, relay: RelayId) -> Arc<AsyncMutex<Option<Guard>>> {
        Arc::clone(self.lock().entry(relay).or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RelayId, Arc<AsyncMutex<Option<Guard>>>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
