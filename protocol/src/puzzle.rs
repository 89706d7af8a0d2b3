//! The puzzle that a busy relay asks for: a hashcash bound to the relay, the hour and the origin's ephemeral key.
//!
//! Specification: docs/protocol.md, "Busy". The same effort is asked of everyone, so it tells nobody apart. This file
//! never reads a clock: callers hand in the hour.

use crate::{crypto, identity::RelayId, limits::X25519_KEY};

const LABEL: &[u8] = b"trefoil/1 create";

/// Hours since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hour(pub u32);

/// How much work, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Puzzle {
    /// Leading zero bits of the hash; 0 needs no work.
    pub effort: u8,
    /// The hour in which it is solved.
    pub hour: Hour,
}

impl Hour {
    /// The hour of a Unix time in seconds.
    pub fn of_unix(seconds: u64) -> Self {
        Self(u32::try_from(seconds / 3600).unwrap_or(u32::MAX))
    }
}

impl Puzzle {
    /// No work at all.
    pub const NONE: Self = Self { effort: 0, hour: Hour(0) };

    /// Searches from 0 upwards; 2^effort hashes on average.
    pub fn solve(&self, relay: &RelayId, x: &[u8; X25519_KEY]) -> [u8; 8] {
        (0u64..)
            .map(u64::to_le_bytes)
            .find(|solution| zero_bits(relay, self.hour, x, solution) >= u32::from(self.effort))
            .expect("2^64 tries find at most 255 zero bits only if the effort is beyond any limit")
    }

    /// Whether `solution` has this effort, in this hour or one next to it (clocks differ).
    pub fn is_solved_by(&self, relay: &RelayId, x: &[u8; X25519_KEY], solution: &[u8; 8]) -> bool {
        self.effort == 0
            || [self.hour.0, self.hour.0.wrapping_sub(1), self.hour.0.wrapping_add(1)]
                .into_iter()
                .any(|hour| zero_bits(relay, Hour(hour), x, solution) >= u32::from(self.effort))
    }
}

fn zero_bits(relay: &RelayId, hour: Hour, x: &[u8; X25519_KEY], solution: &[u8; 8]) -> u32 {
    let hash = crypto::blake3(&[LABEL, relay.as_bytes(), &hour.0.to_le_bytes(), x, solution]);
    crypto::leading_zeros(&hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: RelayId = RelayId::from_bytes([3; 32]);
    const PUZZLE: Puzzle = Puzzle { effort: 10, hour: Hour(500_000) };

    #[test]
    fn a_solution_holds_for_its_relay_key_and_hour_only() {
        let solution = PUZZLE.solve(&RELAY, &[1; 32]);
        assert!(PUZZLE.is_solved_by(&RELAY, &[1; 32], &solution));
        assert!(!PUZZLE.is_solved_by(&RELAY, &[2; 32], &solution));
        assert!(!PUZZLE.is_solved_by(&RelayId::from_bytes([4; 32]), &[1; 32], &solution));
        assert!(!Puzzle { hour: Hour(500_002), ..PUZZLE }.is_solved_by(&RELAY, &[1; 32], &solution));
    }

    #[test]
    fn a_clock_may_be_off_by_an_hour() {
        let solution = PUZZLE.solve(&RELAY, &[1; 32]);
        for hour in [499_999, 500_001] {
            assert!(Puzzle { hour: Hour(hour), ..PUZZLE }.is_solved_by(&RELAY, &[1; 32], &solution));
        }
    }

    #[test]
    fn no_effort_needs_no_solution() {
        assert!(Puzzle { effort: 0, ..PUZZLE }.is_solved_by(&RELAY, &[1; 32], &[9; 8]));
        assert_eq!(Puzzle::NONE.solve(&RELAY, &[1; 32]), [0; 8]);
    }
}
