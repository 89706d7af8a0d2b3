//! Scenarios of whole nodes: origins that break the protocol lose that circuit, hear why, and disturb nobody.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use trefoil_protocol::{
    cell::{self, Refusal},
    identity::RelayId,
    limits::{
        CELL, HANDSHAKE_TIMEOUT, INITIAL_CREDIT, MAX_CREDIT, MAX_DATA, MAX_EXTENDS, MAX_STREAMS, STREAM_WINDOW,
        STREAMS_CLIENT,
    },
    message::{ExtendError, Message, Reason, StreamId, Target},
};
use trefoil_relay::{
    cells::CellError,
    endpoint::LinkIdentity,
    link::{Link, LinkError},
    reason::CloseReason,
};

use super::{
    nodes::{Plan, SimNetwork, relay_address},
    origin::{Heard, Origin, one},
    outside::{ECHO, SILENT, SITE, SOURCE},
    transfer_tests::{DELAY, bulk, check, echo, isolation, open, plan, target},
    udp::{Bottleneck, LinkModel},
};

/// Three relays, and a link to the first on which a well-behaved circuit of two hops is.
struct Stage {
    network: SimNetwork,
    link: Link,
    witness: Origin,
}

impl Stage {
    async fn set() -> Self {
        Self::over(plan(1, 7)).await
    }

    async fn over(plan: Plan) -> Self {
        let network = plan.start();
        let endpoint = network.endpoint("192.168.250.1:1".parse().unwrap(), LinkIdentity::Anonymous);
        let link = endpoint.dial(network.entries()[0].id, relay_address(1)).await.unwrap();
        let mut witness = Origin::create(&link, network.params().id(), &network.entries()[0]).await.unwrap();
        witness.extend(&network.entries()[1]).await.unwrap();
        Self { network, link, witness }
    }

    /// A circuit of this many hops, through relays 1, 2, 3, ...
    async fn circuit(&self, hops: usize) -> Origin {
        let relays = self.network.entries();
        let mut circuit = Origin::create(&self.link, self.network.params().id(), &relays[0]).await.unwrap();
        for relay in &relays[1..hops] {
            circuit.extend(relay).await.unwrap();
        }
        circuit
    }

    /// Everybody else's circuits go on, and nothing is left of the one that was closed.
    async fn goes_on(mut self) {
        assert!(self.witness.is_alive().await);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(self.network.relay(1).circuits(), 1);
        assert_eq!(self.network.relay(2).circuits(), 1);
        assert_eq!(self.network.relay(3).circuits(), 0);
    }
}

/// An origin that says this on a circuit of one hop.
async fn is_closed_for(message: Message<'_>) {
    let stage = Stage::set().await;
    let mut circuit = stage.circuit(1).await;
    circuit.say(&message).await;
    assert_eq!(circuit.closed().await, CloseReason::Protocol, "{message:?}");
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn what_only_hops_say_closes_the_circuit_when_an_origin_says_it() {
    is_closed_for(Message::Opened { stream: StreamId(1) }).await;
    is_closed_for(Message::Extended { created: &[0; 1155] }).await;
    is_closed_for(Message::ExtendFailed(ExtendError::Unknown)).await;
}

#[tokio::test(start_paused = true)]
async fn messages_for_a_stream_that_is_not_open_close_the_circuit() {
    let stream = StreamId(1);
    is_closed_for(Message::Data { stream, bytes: b"x" }).await;
    is_closed_for(Message::Credit { stream, bytes: 1 }).await;
    is_closed_for(Message::Close { stream, reason: Reason::Done }).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_message_type_and_padding_that_is_not_zero_close_the_circuit() {
    for (at, byte) in [(0, 99), (1928, 1), (2, 0xff)] {
        let stage = Stage::set().await;
        let mut circuit = stage.circuit(1).await;
        let cell = circuit.seal(0, |space| {
            Message::Padding.encode(space);
            space.fill(0);
            space[at] = byte;
        });
        circuit.send(&cell).await;
        assert_eq!(circuit.closed().await, CloseReason::Protocol);
        stage.goes_on().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_is_garbage_closes_the_circuit() {
    let stage = Stage::set().await;
    let mut circuit = stage.circuit(1).await;
    circuit.send(&[7; CELL]).await;
    assert_eq!(circuit.closed().await, CloseReason::Protocol);
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_replayed_cell_and_swapped_cells_close_the_circuit() {
    for order in [&[0, 0], &[1, 0]] {
        let stage = Stage::set().await;
        let mut circuit = stage.circuit(1).await;
        let cells = [(); 2].map(|()| circuit.seal(0, |space| Message::PadStart { budget: 1 }.encode(space)));
        for at in order {
            circuit.send(&cells[*at]).await;
        }
        assert_eq!(circuit.closed().await, CloseReason::Protocol);
        stage.goes_on().await;
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_for_a_later_hop_closes_the_circuit_and_the_origin_learns_nothing_of_why() {
    let stage = Stage::set().await;
    let mut circuit = stage.circuit(3).await;
    let cell = circuit.seal(2, |space| space.fill(0xff));
    circuit.send(&cell).await;
    assert_eq!(circuit.closed().await, CloseReason::Unspecified);
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_cell_for_a_next_hop_that_is_not_there_closes_the_circuit() {
    let stage = Stage::set().await;
    let mut circuit = stage.circuit(1).await;
    circuit.pretend_hop();
    circuit.say(&Message::Padding).await;
    assert_eq!(circuit.closed().await, CloseReason::Protocol);
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_circuit_without_a_first_cell_or_with_a_strange_one_ends_for_that_reason() {
    let mut stage = Stage::set().await;
    let silent = stage.link.open_circuit().await.unwrap();
    let mut garbage = stage.link.open_circuit().await.unwrap();
    garbage.writer.write(one(&[9; CELL])).await.unwrap();
    assert!(matches!(garbage.reader.cells().await, Err(CellError::Closed(CloseReason::Protocol))));
    let mut silent = silent.reader;
    let ended = timeout(HANDSHAKE_TIMEOUT + Duration::from_secs(1), silent.cells()).await.unwrap();
    assert!(matches!(ended, Err(CellError::Closed(CloseReason::Timeout))), "{ended:?}");
    assert!(stage.witness.is_alive().await);
}

#[tokio::test(start_paused = true)]
async fn a_first_cell_that_is_no_handshake_is_refused() {
    let stage = Stage::set().await;
    let mut circuit = stage.link.open_circuit().await.unwrap();
    let mut cell = [0xff; CELL];
    cell[0] = cell::CREATE;
    circuit.writer.write(one(&cell)).await.unwrap();
    let answer = circuit.reader.cells().await.unwrap();
    let answer = cell::read_created(&answer.as_ref().try_into().unwrap()).map(|answer| answer.map(<[u8]>::len));
    assert_eq!(answer, Ok(Err(Refusal::Refused)));
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_for_another_key_is_refused() {
    let stage = Stage::set().await;
    let (relays, network) = (stage.network.entries(), stage.network.params().id());
    let refused = Origin::create(&stage.link, network, &relays[1]).await.map(|_| ());
    assert_eq!(refused, Err(Refusal::Refused));
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn no_relay_extends_to_itself_back_to_a_stranger_or_to_a_wrong_key() {
    let stage = Stage::set().await;
    let relays = stage.network.entries();
    let mut circuit = stage.circuit(2).await;
    assert_eq!(circuit.extend(&relays[1]).await, Err(ExtendError::Refused), "itself");
    assert_eq!(circuit.extend(&relays[0]).await, Err(ExtendError::Refused), "back");
    let handshake = circuit.handshake(&relays[2]);
    circuit.ask_for(RelayId::from_bytes([5; 32]), handshake.create()).await;
    assert_eq!(circuit.hear().await.unwrap(), (1, Heard::NotExtended(ExtendError::Unknown)));
    let handshake = circuit.handshake(&relays[3]); // the key of another relay
    circuit.ask_for(relays[2].id, handshake.create()).await;
    assert_eq!(circuit.hear().await.unwrap(), (1, Heard::NotExtended(ExtendError::Refused)));
    circuit.ask_for(relays[2].id, b"no handshake at all").await;
    assert_eq!(circuit.hear().await.unwrap(), (1, Heard::NotExtended(ExtendError::Refused)));
    assert_eq!(circuit.extend(&relays[2]).await, Ok(()), "and all that did no harm");
    drop(circuit);
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_hop_extends_once_and_is_asked_a_few_times_at_most() {
    let stage = Stage::set().await;
    let relays = stage.network.entries();
    let mut circuit = stage.circuit(1).await;
    for _ in 0..MAX_EXTENDS {
        assert_eq!(circuit.extend(&relays[0]).await, Err(ExtendError::Refused));
    }
    circuit.ask_for(relays[1].id, b"once too often").await;
    assert_eq!(circuit.closed().await, CloseReason::Protocol);

    let mut circuit = stage.circuit(2).await;
    let second = circuit.handshake(&relays[2]);
    let message = Message::Extend { relay: relays[2].id, create: second.create() };
    let cell = circuit.seal(0, |space| message.encode(space)); // to the hop that has a next one
    circuit.send(&cell).await;
    assert_eq!(circuit.closed().await, CloseReason::Protocol);
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_circuit_may_have_six_hops() {
    let stage = Stage::set().await;
    let mut circuit = stage.circuit(6).await;
    assert!(circuit.is_alive().await);
    drop(circuit);
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn more_streams_than_a_circuit_may_have_close_it() {
    let stage = Stage::set().await;
    let mut circuit = stage.circuit(1).await;
    for number in 0..=MAX_STREAMS {
        let stream = StreamId(u16::try_from(number).unwrap());
        circuit.say(&Message::Open { stream, target: target(SITE, SILENT) }).await;
    }
    assert_eq!(circuit.closed().await, CloseReason::Protocol);
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn bytes_beyond_the_credit_close_the_circuit() {
    let stage = Stage::set().await;
    let mut circuit = stage.circuit(1).await;
    let stream = StreamId(1);
    circuit.say(&Message::Open { stream, target: target(SITE, SILENT) }).await; // nobody reads
    for _ in 0..=usize::try_from(INITIAL_CREDIT).unwrap() / MAX_DATA {
        circuit.say(&Message::Data { stream, bytes: &[1; MAX_DATA] }).await;
    }
    assert_eq!(circuit.closed().await, CloseReason::Protocol);
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_opened_twice_and_an_open_that_is_not_offered_are_told_apart() {
    let stage = Stage::set().await;
    let mut circuit = stage.circuit(1).await;
    circuit.say(&Message::Open { stream: StreamId(1), target: Target::Mailbox }).await;
    assert_eq!(circuit.hear().await.unwrap(), (0, Heard::Other));
    let open = Message::Open { stream: StreamId(2), target: target(SITE, ECHO) };
    circuit.say(&open).await;
    circuit.say(&open).await;
    assert_eq!(circuit.closed().await, CloseReason::Protocol);
    stage.goes_on().await;
}

/// An origin that asks for a lot and reads nothing of it: how much the source got rid of.
async fn sniper(stage: &Stage) -> (Origin, u64) {
    let mut circuit = stage.circuit(3).await;
    for stream in (0..8).map(StreamId) {
        circuit.say(&Message::Open { stream, target: target(SITE, SOURCE) }).await;
        assert_eq!(circuit.hear().await.unwrap(), (2, Heard::Other));
    }
    for stream in (0..8).map(StreamId) {
        circuit.say(&Message::Credit { stream, bytes: MAX_CREDIT - INITIAL_CREDIT }).await;
        circuit.say(&Message::Data { stream, bytes: &(1_u64 << 40).to_le_bytes() }).await;
    }
    sleep(Duration::from_secs(30)).await;
    (circuit, stage.network.outside.sourced())
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_reads_nothing_makes_its_relays_hold_a_few_windows_and_no_more() {
    let stage = Stage::set().await;
    let (circuit, held) = sniper(&stage).await;
    println!("{held} bytes sent to an origin that does not read");
    assert!(held < 6 * u64::from(STREAM_WINDOW), "{held}");
    assert_eq!(stage.network.relay(1).circuits(), 2, "there is memory enough");
    drop(circuit);
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn where_memory_is_short_the_circuit_that_does_not_read_dies_and_no_other() {
    let stage = Stage::over(Plan { memory: 512 * 1024, ..plan(1, 7) }).await;
    let (mut circuit, _) = sniper(&stage).await;
    assert_eq!(circuit.closed().await, CloseReason::Unspecified);
    stage.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_handshakes_over_one_link_leaves_another_client_its_turn() {
    let network = plan(1, 3).start();
    let flooder = network.endpoint("192.168.250.1:1".parse().unwrap(), LinkIdentity::Anonymous);
    let flood = flooder.dial(network.entries()[0].id, relay_address(1)).await.unwrap();
    let mut creates = JoinSet::new();
    for _ in 0..STREAMS_CLIENT {
        let (flood, id, guard) = (flood.clone(), network.params().id(), network.entries()[0].clone());
        creates.spawn(async move { Origin::create(&flood, id, &guard).await });
    }
    let client = network.client().await;
    let start = Instant::now();
    echo(&mut open(&client, &isolation(0), ECHO).await, b"hello").await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let circuits = creates.join_all().await;
    let refused = flood.open_circuit().await.map(|_| ());
    assert!(matches!(refused, Err(LinkError::CircuitLimit)), "{refused:?}");
    drop(circuits);
}

/// How long a download of another client takes through the same three relays.
async fn download_beside(hostile: bool) -> Duration {
    let bottleneck = Some(Bottleneck { rate: 10_000_000, queue: 500_000 });
    let model = LinkModel { bottleneck, ..LinkModel::with_delay(DELAY) };
    let stage = Stage::over(Plan { first_exit: 3, ..Plan::new(1, 3, model) }).await;
    let _sniper = if hostile { Some(sniper(&stage).await) } else { None };
    let client = stage.network.client().await;
    echo(&mut open(&client, &isolation(0), ECHO).await, b"hello").await;
    let start = Instant::now();
    assert_eq!(check(&mut bulk(&client, &isolation(0), 4 << 20).await).await, 4 << 20);
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_reads_nothing_slows_nobody_at_the_same_relays() {
    let (alone, beside) = (download_beside(false).await, download_beside(true).await);
    println!("4 MiB in {alone:?} alone, in {beside:?} beside it");
    assert!(beside.as_secs_f64() < 1.3 * alone.as_secs_f64(), "{beside:?} and {alone:?}");
}
