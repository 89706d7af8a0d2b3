//! Tests of guard.rs: each rule by table, the saved form, and what an attacker who makes guards fail gains.

mod exposure;

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use zeroize::Zeroizing;

use super::*;
use crate::{
    entry::{RelayEntry, Weight},
    family::FamilyId,
    identity::{OnionKey, RelaySecret},
    usable::AgeClass,
};

const DAY: u64 = 24 * 3600;
const YEAR: u64 = 365 * DAY;
const START: UnixSeconds = UnixSeconds(1_800_000_000);
const RULES: SampleRules<'static> = SampleRules { allow_same_netgroup: false, own: &[] };

/// Relays 0 to 5999 of the tests: a saved sample takes true keys only.
static IDS: LazyLock<Vec<RelayId>> = LazyLock::new(|| {
    let seed = |number: u16| [&number.to_be_bytes()[..], &[0; 30]].concat().try_into().map(Zeroizing::new).unwrap();
    (0..6000).map(|number| RelaySecret::from_bytes(&seed(number)).id()).collect()
});
static NUMBERS: LazyLock<HashMap<RelayId, u16>> = LazyLock::new(|| IDS.iter().copied().zip(0..).collect());

fn relay(number: u16) -> UsableRelay {
    let [high, low] = number.to_be_bytes();
    let entry = RelayEntry {
        id: IDS[usize::from(number)],
        onion_key: OnionKey::from_bytes([1; 32]),
        addresses: format!("{}.{low}.0.1:1", 60 + high).parse().unwrap(),
        weight: Weight::One,
        exit: "".parse().unwrap(),
    };
    UsableRelay { entry, class: AgeClass::Old, family: None }
}

fn number(relay: &RelayId) -> u16 {
    NUMBERS[relay]
}

fn usable(epoch: u32, relays: impl IntoIterator<Item = u16>) -> UsableRelays {
    UsableRelays::new(Epoch(epoch), relays.into_iter().map(relay))
}

/// A client's sample, its clock, and its generator.
struct Client {
    sample: GuardSample,
    now: UnixSeconds,
    rng: StdRng,
}

impl Client {
    fn new(seed: u64) -> Self {
        Self { sample: GuardSample::new(START), now: START, rng: StdRng::seed_from_u64(seed) }
    }

    /// A client whose view of relays 0..count is confirmed.
    fn settled(count: u16, seed: u64) -> Self {
        let mut client = Self::new(seed);
        (0..3).for_each(|epoch| client.update(&usable(epoch, 0..count)));
        assert!(client.sample.is_confirmed());
        client
    }

    fn update(&mut self, usable: &UsableRelays) {
        self.sample.update(usable, &RULES, self.now, &mut self.rng);
    }

    fn choose(&mut self) -> Result<RelayId, NoGuard> {
        self.sample.choose(self.now, &mut self.rng)
    }

    /// Asks for a guard and dials it.
    fn dial(&mut self, attempt: Attempt) -> Result<RelayId, NoGuard> {
        let relay = self.choose()?;
        self.sample.handle_dial(&relay, attempt, self.now);
        Ok(relay)
    }

    fn dials(&mut self, attempt: Attempt, count: usize) {
        (0..count).for_each(|_| assert!(self.dial(attempt).is_ok()));
    }

    fn circuits(&mut self, relay: &RelayId, end: CircuitEnd, count: u32) -> Option<GuardDropped> {
        (0..count).find_map(|_| self.sample.handle_circuit(relay, end, self.now))
    }

    fn in_use(&mut self) -> Vec<RelayId> {
        self.sample.in_use(self.now)
    }

    /// The members and when each has served its time: one that is drawn again counts as another.
    fn terms(&self) -> HashSet<(RelayId, u64)> {
        self.sample.guards.iter().map(|guard| (guard.relay, guard.until)).collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(seconds);
    }

    fn members(&self) -> Vec<RelayId> {
        self.sample.members().collect()
    }

    fn restart(&mut self) {
        self.sample = restored(&self.sample);
    }
}

fn restored(sample: &GuardSample) -> GuardSample {
    toml::from_str(&toml::to_string(sample).unwrap()).unwrap()
}

#[test]
fn twenty_are_sampled_and_two_are_in_use_day_after_day() {
    let mut client = Client::settled(200, 1);
    let members = client.members();
    assert_eq!(members.len(), 20);
    let mut used = HashSet::new();
    for day in 0..80 {
        client.update(&usable(3 + day * 4, 0..200));
        (0..20).for_each(|_| used.extend(client.dial(Attempt::Reached)));
        client.pass(DAY);
    }
    assert_eq!(used, members[..2].iter().copied().collect());
    assert_eq!((client.in_use(), client.sample.dialled()), (members[..2].to_vec(), 2));
}

#[test]
fn guards_are_seniors_of_different_netgroups_and_families_and_not_near_own_relays() {
    for seed in 0..20 {
        let mut relays: Vec<_> = (0..90).map(relay).collect();
        relays[60..].iter_mut().for_each(|relay| relay.class = AgeClass::Grown);
        relays[..20].iter_mut().for_each(|relay| relay.entry.addresses = "61.0.0.1:1".parse().unwrap());
        relays[20..30].iter_mut().for_each(|relay| relay.family = Some(FamilyId::from_bytes([1; 32])));
        let mut own = relay(1000);
        own.entry.addresses = relays[59].entry.addresses;
        let own = [own, relays[58].clone()];
        let mut client = Client::new(seed);
        let rules = SampleRules { own: &own, ..RULES };
        client.sample.update(&UsableRelays::new(Epoch(1), relays), &rules, START, &mut client.rng);
        let numbers: Vec<_> = client.members().iter().map(number).collect();
        assert!(numbers.len() == 20 && numbers.iter().all(|number| *number < 58), "{numbers:?}");
        assert!(numbers.iter().filter(|number| **number < 20).count() <= 1);
        assert!(numbers.iter().filter(|number| (20..30).contains(*number)).count() <= 1);
    }
}

#[test]
fn a_guard_serves_ninety_to_a_hundred_and_twenty_days() {
    let mut client = Client::settled(200, 2);
    let first = client.terms();
    let mut days = Vec::new();
    for day in 1..=121 {
        client.pass(DAY);
        client.update(&usable(3 + day * 4, 0..200));
        let left = client.terms().intersection(&first).count();
        days.resize(20 - left, day);
        assert_eq!(client.members().len(), 20);
    }
    assert_eq!(days.len(), 20);
    assert!(days.iter().all(|day| (90..=120).contains(day)), "{days:?}");
    assert!(days.iter().collect::<HashSet<_>>().len() > 5, "not all at once: {days:?}");
}

#[test]
fn a_clock_that_jumps_throws_no_guard_away() {
    for jump in [100 * YEAR, 50 * YEAR, YEAR] {
        let mut client = Client::settled(200, 3);
        let (members, terms) = (client.members(), client.terms());
        for now in
            [START.plus(jump), START, UnixSeconds(START.0 - YEAR), START.plus(jump), START, UnixSeconds(0), START]
        {
            client.now = now;
            client.update(&usable(3, 0..200));
            client.dial(Attempt::Reached).unwrap();
        }
        assert_eq!(client.members(), members);
        // A clock that is put right lets time go on.
        for epoch in 4..(4 * 121) {
            client.pass(DAY / 4);
            client.update(&usable(epoch, 0..200));
        }
        assert!(client.terms().is_disjoint(&terms));
    }
}

#[test]
fn a_passing_outage_brings_no_new_guards() {
    for left in [0, 3] {
        let mut client = Client::settled(200, 4);
        let (members, mut epoch) = (client.members(), 10);
        client.dial(Attempt::Reached).unwrap();
        for _ in 0..19 {
            client.pass(DAY);
            epoch += 4;
            client.update(&usable(epoch, 1000..1000 + left));
            assert_eq!(client.choose(), Err(NoGuard::Unlisted { sampled: 20 }));
        }
        client.update(&usable(epoch + 1, 0..200));
        assert_eq!(client.members(), members);
        assert!(members[..2].contains(&client.choose().unwrap()));
    }
}

#[test]
fn guards_that_stay_away_for_twenty_days_are_replaced() {
    let mut client = Client::settled(200, 5);
    let members = client.members();
    let gone: Vec<_> = members[..5].iter().map(number).collect();
    let rest = |epoch| usable(epoch, (0..200).filter(|number| !gone.contains(number)));
    client.update(&rest(3));
    assert_eq!(client.members(), members);
    assert!(members[5..7].contains(&client.choose().unwrap()), "the next take over meanwhile");
    for epoch in 4..=(4 + 80) {
        client.pass(DAY / 4);
        client.update(&rest(epoch));
    }
    assert_eq!(client.members()[..15], members[5..]);
    assert_eq!(client.members().len(), 20);
}

#[test]
fn a_sample_is_provisional_until_two_more_epochs_confirm_the_view() {
    // The first view was narrow: an attacker's 25 relays, of 1000 that there are.
    let mut client = Client::new(6);
    client.update(&usable(0, 0..25));
    client.dial(Attempt::Reached).unwrap();
    assert!(!client.sample.is_confirmed());
    client.update(&usable(1, 0..1000));
    let bad = client.members().iter().filter(|guard| number(guard) < 25).count();
    assert!(bad <= 4 && !client.sample.is_confirmed(), "{bad}");
    client.update(&usable(1, 0..1000));
    assert!(!client.sample.is_confirmed(), "the same epoch says nothing new");
    client.update(&usable(2, 0..1000));
    assert!(client.sample.is_confirmed());

    // Or full of relays that do not exist.
    let mut client = Client::new(7);
    client.update(&usable(0, 2000..4000));
    client.dial(Attempt::Reached).unwrap();
    client.update(&usable(1, 0..1000));
    assert!(client.members().iter().all(|guard| number(guard) < 1000));

    // An honest first view keeps the guards that were dialled.
    let mut client = Client::new(8);
    client.update(&usable(0, 0..1000));
    let dialled = client.dial(Attempt::Reached).unwrap();
    let before = client.members();
    client.update(&usable(1, 0..1010));
    assert!(client.members().contains(&dialled) && client.members()[2..] != before[2..]);
    // An outage while it is provisional drops nothing.
    let before = client.members();
    client.update(&usable(2, 5000..5010));
    assert_eq!(client.members(), before);
}

#[test]
fn a_view_that_was_not_renewed_for_a_week_is_provisional_again_for_new_guards() {
    let mut client = Client::settled(200, 9);
    let members = client.members();
    client.circuits(&members[0], CircuitEnd::Failed, 20).unwrap();
    client.update(&usable(2 + VIEW_STALE_EPOCHS + 1, 0..200));
    assert_eq!(client.members()[..19], members[1..]);
    assert!(!client.sample.is_confirmed());
    (0..2).for_each(|more| client.update(&usable(4 + VIEW_STALE_EPOCHS + more, 0..200)));
    assert!(client.sample.is_confirmed());
}

#[test]
fn seventy_failed_circuits_in_a_hundred_of_at_least_twenty_drop_a_guard() {
    use CircuitEnd::{Built, Failed};
    // built, failed, whether the last failure drops it
    for (built, failed, dropped) in
        [(0, 19, false), (0, 20, true), (6, 13, false), (6, 14, true), (7, 14, false), (30, 69, false), (30, 70, true)]
    {
        let mut client = Client::settled(200, 10);
        let guard = client.members()[0];
        assert_eq!(client.circuits(&guard, Built, built), None);
        let drop = client.circuits(&guard, Failed, failed);
        assert_eq!(drop.is_some(), dropped, "{built} {failed}");
        assert_eq!(client.members().contains(&guard), !dropped);
        if let Some(drop) = drop {
            assert_eq!(drop, GuardDropped { relay: guard, failed, circuits: built + failed });
            client.update(&usable(3, 0..200));
            (0..19).for_each(|at| client.sample.guards[at].until = 0);
            client.update(&usable(3, 0..200));
            assert!(!client.members().contains(&guard), "it is not drawn again");
        }
    }
    let mut client = Client::settled(200, 11);
    let guard = client.members()[0];
    assert_eq!(client.circuits(&guard, Built, 100_000), None);
    let more = (1..).find(|_| client.circuits(&guard, Failed, 1).is_some()).unwrap();
    assert!(more < 500, "a guard that turns bad is found out, however long it was good: {more}");
    assert_eq!(client.circuits(&relay(5999).entry.id, Failed, 100), None);
}

#[test]
fn a_guard_is_not_dropped_where_as_many_circuits_fail_through_the_other() {
    // circuits through the other guard, how many of them failed, and whether 80 failed ones of 100 drop this one
    for (circuits, failed, dropped) in
        [(100, 0, true), (100, 61, true), (100, 62, false), (100, 100, false), (20, 13, false), (19, 19, true)]
    {
        let mut client = Client::settled(200, 13);
        let guard = client.members()[0];
        let [this, other] = &mut client.sample.guards[..2] else { panic!("there are twenty") };
        (this.circuits, this.failed) = (99, 79);
        (other.circuits, other.failed) = (circuits, failed);
        let drop = client.circuits(&guard, CircuitEnd::Failed, 1);
        assert_eq!(drop.is_some(), dropped, "{failed} of {circuits}");
    }
}

#[test]
fn a_dial_that_fails_is_tried_again_later_and_the_next_takes_over() {
    let mut client = Client::settled(200, 12);
    let members = client.members();
    let dead = client.dial(Attempt::Failed).unwrap();
    for second in 0..5 {
        assert!(client.choose().is_ok_and(|guard| guard != dead), "{second}");
        client.pass(1);
    }
    assert_eq!(client.in_use(), members[..2], "its time is over");
    client.sample.handle_dial(&dead, Attempt::Failed, client.now);
    client.pass(9);
    assert!(!client.in_use().contains(&dead));
    client.pass(1);
    assert!(client.in_use().contains(&dead));
    (0..40).for_each(|_| client.sample.handle_dial(&dead, Attempt::Failed, client.now));
    client.pass(3599);
    assert!(!client.in_use().contains(&dead));
    client.pass(1);
    client.sample.handle_dial(&dead, Attempt::Reached, client.now);
    assert_eq!(client.in_use(), members[..2]);
}

#[test]
fn four_guards_in_thirty_days_then_a_person_is_told() {
    let mut client = Client::settled(200, 13);
    let members = client.members();
    let mut dialled = HashSet::new();
    for _ in 0..4 {
        dialled.insert(client.dial(Attempt::Failed).unwrap());
    }
    assert!(dialled.len() == 4 && dialled.iter().all(|guard| members[..6].contains(guard)));
    assert_eq!(client.choose(), Err(NoGuard::TooMany { dialled: 4 }));
    assert!(client.choose().unwrap_err().to_string().starts_with("4 guards were tried within 30 days"));
    for _ in 0..29 * 24 {
        client.pass(3600);
        assert!(dialled.contains(&client.dial(Attempt::Failed).unwrap()), "those known are tried again");
        client.restart();
    }
    client.sample.go_on();
    for _ in 0..40 {
        dialled.extend(client.dial(Attempt::Failed));
    }
    assert_eq!(dialled.len(), 8);
    assert_eq!(client.choose(), Err(NoGuard::TooMany { dialled: 8 }));
}

#[test]
fn without_a_network_nobody_is_dialled_and_nothing_counts() {
    let mut client = Client::settled(200, 14);
    let members = client.members();
    for _ in 0..100 {
        assert!(members[..2].contains(&client.dial(Attempt::Offline).unwrap()));
        assert_eq!(client.sample.dialled(), 0);
    }
    client.dial(Attempt::Reached).unwrap();
    client.dial(Attempt::Offline).unwrap();
    assert_eq!(client.sample.dialled(), 1, "who was reached has seen us");
}

#[test]
fn few_guards_that_do_not_answer_are_waited_for() {
    let mut client = Client::settled(3, 15);
    assert_eq!(client.members().len(), 3);
    for _ in 0..30 {
        while client.dial(Attempt::Failed).is_ok() {}
        let Err(NoGuard::Waiting { seconds }) = client.choose() else { panic!("{:?}", client.choose()) };
        assert!((1..=60).contains(&seconds));
        client.pass(seconds);
        assert!(client.choose().is_ok());
    }
    assert_eq!(Client::new(1).choose(), Err(NoGuard::Empty));
}

#[test]
fn anchors_are_dialled_first_at_a_start() {
    let mut client = Client::settled(200, 16);
    let members = client.members();
    let mut failed = 0;
    while failed < 2 {
        let guard = client.choose().unwrap();
        let attempt = if members[..2].contains(&guard) { Attempt::Failed } else { Attempt::Reached };
        failed += usize::from(attempt == Attempt::Failed);
        client.sample.handle_dial(&guard, attempt, client.now);
    }
    client.sample.handle_dial(&members[2], Attempt::Reached, client.now);
    client.sample.handle_dial(&members[3], Attempt::Reached, client.now);
    client.pass(7200);
    client.restart();
    assert_eq!((client.choose(), client.choose()), (Ok(members[3]), Ok(members[2])), "the last used first");
    assert!(members[..2].contains(&client.choose().unwrap()), "then those that are preferred");
}

#[test]
fn feelers_go_to_members_that_are_not_in_use_and_two_that_fail_put_one_last() {
    let mut client = Client::settled(200, 17);
    let members = client.members();
    client.dials(Attempt::Reached, 20);
    let mut felt = HashSet::new();
    for _ in 0..30 * 24 {
        client.pass(3600);
        let feeler = client.sample.feeler(client.now, &mut client.rng);
        felt.extend(feeler);
        assert_eq!(client.sample.feeler(client.now, &mut client.rng), None, "one at a time");
        client.dials(Attempt::Reached, 2);
    }
    assert_eq!(felt, members[2..].iter().copied().collect());
    assert_eq!(client.sample.dialled(), 2, "a feeler is no dial");
    for (misses, next) in [(0, 2), (1, 2), (2, 3)] {
        let mut client = Client::settled(200, 17);
        (0..misses).for_each(|_| client.sample.handle_feeler(&members[2], Attempt::Failed));
        (0..2).for_each(|_| client.sample.handle_feeler(&members[2], Attempt::Offline));
        client.dials(Attempt::Failed, 2);
        assert_eq!(client.in_use()[0], members[next], "{misses}");
        client.sample.handle_feeler(&members[2], Attempt::Reached);
        assert_eq!(client.in_use()[0], members[2]);
    }
}

#[test]
fn the_saved_form_is_readable_and_anything_else_is_refused_with_words() {
    let mut client = Client::settled(200, 18);
    client.dials(Attempt::Reached, 3);
    let last = *client.members().last().unwrap();
    client.circuits(&last, CircuitEnd::Failed, 20).unwrap();
    client.pass(DAY);
    client.update(&usable(3, 100..200));
    let text = toml::to_string(&client.sample).unwrap();
    let mut again = restored(&client.sample);
    again.starting.clear();
    assert_eq!(again, GuardSample { next_feeler: 0, ..client.sample.clone() });

    let refused = |text: &str, words: &str| {
        let error = toml::from_str::<GuardSample>(text).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&text.replace("version = 1", "version = 2"), "version 2, and this program knows version 1 only");
    refused(&text.replace("confirmed = 2", "confirmed = 3"), "the count of epochs cannot be");
    refused(&text.replace("lived = ", "lived = 99999999999"), "the time that was counted cannot be");
    refused(&text.replace("lived = 86400", "lived = 10"), "a time in the future cannot be");
    refused(&text.replacen("circuits = 0", "circuits = 200", 1), "a guard's count of circuits cannot be");
    refused(&text.replacen("until = ", "until = 9", 1), "a guard's remaining time cannot be");
    refused(&format!("{text}extra = 1\n"), "unknown field");
    refused("", "missing field");
    let guard = text.split("[[guards]]").nth(1).unwrap();
    refused(&format!("{text}\n[[guards]]{guard}"), "too many guards");
    let fewer = text.replacen(&format!("[[guards]]{}", text.split("[[guards]]").nth(2).unwrap()), "", 1);
    refused(&format!("{fewer}\n[[guards]]{guard}"), "a relay is there twice among the guards");
}

proptest! {
    #[test]
    fn a_saved_file_that_is_cut_off_is_refused_or_a_sample(cut in 0usize..4000, seed: u64) {
        let text = toml::to_string(&Client::settled(30, seed).sample).unwrap();
        if let Ok(sample) = toml::from_str::<GuardSample>(&text[..cut.min(text.len())]) {
            prop_assert!(sample.guards.len() <= 20);
        }
    }
}
