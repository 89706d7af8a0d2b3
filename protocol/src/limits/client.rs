//! The sizes, counts and times of a client's directory (`client/src/directory.rs`, `source.rs`, `state.rs`).

use std::time::Duration;

/// For the first relays to be known, before a stream is told that there are none.
pub const DIRECTORY_WAIT: Duration = Duration::from_secs(15);
/// Relays that a client begins at, at most, when it knows no guards yet: the more, the likelier an honest one.
pub const DOORS_MAX: usize = 5;
/// When one of them has answered, the others are waited for this long: a liar must not win by being fast.
pub const DOOR_GRACE: Duration = Duration::from_secs(3);
/// Sources whose majority decides which relays a client uses.
pub const SOURCES: usize = 5;
/// The same, where they do not all say the same: of 20 % liars, most of 5 are in 1 case of 17, and most of 25 in 1 of
/// 2,700.
pub const SOURCES_DOUBT: usize = 25;
/// Bytes of their answers, about: in a large network fewer are asked.
pub const DOUBT_BYTES: usize = 1 << 20;
/// Sources that are asked through circuits, at least: a guard alone must not decide.
pub const SOURCES_CIRCUITS: usize = 2;
/// When no source has answered for this long, one more is asked.
pub const SOURCE_HEDGE: Duration = Duration::from_secs(2);
/// Sources that are asked beside those wanted, at most.
pub const SOURCES_EXTRA: usize = 4;
/// After this long, as many sources as have answered are enough, if they are [`SOURCES_MIN`](super::SOURCES_MIN).
pub const SOURCES_PATIENCE: Duration = Duration::from_secs(6);
/// For all sources together.
pub const SOURCES_TIMEOUT: Duration = Duration::from_secs(25);
/// After a failure to learn of the network's relays; doubled by each further one.
pub const REFRESH_RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest time between two tries: a client never gives up.
pub const REFRESH_RETRY_LAST: Duration = Duration::from_secs(60);
/// Between two looks at whether another guard was dialled, which must be on disk soon.
pub const GUARDS_LOOK: Duration = Duration::from_secs(1);
/// Between two times that the guards are saved though nothing of weight has changed.
pub const GUARDS_SAVE: Duration = Duration::from_secs(600);
/// Most bytes that are read of a saved view or usable set.
pub const VIEW_FILE: usize = 64 * 1024 * 1024;
/// Most bytes that are read of saved guards.
pub const GUARDS_FILE: usize = 256 * 1024;
