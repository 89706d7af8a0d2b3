//! Scenarios of whole nodes: what exits do for others, and the words in which they refuse.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;
use trefoil_client::tunnel::OpenError;
use trefoil_protocol::{
    host::{Host, HostName},
    limits::{CONNECT_TIMEOUT, OPEN_TIMEOUT},
    message::{Reason, Target},
};

use super::{
    nodes::Plan,
    outside::{ECHO, INSIDE, REFUSING, SILENT, SITE, UNREACHABLE},
    transfer_tests::{echo, isolation, plan, target},
};

fn name(name: &str) -> Host {
    Host::Name(HostName::parse(name).unwrap())
}

fn named(host: &str, port: u16) -> Target {
    Target::Exit { host: name(host), port }
}

/// How an open of this target ends in a network whose exits have this policy, after how long, and how many names were
/// looked up for it.
async fn refusal(exit: &'static str, target: Target) -> (OpenError, Duration, usize) {
    let network = Plan { exit, ..plan(1, 4) }.start();
    let client = network.client().await;
    let start = Instant::now();
    let error = client.open(&isolation(0), target).await.map(|_| ()).unwrap_err();
    (error, start.elapsed(), network.outside.lookups())
}

async fn reason(exit: &'static str, target: Target) -> Reason {
    match refusal(exit, target).await.0 {
        OpenError::Stream(reason) => reason,
        error => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_or_cannot_be_reached_is_told_apart() {
    assert_eq!(reason("accept *:*", target(SITE, REFUSING)).await, Reason::Refused);
    assert_eq!(reason("accept *:*", target(SITE, UNREACHABLE)).await, Reason::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_answers_is_given_up_in_time() {
    let (error, took, _) = refusal("accept *:*", target(SITE, SILENT)).await;
    assert!(matches!(error, OpenError::Stream(Reason::Timeout)), "{error}");
    assert!((CONNECT_TIMEOUT..OPEN_TIMEOUT).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_exist_or_cannot_be_resolved_is_not_found() {
    assert_eq!(reason("accept *:*", named("nobody.test", ECHO)).await, Reason::NameNotFound);
    assert_eq!(reason("accept *:*", named("broken.test", ECHO)).await, Reason::NameNotFound);
    assert_eq!(reason("accept *:*", named("silent.test", ECHO)).await, Reason::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_name_of_a_private_address_is_refused() {
    assert_eq!(reason("accept *:*", named("inside.test", ECHO)).await, Reason::Policy);
    assert_eq!(reason("accept 0.0.0.0/0:*", named("inside.test", ECHO)).await, Reason::Policy);
}

#[tokio::test(start_paused = true)]
async fn a_private_address_is_reached_only_where_the_policy_names_it() {
    let (error, ..) = refusal("accept *:*", target(INSIDE, ECHO)).await;
    assert!(matches!(error, OpenError::NoExit(_)), "{error}");
    let network = Plan { exit: "accept 10.0.0.0/8:*", ..plan(1, 4) }.start();
    let client = network.client().await;
    for target in [target(INSIDE, ECHO), named("inside.test", ECHO), named("both.test", ECHO)] {
        echo(&mut client.open(&isolation(0), target).await.unwrap(), b"hello").await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_names_addresses_only_those_that_the_policy_allows_are_tried() {
    let network = plan(1, 4).start();
    let mut stream = network.client().await.open(&isolation(0), named("both.test", ECHO)).await.unwrap();
    echo(&mut stream, b"hello").await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_no_exit_serves_is_refused_before_any_name_is_looked_up() {
    let (error, _, lookups) = refusal("reject *:7; accept *:*", named("site.test", ECHO)).await;
    assert!(matches!(error, OpenError::NoExit(_)), "{error}");
    assert_eq!(lookups, 0);
}

#[tokio::test(start_paused = true)]
async fn a_network_without_exits_says_so() {
    let (error, took, _) = refusal("", target(SITE, ECHO)).await;
    assert!(matches!(error, OpenError::NoExit(_)), "{error}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_an_exit_does_not_offer_it_says_it_does_not() {
    for target in [Target::Mailbox, Target::Service { port: 1 }] {
        assert_eq!(reason("accept *:*", target).await, Reason::NotOffered);
    }
}

#[tokio::test(start_paused = true)]
async fn an_exit_resolves_names_for_anyone() {
    let network = plan(1, 4).start();
    let client = network.client().await;
    let addresses: Vec<IpAddr> = client.resolve(&isolation(0), name("both.test")).await.unwrap();
    assert_eq!(addresses, [SITE], "what is inside the exit's own network is nobody's business");
    for unknown in ["nobody.test", "inside.test"] {
        let error = client.resolve(&isolation(0), name(unknown)).await.unwrap_err();
        assert!(matches!(error, OpenError::Stream(Reason::NameNotFound)), "{error}");
    }
}
