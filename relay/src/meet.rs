//! Meeting: dialling the addresses of hints (`hints.rs`), and getting to know whoever is there.
//!
//! Specification: docs/protocol.md, "Hints". A relay that is met is talked to like a neighbour, once. Its own record
//! comes with all others, and from then on it is a relay like any; without one it stays a stranger.

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::{debug, info};
use trefoil_protocol::limits::HINTS_RUNNING;

use crate::{endpoint::DialError, gossip, hints::Hint, node::Node, reason::CloseReason};

/// Follows hints, until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    let mut meeting = JoinSet::new();
    loop {
        let room = HINTS_RUNNING - meeting.len();
        for hint in node.hints.due(room, || node.rng(), |hint| !node.directory.is_reached_at(hint.address)) {
            meeting.spawn(follow(Arc::clone(&node), hint));
        }
        tokio::select! {
            biased; // both work: so that a simulation repeats itself
            Some(_) = meeting.join_next() => {}
            () = node.hints.wait(), if meeting.len() < HINTS_RUNNING => {}
        }
    }
}

async fn follow(node: Arc<Node>, hint: Hint) {
    let (relay, link) = match node.links.meet(hint.address).await {
        Ok(met) => met,
        Err(DialError::Itself) => return node.hints.note_itself(&hint),
        Err(error) => return debug!(%error, "a hint led to nobody"),
    };
    node.directory.note_reached(&relay, hint.address);
    let talked = gossip::talk_with_stranger(&node, relay, &link).await;
    if talked && node.directory.knows(&relay) {
        node.hints.note_met(&hint);
        node.trust(&link);
        info!(known = node.directory.len(), source = hint.kind.name(), "another relay was found");
    } else {
        link.close(CloseReason::Unspecified);
    }
}
