//! Relays that are not as they should be, among some that are: they are told so, and harm nobody.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use trefoil_relay::status::Status;
use trefoil_tests::process::{
    binaries::{installed, relay},
    names::WEB,
    network::{RealClient, RealNetwork, free_address},
    program::{PATIENCE, Program, Signal},
    rogue::{Manner, Rogue},
    server::Server,
};

use crate::{LONG, MIB, alone, curl, socks5h};

const RELAYS: u8 = 8;
/// For a relay to be in all views, or out of them: a record of a test network lasts 30 s, and a usable set 10 s more.
const SETTLE: Duration = Duration::from_secs(60);
/// For a download beside relays that do harm.
const IN_TIME: Duration = Duration::from_secs(10);
/// Users of one client, each with circuits of its own.
const USERS: usize = 12;

/// A relay that is none of the network's own.
struct Stray {
    directory: TempDir,
    program: Program,
}

impl Stray {
    /// Starts one at 127.`machine`.0.1, as `relay`, with a copy of this data directory or a new one.
    fn start(network: &RealNetwork, machine: u8, relay: &mut Command, data: Option<&Path>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "network = {:?}\ndata_dir = \"data\"\nlisten = \"{}\"\nexit_policy = [\"accept 127.0.0.1:*\"]\n",
            network.file(),
            free_address(machine)
        );
        fs::write(directory.path().join("relay.toml"), config).unwrap();
        data.inspect(|data| copy(data, &directory.path().join("data")));
        let program = Program::start(relay.arg("--config").arg(directory.path().join("relay.toml")));
        Self { directory, program }
    }

    /// What it says of itself.
    fn status(&self) -> Status {
        let mut ask = relay();
        ask.arg("--config").arg(self.directory.path().join("relay.toml")).args(["--status", "--json"]);
        serde_json::from_str(&Program::run(&mut ask, PATIENCE).stdout).unwrap()
    }

    fn end(self) {
        let (ended, _) = self.program.stop(Signal::TERM);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
}

/// Copies a directory that nobody else can read, with its files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|file| file.file_type().unwrap().is_file()) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// A relay whose clock is two hours behind.
fn behind() -> Command {
    let mut relay = relay();
    at_another_time(&mut relay, "-2h");
    relay
}

/// Has a program have a clock that is off by so much, like `-2h`. Debian's `faketime` would be another process around it,
/// so it is only asked what it would do.
pub(super) fn at_another_time<'a>(program: &'a mut Command, off: &str) -> &'a mut Command {
    let mut faketime = installed("faketime", "faketime");
    let told = Program::run(faketime.args(["--exclude-monotonic", "-m", "-f", off, "env"]), PATIENCE).stdout;
    let variables = told.lines().filter_map(|line| line.split_once('='));
    let wanted = ["LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"];
    program.envs(variables.filter(|(name, _)| wanted.contains(name)))
}

/// Downloads a mebibyte for each of the users; the longest time.
fn downloads(client: &RealClient, when: &str, web: &Server) -> Duration {
    let download = |user| {
        let started = Instant::now();
        let proxy = socks5h(client.address).replace("://", &format!("://{when}-{user}:@"));
        let mut curl = curl(&proxy);
        curl.args(["--output", "/dev/null", "--write-out", "%{size_download}"]);
        let ended = Program::run(curl.arg(format!("http://{WEB}:{}/{MIB}", web.port())), LONG);
        assert_eq!((ended.code(), ended.stdout), (0, MIB.to_string()), "{when}, user {user}: {}", ended.stderr);
        started.elapsed()
    };
    (0..USERS).map(download).max().unwrap()
}

#[test]
fn a_relay_whose_clock_is_wrong_says_so_and_is_not_listed() {
    let _alone = alone();
    let web = Server::web();
    let network = RealNetwork::start(RELAYS);
    let client = network.proxy();
    let late = Stray::start(&network, 101, &mut behind(), None);
    late.program.line("this machine's clock is 120 minutes behind", LONG);
    let status = late.status();
    assert!(status.trouble.contains_key("clock") && status.listed_until.is_none(), "{status}");
    assert!(downloads(&client, "beside", &web) < IN_TIME);
    let honest = usize::from(RELAYS);
    network.wait_until(SETTLE, |relay| relay.known == honest && relay.usable == honest);
    late.end();
}

#[test]
fn a_stolen_identity_is_told_to_both_who_use_it_and_out_of_use_for_all_others() {
    let _alone = alone();
    let web = Server::web();
    let mut network = RealNetwork::start(RELAYS);
    let client = network.proxy();
    let (ended, _) = network.take(RELAYS).stop(Signal::TERM);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let data = network.relay_directory(RELAYS).join("data");
    let thief = Stray::start(&network, 102, &mut relay(), Some(&data));
    network.start_again(RELAYS);
    for relay in [&thief.program, network.relay(RELAYS)] {
        relay.line("another relay uses this relay's identity", LONG);
    }
    let twice = |status: Status| status.trouble.contains_key("twice");
    assert!(twice(thief.status()) && twice(network.status(RELAYS)));
    network.relay(1).line("has signed two records for one epoch and is left out", LONG);
    let left = usize::from(RELAYS) - 1;
    network.wait_until(SETTLE, |relay| relay.usable == left);
    assert!(downloads(&client, "beside", &web) < IN_TIME);
    thief.end();
}

#[test]
fn relays_that_send_garbage_or_nothing_hold_up_no_download_and_lose_nobody() {
    let _alone = alone();
    let web = Server::web();
    let network = RealNetwork::start(RELAYS);
    let honest = usize::from(RELAYS);
    let _rogues = [(103, Manner::Garbage), (104, Manner::Silence)]
        .map(|(machine, manner)| Rogue::start(&network.file(), machine, manner));
    network.wait_until(SETTLE, |relay| relay.usable == honest + 2);
    let client = network.proxy();
    let took = downloads(&client, "beside", &web);
    assert!(took < IN_TIME, "{took:?}");
    network.wait_until(SETTLE, |relay| relay.usable >= honest && relay.known >= honest && relay.in_use);
    let counted = network.status(1).turned_away;
    assert!(counted["frame"] > 0, "{counted:?}");
    let took = downloads(&client, "later", &web);
    assert!(took < IN_TIME, "{took:?}");
}
