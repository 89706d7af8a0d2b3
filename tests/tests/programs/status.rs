//! What running relays tell of themselves, to a person and to a monitoring system.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::Value;
use trefoil_tests::process::{
    binaries::{relay, trefoil},
    network::RealNetwork,
    program::{Ended, PATIENCE, Program, Signal},
};

use crate::{beside_others, curl};

/// The directory of a network's relay of this number.
fn directory(network: &RealNetwork, number: u8) -> PathBuf {
    network.file().with_file_name(number.to_string())
}

fn daemon(directory: &Path) -> Command {
    let mut relay = relay();
    relay.arg("--config").arg(directory.join("relay.toml"));
    relay
}

fn ask(directory: &Path, more: &[&str]) -> Ended {
    Program::run(daemon(directory).arg("--status").args(more), PATIENCE)
}

/// What a relay tells programs, once it tells what is waited for. Each try is a process of its own.
fn once(directory: &Path, holds: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let told = ask(directory, &["--json"]);
        if let Ok(status) = serde_json::from_str(&told.stdout)
            && holds(&status)
        {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "it does not come: {} {}", told.stdout, told.stderr);
    }
}

fn is_well(status: &Value) -> bool {
    status["trouble"].as_object().is_some_and(serde_json::Map::is_empty) && status["agreeing"].as_u64() > Some(0)
}

#[test]
fn relays_say_that_they_know_each_other_and_are_listed_and_that_none_runs_when_none_does() {
    let _beside = beside_others();
    let mut network = RealNetwork::start(3);
    let second = directory(&network, 2);
    let listed = |status: &Value| status["listed_until"].is_u64() && status["in_use"] == true;
    let status = once(&second, |status| status["known"] == 3 && listed(status) && is_well(status));
    assert_eq!((&status["usable"], &status["network"]), (&3.into(), &"programs".into()), "{status}");
    assert_eq!(status["id"].as_str().map(str::len), Some(56), "{status}");

    let words = ask(&second, &[]);
    assert_eq!((words.code(), words.stderr.as_str()), (0, ""));
    for part in ["relays       3 known, 3 usable", "listed       yes", "circuits     0 of", "all is well"] {
        assert!(words.stdout.contains(part), "{part:?} is not in:\n{}", words.stdout);
    }

    let (ended, _) = network.take(2).stop(Signal::TERM);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(!second.join("data/status.sock").exists(), "nothing is left behind");
    let none = ask(&second, &["--json"]);
    assert_eq!((none.code(), none.stdout.as_str()), (1, ""));
    assert!(none.stderr.contains("no relay is running with this data directory"), "{}", none.stderr);
}

#[test]
fn a_relay_that_was_killed_is_not_taken_for_one_that_runs() {
    let _beside = beside_others();
    let mut network = RealNetwork::start(3);
    let first = directory(&network, 1);
    once(&first, |_| true);
    network.take(1).stop(Signal::KILL);
    assert!(first.join("data/status.sock").exists());
    assert!(ask(&first, &[]).stderr.contains("no relay is running"));
    let again = Program::start(&mut daemon(&first));
    once(&first, |status| status["known"] == 3);
    assert_eq!(again.stop(Signal::TERM).0.code(), 0);
}

#[test]
fn a_relay_offers_metrics_where_it_is_told_to() {
    let _beside = beside_others();
    let network = RealNetwork::start(3);
    let fourth = directory(&network, 4);
    fs::create_dir(&fourth).unwrap();
    let config = "network = \"../network.toml\"\ndata_dir = \"data\"\nlisten = \"127.4.0.1:0\"\n";
    fs::write(fourth.join("relay.toml"), config).unwrap();
    let relay = Program::start(daemon(&fourth).args(["--metrics", "127.0.0.1:0"]));
    let line = relay.line("metrics are at http://", PATIENCE);
    let url = line.split(' ').find(|word| word.starts_with("http://")).unwrap();
    once(&fourth, |status| status["known"] == 4);
    let page = Program::run(curl("").arg(url), PATIENCE);
    assert_eq!(page.code(), 0, "{}", page.stderr);
    assert!(page.stdout.contains("\ntrefoil_relays_known 4\n") && page.stdout.ends_with("# EOF\n"), "{}", page.stdout);
    assert_eq!(relay.stop(Signal::TERM).0.code(), 0);
}

#[test]
fn a_client_that_does_not_run_is_told_as_such() {
    let nowhere = tempfile::tempdir().unwrap();
    let none = Program::run(trefoil().args(["status", "--data-dir"]).arg(nowhere.path()), PATIENCE);
    assert_eq!((none.code(), none.stdout.as_str()), (1, ""));
    assert!(none.stderr.contains("no trefoil is running with this data directory"), "{}", none.stderr);
}
