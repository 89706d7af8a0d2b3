//! Relays that leave for good, and relays of one family.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use trefoil_tests::process::{
    binaries::relay,
    network::RealNetwork,
    program::{PATIENCE, Program, Signal},
};

use crate::beside_others;

fn daemon(network: &RealNetwork, number: u8) -> Command {
    let mut daemon = relay();
    daemon.arg("--config").arg(network.relay_directory(number).join("relay.toml"));
    daemon
}

#[test]
fn a_relay_leaves_for_good_stays_away_over_a_restart_and_comes_back_when_it_is_wanted() {
    let _beside = beside_others();
    let mut network = RealNetwork::start(4);
    let running = Program::run(daemon(&network, 4).arg("--leave"), PATIENCE);
    assert_eq!((running.code(), running.stdout.as_str()), (1, ""));
    assert!(running.stderr.contains("has not left") && running.stderr.contains("stop that one"), "{}", running.stderr);

    assert_eq!(network.take(4).stop(Signal::TERM).0.code(), 0);
    let left = Program::run(daemon(&network, 4).arg("--leave"), 3 * PATIENCE);
    assert_eq!(left.code(), 0, "{}", left.stderr);
    assert!(left.stdout.contains("relays know that this one leaves"), "{}", left.stdout);
    network.wait_until(PATIENCE, |relay| relay.usable == 3);

    let file = network.relay_directory(4).join("data/left");
    let restarted = Program::run(&mut daemon(&network, 4), PATIENCE);
    assert_eq!(restarted.code(), 1);
    assert!(restarted.stderr.contains("remove that file"), "{}", restarted.stderr);
    assert!(restarted.stderr.contains(file.to_str().unwrap()), "{}", restarted.stderr);
    fs::remove_file(file).unwrap();
    network.start_again(4);
    network.wait_until(2 * PATIENCE, |relay| relay.usable == 4);
}

#[test]
fn a_family_key_is_made_once_and_a_relay_without_it_or_with_a_loose_one_does_not_start() {
    let _beside = beside_others();
    let mut network = RealNetwork::start(3);
    let key = network.file().with_file_name("family.key");
    let make = || Program::run(relay().arg("--make-family").arg(&key), PATIENCE);
    network.take(3).stop(Signal::TERM);
    let start = || Program::start(daemon(&network, 3).args(["--weight", "2", "--family"]).arg(&key));
    let missing = start().wait(PATIENCE);
    assert!(missing.stderr.contains("--make-family"), "{}", missing.stderr);
    let (first, second) = (make(), make());
    assert_eq!((first.code(), second.code()), (0, 1), "{} {}", first.stderr, second.stderr);
    assert!(second.stderr.contains("is there already"), "{}", second.stderr);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let loose = start().wait(PATIENCE);
    assert!(loose.code() == 1 && loose.stderr.contains("chmod 600"), "{}", loose.stderr);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let member = start();
    member.line("relay started", PATIENCE);
    assert_eq!(member.stop(Signal::TERM).0.code(), 0);
}
