//! Cost: what the directory costs each node in a day, for networks of 100 to 10,000 relays.
//!
//! A day of ordinary life: 10 % of the relays leave for good and as many come, each relay renews its record before it
//! is over, 2 % of messages are lost. What is counted is what a node sends; on the average it receives as much. Sizes
//! of frames are those of the production encoders, those of reconciliations are measured (`sessions.rs`), and a
//! handshake is reckoned at `DIAL`. Links' signs of life are not the directory's and are not in it.

use std::{hint::black_box, time::Instant};

use rand::RngExt;
use trefoil_protocol::{
    crypto::MemoryHard,
    directory::{Answer, Request},
    params::NetworkParams,
};

use super::{
    Line, Outcome, Setup,
    gossip::{Gossip, Rules},
    queue::DAY,
    sessions::Sessions,
    table::{Table, bytes},
    trace::Trace,
    traffic::{Kind, PACKET, on_wire},
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
            "handshakes",
            "to newcomers",
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

/// Bytes of a handshake, both directions: two padded datagrams with a key share each way, the client's last, a
/// greeting, an end.
const DIAL: f64 = 5_500.0;
/// What a dial costs that nobody answers: the first datagrams, three times.
const DIAL_FAILED: f64 = 7_200.0;

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
    /// Bytes of frames and of packets: pushes, reconciliations, records found, handshakes, downloads of newcomers.
    parts: [(f64, f64); 5],
    /// Processor time, in words.
    processor: String,
    trace: u64,
}

impl Day {
    fn of(relays: usize, seed: u64) -> Self {
        let rules = Rules { loss: 0.02, churn: 0.1, ..Rules::quiet(relays) };
        let mut gossip = Gossip::new(rules, seed);
        let sessions = Sessions::measure(&gossip.world, &gossip.facts, relays);
        gossip.live();
        gossip.run_until(DAY);
        let traffic = &gossip.traffic;
        let (mut reconciled, mut count) = ((0.0, 0.0), 0);
        for (differences, times) in traffic.sessions() {
            let cost = sessions.cost(differences);
            reconciled.0 += cost.frames * times as f64;
            reconciled.1 += cost.packets * times as f64;
            count += times;
        }
        let (dials, failed) = (traffic.of(Kind::Dial).0 as f64, traffic.of(Kind::DialFailed).0 as f64);
        let dials = dials * DIAL + failed * DIAL_FAILED;
        let of = |kind| framed(traffic.of(kind), if kind == Kind::Push { 1 } else { FULL });
        let parts = [of(Kind::Push), reconciled, of(Kind::Records), (dials, dials), of(Kind::Whole)];
        let each = relays as f64;
        let processor = processor(&mut gossip, sessions.seconds, count as f64 / each);
        Self {
            parts: parts.map(|(frames, packets)| (frames / each, packets / each)),
            processor,
            trace: gossip.trace.value(),
        }
    }
}

/// Records in a full frame.
const FULL: u64 = 256;

/// Frames and packets of messages with so many bytes of records, `together` in a frame, and of what answers them.
fn framed((messages, records): (u64, u64), together: u64) -> (f64, f64) {
    let around = Request::Push { records: vec![&[0; 165]], frauds: vec![] }.encode().len() - 165;
    let answer = Answer::Taken(1).encode().len();
    let frames = messages.div_ceil(together) as f64;
    let content = records as f64 + frames * (around + answer) as f64 + 2.0 * messages as f64;
    let packets = if together == 1 {
        // The frame in a packet of its own, the answer with its acknowledgement, and the answer's acknowledgement.
        content + frames * 3.0 * PACKET
    } else {
        on_wire(content as usize)
    };
    (content, packets)
}

/// Measures what checks cost, and reckons a day's.
fn processor(gossip: &mut Gossip, session: f64, sessions: f64) -> String {
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
    let new = gossip.facts.count() - gossip.rules.relays;
    let joined = gossip.nodes.len() - gossip.rules.relays;
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
