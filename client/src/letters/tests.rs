mod apart;
mod backup;
mod boxes;
mod crash;
mod gone;
mod lies;
mod presence;
mod size;
mod strangers;
mod world;

use trefoil_protocol::{crypto::PassphraseCost, limits::REPLICAS_ENOUGH};

use self::world::{Faults, World, texts};
use super::*;

#[test]
fn two_people_meet_by_address_and_write_to_each_other() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    world.people[1].write(bob, "hello", world.now);
    world.people[0].write(alice, "hi", world.now);
    world.run(3600);
    let mut all = texts(&world, 0, alice);
    all.sort();
    assert_eq!(all, ["< hello", "> hi"]);
    assert_eq!(texts(&world, 1, bob).len(), 2);
    assert!(world.all_delivered());
}

#[test]
fn whoever_is_online_has_a_letter_within_a_second() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    let before = world.now;
    world.people[1].write(bob, "now", before);
    world.run_until(10, |world| texts(world, 0, alice).iter().any(|text| text == "< now"));
    assert!(world.now.since(before) <= 1, "it took {} s", world.now.since(before));
}

#[test]
fn an_invite_makes_a_contact_of_whoever_comes_with_it_once() {
    let mut world = World::new(7, 3);
    let now = world.now;
    let token = world.people[0].letters().invite("Bob", now.plus(86_400), InviteUse::Once, now).unwrap();
    let address = world.people[0].letters().address();
    world.people[1].letters().request(&address, ("Alice", "hi"), Some(token), now).unwrap();
    world.run(3600);
    let known = world.people[0].letters().contacts().unwrap();
    assert_eq!((known[0].name.as_str(), known[0].standing), ("Bob", Standing::Accepted));
    assert_eq!(world.people[1].letters().contacts().unwrap()[0].standing, Standing::Accepted);

    let now = world.now;
    world.people[2].letters().request(&address, ("Alice", "me, too"), Some(token), now).unwrap();
    world.run(3600);
    let known = world.people[0].letters().contacts().unwrap();
    assert_eq!(known[1].standing, Standing::RequestedByThem, "it was used");
}

#[test]
fn an_invite_that_expired_or_was_revoked_is_a_request_like_any_other() {
    let mut world = World::new(7, 3);
    let now = world.now;
    let alice = world.people[0].letters();
    let late = alice.invite("late", now.plus(10), InviteUse::Reusable, now).unwrap();
    let gone = alice.invite("gone", now.plus(86_400), InviteUse::Reusable, now).unwrap();
    alice.revoke(&gone, now).unwrap();
    let address = alice.address();
    world.now = now.plus(11);
    for (person, token) in [(1, late), (2, gone)] {
        let now = world.now;
        world.people[person].letters().request(&address, ("Alice", ""), Some(token), now).unwrap();
    }
    world.run(3600);
    let known = world.people[0].letters().contacts().unwrap();
    assert_eq!(known.len(), 2);
    assert!(known.iter().all(|known| known.standing == Standing::RequestedByThem));
}

#[test]
fn a_copy_of_a_profile_goes_on_as_another_device_and_nothing_is_taken_for_what_the_original_said() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    world.people[1].write(bob, "before", world.now);
    world.run(3600);
    let copy = world.people[1].copy();
    world.people[1].write(bob, "by the original, later", world.now);
    world.run(3600);
    let now = world.now;
    world.people[1].reopen(copy, now); // an older state: it has not said the last one
    let device = world.people[1].letters().begin_device(now);
    assert!(device.is_ok(), "{device:?}");
    world.people[1].write(bob, "by the copy", now);
    world.people[0].write(alice, "to the copy", now);
    world.run(3 * 3600);
    let heard = texts(&world, 0, alice);
    for text in ["< before", "< by the original, later", "< by the copy", "> to the copy"] {
        assert_eq!(heard.iter().filter(|heard| *heard == text).count(), 1, "{text}: {heard:?}");
    }
    assert!(texts(&world, 1, bob).contains(&"< to the copy".to_owned()));
}

#[test]
fn a_letter_waits_thirteen_days_for_its_reader() {
    let mut world = World::new(9, 2);
    let (bob, alice) = world.meet(1, 0);
    world.people[0].online = false;
    world.people[1].write(bob, "are you there?", world.now);
    world.run(13 * 86_400);
    assert!(
        matches!(world.deliveries(1, bob)[..], [Delivery::Accepted(count)] if usize::from(count) >= REPLICAS_ENOUGH)
    );
    world.people[0].online = true;
    world.run(6 * 3600);
    assert_eq!(texts(&world, 0, alice), ["< are you there?"]);
    assert!(world.all_delivered());
}

#[test]
fn whoever_asked_each_other_are_contacts_without_an_answer() {
    let mut world = World::new(7, 2);
    let now = world.now;
    let addresses = [0, 1].map(|at: usize| world.people[at].letters().address());
    world.people[0].letters().request(&addresses[1], ("Bob", ""), None, now).unwrap();
    world.people[1].letters().request(&addresses[0], ("Alice", ""), None, now).unwrap();
    world.run(2 * 3600);
    for person in 0..2 {
        assert_eq!(world.people[person].letters().contacts().unwrap()[0].standing, Standing::Accepted);
    }
}

#[test]
fn nobody_is_called_like_an_address() {
    let mut world = World::new(7, 3);
    let now = world.now;
    let [alice, bob] = [world.people[0].address, world.people[1].address];
    let mallory = world.people[2].letters();
    // As a program of Mallory's own may have it.
    let mut draft = mallory.vault.draft().unwrap();
    let mut person: PersonRow = draft.get(Shelf::Person, b"").unwrap().unwrap();
    person.name = bob.to_string();
    draft.put(Shelf::Person, b"", &person).unwrap();
    draft.keep().unwrap();
    mallory.request(&alice, ("alice", "it is me, Bob"), None, now).unwrap();
    world.run(3600);
    let known = world.people[0].letters().contacts().unwrap();
    let short = world.people[2].address.short();
    assert_eq!((known[0].name.as_str(), known[0].own_name.as_str()), (short.as_str(), ""));
    let (id, now, link) = (known[0].id, world.now, format!("Trefoil:{}", bob.short()));
    for name in [bob.to_string(), bob.to_string().to_uppercase(), format!("{bob} "), link] {
        let renamed = world.people[0].letters().rename(id, &name, now);
        assert!(matches!(renamed, Err(LettersError::Name)), "{name}");
    }
    world.people[0].letters().rename(id, "trefoil fan", now).unwrap();
}

#[test]
fn a_contact_that_is_blocked_reaches_nobody_and_all_others_do() {
    let mut world = World::new(7, 3);
    let (alice_of_bob, _) = world.meet(1, 0);
    let (alice_of_carol, carol) = world.meet(2, 0);
    let now = world.now;
    let bob = world.people[0].letters().contacts().unwrap()[0].id;
    world.people[0].letters().block(bob, now).unwrap();
    world.run(3600);
    world.people[1].write(alice_of_bob, "let me in", world.now);
    world.people[2].write(alice_of_carol, "hello", world.now);
    world.run(2 * 86_400);
    assert!(texts(&world, 0, bob).iter().all(|text| !text.contains("let me in")));
    assert!(texts(&world, 0, carol).contains(&"< hello".to_owned()));
    assert!(matches!(world.deliveries(1, alice_of_bob)[..], [Delivery::Queued(_) | Delivery::Accepted(_)]));
    assert!(matches!(world.people[0].letters().write(bob, "x", UnixSeconds(0)), Err(LettersError::Blocked)));
    [0, 2].into_iter().for_each(|at| world.people[at].online = false);
    world.run(14 * 86_400);
    assert_eq!(world.deliveries(1, alice_of_bob), [Delivery::Expired], "who is blocked sees it as never fetched");
}

#[test]
fn letters_to_a_contact_that_is_removed_have_failed() {
    let mut world = World::new(7, 2);
    let (bob, _) = world.meet(1, 0);
    world.people[0].online = false;
    world.people[1].write(bob, "on its way", world.now);
    world.run(600);
    let now = world.now;
    world.people[1].letters().remove(bob, now).unwrap();
    world.run(600);
    assert!(world.people[1].letters().contacts().unwrap().is_empty());
    assert!(matches!(world.people[1].letters().write(bob, "x", now), Err(LettersError::Unknown)));
}

#[test]
fn a_person_who_is_restored_from_the_phrase_is_met_again() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    world.people[1].write(bob, "before", world.now);
    world.run(3600);
    assert_eq!(texts(&world, 0, alice), ["< before"]);
    world.people[0].restore(world.now);
    world.people[1].write(bob, "after", world.now);
    world.run(3 * 86_400);
    let known = world.people[0].letters().contacts().unwrap();
    assert_eq!(known.len(), 1, "Bob's program has noticed, and asks");
    let (again, now) = (known[0].id, world.now);
    assert_eq!(known[0].standing, Standing::RequestedByThem);
    world.people[0].letters().accept(again, now).unwrap();
    world.run(2 * 86_400);
    assert!(texts(&world, 0, again).contains(&"< after".to_owned()), "{:?}", texts(&world, 0, again));
    assert!(world.all_delivered());
    world.people[0].write(again, "it is me", world.now);
    world.run(3600);
    assert!(texts(&world, 1, bob).contains(&"< it is me".to_owned()));
}

#[test]
fn letters_go_away_after_they_were_shown() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    let now = world.now;
    world.people[1].letters().set_timer(bob, 60, now).unwrap();
    world.run(600);
    world.people[1].write(bob, "burn", world.now);
    world.run(600);
    let letter = world.people[0].letters().conversation(alice).unwrap().last().unwrap().id;
    let now = world.now;
    world.people[0].letters().shown(alice, &[letter], now).unwrap();
    world.run(120);
    assert!(!texts(&world, 0, alice).contains(&"< burn".to_owned()));
}

#[test]
fn that_letters_were_read_is_told_where_both_tell_it() {
    for (tells, expected) in
        [([true, true], Delivery::Read), ([true, false], Delivery::Delivered), ([false, true], Delivery::Delivered)]
    {
        let mut world = World::new(7, 2);
        let (bob, alice) = world.meet(1, 0);
        let now = world.now;
        (0..2).for_each(|at| world.people[at].letters().set_tells_read(tells[at], now).unwrap());
        let letter = world.people[1].write(bob, "read me", world.now);
        world.run(600);
        let now = world.now;
        world.people[0].letters().shown(alice, &[letter], now).unwrap();
        world.run(600);
        assert_eq!(world.deliveries(1, bob), [expected], "{tells:?}");
    }
}

#[test]
fn a_file_comes_whole_when_it_is_wanted() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    let bytes: Vec<u8> = (0..2_000_000u32).map(|at| (at % 251) as u8).collect();
    let now = world.now;
    let file = world.people[1].letters().offer(bob, ("notes.txt", &bytes), now).unwrap();
    world.run(600);
    let now = world.now;
    world.people[0].letters().answer_file(alice, file, true, now).unwrap();
    world.run(7200);
    let now = world.now;
    let row = world.people[0].letters().file(alice, file, now).unwrap();
    assert_eq!((row.state, row.done), (FileState::Whole, row.pieces()));
    assert_eq!(world.people[0].letters().file_bytes(alice, file, now).unwrap(), bytes);
    assert_eq!(world.people[1].letters().file(bob, file, now).unwrap().state, FileState::Whole);
}

#[test]
fn the_disk_holds_no_name_no_address_and_no_word() {
    let mut world = World::new(7, 2);
    let (bob, _) = world.meet(1, 0);
    world.people[1].write(bob, "a secret that is long enough", world.now);
    world.run(600);
    let address = *world.people[0].letters().address().as_bytes();
    let text = world.people[0].letters().address().to_string();
    for person in &world.people {
        for part in [&address[..], text.as_bytes(), b"a secret that is long enough", b"person 0", b"person 1"] {
            assert!(!person.memory.holds(part), "{}", String::from_utf8_lossy(part));
        }
    }
}

#[test]
fn both_see_one_safety_number_and_others_another() {
    let world = World::new(1, 3);
    let addresses: Vec<_> = world.people.iter().map(|person| person.address).collect();
    let number = safety_number(&addresses[0], &addresses[1]);
    assert_eq!(number, safety_number(&addresses[1], &addresses[0]));
    assert_ne!(number, safety_number(&addresses[0], &addresses[2]));
    assert_eq!(number.len(), 12 * 6 - 1);
}

#[test]
fn a_letter_that_nobody_fetches_expires_and_is_said_to() {
    let mut world = World::new(7, 2);
    let (bob, _) = world.meet(1, 0);
    world.people[0].online = false;
    world.people[1].write(bob, "too late", world.now);
    world.run(15 * 86_400);
    assert_eq!(world.deliveries(1, bob), [Delivery::Expired]);
}

const CHEAP: PassphraseCost = PassphraseCost { kib: 1 << 10, passes: 1 };
const NONE: Faults = Faults { lost: 0, twice: 0, crash: 0 };

#[test]
fn a_contact_is_told_of_letters_as_late_as_the_person_wants_or_never() {
    let [usual, slow, never] = [Receipts::Usual, Receipts::Slow, Receipts::Off].map(|receipts| {
        let mut world = World::new(7, 2);
        let (bob, alice) = world.meet(1, 0);
        let now = world.now;
        world.people[0].letters().set_receipts(alice, receipts, now).unwrap();
        let told = |world: &World| world.deliveries(1, bob).iter().filter(|is| **is == Delivery::Delivered).count();
        for number in 1..=10 {
            world.people[1].write(bob, "hello", world.now);
            world.run_until(600, |world| told(world) == number);
        }
        (told(&world), world.now.since(now))
    });
    assert_eq!((usual.0, slow.0, never.0), (10, 10, 0));
    assert!(usual.1 < 10 * 20 && slow.1 > 3 * usual.1, "{usual:?}, {slow:?}");
}

#[test]
fn a_file_whose_offer_or_piece_expires_is_lost_and_can_be_asked_for_again() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    let (bytes, now) = (vec![7; 3 * 61_440], world.now);
    let file = world.people[1].letters().offer(bob, ("cat.jpg", &bytes), now).unwrap();
    world.run(600);
    let now = world.now;
    world.people[0].letters().answer_file(alice, file, true, now).unwrap();
    world.people[0].online = false; // its answer is not even sent
    world.run(15 * 86_400);
    world.people[0].online = true;
    world.run(3600);
    let state = |world: &mut World, person: usize, contact| {
        let now = world.now;
        world.people[person].letters().file(contact, file, now).unwrap().state
    };
    assert_eq!(state(&mut world, 1, bob), FileState::Offered, "the offer came, the answer expired");
    let now = world.now;
    world.people[0].letters().answer_file(alice, file, true, now).unwrap();
    world.run_until(600, |world| {
        world.people[1].read().vault.draft().unwrap().keys(Shelf::Outgoing, b"").unwrap().len() > 1
    });
    world.people[0].online = false; // the pieces are under way
    world.run(15 * 86_400);
    assert_eq!(state(&mut world, 1, bob), FileState::Lost);
    world.people[0].online = true;
    world.run(3600);
    let now = world.now;
    world.people[0].letters().answer_file(alice, file, true, now).unwrap();
    world.run(2 * 3600);
    assert_eq!((state(&mut world, 0, alice), state(&mut world, 1, bob)), (FileState::Whole, FileState::Whole));
    let now = world.now;
    assert_eq!(world.people[0].letters().file_bytes(alice, file, now).unwrap(), bytes);
}

#[test]
fn a_person_who_was_here_lately_asks_for_what_is_new_first() {
    let mut world = World::new(7, 1);
    world.run(10 * 86_400);
    let now = world.now;
    world.people[0].letters().note_asked(now).unwrap();
    let asked = |world: &mut World| {
        let memory = world.people[0].copy();
        world.people[0].reopen(memory, world.now);
        let (now, ring) = (world.now, world.ring());
        let (errands, _) = world.people[0].letters().errands(now, &ring).unwrap();
        errands.iter().filter(|errand| format!("{errand:?}") == "Errand(list)").count()
    };
    // today's request inbox, yesterday's, this week's private one, and what of them ended within a day
    let lately = asked(&mut world);
    world.run(5 * 86_400 - 7200);
    let later = asked(&mut world);
    assert!(lately <= 4 * 5 && later >= lately + 4 * 5, "{lately} at once, {later} after five days away");
}

#[test]
fn a_letter_comes_within_minutes_though_the_mailbox_that_its_reader_watches_is_gone() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    for down in 0..world.boxes.len() {
        world.boxes[down].up = false;
        world.run(600);
        let (text, before) = (format!("without {down}"), world.now);
        world.people[1].write(bob, &text, before);
        world.run_until(86_400, |world| texts(world, 0, alice).contains(&format!("< {text}")));
        let took = world.now.since(before);
        assert!(took <= 180, "without mailbox {down} it took {took} s");
        world.boxes[down].up = true;
        world.run(2 * 3600);
    }
}

#[test]
fn letters_come_at_once_around_the_turn_of_a_week() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    for turns in 0..9 {
        let now = world.now;
        let turn = world.people[0].letters().change(now, |work| Ok(work.until_turn())).unwrap();
        world.run(turn - 5);
        for at in 0..10 {
            let (text, before) = (format!("{turns}, {at}"), world.now);
            world.people[1].write(bob, &text, before);
            world.run_until(86_400, |world| texts(world, 0, alice).contains(&format!("< {text}")));
            let took = world.now.since(before);
            assert!(took <= 60, "{text}: it took {took} s");
            world.run(2);
        }
    }
}
