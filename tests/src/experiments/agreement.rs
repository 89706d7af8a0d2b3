//! Agreement: whether all honest clients draw their paths from the same relays.
//!
//! A day of life: 10 % churn a day, 2 % of messages lost, 20 % of the relays an attacker's. Of what comes new they
//! pass nothing on, and they answer no reconciliation. Every epoch the attacker also
//!
//! * brings relays whose records are *back-dated*, too late for the next epoch;
//! * signs a *variant* of a record of its own for each of many victims;
//! * *withholds* records of new relays and gives them to half of the network at the last second that counts, the
//!   deadline and the moment before it from which on it takes an observer's word;
//! * has its *observers* say whom they saw, to half of the network at the last second at which so many words count;
//! * lets relays of its own *withdraw*: half of the network hears at the last second that they leave, or are a fraud;
//! * as a *source* of clients, leaves honest relays out, and lists one that is planted for that client alone.
//!
//! Clients take the majority of sources drawn at random, in different netgroups. All relays are witnesses: their sets
//! are what production views and `UsableSet::freeze` make of what they got, the answers are those of
//! `short_members`, and the clients' sets those of `majority`.

use std::collections::HashSet;

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use trefoil_protocol::{
    epoch::Epoch,
    identity::RelayId,
    limits::SOURCES,
    majority::{SourcePages, SourceSet, majority, sources_in_doubt},
    sighting::Sighting,
    usable::{AgeClass, Member, UsableSet, short_hash, short_statement},
};

use super::{
    Line, Outcome, Setup,
    gossip::{Event, Gossip, Habit, Node, Reach, Rules},
    queue::{HOUR, MINUTE, Millis},
    table::{Table, percent},
    trace::Trace,
    world::pick,
};

/// The experiment.
pub fn run(setup: &Setup) -> Outcome {
    let relays = setup.relays(500, 150);
    let mut table = Table::new(
        format!("Usable sets of clients, {relays} relays, 20 % of them an attacker's; the worst of the epochs"),
        &[
            "attack; sources of a client",
            "least Jaccard",
            "mean Jaccard",
            "clients with a planted relay",
            "back-dated relays in use",
        ],
    );
    let (mut lines, mut trace) = (vec![], Trace::default());
    let none = Attack { records: false, observers: false, withdraw: false, sources_lie: false, reach: Reach::Lasts };
    let forgotten = Attack { reach: Reach::Forgotten, ..none };
    let all = Attack { records: true, observers: true, withdraw: true, sources_lie: true, ..none };
    for (words, attack, others) in [
        ("back-dated records, variants; if a failed dial counted", forgotten, &[][..]),
        ("back-dated records, variants", none, &[]),
        ("records at the last second", Attack { records: true, ..none }, &[3, 15]),
        ("sightings at the last second", Attack { observers: true, ..none }, &[3, 15]),
        ("withdrawn at the last second", Attack { withdraw: true, ..none }, &[3, 15]),
        ("lying sources", Attack { sources_lie: true, ..none }, &[3, 5, 9, 15, 25]),
        ("everything", all, &[3, 5, 25]),
    ] {
        let epochs = attacked(relays, attack, setup);
        let others = others.iter().take(setup.pick(others.len(), 0)).map(|count| Asked::Always(*count));
        for asked in [Asked::MoreInDoubt].into_iter().chain(others) {
            let found = epochs.iter().map(|sets| sets.judge(asked, attack, setup)).reduce(Found::worse);
            let found = found.expect("there are epochs");
            table.row(vec![
                format!("{words}; {}", asked.words()),
                format!("{:.5}", found.least),
                format!("{:.5}", found.mean),
                percent(found.planted),
                found.back_dated.to_string(),
            ]);
            trace.add([asked.first() as u64, found.least.to_bits(), found.mean.to_bits(), found.planted.to_bits()]);
            if asked == Asked::MoreInDoubt && attack.reach == Reach::Lasts {
                let claim = format!("{words}: Jaccard of any two clients at least 0.9999");
                lines.push(Line::new(claim, format!("{:.5}", found.least), found.least >= 0.9999));
                let claim = format!("{words}: no planted or back-dated relay in anyone's set");
                let clean = found.planted == 0.0 && found.back_dated == 0;
                lines.push(Line::new(claim, format!("{} of clients", percent(found.planted)), clean));
            }
        }
        epochs.iter().for_each(|sets| trace.add([sets.trace, 0, 0, 0]));
    }
    Outcome { tables: vec![table], lines, notes: vec![], trace: trace.value() }
}

/// Which of the attacks are tried besides back-dating and variants, which always are; and the rule of `gossip.rs`.
#[derive(Clone, Copy)]
struct Attack {
    records: bool,
    observers: bool,
    withdraw: bool,
    sources_lie: bool,
    reach: Reach,
}

/// How many sources a client asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// So many as clients do: some, and more where these disagree.
    MoreInDoubt,
    /// So many, whatever they say.
    Always(usize),
}

impl Asked {
    fn first(self) -> usize {
        match self {
            Self::MoreInDoubt => SOURCES,
            Self::Always(count) => count,
        }
    }

    fn words(self) -> String {
        match self {
            Self::MoreInDoubt => format!("{SOURCES}, more in doubt"),
            Self::Always(count) => count.to_string(),
        }
    }
}

/// What relays have frozen for an epoch.
struct Sets {
    epoch: Epoch,
    /// Of each relay that runs, its netgroup, whether it is honest, and its set.
    relays: Vec<(u32, bool, UsableSet)>,
    /// All relays that anyone knows.
    known: Vec<RelayId>,
    back_dated: HashSet<RelayId>,
    trace: u64,
}

struct Found {
    least: f64,
    mean: f64,
    planted: f64,
    back_dated: usize,
}

impl Found {
    fn worse(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            mean: self.mean.min(other.mean),
            planted: self.planted.max(other.planted),
            back_dated: self.back_dated.max(other.back_dated),
        }
    }
}

const EPOCH: Millis = 6 * HOUR;
const ATTACKS: usize = 10; // relays of each kind of attack in an epoch

/// What the attacker does at a moment of an epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Variants,
    Withhold,
    Bring,
    /// So many observers say whom they saw.
    Say(usize),
    Withdraw,
    BackDate,
}

/// When the attacker does what, in an epoch that ends at this time. The last second that counts is one in which a
/// message still arrives.
fn deeds(gossip: &Gossip, boundary: Millis, attack: Attack) -> Vec<(Millis, Deed)> {
    let (step, deadline) = (gossip.settle_step(), boundary - 2 * HOUR + 999);
    let mut deeds = vec![(boundary - 4 * HOUR, Deed::Variants), (boundary - HOUR, Deed::BackDate)];
    if attack.records {
        deeds.extend([(deadline - 2 * step, Deed::Withhold), (deadline, Deed::Withhold)]);
    }
    if attack.observers {
        deeds.push((deadline + step, Deed::Bring));
        deeds.extend((1..=ATTACKS).map(|count| (deadline + 2 * count as u64 * step, Deed::Say(count))));
    }
    if attack.withdraw {
        deeds.extend([(deadline - 3 * step, Deed::Withdraw), (deadline, Deed::Withdraw)]);
    }
    deeds
}

/// Runs a network under attack and gives what was frozen in each epoch but the first.
fn attacked(relays: usize, attack: Attack, setup: &Setup) -> Vec<Sets> {
    let rules =
        Rules { silent: 0.2, loss: 0.02, witnesses: relays, churn: 0.1, reach: attack.reach, ..Rules::quiet(relays) };
    let mut gossip = Gossip::new(rules, setup.seed);
    gossip.live();
    let bad = (0..relays).filter(|node| gossip.nodes[*node].habit == Habit::Silent).collect();
    let mut attacker = Attacker { idle: bad, brought: vec![], back_dated: HashSet::new() };
    let mut all = vec![];
    for number in 1..=setup.pick(4, 2) {
        let boundary = number * EPOCH;
        let deeds = deeds(&gossip, boundary, attack);
        deeds.iter().enumerate().for_each(|(number, (at, _))| gossip.queue.put(*at, Event::Other(number)));
        while let Some(number) = gossip.run_until(boundary + MINUTE) {
            attacker.act(&mut gossip, deeds[number].1);
        }
        all.push(sets(&gossip, &attacker.back_dated));
    }
    all
}

/// What the attacker has and has done.
struct Attacker {
    /// Its old relays that have done nothing yet.
    idle: Vec<usize>,
    /// Its new relays of this epoch that honest ones heard of too late.
    brought: Vec<RelayId>,
    back_dated: HashSet<RelayId>,
}

impl Attacker {
    fn act(&mut self, gossip: &mut Gossip, deed: Deed) {
        match deed {
            Deed::Variants => self.variants(gossip),
            Deed::Withhold => withhold(gossip),
            Deed::Bring => self.brought = (0..=ATTACKS).map(|_| bring(gossip)).collect(),
            Deed::Say(count) => self.say(gossip, count),
            Deed::Withdraw => self.withdraw(gossip),
            Deed::BackDate => self.back_dated.extend(back_date(gossip)),
        }
    }

    /// Some of its relays sign a record for each of twenty victims. Another few of them each time: they have signed
    /// nothing else in this epoch.
    fn variants(&mut self, gossip: &mut Gossip) {
        let victims = honest(gossip);
        for relay in self.idle.drain(..(ATTACKS / 2).min(self.idle.len())).collect::<Vec<_>>() {
            for variant in 0..20 {
                let fact = variant_of(gossip, relay, variant);
                let victim = pick(&victims, &mut gossip.rng);
                gossip.queue.put(gossip.now, Event::Push { to: victim, from: relay, fact });
            }
        }
    }

    /// So many of its observers say that they saw the relay that is kept for as many, if it has them, to half of those who
    /// are no observers: the others cannot say so too before their turn.
    fn say(&self, gossip: &mut Gossip, count: usize) {
        let settlings = || gossip.nodes.iter().filter_map(|node| node.settling.as_ref());
        let observers = settlings().map(|settling| settling.observers().to_vec()).find(|all| !all.is_empty());
        let observers = observers.unwrap_or_default();
        let is_its = |node: &&Node| node.habit == Habit::Silent && observers.contains(&node.relay.id);
        let (epoch, network) = (gossip.epoch().next(), gossip.world.params.id());
        let says = |node: &Node| Sighting::sign(epoch, vec![self.brought[count]], &network, &node.relay.secret);
        let said: Vec<_> = gossip.nodes.iter().filter(is_its).take(count).map(says).collect();
        if said.len() < count {
            return;
        }
        let first = gossip.sightings.len();
        gossip.sightings.extend(said);
        let victims = half(gossip).into_iter();
        for victim in victims.filter(|node| !observers.contains(&gossip.nodes[*node].relay.id)).collect::<Vec<_>>() {
            (first..gossip.sightings.len())
                .for_each(|sighting| gossip.queue.put(gossip.now, Event::Sighting { to: victim, sighting }));
        }
    }

    /// Some of its relays leave, and some sign two records; every second honest relay hears of it.
    fn withdraw(&mut self, gossip: &mut Gossip) {
        let epoch = gossip.epoch();
        for (number, relay) in
            self.idle.drain(..ATTACKS.min(self.idle.len())).collect::<Vec<_>>().into_iter().enumerate()
        {
            let facts = if number % 2 == 0 {
                let mut described = gossip.world.describe(&gossip.nodes[relay].relay, epoch);
                described.leaving = true;
                vec![gossip.facts.add(relay, gossip.world.record(&gossip.nodes[relay].relay, &described))]
            } else {
                vec![variant_of(gossip, relay, 1), variant_of(gossip, relay, 2)]
            };
            for victim in half(gossip) {
                let push =
                    |fact: &usize| gossip.queue.put(gossip.now, Event::Push { to: victim, from: relay, fact: *fact });
                facts.iter().for_each(push);
            }
        }
    }
}

/// One of many records that a relay signs for this epoch.
fn variant_of(gossip: &mut Gossip, relay: usize, variant: u64) -> usize {
    let mut described = gossip.world.describe(&gossip.nodes[relay].relay, gossip.epoch());
    described.work.hashcash = variant; // any field will do
    gossip.facts.add(relay, gossip.world.record(&gossip.nodes[relay].relay, &described))
}

/// Every second honest relay, at random.
fn half(gossip: &mut Gossip) -> Vec<usize> {
    honest(gossip).into_iter().filter(|_| gossip.rng.random()).collect()
}

/// New relays of the attacker's, given to every second honest relay at once.
fn withhold(gossip: &mut Gossip) {
    for _ in 0..ATTACKS {
        let (node, fact) = newcomer(gossip, gossip.epoch());
        for victim in half(gossip) {
            gossip.queue.put(gossip.now, Event::Push { to: victim, from: node, fact });
        }
    }
}

/// A new relay of the attacker's, given to all.
fn bring(gossip: &mut Gossip) -> RelayId {
    let (node, fact) = newcomer(gossip, gossip.epoch());
    honest(gossip).into_iter().for_each(|to| gossip.queue.put(gossip.now, Event::Push { to, from: node, fact }));
    gossip.nodes[node].relay.id
}

fn honest(gossip: &Gossip) -> Vec<usize> {
    let runs = |node: &usize| gossip.nodes[*node].up && gossip.nodes[*node].habit == Habit::Honest;
    (0..gossip.nodes.len()).filter(runs).collect()
}

/// New relays whose records say that they are a day old.
fn back_date(gossip: &mut Gossip) -> Vec<RelayId> {
    let victims = honest(gossip);
    let back_date = |_| {
        let (node, fact) = newcomer(gossip, Epoch(gossip.epoch().0 - 4));
        let victim = pick(&victims, &mut gossip.rng);
        gossip.queue.put(gossip.now, Event::Push { to: victim, from: node, fact });
        gossip.nodes[node].relay.id
    };
    (0..ATTACKS).map(back_date).collect()
}

/// A new relay of the attacker's, which answers dials and nothing else, and its record.
fn newcomer(gossip: &mut Gossip, issued: Epoch) -> (usize, usize) {
    let relay = gossip.world.spread_relay(&mut gossip.rng);
    let record = gossip.world.record(&relay, &gossip.world.describe(&relay, issued));
    let node = gossip.nodes.len();
    gossip.add_silent(relay);
    (node, gossip.facts.add(node, record))
}

fn sets(gossip: &Gossip, back_dated: &HashSet<RelayId>) -> Sets {
    let frozen = gossip.usable.iter().enumerate().filter_map(|(node, set)| {
        let at = &gossip.nodes[node];
        let netgroup = at.relay.address.to_bits() >> 16;
        at.up.then_some((netgroup, at.habit == Habit::Honest, set.clone()?))
    });
    // Those of the last epoch are too late for this one; older ones have long settled.
    let late = gossip.nodes.iter().rev().map(|node| node.relay.id).filter(|id| back_dated.contains(id)).take(ATTACKS);
    Sets {
        epoch: gossip.epoch(),
        relays: frozen.collect(),
        known: gossip.nodes.iter().map(|node| node.relay.id).collect(),
        back_dated: late.collect(),
        trace: gossip.trace.value(),
    }
}

impl Sets {
    /// Lets clients ask so many sources each, and compares what they get.
    fn judge(&self, asked: Asked, attack: Attack, setup: &Setup) -> Found {
        let sources = asked.first();
        let rng = &mut StdRng::seed_from_u64(setup.seed ^ u64::from(self.epoch.0) ^ (sources as u64) << 32);
        let mut planted = 0;
        let clients = setup.pick(100, 40);
        let mut all = vec![];
        for _ in 0..clients {
            let mut plant = [0; 32];
            rng.fill(&mut plant);
            let plant = RelayId::from_bytes(plant);
            let most = if asked == Asked::MoreInDoubt { sources_in_doubt(self.known.len()) } else { sources };
            let drawn = self.draw(most, rng).into_iter();
            let answers: Vec<_> = drawn.map(|at| self.answer(at, attack, &plant, rng)).collect();
            let decide = |count: usize| {
                let known = self.known.iter().chain([&plant]).map(|relay| (*relay, *relay.as_bytes()));
                let counted: Vec<_> = answers.iter().take(count).collect();
                let found = majority(self.epoch, &counted, known).expect("enough sources");
                let unanimous = counted.iter().all(|answer| answer.agrees(&found.set));
                (found, unanimous)
            };
            let (first, unanimous) = decide(sources);
            let found = if unanimous { first } else { decide(most).0 };
            planted += usize::from(found.set.class(&plant).is_some());
            all.push(found.set);
        }
        let pairs = (0..clients).flat_map(|one| (0..one).map(move |other| (one, other)));
        let jaccards: Vec<_> = pairs.map(|(one, other)| jaccard(&all[one], &all[other])).collect();
        let late = |set: &UsableSet| set.iter().filter(|(relay, _)| self.back_dated.contains(relay)).count();
        Found {
            least: jaccards.iter().copied().fold(1.0, f64::min),
            mean: jaccards.iter().sum::<f64>() / jaccards.len() as f64,
            planted: planted as f64 / clients as f64,
            back_dated: all.iter().map(late).max().unwrap_or(0),
        }
    }

    /// Sources in different netgroups.
    fn draw(&self, count: usize, rng: &mut StdRng) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.relays.len()).collect();
        order.shuffle(rng);
        let mut netgroups = HashSet::new();
        order.into_iter().filter(|at| netgroups.insert(self.relays[*at].0)).take(count).collect()
    }

    /// An honest relay, at random.
    fn honest(&self, rng: &mut StdRng) -> &(u32, bool, UsableSet) {
        loop {
            let relay = &self.relays[rng.random_range(0..self.relays.len())];
            if relay.1 {
                return relay;
            }
        }
    }

    /// What a relay tells a client. All liars who are asked by one client say the same.
    fn answer(&self, at: usize, attack: Attack, plant: &RelayId, rng: &mut StdRng) -> SourceSet {
        let (_, honest, own) = &self.relays[at];
        // The attacker's relays know what honest ones do.
        let set = if *honest { own } else { &self.honest(rng).2 };
        let salt = rng.random();
        let said = |relay: &RelayId| Some(*relay.as_bytes()); // records are not what is looked at here
        let mut members: Vec<_> = set.short_members(&salt, 0, usize::MAX, said).collect();
        if attack.sources_lie && !honest {
            let [first, ..] = *plant.as_bytes();
            let left_out = set.iter().enumerate().filter(|(_, (relay, _))| relay.as_bytes()[0] != first);
            members = left_out.map(|(at, _)| members[at]).collect();
            let (name, said) = (short_hash(&salt, plant), short_statement(&salt, plant.as_bytes()));
            members.push(Member { name, class: AgeClass::Old, said });
        }
        let mut pages = SourcePages::new(salt);
        let total = u32::try_from(members.len()).expect("a small set");
        pages.handle_page(self.epoch, total, &members).expect("a whole answer");
        pages.finish().expect("a whole answer")
    }
}

/// How much two sets have in common.
fn jaccard(one: &UsableSet, other: &UsableSet) -> f64 {
    let both = one.iter().filter(|(relay, _)| other.class(relay).is_some()).count();
    both as f64 / (one.len() + other.len() - both).max(1) as f64
}
