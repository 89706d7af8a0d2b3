//! Flood: fake relays join a network of 1,000 in one day, as a botnet joined I2P in 2026.
//!
//! They come evenly through the day, in networks all over the world, have done their work, answer when they are
//! dialled, and never fail; or they are nowhere, which costs less. Every honest relay gets all of them, which is the worst that gossip can do; so all views
//! are the same, and one is looked at: the production view of a relay that has known the honest ones for 1 to 100 days.
//! The limits on senders, and the time that work takes, would only slow the flood down, and are left out. 100 honest
//! newcomers come in the same day.
//!
//! Two rules are compared. *Usable*: a relay that was in a usable set is established, and no flood displaces it.
//! *Grown*: so is one only when it was known for a week. *Nowhere* has the first rule, and fakes that do not answer.

use std::collections::HashSet;

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use trefoil_protocol::{
    epoch::Epoch,
    identity::RelayId,
    path,
    relays::{UsableRelay, UsableRelays},
    settling::Settling,
    usable::{AgeClass, Seen, UsableSet},
    view::View,
};

use super::{
    Line, Outcome, Setup,
    client::{self, Client},
    gossip::{Gossip, Rules},
    queue::{DAY, Millis},
    table::{Table, percent},
    trace::Trace,
    world::{self, FIRST},
};

/// The experiment.
pub fn run(setup: &Setup) -> Outcome {
    let honest = setup.relays(1_000, 1_000);
    let mut table = Table::new(
        format!("A day's flood of fake relays on {honest} honest ones"),
        &[
            "fakes; who is established",
            "most records held",
            "times as many",
            "usable fakes",
            "of paths' hops",
            "of guards",
            "honest newcomers usable",
            "Argon2id checks",
        ],
    );
    let (mut lines, mut trace) = (vec![], Trace::default());
    for fakes in setup.pick(vec![5_000, 50_000, 700_000], vec![3_000]) {
        for (words, rule, answer) in KINDS {
            let flood = Flood::run(honest, fakes, (rule, answer), setup);
            let times = flood.most as f64 / honest as f64;
            table.row(vec![
                format!("{fakes}; {words}"),
                flood.most.to_string(),
                format!("{times:.2}"),
                flood.usable_fakes.to_string(),
                percent(flood.selected),
                percent(flood.guards),
                percent(flood.newcomers),
                flood.checks.to_string(),
            ]);
            trace.add([fakes as u64, flood.most as u64, flood.selected.to_bits(), flood.checks as u64]);
            if words == "usable" {
                lines.extend([
                    Line::new(
                        format!("{fakes} fakes: at most 12 % of selection"),
                        percent(flood.selected),
                        flood.selected <= 0.12,
                    ),
                    Line::new(
                        format!("{fakes} fakes: at most 1 % of guards"),
                        percent(flood.guards),
                        flood.guards <= 0.01,
                    ),
                    Line::new(
                        format!("{fakes} fakes: view at most 1.5 times as large"),
                        format!("{times:.2}"),
                        times <= 1.5,
                    ),
                ]);
            }
        }
    }
    let notes = vec!["memory is bounded by the number of records held, at most 400 bytes each".to_owned()];
    Outcome { tables: vec![table], lines, notes, trace: trace.value() }
}

/// Whom no flood displaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Established {
    /// Whoever was in a usable set.
    Usable,
    /// Whoever was in one as grown.
    Grown,
}

/// Floods: in words, whom they displace not, and whether the fakes answer when they are dialled.
const KINDS: [(&str, Established, bool); 3] = [
    ("usable", Established::Usable, true),
    ("grown", Established::Grown, true),
    ("nowhere", Established::Usable, false),
];

/// What a flood has done.
struct Flood {
    most: usize,
    usable_fakes: usize,
    selected: f64,
    guards: f64,
    newcomers: f64,
    checks: usize,
}

const EPOCHS: u32 = 4;

impl Flood {
    fn run(honest: usize, fakes: usize, (rule, answer): (Established, bool), setup: &Setup) -> Self {
        let mut gossip = Gossip::new(Rules { witnesses: 1, ..Rules::quiet(honest) }, setup.seed);
        let mut view = *gossip.nodes[0].knowledge.witness.take().expect("a witness");
        let rng = &mut StdRng::seed_from_u64(setup.seed ^ 1);
        let newcomers = honest / 10;
        let mut order: Vec<_> = (0..fakes + newcomers).map(|number| number < fakes).collect();
        order.shuffle(rng);
        let (mut bad, mut new) = (HashSet::new(), vec![]);
        let (mut most, mut checks) = (view.len(), 0);
        let epoch_of = |number: usize| u32::try_from(number * EPOCHS as usize / order.len()).expect("a few");
        for (number, fake) in order.iter().enumerate() {
            let at = number as Millis * DAY / order.len() as Millis;
            if number > 0 && epoch_of(number) > epoch_of(number - 1) {
                begin_epoch(&mut view, &gossip, FIRST.plus(epoch_of(number)), rule);
            }
            let relay = if *fake { gossip.world.spread_relay(rng) } else { gossip.world.relay(rng) };
            let described = gossip.world.describe(&relay, FIRST.plus(epoch_of(number)));
            if *fake {
                bad.insert(relay.id);
            } else {
                new.push(relay.id);
            }
            let now = world::unix(&gossip.world.params, at);
            let record = gossip.world.sign(&relay, &described);
            let reached = answer || !*fake;
            if view.would_take(&record, reached, now) {
                checks += 1;
                let checked = gossip.world.check(record);
                let _ = if reached {
                    view.offer_reached(checked, relay.address.into(), now)
                } else {
                    view.offer(checked, now)
                };
                most = most.max(view.len());
            }
        }
        let set = begin_epoch(&mut view, &gossip, FIRST.plus(EPOCHS), rule);
        let usable_new = new.iter().filter(|relay| set.class(relay).is_some()).count();
        let relays = usable(&view, &set);
        let (selected, guards) = shares(&relays, &bad, setup, rng);
        Self {
            most,
            usable_fakes: set.iter().filter(|(relay, _)| bad.contains(relay)).count(),
            selected,
            guards,
            newcomers: usable_new as f64 / newcomers as f64,
            checks,
        }
    }
}

fn begin_epoch(view: &mut View, gossip: &Gossip, epoch: Epoch, rule: Established) -> UsableSet {
    let now = epoch.start(&gossip.world.params.directory);
    let params = &gossip.world.params.directory;
    let settling = Settling::unseen(epoch, params);
    let seen = view.iter().map(|(relay, known)| Seen {
        relay: *relay,
        first_seen: known.first_seen,
        reached: known.reached,
        withdrawn: false,
        settled: settling.is_settled(relay, known.first_seen, true),
    });
    let set = UsableSet::freeze(epoch, seen, params);
    view.begin_epoch(now, |relay| match rule {
        Established::Usable => set.class(relay).is_some(),
        Established::Grown => set.class(relay) >= Some(AgeClass::Grown),
    });
    set
}

fn usable(view: &View, set: &UsableSet) -> UsableRelays {
    let relay = |(relay, class): (RelayId, AgeClass)| {
        let entry = view.get(&relay)?.record.record().entry();
        Some(UsableRelay { entry, class, family: None })
    };
    UsableRelays::new(set.epoch(), set.iter().filter_map(relay))
}

/// The share of fakes among the hops of paths that are drawn without guards, and among the guards of new clients.
fn shares(relays: &UsableRelays, bad: &HashSet<RelayId>, setup: &Setup, rng: &mut StdRng) -> (f64, f64) {
    let paths = path::choose_many(relays, &client::rules(None), setup.pick(50_000, 2_000), rng).expect("paths");
    let hops: Vec<_> = paths.iter().flatten().map(|hop| bad.contains(&hop.id)).collect();
    let selected = hops.iter().filter(|bad| **bad).count() as f64 / hops.len() as f64;
    let now = relays.epoch().start(&world::params().directory).plus(rng.random_range(0..60));
    let guards = (0..setup.pick(1_000, 50)).flat_map(|_| {
        let mut client = Client::new(now);
        client.update(relays, now, rng);
        client.guards(now)
    });
    let guards: Vec<_> = guards.map(|guard| bad.contains(&guard)).collect();
    (selected, guards.iter().filter(|bad| **bad).count() as f64 / guards.len() as f64)
}
