//! Gossip: how records move between the nodes of a simulated network.
//!
//! As DESIGN.md §7 has it: what is new is pushed to 4 neighbours at once, but for mere renewals (`renewals.rs`); each
//! node reconciles with a random neighbour every minute, redraws one neighbour every 30 minutes, and has at most one in
//! a netgroup. Neighbours that went away are replaced when that is noticed. A reconciliation is one event: the two
//! exchange all that differs, after the time that its messages take. What production code costs for it is measured
//! beside (`cost.rs`). Checks take [`CHECKING`]; bandwidth and processor queues are not modelled.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    epoch::{Epoch, UnixSeconds},
    fraud::FraudProof,
    settling::Settling,
    sighting::Sighting,
    usable::UsableSet,
    view::{Offer, View},
};

use super::{
    bits::Bits,
    knowledge::{Facts, Knowledge},
    life::RENEW_AFTER,
    queue::{MINUTE, Millis, Queue, SECOND},
    trace::Trace,
    traffic::{Kind, Traffic},
    world::{self, FIRST, Relay, World},
};

/// Neighbours that a node chooses.
pub const NEIGHBOURS: usize = 4;
/// What it takes to check a record's signature and a newcomer's work.
pub const CHECKING: Millis = 20;

/// What a node does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// All that it should.
    Honest,
    /// Takes everything, and never says anything but that its link lives.
    Silent,
}

/// A node.
pub struct Node {
    /// Whose it is.
    pub relay: Relay,
    /// What it does.
    pub habit: Habit,
    /// Whether it runs.
    pub up: bool,
    /// Whom it pushes to and reconciles with.
    pub neighbours: Vec<usize>,
    /// What it has.
    pub knowledge: Knowledge,
    /// Renewed records that it has not passed on yet, and who sent each.
    pub waiting: Vec<(usize, usize)>,
    /// Who is in time for the next epoch, if it is a witness.
    pub settling: Option<Box<Settling>>,
}

impl Node {
    /// One that runs, and has no neighbours yet.
    pub fn new(relay: Relay, habit: Habit, knowledge: Knowledge) -> Self {
        Self { relay, habit, up: true, neighbours: vec![], knowledge, waiting: vec![], settling: None }
    }
}

/// How the network is, and what goes wrong in it.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How many relays there are at the start.
    pub relays: usize,
    /// How many of them are silent, as a share.
    pub silent: f64,
    /// How many messages are lost, as a share.
    pub loss: f64,
    /// How many of the nodes are witnesses.
    pub witnesses: usize,
    /// How many of the relays leave for good in a day, as a share; as many come.
    pub churn: f64,
    /// What becomes of a neighbour that does not answer a reconciliation.
    pub unanswered: Unanswered,
    /// What a dial that fails says about a relay that was reached before.
    pub reach: Reach,
}

/// What a dial that fails says about a relay that was reached before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// That it can't be reached, until it is again.
    Forgotten,
    /// Nothing, if the relay is established: it stays in use until its record is over.
    Lasts,
}

impl Rules {
    /// A network of so many relays, of which nothing is lost and nobody is silent or leaves; a few are witnesses.
    pub fn quiet(relays: usize) -> Self {
        let witnesses = (100_000 / relays).clamp(NEIGHBOURS, 50);
        let (unanswered, reach) = (Unanswered::Replace, Reach::Lasts);
        Self { relays, silent: 0.0, loss: 0.0, witnesses, churn: 0.0, unanswered, reach }
    }
}

/// What a node does when a neighbour does not answer its reconciliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nothing: the neighbour stays until it is redrawn, and the next minute comes.
    Wait,
    /// It replaces the neighbour and asks another at once.
    Replace,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A pushed record arrives.
    Push {
        /// At whom.
        to: usize,
        /// From whom.
        from: usize,
        /// Which.
        fact: usize,
    },
    /// A pushed fraud proof arrives.
    Proof {
        /// At whom.
        to: usize,
        /// Which.
        proof: usize,
    },
    /// A sighting arrives.
    Sighting {
        /// At whom.
        to: usize,
        /// Which.
        sighting: usize,
    },
    /// All witnesses look whom they see.
    Settle,
    /// A node passes on the renewed records that wait.
    PassOn(usize),
    /// A node's minute is over.
    Reconcile(usize),
    /// A neighbour has not answered a node.
    Silence {
        /// Who asked.
        node: usize,
        /// Who was asked.
        neighbour: usize,
    },
    /// Two nodes have exchanged what differs.
    Exchange(usize, usize),
    /// A node's half hour is over.
    Redraw(usize),
    /// A node looks for a relay that is new to it.
    Reach {
        /// Who looks.
        by: usize,
        /// The relay's record.
        fact: usize,
    },
    /// A relay's record is soon over.
    Renew(usize),
    /// A relay leaves, and another comes.
    Churn,
    /// An epoch begins.
    Epoch,
    /// An affair of the experiment's.
    Other(usize),
}

/// A network that gossips.
pub struct Gossip {
    /// Where everything is.
    pub world: World,
    /// Draws everything.
    pub rng: StdRng,
    /// What happens next.
    pub queue: Queue<Event>,
    /// The time.
    pub now: Millis,
    /// Of all events.
    pub trace: Trace,
    /// All nodes that there ever were.
    pub nodes: Vec<Node>,
    /// All records.
    pub facts: Facts,
    /// What was sent.
    pub traffic: Traffic,
    /// Which node got which record when, of those from `watched` on.
    pub learned: Vec<(usize, usize, Millis)>,
    /// The first record that is watched.
    pub watched: usize,
    /// The usable set of each node that is a witness, of this epoch.
    pub usable: Vec<Option<UsableSet>>,
    /// How many of the nodes, from the first on, can meet none of the others; 0 if all can meet.
    pub cut: usize,
    /// For each node, its dials since this was last looked at, and those of them that nobody answered.
    pub dials: Vec<(u32, u32)>,
    pub(super) proofs: Vec<FraudProof>,
    pub(super) sightings: Vec<Sighting>,
    /// How the network is.
    pub rules: Rules,
}

impl Gossip {
    /// A network that has run for long: everyone has everybody's record and has reached everybody.
    pub fn new(rules: Rules, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(&mut rng);
        let mut gossip = Self {
            world,
            rng,
            queue: Queue::default(),
            now: 0,
            trace: Trace::default(),
            nodes: vec![],
            facts: Facts::default(),
            traffic: Traffic::default(),
            learned: vec![],
            watched: usize::MAX,
            usable: vec![],
            cut: 0,
            dials: vec![],
            proofs: vec![],
            sightings: vec![],
            rules,
        };
        for number in 0..rules.relays {
            let relay = gossip.world.relay(&mut gossip.rng);
            let ago = gossip.rng.random_range(1..=RENEW_AFTER);
            let described = gossip.world.describe(&relay, Epoch(FIRST.0 - ago));
            gossip.facts.add(number, gossip.world.record(&relay, &described));
            let habit = if gossip.rng.random_bool(rules.silent) { Habit::Silent } else { Habit::Honest };
            let knowledge = Knowledge { has: Bits::below(rules.relays), witness: None };
            gossip.nodes.push(Node::new(relay, habit, knowledge));
        }
        for node in 0..rules.relays {
            if node < rules.witnesses {
                gossip.nodes[node].knowledge.witness = Some(Box::new(gossip.settled_view()));
            }
            gossip.start(node);
        }
        gossip
    }

    /// The view of a node that has known everyone for long: first seen between 1 and 100 days ago.
    fn settled_view(&mut self) -> View {
        let start = FIRST.start(&self.world.params.directory);
        let mut view = View::new(&self.world.params, UnixSeconds(start.0 - 100 * 86_400));
        for (number, node) in self.nodes.iter().enumerate() {
            // Everyone saw it at about the same time, which its name decides.
            let [a, b, ..] = *node.relay.id.as_bytes();
            let days = 1 + u64::from(u16::from_le_bytes([a, b])) % 100;
            let first_seen = UnixSeconds(start.0 - days * 86_400);
            view.offer(self.facts.fact(number).checked.clone(), first_seen);
            view.mark_reached(&node.relay.id, node.relay.address.into());
        }
        view.begin_epoch(start, |_| true);
        view
    }

    /// Gives a node its neighbours and its rhythm.
    pub fn start(&mut self, node: usize) {
        while self.nodes[node].neighbours.len() < NEIGHBOURS {
            let Some(drawn) = self.draw_neighbour(node) else { break };
            self.nodes[node].neighbours.push(drawn);
        }
        let directory = &self.world.params.directory;
        let (reconcile, redraw) = (seconds(directory.reconcile), seconds(directory.redraw));
        let phase = |rng: &mut StdRng, period| rng.random_range(0..period);
        self.queue.put(self.now + phase(&mut self.rng, reconcile), Event::Reconcile(node));
        self.queue.put(self.now + phase(&mut self.rng, redraw), Event::Redraw(node));
    }

    /// Lets the network run until `end`; stops at the first event of the experiment's own, and gives it.
    pub fn run_until(&mut self, end: Millis) -> Option<usize> {
        while let Some((at, event)) = self.queue.take_before(end) {
            self.now = at;
            match event {
                Event::Push { to, from, fact } => self.handle_push(to, from, fact),
                Event::Proof { to, proof } => self.handle_proof(to, proof),
                Event::Sighting { to, sighting } => self.handle_sighting(to, sighting),
                Event::Settle => self.settle(),
                Event::PassOn(node) => self.pass_on(node),
                Event::Reconcile(node) => self.reconcile(node),
                Event::Silence { node, neighbour } => self.handle_silence(node, neighbour),
                Event::Exchange(a, b) => self.exchange(a, b),
                Event::Redraw(node) => self.redraw(node),
                Event::Reach { by, fact } => self.reach(by, fact),
                Event::Renew(node) => self.renew(node),
                Event::Churn => self.churn(),
                Event::Epoch => self.begin_epoch(),
                Event::Other(number) => return Some(number),
            }
        }
        self.now = end;
        None
    }

    /// A relay publishes this record of itself: it has it, and pushes it.
    pub fn publish(&mut self, node: usize, fact: usize) {
        self.take(node, usize::MAX, fact);
    }

    /// The time as nodes tell it.
    pub fn unix(&self) -> UnixSeconds {
        world::unix(&self.world.params, self.now)
    }

    /// Sends a record to a node, as a push.
    pub fn push(&mut self, from: usize, to: usize, fact: usize) {
        self.traffic.count_push(1);
        let latency = self.latency(from, to);
        if !self.is_lost() {
            self.queue.put(self.now + latency + CHECKING, Event::Push { to, from, fact });
        }
    }

    fn handle_push(&mut self, to: usize, from: usize, fact: usize) {
        if self.nodes[to].up {
            self.take(to, from, fact);
        }
    }

    /// A node is offered a record, and passes it on if it is news.
    pub fn take(&mut self, node: usize, from: usize, fact: usize) {
        let now = self.unix();
        let epoch = Epoch::of(now, &self.world.params.directory);
        let offer = self.facts.offer(&mut self.nodes[node].knowledge, fact, now, epoch);
        match offer {
            Offer::New | Offer::Renewed | Offer::Changed | Offer::Barred | Offer::Fraud(_) => {}
            Offer::Known | Offer::Older | Offer::Expired | Offer::NoRoom => return,
        }
        self.trace.add([self.now, 1, node as u64, fact as u64]);
        if fact >= self.watched {
            self.learned.push((node, fact, self.now));
        }
        if offer == Offer::New {
            let wait = self.rng.random_range(SECOND..MINUTE);
            self.queue.put(self.now + wait, Event::Reach { by: node, fact });
        }
        if self.nodes[node].habit == Habit::Silent {
            return;
        }
        if offer == Offer::Renewed {
            return self.keep_waiting(node, fact, from);
        }
        for at in 0..self.nodes[node].neighbours.len() {
            if let Some(to) = self.neighbour(node, at).filter(|to| *to != from) {
                self.push(node, to, fact);
            }
        }
        if let Offer::Fraud(proof) = offer {
            self.proofs.push(*proof);
            self.pass_on_proof(node, self.proofs.len() - 1);
        }
    }

    fn reconcile(&mut self, node: usize) {
        let period = seconds(self.world.params.directory.reconcile);
        if !self.nodes[node].up {
            return;
        }
        self.queue.put(self.now + period, Event::Reconcile(node));
        self.ask(node);
    }

    /// Reconciles with a random neighbour.
    fn ask(&mut self, node: usize) {
        let at = self.rng.random_range(0..NEIGHBOURS);
        let silent = self.nodes[node].habit == Habit::Silent;
        let Some(other) = self.neighbour(node, at).filter(|_| !silent) else { return };
        let answers = self.nodes[other].habit == Habit::Honest;
        let arrives = (0..SESSION_MESSAGES).all(|_| !self.is_lost());
        if answers && arrives {
            let latency = self.latency(node, other);
            self.queue.put(self.now + u64::from(SESSION_MESSAGES) * latency + CHECKING, Event::Exchange(node, other));
        } else if self.rules.unanswered == Unanswered::Replace {
            self.queue.put(self.now + PATIENCE, Event::Silence { node, neighbour: other });
        }
    }

    fn handle_silence(&mut self, node: usize, neighbour: usize) {
        let at = self.nodes[node].neighbours.iter().position(|other| *other == neighbour);
        if let (true, Some(at)) = (self.nodes[node].up, at) {
            self.nodes[node].neighbours.remove(at);
            let drawn = self.draw_neighbour(node);
            self.nodes[node].neighbours.extend(drawn);
            self.ask(node);
        }
    }

    fn exchange(&mut self, a: usize, b: usize) {
        if !(self.nodes[a].up && self.nodes[b].up) {
            return;
        }
        let (one, other) = (&self.nodes[a].knowledge.has, &self.nodes[b].knowledge.has);
        let (haves, wants) = (one.without(other), other.without(one));
        self.traffic.count_session(haves.len() + wants.len());
        self.pull_proofs(a, b);
        self.pull_sightings(a, b);
        for (to, from, facts) in [(a, b, wants), (b, a, haves)] {
            for fact in facts {
                self.traffic.count(Kind::Records, self.facts.fact(fact).checked.record().bytes().len());
                self.take(to, from, fact);
            }
        }
    }

    fn redraw(&mut self, node: usize) {
        if !self.nodes[node].up {
            return;
        }
        self.queue.put(self.now + seconds(self.world.params.directory.redraw), Event::Redraw(node));
        if let Some(drawn) = self.draw_neighbour(node) {
            let at = self.rng.random_range(0..NEIGHBOURS);
            match self.nodes[node].neighbours.get_mut(at) {
                Some(old) => *old = drawn,
                None => self.nodes[node].neighbours.push(drawn),
            }
        }
    }

    /// The neighbour at this place; one that went away is replaced.
    pub(super) fn neighbour(&mut self, node: usize, at: usize) -> Option<usize> {
        let neighbour = *self.nodes[node].neighbours.get(at)?;
        if self.is_reachable(node, neighbour) {
            return Some(neighbour);
        }
        let drawn = self.draw_neighbour(node)?;
        self.nodes[node].neighbours[at] = drawn;
        Some(drawn)
    }

    /// A relay that the node knows, that can be reached, and in whose netgroup it has no neighbour yet.
    pub fn draw_neighbour(&mut self, node: usize) -> Option<usize> {
        for _ in 0..DRAWS {
            let drawn = self.rng.random_range(0..self.nodes.len());
            let Node { neighbours, knowledge, .. } = &self.nodes[node];
            let netgroup = |number: usize| self.nodes[number].relay.address.to_bits() >> 16;
            let apart = neighbours.iter().chain([&node]).all(|other| netgroup(*other) != netgroup(drawn));
            if !apart || !self.facts.knows(knowledge, drawn) {
                continue;
            }
            if self.dial(node, drawn) {
                return Some(drawn);
            }
        }
        None
    }

    pub(super) fn latency(&mut self, a: usize, b: usize) -> Millis {
        self.nodes[a].relay.place.latency(self.nodes[b].relay.place, &mut self.rng)
    }

    pub(super) fn is_lost(&mut self) -> bool {
        self.rules.loss > 0.0 && self.rng.random_bool(self.rules.loss)
    }
}

/// How long a node waits for an answer.
const PATIENCE: Millis = 10 * SECOND;
/// Messages of a session of which none may be lost: question, answer, wants, records.
const SESSION_MESSAGES: u32 = 4;
/// Relays that are tried as a neighbour before a node gives up for this time.
const DRAWS: usize = 100;

fn seconds(count: u32) -> Millis {
    u64::from(count) * SECOND
}
