//! Agreement: whether the relays that this one compares itself with have the same usable set.
//!
//! Specification: docs/protocol.md, "Usable sets". Paths are drawn from these sets, so relays that go apart are
//! something to know about. It is for the operator only: nothing is ever decided by it, and nobody is named.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use trefoil_protocol::{
    directory::Greeting,
    epoch::Epoch,
    identity::RelayId,
    limits::{COMPARED_AGE, COMPARED_MAX},
    usable::UsableSet,
};

/// What those said of their sets that were greeted lately.
#[derive(Debug, Default)]
pub(crate) struct Agreement(Mutex<HashMap<RelayId, Compared>>);

/// Relays that this one was compared with lately, in this epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreeing {
    /// How many have the same usable set of the same epoch.
    pub(crate) agreeing: usize,
    /// Of how many.
    pub(crate) compared: usize,
}

/// One relay's set, beside ours at that time.
#[derive(Debug)]
struct Compared {
    /// Ours.
    epoch: Epoch,
    agrees: bool,
    at: Instant,
}

impl Agreement {
    /// What a relay says of its usable set, while this one's is `ours`.
    pub(crate) fn note(&self, relay: RelayId, theirs: &Greeting, ours: &UsableSet) {
        let agrees = theirs.epoch == ours.epoch() && theirs.usable == ours.digest();
        let mut all = self.lock();
        all.retain(|_, compared| compared.at.elapsed() < COMPARED_AGE);
        if all.len() < COMPARED_MAX || all.contains_key(&relay) {
            all.insert(relay, Compared { epoch: ours.epoch(), agrees, at: Instant::now() });
        }
    }

    /// How many agree, of those that were compared while the usable set was one of `epoch`.
    pub(crate) fn in_epoch(&self, epoch: Epoch) -> Agreeing {
        let all = self.lock();
        let lately = || all.values().filter(|one| one.epoch == epoch && one.at.elapsed() < COMPARED_AGE);
        Agreeing { agreeing: lately().filter(|one| one.agrees).count(), compared: lately().count() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RelayId, Compared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

#[cfg(test)]
mod tests {
    use trefoil_protocol::params::NetworkParams;

    use super::*;

    fn params() -> NetworkParams {
        NetworkParams::testnet("test".parse().unwrap())
    }

    fn set(epoch: u32) -> UsableSet {
        UsableSet::freeze(Epoch(epoch), [], &params().directory)
    }

    fn greeting(set: &UsableSet) -> Greeting {
        let (network, usable, epoch) = (params().id(), set.digest(), set.epoch());
        Greeting { minutes: 0, network, records: 0, usable, epoch, seen: None }
    }

    fn relay(number: u8) -> RelayId {
        RelayId::from_bytes([number; 32])
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_have_the_same_set_of_the_same_epoch_agree() {
        let (agreement, ours) = (Agreement::default(), set(7));
        agreement.note(relay(1), &greeting(&ours), &ours);
        agreement.note(relay(2), &Greeting { usable: [9; 32], ..greeting(&ours) }, &ours);
        agreement.note(relay(3), &Greeting { epoch: Epoch(8), ..greeting(&ours) }, &ours);
        assert_eq!(agreement.in_epoch(Epoch(7)), Agreeing { agreeing: 1, compared: 3 });
        agreement.note(relay(2), &greeting(&ours), &ours);
        assert_eq!(agreement.in_epoch(Epoch(7)), Agreeing { agreeing: 2, compared: 3 }, "its last word counts");
        assert_eq!(agreement.in_epoch(Epoch(8)), Agreeing::default(), "nobody was asked in that epoch");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_long_ago_does_not_count() {
        let (agreement, ours) = (Agreement::default(), set(7));
        agreement.note(relay(1), &greeting(&ours), &ours);
        tokio::time::advance(COMPARED_AGE).await;
        assert_eq!(agreement.in_epoch(Epoch(7)), Agreeing::default());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_are_remembered_are_bounded() {
        let (agreement, ours) = (Agreement::default(), set(7));
        for number in 0..=COMPARED_MAX {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            agreement.note(RelayId::from_bytes(id), &greeting(&ours), &ours);
        }
        assert_eq!(agreement.in_epoch(Epoch(7)).compared, COMPARED_MAX);
    }
}
