//! Runs experiments on the directory: `sim NAME --seed N`. See docs/benchmarks.md, "The directory, simulated".

use std::{
    fs,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use anyhow::ensure;
use clap::Parser;
use trefoil_tests::experiments::{EXPERIMENTS, Experiment, Setup};

/// Experiments on Trefoil's directory, in simulated time.
#[derive(Parser)]
struct Arguments {
    /// Which experiments: `all`, or any of spread, agreement, cost, bootstrap, eclipse, flood, patient, partition, compromised, letters
    #[arg(required = true)]
    names: Vec<String>,
    /// Decides everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many relays, where the experiment does not go through several sizes
    #[arg(long)]
    relays: Option<usize>,
    /// How many letters are written, in the experiment of that name
    #[arg(long)]
    letters: Option<usize>,
    /// The version that the tests run, in seconds
    #[arg(long)]
    small: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { names, seed, relays, letters, small } = Arguments::parse();
    let setup = Setup { seed, relays, letters, small };
    let mut held = true;
    for (name, run) in chosen(&names)? {
        held &= report(name, run, &setup)?;
    }
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<Experiment>> {
    let known = |name: &String| name == "all" || EXPERIMENTS.iter().any(|(known, _)| known == name);
    for name in names {
        let all = EXPERIMENTS.map(|(name, _)| name).join(", ");
        ensure!(known(name), "there is no experiment {name:?}; there are: all, {all}");
    }
    let named = |name: &str| names.iter().any(|wanted| wanted == "all" || wanted == name);
    Ok(EXPERIMENTS.into_iter().filter(|(name, _)| named(name)).collect())
}

fn report(name: &str, run: fn(&Setup) -> trefoil_tests::experiments::Outcome, setup: &Setup) -> io::Result<bool> {
    let size = if setup.small { ", small" } else { "" };
    let started = Instant::now();
    let outcome = run(setup);
    let mut out = io::stdout().lock();
    writeln!(out, "## {name}, seed {}{size}\n\n{outcome}digest: {}", setup.seed, outcome.digest())?;
    let memory = peak_memory().map_or("unknown".to_owned(), |kib| format!("{} MiB", kib / 1024));
    writeln!(out, "this run: {:.1} s, peak memory {memory}\n", started.elapsed().as_secs_f64())?;
    Ok(outcome.held())
}

/// KiB that the process has had resident at most, on Linux.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}
