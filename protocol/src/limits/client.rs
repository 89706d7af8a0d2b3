//! The sizes, counts and times of a client's circuits (`client/src/pool.rs`, `race.rs`, `tunnel.rs`) and directory
//! (`directory.rs`, `source.rs`, `state.rs`).

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
pub const DOUBT_BYTES: usize = 3 << 19;
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

// pool.rs, race.rs, tunnel.rs

/// Isolation tokens that have circuits at once: their circuits are to fit the links to two guards, of
/// [`STREAMS_CLIENT`](super::STREAMS_CLIENT) each, however chance divides them, beside spares, retries and the
/// directory's own.
pub const MAX_ISOLATIONS: usize = 384;
/// Circuits that are built ahead of need.
pub const SPARE_CIRCUITS: usize = 2;
/// Circuits that are tried before a stream is told that there is none: where a third of the relays is gone, two of
/// three fail, and eight only once in 25 times.
pub const CIRCUIT_BUILD_TRIES: usize = 8;
/// For adding one hop to a new circuit, the link to its guard included.
pub const HOP_BUILD_TIMEOUT: Duration = Duration::from_secs(10);
/// A circuit that is not built after so many times what others took lately gets company: another one, over other
/// relays.
pub const BUILD_HEDGE_FACTOR: u32 = 3;
/// It gets company after this long in any case, and where none was built lately.
pub const BUILD_HEDGE: Duration = Duration::from_secs(2);
/// It gets none before this: a machine that is busy for a moment is no dead relay.
pub const BUILD_HEDGE_LEAST: Duration = Duration::from_millis(300);
/// A guard that does not answer for so many times what whole circuits took lately counts as one that failed:
/// [`HOP_BUILD_TIMEOUT`] is for networks of which nothing is known.
pub const GUARD_SILENCE_FACTOR: u32 = 4;
/// But not before this: guards are few, and another one is one more that sees the client.
pub const GUARD_SILENCE_LEAST: Duration = Duration::from_secs(1);
/// A link to a guard that has had no circuits for this long is closed.
pub const GUARD_IDLE: Duration = Duration::from_secs(30);
/// A relay that failed is left out of new paths for this long.
pub const RELAY_FAILURE_MEMORY: Duration = Duration::from_secs(60);
/// For opening a stream, over however many circuits.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Circuits that one stream is tried on.
pub const OPEN_TRIES: usize = 3;
/// A stream that does not open for this long is tried on a second circuit beside the first.
pub const OPEN_HEDGE: Duration = Duration::from_millis(1500);

// The control socket (`client/src/control.rs`).

/// Bytes of one line: a file of the largest size in base64 fits.
pub const CONTROL_LINE: usize = 16 << 20;
/// Programs that are connected at once.
pub const CONTROL_CALLERS: usize = 32;
/// Events that wait for a program that follows.
pub const CONTROL_EVENTS: usize = 1024;

// The postman and profiles (`client/src/{postman,profile,desk}.rs`).

/// Errands that are under way at once.
pub const ERRANDS_RUNNING: usize = 64;
/// For an errand, besides the time for which the mailbox may wait.
pub const ERRAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time between two looks at what is to be done.
pub const ERRANDS_PAUSE: Duration = Duration::from_secs(60);
/// A stream to a mailbox is kept for another question: shorter than the mailbox keeps it.
pub const STREAM_RESTS: Duration = Duration::from_secs(90);
/// Circuits to one mailbox for one of the person's own inboxes, at most, within [`CIRCUITS_OURS_WITHIN`]: a mailbox that
/// ends each could learn in time where they begin. Looks that come by chance need about 2 an hour.
pub const CIRCUITS_OURS: usize = 48;
/// See [`CIRCUITS_OURS`].
pub const CIRCUITS_OURS_WITHIN: Duration = Duration::from_secs(6 * 3600);
/// Tries to build a circuit to a mailbox that may come as far as to it.
pub const MAILBOX_REACHED: usize = 2;
/// Hours that an invite counts, at most: a year.
pub const INVITE_HOURS: u32 = 366 * 24;
/// Characters of a profile's name, at most.
pub const PROFILE_NAME: usize = 32;

// The commands (`client/src/commands.rs`).

/// For the program that `inbox --notify` runs for one letter.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_secs(60);
/// Letters that `history` shows and `chat` begins with, unless more are asked for.
pub const HISTORY_SHOWN: usize = 100;
/// Letters that `chat` keeps on its screen.
pub const CHAT_KEPT: usize = 2000;
/// Bytes of a passphrase, at most.
pub const PASSPHRASE: usize = 1024;
/// Seconds that an invite counts, at most.
pub const INVITE_LONGEST: u64 = 365 * 24 * 3600;
/// Bytes of a profile that is imported, at most.
pub const PROFILE_FILE: u64 = 8 << 30;
/// A command that runs a client for itself asks the mailboxes for so long, before it shows what there is.
pub const OWN_PATIENCE: Duration = Duration::from_secs(30);
