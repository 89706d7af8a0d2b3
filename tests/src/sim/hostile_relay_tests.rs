//! Scenarios of whole nodes: last hops that break the protocol lose that circuit; and relays that ask for puzzles.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::mpsc,
    time::{Instant, interval},
};
use trefoil_client::tunnel::OpenError;
use trefoil_protocol::{
    cell::{self, Create, Refusal},
    directory::Request,
    exit_summary::ExitSummary,
    handshake::{self, Peer},
    identity::OnionSecret,
    limits::{CELL, MAX_EFFORT},
    message::{Message, Reason, StreamId, Target},
    onion::{self, Addressee, BackwardLayer, Cell, ForwardLayer},
    params::{NetworkId, NetworkParams},
    puzzle::{Hour, Puzzle},
};
use trefoil_relay::{
    cells::{CellError, Circuit},
    endpoint::LinkIdentity,
    link::Link,
    opened::Arrival,
    questions::Questions,
    reason::CloseReason,
};

use super::{
    bad_gossip_tests::describe,
    gossip_tests::{know, until},
    nodes::{Plan, SimNetwork, relay_address, secrets},
    origin::{Origin, one},
    outside::{ECHO, SITE},
    transfer_tests::{isolation, plan, target},
};

/// The number of the only exit, which is played by hand.
pub(super) const PLAYED: u8 = 4;

/// What the played relay does.
#[derive(Clone, Copy)]
pub(super) struct Role {
    /// How much work it asks for.
    pub(super) effort: u8,
    /// What it answers to an `Open`.
    pub(super) answer: fn(&mut BackwardLayer, StreamId) -> Vec<Cell>,
}

/// What the played relay knows, and what it has seen.
pub(super) struct Player {
    role: Role,
    network: NetworkId,
    onion: OnionSecret,
    refused: AtomicUsize,
    circuits: AtomicUsize,
    opened: Mutex<Vec<(usize, Target)>>,
    ended: mpsc::UnboundedSender<(CellError, CellError)>,
}

/// A network with a played exit that the others know; also how its circuits end.
pub(super) fn played(role: Role) -> (SimNetwork, Arc<Player>, mpsc::UnboundedReceiver<(CellError, CellError)>) {
    let network = Plan { first_exit: PLAYED, by_hand: 1, ..plan(1, PLAYED) }.start();
    let (identity, onion) = secrets(PLAYED);
    let endpoint = network.endpoint(relay_address(PLAYED), LinkIdentity::Relay(Arc::new(identity)));
    let (ended, ends) = mpsc::unbounded_channel();
    let (refused, circuits, opened) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::default());
    let player = Player { role, network: network.params().id(), onion, refused, circuits, opened, ended };
    let player = Arc::new(player);
    let playing = Arc::clone(&player);
    let (params, known) = (network.params().clone(), network.entries()[0].id);
    tokio::spawn(async move {
        let link = endpoint.dial(known, relay_address(1)).await.unwrap();
        tokio::spawn(Arc::clone(&playing).serve_link(link.clone()));
        tokio::spawn(publish(params, link));
        while let Some(arriving) = endpoint.accept().await {
            tokio::spawn(Arc::clone(&playing).serve_link(arriving.finish().await.unwrap()));
        }
    });
    (network, player, ends)
}

/// Says to relay 1 in each epoch that the played one is there.
async fn publish(params: NetworkParams, link: Link) {
    let (identity, onion) = secrets(PLAYED);
    let policy = "accept *:*".parse().unwrap();
    let mut descriptor = describe(&params, &identity, &relay_address(PLAYED).to_string());
    (descriptor.onion_key, descriptor.exit) = (onion.public(), ExitSummary::of(&policy));
    let mut epochs = interval(Duration::from_secs(params.directory.epoch.get().into()));
    loop {
        epochs.tick().await;
        let record = descriptor.sign(&params.id(), &identity);
        let Ok(mut questions) = Questions::on(&link).await else { return };
        let _ = questions.ask(&Request::Push { records: vec![record.bytes()], frauds: vec![] }).await;
        descriptor.issued = descriptor.issued.next();
    }
}

impl Player {
    /// The streams that were opened so far: on the circuit of which number, and to where.
    pub(super) fn opened(&self) -> Vec<(usize, Target)> {
        self.opened.lock().unwrap().clone()
    }

    async fn serve_link(self: Arc<Self>, link: Link) {
        while let Ok(opened) = link.accept().await {
            if let Ok(Arrival::Circuit(circuit, first)) = opened.arrive().await {
                tokio::spawn(Arc::clone(&self).serve(circuit, first));
            }
        }
    }

    async fn serve(self: Arc<Self>, mut circuit: Circuit, first: BytesMut) {
        let first: Cell = first.as_ref().try_into().unwrap();
        let create = Create::from_cell(&first).unwrap();
        let relay = secrets(PLAYED).0.id();
        let hour = Hour::of_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
        let puzzle = Puzzle { effort: self.role.effort, hour };
        if create.effort != puzzle.effort || !puzzle.is_solved_by(&relay, create.x, &create.solution) {
            self.refused.fetch_add(1, Relaxed);
            circuit.writer.write(one(&cell::refusal_cell(Refusal::Busy(puzzle.effort)))).await.unwrap();
            return circuit.writer.finish().await.unwrap();
        }
        let peer = Peer { network: self.network, relay, onion: self.onion.public() };
        let mut rng = StdRng::seed_from_u64(1);
        let (created, keys) = handshake::respond(&peer, &self.onion, &create, &mut rng).unwrap();
        circuit.writer.write(one(&cell::created_cell(&created))).await.unwrap();
        let layers = (ForwardLayer::new(keys.forward), BackwardLayer::new(keys.backward));
        let read = self.speak(&mut circuit, layers).await;
        let written = circuit.writer.write(one(&[0; CELL])).await.unwrap_err();
        let _ = self.ended.send((read, written)); // a test that is over does not want to know
    }

    /// Answers each `Open`, until the circuit ends.
    async fn speak(&self, circuit: &mut Circuit, layers: (ForwardLayer, BackwardLayer)) -> CellError {
        let (mut forward, mut backward) = layers;
        let number = self.circuits.fetch_add(1, Relaxed);
        loop {
            let mut cells = match circuit.reader.cells().await {
                Ok(cells) => cells,
                Err(error) => return error,
            };
            for cell in cells.as_chunks_mut::<CELL>().0 {
                assert_eq!(forward.open(cell), Ok(Addressee::ThisHop));
                if let Message::Open { stream, target } = Message::decode(onion::message(cell)).unwrap() {
                    self.opened.lock().unwrap().push((number, target));
                    for answer in (self.role.answer)(&mut backward, stream) {
                        let _ = circuit.writer.write(one(&answer)).await;
                    }
                }
            }
        }
    }
}

fn say(layer: &mut BackwardLayer, message: &Message<'_>) -> Cell {
    let mut cell = [0; CELL];
    message.encode(onion::message_mut(&mut cell));
    layer.speak(&mut cell);
    cell
}

/// Neither half was given a reason.
fn assert_no_reason((read, written): &(CellError, CellError)) {
    for end in [read, written] {
        assert!(matches!(end, CellError::Closed(CloseReason::Unspecified)), "{end:?}");
    }
}

pub(super) fn well_behaved(layer: &mut BackwardLayer, stream: StreamId) -> Vec<Cell> {
    vec![say(layer, &Message::Opened { stream })]
}

/// A client loses every circuit on which the exit answers like this before `Opened`, and soon says so.
async fn is_caught(answer: fn(&mut BackwardLayer, StreamId) -> Vec<Cell>) {
    let (network, _player, mut ends) = played(Role { effort: 0, answer });
    let client = network.client().await;
    while ends.try_recv().is_ok() {} // of circuits for asking it about the network
    let start = Instant::now();
    let opened = client.open(&isolation(0), target(SITE, ECHO)).await.map(|_| ());
    assert!(matches!(opened, Err(OpenError::Stream(Reason::Reset))), "{opened:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_no_reason(&ends.recv().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_played_exit_that_behaves_is_used() {
    let (network, ..) = played(Role { effort: 0, answer: well_behaved });
    network.client().await.open(&isolation(0), target(SITE, ECHO)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_speaks_of_a_stream_that_is_not_open_loses_the_circuit() {
    is_caught(|layer, id| vec![say(layer, &Message::Opened { stream: StreamId(id.0 + 1) })]).await;
    is_caught(|layer, id| vec![say(layer, &Message::Data { stream: StreamId(id.0 + 1), bytes: b"x" })]).await;
    is_caught(|layer, id| vec![say(layer, &Message::Close { stream: StreamId(id.0 + 1), reason: Reason::Reset })])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_speaks_out_of_turn_loses_the_circuit() {
    is_caught(|layer, stream| vec![say(layer, &Message::Data { stream, bytes: b"before Opened" })]).await;
    is_caught(|layer, _| vec![say(layer, &Message::Extended { created: &[0; 1155] })]).await;
    // One cell of padding was asked for when the stream was opened.
    is_caught(|layer, _| vec![say(layer, &Message::Padding), say(layer, &Message::Padding)]).await;
    is_caught(|layer, _| vec![say(layer, &Message::PadStart { budget: 1 })]).await;
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_sends_garbage_or_sends_a_cell_again_loses_the_circuit() {
    is_caught(|_, _| vec![[7; CELL]]).await;
    is_caught(|layer, stream| {
        let credit = say(layer, &Message::Credit { stream, bytes: 1 });
        vec![credit, credit]
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_puzzle_is_solved_when_a_relay_asks_for_it() {
    let (network, player, _ends) = played(Role { effort: 8, answer: well_behaved });
    network.client().await.open(&isolation(0), target(SITE, ECHO)).await.unwrap();
    assert!(player.refused.load(Relaxed) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_puzzle_beyond_the_limit_is_not_solved() {
    let (network, ..) = played(Role { effort: MAX_EFFORT + 1, answer: well_behaved });
    let opened = network.client().await.open(&isolation(0), target(SITE, ECHO)).await.map(|_| ());
    let Err(OpenError::NoPath(words)) = opened else { panic!("{opened:?}") };
    assert!(words.contains("puzzle"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn the_next_hop_never_learns_why_a_circuit_was_closed() {
    let (network, _player, mut ends) = played(Role { effort: 0, answer: well_behaved });
    until(Duration::from_secs(30), "relay 1 has dialled the played one", || know(&network, &[1], &[PLAYED])).await;
    let relays = network.entries();
    let endpoint = network.endpoint("192.168.250.1:1".parse().unwrap(), LinkIdentity::Anonymous);
    let link = endpoint.dial(relays[0].id, relay_address(1)).await.unwrap();
    let mut circuit = Origin::create(&link, network.params().id(), &relays[0]).await.unwrap();
    circuit.extend(&relays[usize::from(PLAYED) - 1]).await.unwrap();
    circuit.send(&[7; CELL]).await;
    assert_eq!(circuit.closed().await, CloseReason::Protocol);
    assert_no_reason(&ends.recv().await.unwrap());
}
