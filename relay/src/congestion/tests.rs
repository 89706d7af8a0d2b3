//! The congestion control on a line that the tests make up: what is acknowledged when, and what is lost.

use super::*;

const MTU: u64 = 1200;
const RTT: Duration = Duration::from_millis(50);
const QUEUED: Duration = Duration::from_millis(80);

struct Path {
    control: Tolerant,
    now: Instant,
}

impl Path {
    fn new() -> Self {
        let now = Instant::now();
        Self { control: Tolerant::new(now, 1200), now }
    }

    /// A round in which a whole window is acknowledged, two packets at a time, after this round trip.
    fn round(&mut self, rtt: Duration) {
        let acks = self.control.window / (2 * MTU);
        self.now += rtt;
        for _ in 0..acks {
            self.ack(rtt, false);
        }
    }

    fn ack(&mut self, rtt: Duration, app_limited: bool) {
        self.control.rtt = rtt;
        for _ in 0..2 {
            self.control.handle_ack(self.now, self.now - rtt, MTU, app_limited);
        }
        self.control.on_end_acks(self.now, 0, app_limited, None);
    }

    /// A packet is found lost that was sent a round trip ago. How much of the window is left.
    fn lose(&mut self, packets: u64) -> f64 {
        let before = self.control.window;
        self.control.on_congestion_event(self.now, self.now - RTT, false, packets * MTU);
        self.control.window as f64 / before as f64
    }

    /// Loses a packet in every round until that is tolerated.
    fn make_tolerant(&mut self) {
        for _ in 0..8 {
            self.round(RTT);
        }
        self.control.threshold = 0; // no slow start: the window stays below what it was
        for _ in 0..=VAIN {
            assert!(!self.control.is_tolerant(self.now));
            self.lose(1);
            self.now += Duration::from_millis(1); // what is lost next was sent after the reduction
            self.round(RTT);
        }
        assert!(self.control.is_tolerant(self.now));
    }
}

fn is_kept(left: f64) -> bool {
    (left - KEPT).abs() < 0.01
}

#[test]
fn slow_start_doubles_the_window_and_slows_down_at_a_queue() {
    let mut path = Path::new();
    for round in 1..=6 {
        path.round(RTT);
        assert!(path.control.window.abs_diff(INITIAL_WINDOW << round) < INITIAL_WINDOW, "{}", path.control.window);
    }
    path.round(QUEUED); // seen at the end of the round
    let before = path.control.window as f64;
    path.round(QUEUED);
    assert!((1.2..1.3).contains(&(path.control.window as f64 / before)));
    for _ in 0..SLOWED_ROUNDS {
        assert_eq!(path.control.threshold, u64::MAX);
        path.round(QUEUED);
    }
    assert!(path.control.threshold <= path.control.window);
}

#[test]
fn a_queue_that_goes_away_lets_slow_start_go_on() {
    let mut path = Path::new();
    for rtt in [RTT, RTT, RTT, QUEUED, QUEUED, RTT] {
        path.round(rtt);
    }
    let before = path.control.window as f64;
    path.round(RTT);
    assert!(path.control.window as f64 / before > 1.9);
}

#[test]
fn a_loss_with_a_queue_is_congestion_once_a_round() {
    let mut path = Path::new();
    path.make_tolerant();
    path.round(QUEUED);
    assert!(is_kept(path.lose(1)));
    assert_eq!(path.lose(1), 1.0, "it was sent before the window was reduced");
    path.now += 2 * RTT;
    assert!(is_kept(path.lose(1)));
}

#[test]
fn a_mark_of_ecn_is_congestion_even_where_losses_are_tolerated() {
    let mut path = Path::new();
    path.make_tolerant();
    assert!(is_kept(path.lose(0)));
}

#[test]
fn losses_that_a_smaller_window_does_not_end_are_tolerated() {
    let mut path = Path::new();
    path.make_tolerant();
    let before = path.control.window;
    path.lose(1);
    assert_eq!(path.control.window, before - MTU);
    path.round(RTT);
    assert!(path.control.window > before, "the window grows back");
    path.now += TOLERANT_FOR;
    assert!(is_kept(path.lose(1)), "then it is tried again");
}

#[test]
fn a_loss_at_the_window_of_the_last_one_is_congestion() {
    let mut path = Path::new();
    for _ in 0..8 {
        path.round(RTT);
    }
    path.control.threshold = 0;
    for _ in 0..5 {
        path.now += 2 * RTT;
        assert!(is_kept(path.lose(1)));
        path.control.window = path.control.curve.plateau;
    }
    assert!(!path.control.is_tolerant(path.now));
}

#[test]
fn too_many_losses_are_congestion_without_a_queue() {
    let mut path = Path::new();
    path.make_tolerant();
    let mut left = 1.0;
    for _ in 0..100 {
        left = path.lose(1);
        if left < 0.8 {
            break;
        }
    }
    assert!(is_kept(left));
    assert!(!path.control.is_tolerant(path.now));
}

#[test]
fn persistent_congestion_leaves_two_packets() {
    let mut path = Path::new();
    path.make_tolerant();
    path.control.on_congestion_event(path.now, path.now, true, MTU);
    assert_eq!(path.control.window, 2 * MTU);
}

#[test]
fn what_the_application_limits_does_not_grow_then_nor_at_once_afterwards() {
    let mut path = Path::new();
    path.make_tolerant();
    path.round(QUEUED);
    path.lose(1);
    path.now += RTT;
    let before = path.control.window;
    for _ in 0..1000 {
        path.now += RTT;
        path.ack(RTT, true);
    }
    assert_eq!(path.control.window, before);
    path.now += Duration::from_secs(100); // silence
    path.round(QUEUED);
    assert!(path.control.window < before + before / 8, "{} {before}", path.control.window);
}

#[test]
fn a_longer_path_is_a_queue_only_for_a_while() {
    let mut path = Path::new();
    path.round(RTT);
    path.round(QUEUED);
    path.round(QUEUED);
    assert!(path.control.delay.queue() > path.control.delay.queue_seen());
    for _ in 0..3 {
        path.now += PERIOD;
        path.ack(QUEUED, true);
    }
    assert_eq!(path.control.delay.queue(), Duration::ZERO);
}

#[test]
fn the_window_follows_the_mtu() {
    let mut path = Path::new();
    path.control.on_congestion_event(path.now, path.now, true, MTU);
    path.control.on_mtu_update(1452);
    assert_eq!(path.control.window, 2 * 1452);
}
