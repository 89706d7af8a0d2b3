//! Scenarios of a client and the directory: how it gets to know its network, and what it is told when that fails.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, sleep};
use trefoil_client::{
    state::State,
    tunnel::{Client, Isolation, OpenError},
};
use trefoil_protocol::{entry::RelayEntry, limits::MAX_ISOLATIONS};

use super::{
    gossip_tests::{numbers, plan, settled, until},
    nodes::{START, SimNetwork, relay_address},
    outside::{ECHO, SITE},
    transfer_tests::{echo, isolation, open, target},
};

const SOON: Duration = Duration::from_secs(60);

fn first(network: &SimNetwork) -> Vec<RelayEntry> {
    network.entries()[..1].to_vec()
}

async fn knows(client: &Client, relays: usize) -> Duration {
    until(SOON, "the client knows the relays", || client.status().usable == relays).await
}

pub(super) async fn works(client: &Client) {
    echo(&mut open(client, &isolation(0), ECHO).await, b"hello").await;
}

/// A client of this network that keeps its state there, and knows all relays.
pub(super) async fn keeping(network: &SimNetwork, directory: &Path) -> Client {
    let client = network.client_with(first(network), State::open(directory).unwrap(), START);
    knows(&client, network.entries().len()).await;
    client
}

#[tokio::test(start_paused = true)]
async fn a_client_that_knows_one_relay_finds_all_and_asks_most_of_its_sources_through_circuits() {
    let network = settled(1, 12).await;
    let client = network.client_of(first(&network));
    let took = knows(&client, 12).await;
    works(&client).await;
    let status = client.status();
    println!("{status}took {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!((status.sources, status.agreeing, status.unknown, status.trouble.as_ref()), (5, 5, 0, None));
    assert!(status.guards_dialled <= 2, "{}", status.guards_dialled);
}

#[tokio::test(start_paused = true)]
async fn the_bootstrap_relay_is_not_needed_once_others_are_known() {
    let network = settled(2, 10).await;
    let client = network.client_of(first(&network));
    knows(&client, 10).await;
    network.net.cut(relay_address(1));
    for _ in 0..5 {
        sleep(Duration::from_secs(20)).await;
        let start = Instant::now();
        works(&client).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
    let status = client.status(); // it asks within an epoch
    assert!(status.usable_epoch.is_some_and(|used| used + 1 >= status.epoch), "it goes on to ask: {status:?}");
}

#[tokio::test(start_paused = true)]
async fn relays_that_join_and_leave_are_noticed() {
    let mut network = plan(3, 9).late(1).start();
    let client = network.client_of(first(&network));
    knows(&client, 8).await;
    network.start_again(9, &[2]);
    let joined = knows(&client, 9).await;
    network.stop(5).await;
    let left = until(Duration::from_secs(120), "the client forgets a relay", || client.status().usable == 8).await;
    println!("noticed a relay that joined after {joined:?}, and one that left after {left:?}");
}

#[tokio::test(start_paused = true)]
async fn guards_are_the_same_after_a_restart() {
    let (network, dir) = (settled(4, 12).await, tempfile::tempdir().unwrap());
    let path = dir.path().join("client");
    let client = keeping(&network, &path).await;
    works(&client).await;
    let mut guards = client.status().guards;
    client.close().await;
    drop(client);
    for _ in 0..3 {
        sleep(Duration::from_secs(25)).await;
        let client = keeping(&network, &path).await;
        works(&client).await;
        let status = client.status();
        assert!(status.guards_dialled <= 2, "{status}");
        let mut after = status.guards;
        guards.sort();
        after.sort();
        assert_eq!(after, guards);
        client.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_client_beside_the_first_has_its_guards_and_keeps_nothing() {
    let (network, dir) = (settled(5, 12).await, tempfile::tempdir().unwrap());
    let path = dir.path().join("client");
    let client = keeping(&network, &path).await;
    works(&client).await;
    sleep(Duration::from_secs(2)).await;
    let second = network.client_with(Vec::new(), State::open(&path).unwrap(), START);
    assert!(second.state().is_second() && !second.status().kept);
    works(&second).await;
    let (mut ours, mut theirs) = (client.status().guards, second.status().guards);
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
}

#[tokio::test(start_paused = true)]
async fn what_was_saved_is_used_at_once_though_nobody_answers() {
    let (network, dir) = (settled(6, 8).await, tempfile::tempdir().unwrap());
    let path = dir.path().join("client");
    keeping(&network, &path).await.close().await;
    numbers(1..=8).iter().for_each(|number| network.net.cut(relay_address(*number)));
    let client = network.client_with(first(&network), State::open(&path).unwrap(), START);
    assert_eq!(client.status().usable, 8, "without waiting for anybody");
    until(SOON, "it says that nobody answers", || client.status().trouble.is_some()).await;
    assert_eq!(client.status().usable, 8);
    numbers(1..=8).iter().for_each(|number| network.net.heal(relay_address(*number)));
    until(Duration::from_secs(120), "all is well again", || client.status().trouble.is_none()).await;
    works(&client).await;
}

/// The words in which a stream is refused to a client of this network.
async fn words(client: &Client) -> String {
    let opened = client.open(&isolation(0), target(SITE, ECHO)).await.map(|_| ());
    let Err(OpenError::NoPath(words)) = opened else { panic!("{opened:?}") };
    assert_eq!(client.status().trouble.as_ref(), Some(&words), "the status says the same");
    words
}

#[tokio::test(start_paused = true)]
async fn two_guards_have_room_for_as_many_isolation_tokens_as_are_allowed() {
    let network = settled(10, 8).await;
    let client = network.client_of(first(&network));
    knows(&client, 8).await;
    let token = |number: usize| Isolation::new(&[&number.to_le_bytes()]);
    let mut streams = Vec::new();
    for number in 0..MAX_ISOLATIONS {
        let opened = client.open(&token(number), target(SITE, ECHO)).await;
        streams.push(opened.unwrap_or_else(|error| panic!("token {number}: {error}")));
    }
    let status = client.status();
    assert!(status.guards.len() == 2 && status.guards_dialled == 2, "a full guard is no bad one: {status}");
    let more = client.open(&token(MAX_ISOLATIONS), target(SITE, ECHO)).await.map(|_| ());
    let Err(OpenError::NoPath(words)) = more else { panic!("{more:?}") };
    assert!(words.contains("384 isolation tokens have streams"), "{words}");
    drop(streams);
    sleep(Duration::from_secs(1)).await; // their ends are known now
    echo(&mut open(&client, &token(MAX_ISOLATIONS), ECHO).await, b"hello").await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_is_told_by_how_much() {
    let network = settled(7, 6).await;
    for (seconds, told) in [(3 * 3600, "3 h 0 min ahead of"), (-2 * 3600, "2 h 0 min behind")] {
        let start = trefoil_protocol::epoch::UnixSeconds(START.0.checked_add_signed(seconds).unwrap());
        let client = network.client_with(first(&network), State::none(), start);
        let words = words(&client).await;
        assert!(words.contains("this machine's clock is") && words.contains(told), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_too_small_is_told_as_such() {
    let network = plan(8, 2).start();
    let client = network.client_of(first(&network));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(words(&client).await, "the network is too small: 2 of its relays are known, and a circuit needs 3");
}

#[tokio::test(start_paused = true)]
async fn silence_is_told_as_such_and_asked_into_for_ever() {
    let network = settled(9, 6).await;
    network.net.cut(relay_address(1));
    let client = network.client_of(first(&network));
    sleep(Duration::from_secs(12)).await;
    let words = words(&client).await;
    assert!(words.contains("none of the 1 relays that were asked answers"), "{words}");
    assert!(words.contains("blocks UDP"), "{words}");
    let nobody = network.client_of(Vec::new());
    sleep(Duration::from_secs(1)).await;
    assert!(nobody.status().trouble.unwrap().contains("--bootstrap"));
    sleep(Duration::from_secs(3600)).await;
    network.net.heal(relay_address(1));
    until(Duration::from_secs(120), "it comes back", || client.status().usable == 6).await;
    works(&client).await;
}
