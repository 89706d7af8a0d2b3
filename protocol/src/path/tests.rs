//! Tests of path.rs: the rules, and what the draws come out at.

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    entry::Weight,
    epoch::Epoch,
    family::FamilyId,
    host::HostName,
    identity::OnionKey,
    limits::GUARDS_WANTED,
    usable::AgeClass::{self, Grown, New, Old},
};

fn relay(number: u8, addresses: &str) -> UsableRelay {
    let entry = RelayEntry {
        id: RelayId::from_bytes([number; 32]),
        onion_key: OnionKey::from_bytes([number; 32]),
        addresses: addresses.parse().unwrap(),
        weight: Weight::One,
        exit: "accept *:80".parse().unwrap(),
    };
    UsableRelay { entry, class: Old, family: None }
}

fn usable(relays: &[UsableRelay]) -> UsableRelays {
    UsableRelays::new(Epoch(1), relays.iter().cloned())
}

/// Relays 0, 1, 2, ... at these addresses.
fn at(addresses: &[&str]) -> Vec<UsableRelay> {
    (0..).zip(addresses).map(|(number, address)| relay(number, address)).collect()
}

fn apart(count: u8) -> Vec<UsableRelay> {
    (0..count).map(|number| relay(number, &format!("127.{number}.0.1:1"))).collect()
}

fn rules(hops: usize) -> PathRules<'static> {
    PathRules { hops, allow_same_netgroup: false, guard: None, need: Need::Any, exclude: &[], own: &[] }
}

fn numbers(path: &[&RelayEntry]) -> Vec<u8> {
    path.iter().map(|relay| relay.id.as_bytes()[0]).collect()
}

fn id(number: u8) -> RelayId {
    RelayId::from_bytes([number; 32])
}

#[test]
fn too_few_relays_are_counted_in_words() {
    let rng = &mut StdRng::seed_from_u64(1);
    let two = usable(&apart(2));
    assert_eq!(choose(&two, &rules(3), rng), Err(NoPath::TooFew { known: 2, hops: 3 }));
    let excluding = PathRules { exclude: &[id(0)], ..rules(2) };
    assert_eq!(choose(&two, &excluding, rng), Err(NoPath::TooFewLeft { left: 1, known: 2, hops: 2 }));
    let words = choose(&two, &rules(3), rng).unwrap_err().to_string();
    assert_eq!(words, "too few relays are known: 2, and a circuit needs 3");
}

#[test]
fn the_last_hop_serves_the_need() {
    let rng = &mut StdRng::seed_from_u64(2);
    let mut view = apart(8);
    view.iter_mut().for_each(|relay| relay.entry.exit = "reject *:*".parse().unwrap());
    view[5].entry.exit = "accept *:25".parse().unwrap();
    let view = usable(&view);
    let port_25 = PathRules { need: Need::Port(25), ..rules(3) };
    for _ in 0..50 {
        assert_eq!(numbers(&choose(&view, &port_25, rng).unwrap())[2], 5);
    }
    let words = choose(&view, &PathRules { need: Need::Port(80), ..rules(3) }, rng).unwrap_err().to_string();
    assert_eq!(words, "none of the 8 relays exits to port 80");
    let failed = PathRules { exclude: &[id(5)], ..port_25 };
    assert!(matches!(choose(&view, &failed, rng), Err(NoPath::NoExitLeft { .. })));
}

#[test]
fn a_target_is_needed_by_address_or_by_port() {
    let rng = &mut StdRng::seed_from_u64(3);
    let view = usable(&apart(3));
    let name = Target::Exit { host: Host::Name(HostName::parse("example.org").unwrap()), port: 80 };
    let local = Target::Exit { host: Host::parse("127.0.0.1").unwrap(), port: 80 };
    assert!(choose(&view, &PathRules { need: Need::Target(&name), ..rules(3) }, rng).is_ok());
    let words = choose(&view, &PathRules { need: Need::Target(&local), ..rules(3) }, rng).unwrap_err().to_string();
    assert_eq!(words, "none of the 3 relays exits to 127.0.0.1, port 80");
}

#[test]
fn relays_too_close_to_each_other_make_no_path() {
    let rng = &mut StdRng::seed_from_u64(4);
    let view = usable(&at(&["127.1.0.1:1", "127.1.0.2:1", "127.2.0.1:1", "127.2.0.2:1"]));
    assert_eq!(choose(&view, &rules(3), rng), Err(NoPath::Netgroups { hops: 3 }));
    assert!(choose(&view, &rules(2), rng).is_ok());
    assert!(choose(&view, &PathRules { allow_same_netgroup: true, ..rules(3) }, rng).is_ok());
}

#[test]
fn a_family_counts_where_netgroups_do_not() {
    let rng = &mut StdRng::seed_from_u64(4);
    let mut view = apart(4);
    view[..2].iter_mut().for_each(|relay| relay.family = Some(FamilyId::from_bytes([1; 32])));
    view[2..].iter_mut().for_each(|relay| relay.family = Some(FamilyId::from_bytes([2; 32])));
    let view = usable(&view);
    for allow_same_netgroup in [false, true] {
        let rules = |hops| PathRules { allow_same_netgroup, ..rules(hops) };
        assert_eq!(choose(&view, &rules(3), rng), Err(NoPath::Netgroups { hops: 3 }));
        assert!(choose(&view, &rules(2), rng).is_ok());
    }
}

#[test]
fn the_one_path_that_there_is_is_found() {
    // Only 0, 1 and 2 are apart in both families of addresses; each of the others meets two of them.
    let view = usable(&at(&[
        "127.0.0.1:1,[2001:1::]:1",
        "127.1.0.1:1,[2001:2::]:1",
        "127.2.0.1:1,[2001:3::]:1",
        "127.0.0.2:1,[2001:2::1]:1",
        "127.0.0.3:1,[2001:3::1]:1",
        "127.1.0.2:1,[2001:1::1]:1",
    ]));
    for seed in 0..200 {
        let rules = PathRules { exclude: &[id(4), id(5)], ..rules(3) };
        let mut path = numbers(&choose(&view, &rules, &mut StdRng::seed_from_u64(seed)).unwrap());
        path.sort_unstable();
        assert_eq!(path, [0, 1, 2]);
    }
}

#[test]
fn a_relay_listed_twice_is_one_relay() {
    let rng = &mut StdRng::seed_from_u64(5);
    let view = usable(&[relay(1, "127.1.0.1:1"), relay(1, "127.2.0.1:1"), relay(2, "127.3.0.1:1")]);
    assert_eq!(choose(&view, &rules(3), rng), Err(NoPath::TooFew { known: 2, hops: 3 }));
}

#[test]
fn work_is_bounded_where_no_path_exists() {
    // Two stars: all relays share one of two IPv4 netgroups, and none an IPv6 one.
    let view: Vec<_> = (0..=255u8).map(|n| relay(n, &format!("127.{}.0.1:1,[2001:{n:x}::]:1", n % 2))).collect();
    let (view, rules) = (usable(&view), rules(3));
    let choice = Choice::new(&view, &rules).unwrap();
    let mut search = Search { choice: &choice, chosen: Vec::new(), scans: MAX_PATH_SCANS };
    assert!(!search.draw_all(&mut StdRng::seed_from_u64(6)));
    assert_eq!(search.scans, 0);
}

#[test]
fn a_given_guard_is_first_and_the_last_hop_fits_it() {
    let rng = &mut StdRng::seed_from_u64(8);
    let view = usable(&at(&["127.0.0.1:1", "127.0.0.2:1", "127.1.0.1:1", "127.2.0.1:1"]));
    for hops in 1..=3 {
        let rules = PathRules { guard: Some(id(0)), need: Need::Port(80), ..rules(hops) };
        for _ in 0..50 {
            let path = numbers(&choose(&view, &rules, rng).unwrap());
            assert!(path.len() == hops && path[0] == 0 && !path.contains(&1), "{path:?}");
        }
    }
    let short = PathRules { guard: Some(id(0)), need: Need::Port(25), ..rules(1) };
    assert!(matches!(choose(&view, &short, rng), Err(NoPath::NoExit { .. })));
}

#[test]
fn a_guard_that_is_unknown_excluded_or_near_an_own_relay_makes_no_path() {
    let rng = &mut StdRng::seed_from_u64(9);
    let view = usable(&apart(6));
    let guarded = PathRules { guard: Some(id(0)), ..rules(3) };
    assert!(choose(&view, &guarded, rng).is_ok());
    let unknown = PathRules { guard: Some(id(9)), ..guarded };
    let excluded = PathRules { exclude: &[id(0)], ..guarded };
    let near = PathRules { own: &[relay(99, "127.0.0.9:1")], ..guarded };
    for rules in [unknown, excluded, near] {
        assert_eq!(choose(&view, &rules, rng), Err(NoPath::Guard));
    }
    let allowed = PathRules { allow_same_netgroup: true, ..near };
    assert!(choose(&view, &allowed, rng).is_ok(), "netgroups do not count in this network");
}

/// `seniors` of class 2, then `newcomers`, all apart.
fn aged(seniors: u8, newcomers: u8, class: AgeClass) -> Vec<UsableRelay> {
    let mut all = apart(seniors + newcomers);
    all.iter_mut().skip(seniors.into()).for_each(|relay| relay.class = class);
    all
}

#[test]
fn newcomers_are_never_first_and_serve_what_nobody_else_does() {
    let rng = &mut StdRng::seed_from_u64(10);
    let mut view = aged(20, 30, Grown);
    view[40].entry.exit = "accept *:25".parse().unwrap();
    let view = usable(&view);
    for _ in 0..200 {
        let path = numbers(&choose(&view, &PathRules { need: Need::Port(25), ..rules(3) }, rng).unwrap());
        assert!(path[0] < 20 && path[2] == 40);
    }
    let seniors: Vec<_> = (0..20).map(id).collect();
    assert_eq!(choose(&view, &PathRules { exclude: &seniors, ..rules(3) }, rng), Err(NoPath::NoFirst));
}

/// How often each relay stood at each place of 3, in `draws` paths.
fn count(view: &[UsableRelay], draws: u32) -> Vec<[u32; 3]> {
    let rng = &mut StdRng::seed_from_u64(7);
    let mut counts = vec![[0; 3]; view.len()];
    let view = usable(view);
    for _ in 0..draws / 1000 {
        for path in choose_many(&view, &rules(3), 1000, rng).unwrap() {
            numbers(&path).iter().enumerate().for_each(|(place, n)| counts[usize::from(*n)][place] += 1);
        }
    }
    counts
}

/// A count of `draws` draws that each hit with probability `p` is, for any seed, this far from `p · draws` at most:
/// 7 standard deviations, which one seed in 10^11 misses.
fn tolerance(draws: u32, p: f64) -> f64 {
    7.0 * (f64::from(draws) * p * (1.0 - p)).sqrt()
}

#[test]
fn equal_relays_are_drawn_equally_often_at_every_place() {
    const DRAWS: u32 = 2_500_000;
    let expected = f64::from(DRAWS) / 6.0;
    // 7 standard deviations are just below 1 %, so the bound holds for any seed.
    assert!(tolerance(DRAWS, 1.0 / 6.0) < expected / 100.0);
    for counted in count(&apart(6), DRAWS).as_flattened() {
        assert!((f64::from(*counted) - expected).abs() <= expected / 100.0, "{counted} of {expected}");
    }
}

#[test]
fn weight_two_is_drawn_twice_as_often() {
    const DRAWS: u32 = 1_000_000;
    let mut view = apart(8);
    view[3].entry.weight = Weight::Two;
    let lasts: Vec<_> = count(&view, DRAWS).iter().map(|places| f64::from(places[2])).collect();
    for (number, counted) in lasts.iter().enumerate() {
        let p = if number == 3 { 2.0 / 9.0 } else { 1.0 / 9.0 };
        assert!((counted - p * f64::from(DRAWS)).abs() <= tolerance(DRAWS, p), "{number}: {lasts:?}");
    }
}

#[test]
fn newcomers_have_a_tenth_of_the_mass_however_many_they_are() {
    const DRAWS: u32 = 200_000;
    for class in [Grown, New] {
        let counts = count(&aged(20, 200, class), DRAWS);
        let newcomers = |place: usize| counts[20..].iter().map(|places| places[place]).sum::<u32>();
        assert_eq!(newcomers(0), 0);
        for place in [1, 2] {
            let off = f64::from(newcomers(place)) - f64::from(DRAWS) / 10.0;
            assert!(off.abs() <= tolerance(DRAWS, 0.1), "{}", newcomers(place));
        }
        for (number, places) in counts.iter().enumerate() {
            let p = if number < 20 { 0.9 / 20.0 } else { 0.1 / 200.0 };
            assert!((f64::from(places[2]) - p * f64::from(DRAWS)).abs() <= tolerance(DRAWS, p), "{number}: {places:?}");
        }
    }
}

#[test]
fn few_newcomers_are_drawn_like_all_others() {
    const DRAWS: u32 = 200_000;
    for (number, places) in count(&aged(36, 4, New), DRAWS).iter().enumerate() {
        let off = f64::from(places[2]) - f64::from(DRAWS) / 40.0;
        assert!(off.abs() <= tolerance(DRAWS, 1.0 / 40.0), "{number}: {places:?}");
        assert!(number < 36 || places[0] == 0);
    }
}

#[test]
fn in_a_young_network_everyone_may_be_first() {
    let counts = count(&aged(19, 21, New), 10_000);
    assert!(counts.iter().all(|places| places[0] > 0));
}

#[test]
fn candidate_paths_are_drawn_as_if_each_were_the_only_one() {
    let view = usable(&apart(6));
    let rules = PathRules { guard: Some(id(0)), ..rules(3) };
    let paths = |count| choose_many(&view, &rules, count, &mut StdRng::seed_from_u64(11)).unwrap();
    let many = paths(100_000);
    assert_eq!(paths(8), many[..8]);
    // The last hop is one of 5, whatever the path before it had there: no draw looks at another.
    let lasts: Vec<_> = many.iter().map(|path| numbers(path)[2]).collect();
    let again = lasts.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let off = f64::from(u32::try_from(again).unwrap()) - 99_999.0 / 5.0;
    assert!(off.abs() <= tolerance(99_999, 0.2), "{again}");
    assert!(many.iter().all(|path| numbers(path)[0] == 0));
}

/// A random network: relays, who of them is left out, own relays (members or not), and whether netgroups count.
#[derive(Clone, Debug)]
struct Network {
    relays: Vec<UsableRelay>,
    exclude: Vec<RelayId>,
    own: Vec<UsableRelay>,
    guard: Option<RelayId>,
    allow_same_netgroup: bool,
}

fn some_relay() -> impl Strategy<Value = UsableRelay> {
    let address = (0u8..12, 0u8..12, 0u8..3).prop_map(|(a, b, families)| match families {
        0 => format!("127.{a}.0.1:1"),
        1 => format!("[2001:{b:x}::]:1"),
        _ => format!("127.{a}.0.1:1,[2001:{b:x}::]:1"),
    });
    let class = prop_oneof![4 => Just(Old), 1 => Just(Grown), 1 => Just(New)];
    let family = prop::option::weighted(0.3, (0u8..4).prop_map(|n| FamilyId::from_bytes([n; 32])));
    (address, any::<(bool, bool)>(), class, family).prop_map(|(address, (exit, heavy), class, family)| {
        let UsableRelay { mut entry, .. } = relay(0, &address);
        entry.exit = if exit { "accept *:80" } else { "" }.parse().unwrap();
        entry.weight = if heavy { Weight::Two } else { Weight::One };
        UsableRelay { entry, class, family }
    })
}

fn network() -> impl Strategy<Value = Network> {
    let number = |(n, mut relay): (u8, UsableRelay)| {
        relay.entry.id = id(n);
        relay
    };
    let relays = prop::collection::vec(some_relay(), 0..32);
    let own = prop::collection::vec((0u8..60, some_relay()).prop_map(number), 0..2);
    let exclude = prop::collection::vec((0u8..40).prop_map(id), 0..5);
    let guard = prop::option::of((0u8..32).prop_map(id));
    (relays, exclude, own, guard, any::<bool>()).prop_map(move |(relays, exclude, own, guard, allow_same_netgroup)| {
        Network { relays: (0..).zip(relays).map(number).collect(), exclude, own, guard, allow_same_netgroup }
    })
}

impl Network {
    fn near(&self, a: &UsableRelay, b: &UsableRelay) -> bool {
        let groups = |relay: &UsableRelay| relay.entry.addresses.netgroups();
        let group = groups(a).iter().zip(groups(b)).any(|(a, b)| a.is_some() && *a == b);
        a.entry.id == b.entry.id || (group && !self.allow_same_netgroup) || (a.family.is_some() && a.family == b.family)
    }

    fn may_be_used(&self, relay: &UsableRelay) -> bool {
        !self.exclude.contains(&relay.entry.id) && !self.own.iter().any(|own| self.near(own, relay))
    }

    /// The rules once more, in other words than path.rs has them.
    fn is_path(&self, path: [&UsableRelay; 3]) -> bool {
        let [first, middle, last] = path;
        let class = [Old, Grown, New].into_iter();
        let senior = class
            .filter(|class| self.relays.iter().filter(|relay| relay.class >= *class).count() >= GUARDS_WANTED)
            .max()
            .unwrap_or(New);
        let begins = self.guard.map_or(first.class >= senior, |guard| first.entry.id == guard);
        let apart = !self.near(first, middle) && !self.near(first, last) && !self.near(middle, last);
        begins && apart && last.entry.exit.may_allow_port(80)
    }

    fn has_path(&self) -> bool {
        let all: Vec<_> = self.relays.iter().filter(|relay| self.may_be_used(relay)).collect();
        let pairs = || all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b)));
        pairs().any(|(a, b)| !self.near(a, b) && all.iter().any(|c| self.is_path([a, b, c])))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_path_keeps_the_rules_and_is_found_when_there_is_one(network in network(), seed: u64) {
        let Network { relays, exclude, own, guard, allow_same_netgroup } = &network;
        let rules = PathRules {
            hops: 3,
            allow_same_netgroup: *allow_same_netgroup,
            guard: *guard,
            need: Need::Port(80),
            exclude,
            own,
        };
        let view = usable(relays);
        let paths = choose_many(&view, &rules, 4, &mut StdRng::seed_from_u64(seed));
        prop_assert_eq!(paths.is_ok(), network.has_path(), "{:?}", paths);
        for path in paths.unwrap_or_default() {
            let relays: Vec<_> = path.iter().map(|entry| view.find(&entry.id).unwrap()).collect();
            let path: [_; 3] = relays.try_into().unwrap();
            prop_assert!(network.is_path(path) && path.iter().all(|relay| network.may_be_used(relay)), "{:?}", path);
        }
    }

    #[test]
    fn what_is_excluded_is_never_drawn(count in 3u8..12, hops in 1usize..=3, out: u8, seed: u64) {
        let exclude = [id(out % count)];
        let rules = PathRules { exclude: &exclude, ..rules(hops) };
        let view = usable(&apart(count));
        if let Ok(path) = choose(&view, &rules, &mut StdRng::seed_from_u64(seed)) {
            prop_assert!(path.len() == hops && path.iter().all(|relay| !exclude.contains(&relay.id)));
        } else {
            prop_assert!(usize::from(count) == hops);
        }
    }
}
