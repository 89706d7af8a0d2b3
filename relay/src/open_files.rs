//! How many files and sockets the system lets this process have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use trefoil_protocol::limits::OPEN_FILES_KEPT;

/// The limit that is in force.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Sockets to the outside that each of this many exits may have open, by the limit that is in force: equal parts of what
/// the process does not keep for itself.
pub fn outlets(exits: usize) -> usize {
    share(limit(), exits)
}

fn share(limit: u64, exits: usize) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(OPEN_FILES_KEPT) / exits.max(1)
}

/// Raises the limit in force to the highest that is allowed without privileges, if the system lets us. To be called
/// before relays are set up, with the [`outlets`] that it leaves them.
pub fn raise() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_the_highest_allowed() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(limit(), maximum.unwrap_or(u64::MAX));
    }

    #[test]
    fn exits_of_one_process_have_no_more_together_than_one_alone() {
        assert_eq!(share(1024, 1), 1024 - OPEN_FILES_KEPT);
        assert_eq!(share(1024, 8), (1024 - OPEN_FILES_KEPT) / 8);
        assert_eq!(share(100, 8), 0, "an exit has a few all the same: see `outlets`");
    }
}
