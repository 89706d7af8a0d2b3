//! What Trefoil's tests share: rules for fuzzing.

pub mod fuzz;
