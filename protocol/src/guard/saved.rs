//! The saved form of a guard sample: what a restart must not lose, and what a damaged file cannot bring back.

use serde::{Deserialize, Serialize};

use super::{Dialled, Guard, GuardSample, secs};
use crate::{
    epoch::{Epoch, UnixSeconds},
    identity::RelayId,
    limits::{
        GUARD_CIRCUITS_KEPT, GUARD_LIFETIME, GUARD_LIVED_MAX, GUARDS_DIALLED_KEPT, GUARDS_DROPPED, GUARDS_IN_USE,
        GUARDS_SAMPLED, VIEW_CONFIRMED,
    },
};

/// Why saved guards are of no use, in words for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSample {
    /// By another version of the program.
    #[error("the saved guards have version {0}, and this program knows version {VERSION} only")]
    Version(u32),
    /// Longer than any that was saved.
    #[error("the saved guards are damaged: there are too many {0}")]
    TooMany(&'static str),
    /// One relay in two places.
    #[error("the saved guards are damaged: a relay is there twice among the {0}")]
    Twice(&'static str),
    /// Numbers that contradict each other.
    #[error("the saved guards are damaged: {0} cannot be")]
    Number(&'static str),
}

/// See [`GuardSample`] for what the fields mean.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    version: u32,
    clock: u64,
    lived: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u32>,
    confirmed: u8,
    anchors: Vec<RelayId>,
    guards: Vec<SavedGuard>,
    dialled: Vec<SavedDial>,
    dropped: Vec<SavedDrop>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedGuard {
    relay: RelayId,
    until: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    provisional: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unlisted: Option<u64>,
    circuits: u32,
    failed: u32,
    misses: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedDial {
    relay: RelayId,
    at: u64,
    left: bool,
    told: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedDrop {
    relay: RelayId,
    at: u64,
}

impl From<GuardSample> for Saved {
    fn from(sample: GuardSample) -> Self {
        let guard = |guard: &Guard| SavedGuard {
            relay: guard.relay,
            until: guard.until,
            provisional: guard.provisional,
            unlisted: guard.unlisted,
            circuits: guard.circuits,
            failed: guard.failed,
            misses: guard.misses,
        };
        let dial = |dial: &Dialled| SavedDial { relay: dial.relay, at: dial.at, left: dial.left, told: dial.told };
        Self {
            version: VERSION,
            clock: sample.clock.0,
            lived: sample.lived,
            epoch: sample.epoch.map(|epoch| epoch.0),
            confirmed: sample.confirmed,
            anchors: sample.anchors,
            guards: sample.guards.iter().map(guard).collect(),
            dialled: sample.dialled.iter().map(dial).collect(),
            dropped: sample.dropped.iter().map(|(relay, at)| SavedDrop { relay: *relay, at: *at }).collect(),
        }
    }
}

impl TryFrom<Saved> for GuardSample {
    type Error = BadSample;

    fn try_from(saved: Saved) -> Result<Self, BadSample> {
        saved.check()?;
        let guard = |guard: SavedGuard| Guard {
            provisional: guard.provisional,
            unlisted: guard.unlisted,
            circuits: guard.circuits,
            failed: guard.failed,
            misses: guard.misses,
            ..Guard::new(guard.relay, guard.until)
        };
        let dial = |dial: SavedDial| Dialled { relay: dial.relay, at: dial.at, left: dial.left, told: dial.told };
        Ok(Self {
            clock: UnixSeconds(saved.clock),
            lived: saved.lived,
            epoch: saved.epoch.map(Epoch),
            confirmed: saved.confirmed,
            starting: saved.anchors.iter().rev().copied().collect(), // the newest is taken from the end, first
            anchors: saved.anchors,
            guards: saved.guards.into_iter().map(guard).collect(),
            dialled: saved.dialled.into_iter().map(dial).collect(),
            dropped: saved.dropped.into_iter().map(|dropped| (dropped.relay, dropped.at)).collect(),
            next_feeler: 0,
        })
    }
}

impl Saved {
    fn check(&self) -> Result<(), BadSample> {
        if self.version != VERSION {
            return Err(BadSample::Version(self.version));
        }
        check_list("guards", self.guards.iter().map(|guard| guard.relay), GUARDS_SAMPLED)?;
        check_list("anchors", self.anchors.iter().copied(), GUARDS_IN_USE)?;
        check_list("relays that were dialled", self.dialled.iter().map(|dial| dial.relay), 2 * GUARDS_DIALLED_KEPT)?;
        check_list("relays that were dropped", self.dropped.iter().map(|drop| drop.relay), GUARDS_DROPPED)?;
        let times = self.dialled.iter().map(|dial| dial.at).chain(self.dropped.iter().map(|drop| drop.at));
        let times_are_past =
            times.chain(self.guards.iter().filter_map(|guard| guard.unlisted)).all(|at| at <= self.lived);
        let lifetimes = self.guards.iter().all(|guard| guard.until <= self.lived.saturating_add(secs(GUARD_LIFETIME)));
        let circuits =
            self.guards.iter().all(|guard| guard.failed <= guard.circuits && guard.circuits < GUARD_CIRCUITS_KEPT);
        for (holds, what) in [
            (self.lived <= GUARD_LIVED_MAX, "the time that was counted"),
            (times_are_past, "a time in the future"),
            (lifetimes, "a guard's remaining time"),
            (circuits, "a guard's count of circuits"),
            (self.confirmed <= VIEW_CONFIRMED, "the count of epochs"),
        ] {
            if !holds {
                return Err(BadSample::Number(what));
            }
        }
        Ok(())
    }
}

fn check_list(what: &'static str, relays: impl Iterator<Item = RelayId>, most: usize) -> Result<(), BadSample> {
    let mut relays: Vec<_> = relays.take(most + 1).collect();
    if relays.len() > most {
        return Err(BadSample::TooMany(what));
    }
    relays.sort_unstable();
    if relays.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(BadSample::Twice(what)) }
}

const VERSION: u32 = 1;
