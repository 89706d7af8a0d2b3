//! Bounds of settling: how relays agree on who was there in time.

use super::DIRECTORY_FRAME;

/// Relays whose sightings count in an epoch.
pub const OBSERVERS: usize = 16;
/// Sightings of one relay that are enough at any time: where an attacker has no more than 11 observers, one of them is an
/// honest one's.
pub const SIGHTINGS_ENOUGH: u32 = 12;
/// Steps of `settle`: in each, what one honest relay has comes to all. Four minutes of the public network.
pub const SETTLE_STEPS: u64 = 30;
/// Parts of a step of which an observer signs in one at most, so that it is done within its limits.
pub const SIGHTING_PARTS: u64 = 3;
/// Relays of one sighting.
pub const SIGHTED_MAX: usize = 64;
/// Relays in all sightings of one observer for one epoch; about 5 MB for all observers together.
pub const SIGHTED_EACH: usize = 4096;
/// Sightings of one observer for one epoch that are kept: the full ones, and one for each part of a step.
pub const SIGHTINGS_EACH: usize = SIGHTED_EACH / SIGHTED_MAX + 75;
/// Sightings that are kept at once.
pub const SIGHTINGS_MAX: usize = OBSERVERS * SIGHTINGS_EACH;
/// Answers with sightings that are asked for in one talk; all fit into fewer.
pub const SIGHTINGS_ASKED: usize = 64;
/// Most bytes of a sighting.
pub const MAX_SIGHTING: usize = 100 + 32 * SIGHTED_MAX;
/// Sightings that are pushed in one frame: as many as fit in any case.
pub const SIGHTINGS_AT_ONCE: usize = DIRECTORY_FRAME / (MAX_SIGHTING + 2) - 1;
