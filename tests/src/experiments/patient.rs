//! Patient: an attacker adds 50 relays a day, which behave, and waits.
//!
//! Nothing stops this: they grow old like others. What the rules do is to make it slow and dear, and this experiment
//! prints how slow. The honest network neither grows nor shrinks: 1,000 relays, all old. Clients of two kinds build
//! circuits: *settled* ones have been there since the first day and keep their guards for 120 days, *new* ones come on
//! the day that is measured.

use std::collections::HashSet;

use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::{epoch::UnixSeconds, relays::UsableRelays, usable::AgeClass};

use super::{
    Line, Outcome, Setup,
    client::{self, Client, HOPS},
    table::{Table, percent},
    trace::Trace,
    world::{Relay, World},
};

/// The experiment. It has no line: what it prints is the threat model's.
pub fn run(setup: &Setup) -> Outcome {
    let honest = setup.relays(1_000, 200);
    let a_day = setup.pick(50, 10);
    let last = setup.pick(365, 60);
    let mut network = Network::new(honest, setup.seed);
    let mut rng = StdRng::seed_from_u64(setup.seed ^ 1);
    let (clients, circuits) = setup.pick((400, 50), (60, 20));
    let mut settled: Vec<_> = (0..clients).map(|_| Client::new(client::epoch(&network.world, 0).1)).collect();
    let mut table = Table::new(
        format!("{a_day} relays a day of an attacker who waits, beside {honest} honest relays"),
        &[
            "day",
            "bad relays",
            "of them old",
            "bad guards: settled",
            "both ends bad: settled",
            "bad guards: new",
            "both ends bad: new",
        ],
    );
    let mut trace = Trace::default();
    for day in 0..=last {
        let (usable, now) = network.on_day(day, a_day);
        settled.iter_mut().for_each(|client| client.update(&usable, now, &mut rng));
        if !SHOWN.contains(&day) {
            settled.iter_mut().for_each(|client| drop(client.draw(&usable, now, &mut rng)));
            continue;
        }
        let mut new: Vec<_> = (0..clients).map(|_| Client::new(now)).collect();
        new.iter_mut().for_each(|client| client.update(&usable, now, &mut rng));
        let old = usable.iter().filter(|relay| relay.class == AgeClass::Old).count() - honest;
        let mut row = vec![day.to_string(), network.bad.len().to_string(), old.to_string()];
        for kind in [&mut settled, &mut new] {
            let [guards, both] = network.shares(kind, (&usable, now), circuits, &mut rng);
            trace.add([u64::from(day), old as u64, guards.to_bits(), both.to_bits()]);
            row.extend([percent(guards), percent(both)]);
        }
        table.row(row);
    }
    let lines = vec![Line::new("printed honestly, with no bound", "see the table", true)];
    Outcome { tables: vec![table], lines, notes: vec![], trace: trace.value() }
}

const SHOWN: [u32; 14] = [0, 1, 3, 7, 14, 29, 31, 45, 60, 90, 120, 180, 270, 365];

struct Network {
    world: World,
    rng: StdRng,
    honest: Vec<Relay>,
    /// The attacker's, and the day on which each came.
    attackers: Vec<(Relay, u32)>,
    bad: HashSet<trefoil_protocol::identity::RelayId>,
}

impl Network {
    fn new(honest: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(&mut rng);
        let honest = (0..honest).map(|_| world.relay(&mut rng)).collect();
        Self { world, rng, honest, attackers: vec![], bad: HashSet::new() }
    }

    /// The usable relays at noon of a day; those that came on that morning are among them.
    fn on_day(&mut self, day: u32, a_day: usize) -> (UsableRelays, UnixSeconds) {
        for _ in 0..if day == 0 { 0 } else { a_day } {
            let relay = self.world.spread_relay(&mut self.rng);
            self.bad.insert(relay.id);
            self.attackers.push((relay, day));
        }
        let (epoch, now) = client::epoch(&self.world, 4 * day + 2);
        let honest = self.honest.iter().map(|relay| client::usable(&self.world, relay, AgeClass::Old));
        let bad = self.attackers.iter().map(|(relay, came)| {
            let age = u64::from(day - came) * 86_400;
            client::usable(&self.world, relay, AgeClass::of(age, &self.world.params.directory))
        });
        (UsableRelays::new(epoch, honest.chain(bad)), now)
    }

    /// The share of guards that are bad, and of circuits that have both ends bad.
    fn shares(
        &self,
        clients: &mut [Client],
        (usable, now): (&UsableRelays, UnixSeconds),
        circuits: usize,
        rng: &mut StdRng,
    ) -> [f64; 2] {
        let (mut guards, mut bad_guards, mut drawn, mut both) = (0, 0, 0, 0);
        for client in clients {
            for _ in 0..circuits {
                let Some(path) = client.draw(usable, now, rng) else { continue };
                drawn += 1;
                both += u32::from([0, HOPS - 1].iter().all(|at| self.bad.contains(&path[*at].id)));
            }
            let in_use = client.guards(now);
            guards += in_use.len();
            bad_guards += in_use.iter().filter(|guard| self.bad.contains(guard)).count();
        }
        [bad_guards as f64 / guards.max(1) as f64, f64::from(both) / f64::from(drawn.max(1))]
    }
}
