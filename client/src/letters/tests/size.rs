//! A long history costs nothing where it is not shown.

use super::{world::World, *};
use crate::letters::rows::EntryRow;

/// Rows that are read to start the program, to write, and to count what is unread, with so many letters in the history.
fn reads(history: usize) -> usize {
    let mut world = World::new(7, 2);
    let (_, alice) = world.meet(1, 0);
    let now = world.now;
    let entry = |number: usize| EntryRow {
        id: u128::try_from(number).unwrap().to_le_bytes(),
        place: (1, u32::try_from(number).unwrap()),
        written: 0,
        at: now.0,
        sent: None,
        shown: Some(now.0),
        timer: 0,
        said: Said::Text("words".into()),
    };
    let filled = world.people[0].letters().change(now, |work| {
        (0..history).try_for_each(|number| work.put_entry(alice, &entry(number)).map(|_| ()))?;
        Ok(())
    });
    filled.unwrap();
    let disk = world.people[0].copy();
    world.people[0].reopen(disk, now);
    world.people[0].write(alice, "one more", now);
    assert_eq!(world.people[0].read().waiting(alice).unwrap(), 1);
    world.people[0].read().unread(alice).unwrap();
    world.people[0].read().vault.reads()
}

#[test]
fn a_long_history_is_not_read_to_start_nor_to_write() {
    assert_eq!(reads(10), reads(1000));
}

#[test]
fn letters_count_as_unread_until_they_are_shown() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    let before = world.people[0].read().unread(alice).unwrap();
    let now = world.now;
    let letter = world.people[1].write(bob, "hello", now);
    assert_eq!(world.people[1].read().waiting(bob).unwrap(), 1);
    world.run(3600);
    assert_eq!(world.people[1].read().waiting(bob).unwrap(), 0);
    let unread = |world: &World| world.people[0].read().unread(alice).unwrap();
    assert_eq!(unread(&world), before + 1);
    let now = world.now;
    world.people[0].letters().shown(alice, &[letter], now).unwrap();
    assert_eq!(unread(&world), before);
    let line = world.people[0].read().line(alice, &letter).unwrap().unwrap();
    assert!(line.is_shown && !line.is_ours);
}
