use std::{net::Ipv4Addr, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use trefoil_protocol::identity::RelaySecret;

use super::*;
use crate::{
    counters::Cause,
    mailbox::{Mailbox, Terms},
    relay::{Relay, Setup},
};

const OPERATOR: &str = include_str!("../../../docs/operator.md");
const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A relay at work, and where its metrics are.
async fn relay() -> (Relay, SocketAddr) {
    let (relay, _) = Setup::for_tests(&mut StdRng::seed_from_u64(1)).start_for_tests(vec![]);
    let listener = MetricsListener::bind(LOOPBACK.into()).await.unwrap();
    let address = listener.local_address();
    relay.serve_metrics(listener);
    (relay, address)
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn whoever_asks_for_metrics_is_told_them_in_the_form_that_is_announced() {
    let (relay, address) = relay().await;
    let answer = ask(address, "GET /metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("content-type: {OPEN_METRICS}")), "{head}");
    assert!(body.ends_with("\n# EOF\n"), "{body}");
    assert!(body.contains("\ntrefoil_trouble{trouble=\"alone\"} 1\n"), "{body}");
    assert!(body.contains("\ntrefoil_memory_limit_bytes 1073741824\n"), "{body}");
    assert_eq!(ask(address, "GET /metrics?x=y").await.lines().next(), Some("HTTP/1.1 200 OK"));
    relay.stop().await;
}

#[tokio::test]
async fn nothing_else_is_answered() {
    let (relay, address) = relay().await;
    for request in ["GET /", "GET /metrics/", "POST /", "GET /status"] {
        let answer = ask(address, request).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{request}: {answer}");
    }
    for request in ["POST /metrics", "HEAD /metrics", "DELETE /metrics"] {
        let answer = ask(address, request).await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET\r\n"), "{request}: {answer}");
    }
    let answer = ask(address, "CONNECT example.com:443").await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "it is no proxy: {answer}");
    relay.stop().await;
}

#[tokio::test]
async fn a_relay_that_has_stopped_offers_nothing() {
    let (relay, address) = relay().await;
    let mut held = TcpStream::connect(address).await.unwrap();
    ask(address, "GET /metrics").await; // so that the one before is accepted, too
    relay.stop().await;
    assert_eq!(held.read(&mut [0]).await.unwrap_or_default(), 0);
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn those_who_never_end_a_question_keep_others_waiting_for_a_bounded_time() {
    let (relay, address) = relay().await;
    let start = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..METRICS_CONNECTIONS {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        slow.push(socket);
    }
    assert!(ask(address, "GET /metrics").await.starts_with("HTTP/1.1 200 "));
    let took = start.elapsed();
    assert!(took >= METRICS_TIMEOUT && took < METRICS_TIMEOUT + Duration::from_secs(1), "{took:?}");
    relay.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let taken = MetricsListener::bind(LOOPBACK.into()).await.unwrap();
    let words = MetricsListener::bind(taken.local_address()).await.err().unwrap().to_string();
    assert!(words.contains(&format!("TCP port {} is in use", taken.local_address().port())), "{words}");
    assert!(words.contains("`metrics`"), "{words}");
    let words = MetricsListener::bind("192.0.2.1:0".parse().unwrap()).await.err().unwrap().to_string();
    assert!(words.contains("cannot offer metrics at 192.0.2.1:0: "), "{words}");
}

/// The metrics of a relay that is just starting.
async fn sample() -> (Status, String) {
    let setup = Setup::for_tests(&mut StdRng::seed_from_u64(1));
    let identity = RelaySecret::generate(&mut StdRng::seed_from_u64(2));
    let terms = Terms { network: setup.params.id(), identity, size: 1 << 20, rebate: 0 };
    let mailbox = Some(Mailbox::in_memory(terms).unwrap());
    let (relay, _) = Setup { mailbox, ..setup }.start_for_tests(vec![]);
    let status = relay.status();
    relay.stop().await;
    (status.clone(), encode(status))
}

#[tokio::test]
async fn every_cause_and_every_trouble_is_exported_and_explained_to_the_operator() {
    let (mut status, _) = sample().await;
    for (times, cause) in (1..).zip(Cause::ALL) {
        status.turned_away.insert(cause.name().to_owned(), times);
    }
    let text = encode(status);
    for (times, cause) in (1..).zip(Cause::ALL) {
        let (name, line) = (cause.name(), format!("trefoil_turned_away_total{{cause=\"{}\"}} {times}", cause.name()));
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        assert!(OPERATOR.contains(&format!("| `{name}` |")), "docs/operator.md does not explain {name}");
    }
    for name in Trouble::NAMES {
        assert!(text.contains(&format!("\ntrefoil_trouble{{trouble=\"{name}\"}} ")), "{name} is not in:\n{text}");
        assert!(OPERATOR.contains(&format!("| `{name}` |")), "docs/operator.md does not explain {name}");
    }
}

#[tokio::test]
async fn every_metric_has_a_help_text_and_is_in_the_operators_table() {
    let (_, text) = sample().await;
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert_eq!(types.len(), 23, "{text}");
    for (name, kind) in types {
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        assert!(name.starts_with("trefoil_"), "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help text");
        assert!(OPERATOR.contains(&format!("| `{name}{suffix}` |")), "docs/operator.md does not have {name}{suffix}");
    }
}

#[tokio::test]
async fn no_series_is_about_a_single_peer_link_circuit_or_target() {
    let (_, text) = sample().await;
    let labels: std::collections::BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.split_once('{')?.1.split_once('}'))
        .flat_map(|(labels, _)| labels.split(',').filter_map(|label| label.split_once('=')))
        .map(|(label, _)| label)
        .collect();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), ["cause", "network", "trouble", "version", "way"]);
}
