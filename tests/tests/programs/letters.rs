//! Letters between people, by real programs: two of `trefoil up`, and the commands that ask them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use trefoil_tests::process::{
    binaries::trefoil,
    network::{RealClient, RealNetwork},
    program::{Ended, PATIENCE, Program, Signal},
};

use crate::{LONG, beside_others};

/// Somebody with a directory and a passphrase.
pub(super) struct Person {
    pub(super) directory: PathBuf,
    network: PathBuf,
    passphrase: PathBuf,
}

impl Person {
    pub(super) fn new(name: &str, all: &Path, network: &RealNetwork) -> Self {
        let passphrase = all.join(format!("{name}.txt"));
        fs::write(&passphrase, "correct horse\n").unwrap();
        fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
        let person = Self { directory: all.join(name), network: network.file(), passphrase };
        assert_eq!(person.run(&["id", "new"]).code(), 0);
        person
    }

    pub(super) fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = trefoil();
        command.args(arguments).arg("--network").arg(&self.network).arg("--data-dir").arg(&self.directory);
        command.arg("--passphrase-file").arg(&self.passphrase);
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Ended {
        Program::run(&mut self.command(arguments), LONG)
    }

    pub(super) fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ended.code(), 0, "{arguments:?}: {} {}", ended.stdout, ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    }

    pub(super) fn up(&self) -> RealClient {
        RealClient::start(&mut self.command(&["up", "--socks", "127.0.0.1:0"]))
    }

    /// Waits until this contact is one.
    pub(super) fn await_contact(&self, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let all = self.json(&["contact", "list"]);
            let found = all["contacts"].as_array().unwrap().iter().find(|contact| is(contact)).cloned();
            if let Some(found) = found {
                return found;
            }
            assert!(start.elapsed() < 2 * PATIENCE, "no such contact: {all}");
        }
    }
}

#[test]
fn people_meet_by_an_invite_and_write_also_to_somebody_who_is_away() {
    let _beside = beside_others();
    let (network, all) = (RealNetwork::start(8), tempfile::tempdir().unwrap());
    network.wait_until(2 * PATIENCE, |relay| relay.usable == 8);
    let [alice, bob] = ["alice", "bob"].map(|name| Person::new(name, all.path(), &network));
    let (at_alice, at_bob) = (alice.up(), bob.up());
    let socket = alice.directory.join("profiles/default/control.sock");
    let start = Instant::now();
    while !socket.exists() {
        assert!(start.elapsed() < PATIENCE, "there is no control socket");
    }
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let invite = bob.json(&["invite", "create"]);
    let link = invite["invite"]["link"].as_str().unwrap();
    assert_eq!(alice.run(&["contact", "add", link, "bob", "--greeting", "it's me"]).code(), 0);
    alice.await_contact(|contact| contact["name"] == "bob" && contact["standing"] == "accepted");
    let of_bob = bob.await_contact(|contact| contact["greeting"] == "it's me");
    let name = of_bob["name"].as_str().unwrap();
    let again = alice.run(&["contact", "add", link, "twice"]);
    assert!(again.code() == 1 && again.stderr.contains("already"), "{}", again.stderr);
    assert_eq!(bob.run(&["contact", "rename", name, "alice"]).code(), 0);

    let inbox = Program::start(&mut bob.command(&["inbox", "--follow"]));
    let sent = alice.run(&["send", "bob", "hi there", "--wait", "delivered", "--timeout", "60s"]);
    assert_eq!(sent.code(), 0, "{} {}", sent.stdout, sent.stderr);
    assert!(inbox.line("hi there", PATIENCE).contains("alice"));
    inbox.stop(Signal::INT);

    let (ended, took) = at_bob.program.stop(Signal::TERM);
    assert!(ended.code() == 0 && took < Duration::from_secs(3), "{took:?}: {}", ended.stderr);
    let sent = alice.run(&["send", "bob", "while you were away", "--wait", "delivered", "--timeout", "3s"]);
    assert_eq!(sent.code(), 3, "nobody is there to confirm it: {} {}", sent.stdout, sent.stderr);
    let read = bob.run(&["inbox"]); // by a client of its own
    assert!(read.stdout.contains("while you were away") && read.code() == 0, "{} {}", read.stdout, read.stderr);
    assert!(!read.stdout.contains("hi there"), "it was shown before: {}", read.stdout);

    let wrong = all.path().join("wrong.txt");
    fs::write(&wrong, "wrong horse\n").unwrap();
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = Person { passphrase: wrong, directory: bob.directory.clone(), network: bob.network.clone() };
    let refused = refused.run(&["inbox"]);
    assert!(refused.code() == 1 && refused.stderr.contains("passphrase"), "{}", refused.stderr);
    let nobody = alice.run(&["send", "nobody", "hi"]);
    assert!(nobody.code() == 1 && nobody.stderr.contains("contact list"), "{}", nobody.stderr);
    let (ended, _) = at_alice.program.stop(Signal::INT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let bytes = fs::read(alice.directory.join("profiles/default/letters.redb")).unwrap();
    for words in ["hi there", "while you were away", "it's me"] {
        let is_there = bytes.windows(words.len()).any(|window| window == words.as_bytes());
        assert!(!is_there, "{words:?} can be read by whoever has the file");
    }
}
