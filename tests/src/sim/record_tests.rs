//! Scenarios of a relay's own record: leaving for good, changing what it says, and when it is renewed.

use std::{collections::BTreeSet, fs, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use trefoil_protocol::{entry::Weight, epoch::Epoch, family::FamilySecret, identity::RelayId};
use trefoil_relay::{
    leave::{Farewell, Parting},
    relay::Statement,
};

use super::{
    gossip_tests::{know, numbers, plan, settled, until},
    nodes::{START, SimNetwork},
    outside::ECHO,
    transfer_tests::{isolation, open},
};

const SOON: Duration = Duration::from_secs(60);

fn leaving() -> Statement {
    Statement { leaving: true, ..Statement::default() }
}

/// Has a relay leave; what it says of that.
async fn leave(network: &mut SimNetwork, number: u8) -> Farewell {
    network.stop(number).await;
    network.state(number, leaving());
    network.start_again(number, &[1]);
    let farewell = network.relay(number).say_farewell().await;
    network.stop(number).await;
    farewell
}

fn id(network: &SimNetwork, number: u8) -> RelayId {
    network.entries()[usize::from(number) - 1].id
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_leaves_is_in_use_nowhere_and_known_until_its_record_expires() {
    let mut network = settled(1, 8).await;
    let (gone, rest) = (id(&network, 6), [1, 2, 3, 4, 5, 7, 8]);
    let client = network.client_of(network.entries()[..1].to_vec());
    until(SOON, "the client knows all", || client.status().usable == 8).await;
    let Farewell::Told(Parting { relays, from, forgotten, .. }) = leave(&mut network, 6).await else {
        panic!("others are there to be told")
    };
    assert!(relays >= 2 && forgotten > from, "{relays} {from} {forgotten}");
    let out = |number: &u8| network.relay(*number).directory().usable().class(&gone).is_none();
    let took = until(Duration::from_secs(15), "nobody uses it", || rest.iter().all(out)).await;
    println!("a relay that left was in use nowhere after {took:?}");
    assert!(rest.iter().all(|number| network.relay(*number).directory().find(&gone).is_some()), "its last word stands");
    until(Duration::from_secs(25), "the client does not use it", || client.status().usable == 7).await;
    let forgets = |number: &u8| network.relay(*number).directory().find(&gone).is_none();
    until(SOON, "it is forgotten", || rest.iter().all(forgets)).await;
    assert!(know(&network, &rest, &rest) && !network.relay(1).directory().is_barred(&gone));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_left_comes_back_with_a_newer_record_and_is_barred_nowhere() {
    let mut network = settled(2, 6).await;
    let (gone, all) = (id(&network, 6), numbers(1..=6));
    assert!(matches!(leave(&mut network, 6).await, Farewell::Told(_)));
    assert!(matches!(leave_again(&mut network, 6).await, Farewell::Told(_)), "it may be said twice");
    network.state(6, Statement::default());
    network.start_again(6, &[2]);
    until(Duration::from_secs(90), "it is back", || know(&network, &all, &all)).await;
    assert!((1..=6).all(|number| !network.relay(number).directory().is_barred(&gone)));
}

/// Has a relay that has left say so once more.
async fn leave_again(network: &mut SimNetwork, number: u8) -> Farewell {
    network.start_again(number, &[1]);
    let farewell = network.relay(number).say_farewell().await;
    network.stop(number).await;
    farewell
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_was_never_listed_has_nothing_to_take_back_and_one_that_is_alone_tells_nobody() {
    let mut network = plan(3, 4).late(1).start();
    until(SOON, "three know each other", || know(&network, &[1, 2, 3], &[1, 2, 3])).await;
    network.state(4, leaving());
    network.start_again(4, &[1]);
    assert_eq!(network.relay(4).say_farewell().await, Farewell::Unlisted);
    assert!(network.relay(1).directory().find(&id(&network, 4)).is_none());
    network.stop(4).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_what_a_relay_says_waits_for_the_next_epoch_and_then_all_know_it() {
    let mut network = settled(4, 6).await;
    let (relay, all) = (id(&network, 3), numbers(1..=6));
    let params = network.params().clone();
    let fresh = |network: &SimNetwork| {
        let status = network.relay(3).status();
        status.listed_until == Some(status.epoch + u32::from(params.directory.lifetime))
    };
    until(SOON, "its record is of this epoch", || fresh(&network)).await;
    network.stop(3).await;
    let family = FamilySecret::generate(&mut StdRng::seed_from_u64(7)).take_in(&params.id(), &relay);
    network.state(3, Statement { weight: Weight::Two, family: Some(family), leaving: false });
    network.start_again(3, &[1]);
    until(Duration::from_secs(5), "it says that the change waits", || {
        let status = network.relay(3).status();
        status.change_from == Some(status.epoch + 1)
    })
    .await;
    let weight = |number: &u8| network.relay(*number).directory().find(&relay).map(|entry| entry.weight);
    assert!(all.iter().all(|number| weight(number) == Some(Weight::One)));
    until(Duration::from_secs(20), "all know it", || all.iter().all(|number| weight(number) == Some(Weight::Two)))
        .await;
    assert!(network.relay(3).status().change_from.is_none());
    assert!(!network.relay(1).directory().is_barred(&relay));
}

#[tokio::test(start_paused = true)]
async fn no_path_goes_through_two_relays_of_one_family() {
    let mut network = plan(5, 6).late(3).start();
    let params = network.params().clone();
    let family = FamilySecret::generate(&mut StdRng::seed_from_u64(7));
    let members: BTreeSet<_> = (4..=6).map(|number| id(&network, number)).collect();
    for number in 4..=6 {
        let family = family.take_in(&params.id(), &id(&network, number));
        network.state(number, Statement { family: Some(family), ..Statement::default() });
        network.start_again(number, &[1]);
    }
    let all = numbers(1..=6);
    until(SOON, "all know all", || know(&network, &all, &all)).await;
    let client = network.client_of(network.entries()[..1].to_vec());
    until(SOON, "the client knows all", || client.status().usable == 6).await;
    let mut with_one = 0;
    for number in 0..24 {
        open(&client, &isolation(number), ECHO).await;
        for path in client.paths(&isolation(number)) {
            let of_family = path.iter().filter(|hop| members.contains(&hop.relay.id)).count();
            assert!(of_family <= 1, "{of_family} of a family are on one path");
            with_one += of_family;
        }
    }
    assert!(with_one > 5, "{with_one}");
}

#[tokio::test(start_paused = true)]
async fn relays_that_were_listed_together_renew_their_records_at_moments_of_their_own() {
    let network = settled(6, 12).await;
    let params = network.params().directory.clone();
    let all = numbers(1..=12);
    let until_epoch = |number: &u8| network.relay(*number).status().listed_until.expect("it is listed");
    let mut seen: Vec<_> = all.iter().map(until_epoch).collect();
    let mut moments = Vec::new();
    for tenth in 0..1200 {
        sleep(Duration::from_millis(100)).await;
        for (number, seen) in all.iter().zip(&mut seen) {
            let now = until_epoch(number);
            if now != *seen {
                let before_expiry = Epoch(*seen).start(&params).since(START.plus(tenth / 10));
                assert!(before_expiry >= 4, "others have time to hear of it: {before_expiry} s");
                moments.push(tenth % 100 / 10);
                *seen = now;
            }
        }
    }
    let distinct: BTreeSet<_> = moments.iter().collect();
    println!("{} renewals in seconds {distinct:?} of their epochs", moments.len());
    assert!(moments.len() >= 5 * all.len() && distinct.len() >= 4, "{distinct:?}");
    let most = (0..10).map(|second| moments.iter().filter(|moment| **moment == second).count()).max();
    assert!(most.is_some_and(|most| most < moments.len() / 2), "{moments:?}");
}

#[tokio::test(start_paused = true)]
async fn a_relay_whose_record_is_damaged_and_known_to_nobody_signs_no_other_for_the_same_epoch() {
    let mut network = plan(7, 1).late(1).start();
    let (kept, relay) = (tempfile::tempdir().unwrap(), id(&network, 1));
    network.keep(1, kept.path());
    network.start_again(1, &[]);
    until(SOON, "it lists itself", || network.relay(1).directory().find(&relay).is_some()).await;
    let first = network.relay(1).status().epoch;
    network.stop(1).await;
    fs::remove_file(kept.path().join("view")).unwrap();
    fs::write(kept.path().join("record"), b"damaged").unwrap();
    network.start_again(1, &[]);
    while network.relay(1).status().epoch == first {
        assert!(network.relay(1).directory().find(&relay).is_none());
        sleep(Duration::from_millis(100)).await;
    }
    until(Duration::from_secs(5), "it lists itself", || network.relay(1).directory().find(&relay).is_some()).await;
    assert_eq!(fs::read(kept.path().join("record.damaged")).unwrap(), b"damaged");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_finds_nobody_keeps_the_addresses_that_it_had() {
    let mut network = plan(8, 4).late(1).start();
    let (kept, all) = (tempfile::tempdir().unwrap(), numbers(1..=4));
    network.keep(4, kept.path());
    network.start_again(4, &[1]);
    until(SOON, "all know all", || know(&network, &all, &all)).await;
    for number in [4, 1, 2, 3] {
        network.stop(number).await;
    }
    let params = network.params().directory.clone();
    sleep(Duration::from_secs(u64::from(params.epoch.get()) * u64::from(params.lifetime + 1))).await;
    network.start_again(4, &[]);
    until(SOON, "it lists itself", || network.relay(4).directory().len() == 1).await;
    sleep(Duration::from_secs(120)).await; // it saves its view every minute
    network.stop(4).await;
    for number in [1, 2, 3] {
        network.start_again(number, &[1]);
    }
    network.start_again(4, &[]);
    until(SOON, "all know all", || know(&network, &all, &all)).await;
}
