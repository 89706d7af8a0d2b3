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

// meeting.rs, relay: dht.rs

/// Seconds within which a relay announces itself again: those who store it forget it after about half an hour.
pub const DHT_ANNOUNCE_AHEAD: u64 = 30 * 60;
/// Between two errands of a relay in the DHT; a random part of [`DHT_SPREAD`] is added.
pub const DHT_EVERY: Duration = Duration::from_secs(15 * 60);
/// See [`DHT_EVERY`].
pub const DHT_SPREAD: Duration = Duration::from_secs(10 * 60);
/// After an errand that came to nothing, the next one; doubled each time.
pub const DHT_RETRY_MIN: Duration = Duration::from_secs(60);
/// Longest time until then, and for a client between two errands.
pub const DHT_RETRY_MAX: Duration = Duration::from_secs(3600);
/// For one errand: joining the DHT, looking, announcing.
pub const DHT_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at whether a relay that is to be announced is listed yet.
pub const DHT_LISTED_LOOK: Duration = Duration::from_millis(500);
/// Addresses that one look takes in.
pub const DHT_ADDRESSES: usize = 64;
/// Nodes of the DHT that are remembered from errand to errand, so that one begins without those that all begin at.
pub const DHT_NODES: usize = 32;

// beacon.rs, relay: lan.rs

/// Between two beacons of a relay; a random part of as much again is added.
pub const BEACON_EVERY: Duration = Duration::from_secs(20);
/// Between two packets that are read where beacons come: each costs a hash.
pub const BEACON_PAUSE: Duration = Duration::from_millis(4);
