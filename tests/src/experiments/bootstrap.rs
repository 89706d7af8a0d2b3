//! Bootstrap: a newcomer asks five sources, of which one is honest.
//!
//! The four others keep honest relays to themselves and offer fakes, all that they like, first. The newcomer takes the
//! union, with the production reconciliation and a production view, as often as a source has more to give. Fakes have
//! done their work; they are spread over all networks, or sit in those where most honest relays are.

use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    descriptor::Checked,
    identity::RelayId,
    reconcile::{Held, Reconciler, Responder, Salt},
    view::View,
};

use super::{
    Line, Outcome, Setup,
    table::{Table, percent},
    trace::Trace,
    world::{FIRST, World},
};

/// The experiment.
pub fn run(setup: &Setup) -> Outcome {
    let honest = setup.relays(10_000, 600);
    let mut table = Table::new(
        format!("The view of a newcomer with one honest source among five, {honest} honest relays"),
        &["fakes", "records held", "honest relays known", "sessions"],
    );
    let (mut lines, mut trace) = (vec![], Trace::default());
    let floods = setup.pick(
        vec![
            (0, Where::Anywhere),
            (5_000, Where::Anywhere),
            (50_000, Where::Anywhere),
            (5_000, Where::Crowded),
            (20_000, Where::Crowded),
        ],
        vec![(0, Where::Anywhere), (500, Where::Anywhere)],
    );
    for (fakes, place) in floods {
        let found = Found::run(honest, fakes, place, setup.seed);
        let words = if place == Where::Anywhere { "anywhere" } else { "where honest relays are" };
        table.row(vec![
            format!("{fakes}, {words}"),
            found.held.to_string(),
            percent(found.honest),
            found.sessions.to_string(),
        ]);
        let claim = format!("{fakes} fakes {words}: at least 99.9 % of honest relays");
        lines.push(Line::new(claim, percent(found.honest), found.honest >= 0.999));
        trace.add([found.world, found.held as u64, found.honest.to_bits(), found.sessions as u64]);
    }
    Outcome { tables: vec![table], lines, notes: vec![], trace: trace.value() }
}

/// Where fakes are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In any network.
    Anywhere,
    /// In networks that are drawn as those of honest relays are.
    Crowded,
}

struct Found {
    held: usize,
    honest: f64,
    sessions: usize,
    /// Names the relays that there are.
    world: u64,
}

impl Found {
    fn run(honest: usize, fakes: usize, place: Where, seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let world = World::new(rng);
        let now = FIRST.start(&world.params.directory).plus(3600);
        let mut records = |count: usize, place: Where| -> Vec<Checked> {
            let relay =
                |rng: &mut StdRng| if place == Where::Crowded { world.relay(rng) } else { world.spread_relay(rng) };
            (0..count)
                .map(|_| {
                    let relay = relay(rng);
                    world.record(&relay, &world.describe(&relay, FIRST))
                })
                .collect()
        };
        let (honest, fakes) = (records(honest, Where::Crowded), records(fakes, place));
        let names: Vec<RelayId> = honest.iter().map(|checked| checked.record().relay()).collect();
        // Sources have known their relays for long: they are established, and nothing bounds them.
        let source = |records: &[Checked]| {
            let mut view = View::new(&world.params, now);
            for chunk in records.chunks(16) {
                chunk.iter().for_each(|record| drop(view.offer(record.clone(), now)));
                view.establish(|_| true);
            }
            view
        };
        let mut newcomer = View::new(&world.params, now);
        let mut sessions = 0;
        let lies: Vec<_> = fakes.chunks(fakes.len().div_ceil(4).max(1)).map(&source).collect();
        for source in lies.iter().chain([&source(&honest)]) {
            for salt in 0..MOST_SESSIONS {
                sessions += 1;
                if pull(&mut newcomer, source, Salt([salt; 16])) == 0 {
                    break;
                }
            }
        }
        let world = names
            .iter()
            .fold(0, |all, relay| all ^ u64::from_le_bytes(*relay.as_bytes().first_chunk().expect("32 bytes")));
        let known = names.iter().filter(|relay| newcomer.get(relay).is_some()).count();
        Self { held: newcomer.len(), honest: known as f64 / names.len() as f64, sessions, world }
    }
}

/// Sessions with one source until the newcomer has enough of it.
const MOST_SESSIONS: u8 = 40;

/// One session: the newcomer asks, and takes what it wants. Gives how many records were taken.
fn pull(newcomer: &mut View, source: &View, salt: Salt) -> usize {
    let now = FIRST.start(&super::world::params().directory).plus(3600);
    let (mut reconciler, mut message) = Reconciler::start(&Held::of(newcomer), salt);
    let mut responder = Responder::new(&Held::of(source), salt);
    while let Ok(answer) = responder.respond(&message) {
        match reconciler.handle_answer(&answer) {
            Ok(Some(next)) => message = next,
            _ => break,
        }
    }
    let wanted: Vec<_> = reconciler.wants().filter_map(|name| responder.find(&name)).collect();
    let records = wanted.iter().filter_map(|relay| source.get(relay)).map(|known| known.record.clone());
    let news = |record: Checked| newcomer.offer(record, now) == trefoil_protocol::view::Offer::New;
    records.map(news).filter(|new| *new).count()
}
