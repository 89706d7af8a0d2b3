//! Scenarios of whole nodes: relays that vanish or stop, and clients that do not read.

use std::{cell::Cell, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use trefoil_client::tunnel::{Client, Isolation, Stream};
use trefoil_protocol::{
    identity::RelayId,
    limits::{LINK_IDLE_TIMEOUT, STREAM_WINDOW},
};
use trefoil_relay::{endpoint::LinkIdentity, link::LinkError, reason::CloseReason};

use super::{
    nodes::{Plan, SimNetwork, relay_address},
    origin::Origin,
    outside::{ECHO, SITE},
    transfer_tests::{DELAY, bulk, check, echo, isolation, open, plan, rough, target},
    udp::{Bottleneck, LinkModel},
};

const MIB: u64 = 1 << 20;
/// The next request after a failure works within this long.
const RECOVERY: Duration = Duration::from_secs(5);

/// The numbers of the relays of the newest circuit, guard first.
fn path(network: &SimNetwork, client: &Client, isolation: &Isolation) -> Vec<u8> {
    let hops = client.paths(isolation).pop().unwrap();
    hops.iter().map(|hop| number(network, hop.relay.id)).collect()
}

fn number(network: &SimNetwork, relay: RelayId) -> u8 {
    let at = network.entries().iter().position(|entry| entry.id == relay).unwrap();
    u8::try_from(at + 1).unwrap()
}

/// How long it takes until this stream ends with an error.
async fn broken(stream: &mut Stream) -> Duration {
    let start = Instant::now();
    let mut piece = Vec::new();
    loop {
        match timeout(Duration::from_secs(120), stream.receive(&mut piece)).await.expect("it ends in time") {
            Ok(0) => panic!("a broken stream is no orderly end"),
            Ok(_) => {}
            Err(_) => return start.elapsed(),
        }
    }
}

/// A network in which a client has a download under way, and its path.
async fn in_mid_stream(seed: u64) -> (SimNetwork, Client, Stream, Vec<u8>) {
    in_mid_stream_among(seed, 8).await
}

/// The same in a network of this many relays.
async fn in_mid_stream_among(seed: u64, relays: u8) -> (SimNetwork, Client, Stream, Vec<u8>) {
    let network = plan(seed, relays).start();
    let client = network.client().await;
    let mut stream = bulk(&client, &isolation(0), 1 << 40).await;
    let mut piece = Vec::new();
    for _ in 0..100 {
        stream.receive(&mut piece).await.unwrap();
    }
    let path = path(&network, &client, &isolation(0));
    (network, client, stream, path)
}

/// How long the next request takes.
async fn recover(client: &Client) -> Duration {
    let start = Instant::now();
    echo(&mut open(client, &isolation(0), ECHO).await, b"hello").await;
    start.elapsed()
}

async fn vanish(hop: usize) {
    let (network, client, mut stream, path) = in_mid_stream(1 + hop as u64).await;
    network.net.cut(relay_address(path[hop]));
    let ended = broken(&mut stream).await;
    let recovered = recover(&client).await;
    println!("hop {hop} vanished: noticed after {ended:?}, next request after {recovered:?}");
    assert!(ended < Duration::from_secs(15), "{ended:?}");
    assert!(recovered < RECOVERY, "{recovered:?}");
}

#[tokio::test(start_paused = true)]
async fn when_a_guard_vanishes_its_streams_break_and_the_next_request_goes_another_way() {
    vanish(0).await;
}

#[tokio::test(start_paused = true)]
async fn when_a_middle_vanishes_its_streams_break_and_the_next_request_goes_another_way() {
    vanish(1).await;
}

#[tokio::test(start_paused = true)]
async fn when_an_exit_vanishes_its_streams_break_and_the_next_request_goes_another_way() {
    vanish(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_right_after_a_relay_vanished_works_in_time_though_nobody_has_noticed() {
    for hop in 0..3 {
        let (network, client, _stream, path) = in_mid_stream(10 + hop as u64).await;
        network.net.cut(relay_address(path[hop]));
        let recovered = recover(&client).await;
        println!("hop {hop} has just vanished: next request after {recovered:?}");
        assert!(recovered < RECOVERY, "{recovered:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_exit_that_vanished_is_the_other_guard_the_next_request_works_in_time_too() {
    let seen = Cell::new(0);
    for seed in (70..130).take_while(|_| seen.get() < 6) {
        let (network, client, _stream, path) = in_mid_stream_among(seed, 6).await;
        let exit = usize::from(path[2]) - 1;
        if !client.status().guards.contains(&network.entries()[exit].id.short()) {
            continue;
        }
        network.net.cut(relay_address(path[2]));
        let recovered = recover(&client).await;
        println!("the exit, which is a guard too, has just vanished: next request after {recovered:?}");
        assert!(recovered < RECOVERY, "{recovered:?}");
        seen.set(seen.get() + 1);
    }
    assert_eq!(seen.get(), 6, "one exit in five is the other guard");
}

#[tokio::test(start_paused = true)]
async fn when_a_relay_stops_its_streams_break_at_once_and_the_next_request_goes_another_way() {
    for hop in 0..3 {
        let (mut network, client, mut stream, path) = in_mid_stream(20 + hop as u64).await;
        let start = Instant::now();
        let (ended, ()) = tokio::join!(broken(&mut stream), network.stop(path[hop]));
        assert!(start.elapsed() < Duration::from_secs(3), "it stops in time: {:?}", start.elapsed());
        assert!(ended < Duration::from_secs(1), "{ended:?}");
        let recovered = recover(&client).await;
        assert!(recovered < RECOVERY, "{recovered:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_stops_says_so_on_every_link() {
    let mut network = plan(24, 2).start();
    let endpoint = network.endpoint(([192, 168, 1, 1], 10_000).into(), LinkIdentity::Anonymous);
    let guard = network.entries()[0].clone();
    let idle = endpoint.dial(guard.id, relay_address(1)).await.unwrap();
    let busy = endpoint.dial(guard.id, relay_address(1)).await.unwrap();
    let _circuit = Origin::create(&busy, network.params().id(), &guard).await.unwrap();
    let (idle, busy, ()) = tokio::join!(idle.closed(), busy.closed(), network.stop(1));
    for closed in [idle, busy] {
        assert!(matches!(closed, LinkError::Closed(CloseReason::Shutdown)), "{closed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_cut_off_works_again_when_its_network_heals() {
    let network = plan(30, 6).start();
    let client = network.client().await;
    echo(&mut open(&client, &isolation(0), ECHO).await, b"hello").await;
    for number in 1..=6 {
        network.net.cut(relay_address(number));
    }
    assert!(client.open(&isolation(0), target(SITE, ECHO)).await.is_err());
    for number in 1..=6 {
        network.net.heal(relay_address(number));
    }
    let start = Instant::now();
    while client.open(&isolation(0), target(SITE, ECHO)).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(90), "it does not come back");
        sleep(Duration::from_secs(1)).await;
    }
    println!("back after {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_short_partition_breaks_no_stream() {
    let (network, client, mut stream, path) = in_mid_stream(40).await;
    let mut other = open(&client, &isolation(0), ECHO).await;
    network.net.cut(relay_address(path[1]));
    sleep(Duration::from_secs(2)).await;
    network.net.heal(relay_address(path[1]));
    let mut piece = Vec::new();
    assert!(timeout(Duration::from_secs(10), stream.receive(&mut piece)).await.unwrap().unwrap() > 0);
    drop(stream);
    echo(&mut other, b"still there").await;
}

/// A network of three relays with narrow links, so that all circuits share them, and the time that a download takes
/// on a client of its own, if another client stalls a stream meanwhile.
async fn beside_a_stalled_stream(stalled: bool) -> (Duration, u64) {
    let bottleneck = Some(Bottleneck { rate: 10_000_000, queue: 500_000 });
    let model = LinkModel { bottleneck, ..LinkModel::with_delay(DELAY) };
    let network = Plan { first_exit: 3, ..Plan::new(50, 3, model) }.start();
    let (slow, other) = (network.client().await, network.client().await);
    echo(&mut open(&other, &isolation(0), ECHO).await, b"hello").await;
    let mut unread = bulk(&slow, &isolation(0), 1 << 40).await;
    if !stalled {
        unread = open(&slow, &isolation(0), ECHO).await;
    }
    sleep(Duration::from_secs(30)).await;
    let held = network.outside.sourced();
    let start = Instant::now();
    let mut same = bulk(&slow, &isolation(1), MIB).await;
    let mut another = bulk(&other, &isolation(0), MIB).await;
    tokio::join!(check(&mut same), check(&mut another));
    drop(unread);
    (start.elapsed(), held)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_for_30_s_fills_no_relay_and_slows_nobody() {
    let (alone, _) = beside_a_stalled_stream(false).await;
    let (beside, held) = beside_a_stalled_stream(true).await;
    println!("{held} bytes held; downloads took {beside:?} beside it and {alone:?} without");
    assert!(held <= 4 * u64::from(STREAM_WINDOW), "{held}");
    assert!(beside.as_secs_f64() < 1.3 * alone.as_secs_f64(), "{beside:?} and {alone:?}");
}

/// The most that any relay's circuits hold for somebody who does not read, looked at for so long.
async fn most_held(network: &SimNetwork, relays: u8, time: Duration) -> u64 {
    let (start, mut most) = (Instant::now(), 0);
    while start.elapsed() < time {
        sleep(Duration::from_millis(500)).await;
        most = (1..=relays).map(|number| network.relay(number).status().memory_bytes).fold(most, u64::max);
    }
    most
}

#[tokio::test(start_paused = true)]
async fn over_rough_lines_a_client_that_does_not_read_for_30_s_holds_up_nobody_and_then_has_all_of_it() {
    const STOPPED: Duration = Duration::from_secs(30);
    let network = Plan { first_exit: 3, ..rough(plan(51, 3)) }.start();
    let slow = network.client().await;
    let mut unread = bulk(&slow, &isolation(0), 8 * MIB).await;
    let mut others = JoinSet::new();
    for token in [1, 2] {
        for client in [slow.clone(), network.client().await] {
            others.spawn(async move {
                let (start, mut downloads) = (Instant::now(), 0);
                while start.elapsed() < STOPPED {
                    assert_eq!(check(&mut bulk(&client, &isolation(token), MIB / 4).await).await, MIB / 4);
                    downloads += 1;
                }
                downloads
            });
        }
    }
    let held = most_held(&network, 3, STOPPED).await;
    let downloads: Vec<u32> = others.join_all().await;
    println!("a relay held {held} bytes; beside it {downloads:?} downloads of 256 KiB");
    assert!((1..=2 * u64::from(STREAM_WINDOW)).contains(&held), "{held}");
    assert!(downloads.iter().all(|count| *count > 5), "{downloads:?}");
    assert_eq!(check(&mut unread).await, 8 * MIB);
    assert_eq!(most_held(&network, 3, Duration::from_secs(2)).await, 0, "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_dropped_half_read_leave_nothing_behind() {
    let network = rough(plan(52, 4)).start();
    let client = network.client().await;
    for _ in 0..100 {
        let mut stream = bulk(&client, &isolation(0), 64 * MIB).await;
        assert!(stream.receive(&mut Vec::new()).await.unwrap() > 0);
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(most_held(&network, 4, Duration::from_secs(2)).await, 0);
    assert_eq!(network.outside.resets(), 100, "each server knows that its answer is not wanted");
    let used = client.paths(&isolation(0)).len();
    assert_eq!(used, 1, "and the circuit goes on");
    echo(&mut open(&client, &isolation(0), ECHO).await, b"hello").await;
}

/// Circuits that go through each of these relays.
fn circuits(network: &SimNetwork, relays: u8) -> Vec<usize> {
    (1..=relays).map(|number| network.relay(number).circuits()).collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_client_that_has_closed() {
    let (network, client, _stream, _) = in_mid_stream(60).await;
    assert!(circuits(&network, 8).iter().sum::<usize>() >= 3);
    client.close().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(circuits(&network, 8), [0; 8]);
    assert_eq!(network.outside.resets(), 1, "the server must not take a broken download for a complete one");
    assert!(client.open(&isolation(0), target(SITE, ECHO)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_client_that_has_vanished() {
    let (network, _client, _stream, _) = in_mid_stream(61).await;
    for port in 10_000..10_020 {
        network.net.cut(([192, 168, 1, 1], port).into());
    }
    sleep(LINK_IDLE_TIMEOUT + Duration::from_secs(10)).await;
    assert_eq!(circuits(&network, 8), [0; 8]);
    assert_eq!(network.outside.resets(), 1);
}
