//! Life: relays of a simulated network renew their records, leave and come, and epochs begin.

use rand::RngExt;
use trefoil_protocol::{
    epoch::Epoch,
    settling::Settling,
    usable::{Seen, UsableSet},
};

use super::{
    bits::Bits,
    gossip::{Event, Gossip, Habit, Node},
    knowledge::Knowledge,
    queue::{DAY, Millis, SECOND},
    settle,
    traffic::Kind,
    world::{FIRST, Relay},
};

/// Epochs after which a relay signs a new record: two before the old one is over.
pub const RENEW_AFTER: u32 = 6;

impl Gossip {
    /// From now on relays renew their records, leave and come, and epochs begin.
    pub fn live(&mut self) {
        for node in 0..self.nodes.len() {
            let newest = self.facts.newest(node).expect("every relay has a record at the start");
            let due = self.facts.fact(newest).checked.record().issued().plus(RENEW_AFTER);
            self.renew_in(node, due);
        }
        self.queue.put(0, Event::Epoch);
        self.next_churn();
    }

    /// The time at which an epoch begins.
    pub fn start_of(&self, epoch: Epoch) -> Millis {
        Millis::from(epoch.0 - FIRST.0) * Millis::from(self.world.params.directory.epoch.get()) * SECOND
    }

    /// The epoch that it is.
    pub fn epoch(&self) -> Epoch {
        Epoch::of(self.unix(), &self.world.params.directory)
    }

    /// Signs and publishes a record of a relay as it is in this epoch.
    pub fn publish_now(&mut self, node: usize, leaving: bool) {
        let epoch = self.epoch();
        let relay = &self.nodes[node].relay;
        let mut described = self.world.describe(relay, epoch);
        described.leaving = leaving;
        let fact = self.facts.add(node, self.world.record(relay, &described));
        self.publish(node, fact);
    }

    /// A relay comes: it gets all that another node has, looks for all of it, and publishes its record.
    pub fn join(&mut self, relay: Relay) -> usize {
        let node = self.nodes.len();
        let from = self.draw_up();
        let has = self.nodes[from].knowledge.has.clone();
        let bytes = has.iter().map(|fact| self.facts.fact(fact).checked.record().bytes().len());
        self.traffic.count(Kind::Whole, bytes.sum());
        has.iter().for_each(|fact| self.look(fact));
        let knowledge = Knowledge { has, witness: None };
        self.nodes.push(Node::new(relay, Habit::Honest, knowledge));
        self.start(node);
        self.publish_now(node, false);
        let due = self.epoch().plus(RENEW_AFTER);
        self.renew_in(node, due);
        node
    }

    /// A relay comes that answers dials and nothing else, and knows nothing.
    pub fn add_silent(&mut self, relay: Relay) {
        let knowledge = Knowledge { has: Bits::default(), witness: None };
        self.nodes.push(Node::new(relay, Habit::Silent, knowledge));
    }

    /// An honest node that runs.
    fn draw_up(&mut self) -> usize {
        loop {
            let node = self.rng.random_range(0..self.nodes.len());
            if self.nodes[node].up && self.nodes[node].habit == Habit::Honest {
                return node;
            }
        }
    }

    pub(super) fn renew(&mut self, node: usize) {
        if self.nodes[node].up {
            self.publish_now(node, false);
            self.renew_in(node, self.epoch().plus(RENEW_AFTER));
        }
    }

    /// Half of those that leave say so, unless they have said something in this epoch already.
    pub(super) fn churn(&mut self) {
        self.next_churn();
        let leaving = self.draw_up();
        let newest = self.facts.newest(leaving).expect("every relay has a record");
        let may_speak = self.facts.fact(newest).checked.record().issued() < self.epoch();
        if may_speak && self.rng.random() {
            self.publish_now(leaving, true);
        }
        self.nodes[leaving].up = false;
        let relay = self.world.relay(&mut self.rng);
        self.join(relay);
    }

    fn next_churn(&mut self) {
        if self.rules.churn > 0.0 {
            let mean = DAY as f64 / (self.rules.churn * self.rules.relays as f64);
            let wait = -mean * (1.0 - self.rng.random::<f64>()).ln();
            self.queue.put(self.now + wait as Millis, Event::Churn);
        }
    }

    /// The usable set that a witness freezes for this epoch.
    fn freeze(&self, node: usize, epoch: Epoch) -> Option<UsableSet> {
        let view = self.nodes[node].knowledge.witness.as_ref()?;
        let params = &self.world.params.directory;
        let unsettled = Settling::unseen(epoch, params);
        let settling = self.nodes[node].settling.as_deref().filter(|settling| settling.epoch() == epoch);
        let settling = settling.unwrap_or(&unsettled);
        let seen = view.iter().map(|(relay, known)| {
            let is_candidate = settle::is_candidate(view, relay, epoch.start(params));
            Seen {
                relay: *relay,
                first_seen: known.first_seen,
                reached: known.reached,
                withdrawn: !is_candidate,
                settled: settling.is_settled(relay, known.first_seen, is_candidate),
            }
        });
        Some(UsableSet::freeze(epoch, seen, params))
    }

    /// An epoch begins: all forget what no longer counts, and witnesses freeze and establish what they can use.
    pub(super) fn begin_epoch(&mut self) {
        let (now, epoch) = (self.unix(), self.epoch());
        self.queue.put(self.start_of(epoch.next()), Event::Epoch);
        let over = self.facts.expiring(epoch);
        self.usable = (0..self.nodes.len()).map(|node| self.freeze(node, epoch)).collect();
        self.settle_next();
        for (node, usable) in self.nodes.iter_mut().zip(&self.usable) {
            let Knowledge { has, witness } = &mut node.knowledge;
            over.iter().for_each(|fact| has.remove(*fact));
            if let (Some(view), Some(usable)) = (witness, usable) {
                view.begin_epoch(now, |relay| usable.class(relay).is_some());
                assert_eq!(view.len(), has.count(), "a witness forgot other records than its numbers");
            }
        }
    }
}
