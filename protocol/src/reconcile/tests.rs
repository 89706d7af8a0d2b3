use std::{cell::Cell, collections::BTreeSet, sync::OnceLock};

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::*;
use crate::{
    descriptor::Checked,
    view::sample::{TODAY, during, record, view_of},
};

const SALT: Salt = Salt([7; 16]);

/// Records of many relays, some newer than others.
fn pool() -> &'static [Checked] {
    static POOL: OnceLock<Vec<Checked>> = OnceLock::new();
    let epoch = |relay: u16| if relay.is_multiple_of(8) { TODAY.next() } else { TODAY };
    POOL.get_or_init(|| (0..12_000).map(|relay| record(relay, epoch(relay))).collect())
}

fn relays(records: &[Checked]) -> BTreeSet<RelayId> {
    records.iter().map(|record| record.record().relay()).collect()
}

/// What a session found, and what it cost.
struct Outcome {
    wants: BTreeSet<RelayId>,
    haves: BTreeSet<RelayId>,
    messages: usize,
    bytes: usize,
    end: Result<(), ReconcileError>,
}

fn run(ours: &View, theirs: &View, salt: Salt) -> Outcome {
    let mut responder = Responder::new(&Held::of(theirs), salt);
    let bytes = Cell::new(0);
    let answer = |message: &[u8]| {
        let answer = responder.respond(message).unwrap();
        assert!(message.len() <= RECONCILE_FRAME && answer.len() <= RECONCILE_FRAME);
        bytes.set(bytes.get() + message.len() + answer.len());
        answer
    };
    let (session, messages, end) = converse(ours, salt, answer);
    let wants = session.wants().map(|name| responder.find(&name).expect("an honest peer has it")).collect();
    Outcome { wants, haves: session.haves().collect(), messages, bytes: bytes.get(), end }
}

/// A session with whoever answers; gives how many messages it sent, and how it ended.
fn converse(
    ours: &View,
    salt: Salt,
    mut answer: impl FnMut(&[u8]) -> Vec<u8>,
) -> (Reconciler, usize, Result<(), ReconcileError>) {
    let (mut session, first) = Reconciler::start(&Held::of(ours), salt);
    let (mut next, mut messages) = (Ok(Some(first)), 0);
    while let Ok(Some(message)) = &next {
        messages += 1;
        assert!(messages <= RECONCILE_ROUNDS);
        next = session.handle_answer(&answer(message));
    }
    assert!(session.wants().count() <= RECONCILE_WANTS && session.haves().count() <= RECONCILE_WANTS);
    (session, messages, next.map(|_| ()))
}

#[test]
fn the_cost_is_that_of_the_difference() {
    let all = &pool()[..11_000];
    let ours = view_of(&all[..10_000]);
    // 16 fingerprints, answered by one byte.
    let same = run(&ours, &ours, SALT);
    assert_eq!((same.messages, same.end), (1, Ok(())));
    assert!((250..400).contains(&same.bytes), "{}", same.bytes);
    // 10 differences, 5 each way, anywhere: about a kilobyte for each.
    let theirs = view_of(&all[5..10_005]);
    let few = run(&ours, &theirs, SALT);
    assert_eq!((few.wants, few.haves), (relays(&all[10_000..10_005]), relays(&all[..5])));
    assert!((5_000..16_000).contains(&few.bytes), "{}", few.bytes);
    assert!(few.messages <= 4, "{}", few.messages);
    // 1,000 differences, 500 each way: about 400 bytes for each.
    let theirs = view_of(&all[500..10_500]);
    let many = run(&ours, &theirs, SALT);
    assert_eq!((many.wants, many.haves), (relays(&all[10_000..10_500]), relays(&all[..500])));
    assert!((300_000..450_000).contains(&many.bytes), "{}", many.bytes);
}

#[test]
fn what_is_new_costs_less_than_what_is_anywhere() {
    let old: Vec<_> = pool().iter().filter(|record| record.record().issued() == TODAY).cloned().collect();
    let new: Vec<_> = pool().iter().filter(|record| record.record().issued() > TODAY).take(100).cloned().collect();
    let (ours, theirs) = (view_of(&old), view_of(old.iter().chain(&new)));
    let found = run(&ours, &theirs, SALT);
    assert_eq!(found.wants, relays(&new));
    assert!(found.bytes < 12_000, "{}", found.bytes);
}

#[test]
fn a_newcomer_has_all_after_a_few_sessions_and_one_without_anything_in_common_too() {
    for ours in [&[][..], &pool()[..2000]] {
        let (all, mut ours) = (&pool()[2000..6000], view_of(ours));
        let theirs = view_of(all);
        let lacking = |view: &View| all.iter().filter(|record| view.get(&record.record().relay()).is_none()).count();
        for session in 0..3 {
            let before = lacking(&ours);
            let found = run(&ours, &theirs, Salt([session; 16]));
            assert_eq!(found.end, Ok(()));
            assert_eq!(found.wants.len(), before.min(RECONCILE_WANTS));
            for relay in found.wants {
                ours.offer(theirs.get(&relay).unwrap().record.clone(), during(TODAY));
            }
        }
        assert_eq!(lacking(&ours), 0);
    }
}

#[test]
fn names_are_those_of_the_session() {
    let view = view_of(&pool()[..1]);
    let (relay, digest) = (pool()[0].record().relay(), pool()[0].record().digest());
    let name = |salt: Salt| SaltedId(crypto::blake3(&[&salt.0, &digest]));
    let responder = Responder::new(&Held::of(&view), SALT);
    assert_eq!(responder.find(&name(SALT)), Some(relay));
    assert_eq!(responder.find(&name(Salt([8; 16]))), None);
}

#[test]
fn a_long_message_and_one_of_another_kind_are_refused() {
    let view = view_of(&pool()[..100]);
    let (mut session, first) = Reconciler::start(&Held::of(&view), SALT);
    let mut responder = Responder::new(&Held::of(&view), SALT);
    let long = [first, vec![0; RECONCILE_FRAME]].concat();
    assert_eq!(session.handle_answer(&long), Err(ReconcileError::Length(long.len())));
    assert_eq!(responder.respond(&long), Err(ReconcileError::Length(long.len())));
    for wrong in [&b""[..], &[0x51], &[0x61, 0, 0, 7], &[0x61, 0, 0, 1, 1]] {
        assert_eq!(session.handle_answer(wrong), Err(ReconcileError::Malformed), "{wrong:?}");
        assert_eq!(responder.respond(wrong), Err(ReconcileError::Malformed), "{wrong:?}");
    }
    // A list of as many names as there are atoms, of which none comes.
    let list = [0x61, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(session.handle_answer(&list), Err(ReconcileError::Malformed));
    assert_eq!(responder.respond(&list), Err(ReconcileError::Malformed));
}

#[test]
fn a_peer_that_never_ends_is_left() {
    let view = view_of(&pool()[..1000]);
    let mut n = 0;
    // "All of it is different", again and again.
    let (_, messages, end) = converse(&view, SALT, |_| {
        n += 1;
        [&[0x61, 0, 0, 1][..], &[n; 16]].concat()
    });
    assert_eq!((messages, end), (RECONCILE_ROUNDS, Err(ReconcileError::Rounds)));
    let mut responder = Responder::new(&Held::of(&view), SALT);
    let (_, first) = Reconciler::start(&Held::of(&view_of(&pool()[..999])), SALT);
    for _ in 0..RECONCILE_ROUNDS {
        assert!(responder.respond(&first).is_ok());
    }
    assert_eq!(responder.respond(&first), Err(ReconcileError::Rounds));
}

/// A list of names for everything.
fn list(names: &[[u8; 32]]) -> Vec<u8> {
    let count = u16::try_from(names.len()).unwrap();
    let count = [0x80 | u8::try_from(count >> 7).unwrap(), u8::try_from(count & 0x7f).unwrap()];
    [&[0x61, 0, 0, 2][..], &count, &names.concat()].concat()
}

#[test]
fn a_peer_that_gives_our_records_as_its_own_is_left_and_one_that_repeats_itself_gains_nothing() {
    let view = view_of(&pool()[..1000]);
    let (mut session, _) = Reconciler::start(&Held::of(&view), SALT);
    assert!(session.handle_answer(&list(&[[1; 32]])).is_ok());
    assert_eq!(session.wants().count(), 1);
    assert_eq!(session.haves().count(), 1000, "so it has none of ours");
    assert!(session.handle_answer(&list(&[[1; 32]])).is_ok());
    assert_eq!((session.wants().count(), session.haves().count()), (1, 1000));
    // A name of ours, in the range before all of ours.
    let (mut session, _) = Reconciler::start(&Held::of(&view), SALT);
    let ours = crypto::blake3(&[&SALT.0, &pool()[1].record().digest()]);
    let misplaced = [&[0x61, 2, 0, 2, 1][..], &ours].concat();
    assert_eq!(session.handle_answer(&misplaced), Err(ReconcileError::Contradiction));
}

#[test]
fn endless_inventions_end_at_the_bound() {
    let view = view_of(&pool()[..1000]);
    let mut rng = StdRng::seed_from_u64(1);
    let (mut session, _) = Reconciler::start(&Held::of(&view), SALT);
    // Everything before the last second of all time differs; what comes then, too.
    let mut answers = 0;
    let mut answer = |session: &mut Reconciler| {
        answers += 1;
        let names: Vec<[u8; 32]> = (0..500).map(|_| rng.random()).collect();
        // In an empty range, so that only inventions come out.
        let mut answer = list(&names);
        answer[1] = 2;
        answer.extend([0, 0, 1]);
        answer.extend([answers; 16]);
        session.handle_answer(&answer)
    };
    while answer(&mut session).unwrap().is_some() {}
    assert_eq!(session.wants().count(), RECONCILE_WANTS);
    assert_eq!(answers, 5);
}

fn subset(seed: u64, size: usize) -> View {
    let mut records: Vec<_> = pool()[..600].iter().collect();
    records.shuffle(&mut StdRng::seed_from_u64(seed));
    view_of(records.into_iter().take(size))
}

fn names(view: &View) -> BTreeSet<RelayId> {
    view.iter().map(|(relay, _)| *relay).collect()
}

/// Runs a session between two subsets and looks at all that it found.
fn compare(ours: &View, theirs: &View, salt: Salt) {
    let found = run(ours, theirs, salt);
    let (ours, theirs) = (names(ours), names(theirs));
    assert_eq!(found.end, Ok(()));
    assert_eq!(found.wants, &theirs - &ours);
    assert_eq!(found.haves, &ours - &theirs);
}

#[test]
fn a_name_that_comes_twice_from_an_honest_peer_is_taken_once() {
    let salt = [80, 122, 38, 190, 212, 172, 87, 108, 19, 75, 53, 77, 118, 95, 218, 28];
    compare(&subset(1_713_190_083_292_785_357, 91), &subset(0, 596), Salt(salt));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn two_sets_are_equal_after_one_session(seeds: (u64, u64), sizes in (0usize..600, 0usize..600), salt: [u8; 16]) {
        let (ours, theirs) = (subset(seeds.0, sizes.0), subset(seeds.1, sizes.1));
        compare(&ours, &theirs, Salt(salt));
    }

    #[test]
    fn answers_with_changed_bytes_do_no_more_than_end_the_session(
        sizes in (0usize..600, 0usize..600), seed: u64, changes in 1usize..4
    ) {
        let (ours, theirs) = (subset(seed, sizes.0), subset(!seed, sizes.1));
        let mut rng = StdRng::seed_from_u64(seed);
        let mut responder = Responder::new(&Held::of(&theirs), SALT);
        let (_, messages, _) = converse(&ours, SALT, |message| {
            let mut change = |bytes: &mut Vec<u8>| {
                for _ in 0..changes {
                    let at = rng.random_range(0..bytes.len());
                    bytes[at] = rng.random();
                }
            };
            let mut message = message.to_vec();
            let mut answer = responder.respond(&message).unwrap_or_else(|_| vec![0x61]);
            change(&mut message);
            change(&mut answer);
            let _ = Responder::new(&Held::of(&theirs), SALT).respond(&message);
            answer
        });
        prop_assert!(messages <= RECONCILE_ROUNDS);
    }

    #[test]
    fn any_bytes_are_answered_within_the_bound(bytes: Vec<u8>, lists in 0usize..5000) {
        let view = subset(1, 600);
        let mut message = vec![0x61];
        message.extend(bytes);
        message.extend([2, 0, 2, 0].repeat(lists));
        message.truncate(RECONCILE_FRAME);
        if let Ok(answer) = Responder::new(&Held::of(&view), SALT).respond(&message) {
            prop_assert!(answer.len() <= RECONCILE_FRAME);
        }
        let (mut session, _) = Reconciler::start(&Held::of(&view), SALT);
        if let Ok(Some(next)) = session.handle_answer(&message) {
            prop_assert!(next.len() <= RECONCILE_FRAME);
        }
    }
}
