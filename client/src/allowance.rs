//! Allowance: how many circuits may be built to a mailbox for an inbox.
//!
//! Specification: docs/protocol.md, "Paths". Whoever runs a mailbox can end each circuit to it, and whoever runs other
//! relays, too, sees in time one that begins at a guard and passes two of them: so there are not many. Circuits that did
//! not come as far as to the mailbox do not count, since no mailbox can bring those about.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// See the file's head: what was built lately, oldest first.
pub(crate) struct Allowance {
    most: usize,
    within: Duration,
    built: HashMap<[u8; 32], VecDeque<Instant>>,
}

impl Allowance {
    pub(crate) fn new(most: usize, within: Duration) -> Self {
        Self { most, within, built: HashMap::new() }
    }

    /// Whether another circuit of this name may be built.
    pub(crate) fn has(&mut self, name: &[u8; 32], now: Instant) -> bool {
        self.built.retain(|_, built| {
            while built.front().is_some_and(|first| now.duration_since(*first) >= self.within) {
                built.pop_front();
            }
            !built.is_empty()
        });
        self.built.get(name).is_none_or(|built| built.len() < self.most)
    }

    /// One is begun.
    pub(crate) fn spend(&mut self, name: [u8; 32], now: Instant) {
        self.built.entry(name).or_default().push_back(now);
    }

    /// The one that was begun last did not come as far as to the mailbox.
    pub(crate) fn give_back(&mut self, name: &[u8; 32]) {
        self.built.get_mut(name).map(VecDeque::pop_back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_circuits_of_one_name_are_built_within_the_time() {
        let (mut allowance, start) = (Allowance::new(3, Duration::from_secs(60)), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..3 {
            assert!(allowance.has(&[1; 32], at(second)));
            allowance.spend([1; 32], at(second));
        }
        assert!(!allowance.has(&[1; 32], at(59)) && allowance.has(&[2; 32], at(59)));
        assert!(allowance.has(&[1; 32], at(60)), "the first is forgotten");
        allowance.spend([1; 32], at(60));
        assert!(!allowance.has(&[1; 32], at(60)));
        allowance.give_back(&[1; 32]);
        assert!(allowance.has(&[1; 32], at(60)));
        allowance.spend([1; 32], at(60));
        assert!(allowance.has(&[1; 32], at(600)) && allowance.built.is_empty());
    }
}
