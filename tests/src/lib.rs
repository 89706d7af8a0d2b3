//! What Trefoil's tests share: rules for fuzzing, and simulated networks.

pub mod fuzz;
pub mod sim;
