//! Hints: addresses at which some relay of the network may be.
//!
//! Specification: docs/protocol.md, "Hints". Anyone can name anyone's address, so a hint is worth a few packets and no
//! trust: who is there proves its key in a link's handshake (`Endpoint::meet`), and only what records prove is believed.
//! The table is bounded, each address is dialled rarely, and nothing of it is ever on disk. Relays (`meet.rs`) and
//! clients share it.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{Rng, seq::SliceRandom};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use trefoil_protocol::limits::{
    HINT_DIALS, HINT_DIALS_SPAN, HINT_MEMORY, HINT_PAUSE_MAX, HINT_PAUSE_MIN, HINTS_PER_KIND,
};

/// See the file's head.
#[derive(Debug, Default)]
pub struct Hints {
    table: Mutex<Table>,
    /// Something outside may name addresses.
    searching: AtomicBool,
    /// There is an address that was not there before.
    news: Notify,
    /// This node knows nobody to begin with.
    is_needy: AtomicBool,
    /// That has just become so.
    needed: Notify,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A beacon on the local network.
    Lan,
    /// The Mainline DHT.
    Dht,
}

/// An address to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    /// Where it comes from.
    pub kind: Kind,
    /// The address.
    pub address: SocketAddr,
}

#[derive(Debug, Default)]
struct Table {
    heard: BTreeMap<SocketAddr, Heard>,
    /// When addresses were dialled within [`HINT_DIALS_SPAN`].
    dialled: VecDeque<Instant>,
    /// How many relays were met at addresses of each kind.
    met: BTreeMap<Kind, u64>,
}

#[derive(Debug)]
struct Heard {
    kind: Kind,
    /// When it was named last.
    at: Instant,
    /// When it may be dialled.
    next: Instant,
    /// How much later again, if nobody is met there.
    pause: Duration,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Lan, Self::Dht];

    /// Its name in a status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Dht => "dht",
        }
    }
}

impl Hints {
    /// Takes in an address. One that is known is not dialled any sooner; one for which there is no room is dropped.
    pub fn note(&self, kind: Kind, address: SocketAddr) {
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
            return;
        }
        let now = Instant::now();
        let is_new = self.table().note(kind, address, now);
        if is_new {
            self.news.notify_one();
        }
    }

    /// At most so many addresses whose turn it is, drawn at random; they count as dialled from now on. Those that are
    /// not needed now are looked at again later.
    pub fn due<R: Rng>(&self, most: usize, rng: impl FnOnce() -> R, is_needed: impl Fn(&Hint) -> bool) -> Vec<Hint> {
        let now = Instant::now();
        let mut table = self.table();
        table.forget(now);
        let mut due = table.due(now, is_needed);
        if due.len() > 1 {
            due.shuffle(&mut rng());
        }
        due.truncate(most.min(HINT_DIALS - table.dialled.len()));
        due.iter().for_each(|hint| table.dial(hint.address, now));
        due
    }

    /// A relay was met there: it need not be dialled again soon.
    pub fn note_met(&self, hint: &Hint) {
        let mut table = self.table();
        *table.met.entry(hint.kind).or_default() += 1;
        table.leave_alone(hint.address);
    }

    /// This node itself is there.
    pub fn note_itself(&self, hint: &Hint) {
        self.table().leave_alone(hint.address);
    }

    /// How many relays were met at addresses of this kind.
    pub fn met(&self, kind: Kind) -> u64 {
        self.table().met.get(&kind).copied().unwrap_or_default()
    }

    /// Waits until there may be an address whose turn it is.
    pub async fn wait(&self) {
        let next = self.table().next();
        tokio::select! {
            biased; // both work: so that a simulation repeats itself
            () = self.news.notified() => {}
            () = at(next) => {}
        }
    }

    /// Something outside is going to name addresses.
    pub fn search(&self) {
        self.searching.store(true, Relaxed);
    }

    /// Whether something outside may name addresses.
    pub fn is_searching(&self) -> bool {
        self.searching.load(Relaxed)
    }

    /// Says that addresses are needed, until [`Hints::enough`].
    pub fn need(&self) {
        self.is_needy.store(true, Relaxed);
        self.needed.notify_one();
    }

    /// Says that no more addresses are needed.
    pub fn enough(&self) {
        self.is_needy.store(false, Relaxed);
    }

    /// Waits until addresses are needed.
    pub async fn needed(&self) {
        while !self.is_needy.load(Relaxed) {
            self.needed.notified().await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

impl Table {
    /// Whether this address was not there before, and is now.
    fn note(&mut self, kind: Kind, address: SocketAddr, now: Instant) -> bool {
        self.forget(now);
        if let Some(heard) = self.heard.get_mut(&address) {
            heard.at = now;
            return false;
        }
        if !self.make_room(kind) {
            return false;
        }
        self.heard.insert(address, Heard { kind, at: now, next: now, pause: HINT_PAUSE_MIN });
        true
    }

    /// Where a kind has as many as it may, the address that was dialled most often in vain gives way.
    fn make_room(&mut self, kind: Kind) -> bool {
        let of_kind = || self.heard.iter().filter(|(_, heard)| heard.kind == kind);
        if of_kind().count() < HINTS_PER_KIND {
            return true;
        }
        let tried = of_kind().filter(|(_, heard)| heard.pause > HINT_PAUSE_MIN);
        let worst = tried.max_by_key(|(_, heard)| heard.pause).map(|(address, _)| *address);
        worst.is_some_and(|address| self.heard.remove(&address).is_some())
    }

    fn forget(&mut self, now: Instant) {
        self.heard.retain(|_, heard| now < heard.at + HINT_MEMORY);
        while self.dialled.front().is_some_and(|dialled| now >= *dialled + HINT_DIALS_SPAN) {
            self.dialled.pop_front();
        }
    }

    fn due(&mut self, now: Instant, is_needed: impl Fn(&Hint) -> bool) -> Vec<Hint> {
        let mut due = Vec::new();
        for (address, heard) in self.heard.iter_mut().filter(|(_, heard)| heard.next <= now) {
            let hint = Hint { kind: heard.kind, address: *address };
            if is_needed(&hint) {
                due.push(hint);
            } else {
                heard.next = now + HINT_PAUSE_MIN;
            }
        }
        due
    }

    fn dial(&mut self, address: SocketAddr, now: Instant) {
        self.dialled.push_back(now);
        if let Some(heard) = self.heard.get_mut(&address) {
            heard.next = now + heard.pause;
            heard.pause = (heard.pause * 2).min(HINT_PAUSE_MAX);
        }
    }

    fn leave_alone(&mut self, address: SocketAddr) {
        if let Some(heard) = self.heard.get_mut(&address) {
            heard.pause = HINT_PAUSE_MAX;
            heard.next = Instant::now() + HINT_PAUSE_MAX;
        }
    }

    /// When the next address has its turn.
    fn next(&self) -> Option<Instant> {
        let next = self.heard.values().map(|heard| heard.next).min()?;
        let is_full = self.dialled.len() >= HINT_DIALS;
        let free = self.dialled.front().filter(|_| is_full).map(|dialled| *dialled + HINT_DIALS_SPAN);
        Some(free.map_or(next, |free| free.max(next)))
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};
    use tokio::time::advance;

    use super::*;

    fn address(number: usize) -> SocketAddr {
        SocketAddr::from(([10, 1, 0, 1], 1000 + u16::try_from(number).unwrap()))
    }

    fn due(hints: &Hints) -> Vec<SocketAddr> {
        due_if(hints, |_| true)
    }

    fn due_if(hints: &Hints, is_needed: impl Fn(&Hint) -> bool) -> Vec<SocketAddr> {
        let due = hints.due(usize::MAX, || StdRng::seed_from_u64(1), is_needed);
        due.into_iter().map(|hint| hint.address).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_dialled_at_once_and_then_ever_more_rarely_however_often_it_is_named() {
        let hints = Hints::default();
        let mut dialled = Vec::new();
        let start = Instant::now();
        for _ in 0..3 * 3600 {
            hints.note(Kind::Lan, address(1));
            dialled.extend(due(&hints).iter().map(|_| start.elapsed().as_secs()));
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(dialled, [0, 60, 180, 420, 900, 1860, 3780, 7380]);
    }

    #[tokio::test(start_paused = true)]
    async fn all_addresses_together_have_a_rate() {
        let hints = Hints::default();
        (0..HINTS_PER_KIND).for_each(|number| hints.note(Kind::Dht, address(number)));
        assert_eq!((due(&hints).len(), due(&hints).len()), (HINT_DIALS, 0));
        hints.wait().await; // there is news, of which all is known
        hints.wait().await; // there is room again
        assert_eq!(due(&hints).len(), HINT_DIALS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_one_kind_takes_no_place_of_another_and_what_failed_gives_way() {
        let hints = Hints::default();
        hints.note(Kind::Lan, address(9000));
        (0..500).for_each(|number| hints.note(Kind::Dht, address(number)));
        let count = || hints.table().heard.len();
        assert_eq!(count(), HINTS_PER_KIND + 1);
        advance(HINT_DIALS_SPAN).await;
        let tried = due(&hints);
        hints.note(Kind::Dht, address(1000));
        assert_eq!(count(), HINTS_PER_KIND + 1);
        assert!(hints.table().heard.contains_key(&address(1000)));
        assert!(tried.iter().any(|tried| !hints.table().heard.contains_key(tried)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_needed_is_not_dialled_and_looked_at_again() {
        let hints = Hints::default();
        hints.note(Kind::Dht, address(1));
        assert!(due_if(&hints, |_| false).is_empty());
        assert!(due(&hints).is_empty());
        advance(HINT_PAUSE_MIN).await;
        assert_eq!(due(&hints), [address(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_nobody_names_any_more_is_forgotten() {
        let hints = Hints::default();
        (1..=2).for_each(|number| hints.note(Kind::Lan, address(number)));
        assert_eq!(due(&hints).len(), 2);
        advance(HINT_MEMORY / 2).await;
        hints.note(Kind::Lan, address(2));
        advance(HINT_MEMORY / 2).await;
        assert_eq!(due(&hints), [address(2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_somebody_was_met_nobody_is_dialled_for_an_hour() {
        let hints = Hints::default();
        hints.note(Kind::Lan, address(1));
        let hint = Hint { kind: Kind::Lan, address: address(1) };
        assert_eq!(due(&hints), [hint.address]);
        hints.note_met(&hint);
        advance(HINT_PAUSE_MAX - Duration::from_secs(1)).await;
        assert!(due(&hints).is_empty());
        advance(Duration::from_secs(1)).await;
        assert_eq!(due(&hints), [hint.address]);
        assert_eq!(Kind::ALL.map(|kind| hints.met(kind)), [1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn need_lasts_until_there_is_enough() {
        let hints = Hints::default();
        let is_needed = async || tokio::time::timeout(Duration::from_secs(1), hints.needed()).await.is_ok();
        assert!(!is_needed().await);
        hints.need();
        assert!(is_needed().await && is_needed().await);
        hints.need();
        hints.enough();
        assert!(!is_needed().await);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_nobody_can_dial_are_dropped() {
        let hints = Hints::default();
        for bad in ["0.0.0.0:1", "10.0.0.1:0", "224.0.0.1:1", "[ff02::1]:1", "[::]:1"] {
            hints.note(Kind::Lan, bad.parse().unwrap());
        }
        assert!(due(&hints).is_empty());
    }
}
