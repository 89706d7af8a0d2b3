//! Scenarios of the directory: relays that know one other find all, and keep finding each other.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use trefoil_protocol::{
    directory::{Answer, FRAME_HEADER, Request},
    message::Target,
};

use super::{
    nodes::{Plan, SimNetwork, relay_address},
    transfer_tests::{DELAY, isolation},
    udp::LinkModel,
};

/// A network whose relays know the first one only.
pub(super) fn plan(seed: u64, relays: u8) -> Plan {
    Plan { bootstrap: 1, ..Plan::new(seed, relays, LinkModel::with_delay(DELAY)) }
}

/// Waits until this holds, and says how long that took.
///
/// # Panics
/// If it takes longer than `most`.
pub(super) async fn until(most: Duration, what: &str, holds: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < most, "after {most:?} it does not hold that {what}");
        sleep(Duration::from_millis(100)).await;
    }
    start.elapsed()
}

/// Whether each of these relays knows all of those, and has dialled them.
pub(super) fn know(network: &SimNetwork, knowing: &[u8], known: &[u8]) -> bool {
    knowing.iter().all(|number| {
        let usable = network.relay(*number).directory().usable();
        known.iter().all(|other| usable.class(&network.entries()[usize::from(*other) - 1].id).is_some())
    })
}

pub(super) fn numbers(all: std::ops::RangeInclusive<u8>) -> Vec<u8> {
    all.collect()
}

/// A network of this many relays that know each other.
pub(super) async fn settled(seed: u64, relays: u8) -> SimNetwork {
    let network = plan(seed, relays).start();
    await_all(&network, relays).await;
    network
}

/// Waits until these many relays know each other.
pub(super) async fn await_all(network: &SimNetwork, relays: u8) {
    let all = numbers(1..=relays);
    until(Duration::from_secs(60), "all know all", || know(network, &all, &all)).await;
}

#[tokio::test(start_paused = true)]
async fn relays_that_know_one_other_find_all() {
    let network = plan(1, 12).start();
    let all = numbers(1..=12);
    let took = until(Duration::from_secs(30), "all know all", || know(&network, &all, &all)).await;
    println!("12 relays found each other in {took:?}");
    let agree = |number: &u8| {
        let status = network.relay(*number).status();
        status.listed_until.is_some() && status.in_use && status.compared > 0 && status.agreeing == status.compared
    };
    let took = until(Duration::from_secs(60), "those that were compared agree", || all.iter().all(agree)).await;
    println!("they agree, and say so, {took:?} later");
    let status = network.relay(1).status();
    assert_eq!((status.known, status.usable, status.neighbours), (12, 12, 4), "{status}");
    assert!(status.links > 0 && status.circuits == 0 && status.trouble.is_empty(), "{status}");
}

#[tokio::test(start_paused = true)]
async fn the_bootstrap_relay_is_not_needed_any_more_once_others_are_known() {
    let mut network = plan(2, 10).late(1).start();
    let old = numbers(2..=9);
    until(Duration::from_secs(30), "the first nine know each other", || know(&network, &old, &old)).await;
    network.net.cut(relay_address(1));
    network.start_again(10, &[2]);
    let all = numbers(2..=10);
    let took = until(Duration::from_secs(30), "the newcomer is known to all", || know(&network, &all, &all)).await;
    println!("a newcomer was known to all after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_stops_is_forgotten_when_its_record_expires() {
    let mut network = plan(3, 6).start();
    let all = numbers(1..=6);
    until(Duration::from_secs(30), "all know all", || know(&network, &all, &all)).await;
    network.stop(6).await;
    let gone = network.entries()[5].id;
    let rest = numbers(1..=5);
    let forgotten = || rest.iter().all(|number| network.relay(*number).directory().find(&gone).is_none());
    let took = until(Duration::from_secs(60), "it is forgotten", forgotten).await;
    println!("a relay that had stopped was forgotten after {took:?}");
    assert!(know(&network, &rest, &rest));
    network.start_again(6, &[2]);
    until(Duration::from_secs(90), "it is back", || know(&network, &all, &all)).await;
}

#[tokio::test(start_paused = true)]
async fn halves_that_were_cut_apart_are_one_network_again_soon_after() {
    let mut network = plan(4, 12).late(2).start();
    let (left, right, old) = (numbers(1..=5), numbers(6..=10), numbers(1..=10));
    until(Duration::from_secs(30), "all know all", || know(&network, &old, &old)).await;
    let set = |network: &SimNetwork, loss: f64| {
        for a in left.iter().chain(&[11]) {
            for b in right.iter().chain(&[12]) {
                network.net.set_link(
                    relay_address(*a),
                    relay_address(*b),
                    LinkModel { loss, ..LinkModel::with_delay(DELAY) },
                );
            }
        }
    };
    set(&network, 1.0);
    network.start_again(11, &[2]);
    network.start_again(12, &[7]);
    sleep(Duration::from_secs(90)).await; // the halves' records of each other have expired
    assert!(know(&network, &[2, 11], &[1, 11]), "the left half goes on, with its newcomer");
    assert!(know(&network, &[7, 12], &[8, 12]), "the right half goes on, with its newcomer");
    assert!(!know(&network, &[2], &[7]) && !know(&network, &[7], &[2]));
    set(&network, 0.0);
    let all = numbers(1..=12);
    let took = until(Duration::from_secs(300), "all know all again", || know(&network, &all, &all)).await;
    println!("whole again after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_onion_key_is_known_to_all_before_long() {
    let network = Plan { rotates: Some((3, 90)), ..plan(5, 6) }.start();
    let all = numbers(1..=6);
    until(Duration::from_secs(30), "all know all", || know(&network, &all, &all)).await;
    let (relay, first) = (network.entries()[2].id, network.entries()[2].onion_key);
    until(Duration::from_secs(180), "there is a new key", || network.relay(3).onion_key() != first).await;
    let new = network.relay(3).onion_key();
    let follow = || all.iter().all(|n| network.relay(*n).directory().find(&relay).is_some_and(|e| e.onion_key == new));
    let took = until(Duration::from_secs(30), "all have it", follow).await;
    println!("a new onion key was known to all after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_directory_answers_through_a_circuit() {
    let network = plan(6, 6).start();
    let all = numbers(1..=6);
    until(Duration::from_secs(30), "all know all", || know(&network, &all, &all)).await;
    let client = network.client().await;
    let mut stream = client.open(&isolation(0), Target::Directory).await.unwrap();
    stream.send(&Request::Hello.encode()).await.unwrap();
    let (mut frame, mut piece) = (Vec::new(), Vec::new());
    while frame.len() < FRAME_HEADER || frame.len() < FRAME_HEADER + usize::from(frame[0]) {
        assert!(stream.receive(&mut piece).await.unwrap() > 0);
        frame.extend_from_slice(&piece);
    }
    let Ok(Answer::Hello(greeting)) = Answer::decode(&frame[FRAME_HEADER..]) else { panic!("it greets: {frame:?}") };
    assert_eq!((greeting.network, greeting.records, greeting.seen), (network.params().id(), 6, None));
}

#[tokio::test(start_paused = true)]
async fn the_first_relay_stays_listed_though_nobody_was_there_to_check_it() {
    let mut network = plan(7, 4).late(3).start();
    sleep(Duration::from_secs(5)).await;
    (2..=4).for_each(|number| network.start_again(number, &[1]));
    let all = numbers(1..=4);
    until(Duration::from_secs(30), "all know all", || know(&network, &all, &all)).await;
    for _ in 0..120 {
        assert!(know(&network, &all, &all));
        sleep(Duration::from_secs(1)).await;
    }
}
