//! Scenarios of links over a simulated network.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use trefoil_protocol::{
    identity::{RelayId, RelaySecret},
    limits::{
        CELL, DIRECTORY_STREAMS, HALF_OPEN_FREE, HALF_OPEN_PER_SOURCE, HANDSHAKE_TIMEOUT, STREAM_OPEN_TIMEOUT,
        STREAM_WINDOW, STREAMS_CLIENT, STREAMS_RELAY,
    },
};
use trefoil_relay::{
    cells::{CellError, Circuit},
    endpoint::{Congestion, DialError, Endpoint, LinkIdentity, LinkOptions},
    link::{Link, LinkError},
    opened::{Arrival, OpenedError},
    reason::CloseReason,
    sources::Loopback,
};

use super::udp::{Bottleneck, LinkModel, SimNet};

const DELAY: Duration = Duration::from_millis(25);

pub(super) fn net(seed: u64) -> SimNet {
    SimNet::new(seed, LinkModel::with_delay(DELAY))
}

pub(super) fn address(node: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node], 9000))
}

pub(super) fn relay_id(node: u8) -> RelayId {
    secret(node).id()
}

pub(super) fn secret(node: u8) -> RelaySecret {
    RelaySecret::generate(&mut StdRng::seed_from_u64(node.into()))
}

fn client_at(net: &SimNet, address: &str) -> Endpoint {
    let options = options(LinkIdentity::Anonymous, 1);
    Endpoint::over(net.socket(address.parse().unwrap()), &options, Some([0; 32])).unwrap()
}

pub(super) fn endpoint(net: &SimNet, node: u8, identity: LinkIdentity, network: u8) -> Endpoint {
    Endpoint::over(net.socket(address(node)), &options(identity, network), Some([node; 32])).unwrap()
}

fn options(identity: LinkIdentity, network: u8) -> LinkOptions {
    LinkOptions { identity, network: [network; 32], congestion: Congestion::Cubic, loopback: Loopback::Counted }
}

pub(super) fn relay(net: &SimNet, node: u8) -> Endpoint {
    endpoint(net, node, LinkIdentity::Relay(Arc::new(secret(node))), 1)
}

pub(super) fn client(net: &SimNet, node: u8) -> Endpoint {
    endpoint(net, node, LinkIdentity::Anonymous, 1)
}

/// Both ends of a new link from one endpoint to the relay of this number.
pub(super) async fn linked(from: &Endpoint, to: &Endpoint, node: u8) -> (Link, Link) {
    let (dialled, accepted) = tokio::join!(from.dial(relay_id(node), address(node)), accept(to));
    (dialled.unwrap(), accepted)
}

pub(super) async fn accept(endpoint: &Endpoint) -> Link {
    endpoint.accept().await.unwrap().finish().await.unwrap()
}

/// Both ends of a new circuit, after its first cell.
pub(super) async fn circuit(from: &Link, to: &Link) -> (Circuit, Circuit) {
    let mut ours = from.open_circuit().await.unwrap();
    ours.writer.write(cells(1)).await.unwrap();
    let Arrival::Circuit(theirs, first) = arrive(to).await.unwrap() else { panic!("a circuit arrives") };
    assert_eq!(first, cells(1));
    (ours, theirs)
}

/// The next stream that is opened on this link.
pub(super) async fn arrive(link: &Link) -> Result<Arrival, OpenedError> {
    link.accept().await.unwrap().arrive().await
}

pub(super) fn cells(count: usize) -> Bytes {
    Bytes::from(vec![1; count * CELL])
}

/// Reads this many cells.
pub(super) async fn read(circuit: &mut Circuit, count: usize) {
    let mut bytes = 0;
    while bytes < count * CELL {
        bytes += circuit.reader.cells().await.unwrap().len();
    }
    assert_eq!(bytes, count * CELL);
}

#[tokio::test(start_paused = true)]
async fn relays_see_each_others_identity() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    assert_eq!(dialled.peer(), Some(relay_id(2)));
    assert_eq!(accepted.peer(), Some(relay_id(1)));
    assert_eq!(accepted.remote_address(), address(1));
    assert_ne!(dialled.id(), accepted.id());
}

#[tokio::test(start_paused = true)]
async fn a_client_is_anonymous_and_takes_no_circuits() {
    let net = net(1);
    let (a, b) = (client(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    assert_eq!(dialled.peer(), Some(relay_id(2)));
    assert_eq!(accepted.peer(), None);
    assert!(matches!(accepted.open_circuit().await, Err(LinkError::CircuitLimit)));
    circuit(&dialled, &accepted).await;
}

#[tokio::test(start_paused = true)]
async fn clients_and_relays_send_first_packets_of_the_same_sizes() {
    let mut digests = Vec::new();
    for identity in [LinkIdentity::Anonymous, LinkIdentity::Relay(Arc::new(secret(1)))] {
        let net = net(1);
        let dialler = endpoint(&net, 1, identity, 1); // nobody answers: only the ClientHello is sent, again and again
        assert!(matches!(dialler.dial(relay_id(2), address(2)).await, Err(DialError::Timeout)));
        digests.push(net.digest());
    }
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_with_another_key_is_refused() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) =
        tokio::join!(a.dial(relay_id(3), address(2)), async { b.accept().await.unwrap().finish().await });
    assert!(matches!(dialled, Err(DialError::WrongKey)), "{dialled:?}");
    assert!(accepted.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_relay_of_another_network_refuses() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), endpoint(&net, 2, LinkIdentity::Relay(Arc::new(secret(2))), 9));
    let (dialled, accepted) =
        tokio::join!(a.dial(relay_id(2), address(2)), async { b.accept().await.unwrap().finish().await });
    assert!(matches!(dialled, Err(DialError::WrongNetwork)), "{dialled:?}");
    assert!(accepted.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_refuses_to_be_dialled() {
    let net = net(1);
    let (a, _b) = (relay(&net, 1), client(&net, 2));
    let dialled = a.dial(relay_id(2), address(2)).await;
    assert!(matches!(dialled, Err(DialError::Timeout | DialError::Refused)), "{dialled:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_from_one_network_is_turned_away_and_others_are_let_in() {
    let net = net(1);
    let (crowd, other, b) = (client(&net, 1), client_at(&net, "10.0.1.1:9000"), relay(&net, 2));
    let mut dials = tokio::task::JoinSet::new();
    let mut half_open = Vec::new();
    for _ in 0..HALF_OPEN_PER_SOURCE {
        let crowd = crowd.clone();
        dials.spawn(async move { crowd.dial(relay_id(2), address(2)).await });
        half_open.push(b.accept().await.unwrap());
    }
    let arrival = tokio::spawn(async move { accept(&b).await });
    let refused = crowd.dial(relay_id(2), address(2)).await; // first asked to prove its address, then refused
    assert!(matches!(refused, Err(DialError::Refused)), "{refused:?}");
    let welcome = other.dial(relay_id(2), address(2)).await.unwrap();
    assert_eq!(arrival.await.unwrap().remote_address(), "10.0.1.1:9000".parse().unwrap());
    assert_eq!(welcome.peer(), Some(relay_id(2)));
}

#[tokio::test(start_paused = true)]
async fn when_many_handshakes_are_under_way_a_dialler_proves_its_address_and_is_let_in() {
    let net = net(1);
    let b = relay(&net, 2);
    let mut dials = tokio::task::JoinSet::new();
    let mut half_open = Vec::new();
    for network in 0..HALF_OPEN_FREE {
        let crowd = client_at(&net, &format!("10.1.{network}.1:9000"));
        dials.spawn(async move { crowd.dial(relay_id(2), address(2)).await });
        half_open.push(b.accept().await.unwrap());
    }
    let a = client(&net, 1);
    let before = Instant::now();
    let (dialled, accepted) = linked(&a, &b, 2).await;
    assert_eq!((dialled.peer(), accepted.peer()), (Some(relay_id(2)), None));
    assert!(before.elapsed() >= 4 * DELAY, "a round trip more than without proof");
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_nobody_answers_ends_in_time() {
    let start = Instant::now();
    let dialled = relay(&net(1), 1).dial(relay_id(2), address(2)).await;
    assert!(matches!(dialled, Err(DialError::Timeout)));
    assert!(start.elapsed() <= HANDSHAKE_TIMEOUT + Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_link_dies_when_its_peer_is_cut_off_and_lives_while_idle() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    assert!(timeout(Duration::from_secs(3600), accepted.closed()).await.is_err());
    net.cut(address(1));
    assert!(matches!(accepted.closed().await, LinkError::TimedOut));
    assert!(matches!(dialled.closed().await, LinkError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn cells_arrive_whole_both_ways_through_loss() {
    let net = net(7);
    net.set_link(address(1), address(2), LinkModel { loss: 0.05, ..LinkModel::with_delay(DELAY) });
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let (mut ours, mut theirs) = circuit(&dialled, &accepted).await;
    let echo = tokio::spawn(async move {
        while let Ok(cells) = theirs.reader.cells().await {
            assert_eq!(cells.len() % CELL, 0);
            theirs.writer.write(cells.freeze()).await.unwrap();
        }
    });
    for round in 0..100_u8 {
        let sent = Bytes::from(vec![round; 3 * CELL]);
        ours.writer.write(sent.clone()).await.unwrap();
        let mut back = Vec::new();
        while back.len() < sent.len() {
            back.extend(ours.reader.cells().await.unwrap());
        }
        assert_eq!(back, sent);
    }
    drop(ours);
    echo.await.unwrap();
    assert!(net.traffic().lost > 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_holds_up_its_writer_and_nobody_else() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let (mut stalled, _unread) = circuit(&dialled, &accepted).await;
    let (mut busy, mut read_from) = circuit(&dialled, &accepted).await;

    let mut written = 0;
    while timeout(Duration::from_secs(5), stalled.writer.write(cells(16))).await.is_ok() {
        written += 16 * CELL;
    }
    let window = usize::try_from(STREAM_WINDOW).unwrap();
    assert!((window - 16 * CELL..=window).contains(&written), "{written}");

    let other = 2 * window / CELL;
    tokio::join!(async { busy.writer.write(cells(other)).await.unwrap() }, read(&mut read_from, other));
}

#[tokio::test(start_paused = true)]
async fn a_reason_reaches_both_of_the_peers_halves() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let (ours, mut theirs) = circuit(&dialled, &accepted).await;
    ours.close(CloseReason::Limit);
    let read = theirs.reader.cells().await;
    assert!(matches!(read, Err(CellError::Closed(CloseReason::Limit))), "{read:?}");
    let written = theirs.writer.write(cells(1)).await;
    assert!(matches!(written, Err(CellError::Closed(CloseReason::Limit))), "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn dropped_halves_are_not_taken_for_an_orderly_end() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let (ours, mut theirs) = circuit(&dialled, &accepted).await;
    assert_eq!((dialled.circuits(), accepted.circuits()), (1, 1));
    drop(ours);
    assert_eq!(dialled.circuits(), 0);
    let read = theirs.reader.cells().await;
    assert!(matches!(read, Err(CellError::Closed(CloseReason::Internal))), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn last_words_arrive_when_a_circuit_is_finished() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let (mut ours, mut theirs) = circuit(&dialled, &accepted).await;
    ours.writer.write(cells(40)).await.unwrap();
    ours.writer.finish().await.unwrap();
    read(&mut theirs, 40).await;
    assert!(matches!(theirs.reader.cells().await, Err(CellError::Ended)));
}

#[tokio::test(start_paused = true)]
async fn last_words_that_nobody_acknowledges_are_given_up_in_time() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let (mut ours, _theirs) = circuit(&dialled, &accepted).await;
    net.cut(address(2));
    ours.writer.write(cells(1)).await.unwrap();
    assert!(matches!(ours.writer.finish().await, Err(CellError::Unacknowledged)));
}

#[tokio::test(start_paused = true)]
async fn opening_a_circuit_at_the_peers_limit_fails_in_time() {
    let net = net(1);
    let (a, b) = (client(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let mut open = Vec::new();
    for _ in 0..STREAMS_CLIENT {
        open.push(circuit(&dialled, &accepted).await);
    }
    let start = Instant::now();
    assert!(matches!(dialled.open_circuit().await, Err(LinkError::CircuitLimit)));
    assert_eq!(start.elapsed().as_secs(), STREAM_OPEN_TIMEOUT.as_secs());
    open.truncate(open.len() / 2); // quinn tells the peer of room only when an eighth of the limit has become free
    circuit(&dialled, &accepted).await;
}

#[tokio::test(start_paused = true)]
async fn a_known_relay_may_open_more_circuits_as_it_uses_them() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    accepted.trust();
    let mut open = Vec::new();
    for _ in 0..4 * STREAMS_RELAY {
        open.push(circuit(&dialled, &accepted).await);
        open.push(circuit(&accepted, &dialled).await);
    }
    assert_eq!(dialled.circuits(), open.len());
}

#[tokio::test(start_paused = true)]
async fn a_stranger_with_a_key_may_open_no_more_circuits_than_a_client() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let mut open = Vec::new();
    for _ in 0..STREAMS_CLIENT {
        open.push(circuit(&dialled, &accepted).await);
    }
    assert!(matches!(dialled.open_circuit().await, Err(LinkError::CircuitLimit)));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_without_a_first_cell_is_given_up() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let _silent = dialled.open_circuit().await.unwrap();
    let mut later = dialled.open_circuit().await.unwrap();
    later.writer.write(cells(1)).await.unwrap(); // makes the silent one visible too
    let start = Instant::now();
    assert!(matches!(arrive(&accepted).await, Err(OpenedError::Silent)));
    assert_eq!(start.elapsed().as_secs(), HANDSHAKE_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_an_unknown_type_is_refused() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let mut ours = dialled.open_circuit().await.unwrap();
    ours.writer.write(Bytes::from(vec![7; CELL])).await.unwrap();
    assert!(matches!(arrive(&accepted).await, Err(OpenedError::StreamType(7))));
    assert!(matches!(ours.reader.cells().await, Err(CellError::Closed(CloseReason::Protocol))));
}

#[tokio::test(start_paused = true)]
async fn a_few_directory_streams_go_beside_circuits_and_are_not_counted_as_such() {
    let net = net(1);
    let (a, b) = (client(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let _circuit = circuit(&dialled, &accepted).await;
    let mut open = Vec::new();
    for _ in 0..DIRECTORY_STREAMS {
        let mut ours = dialled.open_directory().await.unwrap();
        ours.halves().1.write_all(b"hello").await.unwrap();
        let Arrival::Directory(mut theirs) = arrive(&accepted).await.unwrap() else { panic!("no circuit arrives") };
        let mut said = [0; 5];
        theirs.halves().0.read_exact(&mut said).await.unwrap();
        assert_eq!(said, *b"hello");
        open.push((ours, theirs));
    }
    assert_eq!((dialled.circuits(), accepted.circuits()), (1, 1));
    let mut refused = dialled.open_directory().await.unwrap();
    assert!(matches!(arrive(&accepted).await, Err(OpenedError::TooMany)));
    assert!(refused.halves().0.read_exact(&mut [0]).await.is_err());
    open.clear();
    let _again = dialled.open_directory().await.unwrap();
    assert!(matches!(arrive(&accepted).await, Ok(Arrival::Directory(_))));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_directory_stream_is_no_orderly_end_and_a_finished_one_is() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let mut ends = Vec::new();
    for finish in [true, false] {
        let ours = dialled.open_directory().await.unwrap();
        let Arrival::Directory(mut theirs) = arrive(&accepted).await.unwrap() else { panic!("no circuit arrives") };
        if finish {
            ours.finish()
        } else {
            drop(ours)
        }
        ends.push(theirs.halves().0.read(&mut [0]).await.ok());
    }
    assert_eq!(ends, [Some(0), None]);
}

#[tokio::test(start_paused = true)]
async fn sixty_four_bulk_circuits_and_a_small_one_are_all_served() {
    const CELLS: usize = 1024; // 2 MiB each, over a link of 25 MB/s: more than 5 s in all
    let net = net(1);
    let bottleneck = Some(Bottleneck { rate: 25_000_000, queue: 1_250_000 });
    net.set_link(address(1), address(2), LinkModel { bottleneck, ..LinkModel::with_delay(DELAY) });
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;

    let mut pairs = Vec::new();
    for _ in 0..64 {
        pairs.push(circuit(&dialled, &accepted).await);
    }
    let (mut ours, mut theirs) = circuit(&dialled, &accepted).await;

    let mut bulk = tokio::task::JoinSet::new();
    for (mut from, mut to) in pairs {
        bulk.spawn(async move {
            tokio::join!(async { from.writer.write(cells(CELLS)).await.unwrap() }, read(&mut to, CELLS));
        });
    }
    for _ in 0..10 {
        let exchange = async {
            ours.writer.write(cells(1)).await.unwrap();
            read(&mut theirs, 1).await;
        };
        timeout(Duration::from_secs(1), exchange).await.expect("a small circuit does not starve");
    }
    let all = timeout(Duration::from_secs(60), bulk.join_all()).await.expect("no bulk circuit starves");
    assert_eq!(all.len(), 64);
}

/// The digest of a run with loss and jitter.
fn run(seed: u64) -> ([u8; 32], u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let model = LinkModel { loss: 0.02, jitter: Duration::from_millis(3), ..LinkModel::with_delay(DELAY) };
        let net = SimNet::new(seed, model);
        let (a, b) = (relay(&net, 1), relay(&net, 2));
        let (dialled, accepted) = linked(&a, &b, 2).await;
        let (mut ours, mut theirs) = circuit(&dialled, &accepted).await;
        for _ in 0..20 {
            ours.writer.write(cells(8)).await.unwrap();
            read(&mut theirs, 8).await;
        }
        (net.digest(), net.traffic().packets)
    })
}

#[test]
fn the_same_seed_gives_the_same_packets_and_another_does_not() {
    let first = run(11);
    assert!(first.1 > 100);
    assert_eq!(first, run(11));
    assert_ne!(first.0, run(12).0);
}
