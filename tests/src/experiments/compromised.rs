//! Compromised circuits: how many circuits have an attacker at both ends, when the attacker's relays end all others.
//!
//! A circuit whose first and last relay are bad is let through; one of good relays only is, too, since nobody can end
//! it; every other dies at the first bad relay, and its client draws again (Borisov, Danezis, Mittal, Tabriz, "Denial
//! of service or denial of security?", CCS 2007: the share is f² / (f² + (1 − f)³)). The candidates are drawn in
//! advance, as clients do. With guards, clients live for 30 days and build 40 circuits a day. All relays are old and
//! run all the time.

use std::collections::HashSet;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    entry::RelayEntry,
    guard::CircuitEnd,
    identity::RelayId,
    path,
    relays::{UsableRelay, UsableRelays},
    usable::AgeClass,
};

use super::{
    Line, Outcome, Setup,
    client::{self, Client, HOPS},
    table::{Table, percent},
    trace::Trace,
    world::World,
};

/// The experiment.
pub fn run(setup: &Setup) -> Outcome {
    let relays = setup.relays(2_000, 300);
    let mut table = Table::new(
        format!(
            "Circuits with both ends bad, of {relays} relays; the bad ones end all circuits but these and good ones"
        ),
        &[
            "bad relays",
            "formula",
            "no guards",
            "off by",
            "guards: circuits",
            "clients with any",
            "guards dropped",
            "stops",
        ],
    );
    let (mut lines, mut trace) = (vec![], Trace::default());
    for tenth in setup.pick(vec![0, 1, 2, 3, 4, 5], vec![0, 3, 5]) {
        let bad = relays * tenth / 10;
        let network = Network::new(relays, bad, setup.seed);
        let f = bad as f64 / relays as f64;
        let formula = f.powi(2) / (f.powi(2) + (1.0 - f).powi(3));
        let free = network.without_guards(setup.pick(300_000, 20_000), setup.seed);
        let guarded = network.with_guards(setup.pick(500, 20), setup.seed);
        let off = if formula == 0.0 { free } else { (free / formula - 1.0).abs() };
        table.row(vec![
            percent(f),
            percent(formula),
            percent(free),
            percent(off),
            percent(guarded.share()),
            percent(guarded.touched()),
            format!("{:.2} a client", guarded.dropped()),
            format!("{:.2} a client", guarded.stopped()),
        ]);
        let claim = format!("{} bad, no guards: within 5 % of the formula", percent(f));
        lines.push(Line::new(claim, percent(off), off <= 0.05));
        trace.add([bad as u64, free.to_bits(), guarded.share().to_bits(), guarded.touched().to_bits()]);
    }
    Outcome { tables: vec![table], lines, notes: vec![], trace: trace.value() }
}

const DAYS: u32 = 30;
const CIRCUITS_A_DAY: u32 = 40;

/// A usable set, part of which is an attacker's.
struct Network {
    world: World,
    relays: Vec<UsableRelay>,
    bad: HashSet<RelayId>,
}

/// What became of clients with guards.
struct Guarded {
    clients: Vec<Client>,
    /// For each client, circuits that were used, and those of them that had both ends bad.
    circuits: Vec<(u32, u32)>,
}

impl Network {
    fn new(relays: usize, bad: usize, seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let world = World::new(rng);
        let all: Vec<_> = (0..relays).map(|_| world.spread_relay(rng)).collect();
        Self {
            relays: all.iter().map(|relay| client::usable(&world, relay, AgeClass::Old)).collect(),
            bad: all[..bad].iter().map(|relay| relay.id).collect(),
            world,
        }
    }

    fn usable(&self, number: u32) -> UsableRelays {
        UsableRelays::new(client::epoch(&self.world, number).0, self.relays.iter().cloned())
    }

    /// Whether a circuit over this path works, and whether both its ends are bad.
    fn fate(&self, path: &[&RelayEntry]) -> (CircuitEnd, bool) {
        let bad: Vec<_> = path.iter().map(|relay| self.bad.contains(&relay.id)).collect();
        let both = bad[0] && bad[HOPS - 1];
        let works = both || !bad.contains(&true);
        (if works { CircuitEnd::Built } else { CircuitEnd::Failed }, both)
    }

    /// The share of working circuits that have both ends bad, where the first hop is drawn anew each time.
    fn without_guards(&self, circuits: usize, seed: u64) -> f64 {
        let (rng, relays) = (&mut StdRng::seed_from_u64(seed ^ 1), self.usable(0));
        let (mut working, mut compromised) = (0, 0);
        while working < circuits {
            // Every client takes its candidates one after the other until one works; they are drawn independently, so
            // one row of candidates serves all clients.
            for path in path::choose_many(&relays, &client::rules(None), 1024, rng).expect("a path") {
                let (end, both) = self.fate(&path);
                working += usize::from(end == CircuitEnd::Built);
                compromised += usize::from(both);
            }
        }
        compromised as f64 / working as f64
    }

    fn with_guards(&self, clients: usize, seed: u64) -> Guarded {
        let rng = &mut StdRng::seed_from_u64(seed ^ 2);
        let (_, start) = client::epoch(&self.world, 0);
        let mut guarded =
            Guarded { clients: (0..clients).map(|_| Client::new(start)).collect(), circuits: vec![(0, 0); clients] };
        for number in 0..4 * DAYS {
            let (relays, (_, now)) = (self.usable(number), client::epoch(&self.world, number));
            for (client, (used, compromised)) in guarded.clients.iter_mut().zip(&mut guarded.circuits) {
                client.update(&relays, now, rng);
                for _ in 0..CIRCUITS_A_DAY / 4 {
                    let now = now.plus(rng.random_range(0..60));
                    let Some(path) = client.draw(&relays, now, rng) else { continue };
                    let (end, both) = self.fate(&path);
                    client.handle_end(&path, end, now);
                    *used += u32::from(end == CircuitEnd::Built);
                    *compromised += u32::from(both);
                }
            }
        }
        guarded
    }
}

impl Guarded {
    fn share(&self) -> f64 {
        let (used, compromised) = self.circuits.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        f64::from(compromised) / f64::from(used.max(1))
    }

    /// The share of clients that ever had such a circuit.
    fn touched(&self) -> f64 {
        self.circuits.iter().filter(|(_, compromised)| *compromised > 0).count() as f64 / self.circuits.len() as f64
    }

    fn dropped(&self) -> f64 {
        self.clients.iter().map(|client| f64::from(client.dropped)).sum::<f64>() / self.clients.len() as f64
    }

    fn stopped(&self) -> f64 {
        self.clients.iter().map(|client| f64::from(client.stopped)).sum::<f64>() / self.clients.len() as f64
    }
}
