//! The puzzles that this relay has taken already: a solution buys one handshake.
//!
//! Specification: docs/protocol.md, "Busy". Only the newest are remembered, in bounded memory, and only while puzzles
//! are asked for. Origins make a new key for every `Create`, so nobody honest comes twice with the same.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use trefoil_protocol::limits::{SPENT_PUZZLES, X25519_KEY};

type Key = [u8; X25519_KEY];

/// See the file's head.
#[derive(Default)]
pub(crate) struct Spent(Mutex<Keys>);

#[derive(Default)]
struct Keys {
    known: HashSet<Key>,
    by_age: VecDeque<Key>,
}

/// This puzzle was taken before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replayed;

impl Spent {
    /// Takes the puzzle of the `Create` with this X25519 key. At [`SPENT_PUZZLES`] the oldest is forgotten.
    pub(crate) fn take(&self, key: &Key) -> Result<(), Replayed> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner); // a lost key is a handshake at most
        if !keys.known.insert(*key) {
            return Err(Replayed);
        }
        keys.by_age.push_back(*key);
        if keys.by_age.len() > SPENT_PUZZLES
            && let Some(oldest) = keys.by_age.pop_front()
        {
            keys.known.remove(&oldest);
        }
        Ok(())
    }

    /// Gives back a puzzle that was just taken and bought nothing, since there was no room.
    pub(crate) fn give_back(&self, key: &Key) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.known.remove(key)
            && let Some(at) = keys.by_age.iter().rposition(|taken| taken == key)
        {
            keys.by_age.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        let mut key = [0; X25519_KEY];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn a_puzzle_is_taken_once_for_as_long_as_it_is_among_the_newest() {
        let spent = Spent::default();
        for number in 0..SPENT_PUZZLES {
            assert_eq!(spent.take(&key(number)), Ok(()));
        }
        assert_eq!(spent.take(&key(0)), Err(Replayed));
        assert_eq!(spent.take(&key(SPENT_PUZZLES)), Ok(()));
        assert_eq!(spent.take(&key(0)), Ok(()), "it was the oldest, and is forgotten");
        let keys = spent.0.into_inner().unwrap();
        assert_eq!((keys.known.len(), keys.by_age.len()), (SPENT_PUZZLES, SPENT_PUZZLES));
    }

    #[test]
    fn a_puzzle_that_was_given_back_can_be_taken_again_and_the_others_stay_taken() {
        let spent = Spent::default();
        assert_eq!([spent.take(&key(1)), spent.take(&key(2))], [Ok(()), Ok(())]);
        spent.give_back(&key(1));
        assert_eq!([spent.take(&key(1)), spent.take(&key(2))], [Ok(()), Err(Replayed)]);
        let keys = spent.0.into_inner().unwrap();
        assert_eq!((keys.known.len(), keys.by_age.len()), (2, 2));
    }
}
