//! The pending relays of a view: those that no usable set had yet, and of which a flood consists.
//!
//! Each has a place that depends on the epoch and its id alone, behind all that this node has reached if it is not one
//! of these: relays that are nowhere cost their maker the least. As many as there is room for stay, those with the first
//! places, and of one netgroup no more than a few. So the same stay in whatever order they come, nobody can choose
//! places for more than one epoch ahead, and what has to go was never more than a guess.

use std::collections::BTreeMap;

use crate::{crypto, descriptor::Record, epoch::Epoch, identity::RelayId};

/// A relay's place in an epoch: the first are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    unreached: bool,
    /// The first 8 bytes of `BLAKE3("trefoil/1 place" ‖ epoch ‖ RelayId)`.
    rank: [u8; 8],
    pub(super) relay: RelayId,
}

/// The netgroup in which a relay is counted: that of its IPv4 address, or of its IPv6 address when it has no other. One
/// only, so that which relays stay does not depend on the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Netgroup(u64);

/// Pending relays by their places. A relay that moves is counted where it came in until the next epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    places: BTreeMap<Place, Netgroup>,
    crowds: BTreeMap<Netgroup, usize>,
    /// Who has the last place in a netgroup that is full, so that refusing one more costs no search.
    last: BTreeMap<Netgroup, Place>,
}

/// A relay's place in this epoch.
pub(super) fn place(epoch: Epoch, relay: &RelayId, reached: bool) -> Place {
    let [a, b, c, d, e, f, g, h, ..] = crypto::blake3(&[LABEL, &epoch.0.to_le_bytes(), relay.as_bytes()]);
    Place { unreached: !reached, rank: [a, b, c, d, e, f, g, h], relay: *relay }
}

impl Netgroup {
    pub(super) fn of(record: &Record) -> Self {
        let addresses = record.descriptor().addresses;
        let v4 = addresses.v4().map(|v4| u64::from(v4.ip().to_bits() >> 16));
        let v6 = addresses.v6().map(|v6| 1 << 32 | v6.ip().to_bits() >> 96);
        let v6 = v6.and_then(|group| u64::try_from(group).ok());
        Self(v4.or(v6).unwrap_or_default())
    }
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Who has the last place among those that one more of this netgroup would be too many of; `None` if it would not.
    pub(super) fn victim(&self, netgroup: Netgroup, room: usize) -> Option<Place> {
        let overall = || if self.len() < room { None } else { self.places.keys().next_back().copied() };
        self.last.get(&netgroup).copied().or_else(overall)
    }

    /// Gives a place; with `crowd` of its netgroup the netgroup is full.
    pub(super) fn insert(&mut self, place: Place, netgroup: Netgroup, crowd: usize) {
        if self.places.insert(place, netgroup).is_some() {
            return;
        }
        let count = self.crowds.entry(netgroup).or_default();
        *count += 1;
        if *count >= crowd {
            let last = self.places.iter().rev().find(|(_, other)| **other == netgroup);
            self.last.extend(last.map(|(place, _)| (netgroup, *place)));
        }
    }

    /// Takes its place from a relay, if it has one, and gives the netgroup that it was counted in.
    pub(super) fn remove(&mut self, place: &Place) -> Option<Netgroup> {
        let netgroup = self.places.remove(place)?;
        self.last.remove(&netgroup);
        if let Some(count) = self.crowds.get_mut(&netgroup) {
            *count -= 1;
            if *count == 0 {
                self.crowds.remove(&netgroup);
            }
        }
        Some(netgroup)
    }
}

const LABEL: &[u8] = b"trefoil/1 place";
