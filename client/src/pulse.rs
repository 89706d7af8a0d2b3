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
    /// When a cell came, or silence began to say something.
    heard: Instant,
    last: Instant,
    question: Question,
    silence: Duration,
    wait: Duration,
}

/// A question that waits for its answer.
#[derive(Debug)]
enum Question {
    None,
    /// It is to be asked since then; the circuit's writer has not come to it.
    Due(Instant),
    /// It was asked then, or much else was written after it then.
    Asked(Instant),
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
        Self { heard: now, last: now, question: Question::None, silence: FIRST_SILENCE, wait }
    }

    /// When the last cell came.
    pub(crate) fn last_heard(&self) -> Instant {
        self.last
    }

    /// Somebody wants to know now. Whether it is to be asked: not where a question waits for its answer.
    pub(crate) fn urge(&mut self, now: Instant) -> bool {
        let urged = matches!(self.question, Question::None);
        if urged {
            self.question = Question::Due(now);
        }
        urged
    }

    /// A cell came that we did not ask for as a sign of life.
    pub(crate) fn heard(&mut self, now: Instant) {
        *self = Self { heard: now, last: now, question: Question::None, silence: FIRST_SILENCE, wait: self.wait };
    }

    /// The padding cell came that we asked for.
    pub(crate) fn answered(&mut self, now: Instant) {
        (self.heard, self.last) = (now, now);
        self.question = Question::None;
    }

    /// The question has been written.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.question = Question::Asked(now);
    }

    /// A whole batch of cells has been written: on a slow circuit its answer to what came before takes longer.
    pub(crate) fn wrote_batch(&mut self, now: Instant) {
        if let Question::Asked(asked) = &mut self.question {
            *asked = now;
        }
    }

    /// There are no streams: nothing is expected, and this silence says nothing.
    pub(crate) fn rest(&mut self, now: Instant) {
        if let Question::None = self.question {
            self.heard = now;
        }
    }

    /// What to do now, on a circuit that has streams.
    pub(crate) fn poll(&mut self, now: Instant) -> Act {
        match self.question {
            Question::Asked(asked) if now - asked >= self.wait => Act::GiveUp,
            Question::Due(due) if now - due >= LONGEST_WAIT => Act::GiveUp,
            Question::Asked(_) | Question::Due(_) => Act::Nothing,
            Question::None if now - self.heard >= self.silence => {
                self.question = Question::Due(now);
                self.silence = (self.silence * 2).min(LONGEST_SILENCE);
                Act::Ask
            }
            Question::None => Act::Nothing,
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
        pulse.asked(asked);
        assert_eq!(pulse.poll(asked + SHORTEST_WAIT), Act::GiveUp);
    }

    #[test]
    fn a_slow_upload_is_given_time_as_long_as_it_moves() {
        let mut now = Instant::now() + FIRST_SILENCE;
        let mut pulse = Pulse::new(RTT, now - FIRST_SILENCE);
        assert_eq!(pulse.poll(now), Act::Ask);
        pulse.asked(now);
        for _ in 0..20 {
            now += SHORTEST_WAIT - RTT;
            pulse.wrote_batch(now);
            assert_eq!(pulse.poll(now), Act::Nothing);
        }
        assert_eq!(pulse.poll(now + SHORTEST_WAIT), Act::GiveUp);
    }

    #[test]
    fn a_question_that_cannot_even_be_written_ends_the_circuit_too() {
        let now = Instant::now();
        let mut pulse = Pulse::new(RTT, now);
        assert_eq!(pulse.poll(now + FIRST_SILENCE), Act::Ask);
        assert_eq!(pulse.poll(now + SHORTEST_WAIT + FIRST_SILENCE), Act::Nothing);
        assert_eq!(pulse.poll(now + LONGEST_WAIT + FIRST_SILENCE), Act::GiveUp);
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
    fn one_question_is_asked_at_once_where_somebody_wants_to_know() {
        let now = Instant::now();
        let mut pulse = Pulse::new(RTT, now);
        pulse.rest(now + RTT);
        assert_eq!(pulse.last_heard(), now, "a rest is no sign of life");
        assert!(pulse.urge(now + RTT) && !pulse.urge(now + RTT));
        assert_eq!(pulse.poll(now + FIRST_SILENCE * 2), Act::Nothing);
        pulse.asked(now + RTT);
        pulse.answered(now + RTT * 2);
        assert_eq!(pulse.last_heard(), now + RTT * 2);
    }

    #[test]
    fn a_rest_without_streams_is_not_silence() {
        let now = Instant::now();
        let mut pulse = Pulse::new(RTT, now);
        pulse.rest(now + LONGEST_SILENCE);
        assert_eq!(pulse.poll(now + LONGEST_SILENCE), Act::Nothing);
    }
}
