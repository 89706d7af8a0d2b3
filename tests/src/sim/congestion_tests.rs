//! What congestion control gives its own link, and leaves to others, on lines of 50 Mbit/s and 25 ms one way.
//!
//! `cargo bench -p trefoil-tests --bench congestion` has the figures, of more lines.

use std::time::Duration;

use trefoil_relay::endpoint::Congestion::{self, Cubic, Tolerant};

use super::flows::{Line, Shares, Times, share, transfer};

/// Bytes per second.
const RATE: f64 = 6_250_000.0;
/// As much as the line holds itself.
const DEEP: Duration = Duration::from_millis(50);
/// Too little to be seen in the round-trip time.
const SHALLOW: Duration = Duration::from_millis(5);

fn line(queue: Duration, loss: f64) -> Line {
    Line { rate: 6_250_000, queue, delay: Duration::from_millis(25), jitter: Duration::ZERO, loss }
}

fn alone(congestion: Congestion, line: Line) -> Shares {
    let [settle, measured] = [5, 10].map(Duration::from_secs);
    share(1, line, &[congestion], Times { apart: Duration::ZERO, settle, measured })
}

fn together(flows: [Congestion; 2], line: Line) -> Shares {
    let [apart, settle, measured] = [2, 6, 12].map(Duration::from_secs);
    share(1, line, &flows, Times { apart, settle, measured })
}

#[test]
fn one_percent_of_loss_leaves_three_quarters_of_the_line() {
    let tolerant = alone(Tolerant, line(DEEP, 0.01));
    assert!(tolerant.rates[0] > 0.75 * RATE, "{tolerant:?}");
    let cubic = alone(Cubic, line(DEEP, 0.01));
    assert!(tolerant.rates[0] > 5.0 * cubic.rates[0], "{cubic:?}");
}

#[test]
fn without_loss_it_fills_the_line_and_no_more_of_the_queue_than_cubic() {
    for queue in [SHALLOW, DEEP] {
        let [cubic, tolerant] = [Cubic, Tolerant].map(|congestion| alone(congestion, line(queue, 0.0)));
        assert!(tolerant.rates[0] > 0.95 * cubic.rates[0], "{tolerant:?} {cubic:?}");
        assert!(tolerant.wait < cubic.wait.mul_f64(1.25), "{tolerant:?} {cubic:?}");
    }
}

#[test]
fn beside_cubic_each_gets_at_least_a_third() {
    for queue in [SHALLOW, DEEP] {
        for flows in [[Cubic, Tolerant], [Tolerant, Cubic]] {
            let shares = together(flows, line(queue, 0.0));
            let sum: f64 = shares.rates.iter().sum();
            assert!(sum > 0.85 * RATE, "{shares:?}");
            assert!(shares.rates.iter().all(|rate| *rate > sum / 3.0), "{flows:?} {queue:?} {shares:?}");
            assert!(shares.dropped < 0.001, "{shares:?}");
        }
    }
}

#[test]
fn two_of_its_kind_share_a_line_with_loss_and_without() {
    for loss in [0.0, 0.01] {
        let shares = together([Tolerant; 2], line(DEEP, loss));
        let [first, second] = [shares.rates[0], shares.rates[1]];
        assert!(first.max(second) < 1.7 * first.min(second), "{loss}: {shares:?}");
        assert!(first + second > 0.75 * RATE, "{loss}: {shares:?}");
    }
}

#[test]
fn a_new_link_is_soon_at_full_speed() {
    let bytes = 4 << 20;
    let least = Duration::from_secs_f64(bytes as f64 / RATE);
    let clean = transfer(1, line(DEEP, 0.0), Tolerant, bytes);
    assert!(clean < least + Duration::from_millis(600), "{clean:?}");
    let lossy = transfer(1, line(DEEP, 0.01), Tolerant, bytes);
    assert!(lossy < 6 * least, "{lossy:?}");
}

#[test]
fn the_same_seed_gives_the_same_shares() {
    let shares = || alone(Tolerant, line(DEEP, 0.01)).rates;
    assert_eq!(shares(), shares());
}
