use std::time::Duration;

use super::*;

const INITIAL: usize = INITIAL_CREDIT as usize;

fn drain(window: &mut Window, length: usize, now: Instant) -> u32 {
    window.receive(length, now).unwrap();
    window.consume(length, now);
    if window.grant_due() { window.grant() } else { 0 }
}

#[test]
fn credit_is_granted_when_a_quarter_of_the_window_was_drained() {
    let (mut window, now) = (Window::new(), Instant::now());
    assert_eq!(drain(&mut window, INITIAL / 4 - 1, now), 0);
    assert_eq!(drain(&mut window, 1, now), INITIAL_CREDIT / 4);
}

#[test]
fn bytes_that_wait_are_granted_nothing_for() {
    let (mut window, now) = (Window::new(), Instant::now());
    window.receive(INITIAL, now).unwrap();
    assert!(!window.grant_due());
    assert_eq!(window.receive(1, now), Err(Violation::Overrun));
}

#[test]
fn a_slow_program_keeps_the_first_window() {
    let (mut window, mut now) = (Window::new(), Instant::now());
    for _ in 0..1000 {
        now += Duration::from_millis(100);
        drain(&mut window, 20_000, now);
    }
    assert_eq!(window.size, INITIAL_CREDIT);
}

#[test]
fn the_window_doubles_at_most_per_measurement_and_stops_at_its_bound() {
    let (mut window, mut now) = (Window::new(), Instant::now());
    let mut sizes = vec![window.size];
    for _ in 0..8 {
        for _ in 0..4 {
            now += Duration::from_millis(20);
            let quarter = window.size as usize / 4;
            drain(&mut window, quarter, now);
        }
        sizes.push(window.size);
    }
    assert!(sizes.iter().zip(&sizes[1..]).all(|(before, after)| *after <= 2 * before && after >= before));
    assert_eq!(sizes.last(), Some(&MAX_CREDIT));
}

#[test]
fn the_window_follows_the_drain_rate() {
    let (mut window, mut now) = (Window::new(), Instant::now());
    for _ in 0..100 {
        now += Duration::from_millis(50);
        drain(&mut window, 50_000, now); // 1 MB/s
    }
    assert!((450_000..=550_000).contains(&window.size), "{}", window.size);
}
