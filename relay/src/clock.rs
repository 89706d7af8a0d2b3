//! A relay's clock, and what the clocks of others say about it.
//!
//! Specification: docs/protocol.md, "Time and epochs". A wrong clock makes good records look old or new, so a relay
//! whose clock is off tells its operator, and changes nothing until it is right.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use trefoil_protocol::{
    epoch::UnixSeconds,
    identity::RelayId,
    limits::{CLOCK_SAMPLE_AGE, CLOCK_SAMPLES, CLOCK_SAMPLES_MAX, CLOCK_TOLERANCE},
};

/// Where the time comes from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// This machine's clock.
    System,
    /// A clock that showed `unix` at `at`, and goes with tokio's: for simulated networks.
    Simulated {
        /// When.
        at: Instant,
        /// The time then.
        unix: UnixSeconds,
    },
}

/// How far the clocks of other relays are from this one.
#[derive(Debug, Default)]
pub(crate) struct Skews(Mutex<HashMap<RelayId, Skew>>);

/// Whether this clock goes as time does, or was set since it was last looked at.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Going>);

#[derive(Debug)]
struct Going {
    /// What it showed last, and when that was.
    last: (UnixSeconds, Instant),
    /// It was set, and nobody has confirmed it since.
    unsure: bool,
}

#[derive(Clone, Copy, Debug)]
struct Skew {
    /// The other's minutes less ours.
    minutes: i64,
    at: Instant,
}

/// This machine's time; 0 before 1970.
pub fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> UnixSeconds {
        match self {
            Self::System => now(),
            Self::Simulated { at, unix } => unix.plus(at.elapsed().as_secs()),
        }
    }

    /// How long until this time; none if it is past.
    pub(crate) fn until(&self, time: UnixSeconds) -> Duration {
        Duration::from_secs(time.since(self.now()))
    }
}

impl Pace {
    pub(crate) fn new(now: UnixSeconds) -> Self {
        Self(Mutex::new(Going { last: (now, Instant::now()), unsure: false }))
    }

    /// Whether the time is unsure: the clock was set by more than is tolerated, or the machine slept so long, and fewer
    /// than are needed of `others`, whose clocks said that it is right before, have been asked since.
    pub(crate) fn is_unsure(&self, now: UnixSeconds, skews: &Skews, others: usize) -> bool {
        let mut going = self.0.lock().unwrap_or_else(PoisonError::into_inner); // each change is whole
        let (last, at) = going.last;
        let step = now.0.abs_diff(last.plus(at.elapsed().as_secs()).0);
        going.last = (now, Instant::now());
        if step > CLOCK_TOLERANCE {
            skews.lock().clear();
            going.unsure = true;
        }
        going.unsure &= others > 0 && skews.lock().len() < needed(others);
        going.unsure
    }
}

impl Skews {
    /// What a relay says its clock shows, while this one shows `now`.
    pub(crate) fn note(&self, relay: RelayId, minutes: u32, now: UnixSeconds) {
        let ours = i64::try_from(now.0 / 60).unwrap_or(i64::MAX);
        let mut skews = self.lock();
        skews.retain(|_, skew| skew.at.elapsed() < CLOCK_SAMPLE_AGE);
        if skews.len() < CLOCK_SAMPLES_MAX || skews.contains_key(&relay) {
            skews.insert(relay, Skew { minutes: i64::from(minutes) - ours, at: Instant::now() });
        }
    }

    /// By how many minutes the others' clocks are ahead of this one, by their median, if that is more than is
    /// tolerated. `others` is how many relays there are to ask: fewer than that, and than [`CLOCK_SAMPLES`], say
    /// nothing.
    pub(crate) fn off_by(&self, others: usize) -> Option<i64> {
        let skews = self.lock();
        let mut minutes: Vec<_> =
            skews.values().filter(|skew| skew.at.elapsed() < CLOCK_SAMPLE_AGE).map(|skew| skew.minutes).collect();
        minutes.sort_unstable();
        let median = *minutes.get(minutes.len() / 2).filter(|_| minutes.len() >= needed(others))?;
        (median.unsigned_abs() > CLOCK_TOLERANCE / 60).then_some(median)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RelayId, Skew>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

/// How many must have been asked, of so many.
fn needed(others: usize) -> usize {
    others.clamp(1, CLOCK_SAMPLES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn skews(all: &[i64]) -> Skews {
        let skews = Skews::default();
        for (number, skew) in (0..).zip(all) {
            let minutes = u32::try_from(i64::try_from(NOW.0 / 60).unwrap() + skew).unwrap();
            skews.note(RelayId::from_bytes([number; 32]), minutes, NOW);
        }
        skews
    }

    #[tokio::test(start_paused = true)]
    async fn the_median_of_five_says_how_far_the_clock_is_off() {
        assert_eq!(skews(&[90, 91, 92, 0, 1000]).off_by(100), Some(91));
        assert_eq!(skews(&[-90, -91, -92, 0, 0]).off_by(100), Some(-90));
        assert_eq!(skews(&[90, 91, 0, 1, 2]).off_by(100), None, "a minority says nothing");
        assert_eq!(skews(&[30, 30, 30, -30, 30]).off_by(100), None, "half an hour is tolerated");
    }

    #[tokio::test(start_paused = true)]
    async fn few_say_something_only_where_there_are_no_more() {
        assert_eq!(skews(&[90, 90, 90, 90]).off_by(5), None);
        assert_eq!(skews(&[90, 90, 90, 90]).off_by(4), Some(90));
        assert_eq!(skews(&[90]).off_by(1), Some(90));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_long_ago_does_not_count() {
        let skews = skews(&[90; 5]);
        assert_eq!(skews.off_by(5), Some(90));
        tokio::time::advance(CLOCK_SAMPLE_AGE).await;
        assert_eq!(skews.off_by(5), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_is_unsure_until_others_have_been_asked() {
        for set in [NOW.plus(10 * 365 * 86_400), UnixSeconds(0)] {
            let (pace, skews) = (Pace::new(NOW), skews(&[0; 5]));
            tokio::time::advance(Duration::from_secs(600)).await;
            assert!(!pace.is_unsure(NOW.plus(600), &skews, 5), "it goes as time does");
            assert!(!pace.is_unsure(NOW.plus(600 + CLOCK_TOLERANCE), &skews, 5), "so much is tolerated");
            assert!(pace.is_unsure(set, &skews, 5));
            assert_eq!(skews.off_by(5), None, "what others said before was about another time");
            for number in 0..5 {
                assert!(pace.is_unsure(set, &skews, 5), "after {number}");
                skews.note(RelayId::from_bytes([number; 32]), u32::try_from(NOW.0 / 60).unwrap(), set);
            }
            assert!(!pace.is_unsure(set, &skews, 5));
            assert!(skews.off_by(5).is_some(), "and now it is known to be wrong");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_without_others_is_never_unsure() {
        assert!(!Pace::new(NOW).is_unsure(UnixSeconds(0), &Skews::default(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_goes_with_the_runtimes() {
        let clock = Clock::Simulated { at: Instant::now(), unix: NOW };
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(clock.now(), NOW.plus(61));
        assert_eq!(clock.until(NOW.plus(70)), Duration::from_secs(9));
        assert_eq!(clock.until(NOW), Duration::ZERO);
    }
}
