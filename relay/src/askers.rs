//! Askers: places for those who ask something of this relay's directory at once.
//!
//! Specification: docs/protocol.md, "Directory streams". When all places are taken and somebody comes, whoever has been
//! silent longest loses its own: so nobody keeps others out by holding places and asking nothing.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// So many places.
#[derive(Debug)]
pub(crate) struct Askers {
    most: usize,
    turns: Mutex<Turns>,
}

/// Who has a place, by when it spoke last.
#[derive(Debug, Default)]
struct Turns {
    next: u64,
    held: BTreeMap<u64, CancellationToken>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Asker<'a> {
    askers: &'a Askers,
    turn: u64,
    lost: CancellationToken,
}

impl Askers {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, turns: Mutex::default() }
    }

    /// A place, if need be that of whoever has been silent longest.
    pub(crate) fn enter(&self) -> Asker<'_> {
        let lost = CancellationToken::new();
        let mut turns = self.lock();
        while turns.held.len() >= self.most {
            let Some((_, silent)) = turns.held.pop_first() else { break };
            silent.cancel();
        }
        let turn = turns.take(lost.clone());
        drop(turns);
        Asker { askers: self, turn, lost }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

impl Turns {
    fn take(&mut self, lost: CancellationToken) -> u64 {
        let turn = self.next;
        self.next += 1;
        self.held.insert(turn, lost);
        turn
    }
}

impl Asker<'_> {
    /// It has spoken.
    pub(crate) fn speak(&mut self) {
        let mut turns = self.askers.lock();
        if let Some(lost) = turns.held.remove(&self.turn) {
            self.turn = turns.take(lost);
        }
    }

    /// Waits until another has its place. Cancel-safe.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        self.askers.lock().held.remove(&self.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_lost(asker: &Asker<'_>) -> bool {
        asker.lost.is_cancelled()
    }

    #[test]
    fn whoever_was_silent_longest_gives_way() {
        let askers = Askers::new(3);
        let [mut a, b, c] = [askers.enter(), askers.enter(), askers.enter()];
        a.speak();
        let d = askers.enter();
        assert_eq!([is_lost(&a), is_lost(&b), is_lost(&c), is_lost(&d)], [false, true, false, false]);
        let _e = askers.enter();
        assert_eq!([is_lost(&a), is_lost(&c), is_lost(&d)], [false, true, false]);
    }

    #[test]
    fn a_place_is_given_back_and_one_that_was_lost_takes_no_other() {
        let askers = Askers::new(1);
        let mut a = askers.enter();
        let b = askers.enter();
        a.speak();
        assert!(is_lost(&a) && !is_lost(&b));
        drop(a);
        assert_eq!(askers.lock().held.len(), 1);
        drop(b);
        assert_eq!(askers.lock().held.len(), 0);
    }
}
