//! News: what this relay has just learned and its neighbours may not know.
//!
//! Specification: docs/protocol.md, "Gossip". Most of it are records that only renew what is known, which can wait.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

use tokio::{sync::Notify, time::Duration};
use trefoil_protocol::{
    descriptor::Record,
    fraud::FraudProof,
    identity::RelayId,
    limits::{NEIGHBOURS, NEWS_MAX, PUSH_DELAY, RENEWALS_DELAY, RENEWALS_NEIGHBOURS},
    sighting::Sighting,
};

/// How soon others are to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// At once: new relays, those that have changed or leave, fraud proofs.
    Now,
    /// Records that only renew what is known: they go together, and to few.
    Later,
}

/// What waits to be pushed, all of one haste; what does not fit is found by the next reconciliation.
#[derive(Debug, Default)]
pub(crate) struct News {
    items: Mutex<Vec<(Item, Option<RelayId>)>>,
    some: Notify,
}

/// One piece of news.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Record(Record),
    Fraud(Box<FraudProof>),
    Sighting(Sighting),
}

impl Haste {
    /// What comes within this time goes together.
    pub(crate) fn delay(self) -> Duration {
        match self {
            Self::Now => PUSH_DELAY,
            Self::Later => RENEWALS_DELAY,
        }
    }

    /// How many neighbours are told.
    pub(crate) fn neighbours(self) -> usize {
        match self {
            Self::Now => NEIGHBOURS,
            Self::Later => RENEWALS_NEIGHBOURS,
        }
    }
}

impl News {
    /// Adds news; `from` is who told. What this relay says itself always has room.
    pub(crate) fn add(&self, item: Item, from: Option<RelayId>) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.len() < NEWS_MAX || from.is_none() {
            items.push((item, from));
            self.some.notify_one();
        }
    }

    /// Waits until there is some. One task at a time may wait.
    pub(crate) async fn ready(&self) {
        while self.items.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.some.notified().await;
        }
    }

    /// Takes all of it.
    pub(crate) fn take(&self) -> Vec<(Item, Option<RelayId>)> {
        mem::take(&mut *self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
