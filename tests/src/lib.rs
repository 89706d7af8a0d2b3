//! Trefoil's scenarios: simulated networks, real processes, benchmarks.

pub mod sim;
