//! What whoever seizes a mailbox relay finds: its whole disk and memory are searched for all that its users would not
//! have there, while letters come, wait and are read. Each search is shown to find what is there.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use trefoil_protocol::{
    address::Address,
    epoch::UnixSeconds,
    identity::RelayId,
    inbox::Inbox,
    params::NetworkId,
    period::{Day, Week},
    prekeys::{self, Prekeys, PrekeysOf, PrekeysRecord},
    ring::Placement,
};
use trefoil_relay::{mailbox::MAILBOX_FILE, network::NetworkFile};
use trefoil_tests::process::{
    network::{RealClient, RealNetwork},
    program::{PATIENCE, Program, Signal},
    search::Search,
};

use crate::{beside_others, letters::Person};

const RELAYS: u8 = 8;
const MONTH: u64 = 30 * 24 * 3600;
const GREETING: &str = "from the reading room, table seventeen";
const TEXT: &str = "meet where the herons nest, at dusk";
const FILE: &str = "plan of the old waterworks.txt";
const CONTENT: &str = "third valve on the left, then down; ";
const BOB: &str = "Bartholomew Quince";
const ALICE: &str = "Alexandrina Yew";

/// Who somebody is to others, and where relays keep what is for them.
struct Public {
    address: Address,
    text: String,
    requests: Placement,
    prekeys: Placement,
    keys: Prekeys,
}

/// Two people who are contacts, and Alice's program.
struct Scene {
    alice: Person,
    bob: Person,
    at_alice: RealClient,
    _directory: tempfile::TempDir,
}

#[test]
fn relays_have_nothing_of_who_writes_to_whom_or_what_neither_on_disk_nor_in_memory() {
    let _beside = beside_others();
    let network = RealNetwork::start(RELAYS);
    let (scene, at_bob) = Scene::new(&network);
    let id = NetworkFile::load(&network.file()).unwrap().params.id();
    let people = [&scene.alice, &scene.bob].map(|person| Public::of(person, &id, &network));
    let secrets = secrets(&people);
    let nothing = |when: &str| {
        for number in 1..=RELAYS {
            let (memory, files) = search(&secrets, &network, number);
            assert!(memory.is_empty() && files.is_empty(), "{when}, relay {number}: {memory:?}, on disk {files:?}");
        }
    };
    nothing("when they have met");

    assert_eq!(at_bob.program.stop(Signal::TERM).0.code(), 0);
    let sending = Program::start(&mut scene.alice.command(&["send", BOB, TEXT, "--wait", "accepted"]));
    nothing("while a letter is left");
    assert_eq!(sending.wait(PATIENCE).code(), 0);
    nothing("while a letter waits");
    every_search_finds_what_is_there(&network, &secrets, &people, &scene);

    let reading = Program::start(&mut scene.bob.command(&["inbox"]));
    nothing("while a letter is fetched");
    let read = reading.wait(PATIENCE);
    assert!(read.stdout.contains(TEXT) && read.stdout.contains(ALICE), "{} {}", read.stdout, read.stderr);
    scene.send_a_file();
    nothing("when all has come");
}

/// The searches that found nothing in relays find what is there: at Alice's, and in relays what they rightly know.
fn every_search_finds_what_is_there(network: &RealNetwork, secrets: &Search, people: &[Public; 2], scene: &Scene) {
    let start = Instant::now();
    let expected = ["Alice's address", "Bob's address", "Bob's name", "the letter"].map(str::to_owned);
    loop {
        let found = secrets.memory(&scene.at_alice.program).names;
        if expected.iter().all(|name| found.contains(name)) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "of its own letters Alice's program has only {found:?}");
        assert_eq!(scene.alice.run(&["history", BOB]).code(), 0); // so it has to look at them again
    }
    let kept = people.iter().flat_map(|person| [person.requests.encode(), person.prekeys.encode()]).collect::<Vec<_>>();
    let mut keep = 0;
    for number in 1..=RELAYS {
        let relay: RelayId = network.status(number).id.parse().unwrap();
        let own = Search::new(&[
            ("its id", relay.as_bytes()),
            ("Alice's request inbox", &kept[0]),
            ("Alice's prekeys", &kept[1]),
            ("Bob's request inbox", &kept[2]),
            ("Bob's prekeys", &kept[3]),
        ]);
        let (memory, files) = search(&own, network, number);
        assert!(memory.contains("its id") && files.contains("its id"), "relay {number}: {memory:?}, {files:?}");
        keep += usize::from(memory.contains("Bob's request inbox") && files.contains("Bob's request inbox"));
    }
    assert!(keep >= 3, "a greeting came to {keep} relays");
}

/// What of it is in the memory of a relay, and what on its disk.
fn search(search: &Search, network: &RealNetwork, number: u8) -> (BTreeSet<String>, BTreeSet<String>) {
    let memory = search.memory(network.relay(number)).names;
    (memory, search.files(&network.relay_directory(number).join("data")).names)
}

/// All that no relay is to have.
fn secrets(people: &[Public; 2]) -> Search {
    let mut wanted: Vec<(String, Vec<u8>)> = Vec::new();
    for (whose, person) in ["Alice's", "Bob's"].into_iter().zip(people) {
        let mut add = |what: &str, bytes: &[u8]| wanted.push((format!("{whose} {what}"), bytes.to_vec()));
        add("address", person.address.as_bytes());
        add("address as text", person.text.as_bytes());
        add("address as text in capitals", person.text.to_uppercase().as_bytes());
        add("Olm identity key", &person.keys.identity);
        add("X-Wing key", &person.keys.xwing);
        person.keys.fallback.iter().for_each(|key| add("Olm fallback key", key));
    }
    let texts = [
        ("Bob's name", BOB),
        ("Alice's name", ALICE),
        ("the greeting", GREETING),
        ("the letter", TEXT),
        ("the file's name", FILE),
        ("the file", CONTENT),
    ];
    wanted.extend(texts.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())));
    let wanted: Vec<_> = wanted.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    Search::new(&wanted)
}

impl Scene {
    /// Bob's program runs, too.
    fn new(network: &RealNetwork) -> (Self, RealClient) {
        let directory = tempfile::tempdir().unwrap();
        let [alice, bob] = ["alice", "bob"].map(|name| Person::new(name, directory.path(), network));
        let (at_alice, at_bob) = (alice.up(), bob.up());
        let invite = bob.json(&["invite", "create"]);
        let link = invite["invite"]["link"].as_str().unwrap();
        assert_eq!(alice.run(&["contact", "add", link, BOB, "--greeting", GREETING]).code(), 0);
        alice.await_contact(|contact| contact["name"] == BOB && contact["standing"] == "accepted");
        let of_bob = bob.await_contact(|contact| contact["greeting"] == GREETING);
        assert_eq!(bob.run(&["contact", "rename", of_bob["name"].as_str().unwrap(), ALICE]).code(), 0);
        (Self { alice, bob, at_alice, _directory: directory }, at_bob)
    }

    fn send_a_file(&self) {
        let _at_bob = self.bob.up();
        let (path, bytes) = (self.bob.directory.join(FILE), CONTENT.repeat(20_000));
        fs::write(&path, &bytes).unwrap();
        assert_eq!(self.bob.run(&["file", "send", ALICE, path.to_str().unwrap()]).code(), 0);
        let start = Instant::now();
        while self.alice.json(&["file", "list"])["files"].as_array().unwrap().is_empty() {
            assert!(start.elapsed() < 2 * PATIENCE, "no file is offered");
        }
        let saved = self.alice.directory.join("saved");
        let taken = self.alice.run(&["file", "accept", BOB, FILE, "--to", saved.to_str().unwrap()]);
        assert_eq!(taken.code(), 0, "{} {}", taken.stdout, taken.stderr);
        assert!(fs::read(saved).unwrap() == bytes.as_bytes());
    }
}

impl Public {
    fn of(person: &Person, network: &NetworkId, relays: &RealNetwork) -> Self {
        let text = person.json(&["id", "show"])["me"]["address"].as_str().unwrap().to_owned();
        let address: Address = text.parse().unwrap();
        let now = UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
        let of = PrekeysOf::new(network, address, Week::of(now, prekeys::offset(&address)));
        let found = (1..=RELAYS).find_map(|number| prekeys_on(&of, now, &relays.relay_directory(number).join("data")));
        Self {
            address,
            text: text.trim_end_matches(".trefoil").to_owned(),
            requests: Inbox::request(network, address, Day::of(now)).placement(),
            prekeys: of.placement(),
            keys: found.expect("some relay keeps the prekeys, and they open for who knows the address"),
        }
    }
}

/// The prekeys that stand somewhere in the mailboxes' file, as anyone opens them who knows the address.
fn prekeys_on(of: &PrekeysOf<'_>, now: UnixSeconds, data: &Path) -> Option<Prekeys> {
    let file = fs::read(data.join(MAILBOX_FILE)).unwrap();
    let records = file.windows(PrekeysRecord::LENGTH).filter(|window| window[0] == 1); // the version
    // Their revision is a time of this month, or shifted by less than 2^24 s, as few other bytes are: so there are not
    // many records to try.
    let lately = now.0 - MONTH..now.0 + MONTH + (1 << 24);
    let is_lately = |revision: &[u8]| lately.contains(&u32::from_le_bytes(revision.try_into().unwrap()).into());
    let mut records = records.filter(|window| is_lately(&window[1..5]));
    records.find_map(|window| of.open(&PrekeysRecord::from_bytes(window.try_into().unwrap())).ok())
}
