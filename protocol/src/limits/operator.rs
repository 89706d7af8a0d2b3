//! The sizes, counts and times of what a node tells the person who runs it, and does because that person says so
//! (`relay/src/status_socket.rs`, `metrics.rs`, `agreement.rs`, `leave.rs`).

use std::time::Duration;

/// Most bytes of a status.
pub const STATUS_MAX: u64 = 64 * 1024;
/// For telling a status.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at a status that somebody follows.
pub const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Connections that ask for metrics at once; further ones wait to be accepted.
pub const METRICS_CONNECTIONS: usize = 8;
/// For one question about metrics, its head and its answer together.
pub const METRICS_TIMEOUT: Duration = Duration::from_secs(5);
/// Relays that were compared with and are remembered.
pub const COMPARED_MAX: usize = 256;
/// For how long: each neighbour has its turn several times in it.
pub const COMPARED_AGE: Duration = Duration::from_secs(30 * 60);
/// For telling others that a relay leaves: as long as a person waits for a command.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(60);
/// Between two times that the same relay is asked whether it knows.
pub const LEAVE_PAUSE: Duration = Duration::from_secs(1);
