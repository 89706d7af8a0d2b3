//! `trefoil up --relay`: a relay and a client in one process, which nothing ties together but the process.

use std::{fs, path::Path, time::Duration};

use trefoil_protocol::identity::RelayId;
use trefoil_relay::status::Status;
use trefoil_tests::process::{
    binaries::trefoil,
    names::WEB,
    network::{RealClient, RealNetwork},
    program::{PATIENCE, Program, Signal},
    server::Server,
};

use crate::{LONG, beside_others, curl, socks5h};

/// What `trefoil status` says in JSON, once it is so.
fn once<S: serde::de::DeserializeOwned>(directory: &Path, flags: &[&str], is_so: impl Fn(&S) -> bool) -> S {
    let start = std::time::Instant::now();
    loop {
        let mut status = trefoil();
        status.args(["status", "--json", "--data-dir"]).arg(directory).args(flags);
        let told = Program::run(&mut status, PATIENCE);
        if let Ok(status) = serde_json::from_str(&told.stdout)
            && is_so(&status)
        {
            return status;
        }
        assert!(start.elapsed() < 2 * PATIENCE, "it does not come: {} {}", told.stdout, told.stderr);
    }
}

fn fetch(client: &RealClient, web: &Server, user: &str) {
    let url = format!("http://{WEB}:{}/64", web.port());
    let proxy = socks5h(client.address).replace("://", &format!("://{user}:x@"));
    let page = Program::run(curl(&proxy).args(["--output", "/dev/null"]).arg(url), LONG);
    assert_eq!(page.code(), 0, "{}", page.stderr);
}

/// The files of a directory, but for locks and sockets; each with its content.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file() && entry.file_name() != "lock");
    files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The secrets of a relay, as its key files have them, and as bytes.
fn secrets(relay: &Path) -> Vec<Vec<u8>> {
    let keys = ["identity.key", "onion.key"].map(|name| fs::read_to_string(relay.join(name)).unwrap());
    let hex: Vec<_> = keys.iter().map(|text| text.split(' ').nth(1).unwrap()).collect();
    let raw = hex.iter().map(|hex| {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    });
    hex.iter().map(|hex| hex.as_bytes().to_vec()).chain(raw).collect()
}

#[test]
fn a_node_that_is_both_joins_serves_and_fetches_a_page_and_its_files_do_not_name_each_other() {
    let _beside = beside_others();
    let (network, web) = (RealNetwork::start(4), Server::web());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("node");
    let mut up = trefoil();
    up.args(["up", "--relay", "--listen", "127.77.0.1:0", "--socks", "127.0.0.1:0", "--data-dir"]).arg(&data);
    let node = RealClient::start(up.arg("--network").arg(network.file()));
    let line = node.program.line("is at 127.77.0.1:", PATIENCE);
    let id: RelayId = line.split(' ').nth(1).unwrap().parse().unwrap();

    network.wait_until(2 * PATIENCE, |relay| relay.usable == 5);
    let relay: Status = once(&data, &["--relay"], |relay: &Status| relay.in_use && relay.listed_until.is_some());
    assert_eq!(relay.id, id.to_string());
    fetch(&node, &web, "page");
    let status = once(&data, &[], |client: &trefoil_client::status::Status| client.usable == 5);
    assert!(status.guards.iter().all(|guard| *guard != id.short()), "{status}");

    let others = network.proxy();
    let mut user = 0;
    while once(&data, &["--relay"], |_: &Status| true).circuits == 0 {
        assert!(user < 40, "no circuit of another client goes through it");
        user += 1;
        fetch(&others, &web, &user.to_string());
    }

    let (ended, took) = node.program.stop(Signal::INT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(took < Duration::from_secs(3), "it took {took:?}");
    let (clients, relays) = (files(&data), files(&data.join("relay")));
    let names = |files: &[(String, Vec<u8>)]| {
        let mut names: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&clients), ["guards.toml", "usable.bin", "view.bin"]);
    assert_eq!(names(&relays), ["identity.key", "mailbox.redb", "onion.key", "record", "view", "work"]);
    let secrets = secrets(&data.join("relay"));
    for (name, bytes) in &clients {
        assert!(secrets.iter().all(|secret| !contains(bytes, secret)), "{name} has a key of the relay");
        assert!(!contains(bytes, id.to_string().as_bytes()), "{name} names the relay");
        let is_list = name != "guards.toml"; // of all relays: without its own it would tell which that is
        assert_eq!(contains(bytes, id.as_bytes()), is_list, "{name}");
    }
    for (name, bytes) in &relays {
        for word in [&b"guard"[..], b"client", data.as_os_str().as_encoded_bytes()] {
            assert!(!contains(bytes, word), "{name} tells of the client: {word:?}");
        }
    }
}

#[test]
fn without_a_relay_it_is_the_proxy_and_flags_of_a_relay_ask_for_one() {
    let _beside = beside_others();
    let (network, web) = (RealNetwork::start(3), Server::web());
    let mut up = trefoil();
    let node = RealClient::start(up.args(["up", "--socks", "127.0.0.1:0", "--network"]).arg(network.file()));
    fetch(&node, &web, "page");
    assert_eq!(network.status(1).known, 3);
    let (ended, _) = node.program.stop(Signal::TERM);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);

    let mut lone = trefoil();
    let ended = Program::run(lone.args(["up", "--listen", "127.77.0.1:0", "--network"]).arg(network.file()), PATIENCE);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.contains("--relay"), "{}", ended.stderr);
    let mut nowhere = trefoil();
    nowhere.args(["up", "--relay", "--socks", "127.0.0.1:0", "--listen", "127.77.0.1:0", "--network"]);
    let ended = Program::run(nowhere.arg(network.file()), PATIENCE);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("--data-dir"), "{}", ended.stderr);
}
