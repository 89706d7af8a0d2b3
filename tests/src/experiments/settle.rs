//! Settling: how the witnesses of a simulated network agree on who was in time, pushing and pulling what observers say.

use trefoil_protocol::{
    epoch::UnixSeconds,
    identity::RelayId,
    limits::{SETTLE_STEPS, SIGHTING_PARTS, SIGHTINGS_ENOUGH},
    settling::Settling,
    sighting::Sighting,
    view::View,
};

use super::{
    gossip::{CHECKING, Event, Gossip, Habit},
    queue::{Millis, SECOND},
    traffic::Kind,
};

/// Whether a relay that is known counts for the next epoch, as production code has it.
pub(super) fn is_candidate(view: &View, relay: &RelayId, now: UnixSeconds) -> bool {
    let known = view.get(relay);
    known.is_some_and(|known| !known.record.record().is_leaving()) && !view.is_barred(relay, now)
}

impl Gossip {
    /// A step of settling.
    pub fn settle_step(&self) -> Millis {
        Millis::from(self.world.params.directory.settle) / SETTLE_STEPS * SECOND
    }

    /// Begins to settle who is in time for the next epoch.
    pub(super) fn settle_next(&mut self) {
        let params = &self.world.params.directory;
        for (node, usable) in self.nodes.iter_mut().zip(&self.usable) {
            let honest = usable.as_ref().filter(|_| node.habit == Habit::Honest);
            node.settling = honest.map(|usable| Box::new(Settling::after(usable, &node.relay.id, params)));
        }
        let (step, settle) = (self.settle_step(), Millis::from(params.settle) * SECOND);
        let deadline = self.start_of(self.epoch().next()) - settle;
        let part = step / SIGHTING_PARTS;
        let looks =
            (deadline - 3 * step..=deadline + u64::from(2 * SIGHTINGS_ENOUGH + 1) * step).step_by(part as usize);
        looks.for_each(|at| self.queue.put(at, Event::Settle));
    }

    pub(super) fn settle(&mut self) {
        let (now, epoch, network) = (self.unix(), self.epoch().next(), self.world.params.id());
        for node in 0..self.nodes.len() {
            let at = &mut self.nodes[node];
            let (Some(view), Some(settling)) = (&at.knowledge.witness, &mut at.settling) else { continue };
            if !at.up {
                continue;
            }
            settling.look(now, || {
                view.iter().map(|(relay, _)| *relay).filter(|relay| is_candidate(view, relay, now)).collect()
            });
            settling.weigh(now, |relay| view.get(relay).is_some());
            let signed = settling.to_sign(now).into_iter();
            let first = self.sightings.len();
            self.sightings.extend(signed.map(|relays| Sighting::sign(epoch, relays, &network, &at.relay.secret)));
            (first..self.sightings.len()).for_each(|sighting| self.handle_sighting(node, sighting));
        }
    }

    pub(super) fn handle_sighting(&mut self, to: usize, sighting: usize) {
        if self.take_sighting(to, sighting) {
            self.pass_on_sighting(to, sighting);
        }
    }

    fn take_sighting(&mut self, node: usize, sighting: usize) -> bool {
        let now = self.unix();
        let at = &mut self.nodes[node];
        let (true, Some(view), Some(settling)) = (at.up, &at.knowledge.witness, &mut at.settling) else { return false };
        settling.take(self.sightings[sighting].clone(), now, |relay| view.get(relay).is_some())
    }

    fn pass_on_sighting(&mut self, node: usize, sighting: usize) {
        self.trace.add([self.now, 2, node as u64, sighting as u64]);
        for at in 0..self.nodes[node].neighbours.len() {
            let Some(to) = self.neighbour(node, at) else { continue };
            self.traffic.count(Kind::Sighting, self.sightings[sighting].encode().len());
            if !self.is_lost() {
                let latency = self.latency(node, to);
                self.queue.put(self.now + latency + CHECKING, Event::Sighting { to, sighting });
            }
        }
    }

    /// The asking side takes the other's sightings, while they count.
    pub(super) fn pull_sightings(&mut self, asker: usize, other: usize) {
        let now = self.unix();
        let (Some(ours), Some(theirs)) = (&self.nodes[asker].settling, &self.nodes[other].settling) else { return };
        if !ours.is_open(now) {
            return;
        }
        let names: Vec<_> = ours.names().collect();
        let first = self.sightings.len();
        self.sightings.extend(theirs.others(&names).cloned());
        (first..self.sightings.len()).for_each(|sighting| self.handle_sighting(asker, sighting));
    }
}
