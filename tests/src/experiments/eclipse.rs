//! Eclipse: a victim restarts, and an attacker holds many of the addresses that it may know the network by.
//!
//! At a start a node dials relays of its saved view at random, and those that its configuration names; it is eclipsed
//! when all that answer are the attacker's. An honest one is enough: the union then has the whole network. Honest
//! relays leave (2 % a day), the attacker's do not. What the victim still has after the pause is what the production
//! view makes of its own file: records that are over are gone. Names in its configuration are drawn once like all
//! others and run for ever.

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use trefoil_protocol::{epoch::UnixSeconds, view::View};

use super::{
    Line, Outcome, Setup,
    table::{Table, percent},
    trace::Trace,
    world::{FIRST, World},
};

/// The experiment.
pub fn run(setup: &Setup) -> Outcome {
    let relays = setup.relays(500, 100);
    let mut table = Table::new(
        format!(
            "A victim that knew {relays} relays restarts; it asks {ASKED} that answer, {NAMED} are in its configuration"
        ),
        &["attacker's addresses; pause", "records left", "sources s", "q^s", "eclipsed", "if nothing were over"],
    );
    let (mut lines, mut trace) = (vec![], Trace::default());
    for percent_bad in setup.pick(vec![20, 40, 60, 80], vec![40, 80]) {
        let q = f64::from(percent_bad) / 100.0;
        for (words, seconds) in [("1 h", 3600), ("7 d", 7 * 86_400), ("90 d", 90 * 86_400)] {
            let found = Found::run(relays, q, seconds, setup);
            let bound = q.powi(found.sources) + 0.001;
            table.row(vec![
                format!("{percent_bad} %; {words}"),
                found.left.to_string(),
                found.sources.to_string(),
                percent(q.powi(found.sources)),
                percent(found.eclipsed),
                percent(found.kept),
            ]);
            let claim = format!("{percent_bad} %, after {words}: P(eclipsed) at most q^s + 0.001");
            let allowed = bound + 3.0 * (bound * (1.0 - bound) / f64::from(found.tries)).sqrt();
            let measured = format!("{} for {}", percent(found.eclipsed), percent(bound));
            lines.push(Line::new(claim, measured, found.eclipsed <= allowed));
            trace.add([seconds, found.eclipsed.to_bits(), found.kept.to_bits(), found.left as u64]);
        }
    }
    let notes = vec!["a line allows three standard deviations of the draws".to_owned()];
    Outcome { tables: vec![table], lines, notes, trace: trace.value() }
}

/// Relays that a node asks at a start, as many as answer.
const ASKED: usize = 8;
/// Of them, those that its configuration names.
const NAMED: usize = 3;
/// The share of honest relays that leave in a day.
const LEAVING: f64 = 0.02;

struct Found {
    /// Records that are left after the pause.
    left: usize,
    /// How many sources answer.
    sources: i32,
    eclipsed: f64,
    /// The same if addresses of records that are over were tried, too.
    kept: f64,
    tries: u32,
}

impl Found {
    fn run(relays: usize, q: f64, pause: u64, setup: &Setup) -> Self {
        let rng = &mut StdRng::seed_from_u64(setup.seed);
        let left = left_after(relays, pause, rng);
        let stays = (1.0 - LEAVING).powf(pause as f64 / 86_400.0);
        let tries = setup.pick(100_000, 5_000);
        let mut eclipsed = [0u32; 2];
        for _ in 0..tries {
            let named: Vec<_> = (0..NAMED).map(|_| rng.random_bool(q)).collect();
            let mut saved: Vec<_> = (0..relays).map(|number| (number as f64) < q * relays as f64).collect();
            let (drawn, _) = saved.partial_shuffle(rng, 5 * ASKED);
            for (count, left) in eclipsed.iter_mut().zip([left, relays]) {
                let answers = drawn.iter().take(left).filter(|bad| **bad || rng.random_bool(stays));
                let asked = named.iter().chain(answers).take(ASKED);
                *count += u32::from(asked.filter(|bad| !**bad).count() == 0);
            }
        }
        let share = |count: u32| f64::from(count) / f64::from(tries);
        let sources = NAMED + left.min(ASKED - NAMED);
        Self {
            left,
            sources: i32::try_from(sources).expect("a few"),
            eclipsed: share(eclipsed[0]),
            kept: share(eclipsed[1]),
            tries,
        }
    }
}

/// How many records of a saved view are left after a pause. Relays renew theirs two epochs before they are over.
fn left_after(relays: usize, pause: u64, rng: &mut StdRng) -> usize {
    let world = World::new(rng);
    let start = FIRST.start(&world.params.directory);
    let mut view = View::new(&world.params, start);
    for _ in 0..relays {
        let relay = world.relay(rng);
        let issued = trefoil_protocol::epoch::Epoch(FIRST.0 - rng.random_range(0..super::life::RENEW_AFTER));
        view.offer(world.record(&relay, &world.describe(&relay, issued)), start);
    }
    let later = UnixSeconds(start.0 + pause);
    View::decode(&view.encode(), &world.params, later).view.len()
}
