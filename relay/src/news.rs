//! News: what this relay has just learned and its neighbours may not know.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;
use trefoil_protocol::{
    descriptor::Record, fraud::FraudProof, identity::RelayId, limits::NEWS_MAX, sighting::Sighting,
};

/// What waits to be pushed; what does not fit is found by the next reconciliation.
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

impl News {
    /// Adds news; `from` is who told.
    pub(crate) fn add(&self, item: Item, from: Option<RelayId>) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.len() < NEWS_MAX {
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
