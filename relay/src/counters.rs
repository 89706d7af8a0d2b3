//! Counters: what was turned away, by its cause, for the log and for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use trefoil_protocol::descriptor::DescriptorError;

/// Why something that a peer sent was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A record that is no descriptor's form, or of an unknown version.
    Form,
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
    /// Bytes that are no message of a directory stream.
    Frame,
    /// A reconciliation that lied, looped or did not end.
    Reconcile,
    /// A request of a peer that has sent too much garbage.
    Dropped,
}

/// How often each [`Cause`] was met.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; 18]);

impl Cause {
    /// Whether no honest node sends such a thing: honest nodes check records before they pass them on.
    pub(crate) fn is_garbage(self) -> bool {
        match self {
            Self::Form
            | Self::Network
            | Self::Address
            | Self::Lifetime
            | Self::Hashcash
            | Self::Signature
            | Self::MemoryHard
            | Self::Fraud
            | Self::Frame
            | Self::Reconcile => true,
            Self::Future
            | Self::Expired
            | Self::Stale
            | Self::NoRoom
            | Self::TooMany
            | Self::Stranger
            | Self::Busy
            | Self::Dropped => false,
        }
    }
}

impl Counters {
    /// How often this was met.
    pub fn of(&self, cause: Cause) -> u64 {
        self.0.get(cause as usize).map_or(0, |count| count.load(Relaxed))
    }

    pub(crate) fn count(&self, cause: Cause) {
        if let Some(count) = self.0.get(cause as usize) {
            count.fetch_add(1, Relaxed);
        }
    }
}

impl From<DescriptorError> for Cause {
    fn from(error: DescriptorError) -> Self {
        match error {
            DescriptorError::Form | DescriptorError::Version(_) => Self::Form,
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
    use super::*;

    #[test]
    fn every_cause_has_a_counter() {
        let counters = Counters::default();
        counters.count(Cause::Form);
        counters.count(Cause::Dropped);
        assert_eq!((counters.of(Cause::Form), counters.of(Cause::Dropped), counters.of(Cause::Busy)), (1, 1, 0));
    }
}
