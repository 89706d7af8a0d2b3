//! Experiments: the directory at the size of a large network, under churn and attack, in simulated time.
//!
//! Events over the production rules of `trefoil_protocol` (`view`, `reconcile`, `usable`, `path`, `guard`); no socket,
//! no clock, and everything drawn from one seed, so that a seed names a run. Each experiment holds what it measures
//! against its lines; docs/benchmarks.md records the full runs. What is modelled, and what is left out, is said at the
//! head of each file.

#![expect(clippy::cast_possible_truncation, reason = "no figure of a simulation comes near the bounds of its type")]

use std::fmt;

use table::Table;
use trefoil_protocol::crypto;

pub mod agreement;
pub mod bits;
pub mod bootstrap;
pub mod client;
pub mod compromised;
pub mod cost;
pub mod eclipse;
pub mod flood;
pub mod gossip;
pub mod knowledge;
pub mod letters;
pub mod life;
pub mod partition;
pub mod patient;
pub mod proofs;
pub mod queue;
mod reach;
pub mod renewals;
pub mod sessions;
mod settle;
pub mod spread;
pub mod table;
pub mod trace;
pub mod traffic;
pub mod world;

/// How an experiment is to run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Decides everything that is drawn.
    pub seed: u64,
    /// How many relays, where the experiment does not go through several sizes.
    pub relays: Option<usize>,
    /// How many letters, where there are any.
    pub letters: Option<usize>,
    /// A version that takes seconds.
    pub small: bool,
}

/// What came of an experiment.
pub struct Outcome {
    /// What was measured.
    pub tables: Vec<Table>,
    /// What had to hold.
    pub lines: Vec<Line>,
    /// Figures of this machine, like times: no part of the digest.
    pub notes: Vec<String>,
    /// Of all events.
    pub trace: u64,
}

/// Something that had to hold.
#[derive(Clone, Debug)]
pub struct Line {
    /// What, in words, with its bound.
    pub claim: String,
    /// What was measured.
    pub measured: String,
    /// Whether it held.
    pub held: bool,
}

/// An experiment and its name on the command line.
pub type Experiment = (&'static str, fn(&Setup) -> Outcome);

/// All of them.
pub const EXPERIMENTS: [Experiment; 10] = [
    ("spread", spread::run),
    ("agreement", agreement::run),
    ("cost", cost::run),
    ("bootstrap", bootstrap::run),
    ("eclipse", eclipse::run),
    ("flood", flood::run),
    ("patient", patient::run),
    ("partition", partition::run),
    ("compromised", compromised::run),
    ("letters", letters::run),
];

impl Setup {
    /// `full`, or `small` in a small version; `--relays` goes before both.
    pub fn relays(&self, full: usize, small: usize) -> usize {
        self.relays.unwrap_or(self.pick(full, small))
    }

    /// `full`, or `small` in a small version.
    pub fn pick<T>(&self, full: T, small: T) -> T {
        if self.small { small } else { full }
    }
}

impl Outcome {
    /// Whether every line held.
    pub fn held(&self) -> bool {
        self.lines.iter().all(|line| line.held)
    }

    /// Names the run: the same seed and the same rules give the same digest.
    pub fn digest(&self) -> String {
        let mut text: String = self.tables.iter().map(ToString::to_string).collect();
        text.extend(self.lines.iter().map(ToString::to_string));
        let digest = crypto::blake3(&[text.as_bytes(), &self.trace.to_le_bytes()]);
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Line {
    /// A line, as measured.
    pub fn new(claim: impl Into<String>, measured: impl Into<String>, held: bool) -> Self {
        Self { claim: claim.into(), measured: measured.into(), held }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.held { "holds" } else { "MISSED" };
        writeln!(f, "{word}: {}; measured: {}", self.claim, self.measured)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tables.iter().try_for_each(|table| writeln!(f, "{table}"))?;
        self.lines.iter().try_for_each(|line| write!(f, "{line}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

#[cfg(test)]
mod tests;
