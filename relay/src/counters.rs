//! Counters: what was turned away, by its cause, for the status and for metrics.
//!
//! They say how often, never whose it was or when.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use trefoil_protocol::{cell::Refusal, descriptor::DescriptorError, limits::GARBAGE_WORK};

/// Why something that a peer sent or asked for was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A record that is no descriptor's form.
    Form,
    /// A record of a version that this program does not know: of a newer one, most likely.
    Version,
    /// A record of another network.
    Network,
    /// A record with an address that the network does not allow.
    Address,
    /// A record that wants to be valid for too long.
    Lifetime,
    /// A record of an epoch to come.
    Future,
    /// A record whose time is over.
    Expired,
    /// A record that was known, or older than what was.
    Stale,
    /// A record for which there was no room: too many pending, or too many in its netgroup.
    NoRoom,
    /// A new relay, when its sender had sent too many.
    TooMany,
    /// A record of another relay, from a peer that is not known itself.
    Stranger,
    /// Too little hashcash.
    Hashcash,
    /// A wrong signature.
    Signature,
    /// Too little memory-hard work.
    MemoryHard,
    /// A record that was not checked because too many waited.
    Busy,
    /// A fraud proof that proves nothing.
    Fraud,
    /// A sighting that is none, or that nobody signed.
    Sighting,
    /// Bytes that are no message of a directory stream.
    Frame,
    /// A reconciliation that lied, looped or did not end.
    Reconcile,
    /// A request of a peer that has sent too much garbage.
    Dropped,
    /// A circuit whose handshake was malformed, or named an onion key that is not here.
    CircuitRefused,
    /// A circuit whose handshake was answered `Busy`: its puzzle was not solved, or too many waited.
    CircuitBusy,
    /// A circuit for which there was no room.
    CircuitLimit,
    /// A circuit that was closed because memory was full.
    CircuitMemory,
    /// An extension beyond what its link, or all of them, may have.
    ExtendLimit,
}

/// How often each [`Cause`] was met.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Cause::ALL.len()]);

impl Cause {
    /// All of them, in their order.
    pub const ALL: [Self; 25] = [
        Self::Form,
        Self::Version,
        Self::Network,
        Self::Address,
        Self::Lifetime,
        Self::Future,
        Self::Expired,
        Self::Stale,
        Self::NoRoom,
        Self::TooMany,
        Self::Stranger,
        Self::Hashcash,
        Self::Signature,
        Self::MemoryHard,
        Self::Busy,
        Self::Fraud,
        Self::Sighting,
        Self::Frame,
        Self::Reconcile,
        Self::Dropped,
        Self::CircuitRefused,
        Self::CircuitBusy,
        Self::CircuitLimit,
        Self::CircuitMemory,
        Self::ExtendLimit,
    ];

    /// Its name in a status and in metrics. These do not change, since people keep them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Version => "version",
            Self::Network => "network",
            Self::Address => "address",
            Self::Lifetime => "lifetime",
            Self::Future => "future",
            Self::Expired => "expired",
            Self::Stale => "stale",
            Self::NoRoom => "no_room",
            Self::TooMany => "too_many",
            Self::Stranger => "stranger",
            Self::Hashcash => "hashcash",
            Self::Signature => "signature",
            Self::MemoryHard => "memory_hard",
            Self::Busy => "busy",
            Self::Fraud => "fraud",
            Self::Sighting => "sighting",
            Self::Frame => "frame",
            Self::Reconcile => "reconcile",
            Self::Dropped => "dropped",
            Self::CircuitRefused => "circuit_refused",
            Self::CircuitBusy => "circuit_busy",
            Self::CircuitLimit => "circuit_limit",
            Self::CircuitMemory => "circuit_memory",
            Self::ExtendLimit => "extend_limit",
        }
    }

    /// As how many pieces of garbage it counts: none where honest nodes send such a thing, too. They check records before
    /// they pass them on.
    pub(crate) fn garbage(self) -> u32 {
        match self {
            Self::MemoryHard => GARBAGE_WORK,
            Self::Form
            | Self::Network
            | Self::Address
            | Self::Lifetime
            | Self::Hashcash
            | Self::Signature
            | Self::Fraud
            | Self::Sighting
            | Self::Frame
            | Self::Reconcile => 1,
            Self::Version
            | Self::Future
            | Self::Expired
            | Self::Stale
            | Self::NoRoom
            | Self::TooMany
            | Self::Stranger
            | Self::Busy
            | Self::Dropped
            | Self::CircuitRefused
            | Self::CircuitBusy
            | Self::CircuitLimit
            | Self::CircuitMemory
            | Self::ExtendLimit => 0,
        }
    }
}

impl Counters {
    /// How often this was met.
    pub fn of(&self, cause: Cause) -> u64 {
        self.0.get(cause as usize).map_or(0, |count| count.load(Relaxed))
    }

    pub(crate) fn count(&self, cause: Cause) {
        self.add(cause, 1);
    }

    pub(crate) fn add(&self, cause: Cause, times: u64) {
        match self.0.get(cause as usize) {
            Some(count) => _ = count.fetch_add(times, Relaxed),
            None => debug_assert!(false, "{cause:?} is missing in `Cause::ALL`"),
        }
    }
}

impl From<Refusal> for Cause {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Refused => Self::CircuitRefused,
            Refusal::Busy(_) => Self::CircuitBusy,
            Refusal::Limit => Self::CircuitLimit,
        }
    }
}

impl From<DescriptorError> for Cause {
    fn from(error: DescriptorError) -> Self {
        match error {
            DescriptorError::Form => Self::Form,
            DescriptorError::Version(_) => Self::Version,
            DescriptorError::Network => Self::Network,
            DescriptorError::Address => Self::Address,
            DescriptorError::Lifetime => Self::Lifetime,
            DescriptorError::Future => Self::Future,
            DescriptorError::Expired => Self::Expired,
            DescriptorError::Hashcash => Self::Hashcash,
            DescriptorError::Signature | DescriptorError::Family | DescriptorError::OnionKey => Self::Signature,
            DescriptorError::MemoryHard => Self::MemoryHard,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_cause_has_a_counter_and_a_name_of_its_own() {
        let counters = Counters::default();
        for (times, cause) in (1..).zip(Cause::ALL) {
            counters.add(cause, times);
            counters.count(cause);
        }
        for (times, cause) in (1..).zip(Cause::ALL) {
            assert_eq!(counters.of(cause), times + 1, "{cause:?}");
        }
        let names: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        assert_eq!(names.len(), Cause::ALL.len());
    }

    #[test]
    fn the_last_cause_is_the_last_of_all() {
        // Whoever adds a cause meets the matches of `name` and `garbage`; this holds the list to their order.
        assert!(Cause::ALL.iter().enumerate().all(|(at, cause)| *cause as usize == at));
    }
}
