//! What the congestion controls make of a line, alone and beside each other, in simulation.
//!
//! `cargo bench -p trefoil-tests --bench congestion [-- RATE...]`, rates in Mbit/s, 50 and 200 unless named. Each flow
//! is a link with six busy circuits; all share one drop-tail queue; 25 ms one way. Time is virtual and all is seeded,
//! so that every run on any machine gives the same figures. docs/benchmarks.md has them.

use std::time::Duration;

use trefoil_relay::endpoint::Congestion::{self, Bbr, Cubic, Tolerant};
use trefoil_tests::sim::flows::{Line, Shares, Times, share, transfer};

const ALL: [Congestion; 3] = [Cubic, Tolerant, Bbr];
const PAIRS: [[Congestion; 2]; 5] =
    [[Cubic, Cubic], [Tolerant, Tolerant], [Cubic, Tolerant], [Tolerant, Cubic], [Cubic, Bbr]];
/// By their names, as shares of what the line holds.
const QUEUES: [(&str, Duration); 4] = [
    ("1/10", Duration::from_millis(5)),
    ("1/4", Duration::from_micros(12_500)),
    ("1", Duration::from_millis(50)),
    ("2", Duration::from_millis(100)),
];
const LOSSES: [f64; 4] = [0.0, 0.1, 1.0, 3.0]; // percent
const SEEDS: [u64; 3] = [1, 2, 3];
const SIZE: u64 = 16 << 20;
const ALONE: Times = Times { apart: Duration::ZERO, settle: Duration::from_secs(5), measured: Duration::from_secs(15) };
const TOGETHER: Times =
    Times { apart: Duration::from_secs(3), settle: Duration::from_secs(10), measured: Duration::from_secs(30) };

fn main() {
    let named: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let rates = if named.is_empty() { vec![50, 200] } else { named };
    for rate in rates {
        println!("\n{rate} Mbit/s, one flow: MB/s (wait in ms, packets dropped by the queue in %)\n");
        table(&ALL.map(|control| name(&[control])), |queue, loss, column| {
            cell(&share(SEEDS[0], line(rate, queue, loss), &[ALL[column]], ALONE))
        });
        println!("\n{rate} Mbit/s, a new link's first 16 MiB: seconds, with three seeds\n");
        table(&ALL.map(|control| name(&[control])), |queue, loss, column| {
            let seconds = SEEDS.map(|seed| transfer(seed, line(rate, queue, loss), ALL[column], SIZE).as_secs_f64());
            seconds.map(|time| format!("{time:.1}")).join(" ")
        });
        println!("\n{rate} Mbit/s, two flows, the second 3 s later: MB/s of each (wait, dropped)\n");
        table(&PAIRS.map(|pair| name(&pair)), |queue, loss, column| {
            cell(&share(SEEDS[0], line(rate, queue, loss), &PAIRS[column], TOGETHER))
        });
    }
}

/// A line for every queue and loss, a column for each of these.
fn table(columns: &[String], cell: impl Fn(Duration, f64, usize) -> String) {
    println!("| queue | loss | {} |", columns.join(" | "));
    println!("|---|---|{}", "---|".repeat(columns.len()));
    for (queue_name, queue) in QUEUES {
        for loss in LOSSES {
            let cells: Vec<_> = (0..columns.len()).map(|column| cell(queue, loss, column)).collect();
            println!("| {queue_name} | {loss} % | {} |", cells.join(" | "));
        }
    }
}

fn cell(shares: &Shares) -> String {
    let rates: Vec<_> = shares.rates.iter().map(|rate| format!("{:.2}", rate / 1e6)).collect();
    format!("{} ({:.1}, {:.3})", rates.join(" + "), shares.wait.as_secs_f64() * 1e3, shares.dropped * 100.0)
}

fn line(mbit: u64, queue: Duration, loss: f64) -> Line {
    Line { rate: mbit * 125_000, queue, delay: Duration::from_millis(25), jitter: Duration::ZERO, loss: loss / 100.0 }
}

fn name(controls: &[Congestion]) -> String {
    let names: Vec<_> = controls.iter().map(|control| format!("{control:?}").to_lowercase()).collect();
    names.join(" + ")
}
