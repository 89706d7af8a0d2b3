//! The sockets that an exit may have open to the outside: how many in all, and how many of them for one circuit.
//!
//! Specification: docs/protocol.md, "Limits". Each is a file descriptor, and without any left a relay serves nobody.
//! This file opens none.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trefoil_protocol::limits::{OUTLETS_MAX, OUTLETS_SHARE};

/// Those of one exit.
pub(crate) struct Outlets {
    all: Arc<Semaphore>,
    share: usize,
}

/// Those of one circuit.
#[derive(Clone)]
pub(crate) struct CircuitOutlets {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// Leave to have some sockets open; given back when dropped.
pub(crate) struct Outlet {
    _of_all: OwnedSemaphorePermit,
    _of_own: OwnedSemaphorePermit,
}

impl Outlets {
    /// As many as this, within [`OUTLETS_SHARE`] and [`OUTLETS_MAX`].
    pub(crate) fn new(all: usize) -> Self {
        let all = all.clamp(OUTLETS_SHARE, OUTLETS_MAX);
        Self { all: Arc::new(Semaphore::new(all)), share: all / OUTLETS_SHARE }
    }

    /// A new circuit's.
    pub(crate) fn circuit(&self) -> CircuitOutlets {
        CircuitOutlets { all: Arc::clone(&self.all), own: Arc::new(Semaphore::new(self.share)) }
    }
}

impl CircuitOutlets {
    /// Leave for this many sockets, if the circuit and the exit have that many left.
    pub(crate) fn take(&self, sockets: u32) -> Option<Outlet> {
        let own = Arc::clone(&self.own).try_acquire_many_owned(sockets).ok()?;
        let all = Arc::clone(&self.all).try_acquire_many_owned(sockets).ok()?;
        Some(Outlet { _of_all: all, _of_own: own })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(circuit: &CircuitOutlets) -> Vec<Outlet> {
        std::iter::from_fn(|| circuit.take(1)).collect()
    }

    #[test]
    fn one_circuit_has_its_share_and_all_together_have_all() {
        let all = 768;
        let outlets = Outlets::new(all);
        let held: Vec<_> = (0..OUTLETS_SHARE).map(|_| take_all(&outlets.circuit())).collect();
        assert!(held.iter().all(|own| own.len() == all / OUTLETS_SHARE));
        let late = outlets.circuit();
        assert!(late.take(1).is_none());
        drop(held);
        assert_eq!(take_all(&late).len(), all / OUTLETS_SHARE);
    }

    #[test]
    fn where_there_is_no_limit_or_a_tiny_one_there_is_one_all_the_same() {
        assert_eq!(Outlets::new(usize::MAX).all.available_permits(), OUTLETS_MAX);
        assert_eq!(take_all(&Outlets::new(0).circuit()).len(), 1);
    }
}
