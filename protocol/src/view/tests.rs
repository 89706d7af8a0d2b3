use std::sync::OnceLock;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{
    sample::{AT, TODAY, descriptor, during, params, record, sign, variant, view, view_of},
    *,
};
use crate::{descriptor::Descriptor, limits::FRAUD_EPOCHS};

fn id(relay: u16) -> RelayId {
    sample::secret(relay).id()
}

/// What must be the same in whatever order records come: the records, and which of their relays are barred by what.
fn content(view: &View) -> Vec<(Record, Option<FraudProof>)> {
    view.iter().map(|(relay, known)| (known.record.record().clone(), view.frauds.get(relay).cloned())).collect()
}

#[test]
fn the_newest_record_of_a_relay_is_held() {
    let (now, mut view) = (during(TODAY), view());
    let [old, new] = [TODAY, TODAY.next()].map(|issued| record(1, issued));
    assert_eq!(view.offer(old.clone(), now), Offer::New);
    assert_eq!(view.offer(old.clone(), now), Offer::Known);
    assert!(view.would_take(new.record(), false, now) && !view.would_take(old.record(), false, now));
    assert_eq!(view.offer(new.clone(), now), Offer::Renewed);
    assert_eq!(view.offer(old.clone(), now), Offer::Older);
    assert!(!view.would_take(old.record(), false, now));
    assert_eq!((view.len(), &view.get(&id(1)).unwrap().record), (1, &new));
}

#[test]
fn a_record_that_only_renews_is_told_from_one_that_is_wanted_soon() {
    let then = TODAY.plus(3);
    let Descriptor { lifetime, .. } = descriptor(1, TODAY);
    let last = Epoch(record(1, TODAY).record().expires().0 - 1);
    let became = |new: &Checked, epoch| view_of([&record(1, TODAY)]).offer(new.clone(), during(epoch));
    let renewed = record(1, then);
    assert_eq!(became(&renewed, then), Offer::Renewed);
    assert_eq!(became(&renewed, Epoch(last.0 - 1)), Offer::Renewed);
    assert_eq!(became(&renewed, last), Offer::Changed, "the one before is over at the end of this epoch");
    assert_eq!(became(&renewed, last.next()), Offer::Changed, "it is over");
    let addresses = "11.0.9.9:1".parse().unwrap();
    for changed in [
        Descriptor { addresses, ..descriptor(1, then) },
        Descriptor { lifetime: lifetime - 1, ..descriptor(1, then) },
        Descriptor { leaving: true, ..descriptor(1, then) },
    ] {
        assert_eq!(became(&sign(&changed, 1), then), Offer::Changed);
    }
    let [word, again] = [TODAY, then].map(|issued| sign(&Descriptor { leaving: true, ..descriptor(1, issued) }, 1));
    assert_eq!(view_of([&word]).offer(again, during(then)), Offer::Changed, "a last word, said again");
}

#[test]
fn the_last_word_of_a_relay_that_leaves_stands_against_all_that_it_said_before_until_it_is_over() {
    let now = during(TODAY);
    let last = sign(&Descriptor { leaving: true, ..descriptor(1, TODAY.next()) }, 1);
    for order in [[record(1, TODAY), last.clone()], [last.clone(), record(1, TODAY)]] {
        let mut view = view_of(&order);
        assert!(view.get(&id(1)).is_some_and(|known| known.record.record().is_leaving()));
        assert!(!view.would_take(record(1, TODAY).record(), false, now) && view.frauds().next().is_none());
        let over = last.record().expires();
        assert!(over >= record(1, TODAY).record().expires(), "nothing older can come back");
        view.begin_epoch(during(Epoch(over.0 - 1)), |_| false);
        assert_eq!(view.len(), 1);
        view.begin_epoch(during(over), |_| false);
        assert_eq!(view.len(), 0);
    }
    let mut view = view_of([&last]);
    let back = record(1, TODAY.next().next());
    assert_eq!(view.offer(back.clone(), during(TODAY.next())), Offer::Changed, "unless it comes back itself");
    assert_eq!(view.get(&id(1)).unwrap().record, back);
}

#[test]
fn first_seen_and_reached_are_this_nodes_own_and_outlive_a_renewal() {
    let (now, mut view) = (during(TODAY), view());
    view.offer(record(1, TODAY), now);
    view.mark_reached(&id(1), AT);
    view.offer(record(1, TODAY.next()), now.plus(500));
    let known = view.get(&id(1)).unwrap();
    assert_eq!((known.first_seen, known.reached), (now, true));
    let mut other = sample::view();
    other.merge(&view, now.plus(900));
    let known = other.get(&id(1)).unwrap();
    assert_eq!((known.first_seen, known.reached), (now.plus(900), false));
    view.forget_reached(&id(1));
    assert!(!view.get(&id(1)).unwrap().reached);
}

#[test]
fn two_records_of_one_epoch_are_a_fraud_that_bars_the_relay_and_the_larger_is_held() {
    let now = during(TODAY);
    let mut records = [1, 2, 3].map(|n| variant(1, TODAY, n));
    records.sort_by_key(|record| record.record().digest());
    let [small, middle, large] = records;
    let mut view = view_of([&middle]);
    assert!(view.would_take(small.record(), false, now));
    let Offer::Fraud(proof) = view.offer(small.clone(), now) else { panic!("no fraud") };
    assert_eq!((proof.relay(), proof.issued()), (id(1), TODAY));
    proof.check(&params(), now).unwrap();
    assert!(view.is_barred(&id(1), now));
    assert_eq!(view.get(&id(1)).unwrap().record, middle);
    assert!(!view.would_take(small.record(), false, now), "it tells nothing new");
    assert_eq!(view.offer(small.clone(), now), Offer::Older);
    assert!(matches!(view.offer(large.clone(), now), Offer::Fraud(_)), "a larger proof is news");
    assert_eq!(view.get(&id(1)).unwrap().record, large);
    assert_eq!(view.offer(record(1, TODAY.next()), now), Offer::Barred);
    assert_eq!(content(&view).len(), 1);
    assert!(!view.is_barred(&id(2), now));
}

#[test]
fn a_bar_ends_and_its_proof_is_forgotten() {
    let now = during(TODAY);
    let mut view = view_of([&variant(1, TODAY, 1), &variant(1, TODAY, 2)]);
    let last = during(Epoch(TODAY.0 + FRAUD_EPOCHS - 1));
    view.expire(last);
    assert!(view.is_empty() && view.is_barred(&id(1), last));
    let over = during(Epoch(TODAY.0 + FRAUD_EPOCHS));
    assert!(!view.is_barred(&id(1), over));
    let proof = view.frauds().next().unwrap().clone();
    view.expire(over);
    assert_eq!(view.frauds().count(), 0);
    assert!(!view.offer_fraud(proof.clone(), now), "about a relay that is not known");
    view.offer(record(1, Epoch(TODAY.0 + FRAUD_EPOCHS)), over);
    assert!(!view.offer_fraud(proof.clone(), over), "it bars no longer");
    assert!(view.offer_fraud(proof.clone(), now) && !view.offer_fraud(proof, now));
}

#[test]
fn records_that_are_over_are_neither_taken_nor_kept() {
    let mut view = view_of([&record(1, TODAY), &record(2, TODAY.next())]);
    let expires = record(1, TODAY).record().expires();
    assert_eq!(view.expire(during(Epoch(expires.0 - 1))), 0);
    assert_eq!(view.expire(during(expires)), 1);
    assert!(view.get(&id(1)).is_none() && view.get(&id(2)).is_some());
    assert!(!view.would_take(record(1, TODAY).record(), false, during(expires)));
    assert_eq!(view.offer(record(1, TODAY), during(expires)), Offer::Expired);
    assert_eq!(view.pending.len(), 1);
}

/// A view that has few places, and is not young.
fn small() -> View {
    let mut view = view();
    view.begun = Epoch(TODAY.0 - VIEW_YOUNG_EPOCHS);
    view.bounds = Bounds { crowd: 2, least: 6, young: 6 };
    view
}

#[test]
fn a_netgroup_has_few_pending_relays_unless_the_network_is_in_one() {
    let now = during(TODAY);
    let neighbours: Vec<_> = (0..10).map(|n| record(256 * n, TODAY)).collect();
    let mut view = small();
    let taken = neighbours.iter().filter(|record| view.would_take(record.record(), false, now));
    assert_eq!(taken.count(), 10, "there is room for any of them");
    let outcomes: Vec<_> = neighbours.iter().map(|record| view.offer(record.clone(), now)).collect();
    assert_eq!(view.len(), 2);
    assert!(outcomes.contains(&Offer::NoRoom));
    let params = NetworkParams { allow_same_netgroup: true, ..params() };
    let mut view = View::new(&params, now);
    neighbours.iter().for_each(|record| assert_eq!(view.offer(record.clone(), now), Offer::New));
}

#[test]
fn a_young_view_takes_all_of_a_netgroup_and_gives_up_those_that_are_too_many_later() {
    let mut view = view();
    view.bounds.crowd = 2;
    for n in 0..10 {
        assert_eq!(view.offer(record(256 * n, TODAY), during(TODAY)), Offer::New);
    }
    view.begin_epoch(during(TODAY.next()), |_| false);
    assert_eq!(view.len(), 10, "still young");
    view.begin_epoch(during(TODAY.plus(VIEW_YOUNG_EPOCHS)), |_| false);
    assert_eq!(view.len(), 2);
}

#[test]
fn what_would_be_taken_is_taken() {
    let now = during(TODAY);
    let mut view = small();
    for relay in 0..60 {
        let record = record(relay % 8 * 256 + relay / 8, TODAY);
        let expected = view.would_take(record.record(), false, now);
        let offer = view.offer(record, now);
        assert_eq!(offer == Offer::New, expected, "{offer:?}");
        assert!(view.len() <= 6 && view.pending.len() == view.len());
    }
}

#[test]
fn relays_that_were_reached_come_before_those_that_are_nowhere() {
    let now = during(TODAY);
    let mut view = small();
    for relay in 0..30 {
        view.offer(record(relay, TODAY), now);
    }
    assert_eq!(view.len(), 6);
    let there: Vec<_> = (100..106).map(|relay| record(relay, TODAY)).collect();
    for record in &there {
        assert!(view.would_take(record.record(), true, now));
        assert_eq!(view.offer_reached(record.clone(), AT, now), Offer::New);
    }
    assert!(view.iter().all(|(_, known)| known.reached) && view.len() == 6);
    assert!((200..230).all(|relay| view.offer(record(relay, TODAY), now) == Offer::NoRoom));
    view.forget_reached(&there[0].record().relay());
    let (taken, refused): (Vec<_>, Vec<_>) =
        (300..330).map(|relay| record(relay, TODAY)).partition(|record| view.offer(record.clone(), now) == Offer::New);
    assert!(!taken.is_empty() && !refused.is_empty(), "among themselves their places count");
    assert!(there[1..].iter().all(|record| view.get(&record.record().relay()).is_some()));
    assert_eq!((view.len(), view.pending.len()), (6, 6));
}

#[test]
fn a_relay_is_dialled_where_it_was_reached_and_at_no_other_address_that_it_lists() {
    let (now, mut view) = (during(TODAY), view());
    let both: RelayAddresses = "9.9.9.9:9001,[2600:9::1]:9001".parse().unwrap();
    view.offer(sign(&Descriptor { addresses: both, ..descriptor(1, TODAY) }, 1), now);
    let dialled = |view: &View| view.get(&id(1)).unwrap().dialled().addresses;
    assert_eq!(dialled(&view), both);
    for [address, proved] in [["9.9.9.9", "9.9.9.9:9001"], ["2600:9::1", "[2600:9::1]:9001"]] {
        view.mark_reached(&id(1), address.parse().unwrap());
        assert_eq!(dialled(&view), proved.parse().unwrap());
    }
    view.forget_reached(&id(1));
    assert_eq!(dialled(&view), both);
}

#[test]
fn a_relay_that_was_reached_elsewhere_than_its_record_says_is_not_reached_by_it() {
    let (now, mut view) = (during(TODAY), view());
    view.offer(record(1, TODAY.next()), now);
    assert_eq!(view.offer_reached(record(1, TODAY), AT, now), Offer::Older);
    assert!(!view.get(&id(1)).unwrap().reached);
}

#[test]
fn a_flood_displaces_nobody_who_was_established_and_adds_a_bounded_number() {
    let honest: Vec<_> = (0..40).map(|relay| record(relay, TODAY)).collect();
    let mut view = view_of(&honest);
    view.bounds = Bounds { crowd: 2, least: 3, young: 100 };
    let settled = during(TODAY.plus(VIEW_YOUNG_EPOCHS));
    view.begin_epoch(settled, |relay| honest.iter().any(|record| record.record().relay() == *relay));
    for relay in 1000..1400 {
        view.offer(record(relay, TODAY), settled);
    }
    assert_eq!((view.len(), view.pending.len()), (44, 4), "a tenth of those established");
    assert!(honest.iter().all(|record| view.get(&record.record().relay()).is_some()));
    view.begin_epoch(during(TODAY.plus(3)), |_| false);
    assert!(honest.iter().all(|record| view.get(&record.record().relay()).is_some_and(|known| known.established)));
    view.begin_epoch(during(record(0, TODAY).record().expires()), |_| false);
    assert!(view.is_empty() && view.pending.len() == 0, "but the dead go");
}

#[test]
fn a_young_view_takes_in_a_whole_network_and_an_old_one_gives_up_what_has_no_place() {
    let now = during(TODAY);
    let mut view = view_of(&(0..40).map(|relay| record(relay, TODAY)).collect::<Vec<_>>());
    view.bounds = Bounds { crowd: 2, least: 6, young: 30 };
    view.begin_epoch(now, |_| false);
    assert_eq!(view.len(), 30);
    view.begin_epoch(during(TODAY.next()), |_| false);
    assert_eq!(view.len(), 30, "still young");
    view.begin_epoch(during(TODAY.plus(VIEW_YOUNG_EPOCHS)), |_| false);
    assert_eq!(view.len(), 6);
}

#[test]
fn places_change_with_the_epoch() {
    let places = |epoch| {
        let mut relays: Vec<_> = (0..20).map(id).collect();
        relays.sort_by_key(|relay| place(epoch, relay, false));
        relays
    };
    assert_ne!(places(TODAY), places(TODAY.next()));
    assert_eq!(places(TODAY), places(TODAY));
}

#[test]
fn a_relay_that_moves_keeps_its_place_until_the_next_epoch() {
    let now = during(TODAY);
    let mut view = small();
    for relay in [0, 256, 1] {
        view.offer(record(relay, TODAY), now);
    }
    let moved = Descriptor { addresses: "11.0.9.9:1".parse().unwrap(), ..descriptor(1, TODAY.next()) };
    assert_eq!(view.offer(sign(&moved, 1), now), Offer::Changed);
    assert_eq!(view.len(), 3);
    view.begin_epoch(during(TODAY.next()), |_| false);
    assert_eq!(view.len(), 2);
}

/// Records of 48 relays in 8 netgroups, of two epochs; of the later one two for each relay.
fn pool() -> &'static [Checked] {
    static POOL: OnceLock<Vec<Checked>> = OnceLock::new();
    POOL.get_or_init(|| {
        let relay = |n: u16| n % 8 + 256 * (n / 8);
        let of = |n| [record(relay(n), TODAY), variant(relay(n), TODAY.next(), 1), variant(relay(n), TODAY.next(), 2)];
        (0..48).flat_map(of).collect()
    })
}

fn some_records() -> impl Strategy<Value = Vec<&'static Checked>> {
    prop::collection::vec(prop::sample::select(pool().iter().collect::<Vec<_>>()), 0..60)
}

fn held(records: &[&Checked]) -> View {
    let mut view = small();
    for record in records {
        view.offer((*record).clone(), during(TODAY));
    }
    view
}

fn merged(one: &View, other: &View) -> View {
    let mut view = one.clone();
    view.merge(other, during(TODAY));
    view
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        a in some_records(), b in some_records(), c in some_records()
    ) {
        let (a, b, c) = (held(&a), held(&b), held(&c));
        prop_assert_eq!(content(&merged(&a, &b)), content(&merged(&b, &a)));
        prop_assert_eq!(content(&merged(&merged(&a, &b), &c)), content(&merged(&a, &merged(&b, &c))));
        prop_assert_eq!(content(&merged(&a, &a)), content(&a));
        let both = merged(&a, &b);
        prop_assert_eq!(content(&merged(&both, &b)), content(&both));
    }

    #[test]
    fn the_order_of_offers_does_not_matter(records in some_records(), seed: u64) {
        let mut shuffled = records.clone();
        shuffled.shuffle(&mut StdRng::seed_from_u64(seed));
        prop_assert_eq!(content(&held(&records)), content(&held(&shuffled)));
    }

    #[test]
    fn places_given_anew_are_those_that_were_had(records in some_records(), reached in some_records()) {
        let mut view = held(&records);
        for record in reached {
            view.mark_reached(&record.record().relay(), AT);
        }
        let mut again = view.clone();
        again.place_again();
        prop_assert_eq!(content(&again), content(&view));
        prop_assert_eq!(again.pending.len(), view.pending.len());
    }

    #[test]
    fn it_does_not_matter_whether_records_expire_before_or_after_merging(a in some_records(), b in some_records()) {
        // A relay's records expire in the order in which they were issued, as the specification asks.
        let later = during(record(0, TODAY).record().expires());
        let expired = |mut view: View| {
            view.expire(later);
            view
        };
        let (a, b) = (view_of(a), view_of(b));
        prop_assert_eq!(content(&expired(merged(&a, &b))), content(&merged(&expired(a), &expired(b))));
    }
}
