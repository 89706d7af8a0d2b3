//! What load, dead relays and programs that do not read do to the rest.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use trefoil_tests::process::{
    names::{WEB, WHICH_EXIT},
    network::{RealClient, RealNetwork},
    program::{Program, Signal},
    server::{Server, pattern},
    socks,
};

use crate::{LONG, MIB, alone, curl, network, socks5h};

/// Between two looks at the memory of all processes.
const SAMPLE: Duration = Duration::from_millis(100);
/// How much one process may grow while one stream goes through it: its windows (1 MiB per circuit and link, up to 4 MiB
/// of credit per stream) and quinn's send windows (8 MiB per link), and what an allocator keeps.
const GROWTH: u64 = 32 * MIB;

/// Bytes in use by the client and each relay.
fn memory(network: &RealNetwork, client: &RealClient) -> Vec<u64> {
    network.relays().chain([&client.program]).map(Program::memory).collect()
}

/// Runs `work`, and says by how much any one process has grown meanwhile.
fn growth(network: &RealNetwork, client: &RealClient, work: impl FnOnce()) -> u64 {
    let before = &memory(network, client);
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let sampling = scope.spawn(move || {
            let mut most = 0;
            while ended.recv_timeout(SAMPLE) == Err(RecvTimeoutError::Timeout) {
                let now = memory(network, client);
                most = most.max(now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).max().unwrap());
            }
            most
        });
        work();
        drop(done);
        sampling.join().unwrap()
    })
}

/// Downloads this much with curl, and says how long it took.
fn download(proxy: &str, port: u16, size: u64) -> Duration {
    let started = Instant::now();
    let mut fetch = curl(proxy);
    fetch.args(["--output", "/dev/null", "--write-out", "%{size_download}"]);
    let ended = Program::run(fetch.arg(format!("http://{WEB}:{port}/{size}")), LONG);
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, size.to_string().as_str()), "{}", ended.stderr);
    started.elapsed()
}

#[test]
fn a_download_of_1_gib_takes_no_more_memory_than_a_short_one() {
    let _alone = alone();
    let (network, client) = network(3);
    let web = Server::web();
    let proxy = socks5h(client.address);
    download(&proxy, web.port(), MIB);
    let grown = growth(&network, &client, || {
        let mut socket = socks::connect(client.address, "large", WEB, web.port()).unwrap();
        write!(socket, "GET /{} HTTP/1.1\r\n\r\n", 1024 * MIB).unwrap();
        skip_head(&mut socket);
        assert_same(socket, pattern().take(1024 * MIB));
    });
    assert!(grown < GROWTH, "a process grew by {} MiB", grown / MIB);
}

/// Reads the head of an answer, and nothing of its body.
fn skip_head(socket: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
}

/// Reads both to their ends.
fn assert_same(mut got: impl Read, mut expected: impl Read) {
    let (mut piece, mut wanted) = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
    let mut at = 0;
    loop {
        let read = got.read(&mut piece).unwrap();
        if read == 0 {
            assert_eq!(expected.read(&mut wanted).unwrap(), 0, "it ends after {at} bytes, before its time");
            return;
        }
        expected.read_exact(&mut wanted[..read]).unwrap();
        assert!(piece[..read] == wanted[..read], "a byte is wrong between {at} and {}", at + read);
        at += read;
    }
}

/// Which relay is the exit of this user's circuit.
fn exit_of(proxy: SocketAddr, user: &str) -> u8 {
    socks::resolve(proxy, user, WHICH_EXIT).unwrap().octets()[3]
}

#[test]
fn a_killed_relay_ends_its_streams_with_an_error_and_the_next_request_works_within_5_seconds() {
    let _alone = alone();
    let (mut network, client) = network(6);
    let web = Server::web();
    let proxy = format!("socks5h://user:@{}", client.address);
    let exit = exit_of(client.address, "user");
    let mut broken = curl(&proxy);
    broken.args(["--limit-rate", "4M", "--no-buffer"]).arg(format!("http://{WEB}:{}/{}", web.port(), 1024 * MIB));
    broken.args(["--output", "/dev/null", "--verbose"]);
    let broken = Program::start(&mut broken);
    broken.line("HTTP/1.1 200 OK", LONG);

    let (killed, _) = network.take(exit).stop(Signal::KILL);
    assert_eq!(killed.status.code(), None, "it was killed");
    let next = download(&proxy, web.port(), 1000);
    assert!(next < Duration::from_secs(5), "the next request took {next:?}");
    assert_ne!(exit_of(client.address, "user"), exit, "the dead relay is left out");
    let ended = broken.wait(Duration::from_secs(60));
    assert!([18, 56].contains(&ended.code()), "a partial file, or a reset: {} {}", ended.code(), ended.stderr);
}

#[test]
fn a_program_that_stops_reading_for_30_seconds_holds_up_nobody_else() {
    const STOPPED: Duration = Duration::from_secs(30);
    let _alone = alone();
    let (network, client) = network(3); // all circuits go through the same three relays
    let web = Server::web();
    let proxy = socks5h(client.address);
    let time = || (0..3).map(|_| download(&proxy, web.port(), 32 * MIB)).min().unwrap();
    let before = time();

    let size = 256 * MIB;
    let mut stopped = socks::connect(client.address, "stopped", WEB, web.port()).unwrap();
    write!(stopped, "GET /{size} HTTP/1.1\r\n\r\n").unwrap();
    let started = Instant::now();
    let mut beside = Duration::MAX;
    let grown = growth(&network, &client, || {
        while started.elapsed() < STOPPED {
            beside = beside.min(time());
        }
    });
    assert!(grown < GROWTH, "a process grew by {} MiB", grown / MIB);
    // Half, because the machine does other things too; a circuit that were held up would be slower by far.
    assert!(beside < before * 2, "32 MiB took {beside:?} beside the one that stopped, and {before:?} before");

    let read = io::copy(&mut stopped, &mut io::sink()).unwrap();
    assert!(read > size, "head and body come to their end: {read} of {size} bytes");
}

#[test]
fn streams_that_are_reset_leave_nothing_behind() {
    let _alone = alone();
    let (network, client) = network(3);
    let web = Server::web();
    let proxy = socks5h(client.address);
    download(&proxy, web.port(), 8 * MIB);
    let grown = growth(&network, &client, || {
        for _ in 0..200 {
            let mut socket = socks::connect(client.address, "gone", WEB, web.port()).unwrap();
            write!(socket, "GET /{} HTTP/1.1\r\n\r\n", 64 * MIB).unwrap();
            socket.read_exact(&mut [0; 1000]).unwrap(); // then it is dropped, with bytes unread
        }
        download(&proxy, web.port(), MIB);
    });
    assert!(grown < GROWTH, "a process grew by {} MiB", grown / MIB);
}
