//! Epochs: the directory's time, counted in steps that all nodes of a network share.
//!
//! Specification: docs/protocol.md, "Time and epochs". This file never reads a clock: callers hand in [`UnixSeconds`].

use std::fmt;

use crate::{limits::CLOCK_TOLERANCE, params::DirectoryParams};

/// A point in time: seconds since the Unix epoch, without leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixSeconds(pub u64);

/// A number of an epoch: epoch *n* begins *n* times the network's epoch length after the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

impl UnixSeconds {
    /// The seconds from `earlier` to this; 0 if `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This, and so many seconds more.
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

impl Epoch {
    /// The epoch that holds `now`.
    pub fn of(now: UnixSeconds, params: &DirectoryParams) -> Self {
        Self(u32::try_from(now.0 / u64::from(params.epoch.get())).unwrap_or(u32::MAX))
    }

    /// The latest epoch that anything may be issued for: the next one, or one that begins within the tolerance.
    pub fn latest(now: UnixSeconds, params: &DirectoryParams) -> Self {
        Self::of(now, params).next().max(Self::of(now.plus(CLOCK_TOLERANCE), params))
    }

    /// The earliest epoch that somebody can be in who is not late: the one before this, or one that the tolerance
    /// reaches back to.
    pub fn earliest(now: UnixSeconds, params: &DirectoryParams) -> Self {
        let Self(tolerated) = Self::of(UnixSeconds(now.0.saturating_sub(CLOCK_TOLERANCE)), params);
        Self(tolerated.min(Self::of(now, params).0.saturating_sub(1)))
    }

    /// When it begins.
    pub fn start(self, params: &DirectoryParams) -> UnixSeconds {
        UnixSeconds(u64::from(self.0) * u64::from(params.epoch.get()))
    }

    /// The one after it.
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The one so many epochs after it.
    pub fn plus(self, epochs: u32) -> Self {
        Self(self.0.saturating_add(epochs))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::NetworkParams;

    #[test]
    fn an_epoch_holds_the_seconds_from_its_start_to_the_next() {
        let params = NetworkParams::main().directory;
        let epoch = Epoch(83_333);
        let (start, end) = (epoch.start(&params), epoch.next().start(&params));
        assert_eq!(end.since(start), 21_600);
        assert_eq!(Epoch::of(start, &params), epoch);
        assert_eq!(Epoch::of(UnixSeconds(end.0 - 1), &params), epoch);
        assert_eq!(Epoch::of(end, &params), epoch.next());
    }

    #[test]
    fn no_time_is_out_of_range() {
        let params = NetworkParams::main().directory;
        assert_eq!(Epoch::of(UnixSeconds(u64::MAX), &params), Epoch(u32::MAX));
        assert_eq!(Epoch(u32::MAX).next(), Epoch(u32::MAX));
        assert_eq!(UnixSeconds(1).since(UnixSeconds(2)), 0);
        assert_eq!(UnixSeconds(u64::MAX).plus(1), UnixSeconds(u64::MAX));
    }
}
