//! Scenarios of extensions that fail: the origin is told why, one reason after the other, and its circuit lives on.
//!
//! Relays that are unknown, the relay itself, the way back, and wrong keys are in `hostile_tests.rs`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use trefoil_protocol::{
    cell::Refusal,
    limits::{CIRCUIT_MEMORY, CIRCUITS_SHARE, DIAL_BACKOFF_MAX, EXTEND_TIMEOUT},
    message::ExtendError,
    puzzle::{Hour, Puzzle},
};
use trefoil_relay::{clock, endpoint::LinkIdentity, link::Link};

use super::{
    hop::{Act, play},
    nodes::{Plan, SimNetwork, relay_address, secrets},
    origin::Origin,
    transfer_tests::plan,
};

/// The relay to which circuits are extended.
const NEXT: u8 = 3;
/// What an extension takes at most beyond its time limit: a round trip through two hops.
const ROUND_TRIP: Duration = Duration::from_millis(110);

/// A circuit of this stranger through relays 1 and 2.
async fn circuit(network: &SimNetwork, stranger: u8) -> Origin {
    let link = link(network, stranger, 1).await;
    let mut circuit = Origin::create(&link, network.params().id(), &network.entries()[0]).await.unwrap();
    circuit.extend(&network.entries()[1]).await.unwrap();
    circuit
}

/// A link of this stranger to this relay.
async fn link(network: &SimNetwork, stranger: u8, relay: u8) -> Link {
    let endpoint = network.endpoint(([192, 168, 250, stranger], 1).into(), LinkIdentity::Anonymous);
    endpoint.dial(network.entries()[usize::from(relay) - 1].id, relay_address(relay)).await.unwrap()
}

/// This extension fails for this reason and no other harm is done; says how long it took.
async fn fails(circuit: &mut Origin, network: &SimNetwork, relay: u8, error: ExtendError) -> Duration {
    let start = Instant::now();
    assert_eq!(circuit.extend(&network.entries()[usize::from(relay) - 1]).await, Err(error));
    let took = start.elapsed();
    assert!(took <= EXTEND_TIMEOUT + ROUND_TRIP, "{error} is told in time: {took:?}");
    assert!(circuit.is_alive().await, "the circuit lives on after {error}");
    took
}

async fn works(circuit: &mut Origin, network: &SimNetwork, relay: u8) {
    assert_eq!(circuit.extend(&network.entries()[usize::from(relay) - 1]).await, Ok(()));
    assert!(circuit.is_alive().await, "the new hop answers");
}

#[tokio::test(start_paused = true)]
async fn whatever_the_next_relay_does_the_origin_is_told_and_a_later_extension_to_it_works() {
    let failures = [
        (Act::Refuse(Refusal::Busy(12)), ExtendError::Busy(12)),
        (Act::Refuse(Refusal::Limit), ExtendError::Limit),
        (Act::Refuse(Refusal::Refused), ExtendError::Refused),
        (Act::Garbage, ExtendError::Refused),
        (Act::Reset, ExtendError::Unreachable),
        (Act::Finish, ExtendError::Unreachable),
        (Act::Silence, ExtendError::Timeout),
    ];
    let network = Plan { by_hand: 1, ..plan(1, NEXT) }.start();
    let acts: VecDeque<_> = failures.map(|(act, _)| act).into_iter().chain([Act::Serve]).collect();
    let acts = Mutex::new(acts);
    play(&network, NEXT, move || acts.lock().unwrap().pop_front().expect("each circuit has its act"));
    let mut circuit = circuit(&network, 1).await;
    for (act, error) in failures {
        let took = fails(&mut circuit, &network, NEXT, error).await;
        assert_eq!(took >= EXTEND_TIMEOUT, matches!(act, Act::Silence), "{act:?} took {took:?}");
    }
    works(&mut circuit, &network, NEXT).await;
}

#[tokio::test(start_paused = true)]
async fn a_next_relay_that_has_vanished_is_told_as_a_timeout_and_another_or_itself_later_can_be_had() {
    for before in [Duration::ZERO, Duration::from_secs(30)] {
        let network = plan(2, 4).start();
        if before.is_zero() {
            network.net.cut(relay_address(NEXT)); // nobody has a link to it
        }
        let (mut first, mut second) = (circuit(&network, 1).await, circuit(&network, 2).await);
        sleep(before).await; // in that time its neighbours have
        network.net.cut(relay_address(NEXT));
        fails(&mut first, &network, NEXT, ExtendError::Timeout).await;
        fails(&mut second, &network, NEXT, ExtendError::Timeout).await;
        works(&mut second, &network, 4).await;
        network.net.heal(relay_address(NEXT));
        sleep(2 * DIAL_BACKOFF_MAX).await;
        works(&mut first, &network, NEXT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_next_relay_in_whose_place_is_another_is_told_as_unreachable_and_another_can_be_had() {
    let network = Plan { by_hand: 2, ..plan(3, 5) }.start();
    let impostor = network.endpoint(relay_address(5), LinkIdentity::Relay(Arc::new(secrets(9).0)));
    tokio::spawn(async move {
        while let Some(arriving) = impostor.accept().await {
            assert!(arriving.finish().await.is_err(), "everybody expects another key");
        }
    });
    let mut circuit = circuit(&network, 1).await;
    fails(&mut circuit, &network, 5, ExtendError::Unreachable).await;
    works(&mut circuit, &network, NEXT).await;
}

#[tokio::test(start_paused = true)]
async fn a_next_relay_that_is_full_is_told_as_a_limit_and_can_be_had_when_it_has_room() {
    const ROOM: usize = 2;
    let memory = ROOM as u64 * CIRCUITS_SHARE * CIRCUIT_MEMORY;
    let network = Plan { memory, ..plan(4, NEXT) }.start();
    let (full, entry) = (link(&network, 2, NEXT).await, &network.entries()[usize::from(NEXT) - 1]);
    let mut held = Vec::new();
    for _ in 0..ROOM {
        held.push(Origin::create(&full, network.params().id(), entry).await.unwrap());
    }
    let mut circuit = circuit(&network, 1).await;
    fails(&mut circuit, &network, NEXT, ExtendError::Limit).await;
    held.pop();
    sleep(Duration::from_secs(1)).await;
    works(&mut circuit, &network, NEXT).await;
}

#[tokio::test(start_paused = true)]
async fn a_next_relay_that_is_busy_is_told_with_its_puzzle_and_can_be_had_for_the_solution() {
    let network = Plan { handshake: Duration::from_millis(5), ..plan(5, NEXT) }.start();
    let mut circuit = circuit(&network, 1).await;
    let crowd = link(&network, 2, NEXT).await;
    let mut creates = JoinSet::new();
    for _ in 0..240 {
        let (crowd, id, entry) = (crowd.clone(), network.params().id(), network.entries()[2].clone());
        creates.spawn(async move { Origin::create(&crowd, id, &entry).await.map(|_| ()) });
    }
    sleep(Duration::from_millis(400)).await; // they are there and wait for each other
    let entry = &network.entries()[usize::from(NEXT) - 1];
    let answer = circuit.extend(entry).await;
    let Err(ExtendError::Busy(effort)) = answer else { panic!("it is not busy: {answer:?}") };
    assert!(circuit.is_alive().await);
    circuit.puzzle = Puzzle { effort, hour: Hour::of_unix(clock::now().0) };
    works(&mut circuit, &network, NEXT).await;
    let crowd = creates.join_all().await;
    assert!(crowd.iter().any(Result::is_ok) && crowd.contains(&Err(Refusal::Busy(effort))), "{crowd:?}");
}
