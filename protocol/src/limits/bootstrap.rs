//! The sizes, counts and times of finding a network (`protocol/src/invite.rs`, `relay/src/hints.rs`).

use std::time::Duration;

/// Most bytes of an invite: [`INVITE_RELAYS`] URIs and some words.
pub const MAX_INVITE: usize = 64 * 1024;
/// Most relays of an invite. One that answers is enough, and a few more outlast it.
pub const INVITE_RELAYS: usize = 128;
/// Relays of an invite that a client makes, unless it is told otherwise.
pub const INVITE_SHORT: usize = 5;

// relay: hints.rs, meet.rs

/// Addresses of one kind at which a relay may be: a flood of one kind leaves room for the others.
pub const HINTS_PER_KIND: usize = 64;
/// Hints that are followed at once.
pub const HINTS_RUNNING: usize = 4;
/// Addresses that are dialled for a hint within [`HINT_DIALS_SPAN`], all together: a few packets to each, since anyone
/// can name anyone's address.
pub const HINT_DIALS: usize = 16;
/// See [`HINT_DIALS`].
pub const HINT_DIALS_SPAN: Duration = Duration::from_secs(60);
/// An address at which nobody was met is dialled again after this long, doubled each time.
pub const HINT_PAUSE_MIN: Duration = Duration::from_secs(60);
/// Longest time until then, and for which a relay that was met is left alone.
pub const HINT_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// An address that nobody names any more is forgotten after this long.
pub const HINT_MEMORY: Duration = Duration::from_secs(2 * 3600);
