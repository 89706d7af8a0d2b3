use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::{crypto::Secret, identity::RelaySecret, params::NetworkParams};

const EPOCH: Epoch = Epoch(80_000);
const STEP: i64 = 240;

fn params() -> DirectoryParams {
    NetworkParams::main().directory
}

/// So many seconds after the deadline, or before it.
fn at(seconds: i64) -> UnixSeconds {
    UnixSeconds((EPOCH.start(&params()).0 - 7200).checked_add_signed(seconds).unwrap())
}

fn secret(number: u8) -> RelaySecret {
    RelaySecret::from_bytes(&Secret::new([number; 32]))
}

fn id(number: u8) -> RelayId {
    secret(number).id()
}

/// A set of so many relays, all of one class, in the epoch before.
fn set(relays: u8, class: AgeClass) -> UsableSet {
    UsableSet::new(Epoch(EPOCH.0 - 1), (0..relays).map(|number| (id(number), class)))
}

/// As this relay knows it, in a set of so many.
fn settling(own: u8, relays: u8) -> Settling {
    Settling::after(&set(relays, AgeClass::Old), &id(own), &params())
}

fn says(observer: u8, relay: u8) -> Sighting {
    Sighting::sign(EPOCH, vec![id(relay)], &NetworkParams::main().id(), &secret(observer))
}

/// Looks at each moment, while the candidates are those that `at_look` says.
fn look(settling: &mut Settling, at_look: impl Fn(usize) -> Vec<u8>) {
    for number in 0..5 {
        let moment = settling.next_look().unwrap();
        assert_eq!(moment, at((number as i64 - 3) * STEP));
        settling.look(moment, || at_look(number).into_iter().map(id).collect());
    }
    assert_eq!(settling.next_look(), None);
}

#[test]
fn who_was_there_well_before_the_deadline_and_at_it_is_in_time_without_a_word() {
    let mut settling = settling(3, 10);
    // 100: always. 101: came late. 102: went before the deadline. 103: went after it. 104: came before it.
    look(&mut settling, |number| match number {
        0 | 1 => vec![100, 102, 103],
        2 => vec![100, 102, 103, 104],
        3 => vec![100, 101, 103, 104],
        _ => vec![100, 101, 104],
    });
    let in_time: Vec<_> = (100..105).filter(|relay| settling.is_settled(&id(*relay), at(0), true)).collect();
    assert_eq!(in_time, [100, 103]);
    // About all others, and about who went right after it, observers say what they saw.
    let signed = settling.to_sign(at(STEP)).concat();
    assert_eq!(signed.into_iter().collect::<BTreeSet<_>>(), [101, 102, 103, 104].map(id).into());
    assert!(settling.to_sign(at(3 * STEP)).is_empty(), "it said so before");
}

#[test]
fn who_is_no_observer_signs_nothing() {
    for (own, signed) in [(11, vec![]), (9, vec![id(100)])] {
        let mut settling = settling(own, 10);
        look(&mut settling, |number| if number < 3 { vec![] } else { vec![100] });
        assert_eq!(settling.to_sign(at(STEP)).concat(), signed);
    }
}

#[test]
fn two_steps_more_take_one_observer_more_and_observers_have_a_step_longer() {
    for (steps, needed) in [(0, 1), (2, 1), (3, 2), (4, 2), (5, 3), (24, 12)] {
        for (own, longer) in [(20, 0), (15, STEP)] {
            let seconds = if steps % 2 == 0 { steps * STEP + longer } else { (steps - 1) * STEP + longer + 1 };
            let mut settling = settling(own, 16);
            look(&mut settling, |_| vec![]);
            for observer in 0..needed {
                assert!(!settling.is_settled(&id(100), at(0), true), "{seconds}");
                assert!(settling.take(says(observer, 100), at(seconds), |_| true));
            }
            assert!(settling.is_settled(&id(100), at(0), true), "{seconds}");
        }
    }
    for (own, last) in [(20, 24 * STEP), (15, 25 * STEP)] {
        let mut settling = settling(own, 16);
        assert!(settling.is_open(at(last)) && !settling.is_open(at(last + 1)) && !settling.is_open(at(-1)));
        (0..15).for_each(|observer| assert!(!settling.take(says(observer, 100), at(last + 1), |_| true)));
        assert!(!settling.is_settled(&id(100), at(0), true));
    }
}

#[test]
fn one_observer_counts_once_however_often_it_speaks() {
    let mut settling = settling(20, 16);
    for others in 0..50 {
        let sighting = Sighting::sign(EPOCH, vec![id(100), id(101 + others)], &NetworkParams::main().id(), &secret(1));
        assert!(settling.take(sighting, at(2 * STEP + 1), |_| true));
    }
    assert!(!settling.is_settled(&id(100), at(0), true));
}

#[test]
fn a_relay_without_a_record_is_accepted_once_it_has_one_in_time() {
    let mut settling = settling(20, 16);
    look(&mut settling, |_| vec![]);
    assert!(settling.take(says(1, 100), at(STEP), |_| false));
    settling.weigh(at(2 * STEP), |_| false);
    settling.weigh(at(2 * STEP + 1), |_| true);
    assert!(!settling.is_settled(&id(100), at(0), true), "one observer is not enough any more");
    assert!(settling.take(says(2, 100), at(3 * STEP), |_| false));
    settling.weigh(at(4 * STEP), |_| true);
    assert!(settling.is_settled(&id(100), at(0), true));
}

#[test]
fn an_observer_that_is_convinced_says_so_too_and_not_too_often() {
    let mut settling = settling(5, 16);
    look(&mut settling, |_| vec![]);
    assert!(settling.take(says(1, 100), at(STEP + 1), |_| true));
    assert_eq!(settling.to_sign(at(STEP + 2)), [[id(100)]]);
    assert!(settling.take(says(1, 101), at(STEP + 3), |_| true));
    assert!(settling.to_sign(at(STEP + 2 + STEP / 3 - 1)).is_empty());
    assert_eq!(settling.to_sign(at(STEP + 2 + STEP / 3)), [[id(101)]]);
}

#[test]
fn an_observer_signs_first_whom_it_saw_itself_and_nobody_who_was_there_throughout() {
    let mut settling = settling(5, 16);
    look(&mut settling, |number| if number < 3 { vec![100, 101] } else { vec![99, 100, 101] });
    for (observer, relays) in [(1, vec![100, 101, 30, 31]), (2, vec![31])] {
        let relays = relays.into_iter().map(id).collect();
        let sighting = Sighting::sign(EPOCH, relays, &NetworkParams::main().id(), &secret(observer));
        assert!(settling.take(sighting, at(10), |_| true));
    }
    assert_eq!(settling.to_sign(at(STEP + 1)), [[id(99), id(31), id(30)]]);
}

#[test]
fn an_observer_signs_all_that_waits_at_once_and_no_more_than_others_take_from_it() {
    let mut settling = settling(5, 16);
    look(&mut settling, |_| vec![]);
    let number = |number: u32| RelayId::from_bytes([number.to_be_bytes(); 8].concat().try_into().unwrap());
    for observer in 0..2 {
        for first in (0..u32::try_from(SIGHTED_EACH).unwrap()).step_by(64) {
            let relays = (first..first + 64).map(|relay| number(relay + u32::from(observer) * 2048)).collect();
            let sighting = Sighting::sign(EPOCH, relays, &NetworkParams::main().id(), &secret(observer));
            assert!(settling.take(sighting, at(10), |_| true));
        }
    }
    let signed = settling.to_sign(at(STEP + 1));
    assert!(signed.len() == SIGHTED_EACH / 64 && signed.iter().all(|relays| relays.len() == 64));
    let both: BTreeSet<_> = signed.concat().into_iter().collect();
    assert!((2048..4096).all(|relay| both.contains(&number(relay))), "those first that two have seen");
    for relays in signed {
        let own = Sighting::sign(EPOCH, relays, &NetworkParams::main().id(), &secret(5));
        assert!(settling.take(own, at(STEP + 1), |_| true), "others take it, too");
    }
    assert!(settling.to_sign(at(10 * STEP)).is_empty());
}

#[test]
fn sightings_of_others_or_of_another_epoch_and_more_than_enough_are_not_taken() {
    let mut settling = settling(20, 16);
    let network = NetworkParams::main().id();
    let other_epoch = Sighting::sign(EPOCH.next(), vec![id(100)], &network, &secret(1));
    for refused in [says(40, 100), other_epoch] {
        assert!(!settling.would_take(&refused, at(10)) && !settling.take(refused, at(10), |_| true));
    }
    assert!(settling.take(says(1, 100), at(10), |_| true));
    assert!(!settling.would_take(&says(1, 100), at(10)), "it is no news");
    let number = |number: u32| RelayId::from_bytes([number.to_le_bytes(); 8].concat().try_into().unwrap());
    let many = |first: u32| Sighting::sign(EPOCH, (first..first + 64).map(number).collect(), &network, &secret(1));
    let taken = (0..96).filter(|first| settling.take(many(first * 64), at(10), |_| true)).count();
    assert_eq!(taken, (SIGHTED_EACH - 1) / 64);
    let small = (0..200).filter(|relay| settling.take(says(2, 50 + relay), at(10), |_| true)).count();
    assert_eq!(small, SIGHTINGS_EACH);
    assert!(settling.take(says(3, 100), at(10), |_| true), "another observer has room");
}

#[test]
fn what_another_lacks_is_told_by_names() {
    let mut settling = settling(20, 16);
    (0..5).for_each(|observer| assert!(settling.take(says(observer, 100), at(10), |_| true)));
    let names: Vec<_> = settling.names().collect();
    assert_eq!(settling.others(&names).count(), 0);
    assert_eq!(settling.others(&names[1..]).map(Sighting::name).collect::<Vec<_>>(), names[..1]);
    assert_eq!(settling.others(&[]).count(), 5);
}

#[test]
fn who_did_not_look_in_time_goes_by_when_it_heard_of_a_relay() {
    let mut settling = settling(3, 10);
    settling.look(at(-3 * STEP), || [id(100)].into());
    settling.look(at(-STEP + 1), || [id(100), id(101)].into()); // the moment before this is more than a step over
    settling.look(at(STEP), || [id(100), id(101)].into());
    assert_eq!(settling.next_look(), None);
    assert!(settling.to_sign(at(STEP + 1)).is_empty(), "it has seen nothing");
    let two = -2 * STEP;
    for (first_seen, is_candidate, settled) in [(two, true, true), (two + 1, true, false), (two, false, false)] {
        assert_eq!(settling.is_settled(&id(100), at(first_seen), is_candidate), settled);
    }
    assert!(settling.take(says(1, 101), at(STEP + 2), |_| true));
    assert!(settling.is_settled(&id(101), at(STEP), true), "what observers say counts all the same");
}

#[test]
fn observers_are_drawn_anew_for_each_epoch_and_old_where_there_are_enough() {
    let all = set(200, AgeClass::New);
    let (one, other) = (observers(&all, EPOCH), observers(&all, EPOCH.next()));
    assert!(one.len() == OBSERVERS && other.len() == OBSERVERS && one != other);
    assert!(one.is_sorted());
    for (old, only_old) in [(32, true), (31, false)] {
        let classes = (0..200).map(|number| (id(number), if number < old { AgeClass::Old } else { AgeClass::Grown }));
        let set = UsableSet::new(Epoch(EPOCH.0 - 1), classes);
        let olds: BTreeSet<_> = (0..old).map(id).collect();
        assert_eq!(observers(&set, EPOCH).iter().all(|observer| olds.contains(observer)), only_old);
    }
    assert_eq!(observers(&set(3, AgeClass::New), EPOCH).len(), 3);
}

#[test]
fn a_network_without_time_to_settle_goes_by_when_a_relay_was_heard_of() {
    let mut params = params();
    params.settle = 20;
    let mut settling = Settling::after(&set(10, AgeClass::Old), &id(3), &params);
    let deadline = UnixSeconds(EPOCH.start(&params).0 - 20);
    assert_eq!(settling.next_look(), Some(deadline));
    settling.look(deadline, || [id(100)].into());
    assert!(settling.next_look().is_none() && settling.to_sign(deadline).is_empty());
    for (first_seen, settled) in [(deadline, true), (deadline.plus(1), false)] {
        assert_eq!(settling.is_settled(&id(100), first_seen, true), settled);
    }
    assert!(settling.would_take(&says(1, 100), deadline) && !settling.would_take(&says(1, 100), deadline.plus(1)));
}

// Whatever an attacker does who has fewer observers than are enough, all honest relays decide the same.

const HONEST: usize = 7;
/// The first of the honest relays are observers, as many as these; the rest of the set is the attacker's.
const HONEST_OBSERVERS: u8 = 3;
const BAD: u8 = 11;
const SUBJECT: u8 = 200;

/// What each member of the set says of the subject.
static SAID: LazyLock<Vec<Sighting>> =
    LazyLock::new(|| (0..HONEST_OBSERVERS + BAD).map(|observer| says(observer, SUBJECT)).collect());
static UNDECIDED: LazyLock<Vec<Settling>> = LazyLock::new(|| {
    let set = set(HONEST_OBSERVERS + BAD, AgeClass::Old);
    (0..HONEST).map(|node| Settling::after(&set, &id(own(node)), &params())).collect()
});
static SUBJECT_ID: LazyLock<RelayId> = LazyLock::new(|| id(SUBJECT));

#[derive(Clone, Debug)]
enum Event {
    /// A relay gets the subject's record, or hears that it leaves.
    Comes(usize),
    Leaves(usize),
    Told(usize, u8),
    Tick,
}

#[derive(Clone)]
struct Honest {
    has_come: bool,
    has_left: bool,
}

struct Network {
    settlings: Vec<Settling>,
    honest: Vec<Honest>,
    /// By time and number, so that a run repeats itself.
    events: BTreeMap<(i64, usize), Event>,
    delays: Vec<i64>,
    count: usize,
}

impl Network {
    fn put(&mut self, seconds: i64, event: Event) {
        self.count += 1;
        self.events.insert((seconds, self.count), event);
    }

    /// What one honest relay has comes to all others, each time after another while: less than a step with the time that
    /// an observer takes to sign.
    fn spread(&mut self, from: usize, seconds: i64, event: impl Fn(usize) -> Event) {
        for to in (0..HONEST).filter(|to| *to != from) {
            let delay = self.delays[(self.count * 31 + to) % self.delays.len()];
            self.put(seconds + delay, event(to));
        }
    }

    fn run(&mut self) {
        while let Some(((seconds, _), event)) = self.events.pop_first() {
            match event {
                Event::Comes(node) if !self.honest[node].has_come => {
                    self.honest[node].has_come = true;
                    self.spread(node, seconds, Event::Comes);
                }
                Event::Leaves(node) if !self.honest[node].has_left => {
                    self.honest[node].has_left = true;
                    self.spread(node, seconds, Event::Leaves);
                }
                Event::Told(node, observer) => {
                    let is_known = self.is_known(node);
                    if self.settlings[node].take(SAID[usize::from(observer)].clone(), at(seconds), |_| is_known) {
                        self.spread(node, seconds, |to| Event::Told(to, observer));
                    }
                }
                Event::Comes(_) | Event::Leaves(_) => {}
                Event::Tick => (0..HONEST).for_each(|node| self.tick(node, seconds)),
            }
        }
    }

    fn tick(&mut self, node: usize, seconds: i64) {
        let (is_known, is_candidate) = (self.is_known(node), self.is_known(node) && !self.honest[node].has_left);
        let settling = &mut self.settlings[node];
        settling.look(at(seconds), || if is_candidate { [*SUBJECT_ID].into() } else { BTreeSet::new() });
        settling.weigh(at(seconds), |_| is_known);
        if !settling.to_sign(at(seconds)).is_empty() {
            self.put(seconds, Event::Told(node, own(node)));
        }
    }

    /// That a relay leaves is a record of it, and no older one is taken then.
    fn is_known(&self, node: usize) -> bool {
        self.honest[node].has_come || self.honest[node].has_left
    }
}

/// Of the honest relays only the first are in the set.
fn own(node: usize) -> u8 {
    let node = u8::try_from(node).unwrap();
    if node < HONEST_OBSERVERS { node } else { 100 + node }
}

/// A moment that is likely to be one step's end, or a second beside it.
fn moment() -> impl Strategy<Value = i64> {
    prop_oneof![(-5i64..27, -1i64..2).prop_map(|(step, beside)| step * STEP + beside), -1200i64..6200]
}

fn given<T: std::fmt::Debug + Clone>(
    what: impl Strategy<Value = T>,
    most: usize,
) -> impl Strategy<Value = Vec<(i64, usize, T)>> {
    prop::collection::vec((moment(), 0..HONEST, what), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn all_honest_relays_decide_the_same(
        comes in given(Just(()), 4),
        leaves in prop_oneof![3 => Just(vec![]), 1 => given(Just(()), 3)],
        bad in given(HONEST_OBSERVERS..HONEST_OBSERVERS + BAD, 60),
        delays in prop::collection::vec(0i64..140, 97),
    ) {
        let settlings = UNDECIDED.clone();
        let honest = vec![Honest { has_come: false, has_left: false }; HONEST];
        let mut network = Network { settlings, honest, events: BTreeMap::new(), delays, count: 0 };
        (-40..320).for_each(|tick| network.put(tick * 20, Event::Tick));
        comes.iter().for_each(|(seconds, node, ())| network.put(*seconds, Event::Comes(*node)));
        leaves.iter().for_each(|(seconds, node, ())| network.put(*seconds, Event::Leaves(*node)));
        bad.iter().for_each(|(seconds, node, observer)| network.put(*seconds, Event::Told(*node, *observer)));
        network.run();
        let decided: Vec<_> = network.settlings.iter().map(|one| one.is_settled(&SUBJECT_ID, at(0), true)).collect();
        prop_assert!(decided.iter().all(|one| *one == decided[0]), "{decided:?}");
    }
}
