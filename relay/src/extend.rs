//! Adding a hop: to whom this relay extends circuits, and how many of whose.
//!
//! Specification: docs/protocol.md, "Extend". A relay dials only relays of its own view, at the addresses that it knows
//! itself; never itself, and never back to where the circuit came from.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::timeout;
use trefoil_protocol::{
    cell::{self, Create, Refusal},
    entry::RelayEntry,
    identity::RelayId,
    limits::{CELL, EXTEND_TIMEOUT, EXTENDS_FREE, EXTENDS_SHARE, EXTENDS_UNCONTENDED},
    message::ExtendError,
};

use crate::{
    cells::{CellReader, CellWriter},
    circuit::{as_cell, one},
    counters::Cause,
    endpoint::DialError,
    link::{Link, LinkError, LinkId},
    node::Node,
    reason::CloseReason,
};

/// A new hop, whose handshake is the origin's to finish.
pub(crate) struct Extension {
    /// The hop's `Created`, status through auth.
    pub(crate) created: Vec<u8>,
    pub(crate) reader: CellReader,
    pub(crate) writer: CellWriter,
    pub(crate) share: Share,
}

/// Extends a circuit that came over `upstream` to `relay`.
pub(crate) async fn extend(
    node: &Node,
    upstream: &Link,
    relay: RelayId,
    create: &[u8],
) -> Result<Extension, ExtendError> {
    Create::decode(create).map_err(|_| ExtendError::Refused)?;
    if relay == node.id() || Some(relay) == upstream.peer() {
        return Err(ExtendError::Refused);
    }
    let entry = node.directory.entry(&relay).ok_or(ExtendError::Unknown)?;
    let share = node.shares.take(upstream.id(), relay).ok_or_else(|| over_limit(node))?;
    let hop = async {
        let _pass = node.extends.enter(upstream.id()).await.map_err(|_| over_limit(node))?;
        create_hop(&dial(node, &entry).await?, create).await
    };
    let (created, reader, writer) = timeout(EXTEND_TIMEOUT, hop).await.map_err(|_| ExtendError::Timeout)??;
    Ok(Extension { created, reader, writer, share })
}

/// A limit of this relay is reached, not one of the next.
fn over_limit(node: &Node) -> ExtendError {
    node.directory.counters().count(Cause::ExtendLimit);
    ExtendError::Limit
}

/// A link to the relay, at the first of its addresses that answers.
async fn dial(node: &Node, entry: &RelayEntry) -> Result<Link, ExtendError> {
    node.link(entry).await.map_err(|error| match error {
        DialError::Timeout => ExtendError::Timeout,
        _ => ExtendError::Unreachable,
    })
}

/// Sends `Create` and reads its answer.
async fn create_hop(link: &Link, create: &[u8]) -> Result<(Vec<u8>, CellReader, CellWriter), ExtendError> {
    let mut circuit = link.open_circuit().await.map_err(|error| match error {
        LinkError::CircuitLimit => ExtendError::Limit,
        _ => ExtendError::Unreachable,
    })?;
    circuit.reader.set_reason(CloseReason::Unspecified); // the next hop never learns why
    circuit.writer.set_reason(CloseReason::Unspecified);
    let sent = circuit.writer.write(one(&cell::create_cell(create))).await;
    sent.map_err(|_| ExtendError::Unreachable)?;
    let mut answer = circuit.reader.cells().await.map_err(|_| ExtendError::Unreachable)?;
    if answer.len() != CELL {
        return Err(ExtendError::Refused); // nothing but the answer may come before the origin speaks
    }
    match cell::read_created(as_cell(&mut answer)) {
        Ok(Ok(created)) => Ok((created.to_vec(), circuit.reader, circuit.writer)),
        Ok(Err(Refusal::Busy(effort))) => Err(ExtendError::Busy(effort)),
        Ok(Err(Refusal::Limit)) => Err(ExtendError::Limit),
        Ok(Err(Refusal::Refused)) | Err(_) => Err(ExtendError::Refused),
    }
}

/// How many circuits go from each upstream link to each next relay.
///
/// While there is room, nobody is counted out. Once many circuits go to one relay, one upstream link gets at most an
/// eighth of them (and 32 in any case), so that it cannot take the pair of relays from everyone else.
#[derive(Clone, Default)]
pub(crate) struct Shares(Arc<Mutex<HashMap<RelayId, Counts>>>);

#[derive(Default)]
struct Counts {
    total: usize,
    by_upstream: HashMap<LinkId, usize>,
}

/// One circuit's place, given back when dropped.
pub(crate) struct Share {
    shares: Shares,
    upstream: LinkId,
    next: RelayId,
}

impl Shares {
    /// A place for one more circuit, if `upstream` may have it.
    pub(crate) fn take(&self, upstream: LinkId, next: RelayId) -> Option<Share> {
        let mut shares = self.lock();
        let counts = shares.entry(next).or_default();
        let own = counts.by_upstream.entry(upstream).or_default();
        if counts.total >= EXTENDS_UNCONTENDED && *own >= EXTENDS_FREE.max(counts.total / EXTENDS_SHARE) {
            return None;
        }
        *own += 1;
        counts.total += 1;
        Some(Share { shares: self.clone(), upstream, next })
    }

    /// The upstream links of which circuits go to this relay.
    #[cfg(test)]
    pub(crate) fn upstreams(&self, next: RelayId) -> Vec<LinkId> {
        self.lock().get(&next).map_or_else(Vec::new, |counts| counts.by_upstream.keys().copied().collect())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RelayId, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // each change is whole
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = self.shares.lock();
        let Some(counts) = shares.get_mut(&self.next) else { return };
        counts.total -= 1;
        if let Some(own) = counts.by_upstream.get_mut(&self.upstream) {
            *own -= 1;
            if *own == 0 {
                counts.by_upstream.remove(&self.upstream);
            }
        }
        if counts.total == 0 {
            shares.remove(&self.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: RelayId = RelayId::from_bytes([1; 32]);

    #[test]
    fn one_upstream_link_cannot_take_a_pair_of_relays_for_itself() {
        let shares = Shares::default();
        let greedy = LinkId::for_tests(1);
        let held: Vec<_> = std::iter::from_fn(|| shares.take(greedy, NEXT)).collect();
        assert_eq!(held.len(), EXTENDS_UNCONTENDED);
        let others: Vec<_> = (2..10).filter_map(|link| shares.take(LinkId::for_tests(link), NEXT)).collect();
        assert_eq!(others.len(), 8);
        assert!(shares.take(greedy, RelayId::from_bytes([2; 32])).is_some(), "another pair is not affected");
    }

    #[test]
    fn a_place_is_given_back() {
        let shares = Shares::default();
        let held: Vec<_> = (0..100).map(|_| shares.take(LinkId::for_tests(1), NEXT)).collect();
        drop(held);
        assert!(shares.lock().is_empty());
    }
}
