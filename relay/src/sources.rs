//! How many links strangers may have, by the network that they come from.
//!
//! Specification: docs/protocol.md, "Links". A source is a /24 of IPv4 or a /48 of IPv6. A peer that has not proved
//! its address is asked to (a QUIC Retry) before it is ever refused, or spoofed packets could keep others out.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use trefoil_protocol::limits::{
    ACCEPTED_LINKS_MAX, ACCEPTED_LINKS_PER_SOURCE, HALF_OPEN_FREE, HALF_OPEN_MAX, HALF_OPEN_PER_SOURCE,
};

/// Whether peers on this machine are counted like all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loopback {
    /// They are one source.
    #[default]
    Counted,
    /// They have no limit of their own: in a test network every node is on this machine.
    Exempt,
}

/// Whether a peer has shown that packets to its address reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Proved,
    Claimed,
}

/// What to do with a stranger's first packet.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Begin the handshake, holding this place.
    Welcome(Place),
    /// Have it prove its address first.
    Prove,
    /// Turn it away.
    Refuse,
}

/// The links that an endpoint has accepted, or is about to, counted by source.
#[derive(Debug)]
pub(crate) struct Sources {
    loopback: Loopback,
    counts: Mutex<Counts>,
}

/// One accepted link's place in the counts; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    sources: Arc<Sources>,
    source: Option<Source>,
    stage: Stage,
}

/// The source has as many links as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 3]),
    V6([u8; 6]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    HalfOpen,
    Open,
}

#[derive(Debug, Default)]
struct Counts {
    all: Tally,
    by_source: HashMap<Source, Tally>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    half_open: usize,
    open: usize,
}

impl Sources {
    pub(crate) fn new(loopback: Loopback) -> Arc<Self> {
        Arc::new(Self { loopback, counts: Mutex::default() })
    }

    /// Judges a connection attempt from this address.
    pub(crate) fn judge(self: &Arc<Self>, from: IpAddr, address: Address) -> Verdict {
        let source = self.source(from);
        let mut counts = self.counts();
        let theirs = source.map(|source| counts.of(source)).unwrap_or_default();
        let crowded = counts.all.half_open >= HALF_OPEN_MAX
            || counts.all.open >= ACCEPTED_LINKS_MAX
            || theirs.half_open >= HALF_OPEN_PER_SOURCE
            || theirs.open >= ACCEPTED_LINKS_PER_SOURCE;
        let busy = counts.all.half_open >= HALF_OPEN_FREE;
        match address {
            Address::Claimed if busy || crowded => Verdict::Prove,
            Address::Proved if crowded => Verdict::Refuse,
            _ => {
                counts.change(source, |tally| tally.half_open += 1);
                Verdict::Welcome(Place { sources: Arc::clone(self), source, stage: Stage::HalfOpen })
            }
        }
    }

    fn source(&self, from: IpAddr) -> Option<Source> {
        let from = from.to_canonical();
        let exempt = self.loopback == Loopback::Exempt && from.is_loopback();
        (!exempt).then(|| Source::of(from))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner) // counting cannot leave it half done
    }
}

impl Place {
    /// The handshake is done: the link counts as open from here on.
    ///
    /// # Errors
    /// [`Full`] if others were faster and no place for an open link is left.
    pub(crate) fn open(mut self) -> Result<Self, Full> {
        let mut counts = self.sources.counts();
        let theirs = self.source.map(|source| counts.of(source)).unwrap_or_default();
        if counts.all.open >= ACCEPTED_LINKS_MAX || theirs.open >= ACCEPTED_LINKS_PER_SOURCE {
            drop(counts);
            return Err(Full);
        }
        counts.change(self.source, |tally| {
            tally.half_open -= 1;
            tally.open += 1;
        });
        drop(counts);
        self.stage = Stage::Open;
        Ok(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let stage = self.stage;
        self.sources.counts().change(self.source, |tally| match stage {
            Stage::HalfOpen => tally.half_open -= 1,
            Stage::Open => tally.open -= 1,
        });
    }
}

impl Source {
    fn of(from: IpAddr) -> Self {
        match from {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, ..] = address.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

impl Counts {
    fn of(&self, source: Source) -> Tally {
        self.by_source.get(&source).copied().unwrap_or_default()
    }

    fn change(&mut self, source: Option<Source>, change: impl Fn(&mut Tally)) {
        change(&mut self.all);
        let Some(source) = source else { return };
        let tally = self.by_source.entry(source).or_default();
        change(tally);
        if *tally == Tally::default() {
            self.by_source.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn welcome(sources: &Arc<Sources>, from: IpAddr) -> Place {
        match sources.judge(from, Address::Proved) {
            Verdict::Welcome(place) => place,
            other => panic!("{other:?}"),
        }
    }

    fn fill(sources: &Arc<Sources>, from: IpAddr) -> Vec<Place> {
        (0..ACCEPTED_LINKS_PER_SOURCE).map(|_| welcome(sources, from).open().unwrap()).collect()
    }

    #[test]
    fn a_full_source_is_refused_and_its_neighbours_are_not() {
        let sources = Sources::new(Loopback::Counted);
        let places = fill(&sources, "198.51.100.1".parse().unwrap());
        let same = "198.51.100.200".parse().unwrap();
        assert!(matches!(sources.judge(same, Address::Proved), Verdict::Refuse));
        assert!(matches!(sources.judge(same, Address::Claimed), Verdict::Prove));
        welcome(&sources, "198.51.101.1".parse().unwrap());
        drop(places);
        welcome(&sources, same);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_the_same_source() {
        let sources = Sources::new(Loopback::Counted);
        let _places = fill(&sources, "198.51.100.1".parse().unwrap());
        let mapped = "::ffff:198.51.100.2".parse().unwrap();
        assert!(matches!(sources.judge(mapped, Address::Proved), Verdict::Refuse));
    }

    #[test]
    fn a_network_of_ipv6_is_a_source() {
        let sources = Sources::new(Loopback::Counted);
        let _places = fill(&sources, "2001:db8:1:1::1".parse().unwrap());
        assert!(matches!(sources.judge("2001:db8:1:2::1".parse().unwrap(), Address::Proved), Verdict::Refuse));
        welcome(&sources, "2001:db8:2::1".parse().unwrap());
    }

    #[test]
    fn many_handshakes_at_once_make_strangers_prove_their_address() {
        let sources = Sources::new(Loopback::Exempt);
        let places: Vec<_> = (0..HALF_OPEN_FREE).map(|_| welcome(&sources, HERE)).collect();
        assert!(matches!(sources.judge(HERE, Address::Claimed), Verdict::Prove));
        welcome(&sources, HERE);
        drop(places);
        assert!(matches!(sources.judge(HERE, Address::Claimed), Verdict::Welcome(_)));
    }

    #[test]
    fn peers_on_this_machine_are_exempt_only_if_so_asked() {
        let exempt = Sources::new(Loopback::Exempt);
        let _places = fill(&exempt, HERE);
        welcome(&exempt, HERE);
        let counted = Sources::new(Loopback::Counted);
        let _places = fill(&counted, HERE);
        assert!(matches!(counted.judge(HERE, Address::Proved), Verdict::Refuse));
    }

    #[test]
    fn nothing_is_remembered_of_those_who_left() {
        let sources = Sources::new(Loopback::Counted);
        drop(fill(&sources, HERE));
        drop(welcome(&sources, HERE));
        assert!(sources.counts().by_source.is_empty());
        assert_eq!(sources.counts().all, Tally::default());
    }
}
