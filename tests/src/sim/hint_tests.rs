//! Scenarios of hints: whoever knows nothing but an address of some relay joins the network.

use std::time::Duration;

use tokio::time::sleep;
use trefoil_client::state::State;
use trefoil_relay::hints::Kind;

use super::{
    client_tests::{keeping, works},
    gossip_tests::{know, numbers, plan, until},
    nodes::{START, relay_address},
};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_relay_that_knows_only_an_address_of_some_relay_joins() {
    let mut network = plan(1, 8).late(1).start();
    let old = numbers(1..=7);
    until(SOON, "the old ones know each other", || know(&network, &old, &old)).await;
    network.start_again(8, &[]);
    for hint in [relay_address(8), "10.77.0.1:9001".parse().unwrap(), relay_address(3)] {
        network.relay(8).hints().note(Kind::Dht, hint); // its own, nobody's, and one that is good
    }
    let all = numbers(1..=8);
    let took = until(SOON, "all know all", || know(&network, &all, &all)).await;
    let status = network.relay(8).status();
    println!("joined after {took:?}:\n{status}");
    assert_eq!((status.named, status.met["dht"], status.met["lan"]), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn two_networks_that_never_heard_of_each_other_become_one_by_one_address() {
    for seed in 1..=5 {
        let mut network = plan(seed, 10).late(9).start();
        (2..=5).for_each(|number| network.start_again(number, &[1]));
        network.start_again(6, &[]);
        (7..=10).for_each(|number| network.start_again(number, &[6]));
        let (left, right, all) = (numbers(1..=5), numbers(6..=10), numbers(1..=10));
        until(SOON, "each part knows itself", || know(&network, &left, &left) && know(&network, &right, &right)).await;
        sleep(SOON).await;
        assert!(!know(&network, &left, &right));
        network.relay(4).hints().note(Kind::Lan, relay_address(9));
        let took = until(SOON, "all know all", || know(&network, &all, &all)).await;
        println!("one network after {took:?}");
        sleep(SOON).await;
        assert!(know(&network, &all, &all), "seed {seed}: they do not forget each other");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_knows_only_an_address_of_some_relay_finds_all() {
    let network = plan(4, 8).start();
    let all = numbers(1..=8);
    until(SOON, "all know all", || know(&network, &all, &all)).await;
    let client = network.client_of(Vec::new());
    sleep(Duration::from_secs(5)).await;
    assert_eq!((client.status().known, client.status().trouble.is_some()), (0, true));
    client.hints().note(Kind::Dht, "10.77.0.1:9001".parse().unwrap());
    client.hints().note(Kind::Dht, relay_address(5));
    let took = until(SOON, "the client knows all", || client.status().usable == 8).await;
    println!("found all after {took:?}:\n{}", client.status());
    assert_eq!(client.status().met["dht"], 1);
    works(&client).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_named_a_relay_which_answers_follows_no_hint() {
    let network = plan(5, 8).start();
    let all = numbers(1..=8);
    until(SOON, "all know all", || know(&network, &all, &all)).await;
    let client = network.client_of(network.entries()[..1].to_vec());
    client.hints().note(Kind::Lan, relay_address(5));
    until(SOON, "the client knows all", || client.status().usable == 8).await;
    sleep(SOON).await;
    assert_eq!(client.status().met["lan"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_saved_records_have_all_expired_finds_the_relays_at_their_old_addresses() {
    let network = plan(6, 8).start();
    let (all, dir) = (numbers(1..=8), tempfile::tempdir().unwrap());
    until(SOON, "all know all", || know(&network, &all, &all)).await;
    let path = dir.path().join("client");
    keeping(&network, &path).await.close().await;
    sleep(5 * SOON).await;
    let client = network.client_with(Vec::new(), State::open(&path).unwrap(), START);
    assert_eq!(client.status().known, 0);
    let took = until(SOON, "the client knows all", || client.status().usable == 8).await;
    println!("found all after {took:?}");
    works(&client).await;
}
