//! Cost: what the directory costs each node in a day, for networks of 100 to 10,000 relays.
//!
//! A day of ordinary life, after two others: 10 % of the relays leave for good and as many come, each relay renews its
//! record before it is over, 2 % of packets are lost and sent again. What is counted is what a node sends; on the average
//! it receives as much. Sizes of frames are those of the production encoders, those of reconciliations are measured
//! (`sessions.rs`), and so is what looks and dials cost (`sim/cost_tests.rs` measures that again). Newcomers look in vain
//! for the relays that left without a word, until their records are over. Links' signs of life are not the directory's and
//! are not in it.

use std::{hint::black_box, time::Instant};

use rand::RngExt;
use trefoil_protocol::{
    crypto::MemoryHard,
    directory::{Answer, Request},
    limits::{OBSERVERS, SETTLE_STEPS, SIGHTINGS_ENOUGH},
    params::NetworkParams,
    sighting::SightingName,
};

use super::{
    Line, Outcome, Setup,
    gossip::{Gossip, NEIGHBOURS, Rules},
    queue::DAY,
    sessions::{Cost, Sessions},
    table::{Table, bytes},
    trace::Trace,
    traffic::{Kind, PACKET, Traffic, on_wire},
};

/// The experiment.
pub fn run(setup: &Setup) -> Outcome {
    let sizes = match setup.relays {
        Some(relays) => vec![relays],
        None => setup.pick(vec![100, 300, 1_000, 3_000, 10_000], vec![100, 200]),
    };
    let mut table = Table::new(
        "What a node sends in a day, by kind of message; 10 % churn a day",
        &[
            "relays",
            "pushes",
            "reconciliations",
            "records found",
            "looks and handshakes",
            "to newcomers",
            "sightings",
            "frames in all",
            "packets in all",
        ],
    );
    let (mut trace, mut notes, mut all) = (Trace::default(), vec![], vec![]);
    for relays in sizes {
        let day = Day::of(relays, setup.seed);
        let frames: f64 = day.parts.iter().map(|(frames, _)| frames).sum();
        let packets: f64 = day.parts.iter().map(|(_, packets)| packets).sum();
        let parts = day.parts.iter().map(|(frames, _)| bytes(*frames));
        let row = [relays.to_string()].into_iter().chain(parts).chain([bytes(frames), bytes(packets)]);
        table.row(row.collect());
        notes.push(format!("{relays} relays: {}", day.processor));
        trace.add([relays as u64, day.trace, frames.to_bits(), packets.to_bits()]);
        all.push((relays, frames, packets));
    }
    Outcome { tables: vec![table], lines: lines(&all), notes, trace: trace.value() }
}

/// Bytes of a look for a relay that is there, both directions, headers of IPv4 and UDP included: a question, an answer.
pub const LOOK: f64 = 232.0;
/// Bytes of a look that nobody answers: three questions.
pub const LOOK_FAILED: f64 = 372.0;
/// Bytes of making a link: two padded packets with a key share each way, ids for more paths, and searching which packets
/// fit on the path.
pub const LINK: f64 = 12_589.0;
/// Bytes of a dial that nobody answers: nine packets in ten seconds.
pub const DIAL_FAILED: f64 = 11_052.0;
const DIALS: [(Kind, f64); 4] =
    [(Kind::Look, LOOK), (Kind::LookFailed, LOOK_FAILED), (Kind::Link, LINK), (Kind::DialFailed, DIAL_FAILED)];
/// Packets that are lost are sent again.
const AGAIN: f64 = 1.0 / 0.98;

fn lines(all: &[(usize, f64, f64)]) -> Vec<Line> {
    let mut lines = vec![];
    for (relays, frames, packets) in all.iter().filter(|(relays, ..)| *relays <= 10_000) {
        let claim = format!("{relays} relays: at most 12 MB a day, packets' headers included");
        let measured = format!("{}, of them {} in frames", bytes(*packets), bytes(*frames));
        lines.push(Line::new(claim, measured, *packets <= 12e6));
    }
    for pair in all.windows(2) {
        let ((few, _, low), (many, _, high)) = (pair[0], pair[1]);
        let (growth, size) = (high / low, many as f64 / few as f64);
        let claim = format!("from {few} to {many} relays: linear, not worse");
        lines.push(Line::new(
            claim,
            format!("{growth:.2} times as much for {size:.2} times as many"),
            growth <= 1.05 * size,
        ));
    }
    lines
}

/// What a day costs a node.
struct Day {
    /// Bytes of frames and of packets: pushes, reconciliations, records found, handshakes, downloads of newcomers,
    /// sightings.
    parts: [(f64, f64); 6],
    /// Processor time, in words.
    processor: String,
    trace: u64,
}

impl Day {
    fn of(relays: usize, seed: u64) -> Self {
        let rules = Rules { churn: 0.1, ..Rules::quiet(relays) };
        let mut gossip = Gossip::new(rules, seed);
        let all: Vec<_> = gossip.nodes.iter().map(|node| &node.relay).collect();
        let sessions = Sessions::measure(&gossip.world, &gossip.facts, &all);
        gossip.live();
        gossip.run_until(2 * DAY); // so long count the records of those that left
        gossip.traffic = Traffic::default();
        let before = (gossip.facts.count(), gossip.nodes.len());
        gossip.run_until(3 * DAY);
        let traffic = &gossip.traffic;
        let reconciled = sum(traffic.sessions().map(|(differences, times)| (sessions.cost(differences), times)));
        let pushed = sum(traffic.pushes().map(|(records, times)| (push(records), times)));
        let dials: f64 = DIALS.iter().map(|(kind, bytes)| traffic.of(*kind).0 as f64 * bytes).sum();
        let found = together(traffic.of(Kind::Records));
        let sighted = sightings(rules.churn * relays as f64);
        let sighted = (relays as f64 * sighted.frames, relays as f64 * sighted.packets);
        let parts = [pushed, reconciled, found, (dials, dials), together(traffic.of(Kind::Whole)), sighted];
        let each = relays as f64;
        let count: u64 = traffic.sessions().map(|(_, times)| times).sum();
        let new = (gossip.facts.count() - before.0, gossip.nodes.len() - before.1);
        let processor = processor(&mut gossip, sessions.seconds, count as f64 / each, new);
        Self {
            parts: parts.map(|(frames, packets)| (frames / each, AGAIN * packets / each)),
            processor,
            trace: gossip.trace.value(),
        }
    }
}

/// The frames and packets of all of these.
fn sum(costs: impl Iterator<Item = (Cost, u64)>) -> (f64, f64) {
    costs.fold((0.0, 0.0), |(frames, packets), (cost, times)| {
        (frames + cost.frames * times as f64, packets + cost.packets * times as f64)
    })
}

/// What a push of so many records costs, and its answer: the packets with the records, one with the answer, and that
/// one's acknowledgement.
pub fn push(records: usize) -> Cost {
    let pushed = Request::Push { records: vec![&[0; 165]; records], frauds: vec![] }.encode().len();
    let answer = Answer::Taken(1).encode().len() as f64;
    Cost { frames: pushed as f64 + answer, packets: on_wire(pushed) + answer + 2.0 * PACKET }
}

/// What settling costs a node in a day in which so many relays come and as many leave, reckoned: each observer says in
/// one sighting who came, or left with a word, within the four steps around a deadline; each node passes it on to its
/// neighbours but the one that told it, and asks for what it lacks in each talk while sightings count.
fn sightings(churn: f64) -> Cost {
    let directory = NetworkParams::main().directory;
    let (epoch, step) = (f64::from(directory.epoch.get()), f64::from(directory.settle) / SETTLE_STEPS as f64);
    let epochs = 86_400.0 / epoch;
    let doubted = (1.5 * churn * 4.0 * step / 86_400.0).ceil().max(1.0) as usize;
    let said = vec![0; 100 + 32 * doubted];
    let told = Request::Sight(vec![&said]).encode().len() as f64 + Answer::Taken(1).encode().len() as f64;
    let names = vec![SightingName([0; 16]); OBSERVERS];
    let asked = Request::Sightings(names).encode().len() as f64 + Answer::Sightings(vec![]).encode().len() as f64;
    let tellings = epochs * (OBSERVERS * (NEIGHBOURS - 1)) as f64;
    let askings = epochs * f64::from(2 * SIGHTINGS_ENOUGH) * step / f64::from(directory.reconcile);
    let frames = tellings * told + askings * asked;
    Cost { frames, packets: frames + 3.0 * PACKET * tellings + 2.0 * PACKET * askings }
}

/// Records in a full frame.
const FULL: u64 = 256;

/// Frames and packets of so many records with so many bytes, in full frames.
fn together((records, bytes): (u64, u64)) -> (f64, f64) {
    let around = Answer::Records(vec![&[0; 165]]).encode().len() - 165 - 2;
    let content = bytes as f64 + (records.div_ceil(FULL) * around as u64) as f64 + 2.0 * records as f64;
    (content, on_wire(content as usize))
}

/// Measures what checks cost, and reckons a day's.
fn processor(gossip: &mut Gossip, session: f64, sessions: f64, (new, joined): (usize, usize)) -> String {
    let started = Instant::now();
    for number in 0..CHECKS {
        let record = gossip.facts.fact(number).checked.record().clone();
        let now = record.issued().start(&gossip.world.params.directory);
        black_box(record.check(&gossip.world.params, now).is_ok());
    }
    let check = started.elapsed().as_secs_f64() / CHECKS as f64;
    let kib = NetworkParams::main().directory.argon2_kib;
    let mut memory = MemoryHard::new(kib);
    let salt = gossip.rng.random();
    let started = Instant::now();
    for number in 0..10u8 {
        black_box(memory.hash(&[number], &salt));
    }
    let work = started.elapsed().as_secs_f64() / 10.0;
    let all = sessions * session + new as f64 * check + joined as f64 * work;
    format!(
        "{all:.1} s of one processor a day: {sessions:.0} sessions of {:.2} ms for both sides together, {new} records of \
         {:.0} µs, work of {joined} newcomers of {:.1} ms",
        1e3 * session,
        1e6 * check,
        1e3 * work
    )
}

const CHECKS: usize = 100;
