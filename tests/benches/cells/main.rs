//! How fast the protocol's pure part is on one core: layers, handshake, messages, streams, paths.
//!
//! `cargo bench -p trefoil-tests --bench cells`. Each round times every operation once, one after the other, so that a
//! slow moment of the machine meets all of them; the table shows the median round. The raw AEAD (aws-lc's
//! ChaCha20-Poly1305 over a cell's 2,032 sealed bytes, one key) runs in the same rounds and is what layers are held
//! against. docs/benchmarks.md has the figures.

mod handshake;
mod layers;
mod paths;
mod raw;
mod streams;

use std::time::{Duration, Instant};

use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::limits::{CELL, MAX_DATA};

const ROUNDS: usize = 41;

/// One operation that is timed.
struct Operation {
    name: &'static str,
    per: Per,
    /// Does the operation a few times and says how often and how long; what it needs for that is not counted.
    run: Box<dyn FnMut() -> Timed>,
    /// Nanoseconds for one, in each round.
    rounds: Vec<f64>,
}

/// What one operation is about.
#[derive(Clone, Copy)]
enum Per {
    /// One cell, sealed in so many layers.
    Sealed(u8),
    /// One cell, opened in so many layers.
    Opened(u8),
    /// One `Data` message.
    Data,
    /// One handshake.
    Handshake,
    /// One draw of paths or guards, or what it is made from.
    Path,
}

/// So many operations took so long.
struct Timed {
    count: u32,
    time: Duration,
}

impl Operation {
    fn new(name: &'static str, per: Per, run: impl FnMut() -> Timed + 'static) -> Self {
        Self { name, per, run: Box::new(run), rounds: Vec::new() }
    }

    fn measure(&mut self) {
        let timed = (self.run)();
        self.rounds.push(timed.time.as_secs_f64() * 1e9 / f64::from(timed.count));
    }

    /// The median round, in nanoseconds.
    fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    }
}

/// Times `act` on each of `items`; `prepare` makes them ready first, and is not counted.
fn time_each<T>(times: u32, items: &mut [T], mut prepare: impl FnMut(&mut T), mut act: impl FnMut(&mut T)) -> Timed {
    let mut timed = Timed { count: 0, time: Duration::ZERO };
    for _ in 0..times {
        items.iter_mut().for_each(&mut prepare);
        let start = Instant::now();
        items.iter_mut().for_each(&mut act);
        timed.time += start.elapsed();
        timed.count += u32::try_from(items.len()).expect("a batch is small");
    }
    timed
}

/// A generator whose bytes are the same in every run.
fn seeded() -> StdRng {
    StdRng::seed_from_u64(0x7472_6566_6f69_6c00)
}

fn main() {
    let mut operations: Vec<Operation> =
        [raw::operations(), layers::operations(), handshake::operations(), streams::operations(), paths::operations()]
            .into_iter()
            .flatten()
            .collect();
    for _ in 0..ROUNDS {
        operations.iter_mut().for_each(Operation::measure);
    }
    print_table(&operations);
}

fn print_table(operations: &[Operation]) {
    let median_of =
        |name| operations.iter().find(|operation| operation.name == name).map_or(f64::NAN, Operation::median);
    let (raw_seal, raw_open) = (median_of(raw::SEAL), median_of(raw::OPEN));
    println!("Medians of {ROUNDS} rounds on one core; MB = 10^6 bytes of cells, or of data for messages.\n");
    println!("| operation | ns | a second | MB/s | share of the raw AEAD |");
    println!("|---|---:|---:|---:|---:|");
    for operation in operations {
        let ns = operation.median();
        let speed = operation.per.bytes().map_or("–".to_owned(), |bytes| format!("{:.0}", bytes * 1e3 / ns));
        let share = match operation.per {
            Per::Sealed(layers) => format!("{:.0} %", 100.0 * raw_seal * f64::from(layers) / ns),
            Per::Opened(layers) => format!("{:.0} %", 100.0 * raw_open * f64::from(layers) / ns),
            Per::Data | Per::Handshake | Per::Path => "–".to_owned(),
        };
        println!("| {} | {ns:.0} | {:.0} | {speed} | {share} |", operation.name, 1e9 / ns);
    }
}

impl Per {
    fn bytes(self) -> Option<f64> {
        let bytes = match self {
            Self::Sealed(_) | Self::Opened(_) => CELL,
            Self::Data => MAX_DATA,
            Self::Handshake | Self::Path => return None,
        };
        u32::try_from(bytes).ok().map(f64::from)
    }
}
