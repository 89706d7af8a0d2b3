//! Scenarios of whole nodes: bytes through three hops.

use std::{net::IpAddr, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use trefoil_client::tunnel::{Client, Isolation, Stream};
use trefoil_protocol::{host::Host, message::Target};

use super::{
    nodes::{Plan, SimNetwork, relay_address},
    outside::{ECHO, SINK, SITE, SOURCE, byte_at},
    udp::LinkModel,
};

pub(super) const DELAY: Duration = Duration::from_millis(25);
const MIB: u64 = 1 << 20;

pub(super) fn plan(seed: u64, relays: u8) -> Plan {
    Plan::new(seed, relays, LinkModel::with_delay(DELAY))
}

/// Lines on which packets take longer at times, and one in a hundred is lost.
pub(super) fn rough(plan: Plan) -> Plan {
    let model = LinkModel { loss: 0.01, jitter: Duration::from_millis(5), ..plan.model };
    Plan { model, ..plan }
}

pub(super) fn target(host: IpAddr, port: u16) -> Target {
    Target::Exit { host: Host::Address(host), port }
}

/// The token of this number.
pub(super) fn isolation(number: u8) -> Isolation {
    Isolation::new(&[&[number]])
}

pub(super) async fn open(client: &Client, isolation: &Isolation, port: u16) -> Stream {
    client.open(isolation, target(SITE, port)).await.unwrap()
}

/// A stream that will bring this many bytes.
pub(super) async fn bulk(client: &Client, isolation: &Isolation, length: u64) -> Stream {
    let mut stream = open(client, isolation, SOURCE).await;
    stream.send(&length.to_le_bytes()).await.unwrap();
    stream.finish().unwrap();
    stream
}

/// Reads to the end, checks every byte, and says how many came.
pub(super) async fn check(stream: &mut Stream) -> u64 {
    let (mut place, mut piece) = (0, Vec::new());
    while stream.receive(&mut piece).await.unwrap() > 0 {
        assert!((place..).zip(&piece).all(|(place, byte)| byte_at(place) == *byte), "a wrong byte after {place}");
        place += piece.len() as u64;
    }
    place
}

/// Sends this through an echo and back.
pub(super) async fn echo(stream: &mut Stream, words: &[u8]) {
    stream.send(words).await.unwrap();
    let (mut back, mut piece) = (Vec::new(), Vec::new());
    while back.len() < words.len() {
        assert!(stream.receive(&mut piece).await.unwrap() > 0, "the echo ended early");
        back.extend_from_slice(&piece);
    }
    assert_eq!(back, words);
}

/// A client with a page fetched, so that it has a circuit.
async fn warm(network: &SimNetwork) -> Client {
    let client = network.client().await;
    echo(&mut open(&client, &isolation(0), ECHO).await, b"a page").await;
    client
}

/// Bytes per second of virtual time.
async fn speed(client: &Client, length: u64) -> f64 {
    let start = Instant::now();
    assert_eq!(check(&mut bulk(client, &isolation(0), length).await).await, length);
    length as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_page_and_16_mib_go_through_three_hops_of_25_ms() {
    let network = plan(1, 5).start();
    let client = warm(&network).await;
    let speed = speed(&client, 16 * MIB).await;
    println!("16 MiB at {:.1} MB/s", speed / 1e6);
    assert!(speed > 4e6, "{speed}");
}

#[tokio::test(start_paused = true)]
async fn a_page_and_16_mib_go_through_three_hops_that_lose_one_packet_in_a_hundred() {
    let network = Plan { model: LinkModel { loss: 0.01, ..LinkModel::with_delay(DELAY) }, ..plan(2, 5) }.start();
    let client = warm(&network).await;
    let speed = speed(&client, 16 * MIB).await;
    println!("16 MiB at {:.2} MB/s", speed / 1e6);
    assert!(speed > 0.1e6, "{speed}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_arrives_whole() {
    let network = plan(3, 5).start();
    let client = warm(&network).await;
    let mut stream = open(&client, &isolation(0), SINK).await;
    stream.send(&vec![7; 2 << 20]).await.unwrap();
    stream.finish().unwrap();
    let mut answer = Vec::new();
    stream.receive(&mut answer).await.unwrap();
    assert_eq!(answer, (2 * MIB).to_le_bytes());
    assert_eq!(stream.receive(&mut answer).await.unwrap(), 0);
}

/// 64 downloads at the same time; `token` says which of them share a circuit.
async fn downloads(plan: Plan, token: fn(u8) -> u8) {
    let network = plan.start();
    let client = warm(&network).await;
    let mut all = JoinSet::new();
    for number in 0..64 {
        let client = client.clone();
        all.spawn(async move { check(&mut bulk(&client, &isolation(token(number)), MIB / 8).await).await });
    }
    let lengths = timeout(Duration::from_secs(120), all.join_all()).await.expect("no download starves");
    assert_eq!(lengths, [MIB / 8; 64]);
}

#[tokio::test(start_paused = true)]
async fn sixty_four_downloads_share_a_circuit() {
    downloads(plan(4, 6), |_| 0).await;
}

#[tokio::test(start_paused = true)]
async fn sixty_four_downloads_have_a_circuit_each() {
    downloads(plan(4, 6), |number| number).await;
}

#[tokio::test(start_paused = true)]
async fn sixty_four_downloads_over_rough_lines_share_a_circuit() {
    downloads(rough(plan(7, 6)), |_| 0).await;
}

#[tokio::test(start_paused = true)]
async fn sixty_four_downloads_over_rough_lines_have_a_circuit_each() {
    downloads(rough(plan(8, 6)), |number| number).await;
}

#[tokio::test(start_paused = true)]
async fn either_end_may_finish_first_and_the_other_goes_on() {
    half_close(plan(5, 5)).await;
}

#[tokio::test(start_paused = true)]
async fn either_end_may_finish_first_over_rough_lines_too() {
    half_close(rough(plan(9, 5))).await;
}

async fn half_close(plan: Plan) {
    let network = plan.start();
    let client = warm(&network).await;
    let mut upload = open(&client, &isolation(0), SINK).await;
    upload.send(&vec![7; 1 << 20]).await.unwrap();
    upload.finish().unwrap(); // the answer to all of it comes after the end
    let (mut answer, mut piece) = (Vec::new(), Vec::new());
    while upload.receive(&mut piece).await.unwrap() > 0 {
        answer.extend_from_slice(&piece);
    }
    assert_eq!(answer, MIB.to_le_bytes());

    let mut echoed = open(&client, &isolation(0), ECHO).await;
    echoed.send(b"last words").await.unwrap();
    echoed.finish().unwrap(); // ours first
    let mut piece = Vec::new();
    echoed.receive(&mut piece).await.unwrap();
    assert_eq!(piece, b"last words");
    assert_eq!(echoed.receive(&mut piece).await.unwrap(), 0);

    let mut source = open(&client, &isolation(0), SOURCE).await;
    source.send(&1_u64.to_le_bytes()).await.unwrap();
    assert_eq!(check(&mut source).await, 1); // theirs first
    source.finish().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_silent_for_hours_still_works() {
    long_silence(plan(6, 5), &[1, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_silent_for_an_hour_over_rough_lines_still_works() {
    long_silence(rough(plan(10, 5)), &[1]).await;
}

async fn long_silence(plan: Plan, hours: &[u64]) {
    let network = plan.start();
    let client = warm(&network).await;
    let mut stream = open(&client, &isolation(0), ECHO).await;
    for hours in hours {
        sleep(Duration::from_secs(3600 * hours)).await;
        echo(&mut stream, b"still there?").await;
    }
}

/// The digest of a whole run: two clients, circuits, downloads, lost packets, and a relay that vanishes.
fn run(seed: u64) -> [u8; 32] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let model = LinkModel { loss: 0.01, jitter: Duration::from_millis(5), ..LinkModel::with_delay(DELAY) };
        let network = Plan::new(seed, 6, model).start();
        let (one, other) = (warm(&network).await, warm(&network).await);
        let mut downloads = [bulk(&one, &isolation(0), MIB / 4).await, bulk(&other, &isolation(1), MIB / 4).await];
        for download in &mut downloads {
            assert_eq!(check(download).await, MIB / 4);
        }
        network.net.cut(relay_address(3));
        sleep(Duration::from_secs(90)).await;
        network.net.digest()
    })
}

#[test]
fn a_whole_run_repeats_itself_with_its_seed_and_not_with_another() {
    let first = run(11);
    assert_eq!(first, run(11));
    assert_ne!(first, run(12));
}
