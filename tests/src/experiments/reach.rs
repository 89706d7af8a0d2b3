//! Reach: which nodes of a simulated network have dialled which.

use super::{
    gossip::{Gossip, Reach},
    traffic::Kind,
};

impl Gossip {
    /// A newcomer that has dialled this node need not be dialled.
    pub(super) fn reach(&mut self, by: usize, relay: usize) {
        if !self.nodes[by].up || relay >= self.nodes.len() {
            return;
        }
        let newcomer = &self.nodes[relay];
        let (id, address) = (newcomer.relay.id, newcomer.relay.address.into());
        if by >= newcomer.dialled || !self.is_reachable(by, relay) {
            self.dial(by, relay, Kind::Look);
        } else if let Some(view) = &mut self.nodes[by].knowledge.witness {
            view.mark_reached(&id, address);
        }
    }

    /// Whether a node reaches a relay; its view takes note.
    pub(super) fn dial(&mut self, by: usize, relay: usize, what: Kind) -> bool {
        let reached = self.is_reachable(by, relay);
        self.traffic.count(if reached { what } else { Kind::DialFailed }, 0);
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
