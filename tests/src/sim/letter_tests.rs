//! Scenarios of letters: people who write to each other through the mailboxes of a simulated network.

use std::{sync::Arc, time::Duration};

use data_encoding::BASE64;
use tokio::time::{Instant, sleep, timeout};
use trefoil_client::{
    control::{Answer, Contact, Delivery, Event, FileState, Letter, Request, Said, Standing},
    desk::{About, Desk},
    letters::{
        Letters, Settings,
        vault::{Memory, Place, Unlock},
    },
    postman,
    tunnel::Client,
};
use trefoil_protocol::{
    crypto::{PassphraseCost, Secret},
    limits::TICKETS_BOUGHT,
};
use trefoil_relay::clock::Clock;

use super::{
    gossip_tests::{know, numbers, plan, until},
    nodes::{Plan, START, SimNetwork},
};

const SOON: Duration = Duration::from_secs(60);

/// A person whose program runs.
struct Person {
    desk: Arc<Desk>,
    _client: Client,
}

async fn network(seed: u64) -> SimNetwork {
    let network = Plan { mailboxes: true, ..plan(seed, 10) }.start();
    let all = numbers(1..=10);
    until(SOON, "all know all", || know(&network, &all, &all)).await;
    network
}

async fn person(network: &SimNetwork, started: Instant, number: u8) -> Person {
    let client = network.client().await;
    let clock = Clock::Simulated { at: started, unix: START };
    let settings = Settings { spread: 2, receipt: 1, room: TICKETS_BOUGHT, ..Settings::default() };
    let cost = PassphraseCost { kib: 1 << 10, passes: 1 };
    let secret = |seed: u8| Secret::new([seed; 32]);
    let letters = Letters::create(
        &Place::Memory(Memory::default()),
        &Unlock::Passphrase("correct horse", cost),
        (&secret(number), "a person"),
        (network.params().id(), settings),
        (clock.now(), &secret(100 + number)),
    );
    let about = About {
        profile: "default".parse().unwrap(),
        network: "simulated".to_owned(),
        id: network.params().id(),
        clock,
        named: vec![],
    };
    let desk = Desk::new(letters.unwrap(), client.clone(), about);
    tokio::spawn(postman::run(Arc::clone(&desk), client.clone()));
    Person { desk, _client: client }
}

impl Person {
    async fn ask(&self, request: Request) -> Answer {
        self.desk.handle(request).await.unwrap()
    }

    async fn address(&self) -> String {
        let Answer::Me(me) = self.ask(Request::Me).await else { panic!("who am I?") };
        me.address
    }

    async fn contact(&self, name: &str) -> Option<Contact> {
        let Answer::Contacts(contacts) = self.ask(Request::Contacts).await else { panic!("contacts") };
        contacts.into_iter().find(|contact| contact.name == name || contact.address == name)
    }

    async fn send(&self, to: &str, text: &str) -> Letter {
        let request = Request::Send { contact: to.to_owned(), text: text.to_owned() };
        let Answer::Letter(letter) = self.ask(request).await else { panic!("a letter") };
        letter
    }

    /// The texts that have come and were not shown; they are shown now.
    async fn read(&self) -> Vec<String> {
        let request = Request::History { contact: None, since: None, search: None, unread: true, most: None };
        let Answer::Letters(letters) = self.ask(request).await else { panic!("letters") };
        let mut texts = vec![];
        for letter in letters {
            let shown = Request::Shown { contact: letter.contact.clone(), letters: vec![letter.id.clone()] };
            self.ask(shown).await;
            if let Said::Text { text } = letter.said {
                texts.push(text);
            }
        }
        texts
    }
}

/// Waits until something is so, which is asked every second.
async fn wait<T>(most: Duration, what: &str, mut is: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    let start = Instant::now();
    let found = timeout(most, async {
        loop {
            if let Some(found) = is().await {
                return found;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let found = found.await.unwrap_or_else(|_| panic!("{what} within {most:?}"));
    (found, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn somebody_asks_is_accepted_writes_and_is_told_that_it_came() {
    let started = Instant::now();
    let network = network(1).await;
    let (alice, bob) = (person(&network, started, 1).await, person(&network, started, 2).await);
    let (of_alice, of_bob) = (alice.address().await, bob.address().await);
    sleep(Duration::from_secs(120)).await; // prekeys and tickets are at the mailboxes
    let add = Request::Add { who: of_bob, name: "bob".to_owned(), greeting: "it's me".to_owned() };
    alice.ask(add).await;
    let hour = Duration::from_secs(3 * 3600);
    let (asks, took) = wait(hour, "bob is asked", async || bob.contact(&of_alice).await).await;
    println!("asked after {took:?}");
    assert_eq!((asks.standing, asks.greeting.as_str()), (Standing::Asks, "it's me"));
    bob.ask(Request::Accept { contact: of_alice.clone() }).await;
    let accepted = async || alice.contact("bob").await.filter(|bob| bob.standing == Standing::Accepted);
    let (_, took) = wait(hour, "alice is accepted", accepted).await;
    println!("accepted after {took:?}");
    sleep(Duration::from_secs(600)).await;

    let mut events = alice.desk.events();
    let letter = alice.send("bob", "hi").await;
    assert_eq!(letter.delivery, Some(Delivery::Queued));
    let here = async || Some(bob.read().await).filter(|texts| !texts.is_empty());
    let (texts, took) = wait(hour, "it comes", here).await;
    println!("there after {took:?}");
    assert_eq!(texts, ["hi"]);
    let delivered = async {
        loop {
            if let Event::Letter(told) = events.recv().await.unwrap()
                && told.id == letter.id
                && told.delivery == Some(Delivery::Delivered)
            {
                return;
            }
        }
    };
    timeout(hour, delivered).await.expect("alice is told that it came");
}

/// Two people who are contacts by an invite: what the second calls the first is `alice`.
async fn contacts(network: &SimNetwork, started: Instant) -> (Person, Person) {
    let (alice, bob) = (person(network, started, 1).await, person(network, started, 2).await);
    let invite = Request::Invite { name: "bob".to_owned(), hours: 24, reusable: false };
    let Answer::Invite(invite) = alice.ask(invite).await else { panic!("an invite") };
    let (who, name) = (invite.link.expect("a new one has its link"), "alice".to_owned());
    bob.ask(Request::Add { who, name, greeting: String::new() }).await;
    let accepted = async || bob.contact("alice").await.filter(|alice| alice.standing == Standing::Accepted);
    let (_, took) = wait(Duration::from_secs(300), "bob is accepted", accepted).await;
    println!("accepted after {took:?}");
    (alice, bob)
}

#[tokio::test(start_paused = true)]
async fn a_talk_and_a_file_that_need_more_room_than_was_paid_for_get_it() {
    let started = Instant::now();
    let network = network(2).await;
    let (alice, bob) = contacts(&network, started).await;
    let most = Duration::from_secs(2 * 3600);
    bob.send("alice", "first").await;
    let soon = Duration::from_secs(10);
    let (_, took) = wait(soon, "the first letter comes", async || (alice.read().await.len() == 1).then_some(())).await;
    println!("the first letter after {took:?}");
    for batch in 0..3 {
        for number in 0..40 {
            bob.send("alice", &format!("{batch}, {number}")).await;
        }
        let mut texts = 0;
        let here = async || {
            texts += alice.read().await.len();
            (texts == 40).then_some(())
        };
        let (_, took) = wait(most, "forty letters come", here).await;
        println!("forty letters after {took:?}");
    }
    let bytes: Vec<u8> = (0..1_500_000u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let offer = Request::Offer { contact: "alice".to_owned(), name: "a".to_owned(), bytes: BASE64.encode(&bytes) };
    bob.ask(offer).await;
    let offered = async || {
        let Answer::Files(files) = alice.ask(Request::Files).await else { panic!("files") };
        files.into_iter().next()
    };
    let (file, _) = wait(most, "a file is offered", offered).await;
    let (contact, id) = (file.contact.clone(), file.id.clone());
    alice.ask(Request::Want { contact: contact.clone(), file: id.clone(), wanted: true }).await;
    let whole = async || offered().await.filter(|file| file.state == FileState::Whole);
    let (_, took) = wait(most, "the file is whole", whole).await;
    println!("the file after {took:?}");
    let Answer::Bytes(came) = alice.ask(Request::Bytes { contact, file: id }).await else { panic!("bytes") };
    assert!(BASE64.decode(came.as_bytes()).unwrap() == bytes);
}
