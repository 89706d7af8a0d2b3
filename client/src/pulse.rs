//! Whether a circuit is alive: when to ask its last hop for a sign of life, and when to give it up.
//!
//! QUIC needs a minute to notice a vanished relay, and only its neighbours notice. A circuit that has streams and has
//! been silent is asked for one padding cell; silence after that ends it. Anything heard counts as a sign. The longer a
//! circuit stays well and quiet, the more rarely it is asked. Callers hand in `now`.

use std::time::Duration;

use tokio::time::Instant;

/// Silence before the first question.
const FIRST_SILENCE: Duration = Duration::from_secs(1);
/// Silence between questions, at most.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// Bounds of the wait for an answer; within them, some times the slowest hop's handshake.
const SHORTEST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(20);
const WAIT_FACTOR: u32 = 8;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Pulse {
    heard: Instant,
    asked: Option<Instant>,
    silence: Duration,
    wait: Duration,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Nothing,
    Ask,
    GiveUp,
}

impl Pulse {
    /// A circuit whose slowest hop took this long to add.
    pub(crate) fn new(slowest: Duration, now: Instant) -> Self {
        let wait = (slowest * WAIT_FACTOR).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        Self { heard: now, asked: None, silence: FIRST_SILENCE, wait }
    }

    /// A cell came that we did not ask for as a sign of life.
    pub(crate) fn heard(&mut self, now: Instant) {
        *self = Self { heard: now, asked: None, silence: FIRST_SILENCE, wait: self.wait };
    }

    /// The padding cell came that we asked for.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// A stream was opened, or the first one after a rest: what was heard long ago says nothing now.
    pub(crate) fn rest(&mut self, now: Instant) {
        if self.asked.is_none() {
            self.heard = now;
        }
    }

    /// What to do now, on a circuit that has streams.
    pub(crate) fn poll(&mut self, now: Instant) -> Act {
        match self.asked {
            Some(asked) if now - asked >= self.wait => Act::GiveUp,
            Some(_) => Act::Nothing,
            None if now - self.heard >= self.silence => {
                self.asked = Some(now);
                self.silence = (self.silence * 2).min(LONGEST_SILENCE);
                Act::Ask
            }
            None => Act::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(150);

    #[test]
    fn a_silent_circuit_is_asked_and_then_given_up() {
        let now = Instant::now();
        let mut pulse = Pulse::new(RTT, now);
        assert_eq!(pulse.poll(now), Act::Nothing);
        let asked = now + FIRST_SILENCE;
        assert_eq!(pulse.poll(asked), Act::Ask);
        assert_eq!(pulse.poll(asked), Act::Nothing, "one question at a time");
        assert_eq!(pulse.poll(asked + SHORTEST_WAIT), Act::GiveUp);
    }

    #[test]
    fn anything_heard_is_a_sign_of_life() {
        let now = Instant::now();
        let mut pulse = Pulse::new(RTT, now);
        assert_eq!(pulse.poll(now + FIRST_SILENCE), Act::Ask);
        pulse.heard(now + FIRST_SILENCE * 2);
        assert_eq!(pulse.poll(now + SHORTEST_WAIT), Act::Ask);
    }

    #[test]
    fn a_well_and_quiet_circuit_is_asked_ever_more_rarely() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(RTT, now);
        let mut asked = 0;
        for _ in 0..3600 {
            now += Duration::from_secs(1);
            match pulse.poll(now) {
                Act::Ask => {
                    asked += 1;
                    pulse.answered(now);
                }
                act => assert_eq!(act, Act::Nothing),
            }
        }
        assert!((60..=70).contains(&asked), "{asked} questions in an hour");
    }

    #[test]
    fn a_rest_without_streams_is_not_silence() {
        let now = Instant::now();
        let mut pulse = Pulse::new(RTT, now);
        pulse.rest(now + LONGEST_SILENCE);
        assert_eq!(pulse.poll(now + LONGEST_SILENCE), Act::Nothing);
    }
}
