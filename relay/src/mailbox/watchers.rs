//! Watchers: whoever waits for a letter to come into an inbox.
//!
//! Specification: docs/protocol.md, "Mailbox streams". At most [`INBOX_WATCHERS`] of an inbox, and [`MAILBOX_WATCHERS`] in
//! all; where one more comes, the oldest waits no longer. Somebody who watches is told of what is written from then on: so
//! one watches first, and looks then.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;
use trefoil_protocol::{
    limits::{INBOX_WATCHERS, MAILBOX_WATCHERS},
    ring::Placement,
};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    last: u64,
    /// By number, which is the order in which they came.
    places: BTreeMap<u64, (Placement, Arc<Place>)>,
    /// Their numbers.
    inboxes: HashMap<Placement, VecDeque<u64>>,
}

#[derive(Debug, Default)]
struct Place {
    news: Notify,
    over: AtomicBool,
}

/// One of them; ends when dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    watchers: Arc<Watchers>,
    number: u64,
    place: Arc<Place>,
}

impl Watchers {
    /// Begins to watch an inbox.
    pub(super) fn watch(self: &Arc<Self>, inbox: Placement) -> Watcher {
        let mut watched = self.lock();
        let of_inbox = watched.inboxes.get(&inbox).filter(|numbers| numbers.len() >= INBOX_WATCHERS);
        let oldest = of_inbox.and_then(|numbers| numbers.front().copied());
        let oldest_of_all = || watched.places.first_key_value().map(|(number, _)| *number);
        let is_full = watched.places.len() >= MAILBOX_WATCHERS;
        if let Some(number) = oldest.or_else(|| oldest_of_all().filter(|_| is_full)) {
            watched.end(number);
        }
        watched.last += 1;
        let (number, place) = (watched.last, Arc::new(Place::default()));
        watched.places.insert(number, (inbox, Arc::clone(&place)));
        watched.inboxes.entry(inbox).or_default().push_back(number);
        Watcher { watchers: Arc::clone(self), number, place }
    }

    /// A letter has come.
    pub(super) fn tell(&self, inbox: &Placement) {
        let watched = self.lock();
        let numbers = watched.inboxes.get(inbox).into_iter().flatten();
        numbers.filter_map(|number| watched.places.get(number)).for_each(|(_, place)| place.news.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // each change is whole, or costs a place
    }
}

impl Watched {
    fn end(&mut self, number: u64) {
        let Some((inbox, place)) = self.places.remove(&number) else { return };
        place.over.store(true, Relaxed);
        place.news.notify_one();
        if let Some(numbers) = self.inboxes.get_mut(&inbox) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.inboxes.remove(&inbox);
            }
        }
    }
}

impl Watcher {
    /// Waits until something has come since it was asked last; false where its place was given to another one. Cancel-safe.
    pub(super) async fn news(&mut self) -> bool {
        if !self.place.over.load(Relaxed) {
            self.place.news.notified().await;
        }
        !self.place.over.load(Relaxed)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watchers.lock().end(self.number);
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

    /// Whether it hears of something, and whether it still has its place.
    async fn hears(watcher: &mut Watcher) -> Option<bool> {
        timeout(Duration::from_secs(1), watcher.news()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_watch_an_inbox_hear_of_it_once_and_the_others_do_not() {
        let watchers = Arc::new(Watchers::default());
        let mut some = [1, 1, 2].map(|number| watchers.watch(inbox(number)));
        watchers.tell(&inbox(1));
        watchers.tell(&inbox(3));
        for expected in [[Some(true), Some(true), None], [None; 3]] {
            for (watcher, expected) in some.iter_mut().zip(expected) {
                assert_eq!(hears(watcher).await, expected);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_watches_everything_takes_no_place_of_an_inbox_but_the_oldest_of_its_own() {
        let watchers = Arc::new(Watchers::default());
        let mut other = watchers.watch(inbox(1));
        let mut many: Vec<_> = (0..INBOX_WATCHERS + 2).map(|_| watchers.watch(inbox(2))).collect();
        assert_eq!(hears(&mut other).await, None);
        for (at, watcher) in many.iter_mut().enumerate() {
            let expected = if at < 2 { Some(false) } else { None };
            assert_eq!(hears(watcher).await, expected, "{at}");
            assert_eq!(hears(watcher).await, expected, "and so it stays");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_and_the_oldest_gives_way_and_all_places_are_given_back() {
        let watchers = Arc::new(Watchers::default());
        let mut held: Vec<_> = (0..=MAILBOX_WATCHERS).map(|number| watchers.watch(inbox(number / 2))).collect();
        assert_eq!((hears(&mut held[0]).await, hears(&mut held[1]).await), (Some(false), None));
        assert_eq!(watchers.lock().places.len(), MAILBOX_WATCHERS);
        drop(held);
        assert!(watchers.lock().inboxes.is_empty() && watchers.lock().places.is_empty());
    }
}
