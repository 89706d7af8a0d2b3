//! Reachability: whether others can dial a relay, which it asks them before it lists itself.
//!
//! Specification: docs/protocol.md, "Reachability". The asked relay dials from a fresh port, since the way back to the
//! one that the asker has spoken to is open behind most firewalls. It dials only the address that the asker's link comes
//! from, each address rarely, and few at once, of which the oldest gives way: nobody else can be made a target, and
//! whoever has many dialled that do not answer keeps nobody waiting who does.

use std::sync::Arc;

use rand::seq::SliceRandom;
use tokio::task::JoinSet;
use tracing::{debug, info};
use trefoil_protocol::{
    directory::{Answer, Reach, Request},
    entry::{RelayAddresses, RelayEntry},
    identity::RelayId,
    ip::{self, IpNet},
    limits::REACH_ASKED,
};

use crate::{
    endpoint::DialError,
    link::Link,
    node::Node,
    questions::{QuestionError, Questions},
    reason::CloseReason,
};

/// What others say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Somebody could dial this relay.
    Reachable,
    /// Nobody could, and somebody tried.
    Unreachable,
    /// Nobody answered; how many were there to ask.
    Unanswered(usize),
}

/// Dials the asker back, at those of its addresses that it comes from.
pub(crate) async fn look(node: &Arc<Node>, link: &Link, relay: RelayId, addresses: &RelayAddresses) -> Vec<Reach> {
    let mut outcomes = Vec::new();
    for address in addresses.iter() {
        let is_there = ip::canonical(link.remote_address().ip()) == address.ip();
        let outcome = if !is_there || !node.directory.params().allows_relay_at(address.ip()) {
            Reach::NotYours
        } else if !node.directory.senders.dial_back(address) {
            Reach::TooSoon
        } else {
            let dialled = dial_from_fresh_port(node, relay, address).await;
            if dialled == Reach::Reached {
                node.directory.note_reached(&relay, address);
            }
            dialled
        };
        outcomes.push(outcome);
    }
    outcomes
}

async fn dial_from_fresh_port(node: &Arc<Node>, relay: RelayId, address: std::net::SocketAddr) -> Reach {
    let endpoint = match (node.sockets)(address) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            debug!(%error, "no socket to dial a relay back from");
            return Reach::TooSoon;
        }
    };
    let place = node.dials_back.enter();
    let dialled = tokio::select! {
        biased;
        dialled = endpoint.dial(relay, address) => Some(dialled),
        () = place.lost() => None,
    };
    let outcome = match dialled {
        Some(Ok(_)) => Reach::Reached,
        Some(Err(DialError::WrongKey | DialError::WrongNetwork)) => Reach::Stranger,
        None | Some(Err(DialError::Address(_) | DialError::Closed)) => Reach::TooSoon, // not tried, or not for long
        Some(Err(_)) => Reach::Silent,
    };
    drop(place);
    endpoint.close(CloseReason::Unspecified);
    endpoint.wait_idle().await;
    outcome
}

/// Asks up to [`REACH_ASKED`] relays in different netgroups to dial this one at these addresses.
pub(crate) async fn ask(node: &Arc<Node>, addresses: RelayAddresses) -> Verdict {
    let mut others = node.directory.acquaintances();
    others.shuffle(&mut node.rng());
    let all = others.len();
    let (mut answers, mut left) = (Vec::new(), others.into_iter());
    let mut groups: Vec<IpNet> = Vec::new();
    // Those who do not answer are replaced, a few times.
    for _ in 0..REACH_ASKED {
        let wanted = REACH_ASKED - answers.len();
        let chosen: Vec<_> =
            left.by_ref().filter(|entry| is_elsewhere(node, entry, &mut groups)).take(wanted).collect();
        if chosen.is_empty() {
            break;
        }
        let mut asking = JoinSet::new();
        for entry in chosen {
            let node = Arc::clone(node);
            asking.spawn(async move { ask_one(&node, &entry, addresses).await });
        }
        answers.extend(asking.join_all().await.into_iter().flatten());
        if answers.contains(&true) || answers.len() >= REACH_ASKED {
            break;
        }
    }
    match answers.as_slice() {
        [] => Verdict::Unanswered(all),
        answers if answers.contains(&true) => Verdict::Reachable,
        _ => Verdict::Unreachable,
    }
}

/// Whether none of the relay's netgroups had its turn; these have it now.
fn is_elsewhere(node: &Node, entry: &RelayEntry, groups: &mut Vec<IpNet>) -> bool {
    let own: Vec<_> = entry.addresses.netgroups().into_iter().flatten().collect();
    let free = node.directory.params().allow_same_netgroup || own.iter().all(|group| !groups.contains(group));
    if free {
        groups.extend(own);
    }
    free
}

/// Whether this relay could dial us; `None` if it did not try.
async fn ask_one(node: &Arc<Node>, entry: &RelayEntry, addresses: RelayAddresses) -> Option<bool> {
    let outcomes = async {
        let link = node.link(entry).await.ok()?;
        let mut questions = Questions::on(&link).await.ok()?;
        let answered = questions.ask(&Request::Reach(addresses)).await.ok()?;
        let outcomes = answered.read(|answer| match answer {
            Answer::Reach(outcomes) => Some(outcomes),
            _ => None,
        });
        questions.finish();
        outcomes.map_err(|error: QuestionError| info!(%error, "a relay did not say whether it can dial this one")).ok()
    };
    let outcomes = outcomes.await?;
    debug!(?outcomes, "a relay was asked to dial this one");
    let tried: Vec<_> =
        outcomes.into_iter().filter(|outcome| !matches!(outcome, Reach::NotYours | Reach::TooSoon)).collect();
    (!tried.is_empty()).then(|| tried.contains(&Reach::Reached))
}
