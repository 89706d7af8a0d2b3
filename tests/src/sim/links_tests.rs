//! Scenarios of a node's table of links, over a simulated network.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use trefoil_protocol::{
    identity::RelayId,
    limits::{DIAL_BACKOFF_MAX, DIAL_BACKOFF_MIN, HANDSHAKE_TIMEOUT, LINK_DRAIN, LINK_IDLE_KEPT},
};
use trefoil_relay::{
    endpoint::{DialError, Endpoint, LinkIdentity},
    link::{Dialler, Link, LinkError},
    links::Links,
    reason::CloseReason,
};

use super::{
    link_tests::{accept, address, arrive, client, linked, net, relay, relay_id},
    nodes::{Plan, relay_address, secrets},
    udp::{LinkModel, SimNet},
};

fn links(endpoint: &Endpoint) -> (Links, mpsc::Receiver<Link>) {
    let (sender, receiver) = mpsc::channel(8);
    (Links::serving(endpoint.clone(), sender), receiver)
}

/// Dials that fail at an address where nobody is: how long the last took.
async fn fail(links: &Links) -> Duration {
    let start = Instant::now();
    assert!(matches!(links.get(relay_id(9), address(9)).await, Err(DialError::Timeout)));
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn many_callers_at_once_share_one_dial_and_later_ones_the_link() {
    let net = net(1);
    let (a, b) = (client(&net, 1), relay(&net, 2));
    let links = Links::new(a);
    let get = || links.get(relay_id(2), address(2));
    let (x, y, z, _accepted) = tokio::join!(get(), get(), get(), accept(&b));
    let id = x.unwrap().id();
    assert_eq!([y.unwrap().id(), z.unwrap().id(), get().await.unwrap().id()], [id; 3]);
    assert_eq!(links.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_leaves_its_turn_to_the_next() {
    let net = net(1);
    let (a, b) = (client(&net, 1), relay(&net, 2));
    let links = Links::new(a);
    let first = timeout(Duration::from_millis(10), links.get(relay_id(2), address(2)));
    let (first, second, _) = tokio::join!(first, links.get(relay_id(2), address(2)), async {
        let arriving = b.accept().await.unwrap(); // the first dial, given up
        let _ = arriving.finish().await;
        accept(&b).await
    });
    assert!(first.is_err());
    assert_eq!(second.unwrap().peer(), Some(relay_id(2)));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_failed_is_left_alone_for_a_while_that_doubles() {
    let links = Links::new(client(&net(1), 1));
    let mut backoff = DIAL_BACKOFF_MIN;
    for _ in 0..8 {
        assert_eq!(fail(&links).await.as_secs(), HANDSHAKE_TIMEOUT.as_secs());
        assert_eq!(fail(&links).await, Duration::ZERO);
        tokio::time::advance(backoff - Duration::from_millis(10)).await;
        assert_eq!(fail(&links).await, Duration::ZERO);
        tokio::time::advance(Duration::from_millis(20)).await;
        backoff = (backoff * 2).min(DIAL_BACKOFF_MAX);
    }
    tokio::time::advance(3 * DIAL_BACKOFF_MAX).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_failed_is_tried_at_once_at_another_address() {
    let net = net(1);
    let (a, b) = (client(&net, 1), relay(&net, 2));
    let links = Links::new(a);
    assert!(links.get(relay_id(2), address(9)).await.is_err());
    let (link, _accepted) = tokio::join!(links.get(relay_id(2), address(2)), accept(&b));
    assert_eq!(link.unwrap().peer(), Some(relay_id(2)));
}

#[tokio::test(start_paused = true)]
async fn an_accepted_link_is_used_instead_of_dialling() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (links, mut dialled) = links(&b);
    let (_, accepted) = linked(&a, &b, 2).await;
    links.insert(&accepted);
    let used = links.get(relay_id(1), address(1)).await.unwrap();
    assert_eq!(used.id(), accepted.id());
    assert!(dialled.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_dialled_link_is_handed_out_for_serving() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (links, mut dialled) = links(&a);
    let (link, _accepted) = tokio::join!(links.get(relay_id(2), address(2)), accept(&b));
    assert_eq!(dialled.recv().await.unwrap().id(), link.unwrap().id());
}

#[tokio::test(start_paused = true)]
async fn a_closed_link_is_replaced() {
    let net = net(1);
    let (a, b) = (client(&net, 1), relay(&net, 2));
    let links = Links::new(a);
    let (first, accepted) = tokio::join!(links.get(relay_id(2), address(2)), accept(&b));
    let first = first.unwrap();
    accepted.close(CloseReason::Shutdown);
    assert!(matches!(first.closed().await, LinkError::Closed(CloseReason::Shutdown)));
    let (second, _accepted) = tokio::join!(links.get(relay_id(2), address(2)), accept(&b));
    assert_ne!(second.unwrap().id(), first.id());
    links.remove(&first);
    assert_eq!(links.count(), 1);
}

/// Two relays that dial each other at the same moment: each one's table and the link it then uses.
async fn dial_each_other(net: &SimNet) -> [(Links, Link); 2] {
    let (a, b) = (relay(net, 1), relay(net, 2));
    let ((a_links, _a), (b_links, _b)) = (links(&a), links(&b));
    let (from_a, from_b, at_a, at_b) = tokio::join!(
        a_links.get(relay_id(2), address(2)),
        b_links.get(relay_id(1), address(1)),
        accept(&a),
        accept(&b)
    );
    assert!(from_a.is_ok() && from_b.is_ok());
    a_links.insert(&at_a);
    b_links.insert(&at_b);
    let (a_uses, b_uses) = (a_links.get(relay_id(2), address(2)).await, b_links.get(relay_id(1), address(1)).await);
    [(a_links, a_uses.unwrap()), (b_links, b_uses.unwrap())]
}

#[tokio::test(start_paused = true)]
async fn of_two_links_dialled_at_once_both_sides_keep_that_of_the_smaller_id() {
    let [(_, a), (_, b)] = dial_each_other(&net(1)).await;
    let (a_dialled, b_dialled) =
        if relay_id(1) < relay_id(2) { (Dialler::Us, Dialler::Peer) } else { (Dialler::Peer, Dialler::Us) };
    assert_eq!((a.dialler(), b.dialler()), (a_dialled, b_dialled));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_was_restarted_and_dials_is_heard_on_its_new_link_whoever_dialled_the_old_one() {
    for (number, other) in [(1, 2), (2, 1)] {
        let net = net(1);
        let (a, b) = (relay(&net, number), relay(&net, other));
        let (links, _dialled) = links(&a);
        let (old, _accepted) = tokio::join!(links.get(relay_id(other), address(other)), accept(&b));
        tokio::time::advance(HANDSHAKE_TIMEOUT).await;
        let (_new, accepted) = linked(&b, &a, number).await;
        links.insert(&accepted);
        let used = links.get(relay_id(other), address(other)).await.unwrap();
        assert!(used.id() == accepted.id() && !old.unwrap().is_closed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_link_closes_a_while_after_its_last_circuit_though_nothing_else_happens() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (links, _dialled) = links(&b);
    let (_a1, first) = linked(&a, &b, 2).await;
    let (a2, second) = linked(&a, &b, 2).await;
    let mut circuit = a2.open_circuit().await.unwrap();
    circuit.writer.write(vec![1; trefoil_protocol::limits::CELL].into()).await.unwrap();
    let on_second = arrive(&second).await.unwrap();
    links.insert(&second);
    links.insert(&first); // the newcomer stays: now the second drains
    let watch = links.clone();
    let watch = tokio::spawn(async move { watch.keep_clean().await });
    timeout(3 * LINK_DRAIN, second.closed()).await.expect_err("it has a circuit");
    drop(on_second);
    timeout(LINK_DRAIN - Duration::from_secs(2), second.closed()).await.expect_err("not at once");
    let closed = timeout(Duration::from_secs(4), second.closed()).await;
    assert!(matches!(closed, Ok(LinkError::ClosedHere)), "{closed:?}");
    assert!(!first.is_closed());
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_relay_closes_a_second_link_of_another_by_itself() {
    let network = Plan { by_hand: 1, ..Plan::new(1, 2, LinkModel::with_delay(Duration::from_millis(25))) }.start();
    let identity = LinkIdentity::Relay(Arc::new(secrets(2).0));
    let other = network.endpoint(relay_address(2), identity);
    let first = other.dial(network.entries()[0].id, relay_address(1)).await.unwrap();
    let second = other.dial(network.entries()[0].id, relay_address(1)).await.unwrap();
    let closed = timeout(LINK_DRAIN + Duration::from_secs(3), first.closed()).await;
    assert!(matches!(closed, Ok(LinkError::Closed(CloseReason::Duplicate))), "{closed:?}");
    assert!(!second.is_closed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_is_let_go_by_its_dialler_unless_it_is_kept() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (links, _dialled) = links(&a);
    let (link, _accepted) = tokio::join!(links.get(relay_id(2), address(2)), accept(&b));
    let link = link.unwrap();
    let wait = async |kept: &[RelayId]| {
        for _ in 0..2 {
            links.let_go_of_idle(kept);
            tokio::time::sleep(LINK_IDLE_KEPT / 2).await;
        }
        links.let_go_of_idle(kept);
    };
    wait(&[relay_id(2)]).await;
    let circuit = link.open_circuit().await.unwrap();
    wait(&[]).await;
    assert!(!link.is_closed());
    drop(circuit);
    wait(&[]).await;
    assert!(link.is_closed());
    assert_eq!(links.count(), 0);
}
