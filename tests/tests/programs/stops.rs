//! Every program ends soon and in order when it is asked to, whatever it does.

use std::{fs, io::Write, net::TcpStream, time::Duration};

use trefoil_tests::process::{
    binaries::{installed, trefoil},
    names::WEB,
    network::RealClient,
    program::{PATIENCE, Program, Signal},
    server::Server,
    socks,
};

use crate::{LONG, MIB, beside_others, curl, network, socks5h};

const SOON: Duration = Duration::from_secs(3);

/// A stream in the middle of a download, which nobody reads.
fn busy(client: &RealClient, web: &Server) -> TcpStream {
    let mut stream = socks::connect(client.address, "busy", WEB, web.port()).unwrap();
    write!(stream, "GET /{} HTTP/1.1\r\n\r\n", 256 * MIB).unwrap();
    stream.peek(&mut [0]).unwrap();
    stream
}

/// Ends a program, which must take it well.
fn end(program: Program, signal: Signal) {
    let (ended, took) = program.stop(signal);
    assert_eq!(ended.code(), 0, "{signal:?}: {:?} {}", ended.status, ended.stderr);
    assert!(took < SOON, "{signal:?}: it took {took:?}");
}

#[test]
fn a_proxy_and_relays_end_in_time_with_streams_open() {
    let _beside = beside_others();
    let web = Server::web();
    for signal in [Signal::INT, Signal::TERM] {
        let (mut network, client) = network(3);
        let _streams = [busy(&client, &web), busy(&client, &web)];
        (1..=3).for_each(|number| end(network.take(number), signal));
        end(client.program, signal);
        let (_network, client) = crate::network(3);
        let _stream = busy(&client, &web);
        end(client.program, signal);
    }
}

#[test]
fn a_testnet_and_a_proxy_just_work_and_end_in_time() {
    let _beside = beside_others();
    let web = Server::web();
    for signal in [Signal::INT, Signal::TERM] {
        let directory = tempfile::tempdir().unwrap();
        let mut testnet = trefoil();
        testnet.args(["testnet", "--relays", "8", "--dir"]).arg(directory.path());
        let testnet = Program::start(&mut testnet);
        testnet.line("8 relays are running", PATIENCE);
        let client = RealClient::proxy(&directory.path().join("network.toml"));
        let url = format!("http://127.0.0.1:{}/64", web.port());
        let page = Program::run(curl(&socks5h(client.address)).args(["--output", "/dev/null"]).arg(url), LONG);
        assert_eq!(page.code(), 0, "{}", page.stderr);
        let mut stream = socks::connect(client.address, "busy", "127.0.0.1", web.port()).unwrap();
        write!(stream, "GET /{} HTTP/1.1\r\n\r\n", 256 * MIB).unwrap();
        stream.peek(&mut [0]).unwrap();
        end(testnet, signal);
        end(client.program, signal);
    }
}

#[test]
fn a_program_ends_with_a_test_that_panics() {
    let (started, id) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let testnet = Program::start(trefoil().args(["testnet", "--relays", "3"]));
        testnet.line("3 relays are running", PATIENCE);
        started.send(testnet.id()).unwrap();
        testnet.line("what no testnet says", Duration::ZERO);
    });
    test.join().expect_err("it panics");
    assert!(!fs::exists(format!("/proc/{}", id.recv().unwrap())).unwrap());
}

#[test]
#[should_panic(expected = "a thread has panicked in")]
fn a_program_that_has_panicked_fails_the_test_however_it_ends() {
    let says = "echo \"thread 'main' panicked at src/main.rs:1:1\" >&2";
    Program::run(std::process::Command::new("sh").args(["-c", says]), PATIENCE);
}

#[test]
#[should_panic(expected = "apt-get install its-package")]
fn a_program_that_is_missing_fails_the_test_and_names_its_package() {
    installed("a-program-that-is-missing", "its-package");
}

#[test]
fn a_testnets_own_directory_is_gone_when_it_has_ended() {
    let _beside = beside_others();
    let temporary = tempfile::tempdir().unwrap();
    let testnet = Program::start(trefoil().args(["testnet", "--relays", "3"]).env("TMPDIR", temporary.path()));
    testnet.line("3 relays are running", PATIENCE);
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
    end(testnet, Signal::INT);
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing_behind() {
    let _beside = beside_others();
    for (size, line) in [("4096", "fetched a page"), ("1", "Bob's program is off")] {
        let temporary = tempfile::tempdir().unwrap();
        let mut demo = trefoil();
        let demo = Program::start(demo.args(["demo", "--size", size]).env("TMPDIR", temporary.path()));
        demo.line(line, 2 * PATIENCE);
        let (ended, took) = demo.stop(Signal::INT);
        assert!(took < SOON, "after {line:?} it took {took:?}");
        assert_eq!((ended.code(), ended.stderr.as_str()), (1, "trefoil: interrupted\n"));
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }
}
