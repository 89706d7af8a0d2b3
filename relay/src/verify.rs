//! Verification: a relay uses another only after it has dialled it itself.
//!
//! Specification: docs/protocol.md, "Gossip". Each address is dialled rarely, whatever records list it, so that nobody
//! can turn relays against it. A newcomer dials everyone itself: whoever waits for that need not dial it.

use std::{collections::HashMap, sync::Arc};

use rand::RngExt;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, timeout_at},
};
use trefoil_protocol::{
    entry::RelayEntry,
    identity::RelayId,
    limits::{VERIFY_BACKOFF_MAX, VERIFY_BACKOFF_MIN, VERIFY_PATIENCE_PART, VERIFY_RUNNING},
};

use crate::node::Node;

/// When a relay is dialled, and how much later again if it does not answer.
struct Later {
    at: Instant,
    backoff: Duration,
}

/// Dials the relays of the view that nobody here has dialled, until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    let mut later: HashMap<RelayId, Later> = HashMap::new();
    loop {
        let unreached = node.directory.unreached();
        later.retain(|relay, _| unreached.binary_search_by_key(relay, |entry| entry.id).is_ok());
        let (now, patience) = (Instant::now(), patience(&node));
        for entry in &unreached {
            let at = || now + patience.mul_f64(node.rng().random());
            later.entry(entry.id).or_insert_with(|| Later { at: at(), backoff: VERIFY_BACKOFF_MIN });
        }
        let is_due = |entry: &&RelayEntry| later.get(&entry.id).is_none_or(|later| later.at <= now);
        let due: Vec<_> = unreached.iter().filter(is_due).take(VERIFY_RUNNING).cloned().collect();
        if due.is_empty() {
            let next = later.values().map(|later| later.at).min();
            wait(&node, next).await;
            continue;
        }
        let mut looking = JoinSet::new();
        for entry in due {
            let node = Arc::clone(&node);
            looking.spawn(async move { (look(&node, &entry).await, entry.id) });
        }
        for (is_there, relay) in looking.join_all().await {
            if is_there {
                later.remove(&relay);
            } else if let Some(later) = later.get_mut(&relay) {
                later.at = Instant::now() + later.backoff;
                later.backoff = (later.backoff * 2).min(VERIFY_BACKOFF_MAX);
            }
        }
    }
}

/// For how long a newcomer may dial this relay first: none in a young network, and none for a relay that is new itself.
fn patience(node: &Node) -> Duration {
    let rules = &node.directory.params().directory;
    let is_young = node.directory.usable().len() < rules.min_usable.into();
    if is_young { Duration::ZERO } else { Duration::from_secs(rules.settle.into()) / VERIFY_PATIENCE_PART }
}

async fn wait(node: &Node, until: Option<Instant>) {
    let news = node.directory.unseen.notified();
    match until {
        Some(until) => drop(timeout_at(until, news).await),
        None => news.await,
    }
}

/// Whether the relay is at one of its addresses.
async fn look(node: &Arc<Node>, entry: &RelayEntry) -> bool {
    for address in entry.addresses.iter() {
        let allowed = node.directory.params().allows_relay_at(address.ip());
        if allowed && node.directory.senders.dial(address) && node.links.look(entry.id, address).await.is_ok() {
            node.directory.note_reached(&entry.id, address);
            return true;
        }
    }
    false
}
