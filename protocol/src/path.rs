//! Path: which relays a circuit goes through.
//!
//! Specification: docs/protocol.md, "Paths". The origin draws every hop, by weight among all that the rules allow,
//! and never learns to prefer one: selection that adapts is selection that others can steer. This file keeps no
//! state and draws from the generator that it is handed.

use rand::{Rng, RngExt};

use crate::{
    entry::RelayEntry,
    host::Host,
    identity::RelayId,
    ip::IpNet,
    limits::{MAX_HOPS, MAX_PATH_SCANS},
    message::Target,
};

/// What a path must be.
#[derive(Clone, Copy, Debug)]
pub struct PathRules<'a> {
    /// How many relays; 1 to [`MAX_HOPS`].
    pub hops: usize,
    /// Whether several relays may be in one netgroup; a parameter of the network.
    pub allow_same_netgroup: bool,
    /// What the last relay must be able to do.
    pub need: Need<'a>,
    /// Relays to leave out: those that failed lately, and one's own.
    pub exclude: &'a [RelayId],
}

/// What the last relay of a path must be able to do.
#[derive(Clone, Copy, Debug)]
pub enum Need<'a> {
    /// Nothing: any relay will do.
    Any,
    /// Exit to this port, of a host not known yet.
    Port(u16),
    /// Serve a stream to this target.
    Target(&'a Target),
}

/// Why there is no path, in words for a person. A caller who leaves relays out tries again without doing so before it
/// shows these: relays that failed lately are better than none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// The network is too small.
    #[error("too few relays are known: {known}, and a circuit needs {hops}")]
    TooFew {
        /// Relays known and not left out.
        known: usize,
        /// Relays needed.
        hops: usize,
    },
    /// No relay can be the last.
    #[error("none of the {known} relays {what}")]
    NoExit {
        /// Relays known and not left out.
        known: usize,
        /// What they do not do: "exits to port 25".
        what: String,
    },
    /// The relays are too close to each other.
    #[error("the relays that can be used are in too few different networks (/16, of IPv6 /32) for a circuit of {hops}")]
    Netgroups {
        /// Relays needed, each in a netgroup of its own.
        hops: usize,
    },
}

/// Draws a path through `relays`, first hop first.
///
/// The last hop is drawn first, then the first, then those between, each by weight among all relays that the rules
/// still allow; a draw that leaves none for the hops that follow is taken back. Work is bounded: a few scans of
/// `relays`, and never more than [`MAX_PATH_SCANS`].
///
/// # Errors
/// [`NoPath`] when the rules leave none.
///
/// # Panics
/// If `rules.hops` is not 1 to [`MAX_HOPS`].
pub fn choose<'r>(
    relays: &'r [RelayEntry],
    rules: &PathRules<'_>,
    rng: &mut impl Rng,
) -> Result<Vec<&'r RelayEntry>, NoPath> {
    assert!((1..=MAX_HOPS).contains(&rules.hops), "a path has 1 to {MAX_HOPS} hops");
    let left = relays_left(relays, rules)?;
    let lasts: Vec<_> = left.iter().filter(|candidate| rules.need.is_met_by(candidate.entry)).copied().collect();
    if lasts.is_empty() {
        return Err(NoPath::NoExit { known: left.len(), what: rules.need.in_words() });
    }
    let mut search = Search { relays: &left, rules, chosen: Vec::with_capacity(rules.hops), scans: MAX_PATH_SCANS };
    if !search.draw_from(lasts, rng) {
        return Err(NoPath::Netgroups { hops: rules.hops });
    }
    search.chosen.rotate_left(1); // the last hop was drawn first
    Ok(search.chosen.iter().map(|candidate| candidate.entry).collect())
}

/// A relay that may be drawn.
#[derive(Clone, Copy)]
struct Candidate<'r> {
    entry: &'r RelayEntry,
    netgroups: [Option<IpNet>; 2],
}

/// The relays that are not left out, if they are enough.
fn relays_left<'r>(relays: &'r [RelayEntry], rules: &PathRules<'_>) -> Result<Vec<Candidate<'r>>, NoPath> {
    let usable = relays.iter().filter(|entry| !rules.exclude.contains(&entry.id));
    let left: Vec<_> = usable.map(|entry| Candidate { entry, netgroups: entry.addresses.netgroups() }).collect();
    if left.len() < rules.hops {
        return Err(NoPath::TooFew { known: left.len(), hops: rules.hops });
    }
    Ok(left)
}

/// The draw of one path, hop by hop.
struct Search<'s, 'r> {
    relays: &'s [Candidate<'r>],
    rules: &'s PathRules<'s>,
    chosen: Vec<Candidate<'r>>,
    scans: usize,
}

impl<'r> Search<'_, 'r> {
    /// Draws the next hop from `candidates`, and then all that follow. `false` if there is no way.
    fn draw_from(&mut self, mut candidates: Vec<Candidate<'r>>, rng: &mut impl Rng) -> bool {
        while let Some(drawn) = draw(&candidates, rng) {
            self.chosen.push(drawn);
            if self.chosen.len() == self.rules.hops {
                return true;
            }
            let Some(next) = self.scan() else { return false };
            if self.draw_from(next, rng) {
                return true;
            }
            self.chosen.pop();
            candidates.retain(|other| other.netgroups != drawn.netgroups); // they would fail for the same reason
        }
        false
    }

    /// The relays that may join those chosen; `None` when the work is not worth going on.
    fn scan(&mut self) -> Option<Vec<Candidate<'r>>> {
        self.scans = self.scans.checked_sub(1)?;
        Some(
            self.relays
                .iter()
                .filter(|relay| self.chosen.iter().all(|other| self.may_meet(relay, other)))
                .copied()
                .collect(),
        )
    }

    fn may_meet(&self, one: &Candidate<'_>, other: &Candidate<'_>) -> bool {
        let near = || one.netgroups.iter().zip(&other.netgroups).any(|(a, b)| a.is_some() && a == b);
        one.entry.id != other.entry.id && (self.rules.allow_same_netgroup || !near())
    }
}

/// One of the candidates, by weight.
fn draw<'r>(candidates: &[Candidate<'r>], rng: &mut impl Rng) -> Option<Candidate<'r>> {
    let weight = |candidate: &Candidate<'_>| u64::from(u8::from(candidate.entry.weight));
    let total: u64 = candidates.iter().map(weight).sum();
    let mut left = if total == 0 { return None } else { rng.random_range(0..total) };
    let hit = candidates.iter().find(|candidate| {
        let hit = left < weight(candidate);
        left = left.saturating_sub(weight(candidate));
        hit
    });
    hit.copied()
}

impl Need<'_> {
    /// Whether this relay can do it.
    pub fn is_met_by(&self, relay: &RelayEntry) -> bool {
        match self {
            Self::Any => true,
            Self::Port(port) => relay.exit.may_allow_port(*port),
            Self::Target(target) => relay.exit.may_allow(target),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Port(port) | Self::Target(Target::Exit { host: Host::Name(_), port }) => {
                format!("exits to port {port}")
            }
            Self::Target(Target::Exit { host: Host::Address(address), port }) => {
                format!("exits to {address}, port {port}")
            }
            Self::Target(Target::Resolve { .. }) => "resolves names".to_owned(),
            Self::Any | Self::Target(_) => "can be the last".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{entry::Weight, host::HostName, identity::OnionKey};

    fn relay(number: u8, addresses: &str) -> RelayEntry {
        RelayEntry {
            id: RelayId::from_bytes([number; 32]),
            onion_key: OnionKey::from_bytes([number; 32]),
            addresses: addresses.parse().unwrap(),
            weight: Weight::One,
            exit: "accept *:80".parse().unwrap(),
        }
    }

    /// Relays 0, 1, 2, ... at these addresses.
    fn relays(addresses: &[&str]) -> Vec<RelayEntry> {
        (0..).zip(addresses).map(|(number, address)| relay(number, address)).collect()
    }

    fn apart(count: u8) -> Vec<RelayEntry> {
        (0..count).map(|number| relay(number, &format!("127.{number}.0.1:1"))).collect()
    }

    fn rules(hops: usize) -> PathRules<'static> {
        PathRules { hops, allow_same_netgroup: false, need: Need::Any, exclude: &[] }
    }

    fn numbers(path: &[&RelayEntry]) -> Vec<u8> {
        path.iter().map(|relay| relay.id.as_bytes()[0]).collect()
    }

    #[test]
    fn too_few_relays_are_counted_in_words() {
        let rng = &mut StdRng::seed_from_u64(1);
        let two = apart(2);
        assert_eq!(choose(&two, &rules(3), rng), Err(NoPath::TooFew { known: 2, hops: 3 }));
        let exclude = [two[0].id];
        let excluding = PathRules { exclude: &exclude, ..rules(2) };
        assert_eq!(choose(&two, &excluding, rng), Err(NoPath::TooFew { known: 1, hops: 2 }));
        let words = choose(&two, &rules(3), rng).unwrap_err().to_string();
        assert_eq!(words, "too few relays are known: 2, and a circuit needs 3");
    }

    #[test]
    fn the_last_hop_serves_the_need() {
        let rng = &mut StdRng::seed_from_u64(2);
        let mut view = apart(8);
        view.iter_mut().for_each(|relay| relay.exit = "reject *:*".parse().unwrap());
        view[5].exit = "accept *:25".parse().unwrap();
        for _ in 0..50 {
            let path = choose(&view, &PathRules { need: Need::Port(25), ..rules(3) }, rng).unwrap();
            assert_eq!(numbers(&path)[2], 5);
        }
        let words = choose(&view, &PathRules { need: Need::Port(80), ..rules(3) }, rng).unwrap_err().to_string();
        assert_eq!(words, "none of the 8 relays exits to port 80");
        let exclude = [view[5].id];
        let failed = PathRules { need: Need::Port(25), exclude: &exclude, ..rules(3) };
        assert!(matches!(choose(&view, &failed, rng), Err(NoPath::NoExit { .. })));
    }

    #[test]
    fn a_target_is_needed_by_address_or_by_port() {
        let rng = &mut StdRng::seed_from_u64(3);
        let view = apart(3);
        let name = Target::Exit { host: Host::Name(HostName::parse("example.org").unwrap()), port: 80 };
        let local = Target::Exit { host: Host::parse("127.0.0.1").unwrap(), port: 80 };
        assert!(choose(&view, &PathRules { need: Need::Target(&name), ..rules(3) }, rng).is_ok());
        let words = choose(&view, &PathRules { need: Need::Target(&local), ..rules(3) }, rng).unwrap_err().to_string();
        assert_eq!(words, "none of the 3 relays exits to 127.0.0.1, port 80");
    }

    #[test]
    fn relays_too_close_to_each_other_make_no_path() {
        let rng = &mut StdRng::seed_from_u64(4);
        let view = relays(&["127.1.0.1:1", "127.1.0.2:1", "127.2.0.1:1", "127.2.0.2:1"]);
        assert_eq!(choose(&view, &rules(3), rng), Err(NoPath::Netgroups { hops: 3 }));
        assert!(choose(&view, &rules(2), rng).is_ok());
        assert!(choose(&view, &PathRules { allow_same_netgroup: true, ..rules(3) }, rng).is_ok());
    }

    #[test]
    fn the_one_path_that_there_is_is_found() {
        // Only 0, 1 and 2 are apart in both families; each of the others meets two of them.
        let view = relays(&[
            "127.0.0.1:1,[2001:1::]:1",
            "127.1.0.1:1,[2001:2::]:1",
            "127.2.0.1:1,[2001:3::]:1",
            "127.0.0.2:1,[2001:2::1]:1",
            "127.0.0.3:1,[2001:3::1]:1",
            "127.1.0.2:1,[2001:1::1]:1",
        ]);
        let exclude = [view[4].id, view[5].id];
        for seed in 0..200 {
            let rules = PathRules { exclude: &exclude, ..rules(3) };
            let mut path = numbers(&choose(&view, &rules, &mut StdRng::seed_from_u64(seed)).unwrap());
            path.sort_unstable();
            assert_eq!(path, [0, 1, 2]);
        }
    }

    #[test]
    fn a_relay_listed_twice_is_one_relay() {
        let rng = &mut StdRng::seed_from_u64(5);
        let view = vec![relay(1, "127.1.0.1:1"), relay(1, "127.2.0.1:1"), relay(2, "127.3.0.1:1")];
        assert_eq!(choose(&view, &rules(3), rng), Err(NoPath::Netgroups { hops: 3 }));
    }

    #[test]
    fn work_is_bounded_where_no_path_exists() {
        // Two stars: all relays share one of two IPv4 netgroups, and none an IPv6 one.
        let view: Vec<_> = (0..=255u8).map(|n| relay(n, &format!("127.{}.0.1:1,[2001:{n:x}::]:1", n % 2))).collect();
        let rules = rules(3);
        let left = relays_left(&view, &rules).unwrap();
        let mut search = Search { relays: &left, rules: &rules, chosen: Vec::new(), scans: MAX_PATH_SCANS };
        assert!(!search.draw_from(left.clone(), &mut StdRng::seed_from_u64(6)));
        assert_eq!(search.scans, 0);
    }

    /// How often each relay stood at each place of 3, in `draws` paths.
    fn count(view: &[RelayEntry], draws: u32) -> Vec<[u32; 3]> {
        let rng = &mut StdRng::seed_from_u64(7);
        let mut counts = vec![[0; 3]; view.len()];
        for _ in 0..draws {
            let path = numbers(&choose(view, &rules(3), rng).unwrap());
            path.iter().enumerate().for_each(|(place, number)| counts[usize::from(*number)][place] += 1);
        }
        counts
    }

    #[test]
    fn equal_relays_are_drawn_equally_often_at_every_place() {
        let expected = 1_000_000 / 8;
        for counted in count(&apart(8), 1_000_000).as_flattened() {
            assert!(counted.abs_diff(expected) <= expected / 100, "{counted} of {expected}");
        }
    }

    #[test]
    fn weight_two_is_drawn_twice_as_often() {
        let mut view = apart(8);
        view[3].weight = Weight::Two;
        let counts = count(&view, 200_000);
        let lasts = counts.iter().map(|places| f64::from(places[2])).collect::<Vec<_>>();
        assert!((lasts[3] / lasts[0] - 2.0).abs() < 0.05, "{lasts:?}");
    }

    fn view() -> impl Strategy<Value = Vec<RelayEntry>> {
        let address = (0u8..6, 0u8..6, 0u8..3).prop_map(|(a, b, families)| match families {
            0 => format!("127.{a}.0.1:1"),
            1 => format!("[2001:{b:x}::]:1"),
            _ => format!("127.{a}.0.1:1,[2001:{b:x}::]:1"),
        });
        prop::collection::vec((address, any::<bool>()), 0..16).prop_map(|relays| {
            let with_exit = |(number, (address, exit)): (u8, (String, bool))| {
                let policy = if exit { "accept *:80" } else { "" };
                RelayEntry { exit: policy.parse().unwrap(), ..relay(number, &address) }
            };
            (0..).zip(relays).map(with_exit).collect()
        })
    }

    fn is_path(path: &[&RelayEntry]) -> bool {
        let groups = |relay: &RelayEntry| relay.addresses.netgroups();
        let apart =
            |a: &RelayEntry, b: &RelayEntry| groups(a).iter().zip(groups(b)).all(|(a, b)| a.is_none() || *a != b);
        let pairs =
            path.iter().enumerate().all(|(at, a)| path.iter().skip(at + 1).all(|b| a.id != b.id && apart(a, b)));
        pairs && path.last().is_some_and(|last| last.exit.may_allow_port(80))
    }

    proptest! {
        #[test]
        fn a_path_keeps_the_rules_and_is_found_when_there_is_one(view in view(), seed: u64) {
            let rules = PathRules { need: Need::Port(80), ..rules(3) };
            let possible = view.iter().any(|a| view.iter().any(|b| view.iter().any(|c| is_path(&[a, b, c]))));
            let path = choose(&view, &rules, &mut StdRng::seed_from_u64(seed));
            prop_assert_eq!(path.is_ok(), possible);
            prop_assert!(path.is_err() || path.is_ok_and(|path| path.len() == 3 && is_path(&path)));
        }

        #[test]
        fn what_is_excluded_is_never_drawn(count in 3u8..12, hops in 1usize..=3, out: u8, seed: u64) {
            let view = apart(count);
            let exclude = [RelayId::from_bytes([out % count; 32])];
            let rules = PathRules { exclude: &exclude, ..rules(hops) };
            if let Ok(path) = choose(&view, &rules, &mut StdRng::seed_from_u64(seed)) {
                prop_assert!(path.len() == hops && path.iter().all(|relay| !exclude.contains(&relay.id)));
            } else {
                prop_assert!(usize::from(count) == hops);
            }
        }
    }
}
