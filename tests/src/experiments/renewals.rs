//! Renewals: records that only renew what is known, which relays sign at moments that they have in common and pass on
//! together, to a few neighbours. The rules and their figures are those of production (`relay/src/{news,publish}.rs`).

use std::mem;

use rand::{RngExt, seq::index::sample};
use trefoil_protocol::{
    epoch::Epoch,
    limits::{RENEWAL_MOMENTS, RENEWALS_DELAY, RENEWALS_NEIGHBOURS, WANTS_AT_ONCE},
};

use super::{
    gossip::{CHECKING, Event, Gossip},
    queue::{Millis, SECOND},
};

/// Relays' clocks differ by as much, and some take their time.
const LATE: Millis = 5 * SECOND;

impl Gossip {
    /// Lets a relay renew its record at one of the moments of an epoch.
    pub(super) fn renew_in(&mut self, node: usize, epoch: Epoch) {
        let step = (self.start_of(epoch.next()) - self.start_of(epoch)) / Millis::from(RENEWAL_MOMENTS);
        let moment = Millis::from(self.rng.random_range(0..RENEWAL_MOMENTS));
        let at = self.start_of(epoch) + moment * step + self.rng.random_range(0..LATE);
        self.queue.put(at.max(self.now), Event::Renew(node));
    }

    /// Keeps a renewed record, which goes to some neighbours with those that come till then.
    pub(super) fn keep_waiting(&mut self, node: usize, fact: usize, from: usize) {
        if self.nodes[node].waiting.is_empty() {
            self.queue.put(self.now + RENEWALS_DELAY.as_millis() as Millis, Event::PassOn(node));
        }
        self.nodes[node].waiting.push((fact, from));
    }

    /// A node passes on the renewed records that wait.
    pub(super) fn pass_on(&mut self, node: usize) {
        let waiting = mem::take(&mut self.nodes[node].waiting);
        if !self.nodes[node].up {
            return;
        }
        let count = self.nodes[node].neighbours.len();
        for at in sample(&mut self.rng, count, RENEWALS_NEIGHBOURS.min(count)) {
            let Some(to) = self.neighbour(node, at) else { continue };
            let facts: Vec<_> = waiting.iter().filter(|(_, from)| *from != to).map(|(fact, _)| *fact).collect();
            for facts in facts.chunks(WANTS_AT_ONCE) {
                self.push_together(node, to, facts);
            }
        }
    }

    fn push_together(&mut self, from: usize, to: usize, facts: &[usize]) {
        self.traffic.count_push(facts.len());
        let latency = self.latency(from, to);
        if !self.is_lost() {
            for fact in facts {
                self.queue.put(self.now + latency + CHECKING, Event::Push { to, from, fact: *fact });
            }
        }
    }
}
