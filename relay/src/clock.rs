//! Clock: the machine's time, as the directory counts it.

use std::time::{SystemTime, UNIX_EPOCH};

use trefoil_protocol::epoch::UnixSeconds;

/// This machine's time; 0 before 1970.
pub fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
