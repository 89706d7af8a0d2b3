//! The sizes, counts and times of finding a network (`protocol/src/invite.rs`).

/// Most bytes of an invite: [`INVITE_RELAYS`] URIs and some words.
pub const MAX_INVITE: usize = 64 * 1024;
/// Most relays of an invite. One that answers is enough, and a few more outlast it.
pub const INVITE_RELAYS: usize = 128;
/// Relays of an invite that a client makes, unless it is told otherwise.
pub const INVITE_SHORT: usize = 5;
