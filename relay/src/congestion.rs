//! Congestion control that tells a full line from a bad one: Cubic, but for losses that neither a queue explains nor
//! a smaller window ends.
//!
//! docs/architecture.md, "Congestion control", has the reasons; docs/benchmarks.md what it does to others and to itself.
//! Where a queue can be seen it is Cubic (RFC 9438), which makes it fair. Slow start ends by HyStart++ (RFC 9406). It
//! never tolerates more than [`LOSS_MAX`], nor a mark of ECN, nor losses that a smaller window ends.

#[cfg(test)]
mod tests;

use std::{
    any::Any,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// Makes the congestion control of each path.
#[derive(Debug)]
pub(crate) struct TolerantConfig;

/// The congestion control of one path. Sizes are bytes; a round is a round trip.
#[derive(Clone, Debug)]
struct Tolerant {
    window: u64,
    /// Below it the window grows by slow start.
    threshold: u64,
    mtu: u64,
    /// Growth that is not yet in the window, times the window.
    earned: u64,
    /// When the window was last reduced: losses of what was sent before say nothing new.
    reduced: Option<Instant>,
    /// The last acknowledgement.
    heard: Instant,
    /// The smoothed round trip.
    rtt: Duration,
    curve: Curve,
    delay: Delay,
    losses: Losses,
    /// Reductions in a row that did not end losses without a queue.
    vain: u32,
    /// Until when losses without a queue are tolerated.
    tolerant_until: Option<Instant>,
}

/// RFC 9438's curve: steeply back to the window at which congestion was met, flat there, and on.
#[derive(Clone, Debug)]
struct Curve {
    began: Instant,
    /// The window at which congestion was met.
    plateau: u64,
    /// Seconds from the beginning to the plateau.
    rise: f64,
}

/// What round-trip times say about the queue.
#[derive(Clone, Debug)]
struct Delay {
    /// The least of this [`PERIOD`], and of the one before.
    least: [Duration; 2],
    period_began: Instant,
    /// The last ones, each of the newest packet in an acknowledgement, in no order.
    recent: [Duration; SAMPLES],
    next: usize,
    /// The one of the acknowledgement that is being taken in.
    current: Duration,
    round_began: Instant,
    /// Rounds of slow start in a row that saw a queue.
    queued_rounds: u32,
}

/// How much was lost of late; what is older fades.
#[derive(Clone, Debug, Default)]
struct Losses {
    lost: u64,
    sent: u64,
}

/// RFC 9002, 7.2: ten datagrams of the least MTU.
const INITIAL_WINDOW: u64 = 10 * 1200;
/// RFC 9438, 4.6: what is left of the window after congestion.
const KEPT: f64 = 0.7;
/// RFC 9438, 5.1: in packets per second³.
const STEEPNESS: f64 = 0.4;
/// RFC 9438, 4.3: packets per round that make it as fast as Reno, given what is kept.
const RENO: f64 = 3.0 * (1.0 - KEPT) / (1.0 + KEPT);
/// A queue is seen where round trips take longer than the least by this part of it, and no more than by [`QUEUE_MAX`].
const QUEUE_PART: u32 = 8;
/// RFC 9406, 4.3: for slow start, no less than [`QUEUE_MIN`].
const QUEUE_MAX: Duration = Duration::from_millis(16);
const QUEUE_MIN: Duration = Duration::from_millis(4);
/// RFC 9406, 4.3: where slow start sees a queue, it goes on at a quarter of its pace for so many rounds.
const SLOWED_ROUNDS: u32 = 5;
const SLOWED: u64 = 4;
/// The least of so many, so that one late packet is not a queue.
const SAMPLES: usize = 4;
/// The least round trip is forgotten after one to two of these. Long, because beside others the queue is rarely empty
/// and a forgotten least hides it; a path that has become longer only costs tolerance meanwhile.
const PERIOD: Duration = Duration::from_secs(60);
/// Bytes over which losses are counted: some 500 packets.
const LOSSES_OVER: u64 = 700_000;
/// The share of losses above which they are congestion, whatever the queue.
const LOSS_MAX: f64 = 0.05;
/// So many reductions in vain show that losses do not come from our window: it is then half of what it was.
const VAIN: u32 = 2;
/// How long that holds.
const TOLERANT_FOR: Duration = Duration::from_secs(30);
/// Growth in a round while losses are tolerated and no queue is seen: this part of the window, and so many packets at
/// most. It bounds the losses that it may bring about itself, to 3 % where lines hold little and 1 % where much.
const REFILL_PART: u64 = 32;
const REFILL_MAX: u64 = 8;

impl ControllerFactory for TolerantConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Tolerant::new(now, current_mtu))
    }
}

impl Controller for Tolerant {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.rtt = rtt.get();
        self.handle_ack(now, sent, bytes, app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, _in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        self.delay.end_acks(now);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.losses.count(lost_bytes, lost_bytes);
        if self.reduced.is_some_and(|reduced| sent <= reduced) {
            return;
        }
        let marked = lost_bytes == 0;
        if is_persistent_congestion {
            self.reduce(now);
            self.window = self.window_min();
            self.reduced = None;
        } else if marked || self.delay.queue() > self.delay.queue_seen() {
            self.reduce(now);
        } else if self.losses.share() > LOSS_MAX {
            self.tolerant_until = None;
            self.reduce(now);
        } else if self.is_tolerant(now) {
            self.window = self.window.saturating_sub(lost_bytes).max(self.window_min());
        } else {
            self.try_less(now);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.window = self.window.max(self.window_min());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Tolerant {
    fn new(now: Instant, mtu: u16) -> Self {
        Self {
            window: INITIAL_WINDOW,
            threshold: u64::MAX,
            mtu: u64::from(mtu),
            earned: 0,
            reduced: None,
            heard: now,
            rtt: Duration::ZERO,
            curve: Curve { began: now, plateau: INITIAL_WINDOW, rise: 0.0 },
            delay: Delay::new(now),
            losses: Losses::default(),
            vain: 0,
            tolerant_until: None,
        }
    }

    fn handle_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool) {
        self.losses.count(bytes, 0);
        let new_round = self.delay.sample(now, sent);
        let silent = now.saturating_duration_since(mem::replace(&mut self.heard, now));
        self.curve.began += if app_limited { silent } else { silent.saturating_sub(self.rtt) }; // RFC 9438, 5.8
        if app_limited || self.reduced.is_some_and(|reduced| sent <= reduced) {
            return;
        }
        let growth = if self.window < self.threshold { self.slow_start(now, new_round) } else { self.avoid(now) };
        self.earned = self.earned.saturating_add(growth.saturating_mul(bytes));
        self.window += self.earned / self.window;
        self.earned %= self.window;
    }

    /// By how much the window grows in this round of slow start, which ends here if there is a queue for long.
    fn slow_start(&mut self, now: Instant, new_round: bool) -> u64 {
        if self.delay.queue() <= self.delay.queue_seen().max(QUEUE_MIN) {
            self.delay.queued_rounds = 0;
            return self.window;
        }
        self.delay.queued_rounds += u32::from(new_round);
        if self.delay.queued_rounds > SLOWED_ROUNDS {
            self.threshold = self.window;
            self.curve = Curve { began: now, plateau: self.window, rise: 0.0 };
        }
        self.window / SLOWED
    }

    /// By how much the window grows in this round of congestion avoidance.
    fn avoid(&self, now: Instant) -> u64 {
        let most = self.window + self.window / 2; // RFC 9438, 4.2
        let cubic = self.curve.at(now + self.rtt, self.mtu).min(most).saturating_sub(self.window);
        let reno = if self.window < self.curve.plateau { whole(self.mtu as f64 * RENO) } else { self.mtu };
        let refills = self.is_tolerant(now) && self.delay.queue() <= self.delay.queue_seen();
        let refill = if refills { (self.window / REFILL_PART).min(REFILL_MAX * self.mtu) } else { 0 };
        cubic.max(reno).max(refill)
    }

    /// A loss without a queue, and nothing known of such: does a smaller window end them? If the last one did not,
    /// since the window has not come back to where that was, and the one before neither, they are no congestion.
    fn try_less(&mut self, now: Instant) {
        let vain = self.window < self.curve.plateau / 10 * 9;
        self.vain = if vain { self.vain + 1 } else { 0 };
        if self.vain >= VAIN {
            self.vain = 0;
            self.tolerant_until = Some(now + TOLERANT_FOR);
            return;
        }
        let slow_start = self.window < self.threshold;
        self.reduce(now);
        if slow_start {
            self.threshold = u64::MAX; // one loss is no proof that the line is full
        }
    }

    fn reduce(&mut self, now: Instant) {
        let before = self.window;
        self.window = whole(before as f64 * KEPT).max(self.window_min());
        self.threshold = self.window;
        self.earned = 0;
        self.reduced = Some(now);
        let converging = before < self.curve.plateau; // RFC 9438, 4.7
        let plateau = if converging { whole(before as f64 * (1.0 + KEPT) / 2.0) } else { before };
        let packets = plateau.saturating_sub(self.window) as f64 / self.mtu as f64;
        self.curve = Curve { began: now, plateau, rise: (packets / STEEPNESS).cbrt() };
    }

    fn is_tolerant(&self, now: Instant) -> bool {
        self.tolerant_until.is_some_and(|until| now < until)
    }

    fn window_min(&self) -> u64 {
        2 * self.mtu
    }
}

impl Curve {
    fn at(&self, time: Instant, mtu: u64) -> u64 {
        let from_plateau = time.saturating_duration_since(self.began).as_secs_f64() - self.rise;
        whole(self.plateau as f64 + STEEPNESS * from_plateau.powi(3) * mtu as f64)
    }
}

impl Delay {
    fn new(now: Instant) -> Self {
        Self {
            least: [Duration::MAX; 2],
            period_began: now,
            recent: [Duration::MAX; SAMPLES],
            next: 0,
            current: Duration::MAX,
            round_began: now,
            queued_rounds: 0,
        }
    }

    /// Takes in one packet of an acknowledgement. Whether a round begins with it.
    fn sample(&mut self, now: Instant, sent: Instant) -> bool {
        self.current = self.current.min(now.saturating_duration_since(sent));
        let new_round = sent >= self.round_began;
        if new_round {
            self.round_began = now;
        }
        new_round
    }

    fn end_acks(&mut self, now: Instant) {
        let sample = mem::replace(&mut self.current, Duration::MAX);
        if sample == Duration::MAX {
            return; // nothing in it that elicits acknowledgements
        }
        if now.saturating_duration_since(self.period_began) > PERIOD {
            self.period_began = now;
            self.least = [Duration::MAX, self.least[0]];
        }
        self.least[0] = self.least[0].min(sample);
        self.recent[self.next] = sample;
        self.next = (self.next + 1) % SAMPLES;
    }

    fn least(&self) -> Duration {
        self.least[0].min(self.least[1])
    }

    /// How long packets wait in queues now.
    fn queue(&self) -> Duration {
        let recent = self.recent.iter().copied().min().unwrap_or_default();
        recent.saturating_sub(self.least())
    }

    /// The wait from which on there is a queue.
    fn queue_seen(&self) -> Duration {
        (self.least() / QUEUE_PART).min(QUEUE_MAX)
    }
}

impl Losses {
    fn count(&mut self, sent: u64, lost: u64) {
        self.sent += sent;
        self.lost += lost;
        if self.sent > 2 * LOSSES_OVER {
            self.sent /= 2;
            self.lost /= 2;
        }
    }

    fn share(&self) -> f64 {
        self.lost as f64 / self.sent.max(LOSSES_OVER) as f64
    }
}

/// Whole bytes; nothing if negative.
#[expect(clippy::cast_possible_truncation, reason = "it saturates")]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}
