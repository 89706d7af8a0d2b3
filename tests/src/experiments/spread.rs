//! Spread: how long a new descriptor takes to reach everyone, where some relays are silent.
//!
//! An attacker's silent relays take what they get, keep their links, and neither pass anything on nor answer. New
//! relays appear one after the other and publish through an ordinary node; clocks of the nodes' minutes are out of
//! step. 2 % of all messages are lost for good, as if their link had died.

use super::{
    Line, Outcome, Setup,
    gossip::{Gossip, Habit, Rules, Unanswered},
    queue::{MINUTE, Millis, SECOND},
    table::{Table, duration, percent},
    world::{FIRST, pick},
};

/// The experiment.
pub fn run(setup: &Setup) -> Outcome {
    let sizes = match setup.relays {
        Some(relays) => vec![relays],
        None => setup.pick(vec![1_000, 10_000], vec![1_000]),
    };
    let mut table = Table::new(
        format!("Spread of a new descriptor, {} silent, 2 % of messages lost", percent(SILENT)),
        &[
            "relays; a neighbour that does not answer",
            "descriptors",
            "50 % after",
            "99 % after",
            "99.9 % after",
            "all after",
            "at 2 min",
            "at 5 min",
        ],
    );
    let (mut lines, mut trace) = (vec![], 0);
    let rules = [Unanswered::Wait, Unanswered::Replace];
    for (relays, unanswered) in sizes.into_iter().flat_map(|relays| rules.map(|rule| (relays, rule))) {
        let count = setup.pick(50, 5);
        let rules = Rules { silent: SILENT, loss: 0.02, unanswered, ..Rules::quiet(relays) };
        let (mut gossip, all) = spread(rules, count, setup.seed);
        let worst = |at: Millis| all.iter().map(|spread| spread.share_at(at)).fold(1.0, f64::min);
        let (two, five) = (worst(2 * MINUTE), worst(5 * MINUTE));
        let slowest = |share: f64| {
            let times: Option<Vec<_>> = all.iter().map(|spread| spread.time_of(share)).collect();
            times.map_or("never".to_owned(), |times| duration(times.into_iter().max().unwrap_or(0)))
        };
        table.row(vec![
            format!("{relays}; {}", in_words(unanswered)),
            count.to_string(),
            slowest(0.5),
            slowest(0.99),
            slowest(0.999),
            slowest(1.0),
            percent(two),
            percent(five),
        ]);
        if unanswered == Unanswered::Replace {
            lines.push(Line::new(format!("{relays} relays: 99 % know it in 2 min"), percent(two), two >= 0.99));
            lines.push(Line::new(format!("{relays} relays: 99.9 % in 5 min"), percent(five), five >= 0.999));
        }
        gossip.trace.add([trace, 0, 0, 0]);
        trace = gossip.trace.value();
    }
    Outcome { tables: vec![table], lines, notes: vec![], trace }
}

const SILENT: f64 = 0.2;

/// When honest nodes learned of one descriptor, in order, since it was published.
struct Spread {
    times: Vec<Millis>,
    nodes: usize,
}

impl Spread {
    fn share_at(&self, at: Millis) -> f64 {
        self.times.partition_point(|time| *time <= at) as f64 / self.nodes as f64
    }

    fn time_of(&self, share: f64) -> Option<Millis> {
        let needed = (share * self.nodes as f64).ceil() as usize;
        self.times.get(needed.checked_sub(1)?).copied()
    }
}

/// Lets `count` descriptors spread, 40 s apart; gives how each did in 20 minutes.
fn spread(rules: Rules, count: usize, seed: u64) -> (Gossip, Vec<Spread>) {
    let relays = rules.relays;
    let mut gossip = Gossip::new(rules, seed);
    let honest: Vec<_> = (0..relays).filter(|node| gossip.nodes[*node].habit == Habit::Honest).collect();
    gossip.watched = relays;
    gossip.run_until(5 * MINUTE);
    let mut published = vec![];
    for number in 0..count {
        let relay = gossip.world.relay(&mut gossip.rng);
        let described = gossip.world.describe(&relay, FIRST);
        // It belongs to a relay that nobody dials: the experiment is of its descriptor.
        let fact = gossip.facts.add(relays + number, gossip.world.record(&relay, &described));
        let first = pick(&honest, &mut gossip.rng);
        gossip.publish(first, fact);
        published.push((fact, gossip.now));
        gossip.run_until(gossip.now + 40 * SECOND);
    }
    gossip.run_until(gossip.now + 20 * MINUTE);
    let learned = &gossip.learned;
    let spread = |(fact, at): &(usize, Millis)| {
        let of_honest = |(node, learned, _): &&(usize, usize, Millis)| {
            learned == fact && gossip.nodes[*node].habit == Habit::Honest
        };
        let mut times: Vec<_> = learned.iter().filter(of_honest).map(|(_, _, time)| time - at).collect();
        times.sort_unstable();
        Spread { times, nodes: honest.len() }
    };
    let spreads = published.iter().map(spread).collect();
    (gossip, spreads)
}

fn in_words(unanswered: Unanswered) -> &'static str {
    match unanswered {
        Unanswered::Wait => "stays",
        Unanswered::Replace => "is replaced",
    }
}
