//! What Trefoil's tests share: rules for fuzzing, records, simulated networks, and networks of real
//! processes.

pub mod fuzz;
pub mod process;
pub mod records;
pub mod sim;
