//! Rings: which relays keep what is stored under a blinded key.
//!
//! Specification: docs/protocol.md, "Rings". By rendezvous hashing: everyone with the same usable relays finds the same
//! ones, nobody is asked, and a relay that comes or goes moves only what it keeps itself. This file keeps no state and
//! draws nothing.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    ops::RangeInclusive,
};

use crate::{
    blind::{BlindUse, BlindedKey},
    crypto,
    descriptor::Descriptor,
    epoch::UnixSeconds,
    family::FamilyId,
    identity::RelayId,
    ip::IpNet,
    limits::{CLOCK_TOLERANCE, LETTER_HOURS, PLACEMENT_AHEAD, RING_CHOICE, RING_MAX, RING_REACH},
    params::NetworkParams,
    period::{Day, Week, WeekOffset},
    usable::AgeClass,
};

/// What is stored somewhere: under which key, for which use and period. 37 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Placement {
    /// For what.
    pub of: BlindUse,
    /// The number of its day or week, as [`BlindUse`] says.
    pub period: u32,
    /// Whose signature it takes to change it.
    pub key: BlindedKey,
}

/// A usable relay, and what a ring asks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    relay: RelayId,
    class: AgeClass,
    netgroups: [Option<IpNet>; 2],
    family: Option<FamilyId>,
    mailbox: bool,
}

impl Placement {
    /// Bytes of its form.
    pub const LENGTH: usize = 1 + 4 + 32;

    /// `use 1 ‖ period 4 ‖ key 32`.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let parts = [&[self.of as u8][..], &self.period.to_le_bytes(), self.key.as_bytes()];
        bytes.iter_mut().zip(parts.concat()).for_each(|(byte, part)| *byte = part);
        bytes
    }

    /// Takes what [`Self::encode`] made; `None` for a use that does not exist.
    pub fn decode(bytes: &[u8; Self::LENGTH]) -> Option<Self> {
        let (of, rest) = bytes.split_first()?;
        let (period, key) = rest.split_first_chunk()?;
        let (of, period) = (BlindUse::try_from(*of).ok()?, u32::from_le_bytes(*period));
        Some(Self { of, period, key: BlindedKey::from_bytes(key.try_into().ok()?) })
    }

    /// From when to when its period can last, whatever its offset.
    fn span(&self) -> RangeInclusive<UnixSeconds> {
        match self.of {
            BlindUse::RequestInbox => Day(self.period).start()..=Day(self.period.saturating_add(1)).start(),
            BlindUse::PrivateInbox | BlindUse::Prekeys => {
                let week = |number| Week(number).start(WeekOffset::default());
                week(self.period.saturating_sub(1))..=week(self.period.saturating_add(1))
            }
        }
    }

    /// Whether this can be its period, by a clock that may be wrong: letters are taken for no other.
    pub fn is_current(&self, now: UnixSeconds) -> bool {
        let earliest = UnixSeconds(now.0.saturating_sub(CLOCK_TOLERANCE));
        *self.span().start() <= now.plus(CLOCK_TOLERANCE) && *self.span().end() >= earliest
    }

    /// When everything that came for it has expired, by a clock that may be wrong.
    pub fn kept_until(&self) -> UnixSeconds {
        self.span().end().plus(CLOCK_TOLERANCE + u64::from(LETTER_HOURS) * 3600)
    }

    /// Whether anything is kept there: from [`PLACEMENT_AHEAD`] before its period begins until the last letter that came
    /// in it has expired.
    pub fn is_kept(&self, now: UnixSeconds) -> bool {
        *self.span().start() <= now.plus(CLOCK_TOLERANCE + PLACEMENT_AHEAD) && self.kept_until() >= now
    }

    /// How far from it a relay is: `BLAKE3("trefoil/1 ring" ‖ use 1 ‖ period 4 ‖ key 32 ‖ RelayId 32)`.
    fn distance(&self, relay: &RelayId) -> [u8; 32] {
        crypto::blake3(&[LABEL, &self.encode(), relay.as_bytes()])
    }
}

impl Candidate {
    /// The relay of this record, which is usable and has this class.
    pub fn new(descriptor: &Descriptor, class: AgeClass) -> Self {
        Self {
            relay: descriptor.relay,
            class,
            netgroups: descriptor.addresses.netgroups(),
            family: descriptor.family.map(|family| family.id),
            mailbox: descriptor.mailbox,
        }
    }

    /// Whether both may not be in one ring: the same relay, family, or netgroup.
    fn meets(&self, other: &Self, params: &NetworkParams) -> bool {
        let netgroups = || self.netgroups.iter().flatten().any(|group| other.netgroups.contains(&Some(*group)));
        self.relay == other.relay
            || (self.family.is_some() && self.family == other.family)
            || (!params.allow_same_netgroup && netgroups())
    }
}

/// The relays that keep what is placed there, nearest first, at most [`RING_MAX`]; of these, the first *n* are the ring
/// of *n*. `candidates` are the usable relays, in any order.
///
/// Only relays that keep mailboxes, of the highest age class that relays in [`RING_CHOICE`] netgroups have reached (all
/// classes, where none has); no two in one netgroup or family, the nearer one stays.
pub fn ring(
    placement: &Placement,
    params: &NetworkParams,
    candidates: impl IntoIterator<Item = Candidate>,
) -> Vec<RelayId> {
    let all: Vec<_> = candidates.into_iter().filter(|candidate| candidate.mailbox).collect();
    let class = class(&all, params);
    let near = |candidate: &Candidate| (placement.distance(&candidate.relay), candidate.relay);
    let eligible = (0..).zip(&all).filter(|(_, candidate)| candidate.class >= class);
    let mut by_distance: BinaryHeap<_> = eligible.map(|(at, candidate)| Reverse((near(candidate), at))).collect();
    let mut ring: Vec<&Candidate> = vec![];
    while let Some(Reverse((_, at))) = by_distance.pop().filter(|_| ring.len() < RING_MAX) {
        let nearest = all.get::<usize>(at).filter(|nearest| ring.iter().all(|other| !other.meets(nearest, params)));
        ring.extend(nearest);
    }
    ring.iter().map(|candidate| candidate.relay).collect()
}

/// How far from a placement any relay of its ring is, by what one usable set is like: so one hash says of most placements
/// that a relay does not keep them.
#[derive(Clone, Copy, Debug)]
pub struct Reach(u64);

impl Reach {
    /// That of these usable relays.
    ///
    /// Of relays in groups that share no relay, family or netgroup, the nearest of each group is in the ring until the
    /// ring is full. So a relay is in it only where less than [`RING_MAX`] other groups have a nearer one; with
    /// [`RING_REACH`] groups to be expected within reach, there are fewer with a chance of 2^-44.
    pub fn of(params: &NetworkParams, candidates: &[Candidate]) -> Self {
        let kept: Vec<_> = candidates.iter().filter(|candidate| candidate.mailbox).cloned().collect();
        let class = class(&kept, params);
        let eligible: Vec<_> = kept.into_iter().filter(|candidate| candidate.class >= class).collect();
        let others = groups(&eligible, params).saturating_sub(1) as u128; // lossless
        let reach = (u128::from(RING_REACH) << 64).checked_div(others);
        Self(reach.and_then(|reach| u64::try_from(reach).ok()).unwrap_or(u64::MAX))
    }

    /// Whether a relay is too far from a placement to be in its ring.
    pub fn is_beyond(&self, placement: &Placement, relay: &RelayId) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = placement.distance(relay);
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) > self.0
    }
}

/// How many groups of relays there are of which no two share a relay, family or netgroup.
fn groups(relays: &[Candidate], params: &NetworkParams) -> usize {
    let mut leads: Vec<usize> = (0..relays.len()).collect();
    let mut first: HashMap<Shared, usize> = HashMap::new();
    for (at, relay) in relays.iter().enumerate() {
        let netgroups = relay.netgroups.iter().flatten().filter(|_| !params.allow_same_netgroup);
        let shared = netgroups.map(|group| Shared::Netgroup(*group)).chain(relay.family.map(Shared::Family));
        for shared in shared.chain([Shared::Relay(relay.relay)]) {
            let other = *first.entry(shared).or_insert(at);
            let (one, other) = (lead(&leads, at), lead(&leads, other));
            leads.get_mut(one).into_iter().for_each(|lead| *lead = other);
        }
    }
    (0..).zip(&leads).filter(|(at, lead)| at == *lead).count()
}

/// What two relays of one group have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Shared {
    Relay(RelayId),
    Family(FamilyId),
    Netgroup(IpNet),
}

/// Where a group's relays lead: to one of them.
fn lead(leads: &[usize], mut at: usize) -> usize {
    while let Some(next) = leads.get(at).filter(|next| **next != at) {
        at = *next;
    }
    at
}

/// From which class on a relay may be in a ring.
fn class(all: &[Candidate], params: &NetworkParams) -> AgeClass {
    let is_enough = |class: &AgeClass| {
        let old = all.iter().filter(|candidate| candidate.class >= *class);
        let count = if params.allow_same_netgroup {
            old.map(|candidate| candidate.relay).collect::<HashSet<_>>().len()
        } else {
            old.filter_map(|candidate| candidate.netgroups.into_iter().flatten().next()).collect::<HashSet<_>>().len()
        };
        count >= RING_CHOICE
    };
    [AgeClass::Old, AgeClass::Grown].into_iter().find(is_enough).unwrap_or(AgeClass::New)
}

const LABEL: &[u8] = b"trefoil/1 ring";

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        descriptor::tests::{full, params, small},
        entry::RelayAddresses,
    };

    pub(crate) const PLACEMENT: Placement =
        Placement { of: BlindUse::PrivateInbox, period: 2900, key: BlindedKey::from_bytes([7; 32]) };

    fn relay(number: u16, class: AgeClass) -> Candidate {
        let [high, low] = number.to_be_bytes();
        let addresses: RelayAddresses = format!("{}.{low}.0.1:1", 10 + high).parse().unwrap();
        let mut id = [9; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let descriptor = Descriptor { relay: RelayId::from_bytes(id), addresses, mailbox: true, ..small() };
        Candidate::new(&descriptor, class)
    }

    fn relays(count: u16, class: AgeClass) -> Vec<Candidate> {
        (0..count).map(|number| relay(number, class)).collect()
    }

    fn of(candidates: &[Candidate]) -> Vec<RelayId> {
        ring(&PLACEMENT, &params(), candidates.iter().cloned())
    }

    #[test]
    fn the_nearest_come_first_by_the_hash_of_the_specification() {
        let all = relays(200, AgeClass::Old);
        let bytes =
            |relay: &RelayId| [&b"trefoil/1 ring\x02"[..], &[0x54, 0x0b, 0, 0], &[7; 32], relay.as_bytes()].concat();
        let mut expected: Vec<_> = all.iter().map(|candidate| candidate.relay).collect();
        expected.sort_by_key(|relay| crypto::blake3(&[&bytes(relay)]));
        expected.truncate(15);
        assert_eq!(of(&all), expected);
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let all = relays(100, AgeClass::Old);
        let turned: Vec<_> = all.iter().rev().chain(&all).cloned().collect();
        assert_eq!(of(&turned), of(&all));
        assert_eq!(of(&[]), []);
        assert_eq!(of(&all[..4]).len(), 4);
    }

    #[test]
    fn use_period_and_key_each_make_another_ring() {
        let all = relays(100, AgeClass::Old);
        let others = [
            Placement { of: BlindUse::RequestInbox, ..PLACEMENT },
            Placement { period: 2901, ..PLACEMENT },
            Placement { key: BlindedKey::from_bytes([8; 32]), ..PLACEMENT },
        ];
        for other in others {
            assert_ne!(ring(&other, &params(), all.clone()), of(&all), "{other:?}");
        }
    }

    #[test]
    fn a_relay_that_goes_leaves_the_others_where_they_are() {
        let all = relays(100, AgeClass::Old);
        let before = of(&all);
        let left: Vec<_> = all.into_iter().filter(|candidate| candidate.relay != before[2]).collect();
        let after = of(&left);
        assert_eq!((&after[..2], &after[2..14]), (&before[..2], &before[3..]));
    }

    #[test]
    fn only_relays_that_keep_mailboxes_are_in_a_ring() {
        let mut all = relays(40, AgeClass::Old);
        let first = of(&all)[0];
        all.iter_mut().filter(|candidate| candidate.relay == first).for_each(|candidate| candidate.mailbox = false);
        assert!(!of(&all).contains(&first));
    }

    #[test]
    fn of_those_in_one_netgroup_or_family_the_nearest_stays() {
        let all = relays(60, AgeClass::Old);
        let [first, second] = [of(&all)[0], of(&all)[1]];
        let near = |relay| all.iter().find(|candidate| candidate.relay == relay).unwrap().clone();
        let with = |change: &dyn Fn(&mut Candidate)| {
            let mut changed = all.clone();
            changed.iter_mut().filter(|candidate| candidate.relay == second).for_each(change);
            changed
        };
        let [v4, _] = near(first).netgroups;
        let family = full().family.map(|family| family.id);
        let one_group = with(&|candidate| candidate.netgroups = [None, v4]);
        assert!(of(&one_group).contains(&first) && !of(&one_group).contains(&second));
        let lenient = NetworkParams { allow_same_netgroup: true, ..params() };
        assert_eq!(ring(&PLACEMENT, &lenient, one_group)[..2], [first, second]);
        let mut one_family = with(&|candidate| candidate.family = family);
        one_family.iter_mut().filter(|candidate| candidate.relay == first).for_each(|first| first.family = family);
        assert!(of(&one_family).contains(&first) && !of(&one_family).contains(&second));
    }

    #[test]
    fn old_relays_are_taken_where_they_are_in_thirty_netgroups() {
        use AgeClass::{Grown, New, Old};
        let classes = |old: u16, grown: u16, new: u16| {
            let class = |number| {
                if number < old {
                    Old
                } else if number < old + grown {
                    Grown
                } else {
                    New
                }
            };
            (0..old + grown + new).map(|number| relay(number, class(number))).collect::<Vec<_>>()
        };
        for (old, grown, new, least) in
            [(30, 100, 100, Old), (29, 1, 500, Grown), (29, 0, 500, New), (0, 30, 500, Grown), (3, 3, 3, New)]
        {
            let all = classes(old, grown, new);
            let expected: Vec<_> = all.iter().filter(|candidate| candidate.class >= least).cloned().collect();
            assert_eq!(of(&all), of(&expected), "{old} {grown} {new}");
        }
        let young = classes(29, 0, 500);
        assert_ne!(of(&young), of(&young[..29]));
        let mut crowded = classes(30, 0, 500);
        let [group, _] = crowded[0].netgroups;
        crowded[1].netgroups = [group, None];
        assert_ne!(of(&crowded), of(&crowded[..30]), "thirty relays in 29 netgroups are too few");
        let lenient = NetworkParams { allow_same_netgroup: true, ..params() };
        let all = ring(&PLACEMENT, &lenient, crowded.clone());
        assert_eq!(all, ring(&PLACEMENT, &lenient, crowded[..30].to_vec()));
    }

    #[test]
    fn a_placement_is_current_in_its_period_and_kept_from_three_weeks_before_until_letters_have_expired() {
        let days = |days: u64| days * 86_400;
        let day = Placement { of: BlindUse::RequestInbox, period: 20_000, ..PLACEMENT };
        let week = Placement { of: BlindUse::PrivateInbox, period: 2900, ..PLACEMENT };
        let prekeys = Placement { of: BlindUse::Prekeys, ..week };
        let spans = [(day, days(20_000), days(20_001)), (week, days(7 * 2899), days(7 * 2901))];
        for (placement, start, end) in spans.into_iter().chain([(prekeys, days(7 * 2899), days(7 * 2901))]) {
            for (from, to, holds) in [
                (start - 1800, end + 1800, Placement::is_current as fn(&Placement, UnixSeconds) -> bool),
                (start - 1800 - days(21), end + 1800 + days(14), Placement::is_kept),
            ] {
                assert!(holds(&placement, UnixSeconds(from)) && holds(&placement, UnixSeconds(to)));
                assert!(!holds(&placement, UnixSeconds(from - 1)) && !holds(&placement, UnixSeconds(to + 1)));
            }
        }
        let last = Placement { period: u32::MAX, ..week };
        assert!(!last.is_kept(UnixSeconds(0)) && !last.is_current(UnixSeconds(days(20_000))));
    }

    #[test]
    fn a_placement_survives_its_bytes_and_has_one_of_three_uses() {
        let bytes = PLACEMENT.encode();
        assert_eq!(bytes, *[&[2, 0x54, 0x0b, 0, 0][..], &[7; 32]].concat());
        for of in 0..=255 {
            let mut bytes = bytes;
            bytes[0] = of;
            let decoded = Placement::decode(&bytes);
            assert_eq!(decoded.is_some(), (1..=3).contains(&of));
            assert!(decoded.is_none_or(|placement| placement.encode() == bytes));
        }
    }

    /// Placements of an attacker's or anyone's choice.
    fn placements() -> impl Iterator<Item = Placement> {
        let key = |number: u64| BlindedKey::from_bytes(crypto::blake3(&[&number.to_le_bytes()]));
        (0..300).map(move |number| Placement { key: key(number), ..PLACEMENT })
    }

    #[test]
    fn fewer_groups_than_a_ring_has_ranks_are_within_reach_once_in_2_to_the_44() {
        // Where groups are many, how many are within reach is Poisson's; where they are not, it varies less.
        let mean = f64::from(RING_REACH);
        let terms = (1..=15).scan((-mean).exp(), |term, count| {
            let this = *term;
            *term *= mean / f64::from(count);
            Some(this)
        });
        let few: f64 = terms.sum();
        assert!(few.log2() < -44.0, "2^{}", few.log2());
    }

    #[test]
    fn no_relay_of_a_ring_is_beyond_reach_and_most_others_are() {
        let crowded = |number: u16| Candidate {
            netgroups: relay(number % 400, AgeClass::Old).netgroups,
            ..relay(number, AgeClass::Old)
        };
        let family = full().family.map(|family| family.id);
        let kin =
            |number: u16| Candidate { family: family.filter(|_| number & 1 == 0), ..relay(number, AgeClass::Old) };
        let [all, crowded, kin] =
            [relays(2000, AgeClass::Old), (0..2000).map(crowded).collect(), (0..2000).map(kin).collect::<Vec<_>>()];
        for (relays, groups, most) in
            [(&all, 2000, 100), (&crowded, 400, 500), (&kin, 1001, 200), (&all[..60].to_vec(), 60, 60)]
        {
            assert_eq!(super::groups(relays, &params()), groups);
            let reach = Reach::of(&params(), relays);
            for placement in placements() {
                let ring = ring(&placement, &params(), relays.iter().cloned());
                assert!(ring.iter().all(|relay| !reach.is_beyond(&placement, relay)), "{groups} groups");
                let within = relays.iter().filter(|other| !reach.is_beyond(&placement, &other.relay)).count();
                assert!(within <= most, "{within} of {groups} groups");
            }
        }
        let nobody = Reach::of(&params(), &[]);
        assert!(!nobody.is_beyond(&PLACEMENT, &relay(1, AgeClass::Old).relay));
    }

    #[test]
    fn groups_that_a_relay_belongs_to_both_of_are_one() {
        let mut all = relays(10, AgeClass::Old);
        assert_eq!(groups(&all, &params()), 10);
        all[9].netgroups = [all[1].netgroups[0], all[5].netgroups[0]];
        assert_eq!(groups(&all, &params()), 8);
        let family = full().family.map(|family| family.id);
        (all[5].family, all[7].family) = (family, family);
        assert_eq!(groups(&all, &params()), 7);
        let lenient = NetworkParams { allow_same_netgroup: true, ..params() };
        assert_eq!(groups(&all, &lenient), 9, "by family only");
    }

    proptest! {
        #[test]
        fn a_ring_has_as_many_as_there_are_netgroups_for(groups in prop::collection::vec(0u16..40, 0..80)) {
            let all: Vec<_> = (0..).zip(&groups).map(|(number, group)| {
                let netgroups = relay(*group, AgeClass::Old).netgroups;
                Candidate { netgroups, ..relay(number, AgeClass::Old) }
            }).collect();
            let different = groups.iter().collect::<HashSet<_>>().len();
            prop_assert_eq!(of(&all).len(), different.min(15));
        }
    }
}
