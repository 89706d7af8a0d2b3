//! Outages: how many of the relays that this one has dialled of its own accord were there.
//!
//! A dead relay stays in the view until its record expires, so a few always are not. Where many are not, this machine's
//! line is bad, or the network has fallen into parts: its operator should know, and nothing else depends on it.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tracing::{info, warn};
use trefoil_protocol::limits::{OUTAGE, OUTAGE_OF};

use crate::trouble::Trouble;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<Dials>);

#[derive(Debug, Default)]
struct Dials {
    /// Whether each of the last [`OUTAGE_OF`] answered.
    answered: VecDeque<bool>,
    is_told: bool,
}

impl Outages {
    /// A relay that was drawn at random was dialled.
    pub(crate) fn note(&self, answered: bool) {
        let mut dials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dials.answered.push_back(answered);
        if dials.answered.len() > OUTAGE_OF {
            dials.answered.pop_front();
        }
        match (dials.silent(), dials.is_told) {
            (silent, false) if silent >= OUTAGE => {
                warn!("{}", Trouble::Outage { silent });
                dials.is_told = true;
            }
            (silent, true) if silent <= OUTAGE / 2 => {
                info!("other relays answer as they should again");
                dials.is_told = false;
            }
            _ => {}
        }
    }

    /// How many of the last relays did not answer, if that is more than it should be.
    pub(crate) fn silent(&self) -> Option<usize> {
        let dials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dials.is_told.then(|| dials.silent())
    }
}

impl Dials {
    fn silent(&self) -> usize {
        self.answered.iter().filter(|answered| !**answered).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(dials: impl IntoIterator<Item = bool>) -> Outages {
        let outages = Outages::default();
        dials.into_iter().for_each(|answered| outages.note(answered));
        outages
    }

    #[test]
    fn a_tenth_that_is_gone_is_as_always_and_half_of_them_is_an_outage() {
        assert_eq!(after((0..100).map(|dial| dial % 10 > 0)).silent(), None);
        assert!(after((0..100).map(|dial| dial % 2 > 0)).silent().is_some());
        assert_eq!(after([false; OUTAGE - 1]).silent(), None, "a few say nothing");
        assert_eq!(after([false; OUTAGE]).silent(), Some(OUTAGE));
    }

    #[test]
    fn an_outage_ends_when_relays_answer_again() {
        let outages = after([false; OUTAGE_OF]);
        assert_eq!(outages.silent(), Some(OUTAGE_OF));
        (0..OUTAGE_OF - OUTAGE / 2 - 1).for_each(|_| outages.note(true));
        assert!(outages.silent().is_some());
        outages.note(true);
        assert_eq!(outages.silent(), None);
    }
}
