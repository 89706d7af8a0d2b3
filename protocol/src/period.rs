//! Periods: the days and weeks after which inboxes and prekeys have other names and places.
//!
//! Specification: docs/protocol.md, "Rings". This file never reads a clock: callers hand in [`UnixSeconds`].

use crate::{
    crypto::{self, Secret},
    epoch::UnixSeconds,
};

/// Days since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(pub u32);

/// A number of a week; each inbox counts weeks from a moment of its own, so that not all of them move at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Week(pub u32);

/// By how many seconds the weeks of an inbox begin before those of the Unix epoch: 0, 6, 12 … hours, below a week. To the
/// second it would tell inboxes of one owner from all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeekOffset(u32);

impl Day {
    /// The day that holds `now`.
    pub fn of(now: UnixSeconds) -> Self {
        Self(number(now.0 / DAY))
    }

    /// When it begins.
    pub fn start(self) -> UnixSeconds {
        UnixSeconds(u64::from(self.0) * DAY)
    }
}

impl Week {
    /// The week that holds `now`, of an inbox with this offset.
    pub fn of(now: UnixSeconds, offset: WeekOffset) -> Self {
        Self(number(now.plus(offset.0.into()).0 / WEEK))
    }

    /// When it begins, for an inbox with this offset.
    pub fn start(self, offset: WeekOffset) -> UnixSeconds {
        UnixSeconds((u64::from(self.0) * WEEK).saturating_sub(offset.0.into()))
    }

    /// The one so many weeks after it.
    pub fn plus(self, weeks: u32) -> Self {
        Self(self.0.saturating_add(weeks))
    }
}

impl WeekOffset {
    /// The offset of whoever has this secret: `BLAKE3("trefoil/1 week" ‖ secret)[..4]` modulo 28, times six hours.
    pub fn of(secret: &Secret) -> Self {
        let [a, b, c, d, ..] = crypto::blake3(&[LABEL, &**secret]);
        Self(u32::from_le_bytes([a, b, c, d]) % (WEEK_SECONDS / STEP) * STEP)
    }
}

fn number(periods: u64) -> u32 {
    u32::try_from(periods).unwrap_or(u32::MAX)
}

const LABEL: &[u8] = b"trefoil/1 week";
const DAY: u64 = 24 * 3600;
const WEEK_SECONDS: u32 = 7 * 24 * 3600;
const WEEK: u64 = WEEK_SECONDS as u64;
const STEP: u32 = 6 * 3600;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn a_day_holds_the_seconds_from_its_start_to_the_next() {
        let day = Day(20_000);
        assert_eq!(Day(20_001).start().since(day.start()), 86_400);
        assert_eq!(Day::of(day.start()), day);
        assert_eq!(Day::of(UnixSeconds(Day(20_001).start().0 - 1)), day);
    }

    #[test]
    fn a_week_holds_the_seconds_from_its_start_to_the_next_whatever_its_offset() {
        for offset in [0, 1, 86_400, WEEK_SECONDS - 1].map(WeekOffset) {
            let week = Week(2900);
            assert_eq!(week.plus(1).start(offset).since(week.start(offset)), 604_800);
            assert_eq!(Week::of(week.start(offset), offset), week);
            assert_eq!(Week::of(UnixSeconds(week.plus(1).start(offset).0 - 1), offset), week);
        }
    }

    #[test]
    fn offsets_are_spread_over_the_week_in_steps_that_many_inboxes_share() {
        let offset = |seed: u8| WeekOffset::of(&Zeroizing::new([seed; 32])).0;
        let quarters: BTreeSet<_> = (0..=255).map(offset).collect();
        assert_eq!(quarters, (0..28).map(|quarter| quarter * 21_600).collect());
        let hash = crypto::blake3(&[b"trefoil/1 week", &[9; 32]]);
        assert_eq!(offset(9), u32::from_le_bytes(*hash.first_chunk().unwrap()) % 28 * 21_600);
    }

    #[test]
    fn no_time_is_out_of_range() {
        assert_eq!(Day::of(UnixSeconds(u64::MAX)), Day(u32::MAX));
        assert_eq!(Week::of(UnixSeconds(u64::MAX), WeekOffset(5)), Week(u32::MAX));
        assert_eq!((Week(0).start(WeekOffset(5)), Week(u32::MAX).plus(1)), (UnixSeconds(0), Week(u32::MAX)));
    }
}
