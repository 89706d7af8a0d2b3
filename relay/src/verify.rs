//! Verification: a relay uses another only after it has found it itself where it says that it is.
//!
//! Specification: docs/protocol.md, "Gossip". Each address is tried rarely, whatever records list it, so that nobody can
//! turn relays against it; and a newcomer not by all at once.

use std::{collections::HashMap, sync::Arc};

use rand::RngExt;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, timeout_at},
};
use trefoil_protocol::{
    entry::RelayEntry,
    identity::RelayId,
    limits::{VERIFY_BACKOFF_MAX, VERIFY_DIALS_EVERY, VERIFY_PATIENCE_PART, VERIFY_PAUSE, VERIFY_RUNNING},
};

use crate::{endpoint::Effort, node::Node};

/// When a relay is looked for, and how much later again if it does not answer.
struct Later {
    at: Instant,
    backoff: Duration,
    /// How often it did not answer.
    failures: u32,
}

/// Looks for the relays of the view that were not found yet, until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    let mut later: HashMap<RelayId, Later> = HashMap::new();
    loop {
        let unreached = node.directory.unreached();
        later.retain(|relay, _| unreached.binary_search_by_key(relay, |entry| entry.id).is_ok());
        let (now, patience) = (Instant::now(), patience(&node));
        for entry in &unreached {
            let at = || now + patience.mul_f64(node.rng().random());
            later.entry(entry.id).or_insert_with(|| Later { at: at(), backoff: pause(&node), failures: 0 });
        }
        let due = due(&unreached, &later, now);
        if due.is_empty() {
            let next = later.values().map(|later| later.at).min();
            wait(&node, next).await;
            continue;
        }
        let mut looking = JoinSet::new();
        for entry in due {
            let (node, failures) = (Arc::clone(&node), later.get(&entry.id).map_or(0, |later| later.failures));
            looking.spawn(async move { (look(&node, &entry, Effort::after(failures)).await, entry.id) });
        }
        for (looked, relay) in looking.join_all().await {
            match (looked, later.get_mut(&relay)) {
                (Looked::There, _) => drop(later.remove(&relay)),
                (Looked::TooSoon, Some(later)) => later.at = Instant::now() + pause(&node),
                (Looked::Gone, Some(later)) => {
                    later.at = Instant::now() + later.backoff;
                    later.backoff = (later.backoff * 2).min(VERIFY_BACKOFF_MAX);
                    later.failures += 1;
                }
                (Looked::TooSoon | Looked::Gone, None) => {}
            }
        }
    }
}

/// Within which time a relay that is new here is looked for: at once in a young network, and by a relay that is new itself.
fn patience(node: &Node) -> Duration {
    let rules = &node.directory.params().directory;
    let is_young = node.directory.usable().len() < rules.min_usable.into();
    if is_young { Duration::ZERO } else { Duration::from_secs(rules.settle.into()) / VERIFY_PATIENCE_PART }
}

/// Between two looks at one address: an epoch is enough where epochs are short, since records are as short-lived.
fn pause(node: &Node) -> Duration {
    VERIFY_PAUSE.min(Duration::from_secs(node.directory.params().directory.epoch.get().into()))
}

async fn wait(node: &Node, until: Option<Instant>) {
    let news = node.directory.unseen.notified();
    match until {
        Some(until) => drop(timeout_at(until, news).await),
        None => news.await,
    }
}

/// The relays to look for now: those first that wait longest, since whoever makes identities can choose their ids.
fn due(unreached: &[RelayEntry], later: &HashMap<RelayId, Later>, now: Instant) -> Vec<RelayEntry> {
    let since = |entry: &RelayEntry| later.get(&entry.id).map_or(now, |later| later.at);
    let mut due: Vec<_> = unreached.iter().filter(|entry| since(entry) <= now).collect();
    due.sort_by_key(|entry| since(entry)); // those of one moment stay in order, so that a simulation repeats itself
    due.into_iter().take(VERIFY_RUNNING).cloned().collect()
}

/// What became of looking for a relay.
enum Looked {
    There,
    /// It was not at any of its addresses.
    Gone,
    /// An address was not tried, because something that listed it was looked for there a short time ago.
    TooSoon,
}

impl Effort {
    /// A dial costs thirty times as much as a question, and relays that are gone stay in views for two days.
    fn after(failures: u32) -> Self {
        if failures.is_multiple_of(VERIFY_DIALS_EVERY) { Self::Dial } else { Self::Ask }
    }
}

async fn look(node: &Arc<Node>, entry: &RelayEntry, effort: Effort) -> Looked {
    let mut looked = Looked::Gone;
    for address in entry.addresses.iter().filter(|address| node.directory.params().allows_relay_at(address.ip())) {
        if !node.links.is_open(entry.id, address) && !node.directory.senders.dial(address, pause(node)) {
            looked = Looked::TooSoon;
        } else if node.links.look(entry.id, address, effort).await.is_ok() {
            node.directory.note_reached(&entry.id, address);
            return Looked::There;
        }
    }
    looked
}
