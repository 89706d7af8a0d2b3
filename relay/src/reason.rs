//! Why a circuit or a link was closed: one byte, for the adjacent peer only.
//!
//! Specification: docs/protocol.md, "Closing". It is QUIC's application error code of a stream or a connection. A
//! relay never passes a reason on: its other neighbour is told [`CloseReason::Unspecified`], always.

use quinn::VarInt;

/// Why a circuit or a link was closed. Unknown codes read as [`CloseReason::Unspecified`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum CloseReason {
    /// No reason is given: an orderly close, or one that began elsewhere on the circuit.
    #[default]
    #[error("no reason given")]
    Unspecified = 0,
    /// The peer broke the protocol.
    #[error("the protocol was violated")]
    Protocol = 1,
    /// A limit was reached.
    #[error("a limit was reached")]
    Limit = 2,
    /// The peer did not do its part in time.
    #[error("a time limit was reached")]
    Timeout = 3,
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Shutdown = 4,
    /// A second link between the same two relays; the other one stays.
    #[error("another link to the same relay stays")]
    Duplicate = 5,
    /// A fault of the node's own.
    #[error("the node failed")]
    Internal = 6,
}

impl CloseReason {
    const ALL: [Self; 7] = [
        Self::Unspecified,
        Self::Protocol,
        Self::Limit,
        Self::Timeout,
        Self::Shutdown,
        Self::Duplicate,
        Self::Internal,
    ];

    /// The reason as QUIC's application error code.
    pub(crate) fn code(self) -> VarInt {
        VarInt::from(self as u8)
    }

    /// The reason that a peer gave.
    pub(crate) fn from_code(code: VarInt) -> Self {
        let at = usize::try_from(code.into_inner()).unwrap_or(usize::MAX);
        Self::ALL.get(at).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_its_code() {
        for reason in CloseReason::ALL {
            assert_eq!(CloseReason::from_code(reason.code()), reason);
        }
    }

    #[test]
    fn an_unknown_code_says_nothing() {
        for code in [VarInt::from_u32(7), VarInt::from_u32(256), VarInt::MAX] {
            assert_eq!(CloseReason::from_code(code), CloseReason::Unspecified);
        }
    }
}
