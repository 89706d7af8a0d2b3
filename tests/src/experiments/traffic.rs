//! Traffic: what all nodes together sent, by kind of message.

use std::collections::BTreeMap;

/// Bytes that go around a packet's content: headers of IP, UDP and QUIC, its tag, and the frame's own header.
pub const PACKET: f64 = 70.0;
/// Bytes of content that a packet takes.
const CONTENT: usize = 1_150;

/// Bytes of the packets that carry this many.
pub fn on_wire(bytes: usize) -> f64 {
    bytes as f64 + bytes.div_ceil(CONTENT) as f64 * PACKET
}

/// A kind of directory traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A fraud proof that is pushed.
    Proof,
    /// A sighting that is pushed.
    Sighting,
    /// A record that was found by reconciliation.
    Records,
    /// All that a newcomer gets from the first node that it asks.
    Whole,
    /// A look for a relay that is new to the node and there.
    Look,
    /// A look for a relay that is gone: only the questions.
    LookFailed,
    /// A dial of a relay that is to be a neighbour.
    Link,
    /// A dial that nobody answered.
    DialFailed,
}

/// Counts of messages.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// For each kind, how many, and how many bytes of records in them.
    counts: BTreeMap<Kind, (u64, u64)>,
    /// How many sessions found so many differences.
    sessions: BTreeMap<usize, u64>,
    /// How many pushes carried so many records.
    pushes: BTreeMap<usize, u64>,
}

impl Traffic {
    /// Counts a message with so many bytes of records.
    pub fn count(&mut self, kind: Kind, bytes: usize) {
        let (messages, sum) = self.counts.entry(kind).or_default();
        *messages += 1;
        *sum += bytes as u64;
    }

    /// Counts a reconciliation that found so many differences.
    pub fn count_session(&mut self, differences: usize) {
        *self.sessions.entry(differences).or_default() += 1;
    }

    /// Counts a push of so many records.
    pub fn count_push(&mut self, records: usize) {
        *self.pushes.entry(records).or_default() += 1;
    }

    /// Numbers of records, and how many pushes carried so many.
    pub fn pushes(&self) -> impl Iterator<Item = (usize, u64)> {
        self.pushes.iter().map(|(records, count)| (*records, *count))
    }

    /// How many messages of this kind there were, and how many bytes of records in them.
    pub fn of(&self, kind: Kind) -> (u64, u64) {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// Numbers of differences, and how many sessions found so many.
    pub fn sessions(&self) -> impl Iterator<Item = (usize, u64)> {
        self.sessions.iter().map(|(differences, count)| (*differences, *count))
    }
}
