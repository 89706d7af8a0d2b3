//! A small version of each experiment, and what holds for all.

use super::*;

fn small(name: &str, seed: u64) -> Outcome {
    let (_, run) = EXPERIMENTS.into_iter().find(|(known, _)| *known == name).unwrap();
    run(&Setup { seed, relays: None, small: true })
}

fn holds(name: &str) {
    let outcome = small(name, 1);
    assert!(outcome.held(), "{outcome}");
    assert_eq!(outcome.digest(), small(name, 1).digest(), "one seed, one run");
    assert_ne!(outcome.digest(), small(name, 2).digest(), "another seed, another run");
}

#[test]
fn a_new_descriptor_reaches_everyone() {
    holds("spread");
}

#[test]
fn a_patient_attacker_is_measured() {
    holds("patient");
}

#[test]
fn compromised_circuits_are_as_many_as_the_formula_says() {
    holds("compromised");
}
