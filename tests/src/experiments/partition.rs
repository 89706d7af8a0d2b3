//! Partition: the network falls into two for six hours, and heals.
//!
//! Life goes on meanwhile in both parts: relays renew their records, leave and come. Nodes notice by their dials: a
//! node takes it that something is wrong when in an epoch more than a quarter of its dials are not answered. Whole
//! again is the network when 99.9 % of all nodes have the newest record of every relay that runs.

use super::{
    Line, Outcome, Setup,
    gossip::{Gossip, Rules},
    queue::{HOUR, MINUTE, Millis, SECOND},
    table::{Table, duration, percent},
    trace::Trace,
};

/// The experiment.
pub fn run(setup: &Setup) -> Outcome {
    let relays = setup.relays(1_000, 200);
    let mut table = Table::new(
        format!("{relays} relays, apart for 6 hours"),
        &[
            "parts",
            "dials unanswered before",
            "larger part: unanswered",
            "noticed by",
            "smaller part: unanswered",
            "noticed by",
            "whole again after",
        ],
    );
    let (mut lines, mut trace) = (vec![], Trace::default());
    for smaller in [50, 10] {
        let found = Found::run(relays, relays * smaller / 100, setup.seed);
        let name = format!("{}/{smaller}", 100 - smaller);
        let whole = found.whole.map_or("over 20 min".to_owned(), duration);
        table.row(vec![
            name.clone(),
            percent(found.before.unanswered),
            percent(found.larger.unanswered),
            percent(found.larger.noticed),
            percent(found.smaller.unanswered),
            percent(found.smaller.noticed),
            whole.clone(),
        ]);
        let noticed = found.smaller.noticed.max(found.larger.noticed);
        let claim = format!("{name}: noticed within one epoch by at least 99 % of the nodes of a part");
        lines.push(Line::new(claim, percent(noticed), noticed >= 0.99));
        let is_whole = found.whole.is_some_and(|after| after <= 10 * MINUTE);
        lines.push(Line::new(format!("{name}: whole again within 10 min"), whole, is_whole));
        trace.add([smaller as u64, found.trace, noticed.to_bits(), found.whole.unwrap_or(0)]);
    }
    Outcome { tables: vec![table], lines, notes: vec![], trace: trace.value() }
}

/// What the nodes of a part see of the others.
struct Part {
    /// The share of dials that nobody answered.
    unanswered: f64,
    /// The share of nodes that notice.
    noticed: f64,
}

struct Found {
    before: Part,
    larger: Part,
    smaller: Part,
    whole: Option<Millis>,
    trace: u64,
}

const EPOCH: Millis = 6 * HOUR;

impl Found {
    fn run(relays: usize, smaller: usize, seed: u64) -> Self {
        let rules = Rules { loss: 0.02, churn: 0.1, ..Rules::quiet(relays) };
        let mut gossip = Gossip::new(rules, seed);
        gossip.live();
        gossip.run_until(EPOCH);
        let before = part(&gossip, 0..relays);
        gossip.dials.clear();
        gossip.cut = smaller;
        gossip.run_until(2 * EPOCH);
        let (small, large) = (part(&gossip, 0..smaller), part(&gossip, smaller..gossip.nodes.len()));
        gossip.cut = 0;
        let healed = gossip.now;
        let whole = (1..=120).find_map(|step| {
            gossip.run_until(healed + step * 10 * SECOND);
            is_whole(&gossip).then_some(step * 10 * SECOND)
        });
        Self { before, larger: large, smaller: small, whole, trace: gossip.trace.value() }
    }
}

fn part(gossip: &Gossip, nodes: std::ops::Range<usize>) -> Part {
    let up = || nodes.clone().filter(|node| gossip.nodes[*node].up);
    let dials = |node: usize| gossip.dials.get(node).copied().unwrap_or((0, 0));
    let (all, failed) = up().map(dials).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let notices = |node: &usize| {
        let (all, failed) = dials(*node);
        all >= LEAST_DIALS && failed * 4 > all
    };
    let noticed = up().filter(notices).count() as f64 / up().count().max(1) as f64;
    Part { unanswered: f64::from(failed) / f64::from(all.max(1)), noticed }
}

/// Dials in an epoch that say something.
const LEAST_DIALS: u32 = 8;

/// Whether 99.9 % of the nodes that run have the newest record of all relays that run, those of the last minute left
/// out.
fn is_whole(gossip: &Gossip) -> bool {
    let up = || gossip.nodes.iter().enumerate().filter(|(_, node)| node.up);
    let newest: Vec<_> = up().filter_map(|(relay, _)| gossip.facts.newest(relay)).collect();
    let missing = |fact: &usize| up().filter(|(_, node)| !node.knowledge.has.has(*fact)).count();
    // What was signed a moment ago is still on its way, and would be without a partition.
    let on_its_way = newest.len() / 200;
    let lacking = newest.iter().filter(|fact| missing(fact) as f64 > 0.001 * up().count() as f64).count();
    lacking <= on_its_way.min(2)
}
