use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{net::UdpSocket, time::timeout};
use trefoil_protocol::{
    crypto::Secret,
    entry::{RelayAddresses, RelayEntry, Weight},
    handshake::{OriginHandshake, Peer},
    identity::{OnionSecret, RelaySecret},
    limits::{
        CELL, CIRCUIT_MEMORY, CIRCUITS_SHARE, EXTEND_TIMEOUT, EXTENDS_UNCONTENDED, GATE_WAITING, GATE_WAITING_PER_LINK,
    },
    message::Message,
    onion::{self, ForwardLayers},
};

use super::*;
use crate::{
    counters::Cause,
    endpoint::{Congestion, Endpoint, LinkIdentity, LinkOptions},
    link::{LinkError, LinkId},
    relay::{Relay, Setup},
    sources::Loopback,
};

/// Handshakes waiting at which a relay asks for puzzles.
const MANY: usize = 64;

/// A relay at work, and somebody who has a link to it.
struct Scene {
    relay: Relay,
    peer: Peer,
    address: SocketAddr,
    link: Link,
    rng: StdRng,
    endpoint: Endpoint,
}

/// An origin's view of a circuit of one hop.
struct OneHop {
    cells: cells::Circuit,
    layers: ForwardLayers,
    rng: StdRng,
}

impl OneHop {
    async fn say(&mut self, message: &Message<'_>) {
        let mut cell = [0; CELL];
        message.encode(onion::message_mut(&mut cell));
        self.layers.seal(0, &mut cell, &mut self.rng);
        self.cells.writer.write(one(&cell)).await.unwrap();
    }
}

impl Scene {
    async fn new(memory: u64, bootstrap: Vec<RelayEntry>) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let setup = Setup { memory, ..Setup::for_tests(&mut rng) };
        let network = setup.params.id();
        let peer = Peer { network, relay: setup.identity.id(), onion: setup.onion.present() };
        let options = LinkOptions {
            identity: LinkIdentity::Anonymous,
            network: *network.as_bytes(),
            congestion: Congestion::Cubic,
            loopback: Loopback::Exempt,
        };
        let (relay, address) = setup.start_for_tests(bootstrap);
        let endpoint = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), &options).unwrap();
        let link = endpoint.dial(peer.relay, address).await.unwrap();
        Self { relay, peer, address, link, rng, endpoint }
    }

    fn handshake(&mut self, effort: u8) -> OriginHandshake {
        let hour = self.relay.node().hour();
        OriginHandshake::start(self.peer, Puzzle { effort, hour }, &mut self.rng)
    }

    /// Sends `Create` on a new circuit, which is open while it is held.
    async fn ask(&self, create: &[u8]) -> (Result<Vec<u8>, Refusal>, cells::Circuit) {
        let mut circuit = self.link.open_circuit().await.unwrap();
        circuit.writer.write(one(&cell::create_cell(create))).await.unwrap();
        let mut answer = circuit.reader.cells().await.unwrap();
        let answer = cell::read_created(as_cell(&mut answer)).unwrap().map(<[u8]>::to_vec);
        (answer, circuit)
    }

    fn count(&self, cause: Cause) -> u64 {
        self.relay.directory().counters().of(cause)
    }

    async fn has_no_circuits(&self) {
        while self.relay.circuits() > 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn circuit(&mut self) -> OneHop {
        let handshake = self.handshake(0);
        let (created, cells) = self.ask(handshake.create()).await;
        let mut layers = ForwardLayers::default();
        layers.push(handshake.finish(&created.unwrap()).unwrap().forward);
        OneHop { cells, layers, rng: StdRng::seed_from_u64(3) }
    }
}

#[tokio::test]
async fn a_solved_puzzle_buys_one_handshake() {
    let mut scene = Scene::new(1 << 30, vec![]).await;
    let effort = scene.relay.node().effort.lock().unwrap().asked(MANY, Instant::now());
    assert!(effort > 0);
    let (first, second) = (scene.handshake(effort), scene.handshake(effort));
    assert!(scene.ask(first.create()).await.0.is_ok());
    assert_eq!(scene.ask(first.create()).await.0, Err(Refusal::Busy(effort)));
    assert_eq!(scene.count(Cause::CircuitBusy), 1);
    assert!(scene.ask(second.create()).await.0.is_ok());
}

#[tokio::test]
async fn a_solved_puzzle_that_finds_no_room_is_not_spent() {
    let mut scene = Scene::new(CIRCUITS_SHARE * CIRCUIT_MEMORY, vec![]).await;
    let first = scene.circuit().await;
    let effort = scene.relay.node().effort.lock().unwrap().asked(MANY, Instant::now());
    let (first_solved, solved) = (scene.handshake(effort), scene.handshake(effort + 4)); // it rises while many wait
    assert_eq!(scene.ask(first_solved.create()).await.0, Err(Refusal::Limit));
    assert_eq!((scene.count(Cause::CircuitLimit), scene.count(Cause::CircuitBusy)), (1, 0));
    drop(first);
    scene.has_no_circuits().await;
    let (answer, again) = scene.ask(first_solved.create()).await;
    assert!(answer.is_ok());
    drop(again);
    scene.has_no_circuits().await;

    let gate = &scene.relay.node().handshakes;
    let mut held = vec![];
    while let Ok(pass) = timeout(Duration::ZERO, gate.enter(LinkId::for_tests(1))).await {
        held.push(pass.unwrap());
    }
    let mut queue: Vec<_> = (0..GATE_WAITING)
        .map(|job| Box::pin(gate.enter(LinkId::for_tests(2 + u64::try_from(job / GATE_WAITING_PER_LINK).unwrap()))))
        .collect();
    for waiting in &mut queue {
        let _ = timeout(Duration::ZERO, waiting).await;
    }
    assert_eq!(gate.waiting(), GATE_WAITING);
    assert!(matches!(scene.ask(solved.create()).await.0, Err(Refusal::Busy(_))), "the queue is full");
    drop(held);
    drop(queue);
    assert!(scene.ask(solved.create()).await.0.is_ok());
}

#[tokio::test]
async fn a_relay_whose_handshakes_pile_up_serves_only_who_solves_its_puzzle() {
    let mut scene = Scene::new(1 << 30, vec![]).await;
    let node = Arc::clone(scene.relay.node());
    let mut held = vec![];
    while let Ok(pass) = timeout(Duration::ZERO, node.handshakes.enter(LinkId::for_tests(1))).await {
        held.push(pass.unwrap()); // all handshakes that may run at once
    }
    let waiting: Vec<_> = (0..MANY)
        .map(|_| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { drop(node.handshakes.enter(LinkId::for_tests(2)).await) })
        })
        .collect();
    while node.handshakes.waiting() < MANY {
        tokio::task::yield_now().await;
    }
    let unsolved = scene.handshake(0);
    let Err(Refusal::Busy(effort)) = scene.ask(unsolved.create()).await.0 else { panic!("it is not busy") };
    drop(held);
    for job in waiting {
        job.await.unwrap();
    }
    assert_eq!(scene.ask(unsolved.create()).await.0, Err(Refusal::Busy(effort)), "it calms down slowly");
    let solved = scene.handshake(effort);
    assert!(scene.ask(solved.create()).await.0.is_ok());
}

/// A relay that takes packets and never answers.
async fn silent_relay() -> (RelayEntry, UdpSocket) {
    let mut rng = StdRng::seed_from_u64(2);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let entry = RelayEntry {
        id: RelaySecret::generate(&mut rng).id(),
        onion_key: OnionSecret::generate(&mut rng).public(),
        addresses: RelayAddresses::new([socket.local_addr().unwrap()]).unwrap(),
        weight: Weight::default(),
        exit: "".parse().unwrap(),
    };
    (entry, socket)
}

#[tokio::test]
async fn an_extension_ends_with_its_circuit() {
    let (silent, socket) = silent_relay().await;
    let mut scene = Scene::new(1 << 30, vec![silent.clone()]).await;
    let mut circuit = scene.circuit().await;
    let create = scene.handshake(0).create().to_vec();
    circuit.say(&Message::Extend { relay: silent.id, create: &create }).await;
    socket.recv(&mut [0; 2048]).await.unwrap(); // it is being dialled
    assert_eq!(scene.relay.circuits(), 1);

    circuit.cells.close(CloseReason::Unspecified);
    let gone = timeout(EXTEND_TIMEOUT / 2, scene.has_no_circuits()).await;
    gone.expect("the circuit is not held for the rest of the timeout");
}

#[tokio::test]
async fn the_share_of_extensions_that_one_link_has_used_up_is_left_to_others() {
    let (silent, _socket) = silent_relay().await;
    let mut scene = Scene::new(1 << 30, vec![silent.clone()]).await;
    let node = Arc::clone(scene.relay.node());
    let upstreams = async |count| {
        let some = async {
            while node.shares.upstreams(silent.id).len() < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(EXTEND_TIMEOUT / 2, some).await.expect("circuits of so many links are being extended");
        node.shares.upstreams(silent.id)
    };
    let create = scene.handshake(0).create().to_vec();
    let extend = Message::Extend { relay: silent.id, create: &create };
    let mut first = scene.circuit().await;
    first.say(&extend).await;
    let link = upstreams(1).await[0]; // as the relay names it
    let _held: Vec<_> = (0..EXTENDS_UNCONTENDED).map(|_| node.shares.take(link, silent.id)).collect();
    let mut refused = scene.circuit().await;
    refused.say(&extend).await;
    refused.cells.reader.cells().await.unwrap();
    assert_eq!(scene.count(Cause::ExtendLimit), 1);

    scene.link = scene.endpoint.dial(scene.peer.relay, scene.address).await.unwrap();
    let mut welcome = scene.circuit().await;
    welcome.say(&extend).await;
    upstreams(2).await;
    assert_eq!(scene.count(Cause::ExtendLimit), 1);
}

#[tokio::test]
async fn a_relay_without_room_for_a_circuit_says_so_and_has_room_when_one_ends() {
    let mut scene = Scene::new(CIRCUITS_SHARE * CIRCUIT_MEMORY, vec![]).await;
    let first = scene.circuit().await;
    let create = scene.handshake(0).create().to_vec();
    assert_eq!(scene.ask(&create).await.0, Err(Refusal::Limit));
    drop(first);
    scene.has_no_circuits().await;
    assert!(scene.ask(&create).await.0.is_ok());
}

#[tokio::test]
async fn either_half_takes_the_other_with_it_when_it_is_torn_down() {
    let scene = Scene::new(1 << 30, vec![]).await;
    for forward in [true, false] {
        let circuit = scene.link.open_circuit().await.unwrap();
        let shared = Shared::new(scene.relay.node()).unwrap();
        let key = || Secret::new([1; 32]);
        let (say, said) = mpsc::channel(SAY_QUEUE);
        let task = if forward {
            let layer = ForwardLayer::new(key());
            tokio::spawn(Forward::new(Arc::clone(&shared), scene.link.clone(), circuit.reader, layer, say).run())
        } else {
            tokio::spawn(Backward::new(Arc::clone(&shared), circuit.writer, BackwardLayer::new(key()), said).run())
        };
        tokio::task::yield_now().await;
        assert!(!shared.closed.is_cancelled());
        task.abort(); // drops what it has, as a panic does
        let _ = task.await;
        assert!(shared.closed.is_cancelled());
    }
}

#[tokio::test]
async fn peers_hear_of_a_stop_even_if_a_task_does_not_end() {
    let mut scene = Scene::new(1 << 30, vec![]).await;
    let _circuit = scene.circuit().await; // so that the relay, too, has finished the link's handshake
    scene.relay.node().tracker.spawn(std::future::pending::<()>());
    scene.relay.stop_within(Duration::from_millis(1)).await;
    let closed = scene.link.closed().await;
    assert!(matches!(closed, LinkError::Closed(CloseReason::Shutdown)), "{closed:?}");
}
