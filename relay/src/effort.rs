//! How much work a busy relay asks for a circuit: the effort of its puzzle, the same for everyone.
//!
//! Specification: docs/protocol.md, "Busy". Rises while handshakes pile up, falls slowly after; it never looks at who
//! asks. Callers hand in `now`.

use std::time::{Duration, Instant};

use trefoil_protocol::limits::MAX_EFFORT;

/// Waiting handshakes from which the effort rises.
const BUSY: usize = 64;
/// Waiting handshakes up to which it falls.
const CALM: usize = 8;
/// The least effort that is asked at all: 2^10 hashes, about a tenth of a handshake's own cost.
const FIRST_EFFORT: u8 = 10;
/// Between two steps up: time for the last one to take effect.
const RISE_EVERY: Duration = Duration::from_secs(1);
/// Between two steps down.
const FALL_EVERY: Duration = Duration::from_secs(10);

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Effort {
    bits: u8,
    changed: Instant,
}

impl Effort {
    /// No work is asked.
    pub(crate) fn new(now: Instant) -> Self {
        Self { bits: 0, changed: now }
    }

    /// The zero bits to ask for, with this many handshakes waiting.
    pub(crate) fn asked(&mut self, waiting: usize, now: Instant) -> u8 {
        let since = now.saturating_duration_since(self.changed);
        if waiting >= BUSY && (self.bits == 0 || since >= RISE_EVERY) {
            self.bits = (self.bits + 1).clamp(FIRST_EFFORT, MAX_EFFORT);
            self.changed = now;
        } else if waiting <= CALM && self.bits > 0 && since >= FALL_EVERY {
            self.bits = if self.bits <= FIRST_EFFORT { 0 } else { self.bits - 1 };
            self.changed = now;
        }
        self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effort_rises_under_load_to_its_limit_and_falls_to_nothing() {
        let mut now = Instant::now();
        let mut effort = Effort::new(now);
        assert_eq!(effort.asked(CALM, now), 0);
        assert_eq!(effort.asked(BUSY, now), FIRST_EFFORT);
        assert_eq!(effort.asked(BUSY, now), FIRST_EFFORT, "a step needs time to take effect");
        for _ in 0..100 {
            now += RISE_EVERY;
            effort.asked(BUSY, now);
        }
        assert_eq!(effort.asked(BUSY, now), MAX_EFFORT);
        assert_eq!(effort.asked(CALM + 1, now + FALL_EVERY), MAX_EFFORT, "neither busy nor calm");
        for _ in 0..100 {
            now += FALL_EVERY;
            effort.asked(0, now);
        }
        assert_eq!(effort.asked(0, now), 0);
    }
}
