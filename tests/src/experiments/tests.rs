//! A small version of each experiment, and what holds for all.

use super::*;

fn small(name: &str, seed: u64) -> Outcome {
    let (_, run) = EXPERIMENTS.into_iter().find(|(known, _)| *known == name).unwrap();
    run(&Setup { seed, relays: None, letters: None, small: true })
}

/// Every line of its small version holds; docs/benchmarks.md says which of the full one are missed.
fn holds(name: &str) {
    let outcome = small(name, 1);
    for line in &outcome.lines {
        assert!(line.held, "{}\n{outcome}", line.claim);
    }
    assert_eq!(outcome.digest(), small(name, 1).digest(), "one seed, one run");
    assert_ne!(outcome.digest(), small(name, 2).digest(), "another seed, another run");
}

#[test]
fn a_new_descriptor_reaches_everyone() {
    holds("spread");
}

#[test]
fn clients_agree_whatever_an_attacker_does_at_the_last_second() {
    holds("agreement");
}

#[test]
fn what_the_directory_costs_is_bounded_and_linear() {
    holds("cost");
}

#[test]
fn one_honest_source_is_enough_for_a_newcomer() {
    holds("bootstrap");
}

#[test]
fn a_restart_is_no_more_dangerous_than_its_sources() {
    holds("eclipse");
}

#[test]
fn a_flood_gains_no_guards_and_little_selection() {
    holds("flood");
}

#[test]
fn a_partition_is_noticed_and_heals() {
    holds("partition");
}

#[test]
fn a_patient_attacker_is_measured() {
    holds("patient");
}

#[test]
fn compromised_circuits_are_as_many_as_the_formula_says() {
    holds("compromised");
}

#[test]
fn no_letter_is_lost_without_a_word() {
    holds("letters");
}
