use trefoil_protocol::limits::{USELESS_MOST, USELESS_PAUSE};

use super::boxes::{Box_, Lie};
use super::world::{World, texts};
use super::*;

/// Writes ten letters each way with some mailboxes that lie.
fn with_liars(lie: Lie, liars: usize) -> World {
    let mut world = World::new(9, 2);
    let (bob, alice) = world.meet(1, 0);
    world.boxes.iter_mut().take(liars).for_each(|mailbox| mailbox.lie = lie);
    for number in 0..10 {
        world.people[1].write(bob, &format!("{number}"), world.now);
        world.people[0].write(alice, &format!("{number}"), world.now);
        world.run(60);
    }
    world.run(5 * 86_400);
    assert!(world.all_delivered(), "{:?}", world.deliveries(1, bob));
    for (person, contact) in [(0, alice), (1, bob)] {
        let all = texts(&world, person, contact);
        for number in 0..10 {
            let times = all.iter().filter(|text| **text == format!("< {number}")).count();
            assert_eq!(times, 1, "{number} was shown {times} times: {all:?}");
        }
    }
    world
}

#[test]
fn mailboxes_that_drop_letters_lose_none() {
    with_liars(Lie::Drops, 4);
}

#[test]
fn mailboxes_that_claim_to_be_empty_lose_none() {
    with_liars(Lie::Empty, 4);
}

#[test]
fn all_five_replicas_that_claim_to_be_empty_keep_a_letter_for_two_days_at_most() {
    let mut world = World::new(20, 2);
    let (bob, alice) = world.meet(1, 0);
    let replicas = |world: &mut World| {
        let (now, ring) = (world.now, world.ring());
        world.people[0].letters().replicas(now, &ring).unwrap()
    };
    let before = replicas(&mut world);
    while replicas(&mut world) == before {
        world.run(86_400);
    }
    let five = replicas(&mut world);
    world.boxes.iter_mut().filter(|mailbox| five.contains(&mailbox.id())).for_each(|mailbox| mailbox.lie = Lie::Empty);
    for number in 0..5 {
        world.people[1].write(bob, &format!("{number}"), world.now);
    }
    world.run(2 * 86_400);
    assert_eq!(replicas(&mut world), five, "it is the same week");
    assert_eq!(texts(&world, 0, alice).len(), 5);
}

#[test]
fn mailboxes_that_return_old_letters_show_none_twice() {
    with_liars(Lie::Old, 4);
}

#[test]
fn a_receipt_for_another_letter_counts_for_nothing() {
    let mut world = World::new(5, 2);
    let (bob, _) = world.meet(1, 0);
    world.people[0].online = false;
    world.boxes.iter_mut().for_each(|mailbox| mailbox.lie = Lie::Forges);
    world.people[1].write(bob, "x", world.now);
    world.run(600);
    assert_eq!(world.deliveries(1, bob), [Delivery::Queued(0)]);
}

#[test]
fn all_replicas_gone_at_once_lose_no_letter() {
    let mut world = World::new(9, 2);
    let (bob, alice) = world.meet(1, 0);
    world.people[0].online = false;
    world.people[1].write(bob, "again", world.now);
    world.run(3600);
    assert!(matches!(world.deliveries(1, bob)[..], [Delivery::Accepted(_)]));
    world.boxes.iter_mut().for_each(Box_::burn);
    world.people[0].online = true;
    // What the owner left there is gone, too; it is registered again when the week changes, or a contact does.
    world.run(9 * 86_400);
    assert_eq!(texts(&world, 0, alice), ["< again"]);
    assert!(world.all_delivered());
}

#[test]
fn a_letter_whose_receipt_was_lost_is_sealed_again_and_shown_once() {
    let mut world = World::new(9, 2);
    let (bob, alice) = world.meet(1, 0);
    world.people[1].write(bob, "once", world.now);
    world.run_until(60, |world| texts(world, 0, alice) == ["< once"]);
    world.boxes.iter_mut().for_each(|mailbox| mailbox.lie = Lie::Drops);
    world.run(600);
    world.boxes.iter_mut().for_each(|mailbox| mailbox.lie = Lie::None);
    assert!(!world.all_delivered(), "the receipt was lost");
    world.run(3 * 86_400);
    assert_eq!(texts(&world, 0, alice), ["< once"]);
    assert!(world.all_delivered());
}

#[test]
fn a_mailbox_that_does_not_wait_is_not_asked_again_and_again() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    for mailbox in &mut world.boxes {
        (mailbox.lie, mailbox.lists) = (Lie::Hasty, 0);
    }
    world.people[1].online = false;
    world.run_until(6 * 3600, |world| world.boxes.iter().any(|mailbox| mailbox.lists > 2000));
    assert!(world.boxes.iter().all(|mailbox| mailbox.lists <= 2000));
    world.people[1].online = true;
    world.people[1].write(bob, "hello", world.now);
    world.run(600);
    assert_eq!(texts(&world, 0, alice), ["< hello"], "the others are looked at meanwhile");
    world.boxes.iter_mut().for_each(|mailbox| mailbox.lie = Lie::None);
    world.run(2 * 3600); // the one to watch is watched again
    let before = world.now;
    world.people[1].write(bob, "again", before);
    world.run_until(60, |world| texts(world, 0, alice).len() == 2);
    assert!(world.now.since(before) <= 1);
}

/// Two hundred letters wait, and some mailboxes lie.
fn with_many_waiting(liars: usize, lie: Lie) {
    let mut world = World::new(5, 2);
    let (bob, alice) = world.meet(1, 0);
    world.people[0].online = false;
    let all: Vec<_> = (0..200).map(|number| format!("{number}")).collect();
    for text in &all {
        world.people[1].write(bob, text, world.now);
    }
    world.run(600);
    world.boxes.iter_mut().take(liars).for_each(|mailbox| mailbox.lie = lie);
    world.people[0].online = true;
    world.run(1800);
    let heard = texts(&world, 0, alice);
    let missing: Vec<_> = all.iter().filter(|text| !heard.contains(&format!("< {text}"))).collect();
    assert!(missing.is_empty(), "{} of 200 have not come", missing.len());
    world.boxes.iter_mut().for_each(|mailbox| mailbox.lie = Lie::None);
    world.run(1800);
    assert!(world.all_delivered());
}

#[test]
fn two_hundred_letters_come_from_mailboxes_in_whatever_order_they_came_there() {
    with_many_waiting(0, Lie::None);
}

#[test]
fn a_mailbox_that_lists_backwards_makes_no_letter_unreadable() {
    with_many_waiting(1, Lie::Backwards);
    with_many_waiting(5, Lie::Backwards);
}

#[test]
fn a_mailbox_that_invents_envelopes_is_left_alone_and_letters_come() {
    let mut world = World::new(5, 2);
    let (bob, alice) = world.meet(1, 0);
    world.boxes[0].lie = Lie::Garbage;
    let most = |world: &World| world.boxes[0].fetched.values().max().copied().unwrap_or_default();
    let enough = u32::try_from(USELESS_MOST).unwrap() + 20; // it has letters, too
    world.run_until(8 * 3600, |world| most(world) + 20 >= enough);
    let before = world.now;
    world.run_until(1800, |world| most(world) > enough);
    assert!(most(&world) <= enough, "{} were fetched of one inbox", most(&world));
    world.people[1].write(bob, "behind it", world.now);
    world.run_until(600, |world| !texts(world, 0, alice).is_empty());
    assert_eq!(texts(&world, 0, alice), ["< behind it"]);
    world.run_until(7200, |world| most(world) > enough);
    assert!(world.now.since(before) >= USELESS_PAUSE, "it was asked again after {} s", world.now.since(before));
}
