//! Connections as programs other than browsers use them: half-closed, idle for long, and git's.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use trefoil_protocol::limits::LINK_IDLE_TIMEOUT;
use trefoil_tests::process::{
    binaries::installed,
    names::WEB,
    program::{PATIENCE, Program},
    server::{Server, pattern},
};

use crate::{LONG, MIB, beside_others, network, socks5h};

#[test]
fn netcat_sends_all_ends_its_side_and_then_hears_the_answer() {
    let _beside = beside_others();
    let (_network, client) = network(3);
    let server = Server::after_the_end();
    let directory = tempfile::tempdir().unwrap();
    let request = directory.path().join("request");
    io::copy(&mut pattern().take(MIB), &mut fs::File::create(&request).unwrap()).unwrap();
    let mut netcat = installed("nc.openbsd", "netcat-openbsd");
    netcat.args(["-X", "5", "-x", &client.address.to_string(), "-N", WEB, &server.port().to_string()]);
    let ended = Program::start_with(&mut netcat, fs::File::open(&request).unwrap().into()).wait(PATIENCE);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("got {MIB} bytes\n"));
}

#[test]
fn a_connection_that_was_silent_for_longer_than_a_dead_link_goes_on_both_ways() {
    const SILENCE: Duration = Duration::from_secs(LINK_IDLE_TIMEOUT.as_secs() + 5);
    let _beside = beside_others();
    let (_network, client) = network(3);
    let server = Server::echo();
    let (input, mut typed) = io::pipe().unwrap();
    let mut netcat = installed("nc.openbsd", "netcat-openbsd");
    netcat.args(["-X", "5", "-x", &client.address.to_string(), "-N", WEB, &server.port().to_string()]);
    let netcat = Program::start_with(&mut netcat, input.into());
    typed.write_all(b"before\n").unwrap();
    netcat.line("before", PATIENCE);
    assert!(!netcat.says_more(SILENCE), "nobody says anything, and it goes on");
    typed.write_all(b"after\n").unwrap();
    netcat.line("after", PATIENCE);
    drop(typed);
    let ended = netcat.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "before\nafter\n"), "{}", ended.stderr);
}

#[test]
fn git_clones_over_http_and_finds_every_object_whole() {
    let _beside = beside_others();
    let (_network, client) = network(3);
    let directory = tempfile::tempdir().unwrap();
    let work = directory.path().join("work");
    make_repository(directory.path(), &work);
    let mut python = installed("python3", "python3");
    python.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]).current_dir(directory.path());
    let server = Program::start(&mut python);
    let line = server.line("Serving HTTP on 127.0.0.1 port ", PATIENCE);
    let port: u16 = line.split(' ').find_map(|word| word.parse().ok()).unwrap();

    let proxy = format!("http.proxy={}", socks5h(client.address));
    let url = format!("http://{WEB}:{port}/bare.git");
    git(directory.path(), &["-c", &proxy, "clone", "--quiet", &url, "clone"]);
    let clone = directory.path().join("clone");
    git(&clone, &["fsck", "--strict", "--full"]);
    for file in ["a", "b"] {
        assert!(fs::read(work.join(file)).unwrap() == fs::read(clone.join(file)).unwrap(), "{file}");
    }
}

/// Two commits, and a bare clone of them that a plain web server can serve.
fn make_repository(directory: &Path, work: &Path) {
    git(directory, &["init", "--quiet", "work"]);
    for (file, size) in [("a", 100_000), ("b", 4 * MIB)] {
        let mut bytes = Vec::new();
        pattern().take(size).read_to_end(&mut bytes).unwrap();
        fs::write(work.join(file), bytes).unwrap();
        git(work, &["add", "."]);
        git(work, &["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", file]);
    }
    git(directory, &["clone", "--quiet", "--bare", "work", "bare.git"]);
    git(&directory.join("bare.git"), &["update-server-info"]);
}

/// git, without anybody's settings.
fn git(directory: &Path, arguments: &[&str]) {
    let mut git: Command = installed("git", "git");
    git.args(arguments).current_dir(directory).stdin(Stdio::null());
    git.env("HOME", directory).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    let ended = Program::run(&mut git, LONG);
    assert_eq!(ended.code(), 0, "{arguments:?}: {}", ended.stderr);
}
