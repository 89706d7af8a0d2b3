//! Scenarios of a client's doors: what local programs are told over SOCKS and HTTP, from their bytes to the target.
//!
//! The doors listen on loopback; behind them is a simulated network. A write on loopback is there at once, so paused
//! time moves on only when nobody has anything to read.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use trefoil_client::{
    proxy::{Exposure, Proxy},
    tunnel::Client,
};
use trefoil_protocol::limits::{CONNECT_TIMEOUT, OPEN_TIMEOUT};

use super::{
    nodes::{Plan, SimNetwork},
    outside::{ECHO, REFUSING, SILENT, SITE, UNREACHABLE},
    transfer_tests::plan,
};

/// A port that no exit of these tests serves.
const CLOSED: u16 = 25;
const POLICY: &str = "reject *:25; accept *:*";

/// A proxy port before this client.
async fn door(client: Client) -> SocketAddr {
    let proxy = Proxy::bind((Ipv4Addr::LOCALHOST, 0).into(), Exposure::Loopback).await.unwrap();
    let address = proxy.local_addr();
    tokio::spawn(proxy.run(client, CancellationToken::new()));
    address
}

async fn network() -> (SimNetwork, SocketAddr) {
    let network = Plan { exit: POLICY, ..plan(1, 4) }.start();
    let client = network.client().await;
    (network, door(client).await)
}

/// Says this to the door, and reads this many bytes of its answer.
async fn ask(door: SocketAddr, said: &[u8], length: usize) -> (TcpStream, Vec<u8>) {
    let mut program = TcpStream::connect(door).await.unwrap();
    program.write_all(said).await.unwrap();
    let mut answer = vec![0; length];
    program.read_exact(&mut answer).await.unwrap();
    (program, answer)
}

const CONNECT: u8 = 1;
const RESOLVE: u8 = 0xf0;

/// What SOCKS5 answers to a command for a name: its reply, without the answer to the greeting.
async fn socks5(door: SocketAddr, command: u8, name: &str, port: u16) -> (TcpStream, Vec<u8>) {
    let length = u8::try_from(name.len()).unwrap();
    let asked = [&[5, 1, 0, 5, command, 0, 3, length], name.as_bytes(), &port.to_be_bytes()].concat();
    let (program, answer) = ask(door, &asked, 12).await;
    assert_eq!(answer[..2], [5, 0]);
    (program, answer[2..].to_vec())
}

/// The same with SOCKS4a.
async fn socks4a(door: SocketAddr, command: u8, name: &str, port: u16) -> (TcpStream, Vec<u8>) {
    let asked = [&[4, command], &port.to_be_bytes()[..], &[0, 0, 0, 1, 0], name.as_bytes(), &[0]].concat();
    ask(door, &asked, 8).await
}

/// The status that HTTP CONNECT answers, and how the rest begins.
async fn http(door: SocketAddr, name: &str, port: u16) -> (TcpStream, String) {
    let asked = format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n");
    let (mut program, mut answer) = ask(door, asked.as_bytes(), 12).await;
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(program.read_u8().await.unwrap());
    }
    (program, String::from_utf8(answer).unwrap())
}

/// A stream that echoes, until the program has said all that it has.
async fn echoes(mut program: TcpStream) {
    program.write_all(b"through the door").await.unwrap();
    let mut back = [0; 16];
    program.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"through the door");
    program.write_all(b"last words").await.unwrap();
    program.shutdown().await.unwrap();
    let mut back = Vec::new();
    program.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"last words", "all came, and the end after it");
}

/// A failure that ended: the program reads the end, and no reset.
async fn ends(mut program: TcpStream) {
    program.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_door_leads_to_the_target() {
    let (_network, door) = network().await;
    let site = SITE.to_string();
    for name in ["site.test", &site] {
        let (program, reply) = socks5(door, CONNECT, name, ECHO).await;
        assert_eq!(reply, [5, 0, 0, 1, 0, 0, 0, 0, 0, 0], "granted, and no word of the exit's address");
        echoes(program).await;
        let (program, reply) = socks4a(door, CONNECT, name, ECHO).await;
        assert_eq!(reply, [0, 90, 0, 0, 0, 0, 0, 0]);
        echoes(program).await;
        let (program, reply) = http(door, name, ECHO).await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        echoes(program).await;
    }
    let address = [93, 184, 215, 14];
    let by_address = [&[5, 1, 0, 5, CONNECT, 0, 1][..], &address, &ECHO.to_be_bytes()].concat();
    let (program, answer) = ask(door, &by_address, 12).await;
    assert_eq!(answer[2..4], [5, 0]);
    echoes(program).await;
    let by_address = [&[4, CONNECT], &ECHO.to_be_bytes()[..], &address, b"user\0"].concat();
    let (program, answer) = ask(door, &by_address, 8).await;
    assert_eq!(answer[..2], [0, 90]);
    echoes(program).await;
}

#[tokio::test(start_paused = true)]
async fn each_failure_has_its_reply_code() {
    let (_network, door) = network().await;
    let site = SITE.to_string();
    let failures = [
        (&site[..], REFUSING, 5, 502, "connection refused"),
        (&site, UNREACHABLE, 4, 502, "host unreachable"),
        (&site, SILENT, 6, 504, "the target does not answer"),
        (&site, CLOSED, 2, 403, "no exit serves the port"),
        ("inside.test", ECHO, 2, 403, "an exit's policy refuses"),
        ("nobody.test", ECHO, 4, 502, "name not found"),
        ("silent.test", ECHO, 6, 504, "no name server answers"),
        ("some.onion", ECHO, 4, 502, "a name of another overlay"),
    ];
    for (name, port, code, status, why) in failures {
        let start = Instant::now();
        let (program, reply) = socks5(door, CONNECT, name, port).await;
        assert_eq!(reply, [5, code, 0, 1, 0, 0, 0, 0, 0, 0], "{why}");
        ends(program).await;
        let took = start.elapsed();
        assert!(took <= CONNECT_TIMEOUT + Duration::from_secs(2), "{why}: {took:?}");
        let (program, reply) = socks4a(door, CONNECT, name, port).await;
        assert_eq!(reply, [0, 91, 0, 0, 0, 0, 0, 0], "{why}");
        ends(program).await;
        let (program, reply) = http(door, name, port).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{why}: {reply}");
        ends(program).await;
    }
}

#[tokio::test(start_paused = true)]
async fn names_are_resolved_at_an_exit_and_what_has_no_address_is_not_found() {
    let (network, door) = network().await;
    for name in ["site.test", "both.test"] {
        let (program, reply) = socks5(door, RESOLVE, name, 0).await;
        assert_eq!(reply, [5, 0, 0, 1, 93, 184, 215, 14, 0, 0]);
        ends(program).await;
        let (program, reply) = socks4a(door, RESOLVE, name, 0).await;
        assert_eq!(reply, [0, 90, 0, 0, 93, 184, 215, 14]);
        ends(program).await;
    }
    assert_eq!(network.outside.lookups(), 4, "each at an exit, and nothing is remembered");
    for (name, code) in [("nobody.test", 4), ("inside.test", 4), ("some.onion", 4), ("silent.test", 6)] {
        let (_, reply) = socks5(door, RESOLVE, name, 0).await;
        assert_eq!(reply, [5, code, 0, 1, 0, 0, 0, 0, 0, 0], "{name}");
        let (_, reply) = socks4a(door, RESOLVE, name, 0).await;
        assert_eq!(reply, [0, 91, 0, 0, 0, 0, 0, 0], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_not_there_is_told_as_such() {
    let network = plan(1, 4).start();
    let door = door(network.client_of(Vec::new())).await; // it knows nobody
    let start = Instant::now();
    let (_, reply) = socks5(door, CONNECT, "site.test", ECHO).await;
    assert_eq!(reply, [5, 3, 0, 1, 0, 0, 0, 0, 0, 0], "network unreachable");
    assert!(start.elapsed() <= OPEN_TIMEOUT, "{:?}", start.elapsed());
    let (_, reply) = socks4a(door, CONNECT, "site.test", ECHO).await;
    assert_eq!(reply[..2], [0, 91]);
    let (_, reply) = http(door, "site.test", ECHO).await;
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_served_is_refused_in_the_words_of_its_protocol() {
    let (_network, door) = network().await;
    for command in [2, 3, 0xf1] {
        let (program, reply) = socks5(door, command, "site.test", ECHO).await;
        assert_eq!(reply, [5, 7, 0, 1, 0, 0, 0, 0, 0, 0], "command {command}");
        ends(program).await;
    }
    let (program, answer) = ask(door, &[5, 1, 1], 2).await; // GSSAPI only
    assert_eq!(answer, [5, 0xff]);
    ends(program).await;
    for (asked, status) in
        [("GET http://site.test/ HTTP/1.1", 405), ("GET / HTTP/1.1", 400), ("CONNECT / HTTP/1.1", 400)]
    {
        let (program, answer) = ask(door, format!("{asked}\r\nHost: site.test\r\n\r\n").as_bytes(), 12).await;
        assert_eq!(answer, format!("HTTP/1.1 {status}").as_bytes(), "{asked}");
        ends(program).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_a_reset_to_the_program() {
    let (mut network, door) = network().await;
    let (mut program, _) = socks5(door, CONNECT, "site.test", ECHO).await;
    program.write_all(b"x").await.unwrap();
    program.read_u8().await.unwrap();
    for relay in 1..=4 {
        network.stop(relay).await;
    }
    let error = program.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "no orderly end");
}

#[tokio::test(start_paused = true)]
async fn users_of_a_door_have_circuits_of_their_own() {
    let network = plan(2, 5).start();
    let client = network.client().await;
    let door = door(client.clone()).await;
    let isolation = |user: &[u8]| trefoil_client::tunnel::Isolation::new(&[b"password", user, b"secret"]);
    for user in [&b"one"[..], b"two", b"one"] {
        let length = u8::try_from(user.len()).unwrap();
        let greeting = [&[5, 1, 2, 1, length], user, &[6], b"secret"].concat();
        let asked = [&greeting[..], &[5, CONNECT, 0, 1, 93, 184, 215, 14], &ECHO.to_be_bytes()].concat();
        let (program, answer) = ask(door, &asked, 14).await;
        assert_eq!(answer[..6], [5, 2, 1, 0, 5, 0]);
        echoes(program).await;
        assert_eq!(client.paths(&isolation(user)).len(), 1);
    }
    assert!(client.paths(&trefoil_client::tunnel::Isolation::default()).is_empty(), "nobody without a name came");
}
