//! Spread: how long a new descriptor takes to reach everyone, where some relays are silent.
//!
//! An attacker's silent relays take what they get, keep their links, and neither pass anything on nor answer. New
//! relays appear one after the other and publish through an ordinary node; clocks of the nodes' minutes are out of
//! step. 2 % of all messages are lost for good, as if their link had died. So are renewals, which are in no hurry: those
//! of one moment start together, and go together.

use rand::RngExt;
use trefoil_protocol::{epoch::Epoch, limits::RENEWAL_MOMENTS};

use super::{
    Line, Outcome, Setup,
    gossip::{Event, Gossip, Habit, Rules, Unanswered},
    life::RENEW_AFTER,
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
    let (renewals, renewed_in_time) = renewals(&sizes, setup.seed);
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
    lines.extend(renewed_in_time);
    Outcome { tables: vec![table, renewals], lines, notes: vec![], trace }
}

/// How renewals spread, and whether all hear of them long before what they know is over.
fn renewals(sizes: &[usize], seed: u64) -> (Table, Vec<Line>) {
    let title = "Spread of the renewals of one moment, under the same conditions";
    let mut table = Table::new(title, &["relays", "renewals", "50 % after", "99 % after", "99.9 % after", "all after"]);
    let mut lines = vec![];
    for relays in sizes {
        let rules = Rules { silent: SILENT, loss: 0.02, ..Rules::quiet(*relays) };
        let all = renew(rules, seed);
        let slowest =
            |share: f64| all.iter().map(|spread| spread.time_of(share)).try_fold(0, |a, b| b.map(|b| a.max(b)));
        let in_words = |share: f64| slowest(share).map_or("never".to_owned(), duration);
        let shares = [0.5, 0.99, 0.999, 1.0].map(in_words);
        table.row([relays.to_string(), all.len().to_string()].into_iter().chain(shares).collect());
        let claim = format!("{relays} relays: 99.9 % have a renewal in 30 min");
        lines.push(Line::new(claim, in_words(0.999), slowest(0.999).is_some_and(|time| time <= 30 * MINUTE)));
    }
    (table, lines)
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

/// Lets the honest relays of one moment, a few seconds apart, renew records; gives how each did in an hour.
fn renew(rules: Rules, seed: u64) -> Vec<Spread> {
    let relays = rules.relays;
    let mut gossip = Gossip::new(rules, seed);
    let honest: Vec<_> = (0..relays).filter(|node| gossip.nodes[*node].habit == Habit::Honest).collect();
    gossip.watched = relays;
    gossip.run_until(5 * MINUTE);
    let oldest = Epoch(FIRST.0 - RENEW_AFTER);
    let is_due = |node: &&usize| gossip.facts.fact(**node).checked.record().issued() == oldest;
    let due: Vec<_> = honest.iter().filter(is_due).step_by(RENEWAL_MOMENTS as usize).copied().collect();
    for node in &due {
        let at = gossip.now + gossip.rng.random_range(0..5 * SECOND);
        gossip.queue.put(at, Event::Renew(*node));
    }
    gossip.run_until(gossip.now + 60 * MINUTE);
    let mut times = vec![vec![]; due.len()];
    for (node, fact, time) in &gossip.learned {
        if gossip.nodes[*node].habit == Habit::Honest {
            times[fact - relays].push(*time);
        }
    }
    let since_first = |times: Vec<Millis>| times.iter().map(|time| time - times[0]).collect();
    times.into_iter().map(|times| Spread { times: since_first(times), nodes: honest.len() }).collect()
}

fn in_words(unanswered: Unanswered) -> &'static str {
    match unanswered {
        Unanswered::Wait => "stays",
        Unanswered::Replace => "is replaced",
    }
}
