//! Scenarios of mailboxes: letters through circuits, on relays that anyone can compute.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use trefoil_client::{
    mailbox::{Mailbox, MailboxError},
    tunnel::Client,
};
use trefoil_protocol::{
    address::AddressSecret,
    envelope::{LetterId, SizeClass},
    identity::RelayId,
    inbox::{Channel, Inbox, Whereabouts},
    limits::MAILBOX_IDLE,
    mailbox::{Answer, Ask, Deposit, Listed, Owned, Postage, Refusal, Request},
    message::{Reason, Target},
    params::NetworkId,
    period::{Day, Week},
    puzzle::Hour,
    stamp::{self, Fullness, Minting, Stamp, Stamped},
    ticket::{ListOf, TicketKey, TicketList},
    tombstone::Tombstone,
};
use trefoil_relay::pump::StreamError;
use zeroize::Zeroizing;

use super::{
    gossip_tests::{await_all, plan, settled, until},
    nodes::{Plan, START, SimNetwork},
    transfer_tests::isolation,
};

/// Somebody with an inbox for strangers, and one for contacts.
pub(super) struct Person {
    network: NetworkId,
    secret: AddressSecret,
    pub(super) requests: Inbox,
    private: Inbox,
}

impl Person {
    pub(super) fn new(network: &SimNetwork, number: u8) -> Self {
        let network = network.params().id();
        let secret = AddressSecret::from_bytes(&Zeroizing::new([number; 32]));
        let at = Whereabouts::of_self(secret.address());
        let requests = Inbox::request(&network, secret.address(), Day::of(START));
        let private = Inbox::private(&network, secret.address(), &at, Week::of(START, at.offset()), &[number; 16]);
        Self { network, secret, requests, private }
    }

    fn claimed(&self, inbox: &Inbox, ask: Ask, channel: &Channel<'_>) -> Request<'static> {
        Request::Owned(Owned::sign(inbox.placement(), ask, channel, &inbox.secret(&self.secret)))
    }

    pub(super) fn stamp(&self, inbox: &Inbox, letter: LetterId, bits: u8) -> Stamp {
        let stamped = Stamped { network: &self.network, inbox: &inbox.placement(), letter: &letter };
        Minting::new(stamped, bits, Day::of(START)).step(u32::MAX).expect("some hash will do")
    }

    /// A stranger's letter.
    fn letter<'a>(&self, envelope: &'a [u8]) -> Request<'a> {
        let postage = Postage::Stamp(self.stamp(&self.requests, LetterId::of(envelope), stamp::price(0)));
        Request::Deposit(Deposit { inbox: self.requests.placement(), hours: 336, postage, envelope })
    }

    async fn waits_for(&self, mailbox: &mut Mailbox, inbox: &Inbox, after: u64, patience: u16) -> (u64, Vec<Listed>) {
        let list = self.claimed(inbox, Ask::List { after, patience }, &mailbox.channel());
        match mailbox.ask(&list).await.expect("a list").answer() {
            Answer::Letters { next, letters } => (next, letters),
            other => panic!("{other:?}"),
        }
    }

    async fn letters(&self, mailbox: &mut Mailbox) -> Vec<LetterId> {
        let (_, letters) = self.waits_for(mailbox, &self.requests, 0, 0).await;
        letters.iter().map(|listed| listed.letter).collect()
    }
}

pub(super) fn envelope(number: u8, class: SizeClass) -> Vec<u8> {
    vec![number; class.bytes()]
}

fn with_mailboxes(seed: u64, relays: u8) -> Plan {
    Plan { mailboxes: true, ..plan(seed, relays) }
}

pub(super) async fn network(seed: u64, relays: u8) -> SimNetwork {
    let network = with_mailboxes(seed, relays).start();
    await_all(&network, relays).await;
    network
}

pub(super) fn id(network: &SimNetwork, number: u8) -> RelayId {
    network.entries()[usize::from(number) - 1].id
}

/// How many of these relays have the letter, by what they tell the owner.
async fn having(client: &Client, network: &SimNetwork, relays: &[u8], person: &Person, letter: LetterId) -> usize {
    let mut count = 0;
    for number in relays {
        let letters = person.letters(&mut open(client, id(network, *number)).await).await;
        count += usize::from(letters.contains(&letter));
    }
    count
}

async fn open(client: &Client, relay: RelayId) -> Mailbox {
    client.mailbox(relay).await.unwrap_or_else(|error| panic!("no mailbox: {error}"))
}

/// Deposits a stranger's letter, and checks the receipt.
async fn deposit(mailbox: &mut Mailbox, person: &Person, envelope: &[u8]) {
    let relay = *mailbox.channel().mailbox;
    let answered = mailbox.ask(&person.letter(envelope)).await.expect("it is kept");
    let Answer::Accepted(receipt) = answered.answer() else { panic!("{answered:?}") };
    let placement = person.requests.placement();
    assert!(receipt.is_of(&relay, &person.network, &placement, &LetterId::of(envelope)));
}

#[tokio::test(start_paused = true)]
async fn a_letter_goes_in_through_one_circuit_and_out_through_another() {
    let network = network(1, 8).await;
    let (stranger, owner) = (network.client().await, network.client().await);
    let person = Person::new(&network, 1);
    let (mut theirs, mut ours) = (open(&stranger, id(&network, 5)).await, open(&owner, id(&network, 5)).await);
    let hops: Vec<_> = ours.hops().iter().map(|hop| hop.relay.id).collect();
    assert!(hops.len() == 4 && hops[3] == id(&network, 5) && !hops[..3].contains(&hops[3]), "{hops:?}");
    for (number, class) in (0..).zip([SizeClass::Short, SizeClass::Middle]) {
        let envelope = envelope(number, class);
        deposit(&mut theirs, &person, &envelope).await;
        let letter = LetterId::of(&envelope);
        assert_eq!(person.letters(&mut ours).await, [letter]);
        let fetch = person.claimed(&person.requests, Ask::Fetch(letter), &ours.channel());
        assert_eq!(ours.ask(&fetch).await.unwrap().answer(), Answer::Letter(&envelope));
        let (key, placement) = (person.requests.secret(&person.secret), person.requests.placement());
        let tombstone = Tombstone::sign(&key, &person.network, &placement, letter, Hour(u32::MAX));
        ours.ask(&Request::Delete { inbox: placement, tombstones: vec![tombstone] }).await.unwrap();
        assert_eq!(person.letters(&mut ours).await, []);
        let refused = ours.ask(&fetch).await;
        assert!(matches!(refused, Err(MailboxError::Refused(Refusal::Gone))), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_letter_is_told_when_it_comes_and_after_its_patience_that_none_came() {
    let network = network(2, 8).await;
    let (contact, owner) = (network.client().await, network.client().await);
    let (person, relay) = (Person::new(&network, 1), id(&network, 3));
    let mut ours = open(&owner, relay).await;
    let (key, fill) = (TicketKey::from_bytes(&[5; 32]), TicketKey::from_bytes(&[6; 32]));
    let inbox = person.private.placement();
    let list = ListOf { inbox: &inbox, mailbox: &relay, list: 0 };
    let tickets = TicketList::new([(&key, 0..10)], &list, &fill).unwrap();
    let stamp =
        person.stamp(&person.private, stamp::left(&relay, 0, &tickets.encode()), stamp::list_price(Fullness::LOW));
    let register = person.claimed(&person.private, Ask::Register { list: 0, tickets, stamp }, &ours.channel());
    ours.ask(&register).await.unwrap();
    let envelope = envelope(1, SizeClass::Short);
    let postage = Postage::Ticket(key.ticket(&inbox, 1, &relay));
    let letter = Request::Deposit(Deposit { inbox, hours: 24, postage, envelope: &envelope });
    let start = Instant::now();
    let waiting = async {
        let page = person.waits_for(&mut ours, &person.private, 0, 600).await;
        (page, start.elapsed())
    };
    let depositing = async {
        sleep(Duration::from_secs(300)).await;
        open(&contact, relay).await.ask(&letter).await
    };
    let (((next, listed), took), deposited) = tokio::join!(waiting, depositing);
    assert!(deposited.is_ok(), "{deposited:?}");
    assert_eq!(listed.iter().map(|listed| listed.letter).collect::<Vec<_>>(), [LetterId::of(&envelope)]);
    assert!(took >= Duration::from_secs(300) && took < Duration::from_secs(302), "{took:?}");
    let start = Instant::now();
    assert_eq!(person.waits_for(&mut ours, &person.private, next, 600).await, (next, vec![]));
    assert!(start.elapsed() < Duration::from_secs(602), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_at_no_rank_says_that_it_does_not_keep_the_inbox() {
    let network = network(3, 17).await;
    let client = network.client().await;
    let mut without = Vec::new();
    for number in [1, 2] {
        let person = Person::new(&network, number);
        let mut not_here = Vec::new();
        for relay in network.entries() {
            let mut mailbox = open(&client, relay.id).await;
            let list = person.claimed(&person.requests, Ask::List { after: 0, patience: 0 }, &mailbox.channel());
            match mailbox.ask(&list).await {
                Ok(_) => {}
                Err(MailboxError::Refused(Refusal::NotHere)) => not_here.push(relay.id),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(not_here.len(), 2, "15 of 17 relays keep an inbox");
        without.push(not_here);
    }
    assert_ne!(without[0], without[1], "other relays for another inbox");
}

#[tokio::test(start_paused = true)]
async fn a_claim_counts_on_its_circuit_only() {
    let network = network(4, 8).await;
    let client = network.client().await;
    let person = Person::new(&network, 1);
    let (mut first, mut second) = (open(&client, id(&network, 3)).await, open(&client, id(&network, 3)).await);
    let list = person.claimed(&person.requests, Ask::List { after: 0, patience: 0 }, &first.channel());
    assert!(first.ask(&list).await.is_ok());
    let refused = second.ask(&list).await;
    assert!(matches!(refused, Err(MailboxError::Refused(Refusal::BadClaim))), "{refused:?}");
    assert_eq!(person.letters(&mut second).await, [], "a refusal spoils nothing");
}

#[tokio::test(start_paused = true)]
async fn a_stream_on_which_nothing_is_asked_ends_and_another_can_be_opened() {
    let network = network(7, 8).await;
    let client = network.client().await;
    let person = Person::new(&network, 1);
    let mut mailbox = open(&client, id(&network, 3)).await;
    sleep(MAILBOX_IDLE - Duration::from_secs(2)).await;
    assert_eq!(person.letters(&mut mailbox).await, []);
    sleep(MAILBOX_IDLE + Duration::from_secs(2)).await;
    let list = person.claimed(&person.requests, Ask::List { after: 0, patience: 0 }, &mailbox.channel());
    let refused = mailbox.ask(&list).await;
    assert!(matches!(refused, Err(MailboxError::Silent)), "{refused:?}");
    assert_eq!(person.letters(&mut open(&client, id(&network, 3)).await).await, []);
}

#[tokio::test(start_paused = true)]
async fn who_sends_no_frame_or_one_that_is_too_long_loses_the_stream_and_nobody_else_does() {
    let network = network(8, 8).await;
    let (hostile, client) = (network.client().await, network.client().await);
    let person = Person::new(&network, 1);
    let mut mailboxes = Vec::new();
    for relay in network.entries() {
        mailboxes.push(open(&client, relay.id).await);
    }
    for frame in [&u32::MAX.to_le_bytes()[..], &[0; 4], &[1, 0, 0, 0, 77], &[2, 0, 0, 0, 1, 1]] {
        let mut stream = hostile.open(&isolation(0), Target::Mailbox).await.unwrap();
        stream.send(frame).await.unwrap();
        let received = stream.receive(&mut Vec::new()).await;
        assert!(matches!(received, Err(StreamError::Closed(Reason::Reset))), "{frame:?}: {received:?}");
    }
    for mailbox in &mut mailboxes {
        assert_eq!(person.letters(mailbox).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_without_mailboxes_says_so_and_one_that_is_gone_is_told_apart() {
    let mut network = settled(5, 8).await;
    let client = network.client().await;
    let opened = client.mailbox(id(&network, 3)).await.map(|_| ());
    assert!(matches!(opened, Err(MailboxError::NotOpened(Reason::NotOffered))), "{opened:?}");
    let opened = client.mailbox(RelayId::from_bytes([1; 32])).await.map(|_| ());
    assert!(matches!(opened, Err(MailboxError::Unknown)), "{opened:?}");
    network.stop(3).await;
    let opened = client.mailbox(id(&network, 3)).await.map(|_| ());
    assert!(matches!(opened, Err(MailboxError::Silent)), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = with_mailboxes(6, 8).late(1).start();
    network.keep_letters(8, dir.path());
    network.start_again(8, &[1]);
    await_all(&network, 8).await;
    let (person, envelope) = (Person::new(&network, 1), envelope(1, SizeClass::Middle));
    let client = network.client_of(network.entries().to_vec());
    until(Duration::from_secs(60), "the client knows all", || client.status().usable == 8).await;
    deposit(&mut open(&client, id(&network, 8)).await, &person, &envelope).await;
    network.stop(8).await;
    network.start_again(8, &[1]);
    sleep(Duration::from_secs(20)).await;
    let mut mailbox = open(&client, id(&network, 8)).await;
    assert_eq!(person.letters(&mut mailbox).await, [LetterId::of(&envelope)]);
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_one_replica_has_comes_to_all_of_them_and_costs_its_sender_nothing_more() {
    let network = network(9, 8).await;
    let client = network.client().await;
    let (person, envelope) = (Person::new(&network, 1), envelope(1, SizeClass::Short));
    let (letter, all) = (LetterId::of(&envelope), [1, 2, 3, 4, 5, 6, 7, 8]);
    deposit(&mut open(&client, id(&network, 4)).await, &person, &envelope).await;
    sleep(REPAIR_ROUNDS).await;
    assert_eq!(having(&client, &network, &all, &person, letter).await, 8);
    let repaired = all.map(|number| network.relay(number).status().mailboxes.map_or(0, |of| of.repaired));
    assert_eq!(repaired.iter().sum::<u64>(), 7, "each took it once");
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_its_owner_has_deleted_at_one_replica_is_gone_from_all_and_does_not_come_back() {
    let network = network(10, 8).await;
    let client = network.client().await;
    let (person, envelope) = (Person::new(&network, 1), envelope(2, SizeClass::Short));
    let (letter, all) = (LetterId::of(&envelope), [1, 2, 3, 4, 5, 6, 7, 8]);
    for number in [2, 5] {
        deposit(&mut open(&client, id(&network, number)).await, &person, &envelope).await;
    }
    let (key, inbox) = (person.requests.secret(&person.secret), person.requests.placement());
    let tombstone = Tombstone::sign(&key, &person.network, &inbox, letter, Hour(u32::MAX));
    let delete = Request::Delete { inbox, tombstones: vec![tombstone] };
    open(&client, id(&network, 5)).await.ask(&delete).await.unwrap();
    sleep(REPAIR_ROUNDS).await;
    assert_eq!(having(&client, &network, &all, &person, letter).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_letter_outlives_all_relays_that_it_was_left_on() {
    let mut network = with_mailboxes(11, 12).late(4).start();
    let first: Vec<u8> = (1..=8).collect();
    let client = network.client_of(network.entries().to_vec());
    until(Duration::from_secs(120), "the client knows the first", || client.status().usable >= 8).await;
    let (person, envelope) = (Person::new(&network, 1), envelope(3, SizeClass::Short));
    let letter = LetterId::of(&envelope);
    for number in [1, 2, 3, 4] {
        deposit(&mut open(&client, id(&network, number)).await, &person, &envelope).await;
    }
    let late = [9, 10, 11, 12];
    for number in late {
        network.start_again(number, &first);
    }
    until(Duration::from_secs(300), "the client knows all", || client.status().usable == 12).await;
    sleep(REPAIR_ROUNDS).await;
    for number in [1, 2, 3, 4] {
        network.stop(number).await;
    }
    sleep(REPAIR_ROUNDS).await;
    let has = having(&client, &network, &late, &person, letter).await;
    assert!(has >= 3, "{has} of the four that came later");
}

/// Several rounds of repair among a few relays, in a network whose epochs are short.
pub(super) const REPAIR_ROUNDS: Duration = Duration::from_secs(60);
