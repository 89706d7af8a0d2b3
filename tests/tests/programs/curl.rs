//! curl, in each way that it knows to ask a proxy.

use std::{collections::BTreeSet, fs, io::Read};

use trefoil_tests::process::{
    names::{WEB, WHICH_EXIT},
    program::Program,
    server::{Server, hash, pattern},
    socks,
};

use crate::{LONG, MIB, beside_others, curl, network, socks5h};

/// Bytes of a page.
const PAGE: u64 = 100_000;

#[test]
fn curl_fetches_a_page_in_each_way_to_ask_a_proxy() {
    let _beside = beside_others();
    let (_network, client) = network(4);
    let web = Server::web();
    let expected = hash(pattern().take(PAGE)).unwrap();
    let at = client.address;
    let directory = tempfile::tempdir().unwrap();
    for proxy in
        [socks5h(at), format!("socks4a://{at}"), format!("socks5h://user:password@{at}"), format!("http://{at}")]
    {
        let page = directory.path().join("page");
        let url = format!("http://{WEB}:{}/{PAGE}", web.port());
        let ended = Program::run(curl(&proxy).arg("--proxytunnel").arg(url).arg("--output").arg(&page), LONG);
        assert_eq!(ended.code(), 0, "{proxy}: {}", ended.stderr);
        assert_eq!(hash(fs::File::open(&page).unwrap()).unwrap(), expected, "{proxy}");
    }
}

#[test]
fn localhost_is_the_exits_own() {
    let _beside = beside_others();
    let (_network, client) = network(3);
    let web = Server::web();
    let url = format!("http://localhost:{}/{PAGE}", web.port());
    let ended = Program::run(curl(&socks5h(client.address)).args(["--output", "/dev/null"]).arg(url), LONG);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

#[test]
fn users_have_circuits_of_their_own() {
    let _beside = beside_others();
    let (_network, client) = network(5);
    let exit = |user: &str| socks::resolve(client.address, user, WHICH_EXIT).unwrap();
    let users: Vec<_> = (0..12).map(|number| format!("user {number}")).collect();
    let exits: Vec<_> = users.iter().map(|user| exit(user)).collect();
    let distinct: BTreeSet<_> = exits.iter().collect();
    assert!(distinct.len() > 1, "twelve circuits have one of five exits by chance once in fifty million times");
    for (user, before) in users.iter().zip(&exits) {
        assert_eq!(exit(user), *before, "{user} stays on one circuit");
    }
}

#[test]
fn an_upload_of_64_mib_arrives_as_it_was_sent() {
    let _beside = beside_others();
    let (_network, client) = network(3);
    let web = Server::web();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("upload");
    std::io::copy(&mut pattern().take(64 * MIB), &mut fs::File::create(&file).unwrap()).unwrap();
    let mut upload = curl(&socks5h(client.address));
    upload.arg("--data-binary").arg(format!("@{}", file.display())).arg(format!("http://{WEB}:{}/", web.port()));
    let ended = Program::run(&mut upload, LONG);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(ended.stdout, hash(pattern().take(64 * MIB)).unwrap());
}

#[test]
fn sixty_four_downloads_at_once_are_all_right() {
    let _beside = beside_others();
    let (_network, client) = network(5);
    let web = Server::web();
    let expected = hash(pattern().take(MIB)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut downloads = curl(&socks5h(client.address));
    downloads.args(["--parallel", "--parallel-immediate", "--parallel-max", "64"]);
    downloads.arg(format!("http://{WEB}:{}/{MIB}#[1-64]", web.port()));
    let file = directory.path().join("download-#1");
    let ended = Program::run(downloads.arg("--output").arg(file), LONG);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    for number in 1..=64 {
        let file = fs::File::open(directory.path().join(format!("download-{number}"))).unwrap();
        assert_eq!(hash(file).unwrap(), expected, "download {number}");
    }
}

#[test]
fn a_forwarded_port_is_its_target() {
    let _beside = beside_others();
    let (network, _) = network(3);
    let web = Server::web();
    let forward = network.forward(&format!("{WEB}:{}", web.port()));
    let mut fetch = trefoil_tests::process::binaries::installed("curl", "curl");
    fetch.args(["--disable", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60"]);
    let ended = Program::run(fetch.arg(format!("http://{}/64", forward.address)).args(["--output", "/dev/null"]), LONG);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}
