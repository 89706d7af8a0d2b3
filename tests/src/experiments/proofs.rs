//! Proofs: how fraud proofs move between the witnesses of a simulated network, pushed and pulled as records are.

use super::{
    gossip::{CHECKING, Event, Gossip, Habit},
    traffic::Kind,
};

impl Gossip {
    pub(super) fn handle_proof(&mut self, to: usize, proof: usize) {
        let now = self.unix();
        let taken =
            self.nodes[to].knowledge.witness.as_mut().map(|view| view.offer_fraud(self.proofs[proof].clone(), now));
        if taken == Some(true) {
            self.pass_on_proof(to, proof);
        }
    }

    pub(super) fn pass_on_proof(&mut self, node: usize, proof: usize) {
        if self.nodes[node].habit == Habit::Silent {
            return;
        }
        for at in 0..self.nodes[node].neighbours.len() {
            let Some(to) = self.neighbour(node, at) else { continue };
            self.traffic.count(Kind::Proof, 2 * self.facts.fact(0).checked.record().bytes().len());
            if !self.is_lost() {
                let latency = self.latency(node, to);
                self.queue.put(self.now + latency + CHECKING, Event::Proof { to, proof });
            }
        }
    }

    /// The asking side takes the other's fraud proofs.
    pub(super) fn pull_proofs(&mut self, asker: usize, other: usize) {
        let now = self.unix();
        let Some(theirs) = &self.nodes[other].knowledge.witness else { return };
        let theirs: Vec<_> = theirs.frauds().cloned().collect();
        let Some(ours) = &mut self.nodes[asker].knowledge.witness else { return };
        let first = self.proofs.len();
        self.proofs.extend(theirs.into_iter().filter(|proof| ours.offer_fraud(proof.clone(), now)));
        (first..self.proofs.len()).for_each(|proof| self.pass_on_proof(asker, proof));
    }
}
