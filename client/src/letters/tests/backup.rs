//! What a person's phrase brings back.

use super::*;

const DAY: u64 = 86_400;

/// Two people who have written to each other, and whose backups are left.
fn written() -> (World, u32, u32) {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    world.people[1].write(bob, "from Bob", world.now);
    world.people[0].write(alice, "from Alice", world.now);
    world.run(2 * DAY);
    (world, bob, alice)
}

fn known(world: &World, person: usize) -> Vec<Known> {
    world.people[person].read().contacts().unwrap()
}

#[test]
fn the_phrase_brings_back_contacts_and_what_was_said_and_both_go_on() {
    let (mut world, bob, _) = written();
    assert!(world.people[0].read().backup().unwrap().left.is_some());
    world.people[0].restore_backup(world.now);
    assert!(world.people[0].read().backup().unwrap().restoring);
    world.run(3600);
    let back = known(&world, 0);
    assert_eq!(back.len(), 1, "{back:?}");
    assert_eq!((back[0].name.as_str(), back[0].standing), ("person 1", Standing::Accepted));
    let mut said = texts(&world, 0, back[0].id);
    said.sort();
    assert_eq!(said, ["< from Bob", "> from Alice"]);

    world.people[0].write(back[0].id, "it is me", world.now);
    world.people[1].write(bob, "welcome back", world.now);
    world.run(2 * 3600);
    assert!(texts(&world, 1, bob).contains(&"< it is me".to_owned()), "{:?}", texts(&world, 1, bob));
    assert!(texts(&world, 0, back[0].id).contains(&"< welcome back".to_owned()));
    let sent = [world.deliveries(0, back[0].id), world.deliveries(1, bob)];
    assert!(sent.iter().flatten().all(|sent| *sent == Delivery::Delivered), "{sent:?}");
    let renewed = world.people[1].read().conversation(bob).unwrap();
    assert_eq!(renewed.iter().filter(|line| line.said == Said::Renewed).count(), 1, "Bob is told once");
}

#[test]
fn a_backup_lasts_ten_days_at_least_without_its_owner() {
    let (mut world, ..) = written();
    world.people[0].online = false;
    world.run(10 * DAY);
    world.people[0].restore_backup(world.now);
    world.run(3600);
    assert_eq!(known(&world, 0).len(), 1);
}

#[test]
fn it_is_written_anew_each_week() {
    let (mut world, ..) = written();
    world.run(30 * DAY);
    world.people[0].restore_backup(world.now);
    world.run(3600);
    let back = known(&world, 0);
    assert_eq!(back.len(), 1);
    assert_eq!(texts(&world, 0, back[0].id).len(), 2);
}

#[test]
fn who_was_removed_and_what_is_to_go_away_are_not_brought_back() {
    let mut world = World::new(7, 3);
    let (bob, alice) = world.meet(1, 0);
    let (_, other) = world.meet(2, 0);
    let now = world.now;
    world.people[1].letters().set_timer(bob, 3600, now).unwrap();
    world.run(600);
    world.people[1].write(bob, "burn", world.now);
    world.run(2 * DAY);
    assert!(texts(&world, 0, alice).contains(&"< burn".to_owned()), "it was not shown yet");
    let now = world.now;
    world.people[0].letters().remove(other, now).unwrap();
    world.run(2 * 3600);
    world.people[0].restore_backup(world.now);
    world.run(3600);
    let back = known(&world, 0);
    assert_eq!(back.iter().map(|known| known.name.as_str()).collect::<Vec<_>>(), ["person 1"]);
    assert!(texts(&world, 0, back[0].id).is_empty(), "{:?}", texts(&world, 0, back[0].id));
}

#[test]
fn a_device_that_was_restored_and_lost_in_turn_counts_more_than_the_one_before() {
    let mut world = World::new(7, 3);
    world.meet(1, 0);
    world.run(2 * 3600);
    world.people[0].restore_backup(world.now);
    world.run(2 * 3600);
    let first = known(&world, 0)[0].id;
    let (now, third) = (world.now, world.people[2].address);
    world.people[0].letters().remove(first, now).unwrap();
    world.people[0].letters().request(&third, ("Carol", "hi"), None, now).unwrap();
    world.run(2 * DAY);
    let names = |world: &World| known(world, 0).into_iter().map(|known| known.name).collect::<Vec<_>>();
    assert_eq!(names(&world), ["Carol"]);
    world.people[0].restore_backup(world.now);
    world.run(2 * 3600);
    assert_eq!(names(&world), ["Carol"], "whoever was removed stays so");
}

#[test]
fn without_any_mailbox_that_has_it_nothing_is_brought_back_and_nothing_breaks() {
    let (mut world, ..) = written();
    world.boxes.iter_mut().for_each(|mailbox| mailbox.burn());
    world.people[0].restore_backup(world.now);
    world.run(3600);
    assert!(known(&world, 0).is_empty());
    world.run(15 * DAY);
    assert!(!world.people[0].read().backup().unwrap().restoring, "it is given up when all must have expired");
}

#[test]
fn a_contact_that_looked_up_the_lost_device_a_minute_ago_hears_of_the_new_one_at_once() {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(1, 0);
    world.people[0].write(alice, "from Alice", world.now);
    world.run(600);
    let now = world.now;
    world.people[1].look_up(bob, now);
    world.run(20);
    world.people[0].restore_backup(world.now);
    world.run_until(600, |world| known(world, 0).len() == 1);
    let again = known(&world, 0)[0].id;
    world.people[0].write(again, "it is me", world.now);
    world.run(300);
    assert!(texts(&world, 1, bob).contains(&"< it is me".to_owned()), "{:?}", texts(&world, 1, bob));
}

#[test]
fn strangers_who_were_blocked_keep_no_contact_from_being_brought_back() {
    let (mut world, ..) = written();
    let now = world.now;
    let blocked = world.people[0].letters().change(now, |work| {
        for number in 100..250 {
            let address = Phrase::from_entropy(zeroize::Zeroizing::new([number; 32])).address_secret().address();
            let name = format!("blocked {number}");
            let contact = work.add_contact(&address, &name, false)?;
            work.put_contact(&rows::ContactRow { standing: Standing::Blocked, ..contact })?;
        }
        Ok(())
    });
    blocked.unwrap();
    world.run(2 * DAY);
    world.people[0].restore_backup(world.now);
    world.run(2 * 3600);
    let known = known(&world, 0);
    assert_eq!(known.len(), 151);
    assert!(known.iter().any(|known| known.standing == Standing::Accepted && known.name == "person 1"));
}
