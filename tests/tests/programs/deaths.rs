//! Letters whose writers, readers and mailboxes are killed on their way, or whose machines lack something, by real programs.

use std::{fs, path::Path, process::Command, time::Instant};

use trefoil_tests::process::{
    network::{RealClient, RealNetwork},
    program::{Program, Signal},
};

use crate::{LONG, beside_others, letters::Person, strays::at_another_time};

const RELAYS: u8 = 8;
const ROUNDS: u8 = 3;

/// The words that a person has from a contact or wrote to it, and what became of them.
fn said(person: &Person, contact: &str) -> Vec<(String, bool, String)> {
    let history = person.json(&["history", contact]);
    let texts = history["letters"].as_array().unwrap().iter().filter(|letter| letter["kind"] == "text");
    let word = |letter: &serde_json::Value, name: &str| letter[name].as_str().unwrap_or_default().to_owned();
    texts.map(|letter| (word(letter, "text"), letter["mine"] == true, word(letter, "delivery"))).collect()
}

/// Two people who are contacts, and their programs.
fn meet(network: &RealNetwork, all: &Path) -> [(Person, RealClient); 2] {
    let [alice, bob] = ["alice", "bob"].map(|name| Person::new(name, all, network));
    let (at_alice, at_bob) = (alice.up(), bob.up());
    let invite = bob.json(&["invite", "create", "--name", "alice"]);
    let link = invite["invite"]["link"].as_str().unwrap();
    assert_eq!(alice.run(&["contact", "add", link, "bob"]).code(), 0);
    alice.await_contact(|contact| contact["name"] == "bob" && contact["standing"] == "accepted");
    bob.await_contact(|contact| contact["name"] == "alice" && contact["standing"] == "accepted");
    [(alice, at_alice), (bob, at_bob)]
}

/// This command, where no file can grow beyond so many kibibytes: writing more fails as on a full disk.
fn with_room(command: &Command, kibibytes: u64) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 2 * kibibytes); // in blocks of 512 bytes
    shell.args(["-c", &script]).arg(command.get_program()).args(command.get_args());
    shell
}

#[test]
fn a_letter_outlives_its_writer_its_reader_and_its_mailboxes_and_is_shown_once() {
    let _beside = beside_others();
    let (mut network, all) = (RealNetwork::start(RELAYS), tempfile::tempdir().unwrap());
    let [(alice, mut at_alice), (bob, mut at_bob)] = meet(&network, all.path());
    let mut written = vec![];
    for round in 0..ROUNDS {
        let mut write = |whose: &str| {
            let text = format!("{whose}, {round}");
            let sent = alice.run(&["send", "bob", &text]);
            assert_eq!(sent.code(), 0, "{} {}", sent.stdout, sent.stderr);
            written.push(text);
        };
        write("before the writer died");
        at_alice.program.stop(Signal::KILL);
        at_alice = alice.up();
        write("before the reader died");
        at_bob.program.stop(Signal::KILL);
        write("before two mailboxes died");
        let two = [2 * round + 3, 2 * round + 4].map(|number| (number - 3) % (RELAYS - 2) + 3);
        two.into_iter().for_each(|number| drop(network.take(number).stop(Signal::KILL)));
        two.into_iter().for_each(|number| network.start_again(number));
        at_bob = bob.up();
    }

    let start = Instant::now();
    while said(&alice, "bob").iter().any(|(_, _, delivery)| delivery != "delivered") {
        assert!(start.elapsed() < LONG, "{:?}, {:?}", said(&alice, "bob"), said(&bob, "alice"));
    }
    let mut heard: Vec<_> = said(&bob, "alice").into_iter().map(|(text, ..)| text).collect();
    heard.sort();
    written.sort();
    assert_eq!(heard, written, "each of them once");
    for program in [at_alice.program, at_bob.program] {
        let (ended, _) = program.stop(Signal::INT);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
}

#[test]
fn what_a_full_disk_or_a_wrong_clock_keeps_from_being_done_is_said_and_nothing_is_lost() {
    let _beside = beside_others();
    let (network, all) = (RealNetwork::start(RELAYS), tempfile::tempdir().unwrap());
    let [(alice, at_alice), (bob, _at_bob)] = meet(&network, all.path());
    assert_eq!(at_alice.program.stop(Signal::INT).0.code(), 0);

    let large = all.path().join("large.bin");
    fs::write(&large, vec![7; 3 << 20]).unwrap();
    let size = fs::metadata(alice.directory.join("profiles/default/letters.redb")).unwrap().len();
    let send = alice.command(&["file", "send", "bob", large.to_str().unwrap()]);
    let full = Program::run(&mut with_room(&send, size / 1024 + 100), LONG);
    assert_eq!((full.code(), full.stdout.as_str()), (1, ""), "{}", full.stderr);
    assert!(full.stderr.contains("what was asked for was not done"), "{}", full.stderr);
    assert_eq!(alice.json(&["file", "list"])["files"].as_array().unwrap().len(), 0);

    let mut late = alice.command(&["send", "bob", "a day too early", "--wait", "accepted", "--timeout", "1s"]);
    let late = Program::run(at_another_time(&mut late, "+1d"), LONG);
    assert_eq!(late.code(), 3, "{} {}", late.stdout, late.stderr);
    assert!(late.stderr.contains("clock is 24 h 0 min ahead"), "{}", late.stderr);

    let sent = alice.run(&["send", "bob", "now", "--wait", "delivered", "--timeout", "120s"]);
    assert_eq!(sent.code(), 0, "{} {}", sent.stdout, sent.stderr);
    let heard: Vec<_> = said(&bob, "alice").into_iter().map(|(text, ..)| text).collect();
    assert!(heard.contains(&"now".to_owned()), "{heard:?}");
}
