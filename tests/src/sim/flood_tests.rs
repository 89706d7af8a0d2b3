//! Scenarios of floods: strangers who ask for circuits faster than a relay can make them, beside an honest client.
//!
//! Each handshake takes a relay 5 ms here, one at a time, because in virtual time computing takes none. The floods solve
//! no puzzle. What these scenarios do not show is how dear puzzles and links are in real time.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use trefoil_client::tunnel::Client;
use trefoil_protocol::{
    cell::{self, Refusal},
    entry::RelayEntry,
    handshake::{OriginHandshake, Peer},
    limits::MAX_EXTENDS,
    message::ExtendError,
    params::NetworkId,
    puzzle::Puzzle,
};
use trefoil_relay::{counters::Cause, endpoint::LinkIdentity, link::Link};

use super::{
    hop::{Act, play},
    nodes::{Plan, SimNetwork, relay_address},
    origin::{Origin, one},
    outside::ECHO,
    transfer_tests::{echo, isolation, open, plan},
};

/// A relay makes 200 circuits per second.
const HANDSHAKE: Duration = Duration::from_millis(5);
/// Without a flood an honest client has its answer after 0.8 s: a link, three hops, a stream and an echo; a puzzle adds a
/// round trip.
const PATIENCE: Duration = Duration::from_millis(950);
/// A circuit's first hop with nobody else waiting: a round trip, and one handshake.
const FIRST_HOP: Duration = Duration::from_millis(50 + 5);
/// Nobody waits for longer.
const HOPELESS: Duration = Duration::from_secs(60);
/// Honest clients that come one after the other.
const CLIENTS: usize = 6;

/// What a flood was told.
#[derive(Default)]
struct Told {
    made: AtomicUsize,
    busy: AtomicUsize,
}

fn network(seed: u64, relays: u8) -> SimNetwork {
    Plan { handshake: HANDSHAKE, ..plan(seed, relays) }.start()
}

/// A link of a stranger of its own to relay 1.
async fn link(network: &SimNetwork, stranger: u8) -> Link {
    let address = SocketAddr::from(([192, 168, 200, stranger], 1));
    let endpoint = network.endpoint(address, LinkIdentity::Anonymous);
    endpoint.dial(network.entries()[0].id, relay_address(1)).await.unwrap()
}

/// How long a circuit of one hop takes on this link.
async fn first_hop(network: &SimNetwork, link: &Link) -> Duration {
    let start = Instant::now();
    let made = timeout(HOPELESS, Origin::create(link, network.params().id(), &network.entries()[0])).await;
    assert!(made.expect("it starves").is_ok());
    start.elapsed()
}

/// Asks for circuits for ever, one after the other, with the same cell: that costs a flood nothing.
async fn create_for_ever(link: Link, network: NetworkId, relay: RelayEntry, told: Arc<Told>) {
    let peer = Peer { network, relay: relay.id, onion: relay.onion_key };
    let handshake = OriginHandshake::start(peer, Puzzle::NONE, &mut StdRng::seed_from_u64(1));
    let create = cell::create_cell(handshake.create());
    loop {
        let mut circuit = link.open_circuit().await.unwrap();
        circuit.writer.write(one(&create)).await.unwrap();
        let answer = circuit.reader.cells().await.unwrap();
        match cell::read_created(&answer.as_ref().try_into().unwrap()).unwrap() {
            Ok(_) => told.made.fetch_add(1, Relaxed),
            Err(Refusal::Busy(_)) => told.busy.fetch_add(1, Relaxed),
            Err(refusal) => panic!("{refusal}"),
        };
    }
}

/// Extends circuits to this relay for ever; each as often as it may.
async fn extend_for_ever(link: Link, network: NetworkId, guard: RelayEntry, next: RelayEntry, told: Arc<Told>) {
    loop {
        let Ok(mut circuit) = Origin::create(&link, network, &guard).await else { continue };
        for _ in 0..MAX_EXTENDS {
            match circuit.extend(&next).await {
                Ok(()) => {
                    told.made.fetch_add(1, Relaxed);
                    break;
                }
                Err(ExtendError::Busy(_)) => told.busy.fetch_add(1, Relaxed),
                Err(error) => panic!("{error}"),
            };
        }
    }
}

/// How long a new client takes from nothing to an answer through three relays.
async fn first_echo(client: Client) -> Duration {
    let start = Instant::now();
    let mut stream = open(&client, &isolation(1), ECHO).await;
    echo(&mut stream, b"beside a flood").await;
    let took = start.elapsed();
    client.close().await;
    took
}

#[tokio::test(start_paused = true)]
async fn beside_a_flood_of_creates_an_honest_client_gets_its_circuits() {
    let network = network(1, 3);
    let alone = first_echo(network.client().await).await;
    let (told, mut flood) = (Arc::new(Told::default()), JoinSet::new());
    for stranger in 0..8 {
        let link = link(&network, stranger).await;
        for _ in 0..16 {
            let relay = network.entries()[0].clone();
            flood.spawn(create_for_ever(link.clone(), network.params().id(), relay, Arc::clone(&told)));
        }
    }
    for _ in 0..CLIENTS {
        let took = first_echo(network.client().await).await; // with three relays, relay 1 is on every path
        assert!(took < PATIENCE, "{took:?}, alone {alone:?}");
    }
    assert!(told.busy.load(Relaxed) > 1000, "the relay asks for puzzles");
    assert!(told.made.load(Relaxed) > 64, "and did not before it was flooded");
    assert!(network.relay(1).directory().counters().of(Cause::CircuitBusy) > 1000, "and counts whom it turned away");
    assert!(flood.try_join_next().is_none(), "the flood goes on");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_creates_on_one_link_that_is_asked_for_no_puzzle_keeps_no_other_link_waiting() {
    let network = network(3, 1);
    let (flooded, honest) = (link(&network, 1).await, link(&network, 2).await);
    let (told, mut flood) = (Arc::new(Told::default()), JoinSet::new());
    for _ in 0..60 {
        let relay = network.entries()[0].clone();
        flood.spawn(create_for_ever(flooded.clone(), network.params().id(), relay, Arc::clone(&told)));
    }
    sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        let took = first_hop(&network, &honest).await;
        assert!(took <= FIRST_HOP + 3 * HANDSHAKE, "one that runs and one in turn come before it: {took:?}");
    }
    assert!(first_hop(&network, &flooded).await > 40 * HANDSHAKE, "its own link's circuits wait");
    assert_eq!(told.busy.load(Relaxed), 0);
    assert!(flood.try_join_next().is_none(), "the flood goes on");
}

#[tokio::test(start_paused = true)]
async fn links_that_come_later_do_not_overtake() {
    let network = network(4, 1);
    let (first, honest) = (link(&network, 1).await, link(&network, 2).await);
    let mut others = Vec::new();
    for stranger in 3..43 {
        others.push(link(&network, stranger).await);
    }
    let later = async {
        sleep(Duration::from_millis(1)).await;
        let all: JoinSet<_> = others.iter().cloned().map(|link| create(link, &network)).collect();
        all.join_all().await
    };
    let (_, took, others) = tokio::join!(create(first, &network), first_hop(&network, &honest), later);
    assert!(took <= FIRST_HOP + 2 * HANDSHAKE, "only one came before it: {took:?}");
    assert!(others.iter().max() > Some(&(FIRST_HOP + 35 * HANDSHAKE)), "they waited for each other");
}

/// How long a circuit of one hop takes on this link, as a task.
fn create(link: Link, network: &SimNetwork) -> impl Future<Output = Duration> + use<> {
    let (id, relay) = (network.params().id(), network.entries()[0].clone());
    async move {
        let start = Instant::now();
        Origin::create(&link, id, &relay).await.unwrap();
        start.elapsed()
    }
}

/// How long an honest origin takes to extend from relay 1 to relay 2, again and again.
async fn extends_to_2(network: &SimNetwork, link: &Link) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..10 {
        let mut circuit = Origin::create(link, network.params().id(), &network.entries()[0]).await.unwrap();
        let start = Instant::now();
        let extended = timeout(HOPELESS, circuit.extend(&network.entries()[1])).await;
        assert_eq!(extended.expect("it starves"), Ok(()));
        took.push(start.elapsed());
    }
    took
}

/// Extends circuits to the last relay for ever, each as often as it may, whatever comes of it.
async fn extend_in_vain_for_ever(link: Link, network: NetworkId, guard: RelayEntry, next: RelayEntry) {
    loop {
        let mut circuit = Origin::create(&link, network, &guard).await.unwrap();
        for _ in 0..MAX_EXTENDS {
            assert!(circuit.extend(&next).await.is_err());
        }
    }
}

/// Three relays of which the last is played, and a flood of this many links that extend to it from the first.
async fn flooded_with_extends(act: Act, links: u8, circuits: usize) -> (SimNetwork, JoinSet<()>) {
    let network = Plan { by_hand: 1, ..plan(5, 3) }.start();
    play(&network, 3, move || act);
    let mut flood = JoinSet::new();
    for stranger in 0..links {
        let link = link(&network, stranger).await;
        for _ in 0..circuits {
            let [guard, .., next] = network.entries() else { panic!("there are three") };
            let (guard, next) = (guard.clone(), next.clone());
            flood.spawn(extend_in_vain_for_ever(link.clone(), network.params().id(), guard, next));
        }
    }
    sleep(Duration::from_secs(2)).await;
    (network, flood)
}

/// An extension with nobody else waiting: two round trips.
const EXTENSION: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn extensions_of_one_link_that_never_end_keep_no_other_link_waiting() {
    let (network, mut flood) = flooded_with_extends(Act::Silence, 1, 64).await;
    let honest = link(&network, 200).await;
    for took in extends_to_2(&network, &honest).await {
        assert!(took <= EXTENSION + Duration::from_millis(60), "{took:?}"); // the first dials
    }
    assert!(flood.try_join_next().is_none(), "the flood goes on");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_extensions_that_fills_the_gate_leaves_another_link_its_turn() {
    let act = Act::RefuseAfter(Refusal::Refused, Duration::from_secs(1));
    let (network, mut flood) = flooded_with_extends(act, 10, 100).await;
    let honest = link(&network, 200).await;
    for took in extends_to_2(&network, &honest).await {
        assert!(took <= EXTENSION + Duration::from_millis(1200), "an extension under way may end first: {took:?}");
    }
    assert!(flood.try_join_next().is_none(), "the flood goes on");
}

#[tokio::test(start_paused = true)]
async fn a_flood_through_one_relay_spoils_that_relays_share_only() {
    let network = network(2, 4);
    let alone = first_echo(network.client().await).await;
    let (told, mut flood) = (Arc::new(Told::default()), JoinSet::new());
    for stranger in 0..12 {
        let link = link(&network, stranger).await;
        for _ in 0..8 {
            let [guard, .., next] = network.entries() else { panic!("there are four") };
            let (guard, next) = (guard.clone(), next.clone());
            flood.spawn(extend_for_ever(link.clone(), network.params().id(), guard, next, Arc::clone(&told)));
        }
    }
    for _ in 0..CLIENTS {
        let took = first_echo(network.client().await).await;
        assert!(took < PATIENCE, "{took:?}, alone {alone:?}");
    }
    assert!(told.made.load(Relaxed) > 800, "relay 4 made nearly 200 circuits per second for relay 1 meanwhile");
    assert!(flood.try_join_next().is_none(), "the flood goes on");
}
