//! What is left on disk of somebody who was removed, and of letters that went away.

use super::*;

const TIMER: u32 = 86_400;

/// Bob has offered Alice a file that came whole, and Alice has offered one that is open: each one's number of the other,
/// and Bob's file.
fn files() -> (World, [u32; 2], MessageId) {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    let now = world.now;
    world.people[0].letters().offer(alice, ("mine.txt", &[1; 100_000]), now).unwrap();
    let file = world.people[1].letters().offer(bob, ("yours.txt", &[2; 100_000]), now).unwrap();
    world.run(600);
    want(&mut world, alice, file);
    world.run(3600);
    let now = world.now;
    assert_eq!(world.people[0].letters().file(alice, file, now).unwrap().state, FileState::Whole);
    (world, [alice, bob], file)
}

fn want(world: &mut World, alice: u32, file: MessageId) {
    let now = world.now;
    world.people[0].letters().answer_file(alice, file, true, now).unwrap();
}

fn see(world: &mut World, contact: u32, letter: MessageId) {
    let now = world.now;
    world.people[0].letters().shown(contact, &[letter], now).unwrap();
}

/// How many rows there are of what was said and sent.
fn rows(world: &World, person: usize) -> [usize; 4] {
    let draft = world.people[person].read().vault.draft().unwrap();
    [Shelf::Entry, Shelf::EntryOf, Shelf::File, Shelf::Piece].map(|shelf| draft.keys(shelf, b"").unwrap().len())
}

#[test]
fn nothing_is_left_of_a_contact_that_is_removed() {
    let (mut world, [alice, _], _) = files();
    assert!(rows(&world, 0).into_iter().all(|count| count > 0), "{:?}", rows(&world, 0));
    let now = world.now;
    world.people[0].letters().remove(alice, now).unwrap();
    world.run(600);
    assert_eq!(rows(&world, 0), [0; 4]);
}

#[test]
fn a_file_that_was_saved_is_not_kept_a_second_time() {
    let (mut world, [alice, _], file) = files();
    let now = world.now;
    let [entries, names, files, _] = rows(&world, 0);
    world.people[0].letters().file_saved(alice, file, now).unwrap();
    assert_eq!(rows(&world, 0), [entries, names, files - 1, 2], "but for the one that is offered");
    let again = world.people[0].letters().file_saved(alice, file, now);
    assert!(matches!(again, Err(LettersError::NoFile)));
}

#[test]
fn a_file_goes_away_with_its_letter() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    let now = world.now;
    world.people[1].letters().set_timer(bob, TIMER, now).unwrap();
    world.run(600);
    let before = [rows(&world, 0), rows(&world, 1)];
    let now = world.now;
    let file = world.people[1].letters().offer(bob, ("burn.txt", &[2; 100_000]), now).unwrap();
    world.run(600);
    see(&mut world, alice, file);
    want(&mut world, alice, file);
    world.run(3600);
    let now = world.now;
    assert_eq!(world.people[0].letters().file_bytes(alice, file, now).unwrap().len(), 100_000);
    world.run(3 * u64::from(TIMER));
    for (person, [entries, ..]) in before.into_iter().enumerate() {
        let [now, names, files, pieces] = rows(&world, person);
        assert_eq!((files, pieces), (0, 0), "of person {person}");
        assert_eq!(names, now, "of person {person}: no name leads nowhere");
        assert!(now <= entries, "of person {person}");
    }
}

#[test]
fn a_file_that_is_asked_for_after_the_time_of_its_letter_comes_and_stays_as_long() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    let now = world.now;
    world.people[1].letters().set_timer(bob, 60, now).unwrap();
    world.run(600);
    let now = world.now;
    let file = world.people[1].letters().offer(bob, ("late.txt", &[2; 1_000_000]), now).unwrap();
    world.run(600);
    see(&mut world, alice, file);
    want(&mut world, alice, file);
    let state = |world: &World| {
        let found = world.people[0].read().vault.draft().unwrap().scan::<FileRow>(Shelf::File, b"").unwrap();
        found.first().map(|(_, row)| row.state)
    };
    world.run_until(86_400, |world| state(world) == Some(FileState::Whole));
    let whole = world.now;
    world.run_until(86_400, |world| state(world).is_none());
    assert!(whole.plus(60) <= world.now && world.now <= whole.plus(120), "{} s", world.now.since(whole));
}

#[test]
fn a_file_that_nobody_asks_for_goes_away_in_the_end() {
    let mut world = World::new(7, 2);
    let (bob, _) = world.meet(1, 0);
    let now = world.now;
    world.people[1].letters().set_timer(bob, 60, now).unwrap();
    world.people[1].letters().offer(bob, ("late.txt", &[2; 100_000]), now).unwrap();
    world.run(13 * 86_400);
    assert_eq!(rows(&world, 1)[3], 2, "it can still be asked for");
    world.run(3 * 86_400);
    assert_eq!(rows(&world, 1)[2..], [0, 0]);
}

/// When the vault was written anew.
fn renewed(world: &World) -> u64 {
    world.people[0].read().vault.draft().unwrap().get(Shelf::Renewed, b"").unwrap().unwrap()
}

#[test]
fn what_is_removed_is_gone_from_the_disk_at_once_and_all_else_that_went_away_within_a_day() {
    let mut world = World::new(7, 2);
    let (_, alice) = world.meet(1, 0);
    for _ in 0..3 {
        world.run(86_400);
        assert!(world.now.0 <= renewed(&world) + 86_400);
    }
    world.run(3600);
    let now = world.now;
    world.people[0].letters().remove(alice, now).unwrap();
    world.run(10);
    assert!(renewed(&world) >= now.0);
    world.people[0].online = false;
    world.run(5 * 86_400);
    let (memory, now) = (world.people[0].memory.copy(), world.now);
    world.people[0].reopen(memory, now);
    world.people[0].online = true;
    world.run(10);
    assert!(renewed(&world) >= now.0, "also where it did not run for days");
}
