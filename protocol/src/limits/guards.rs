//! Bounds of guards (`guard.rs`).

use std::time::Duration;

/// Guards that a client draws at once, so that who makes some of them fail does not choose the others.
pub const GUARDS_SAMPLED: usize = 20;
/// Guards that circuits begin at: one that fails leaves another, and more would only be more who see the client.
pub const GUARDS_IN_USE: usize = 2;
/// A guard is kept for this long at most. Shorter, and a client meets more of them in its life.
pub const GUARD_LIFETIME: Duration = Duration::from_secs(120 * DAY);
/// A guard's time is drawn, up to this much shorter, so that not all of them end at once.
pub const GUARD_LIFETIME_SPREAD: Duration = Duration::from_secs(30 * DAY);
/// Most time that counts as passed between two looks at the clock: one wrong clock must not end all guards.
pub const GUARD_CLOCK_STEP: Duration = Duration::from_secs(7 * DAY);
/// Most seconds that a sample can have counted: a thousand years.
pub const GUARD_LIVED_MAX: u64 = 1000 * 366 * DAY;
/// A guard that the usable set does not have is kept for this long: outages pass.
pub const GUARD_UNLISTED: Duration = Duration::from_secs(20 * DAY);
/// Guards that are dialled within [`GUARDS_DIALLED_SPAN`] before a person is told: the two in use, and two more.
pub const GUARDS_DIALLED: usize = 4;
/// See [`GUARDS_DIALLED`].
pub const GUARDS_DIALLED_SPAN: Duration = Duration::from_secs(30 * DAY);
/// Guards that were dialled within [`GUARDS_DIALLED_SPAN`] and are remembered, however often a person goes on.
pub const GUARDS_DIALLED_KEPT: usize = 64;
/// Circuits through a guard before their share that failed says something about it.
pub const GUARD_CIRCUITS_JUDGED: u32 = 20;
/// At this many, a guard's counts are halved: what is long ago counts less.
pub const GUARD_CIRCUITS_KEPT: u32 = 200;
/// A guard is dropped when this many in a hundred of its circuits failed: more than dead relays in the paths explain.
pub const GUARD_FAILED_PERCENT: u32 = 70;
/// And when that is this many in a hundred of what fails through the other guards, by share: where most relays are bad,
/// most circuits fail through good guards, and fewer through bad ones.
pub const GUARD_WORSE_PERCENT: u32 = 130;
/// Dropped guards that are remembered, so that they are not drawn again.
pub const GUARDS_DROPPED: usize = 64;
/// After a failed dial, for how long a guard is not dialled; doubled by each further failure.
pub const GUARD_RETRY_MIN: Duration = Duration::from_secs(5);
/// Longest time for which a guard that does not answer is left alone while no other may be dialled.
pub const GUARD_RETRY_ALONE: Duration = Duration::from_secs(60);
/// Longest time for which a guard that does not answer is left alone.
pub const GUARD_RETRY_MAX: Duration = Duration::from_secs(3600);
/// Between two feelers, on average: each member of a sample is tried about every three days.
pub const FEELER_EVERY: Duration = Duration::from_secs(4 * 3600);
/// Feelers in a row that must fail, each through other relays, before a guard goes behind the others: one may lie.
pub const FEELER_MISSES: u8 = 2;

const DAY: u64 = 24 * 3600;
