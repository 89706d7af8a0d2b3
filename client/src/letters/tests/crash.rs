use super::world::{Faults, World, texts};

#[test]
fn nothing_is_lost_or_shown_twice_however_often_processes_die_and_messages_are_lost() {
    let mut world = World::new(7, 2);
    world.faults = Faults { lost: 10, twice: 20, crash: 10 };
    let (bob, alice) = world.meet(1, 0);
    for number in 0..12 {
        world.people[1].write(bob, &format!("{number}"), world.now);
        world.people[0].write(alice, &format!("{number}"), world.now);
        world.run(200);
    }
    world.run(4 * 86_400);
    for (person, contact) in [(0, alice), (1, bob)] {
        let all = texts(&world, person, contact);
        for number in 0..12 {
            let times = all.iter().filter(|text| **text == format!("< {number}")).count();
            assert_eq!(times, 1, "{number} was shown {times} times to {person}: {all:?}");
        }
    }
    assert!(world.all_delivered(), "{:?} {:?}", world.deliveries(0, alice), world.deliveries(1, bob));
}
