//! Usable relays: those that paths are drawn from, made ready for drawing.
//!
//! Specification: docs/protocol.md, "Usable sets" and "Paths". Made once per epoch from the usable set and the records;
//! from then on a draw compares small numbers only. It holds no more than it was given, and never changes.

use std::collections::HashMap;

use crate::{
    entry::RelayEntry, epoch::Epoch, family::FamilyId, identity::RelayId, ip::IpNet, limits::GUARDS_WANTED,
    usable::AgeClass,
};

/// A relay that a path may go through, as its record and the usable set have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableRelay {
    /// What is needed to dial and to draw it.
    pub entry: RelayEntry,
    /// How long the network has known it.
    pub class: AgeClass,
    /// Whose it is, if it says so.
    pub family: Option<FamilyId>,
}

/// The relays of one epoch, in the order of their ids. See the file's head.
#[derive(Clone, Debug)]
pub struct UsableRelays {
    epoch: Epoch,
    relays: Vec<UsableRelay>,
    /// Beside each relay: what a draw reads of it, close together.
    candidates: Vec<Candidate>,
    numbers: HashMap<Mark, u32>,
    senior: AgeClass,
}

/// A relay that may be drawn: its place among the usable relays, and what a draw asks of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) at: u32,
    pub(crate) marks: Marks,
    pub(crate) weight: u8,
    pub(crate) senior: bool,
    /// Whether it is an exit at all.
    pub(crate) exit: bool,
}

/// What no two relays of a path may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mark {
    Netgroup(IpNet),
    Family(FamilyId),
}

/// A relay's netgroups (IPv4, IPv6) and its family as numbers that are the same for the same one; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks([u32; 3]);

impl UsableRelays {
    /// Makes these relays ready for drawing, in any order. Of two with one id, one is taken.
    pub fn new(epoch: Epoch, relays: impl IntoIterator<Item = UsableRelay>) -> Self {
        let mut relays: Vec<_> = relays.into_iter().collect();
        relays.sort_by_key(|relay| relay.entry.id);
        relays.dedup_by_key(|relay| relay.entry.id);
        let mut numbers = HashMap::new();
        let mut number = |mark| {
            let next = u32::try_from(numbers.len() + 1).unwrap_or(u32::MAX);
            *numbers.entry(mark).or_insert(next)
        };
        let senior = senior(&relays);
        let candidate = |(at, relay): (u32, &UsableRelay)| Candidate {
            at,
            marks: Marks(relay.marks().map(|mark| mark.map_or(0, &mut number))),
            weight: relay.entry.weight.into(),
            senior: relay.class >= senior,
            exit: !relay.entry.exit.is_empty(),
        };
        let candidates = (0..).zip(&relays).map(candidate).collect();
        Self { epoch, relays, candidates, numbers, senior }
    }

    /// Relays of a fixed list: nothing is known of their ages and families.
    pub fn fixed(entries: impl IntoIterator<Item = RelayEntry>) -> Self {
        let relays = entries.into_iter().map(|entry| UsableRelay { entry, class: AgeClass::Old, family: None });
        Self::new(Epoch::default(), relays)
    }

    /// The epoch whose usable set this is.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.relays.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.relays.is_empty()
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &UsableRelay> {
        self.relays.iter()
    }

    /// The relay of this id.
    pub fn find(&self, id: &RelayId) -> Option<&UsableRelay> {
        self.at(self.position(id)?)
    }

    /// From which class on a relay is a senior here: the highest that [`GUARDS_WANTED`] relays have reached.
    ///
    /// Guards are seniors. The others, newcomers, have a small share of every draw. In a young network all are seniors.
    pub fn senior(&self) -> AgeClass {
        self.senior
    }

    /// How many seniors there are.
    pub fn seniors(&self) -> u32 {
        let seniors = self.candidates.iter().filter(|candidate| candidate.senior).count();
        u32::try_from(seniors).unwrap_or(u32::MAX)
    }

    pub(crate) fn position(&self, id: &RelayId) -> Option<u32> {
        let at = self.relays.binary_search_by_key(id, |relay| relay.entry.id).ok()?;
        u32::try_from(at).ok()
    }

    pub(crate) fn at(&self, position: u32) -> Option<&UsableRelay> {
        self.relays.get(usize::try_from(position).ok()?)
    }

    /// All of them as candidates, in the order of their places.
    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The marks of any relay, as far as a relay of this set has them too.
    pub(crate) fn marks_of(&self, relay: &UsableRelay) -> Marks {
        Marks(relay.marks().map(|mark| mark.and_then(|mark| self.numbers.get(&mark)).copied().unwrap_or(0)))
    }
}

fn senior(relays: &[UsableRelay]) -> AgeClass {
    let reached = |class: &AgeClass| relays.iter().filter(|relay| relay.class >= *class).count() >= GUARDS_WANTED;
    [AgeClass::Old, AgeClass::Grown].into_iter().find(reached).unwrap_or(AgeClass::New)
}

impl UsableRelay {
    /// Whether this is none of `others`, and shares no family with them, and no netgroup where these count.
    pub fn is_apart(&self, others: &[Self], allow_same_netgroup: bool) -> bool {
        let counts = |mark: &Mark| !allow_same_netgroup || matches!(mark, Mark::Family(_));
        let marks: Vec<_> = self.marks().into_iter().flatten().filter(counts).collect();
        let meets = |other: &Self| other.marks().into_iter().flatten().any(|mark| marks.contains(&mark));
        others.iter().all(|other| other.entry.id != self.entry.id && !meets(other))
    }

    fn marks(&self) -> [Option<Mark>; 3] {
        let [v4, v6] = self.entry.addresses.netgroups();
        [v4.map(Mark::Netgroup), v6.map(Mark::Netgroup), self.family.map(Mark::Family)]
    }
}

impl Marks {
    /// Whether both have the same netgroup or family.
    pub(crate) fn meet(self, other: Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| *a != 0 && a == b)
    }

    /// The family only, for networks where netgroups do not count.
    pub(crate) fn family_only(self) -> Self {
        let [_, _, family] = self.0;
        Self([0, 0, family])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{entry::Weight, identity::OnionKey};

    fn relay(number: u8, addresses: &str, class: AgeClass) -> UsableRelay {
        let entry = RelayEntry {
            id: RelayId::from_bytes([number; 32]),
            onion_key: OnionKey::from_bytes([number; 32]),
            addresses: addresses.parse().unwrap(),
            weight: Weight::One,
            exit: "".parse().unwrap(),
        };
        UsableRelay { entry, class, family: None }
    }

    fn of_classes(classes: impl IntoIterator<Item = AgeClass>) -> UsableRelays {
        let relays = (0..).zip(classes).map(|(n, class)| relay(n, &format!("127.{n}.0.1:1"), class));
        UsableRelays::new(Epoch(7), relays)
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let relays: Vec<_> = (0..9).map(|n| relay(n, &format!("127.{n}.0.1:1"), AgeClass::Old)).collect();
        let one = UsableRelays::new(Epoch(7), relays.clone());
        let other = UsableRelays::new(Epoch(7), relays.iter().rev().chain(&relays).cloned());
        assert_eq!((one.len(), other.len(), other.epoch()), (9, 9, Epoch(7)));
        assert!(one.iter().eq(other.iter()) && !one.is_empty());
        relays.iter().for_each(|relay| assert_eq!(other.find(&relay.entry.id), Some(relay)));
        assert_eq!(other.find(&RelayId::from_bytes([99; 32])), None);
    }

    #[test]
    fn seniors_are_of_the_highest_class_that_enough_relays_have_reached() {
        use AgeClass::{Grown, New, Old};
        let classes = |old, grown, new| {
            std::iter::repeat_n(Old, old).chain(std::iter::repeat_n(Grown, grown)).chain(std::iter::repeat_n(New, new))
        };
        for (old, grown, new, senior) in [
            (0, 0, 0, New),
            (19, 0, 100, New),
            (19, 1, 100, Grown),
            (0, 20, 100, Grown),
            (20, 0, 200, Old),
            (19, 200, 0, Grown),
        ] {
            assert_eq!(of_classes(classes(old, grown, new)).senior(), senior, "{old} {grown} {new}");
        }
    }

    #[test]
    fn marks_meet_in_a_netgroup_of_either_kind_and_in_a_family() {
        let family = |relay: UsableRelay| UsableRelay { family: Some(FamilyId::from_bytes([1; 32])), ..relay };
        let all = UsableRelays::new(
            Epoch(7),
            [
                relay(0, "127.0.0.1:1,[2001:1::]:1", AgeClass::Old),
                relay(1, "127.0.0.2:1", AgeClass::Old),
                relay(2, "[2001:1::1]:1", AgeClass::Old),
                family(relay(3, "127.3.0.1:1", AgeClass::Old)),
                family(relay(4, "127.4.0.1:1", AgeClass::Old)),
            ],
        );
        let meeting = [(0, 1), (0, 2), (3, 4)];
        for a in 0..5 {
            for b in 0..a {
                let expected = meeting.contains(&(b, a));
                assert_eq!(all.candidates[a].marks.meet(all.candidates[b].marks), expected, "{a} {b}");
                let family = all.candidates[a].marks.family_only().meet(all.candidates[b].marks.family_only());
                assert_eq!(family, (b, a) == (3, 4));
            }
            assert_eq!(all.marks_of(&all.relays[a]), all.candidates[a].marks);
        }
        let [both, v4, v6, ours, theirs] = [0, 1, 2, 3, 4].map(|at: usize| all.relays[at].clone());
        assert!(!both.is_apart(&[v4.clone(), ours.clone()], false) && both.is_apart(&[v4.clone(), ours.clone()], true));
        assert!(v4.is_apart(&[v6, ours.clone()], false) && !v4.is_apart(std::slice::from_ref(&v4), true));
        assert!(!ours.is_apart(&[theirs], true), "a family counts everywhere");
        let stranger = relay(9, "127.9.0.1:1,[2001:1::9]:1", AgeClass::Old);
        assert_eq!(all.marks_of(&stranger), Marks([0, all.candidates[2].marks.0[1], 0]));
    }
}
