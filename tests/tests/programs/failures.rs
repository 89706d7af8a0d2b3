//! What programs are told when they cannot have what they asked for.

use std::{
    io::{ErrorKind, Read},
    net::SocketAddr,
    time::Duration,
};

use trefoil_tests::process::{
    names::{NOWHERE, PRIVATE, WEB},
    network::RealNetwork,
    program::{PATIENCE, Program, Signal},
    server::{Server, Unanswering, closed_port},
    socks,
};

use crate::{LONG, beside_others, curl, network, socks5h};

/// curl: the proxy said no.
const PROXY_REFUSED: i32 = 97;
/// curl: the answer to CONNECT was no tunnel; which of the two depends on its version.
const NO_TUNNEL: [i32; 2] = [22, 56];

/// What a SOCKS client and curl over HTTP CONNECT hear about this target: the reply byte, and the status.
fn refusal(proxy: SocketAddr, name: &str, port: u16) -> (u8, String) {
    let reply = socks::connect(proxy, "anyone", name, port).map(|_| ()).unwrap_err();
    let url = format!("http://{name}:{port}/");
    let socks = Program::run(curl(&socks5h(proxy)).arg(&url), LONG);
    assert_eq!(socks.code(), PROXY_REFUSED, "{}", socks.stderr);
    assert!(socks.stderr.contains(&format!("({reply})")), "{}", socks.stderr);
    let mut http = curl(&format!("http://{proxy}"));
    let http = Program::run(http.args(["--proxytunnel", "--write-out", "%{http_connect}"]).arg(&url), LONG);
    assert!(NO_TUNNEL.contains(&http.code()), "{} {}", http.code(), http.stderr);
    (reply, http.stdout)
}

#[test]
fn each_failure_of_a_target_has_its_reply_code_and_its_status() {
    let _beside = beside_others();
    let (_network, client) = network(3);
    let told = |name, port| refusal(client.address, name, port);
    assert_eq!(told(WEB, closed_port()), (5, "502".to_owned()), "refused");
    assert_eq!(told(NOWHERE, 80), (4, "502".to_owned()), "no such name");
    assert_eq!(told(PRIVATE, 80), (2, "403".to_owned()), "no exit's policy names it");
}

#[test]
fn a_target_that_does_not_answer_is_told_as_a_timeout() {
    let _beside = beside_others();
    let (_network, client) = network(3);
    let target = Unanswering::start();
    assert_eq!(socks::connect(client.address, "u", WEB, target.port()).map(|_| ()), Err(6));
}

#[test]
fn a_forwarded_connection_to_a_target_that_refuses_is_reset() {
    let _beside = beside_others();
    let network = RealNetwork::start(3);
    let forward = network.forward(&format!("{WEB}:{}", closed_port()));
    let mut socket = socks::dial(forward.address);
    assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    forward.program.line("a forwarded connection was not made", PATIENCE);
}

#[test]
fn an_address_that_no_exit_takes_is_told_as_such() {
    let _beside = beside_others();
    let (_network, client) = network(3);
    let (reply, status) = refusal(client.address, "10.9.9.9", 80);
    assert_eq!((reply, status.as_str()), (2, "403"), "no relay's policy has it, and no circuit is built to ask");
}

#[test]
fn a_name_is_resolved_at_the_exit_and_a_missing_one_is_told() {
    let _beside = beside_others();
    let (_network, client) = network(3);
    assert_eq!(socks::resolve(client.address, "u", WEB).unwrap().to_string(), "127.0.0.1");
    assert_eq!(socks::resolve(client.address, "u", NOWHERE), Err(4));
}

#[test]
fn a_network_that_is_dead_is_told_as_no_path() {
    let _beside = beside_others();
    let (mut network, client) = network(3);
    socks::resolve(client.address, "u", WEB).unwrap();
    for number in 1..=3 {
        network.take(number).stop(Signal::KILL);
    }
    let ended = Program::run(curl(&socks5h(client.address)).arg(format!("http://{WEB}:80/")), LONG);
    assert_eq!(ended.code(), PROXY_REFUSED, "{}", ended.stderr);
    assert!(ended.stderr.contains("(3)"), "not told as network unreachable: {}", ended.stderr);
}

#[test]
fn half_a_greeting_and_garbage_harm_nobody_else() {
    use std::io::Write;
    let _beside = beside_others();
    let (_network, client) = network(3);
    let web = Server::web();
    let mut half = socks::dial(client.address);
    half.write_all(&[5, 2, 0]).unwrap();
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\r\n\r\n", b"\x00\x01"] {
        let mut socket = socks::dial(client.address);
        socket.write_all(garbage).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(!answer.contains("200"), "{answer}");
    }
    let url = format!("http://{WEB}:{}/64", web.port());
    let ended = Program::run(curl(&socks5h(client.address)).args(["--output", "/dev/null"]).arg(url), LONG);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    half.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    half.read(&mut [0]).expect_err("the half greeting is still waited for");
}
