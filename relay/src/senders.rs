//! Senders: what each peer that speaks to the directory has asked and sent, so that none takes more than its share.
//!
//! Specification: docs/protocol.md, "Gossip". Garbage is counted by address, and what is limited by the hour by
//! netgroup: an attacker has many identities and many ports, but few networks.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use trefoil_protocol::{
    ip::{self, IpNet},
    limits::{
        GARBAGE_MAX, GARBAGE_MEMORY, NEW_IDENTITIES, NEW_IDENTITIES_SPAN, REACH_PAUSE, SENDERS_MAX, SESSION_PAUSE,
        SESSIONS_ADDRESS_PART, SESSIONS_BURST,
    },
};

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Senders(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    garbage: Meters<IpAddr>,
    identities: Meters<IpNet>,
    sessions: Meters<Option<IpNet>>,
    address_sessions: Meters<IpAddr>,
    dials: Meters<SocketAddr>,
    dials_back: Meters<SocketAddr>,
}

/// Buckets that fill with use and leak with time, by key.
#[derive(Debug)]
struct Meters<K>(HashMap<K, Meter>);

#[derive(Clone, Copy, Debug)]
struct Meter {
    level: f64,
    at: Instant,
}

/// How much fits a bucket, and how long it takes to empty.
#[derive(Clone, Copy, Debug)]
struct Measure {
    most: f64,
    span: Duration,
}

impl Senders {
    /// This address sent something that no honest node sends, which counts as so many pieces; whether that is more than
    /// can be borne.
    pub(crate) fn garbage(&self, address: IpAddr, pieces: u32) -> bool {
        let measure = Measure { most: GARBAGE_MAX, span: GARBAGE_MEMORY };
        let mut senders = self.lock();
        let borne = (0..pieces).all(|_| senders.garbage.fill(host(address), measure));
        !borne || !senders.garbage.has_room(&host(address), measure)
    }

    /// Whether this address has sent more garbage than can be borne, and gets no answers for now.
    pub(crate) fn is_dropped(&self, address: IpAddr) -> bool {
        let measure = Measure { most: GARBAGE_MAX, span: GARBAGE_MEMORY };
        !self.lock().garbage.has_room(&host(address), measure)
    }

    /// Whether one more relay that nobody has heard of may come from there now.
    pub(crate) fn identity(&self, address: IpAddr) -> bool {
        let measure = Measure { most: NEW_IDENTITIES, span: NEW_IDENTITIES_SPAN };
        self.lock().identities.fill(ip::netgroup(address), measure)
    }

    /// Whether one more reconciliation may begin; without an address, by someone behind a circuit.
    pub(crate) fn session(&self, address: Option<IpAddr>) -> bool {
        let measure = Measure { most: SESSIONS_BURST, span: SESSION_PAUSE.mul_f64(SESSIONS_BURST) };
        let part = Measure { most: measure.most / SESSIONS_ADDRESS_PART, ..measure };
        let mut senders = self.lock();
        address.is_none_or(|address| senders.address_sessions.fill(host(address), part))
            && senders.sessions.fill(address.map(ip::netgroup), measure)
    }

    /// Whether this address may be dialled once more because a record lists it: once in each such pause.
    pub(crate) fn dial(&self, address: SocketAddr, pause: Duration) -> bool {
        self.lock().dials.fill(target(address), Measure { most: 1.0, span: pause })
    }

    /// Whether this address may be dialled once more because its owner asks for it.
    pub(crate) fn dial_back(&self, address: SocketAddr) -> bool {
        self.lock().dials_back.fill(target(address), Measure { most: 1.0, span: REACH_PAUSE })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

/// Whom an address stands for: one of IPv6 for its /64, all of which one host can have.
pub(crate) fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// All ports of an address are one, but for this machine's own, where all of a test network may be.
fn target(address: SocketAddr) -> SocketAddr {
    let port = if address.ip().is_loopback() { address.port() } else { 0 };
    SocketAddr::new(host(address.ip()), port)
}

impl<K: Hash + Eq + Copy> Meters<K> {
    /// Adds one to the key's bucket; whether there was room.
    fn fill(&mut self, key: K, measure: Measure) -> bool {
        if self.0.len() >= SENDERS_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, meter| meter.now(measure) > 0.0);
            if self.0.len() >= SENDERS_MAX {
                return false; // so many at once are an attack, and strangers wait until it is over
            }
        }
        let now = Instant::now();
        let meter = self.0.entry(key).or_insert(Meter { level: 0.0, at: now });
        let level = meter.now(measure);
        let room = level + 1.0 <= measure.most;
        *meter = Meter { level: if room { level + 1.0 } else { level }, at: now };
        room
    }

    fn has_room(&self, key: &K, measure: Measure) -> bool {
        self.0.get(key).is_none_or(|meter| meter.now(measure) + 1.0 <= measure.most)
    }
}

impl<K> Default for Meters<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl Meter {
    fn now(self, measure: Measure) -> f64 {
        let leaked = self.at.elapsed().as_secs_f64() * measure.most / measure.span.as_secs_f64();
        (self.level - leaked).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use trefoil_protocol::limits::{GARBAGE_WORK, VERIFY_PAUSE};

    use super::*;

    const MEASURE: Measure = Measure { most: 4.0, span: Duration::from_secs(40) };

    #[tokio::test(start_paused = true)]
    async fn a_bucket_takes_a_burst_and_then_what_leaks() {
        let mut meters = Meters::default();
        let taken = (0..10).filter(|_| meters.fill(1, MEASURE)).count();
        assert_eq!(taken, 4);
        assert!(!meters.has_room(&1, MEASURE));
        assert!(meters.fill(2, MEASURE), "another's is another");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(meters.fill(1, MEASURE));
        assert!(!meters.fill(1, MEASURE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_of_garbage_is_dropped_and_later_forgiven() {
        let (senders, bad, good) = (Senders::default(), [10, 1, 0, 1].into(), [10, 1, 0, 2].into());
        let borne = std::iter::from_fn(|| (!senders.garbage(bad, 1)).then_some(())).count();
        assert_eq!(borne as f64, GARBAGE_MAX - 1.0);
        assert!(senders.is_dropped(bad) && !senders.is_dropped(good));
        tokio::time::advance(GARBAGE_MEMORY).await;
        assert!(!senders.is_dropped(bad));
    }

    #[tokio::test(start_paused = true)]
    async fn what_costs_much_to_check_is_borne_less_often() {
        let (senders, bad) = (Senders::default(), [10, 1, 0, 1].into());
        assert!(!senders.garbage(bad, GARBAGE_WORK));
        assert!(senders.garbage(bad, GARBAGE_WORK) && senders.is_dropped(bad));
    }

    #[tokio::test(start_paused = true)]
    async fn a_netgroup_has_one_share_of_new_identities() {
        let senders = Senders::default();
        let from = |last: u8| senders.identity([10, 1, last, 1].into());
        let taken = (0..=255).cycle().take(3000).filter(|last| from(*last)).count();
        assert_eq!(taken as f64, NEW_IDENTITIES);
        assert!(senders.identity([10, 2, 0, 1].into()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_host_does_not_use_up_the_sessions_of_its_netgroup() {
        let senders = Senders::default();
        let begun = |address: [u8; 4]| (0..1000).filter(|_| senders.session(Some(address.into()))).count() as f64;
        assert_eq!(begun([10, 1, 0, 1]), SESSIONS_BURST / SESSIONS_ADDRESS_PART);
        assert_eq!(begun([10, 1, 0, 2]), SESSIONS_BURST / SESSIONS_ADDRESS_PART);
        let others: f64 = (3..=255).map(|last| begun([10, 1, 0, last])).sum();
        assert_eq!(others, SESSIONS_BURST - 2.0 * SESSIONS_BURST / SESSIONS_ADDRESS_PART);
        assert!(begun([10, 2, 0, 1]) > 0.0, "another netgroup has its own");
    }

    #[tokio::test(start_paused = true)]
    async fn all_addresses_of_a_64_are_one_host() {
        let senders = Senders::default();
        let from = |last: u16| format!("2001:db8:0:1::{last:x}").parse().unwrap();
        let borne = (0..1000).find(|last| senders.garbage(from(*last), 1));
        assert_eq!(borne.map(|last| f64::from(last) + 1.0), Some(GARBAGE_MAX));
        assert!(senders.is_dropped(from(1001)) && !senders.is_dropped("2001:db8:0:2::1".parse().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_dialled_once_in_a_while_whatever_the_port() {
        let senders = Senders::default();
        let dial = |address: &str| senders.dial(address.parse().unwrap(), VERIFY_PAUSE);
        assert!(dial("192.0.2.1:1") && !dial("192.0.2.1:2") && dial("192.0.2.2:1"));
        assert!(dial("127.0.0.1:1") && dial("127.0.0.1:2") && !dial("127.0.0.1:2"));
        tokio::time::advance(VERIFY_PAUSE).await;
        assert!(dial("192.0.2.1:3"));
    }

    #[tokio::test(start_paused = true)]
    async fn more_senders_than_there_is_room_for_wait() {
        let mut meters = Meters::default();
        assert_eq!((0..2 * SENDERS_MAX).filter(|key| meters.fill(*key, MEASURE)).count(), SENDERS_MAX);
        tokio::time::advance(MEASURE.span).await;
        assert!(meters.fill(2 * SENDERS_MAX, MEASURE));
    }
}
