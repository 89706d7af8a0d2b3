//! Scenarios of renewals: records that only renew what is known go together and in no hurry, all others at once.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::{Instant, sleep};
use trefoil_protocol::{
    entry::Weight,
    epoch::Epoch,
    limits::{RENEWALS_DELAY, RENEWALS_NEIGHBOURS},
};
use trefoil_relay::relay::Statement;

use super::{
    gossip_tests::{know, numbers, plan, until},
    nodes::SimNetwork,
};

const RELAYS: u8 = 8;
const EPOCH: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// Bytes of a packet with two records; one has 165 and what it says of exits, and no message of a comparison is larger.
const TWO: usize = 400;

/// A network with records that are renewed early, as in the public one, and that hardly ever compares.
async fn network(seed: u64) -> SimNetwork {
    let mut plan = plan(seed, RELAYS);
    let directory = &mut plan.params.directory;
    (directory.epoch, directory.lifetime, directory.reconcile) = (EPOCH, 8, 100);
    let network = plan.start();
    let all = numbers(1..=RELAYS);
    until(Duration::from_secs(300), "all know all", || know(&network, &all, &all)).await;
    network
}

/// How many relays hold a record of this one that counts until then.
fn holders(network: &SimNetwork, of: u8, until: Epoch) -> usize {
    let relay = network.entries()[usize::from(of) - 1].id;
    (1..=RELAYS).filter(|at| network.relay(*at).directory().counts_until(&relay) == Some(until)).count()
}

/// Until when a relay's own record counts.
fn own(network: &SimNetwork, of: u8) -> Epoch {
    Epoch(network.relay(of).status().listed_until.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_renewal_waits_a_little_goes_with_others_and_reaches_all_long_before_it_is_needed() {
    let network = network(7).await;
    let first: Vec<_> = (1..=RELAYS).map(|of| own(&network, of)).collect();
    let renewed = || -> Vec<_> { (1..).zip(&first).filter(|(of, first)| own(&network, *of) != **first).collect() };
    until(Duration::from_secs(420), "the first renew", || !renewed().is_empty()).await;
    let begun = Instant::now();
    network.net.watch();
    sleep(Duration::from_millis(500)).await;
    let renewed: Vec<_> = renewed().into_iter().map(|(of, _)| of).collect();
    println!("{renewed:?} renew their records at one moment");
    assert!(renewed.len() >= 2, "with another seed there are two: {renewed:?}");
    let held = |of: u8| holders(&network, of, own(&network, of));
    sleep(RENEWALS_DELAY - Duration::from_secs(2)).await;
    assert!(renewed.iter().all(|of| held(*of) == 1), "nobody was told yet");
    assert!(network.net.watch().iter().all(|packet| packet.contents.len() < 150), "nothing was said");
    sleep(Duration::from_secs(3)).await;
    assert!(renewed.iter().all(|of| held(*of) == 1 + RENEWALS_NEIGHBOURS), "some neighbours were told");
    sleep(2 * RENEWALS_DELAY).await;
    let together = network.net.watch().iter().filter(|packet| packet.contents.len() >= TWO).count();
    assert!(together > 0, "renewals that came together went together");
    let all = || renewed.iter().all(|of| held(*of) == usize::from(RELAYS));
    until(Duration::from_secs(120), "all have it", all).await;
    println!("all had the renewed records after {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_has_changed_reaches_all_at_once() {
    let mut network = network(2).await;
    let before = own(&network, 3);
    network.stop(3).await;
    network.state(3, Statement { weight: Weight::Two, ..Statement::default() });
    network.start_again(3, &[1]);
    until(Duration::from_secs(90), "it says so", || own(&network, 3) > before).await;
    let now = own(&network, 3);
    let all = || holders(&network, 3, now) == usize::from(RELAYS);
    let took = until(RENEWALS_DELAY - Duration::from_secs(1), "all know it", all).await;
    println!("a changed record was known to all after {took:?}");
}
