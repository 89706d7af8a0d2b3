//! Majority: a client's usable set, from what several sources say.
//!
//! Specification: docs/protocol.md, "Usable sets". Fewer than half of the sources can neither add nor remove a relay
//! nor change its class, where the others agree. This file never asks anybody: `client/src/directory.rs` does.

use crate::{
    epoch::Epoch,
    identity::RelayId,
    limits::{DOUBT_BYTES, MAX_USABLE, SOURCES, SOURCES_DOUBT, SOURCES_MIN},
    usable::{AgeClass, Member, Salt, Statement, UsableSet, short_hash, short_statement},
};

/// A source's answer while it comes in, page by page.
#[derive(Debug)]
pub struct SourcePages {
    salt: Salt,
    /// The epoch and the number of members that the first page told.
    told: Option<(Epoch, usize)>,
    members: Vec<Member>,
}

/// What one source said, whole.
#[derive(Debug)]
pub struct SourceSet {
    salt: Salt,
    epoch: Epoch,
    /// In the order of their hashes.
    members: Vec<Member>,
}

/// A client's usable set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Majority {
    /// The relays that more than half of the sources list, as the client knows them.
    pub set: UsableSet,
    /// How many relays a source listed that the client does not know, or knows otherwise; the lower median of the
    /// sources.
    pub unknown: usize,
}

/// Why a source's answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSource {
    /// More members than any network can have.
    #[error("the source lists more than {MAX_USABLE} relays")]
    TooMany,
    /// Pages that do not fit each other: another epoch or number, too many members, an empty page.
    #[error("the source's pages do not fit each other")]
    Pages,
    /// One name for two members.
    #[error("the source lists a relay twice")]
    Twice,
}

/// How many sources are asked where the first ones disagree on a set of so many relays: many, since each further one
/// makes it less likely that most of them lie; fewer where their answers are long.
pub fn sources_in_doubt(relays: usize) -> usize {
    (DOUBT_BYTES / (Member::LENGTH * relays.max(1))).clamp(SOURCES, SOURCES_DOUBT)
}

/// Too few sources said something about the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{answered} sources told their relays of this epoch, and at least {SOURCES_MIN} are needed")]
pub struct TooFewSources {
    /// Sources that did.
    pub answered: usize,
}

impl SourcePages {
    /// For a source that is asked with this salt.
    pub fn new(salt: Salt) -> Self {
        Self { salt, told: None, members: Vec::new() }
    }

    /// Where the next page begins; `None` when all are here.
    pub fn next_offset(&self) -> Option<usize> {
        match self.told {
            Some((_, total)) if self.members.len() >= total => None,
            _ => Some(self.members.len()),
        }
    }

    /// Takes in the page that begins at [`SourcePages::next_offset`].
    ///
    /// # Errors
    /// [`BadSource`]; the source is not to be asked further.
    pub fn handle_page(&mut self, epoch: Epoch, total: u32, members: &[Member]) -> Result<(), BadSource> {
        let total = usize::try_from(total).map_err(|_| BadSource::TooMany)?;
        if total > MAX_USABLE {
            return Err(BadSource::TooMany);
        }
        let room = total.saturating_sub(self.members.len());
        let fits = *self.told.get_or_insert((epoch, total)) == (epoch, total);
        if !fits || members.len() > room || (members.is_empty() && room > 0) {
            return Err(BadSource::Pages);
        }
        self.members.extend(members);
        Ok(())
    }

    /// What the source said.
    ///
    /// # Errors
    /// [`BadSource`] if pages are missing, or a member is there twice.
    pub fn finish(self) -> Result<SourceSet, BadSource> {
        let (Some((epoch, _)), None) = (self.told, self.next_offset()) else { return Err(BadSource::Pages) };
        let Self { salt, mut members, .. } = self;
        members.sort_unstable();
        if members.is_sorted_by(|a, b| a.name < b.name) {
            Ok(SourceSet { salt, epoch, members })
        } else {
            Err(BadSource::Twice)
        }
    }
}

impl SourceSet {
    /// The epoch that the source speaks of.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many relays it lists.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it lists none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether it says just this.
    pub fn agrees(&self, set: &UsableSet) -> bool {
        let has = |(relay, class)| self.class(&relay) == Some(class);
        self.epoch == set.epoch() && self.len() == set.len() && set.iter().all(has)
    }

    /// The class that it tells of this relay, if it lists it.
    pub fn class(&self, relay: &RelayId) -> Option<AgeClass> {
        self.find(relay).map(|member| member.class)
    }

    /// The class that it tells of this relay, if it lists it and knows it as one that says this.
    fn class_as(&self, relay: &RelayId, said: &Statement) -> Option<AgeClass> {
        let member = self.find(relay)?;
        (member.said == short_statement(&self.salt, said)).then_some(member.class)
    }

    fn find(&self, relay: &RelayId) -> Option<&Member> {
        let hash = short_hash(&self.salt, relay);
        let at = self.members.binary_search_by_key(&hash, |member| member.name).ok()?;
        self.members.get(at)
    }
}

/// The epoch that most of these sources speak of; of two, the later.
pub fn most_named(sources: &[&SourceSet]) -> Option<Epoch> {
    let named = |epoch: Epoch| sources.iter().filter(|source| source.epoch == epoch).count();
    sources.iter().map(|source| source.epoch).max_by_key(|epoch| (named(*epoch), *epoch))
}

/// The usable set of `epoch` that more than half of these sources agree on, of the relays that are `known`, as these are
/// known: who shows one client a record that it shows nobody else gains nothing by it.
///
/// A source that speaks of another epoch lists nobody, and counts as one: else a few could have an epoch to themselves.
/// The caller sees to it that no two sources are of one netgroup.
///
/// # Errors
/// [`TooFewSources`] below [`SOURCES_MIN`].
pub fn majority(
    epoch: Epoch,
    sources: &[&SourceSet],
    known: impl IntoIterator<Item = (RelayId, Statement)>,
) -> Result<Majority, TooFewSources> {
    let all = sources.len();
    let sources: Vec<_> = sources.iter().filter(|source| source.epoch == epoch).collect();
    if sources.len() < SOURCES_MIN {
        return Err(TooFewSources { answered: sources.len() });
    }
    let mut unknown: Vec<_> = sources.iter().map(|source| source.len()).collect();
    let mut members = Vec::new();
    for (relay, said) in known {
        let mut told = Vec::with_capacity(sources.len());
        for (source, unknown) in sources.iter().zip(&mut unknown) {
            let class = source.class_as(&relay, &said);
            *unknown = unknown.saturating_sub(class.is_some().into());
            told.extend(class);
        }
        if told.len() * 2 > all {
            members.extend(lower_median(&mut told).map(|class| (relay, class)));
        }
    }
    let unknown = lower_median(&mut unknown).unwrap_or(0);
    Ok(Majority { set: UsableSet::new(epoch, members), unknown })
}

/// The middle one; of two, the lower. Where more than half are the same, it is that.
fn lower_median<T: Copy + Ord>(values: &mut [T]) -> Option<T> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

    use super::*;
    use AgeClass::{Grown, New, Old};

    const EPOCH: Epoch = Epoch(9);

    fn id(number: u32) -> RelayId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        RelayId::from_bytes(bytes)
    }

    fn set(members: impl IntoIterator<Item = (u32, AgeClass)>) -> UsableSet {
        UsableSet::new(EPOCH, members.into_iter().map(|(number, class)| (id(number), class)))
    }

    /// What a relay says of itself.
    fn said(relay: &RelayId) -> Statement {
        *relay.as_bytes()
    }

    fn known(number: u32) -> (RelayId, Statement) {
        (id(number), said(&id(number)))
    }

    /// What a source with this set says, in pages of `page` members.
    fn say(set: &UsableSet, salt: Salt, page: usize) -> SourceSet {
        say_as(set, salt, page, said)
    }

    fn say_as(set: &UsableSet, salt: Salt, page: usize, said: fn(&RelayId) -> Statement) -> SourceSet {
        let mut pages = SourcePages::new(salt);
        while let Some(offset) = pages.next_offset() {
            let members: Vec<_> = set.short_members(&salt, offset, page, |relay| Some(said(relay))).collect();
            pages.handle_page(set.epoch(), u32::try_from(set.len()).unwrap(), &members).unwrap();
        }
        pages.finish().unwrap()
    }

    fn merged(sets: &[UsableSet], known: u32) -> Majority {
        let sources: Vec<_> = (0..).zip(sets).map(|(n, set)| say(set, [n; 16], 7)).collect();
        majority(EPOCH, &sources.iter().collect::<Vec<_>>(), (0..known).map(self::known)).unwrap()
    }

    #[test]
    fn more_than_half_decide_and_the_lower_middle_class_counts() {
        let sets = [
            set([(0, Old), (1, Old), (2, New), (3, Old)]),
            set([(0, Old), (1, Grown), (2, Old)]),
            set([(0, Grown), (1, New)]),
            set([(0, New)]),
        ];
        let merged = merged(&sets, 4);
        assert_eq!(merged.set, set([(0, Grown), (1, Grown)]), "2 of 4 are not more than half");
        assert_eq!(merged.unknown, 0);
    }

    #[test]
    fn relays_without_a_record_are_counted_and_not_used() {
        let all = set((0..10).map(|number| (number, Old)));
        let merged = merged(&[all.clone(), all.clone(), all], 7);
        assert_eq!((merged.set.len(), merged.unknown), (7, 3));
    }

    #[test]
    fn a_relay_is_used_only_as_most_sources_know_it() {
        let all = set([(0, Old), (1, Old)]);
        let changed = |relay: &RelayId| if *relay == id(1) { [9; 32] } else { said(relay) };
        let honest = |n| say(&all, [n; 16], 7);
        let other = |n| say_as(&all, [n; 16], 7, changed);
        let found = |sources: [SourceSet; 5], said| {
            let sources = sources.each_ref();
            majority(EPOCH, &sources, [known(0), (id(1), said)]).unwrap()
        };
        let liars = || [honest(1), honest(2), honest(3), other(4), other(5)];
        assert_eq!(found(liars(), said(&id(1))), Majority { set: all.clone(), unknown: 0 });
        let left = Majority { set: set([(0, Old)]), unknown: 1 };
        assert_eq!(found(liars(), [9; 32]), left, "as the liars know it");
        assert_eq!(found(liars(), [8; 32]), left, "as nobody else knows it");
        let moved = [honest(1), honest(2), other(3), other(4), other(5)];
        assert_eq!(found(moved, [9; 32]), Majority { set: all.clone(), unknown: 0 }, "it says something else now");
    }

    #[test]
    fn three_sources_of_the_epoch_are_needed() {
        let of = |epoch| say(&UsableSet::new(epoch, [(id(0), Old)]), [1; 16], 7);
        let two = [of(EPOCH), of(EPOCH), of(EPOCH.next())];
        assert_eq!(majority(EPOCH, &two.each_ref(), [known(0)]), Err(TooFewSources { answered: 2 }));
        let three = [of(EPOCH), of(EPOCH), of(EPOCH.next()), of(EPOCH)];
        assert_eq!(majority(EPOCH, &three.each_ref(), [known(0)]).unwrap().set, set([(0, Old)]));
        assert_eq!(majority(EPOCH, &[], []), Err(TooFewSources { answered: 0 }));
    }

    #[test]
    fn three_who_name_an_epoch_of_their_own_decide_nothing() {
        let told = |epoch, relay: u32| say(&UsableSet::new(epoch, [(id(relay), Old)]), [1; 16], 7);
        let honest = (0..22).map(|_| told(EPOCH, 0));
        let all: Vec<_> = honest.chain((0..3).map(|_| told(EPOCH.next(), 1))).collect();
        let all: Vec<_> = all.iter().collect();
        assert_eq!(most_named(&all), Some(EPOCH));
        let found = |epoch| majority(epoch, &all, [known(0), known(1)]).unwrap().set;
        assert_eq!(found(EPOCH), set([(0, Old)]));
        assert!(found(EPOCH.next()).is_empty(), "not even if they are asked for it");
        assert_eq!(most_named(&all[21..23]), Some(EPOCH.next()), "of as many the later");
        assert_eq!(most_named(&[]), None);
    }

    #[test]
    fn pages_that_lie_or_loop_end_the_source() {
        let member = |n: u8, class| Member { name: [n; 8], class, said: [1, 2, 3, 4] };
        let max = u32::try_from(MAX_USABLE).unwrap();
        let table: Vec<(Epoch, u32, Vec<Member>, BadSource)> = vec![
            (EPOCH, max + 1, vec![member(2, New)], BadSource::TooMany),
            (EPOCH.next(), 3, vec![member(2, New)], BadSource::Pages),
            (EPOCH, 4, vec![member(2, New)], BadSource::Pages),
            (EPOCH, 3, vec![], BadSource::Pages),
            (EPOCH, 3, vec![member(2, New), member(3, New), member(4, New)], BadSource::Pages),
        ];
        for (epoch, total, members, error) in table {
            let mut pages = SourcePages::new([0; 16]);
            pages.handle_page(EPOCH, 3, &[member(1, New)]).unwrap();
            assert_eq!(pages.handle_page(epoch, total, &members), Err(error), "{members:?}");
        }
        let mut twice = SourcePages::new([0; 16]);
        twice.handle_page(EPOCH, 2, &[member(1, New), member(1, Grown)]).unwrap();
        assert_eq!(twice.finish().unwrap_err(), BadSource::Twice);
        let mut short = SourcePages::new([0; 16]);
        assert_eq!(short.next_offset(), Some(0));
        short.handle_page(EPOCH, 2, &[member(1, New)]).unwrap();
        assert_eq!(short.next_offset(), Some(1));
        assert_eq!(short.finish().unwrap_err(), BadSource::Pages);
        assert_eq!(SourcePages::new([0; 16]).finish().unwrap_err(), BadSource::Pages);
    }

    #[test]
    fn a_source_without_relays_is_one_page() {
        let mut pages = SourcePages::new([0; 16]);
        pages.handle_page(EPOCH, 0, &[]).unwrap();
        let source = pages.finish().unwrap();
        assert!(source.is_empty() && source.epoch() == EPOCH);
    }

    /// A set of a liar: relays of its own, true ones left out, classes turned around.
    fn lie(truth: &UsableSet, rng: &mut StdRng) -> UsableSet {
        let keep: Vec<_> = truth.iter().filter(|_| rng.random_range(0..2) == 0).collect();
        let turned = keep.into_iter().map(|(relay, class)| (relay, if class == Old { New } else { Old }));
        let planted = (5000..5000 + rng.next_u32() % 50).map(|number| (id(number), Old));
        UsableSet::new(EPOCH, turned.chain(planted))
    }

    proptest! {
        #[test]
        fn liars_below_half_change_nothing(n in 3usize..12, liars in 0usize..6, seed: u64) {
            let rng = &mut StdRng::seed_from_u64(seed);
            let classes = [New, Grown, Old];
            let truth = set((0..200).map(|number| (number, *classes.choose(rng).unwrap())).collect::<Vec<_>>());
            let liars = liars.min((n - 1) / 2);
            let same_lie = lie(&truth, rng);
            let mut sets = vec![truth.clone(); n - liars];
            for _ in 0..liars {
                sets.push(if seed % 2 == 0 { same_lie.clone() } else { lie(&truth, rng) });
            }
            // The liars' relays are known too: anyone can publish a record.
            prop_assert_eq!(merged(&sets, 6000).set, truth);
        }

        #[test]
        fn clients_of_any_honest_majority_agree(seed: u64) {
            // Honest relays differ in who they saw in time; nine of ten saw each relay that is late.
            let rng = &mut StdRng::seed_from_u64(seed);
            let mut honest = Vec::new();
            for _ in 0..9 {
                honest.push(set((0..300u32).filter(|n| n % 30 != 0 || rng.random_range(0..10) != 0).map(|n| (n, Old))));
            }
            let sure = |merged: &UsableSet| (0..300).filter(|n| n % 30 != 0).all(|n| merged.class(&id(n)) == Some(Old));
            let clients: Vec<_> = (0..4).map(|_| {
                let mut sets: Vec<_> = honest.sample(rng, 5).cloned().collect();
                let lies: Vec<_> = (0..2).map(|_| lie(&honest[0], rng)).collect();
                sets.truncate(3);
                sets.extend(lies);
                merged(&sets, 6000).set
            }).collect();
            for client in &clients {
                // What all honest sources agree on is in, what only liars say is out.
                prop_assert!(sure(client) && client.iter().all(|(relay, _)| relay < id(300)));
            }
        }

        #[test]
        fn any_page_is_taken_or_refused(total in 0u32..20, names in prop::collection::vec(0u8..30, 0..25)) {
            let mut pages = SourcePages::new([0; 16]);
            let page: Vec<_> = names.iter().map(|n| Member { name: [*n; 8], class: Old, said: [0; 4] }).collect();
            let _ = pages.handle_page(EPOCH, total, &page);
            prop_assert!(pages.members.len() <= 20);
            if let Ok(set) = pages.finish() {
                prop_assert_eq!(set.len(), usize::try_from(total).unwrap());
            }
        }
    }
}
