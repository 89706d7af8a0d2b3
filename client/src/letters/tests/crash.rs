use proptest::prelude::*;

use super::world::{Faults, World, texts};

/// Both write so many letters, while messages are lost and come twice, and processes die at any step.
fn hold(seed: u64, faults: Faults, letters: u32) -> World {
    let mut world = World::seeded(7, 2, seed);
    world.faults = faults;
    let (bob, alice) = world.meet(1, 0);
    for number in 0..letters {
        world.people[1].write(bob, &format!("{number}"), world.now);
        world.people[0].write(alice, &format!("{number}"), world.now);
        world.run(200);
    }
    world.run(6 * 3600);
    world.faults.crash = 0;
    world.run(2 * 86_400);
    for (person, contact) in [(0, alice), (1, bob)] {
        let all = texts(&world, person, contact);
        for number in 0..letters {
            let times = all.iter().filter(|text| **text == format!("< {number}")).count();
            assert_eq!(times, 1, "{number} was shown {times} times to {person}: {all:?}");
        }
        assert!(world.people[person].read().gaps(contact).unwrap().len() <= 4, "receipts alone may be missing");
    }
    assert!(world.all_delivered(), "{:?} {:?}", world.deliveries(0, alice), world.deliveries(1, bob));
    world
}

#[test]
fn nothing_is_lost_or_shown_twice_however_often_processes_die_and_messages_are_lost() {
    let world = hold(1, Faults { lost: 10, twice: 20, crash: 10 }, 12);
    assert!(world.crashes > 20, "{} crashes are no test", world.crashes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]
    #[test]
    fn letters_arrive_once_on_any_schedule(seed: u64, lost in 0u32..30, twice in 0u32..50, crash in 0u32..15) {
        hold(seed, Faults { lost, twice, crash }, 4);
    }
}
