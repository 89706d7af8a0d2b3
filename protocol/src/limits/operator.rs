//! The sizes, counts and times of what a node tells the person who runs it (`relay/src/status_socket.rs`).

use std::time::Duration;

/// Most bytes of a status.
pub const STATUS_MAX: u64 = 64 * 1024;
/// For telling a status.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
