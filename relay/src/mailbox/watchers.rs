//! Watchers: whoever waits for a letter to come into an inbox.
//!
//! Specification: docs/protocol.md, "Mailbox streams". At most [`MAILBOX_WATCHERS`]. Somebody who watches is told of what
//! is written from then on: so one watches first, and looks then.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use trefoil_protocol::{limits::MAILBOX_WATCHERS, ring::Placement};

/// All of them, by inbox.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    count: usize,
    inboxes: HashMap<Placement, watch::Sender<()>>,
}

/// One of them; ends when dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    watchers: Arc<Watchers>,
    inbox: Placement,
    news: Option<watch::Receiver<()>>,
}

impl Watchers {
    /// Begins to watch an inbox; `None` if too many watch already.
    pub(super) fn watch(self: &Arc<Self>, inbox: Placement) -> Option<Watcher> {
        let mut watched = self.lock();
        if watched.count >= MAILBOX_WATCHERS {
            return None;
        }
        watched.count += 1;
        let news = watched.inboxes.entry(inbox).or_insert_with(|| watch::Sender::new(())).subscribe();
        Some(Watcher { watchers: Arc::clone(self), inbox, news: Some(news) })
    }

    /// A letter has come.
    pub(super) fn tell(&self, inbox: &Placement) {
        if let Some(sender) = self.lock().inboxes.get(inbox) {
            sender.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // a count that is off costs a place
    }
}

impl Watcher {
    /// Waits until something has come since it was asked last. Cancel-safe.
    pub(super) async fn news(&mut self) {
        let told = match &mut self.news {
            Some(news) => news.changed().await.is_ok(),
            None => false,
        };
        if !told {
            std::future::pending::<()>().await; // its sender lives as long as it does
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.watchers.lock();
        watched.count -= 1;
        drop(self.news.take());
        if let Entry::Occupied(inbox) = watched.inboxes.entry(self.inbox)
            && inbox.get().receiver_count() == 0
        {
            inbox.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, timeout};
    use trefoil_protocol::blind::{BlindUse, BlindedKey};

    use super::*;

    fn inbox(number: usize) -> Placement {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        Placement { of: BlindUse::PrivateInbox, period: 2900, key: BlindedKey::from_bytes(key) }
    }

    async fn hears(watcher: &mut Watcher) -> bool {
        timeout(Duration::from_secs(1), watcher.news()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_watch_an_inbox_hear_of_it_once_and_the_others_do_not() {
        let watchers = Arc::new(Watchers::default());
        let mut some = [1, 1, 2].map(|number| watchers.watch(inbox(number)).unwrap());
        watchers.tell(&inbox(1));
        watchers.tell(&inbox(3));
        for expected in [[true, true, false], [false; 3]] {
            for (watcher, expected) in some.iter_mut().zip(expected) {
                assert_eq!(hears(watcher).await, expected);
            }
        }
    }

    #[test]
    fn there_are_so_many_and_a_place_is_given_back() {
        let watchers = Arc::new(Watchers::default());
        let mut held: Vec<_> = (0..MAILBOX_WATCHERS).map_while(|number| watchers.watch(inbox(number / 2))).collect();
        assert_eq!(held.len(), MAILBOX_WATCHERS);
        assert!(watchers.watch(inbox(0)).is_none());
        held.pop();
        held.extend(watchers.watch(inbox(0)));
        assert_eq!(held.len(), MAILBOX_WATCHERS);
        drop(held);
        assert!(watchers.lock().inboxes.is_empty() && watchers.lock().count == 0);
    }
}
