//! What a stranger and a false friend can do, who know addresses and have programs of their own.

use trefoil_protocol::{
    address::AddressSecret,
    crypto::XWingSecret,
    envelope::Recipient,
    inbox::{Inbox, Whereabouts},
    letter::{Between, Contact, Content, Dispatch, Introduction, Letter, Place as Sequence, Published},
    limits::{CONTACTS, REQUESTS_WAITING, SALT_WEEKS},
    pass::Pass,
    period::{Day, Week},
    prekeys::{self, Prekeys, PrekeysOf},
    puzzle::Hour,
    ticket::TicketKey,
};

use super::{
    world::{NETWORK, World, texts},
    *,
};
use crate::letters::{
    rows::{Hidden, OutRow},
    session::{self, Sessions},
};

/// Somebody with keys, who writes what no program would.
struct Forger {
    secret: AddressSecret,
    account: Hidden,
    fallback: [u8; 32],
    sessions: Sessions,
    said: u32,
    rng: StdRng,
}

impl Forger {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut entropy = [0; 32];
        Rng::fill_bytes(&mut rng, &mut entropy);
        let (account, fallback) = session::new_account();
        let secret = Phrase::from_entropy(zeroize::Zeroizing::new(entropy)).address_secret();
        Self { secret, account, fallback, sessions: Sessions::default(), said: 0, rng }
    }

    fn letter(&mut self, content: Content) -> Letter {
        let (mut id, place) = ([0; 16], Sequence { device: 1, sequence: self.said });
        self.said = self.said.wrapping_add(1);
        Rng::fill_bytes(&mut self.rng, &mut id);
        Letter { id: MessageId(id), place, written: Hour(480_000), content }
    }

    /// A letter to this reader, in the name of whoever: `change` is done to what the ratchet encrypts.
    fn writes(
        &mut self,
        world: &mut World,
        (writer, reader): (Address, usize),
        content: Content,
        change: impl Fn(&mut Vec<u8>),
    ) {
        let (address, now) = (world.people[reader].address, world.now);
        let of = world.people[reader].letters().change(now, |work| work.published()).unwrap();
        let theirs = PrekeysOf::new(&NETWORK, address, of.week).open(&of.prekeys).unwrap();
        let mut text = (Between { network: &NETWORK, writer: &writer, reader: &address }).say(&self.letter(content));
        change(&mut text);
        let sealed = self.sessions.seal(&theirs.identity, &text).or_else(|| {
            let fallback = theirs.fallback[0];
            self.sessions.begin(&self.account, theirs.identity, fallback, 1)?;
            self.sessions.seal(&theirs.identity, &text)
        });
        let (form, message) = sealed.unwrap();
        let inbox = Inbox::request(&NETWORK, address, Day::of(now)).placement();
        let recipient = Recipient { network: &NETWORK, address: &address, inbox: &inbox, week: of.week };
        let dispatch = Dispatch { writer, form, message }.encode();
        world.leave(inbox, &recipient.seal(&theirs.xwing, &dispatch, &mut self.rng).unwrap());
    }

    /// A true request, in the forger's own name.
    fn asks(&mut self, world: &mut World, reader: usize, token: Option<[u8; 16]>) {
        let address = self.secret.address();
        let week = Week::of(world.now, prekeys::offset(&address));
        let (xwing, identity) = (XWingSecret::generate(&mut self.rng), session::identity(&self.account).unwrap());
        let keys = Prekeys { xwing: xwing.public(), identity, device: 1, fallback: vec![self.fallback] };
        let prekeys = PrekeysOf::new(&NETWORK, address, week).seal(&keys, 1, &self.secret, &mut self.rng);
        let (whereabouts, tickets) = (Whereabouts::generate(&mut self.rng), TicketKey::generate(&mut self.rng));
        let salts = vec![[1; 16]; usize::try_from(SALT_WEEKS).unwrap()];
        let pass = Pass { whereabouts, tickets, count: 10, first: Week(2900), salts };
        let of = Published { week, prekeys };
        let introduction = Introduction { of, token, greeting: String::new() };
        let own = Contact { name: "Mallory".to_owned(), pass };
        self.writes(world, (address, reader), Content::Request(own, Box::new(introduction)), |_| {});
    }
}

/// What a program asked mailboxes for.
fn asked(world: &World, person: usize, what: &str) -> usize {
    world.people[person].asked.get(&format!("Errand({what})")).copied().unwrap_or(0)
}

fn text(words: &str) -> Content {
    Content::Text(words.to_owned())
}

#[test]
fn nobody_writes_in_the_name_of_a_contact() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    let of_bob = world.people[1].address;
    for number in 0..10 {
        let mut mallory = Forger::new(number);
        mallory.writes(&mut world, (of_bob, 0), text("a"), |bytes| bytes[16] = 2); // of a version to come
        world.run(3600);
        mallory.writes(&mut world, (of_bob, 0), text("it's Bob"), |_| {});
        mallory.writes(&mut world, (of_bob, 0), Content::Timer(1), |_| {});
        world.run(3600);
    }
    let unreadable = |news: &News| matches!(news, News::Unreadable { .. } | News::Renewed { .. });
    assert!(!world.people[0].news.iter().any(unreadable));
    assert_eq!(texts(&world, 0, alice), [""; 0]);
    world.people[1].write(bob, "it is really me", world.now);
    world.run(60);
    assert_eq!(texts(&world, 0, alice), ["< it is really me"]);
    assert_eq!(world.people[0].read().contacts().unwrap()[0].timer, 0);
}

#[test]
fn letters_in_the_name_of_a_contact_lead_to_no_look_at_their_prekeys() {
    let mut world = World::new(7, 2);
    let (_, _alice) = world.meet(1, 0);
    let of_bob = world.people[1].address;
    let mut stranger = Forger::new(50);
    stranger.asks(&mut world, 0, None);
    world.run(2 * 3600);
    let before = asked(&world, 0, "look");
    Forger::new(1).writes(&mut world, (of_bob, 0), text("it's Bob"), |_| {});
    Forger::new(2).writes(&mut world, (stranger.secret.address(), 0), text("another device"), |_| {});
    world.run(2 * 3600);
    assert_eq!(asked(&world, 0, "look"), before);
}

#[test]
fn a_stranger_s_request_has_nothing_be_registered() {
    let mut world = World::new(7, 2);
    world.meet(1, 0);
    let before = asked(&world, 0, "register");
    for number in 0..5 {
        Forger::new(number).asks(&mut world, 0, None);
        world.run(2 * 3600);
    }
    let waiting = |known: &Known| known.standing == Standing::RequestedByThem;
    assert_eq!(world.people[0].read().contacts().unwrap().into_iter().filter(waiting).count(), 5);
    assert_eq!(asked(&world, 0, "register"), before);
}

#[test]
fn requests_of_strangers_keep_out_neither_whoever_is_invited_nor_whom_the_person_asks() {
    let mut world = World::new(7, 3);
    for number in 0..REQUESTS_WAITING + 10 {
        Forger::new(number as u64).asks(&mut world, 0, None);
    }
    world.run(2 * 3600);
    let known = world.people[0].read().contacts().unwrap();
    assert_eq!(known.len(), REQUESTS_WAITING);
    let now = world.now;
    let token = world.people[0].letters().invite("Bob", now.plus(86_400), InviteUse::Once, now).unwrap();
    let (alice, carol) = (world.people[0].address, world.people[2].address);
    world.people[1].letters().request(&alice, ("Alice", "hi"), Some(token), now).unwrap();
    world.people[0].letters().request(&carol, ("Carol", "hi"), None, now).unwrap();
    world.run(2 * 3600);
    let accepted = |name: &str| {
        let known = world.people[0].read().contacts().unwrap();
        known.iter().any(|known| known.name == name && known.standing == Standing::Accepted)
    };
    assert!(accepted("Bob"));
    let me = world.people[2].knows(&alice).unwrap();
    let now = world.now;
    world.people[2].letters().accept(me, now).unwrap();
    world.run(2 * 3600);
    let known = world.people[0].read().contacts().unwrap();
    assert!(known.iter().any(|known| known.name == "Carol" && known.standing == Standing::Accepted));
}

#[test]
fn an_invite_is_not_used_up_where_there_is_no_room() {
    let mut world = World::new(5, 1);
    let now = world.now;
    for number in 0..CONTACTS {
        let address = Forger::new(number as u64).secret.address();
        world.people[0].letters().request(&address, (&format!("{number}"), ""), None, now).unwrap();
    }
    let address = Forger::new(1000).secret.address();
    let more = world.people[0].letters().request(&address, ("one more", ""), None, now);
    assert!(matches!(more, Err(LettersError::TooMany)), "{more:?}");
    let token = world.people[0].letters().invite("Bob", now.plus(86_400), InviteUse::Once, now).unwrap();
    let mut bob = Forger::new(2000);
    bob.asks(&mut world, 0, Some(token));
    world.run(1200);
    let id = world.people[0].knows(&bob.secret.address()).unwrap();
    let standing = |world: &World| {
        let known = world.people[0].read().contacts().unwrap();
        known.into_iter().find(|known| known.id == id).unwrap().standing
    };
    assert_eq!(standing(&world), Standing::RequestedByThem);
    let now = world.now;
    assert!(matches!(world.people[0].letters().accept(id, now), Err(LettersError::TooMany)));
    world.people[0].letters().remove(1, now).unwrap();
    bob.asks(&mut world, 0, Some(token));
    world.run(1200);
    assert_eq!(standing(&world), Standing::Accepted);
}

/// Gives the next letter of a person, which is not sent yet, another name.
fn rename(world: &mut World, person: usize, letter: MessageId, name: MessageId) {
    let now = world.now;
    let renamed = world.people[person].letters().change(now, |work| {
        for (key, mut out) in work.draft.scan::<OutRow>(Shelf::Outgoing, b"")? {
            if out.id == letter.0 {
                let said = Letter { id: name, ..Letter::decode(&out.letter.0).unwrap() };
                out.letter = Hidden::new(&said.encode());
                work.draft.put(Shelf::Outgoing, &key, &out)?;
            }
        }
        Ok(())
    });
    renamed.unwrap();
}

#[test]
fn a_contact_puts_no_words_into_the_mouth_of_the_person() {
    let mut world = World::new(7, 2);
    let (alice_of_mallory, mallory) = world.meet(1, 0);
    world.people[1].online = false;
    let own = world.people[0].write(mallory, "my words", world.now);
    let file = offer(&mut world, mallory);
    world.run(600);
    world.people[1].online = true;
    for name in [own, file] {
        let false_one = world.people[1].write(alice_of_mallory, "false words", world.now);
        rename(&mut world, 1, false_one, name);
    }
    let bytes = [1; 100];
    let now = world.now;
    let offer = world.people[1].letters().offer(alice_of_mallory, ("false.txt", &bytes), now).unwrap();
    rename(&mut world, 1, offer, file);
    world.run(3 * 86_400);
    assert_eq!(texts(&world, 0, mallory), ["> my words"]);
    assert_eq!(world.deliveries(0, mallory), [Delivery::Delivered]);
    let now = world.now;
    assert_eq!(world.people[0].letters().file(mallory, file, now).unwrap().name, "true.txt");
}

fn offer(world: &mut World, contact: u32) -> MessageId {
    let now = world.now;
    world.people[0].letters().offer(contact, ("true.txt", &[7; 10]), now).unwrap()
}

#[test]
fn a_mailbox_that_lists_what_came_long_ago_has_no_receipts_be_sent() {
    let mut world = World::new(7, 2);
    let (bob, _) = world.meet(1, 0);
    world.people[1].write(bob, "once", world.now);
    world.run(3600);
    let before = asked(&world, 0, "deposit");
    world.boxes.iter_mut().for_each(|mailbox| mailbox.lie = boxes::Lie::Old);
    world.run(6 * 3600);
    assert_eq!(asked(&world, 0, "deposit"), before);
}

#[test]
fn a_contact_that_asks_again_and_again_is_answered_now_and_then() {
    let mut world = World::new(7, 2);
    let (_, mallory) = world.meet(1, 0);
    let said = |world: &World| {
        let lines = world.people[0].read().conversation(mallory).unwrap();
        lines.into_iter().filter(|line| line.is_ours && line.said == Said::Welcome).count()
    };
    let before = said(&world);
    for _ in 0..20 {
        let now = world.now;
        let again = world.people[1].letters().change(now, |work| {
            let mut contact = work.contacts()?.remove(0);
            work.send_request(&mut contact, "again").map(|_| ())
        });
        again.unwrap();
        world.run(600);
    }
    assert_eq!(said(&world), before + 1);
}

#[test]
fn who_removed_a_contact_and_asks_again_is_a_contact_again() {
    let mut world = World::new(7, 2);
    let (alice, bob) = world.meet(1, 0);
    world.people[1].write(alice, "before", world.now);
    world.run(3600);
    let now = world.now;
    world.people[1].letters().remove(alice, now).unwrap();
    world.run(3600);
    let (address, now) = (world.people[0].address, world.now);
    let again = world.people[1].letters().request(&address, ("Alice", "sorry"), None, now).unwrap();
    world.run(2 * 3600);
    world.people[1].write(again, "after", world.now);
    world.people[0].write(bob, "never mind", world.now);
    world.run(86_400);
    assert_eq!(texts(&world, 0, bob).len(), 3, "{:?}", texts(&world, 0, bob));
    assert!(texts(&world, 1, again).contains(&"< never mind".to_owned()));
    assert!(world.all_delivered());
}

#[test]
fn who_has_asked_and_is_invited_then_comes_with_the_invite() {
    let mut world = World::new(7, 2);
    let (address, now) = (world.people[0].address, world.now);
    world.people[1].letters().request(&address, ("Alice", "hi"), None, now).unwrap();
    world.run(3600);
    let now = world.now;
    let token = world.people[0].letters().invite("Bob", now.plus(86_400), InviteUse::Once, now).unwrap();
    world.people[1].letters().request(&address, ("Alice", "hi"), Some(token), now).unwrap();
    world.run(3600);
    assert_eq!(world.people[1].read().contacts().unwrap()[0].standing, Standing::Accepted);
    assert_eq!(world.people[0].read().contacts().unwrap()[0].standing, Standing::Accepted);
}

#[test]
fn who_asks_from_two_devices_in_a_row_is_answered_at_last() {
    let mut world = World::new(7, 2);
    let (_, bob) = world.meet(1, 0);
    for _ in 0..2 {
        world.people[1].restore(world.now);
        let (address, now) = (world.people[0].address, world.now);
        world.people[1].letters().request(&address, ("Alice", "it is me"), None, now).unwrap();
        world.run(1800);
    }
    world.run(2 * 86_400);
    let again = world.people[1].read().contacts().unwrap();
    assert_eq!(again[0].standing, Standing::Accepted);
    world.people[0].write(bob, "welcome back", world.now);
    world.run(3600);
    assert!(texts(&world, 1, again[0].id).contains(&"< welcome back".to_owned()));
}

#[test]
fn a_request_whose_place_can_be_none_is_fetched_once() {
    let mut world = World::new(7, 1);
    let mut stranger = Forger::new(1);
    stranger.said = u32::MAX;
    stranger.asks(&mut world, 0, None);
    world.run(2 * 3600);
    let before = asked(&world, 0, "fetch");
    world.run(12 * 3600);
    assert_eq!(asked(&world, 0, "fetch"), before);
    assert!(world.people[0].read().contacts().unwrap().is_empty());
}
