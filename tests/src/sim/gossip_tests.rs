//! Scenarios of the directory: relays that know one other find all, and keep finding each other.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    nodes::{Plan, SimNetwork, relay_address},
    transfer_tests::DELAY,
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

#[tokio::test(start_paused = true)]
async fn relays_that_know_one_other_find_all() {
    let network = plan(1, 12).start();
    let all = numbers(1..=12);
    let took = until(Duration::from_secs(30), "all know all", || know(&network, &all, &all)).await;
    println!("12 relays found each other in {took:?}");
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
