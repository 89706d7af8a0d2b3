//! What the logs of relays and clients do not say, however much goes through them.

use std::io::{Read, Write};

use trefoil_tests::process::{
    names::{NOWHERE, PRIVATE, WEB},
    network::RealNetwork,
    program::{PATIENCE, Signal},
    server::{Server, closed_port},
    socks,
};

use crate::beside_others;

/// Where the client dials relays from, and where its targets are; no relay of the tests is there.
const CLIENT: &str = "127.0.0.1";

/// Whether one of these lines has the word in it, also within a longer one; a number only as a whole.
fn has(log: &str, word: &str) -> bool {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    let untimed = log.lines().map(|line| line.split_once(' ').map_or(line, |(_, rest)| rest));
    untimed.into_iter().any(|line| match is_number {
        true => line.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == word),
        false => line.contains(word),
    })
}

#[test]
fn logs_at_info_name_no_target_no_client_and_no_other_relay() {
    let _beside = beside_others();
    let mut network = RealNetwork::start(3);
    let proxy = network.client(&["proxy", "--socks", "127.0.0.1:0", "--log", "info"]);
    let (web, closed) = (Server::web(), closed_port());
    let forward = network.client(&["forward", "0", &format!("{WEB}:{}", web.port()), "--log", "info"]);
    let refused = network.client(&["forward", "0", &format!("{WEB}:{closed}"), "--log", "info"]);
    for socket in [socks::connect(proxy.address, "secret-user", WEB, web.port()).unwrap(), socks::dial(forward.address)]
    {
        let mut socket = socket;
        write!(socket, "GET /10 HTTP/1.1\r\n\r\n").unwrap();
        assert!(socket.read_to_end(&mut Vec::new()).unwrap() > 10);
    }
    for (name, port, reply) in [(WEB, closed, 5), (NOWHERE, web.port(), 4), (PRIVATE, web.port(), 2)] {
        assert_eq!(socks::connect(proxy.address, "secret-user", name, port).map(|_| ()), Err(reply), "{name}");
    }
    socks::dial(refused.address).read(&mut [0]).unwrap_err();
    refused.program.line("a forwarded connection was not made", PATIENCE);

    let relays: Vec<_> = (1..=3).map(|number| network.status(number).id).collect();
    let ports = [web.port(), closed].map(|port| port.to_string());
    let mut secrets = vec![WEB, NOWHERE, PRIVATE, "10.9.9.9", "secret-user", CLIENT];
    secrets.extend(ports.iter().map(String::as_str));
    let logs = [proxy, forward, refused].map(|client| (None, client.program.stop(Signal::TERM).0.stderr));
    let logs = logs.into_iter().chain((1..=3).map(|own| (Some(own), network.take(own).stop(Signal::TERM).0.stderr)));
    for (own, log) in logs {
        let begun = if own.is_some() { "relay started" } else { "the network's relays are known" };
        assert!(log.contains(" INFO ") && log.contains(begun), "{log}");
        let others = (1..).zip(&relays).filter(|(number, _)| Some(*number) != own);
        let others: Vec<_> =
            others.flat_map(|(number, id)| [id[..8].to_owned(), format!("127.{number}.0.1")]).collect();
        for secret in secrets.iter().copied().chain(others.iter().map(String::as_str)) {
            assert!(!has(&log, secret), "{secret:?} is in the log:\n{log}");
        }
    }
}
