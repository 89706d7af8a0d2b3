//! What one mailbox is told on different circuits: nothing is in two of them but where letters lie, and the letters.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use trefoil_protocol::{
    blind::BlindUse,
    envelope::LetterId,
    mailbox::{Ask, FRAME_HEADER, Owned, Postage, Request},
    ring::Placement,
};

use super::world::{Asked, World, texts};

/// A circuit to a mailbox: whose, and its name.
type Circuit = (usize, [u8; 32]);

/// Bytes that are no coincidence, if they are equal.
const PIECE: usize = 16;
/// Before what is compared there stand a frame's length and type, and the placement.
const HEAD: usize = FRAME_HEADER + 1 + Placement::LENGTH;
/// Types of requests.
const DEPOSIT: u8 = 1;
const REGISTER: u8 = 4;
const PUBLISH: u8 = 8;
/// Bytes.
const STAMP: usize = 12;
const CLAIM: usize = 64;
const HOURS: usize = 2;
/// Bytes of a record's version and revision.
const VERSION: usize = 1 + 4;

/// Three people who write to each other for nine days, one of whom is away at times and blocks another.
fn nine_days() -> World {
    let mut world = World::new(5, 3);
    let (alice_of_bob, bob) = world.meet(1, 0);
    let (alice_of_carol, carol) = world.meet(2, 0);
    for day in 0..9 {
        world.people[0].online = day % 4 != 1;
        world.people[1].write(alice_of_bob, &format!("bob, {day}"), world.now);
        world.people[2].write(alice_of_carol, &format!("carol, {day}"), world.now);
        world.people[0].write(bob, &format!("to bob, {day}"), world.now);
        world.run(86_400);
    }
    assert_eq!(texts(&world, 0, carol).len(), 9);
    let now = world.now;
    world.people[0].letters().block(bob, now).unwrap();
    world.run(86_400);
    world
}

/// The pieces that stand on more than one of a mailbox's circuits, and on which.
fn repeated(tape: &[Asked]) -> BTreeMap<[u8; PIECE], BTreeSet<Circuit>> {
    let (mut first, mut again) = (HashMap::new(), BTreeMap::<_, BTreeSet<_>>::new());
    for asked in tape {
        let circuit = (asked.person, asked.circuit);
        for piece in pieces(&asked.request) {
            let before = *first.entry((asked.mailbox, piece)).or_insert(circuit);
            if before != circuit {
                again.entry(piece).or_default().extend([before, circuit]);
            }
        }
    }
    again
}

/// All pieces of what is asked, but for the placement, and for stamps with what stands before them: a day, and a number
/// that is soon found here. Of a list of tickets, the tickets.
fn pieces(request: &[u8]) -> Vec<[u8; PIECE]> {
    let (kind, body) = (request[FRAME_HEADER], &request[HEAD..]);
    let piece = |bytes: &[u8]| -> [u8; PIECE] { bytes.try_into().unwrap() };
    let is_stamped = request[FRAME_HEADER + 1] == BlindUse::RequestInbox as u8;
    match kind {
        REGISTER => {
            let (tickets, claim) = (&body[1..body.len() - STAMP - CLAIM], &body[body.len() - CLAIM..]);
            tickets.chunks_exact(PIECE).chain(claim.windows(PIECE)).map(piece).collect()
        }
        PUBLISH => body[STAMP + VERSION..].windows(PIECE).map(piece).collect(),
        DEPOSIT if is_stamped => body[HOURS + STAMP..].windows(PIECE).map(piece).collect(),
        _ => body.windows(PIECE).map(piece).collect(),
    }
}

fn placement(asked: &Asked) -> [u8; Placement::LENGTH] {
    asked.request[FRAME_HEADER + 1..HEAD].try_into().unwrap()
}

#[test]
fn nothing_is_equal_on_two_circuits_to_a_mailbox_but_the_placement_of_an_inbox() {
    let mut world = nine_days();
    let again = repeated(&world.tape);
    assert_eq!(again.len(), 0, "{again:?}");
    let circuits: BTreeSet<_> = world.tape.iter().map(|asked| (asked.person, asked.circuit, asked.mailbox)).collect();
    assert!(circuits.len() > 200, "{} circuits", circuits.len());

    // What is asked on one circuit is seen, were it asked on another.
    let copied = world.tape.iter().rposition(|asked| asked.request.len() > 1000).unwrap();
    let Asked { mailbox, from, to, ref request, .. } = world.tape[copied];
    let copy = Asked { person: 0, mailbox, circuit: [0; 32], from, to, request: request.clone(), answer: None };
    let expected = pieces(request).len();
    world.tape.push(copy);
    assert_eq!(repeated(&world.tape).len(), expected);
}

#[test]
fn a_placement_is_on_the_circuits_of_its_owner_and_of_who_writes_there_and_each_has_one_for_it() {
    let world = nine_days();
    let mut circuits = BTreeMap::<_, BTreeMap<_, BTreeSet<_>>>::new();
    for asked in &world.tape {
        let of = circuits.entry((asked.mailbox, asked.circuit)).or_default();
        of.entry(asked.person).or_default().insert(placement(asked));
    }
    for placements in circuits.values().flat_map(BTreeMap::values) {
        assert_eq!(placements.len(), 1, "no circuit is for two inboxes, days or weeks");
    }
    let sides = |asked: &Asked| matches!(Request::decode(&asked.request[FRAME_HEADER..]), Ok(Request::Owned(_)));
    let owned: BTreeSet<_> = world.tape.iter().filter(|asked| sides(asked)).map(|asked| asked.circuit).collect();
    let others: BTreeSet<_> = world.tape.iter().filter(|asked| is_deposit(asked)).map(|asked| asked.circuit).collect();
    assert!(!owned.is_empty() && !others.is_empty() && owned.is_disjoint(&others), "who writes never reads there, too");
}

/// What a mailbox can tell of a letter's two circuits, and is meant to.
#[test]
fn a_letter_that_is_fetched_is_the_one_that_was_left_and_its_ticket_one_of_the_owners_list() {
    let world = nine_days();
    let (mut fetched, mut of_lists) = (0, 0);
    let left: BTreeSet<_> = world.tape.iter().filter_map(|asked| Some((asked.mailbox, letter_left(asked)?))).collect();
    let lists = world.tape.iter().filter(|asked| asked.request[FRAME_HEADER] == REGISTER);
    let hashes: BTreeSet<_> = lists.flat_map(|asked| pieces(&asked.request)).collect();
    for asked in &world.tape {
        match Request::decode(&asked.request[FRAME_HEADER..]).unwrap() {
            Request::Owned(Owned { ask: Ask::Fetch(letter), .. }) => {
                fetched += 1;
                assert!(left.contains(&(asked.mailbox, letter)));
            }
            Request::Deposit(deposit) => {
                let Postage::Ticket(ticket) = deposit.postage else { continue };
                of_lists += usize::from(hashes.contains(&ticket.hash().0));
            }
            _ => {}
        }
    }
    assert!(fetched > 20 && of_lists > 20, "{fetched} fetched, {of_lists} with a ticket that is in a list");
}

fn letter_left(asked: &Asked) -> Option<LetterId> {
    match Request::decode(&asked.request[FRAME_HEADER..]) {
        Ok(Request::Deposit(deposit)) => Some(LetterId::of(deposit.envelope)),
        _ => None,
    }
}

fn is_deposit(asked: &Asked) -> bool {
    letter_left(asked).is_some()
}
