//! Reach: which nodes of a simulated network have found which, and what they send for that.

use std::time::Duration;

use trefoil_protocol::limits::{VERIFY_BACKOFF_MAX, VERIFY_DIALS_EVERY, VERIFY_PAUSE};

use super::{
    gossip::{Gossip, Reach},
    queue::Millis,
    traffic::Kind,
};

impl Gossip {
    /// A node looks for the relay of a record that is new to it.
    pub(super) fn reach(&mut self, by: usize, fact: usize) {
        let relay = self.facts.fact(fact).relay;
        if self.nodes[by].up && relay < self.nodes.len() {
            self.look(fact);
            self.find(by, relay);
        }
    }

    /// What a node sends that looks for the relay of this record until it is there, or the record is over.
    pub(super) fn look(&mut self, fact: usize) {
        let fact = self.facts.fact(fact);
        let (relay, record) = (fact.relay, fact.checked.record());
        if record.is_leaving() {
            return;
        }
        if self.nodes.get(relay).is_some_and(|node| node.up) {
            return self.traffic.count(Kind::Look, 0);
        }
        let over = self.start_of(record.expires());
        let (mut at, mut pause) = (self.now, VERIFY_PAUSE);
        for failures in 0.. {
            self.traffic.count(Kind::LookFailed, 0);
            if failures % VERIFY_DIALS_EVERY == 0 {
                self.traffic.count(Kind::DialFailed, 0);
            }
            at += millis(pause);
            pause = (pause * 2).min(VERIFY_BACKOFF_MAX);
            if at >= over {
                break;
            }
        }
    }

    /// Whether a node can make a link with a relay.
    pub(super) fn dial(&mut self, by: usize, relay: usize) -> bool {
        let reached = self.find(by, relay);
        self.traffic.count(if reached { Kind::Link } else { Kind::DialFailed }, 0);
        reached
    }

    /// Whether a node reaches a relay; its view takes note.
    fn find(&mut self, by: usize, relay: usize) -> bool {
        let reached = self.is_reachable(by, relay);
        self.dials.resize(self.nodes.len(), (0, 0));
        self.dials[by].0 += 1;
        self.dials[by].1 += u32::from(!reached);
        let (id, address) = (self.nodes[relay].relay.id, self.nodes[relay].relay.address.into());
        if let Some(view) = &mut self.nodes[by].knowledge.witness {
            let lasts = self.rules.reach == Reach::Lasts && view.get(&id).is_some_and(|known| known.established);
            if reached {
                view.mark_reached(&id, address);
            } else if !lasts {
                view.forget_reached(&id);
            }
        }
        reached
    }

    pub(super) fn is_reachable(&self, by: usize, relay: usize) -> bool {
        let is_up = self.nodes.get(relay).is_some_and(|node| node.up);
        is_up && (by < self.cut) == (relay < self.cut)
    }
}

fn millis(time: Duration) -> Millis {
    time.as_millis() as Millis
}
