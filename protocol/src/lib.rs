//! Trefoil's protocol: bytes, keys, rules and state machines.
//!
//! The directory is the specification's table of contents (docs/protocol.md). Nothing in this crate reads a clock,
//! a socket, a file or the system's randomness, or spawns a task: callers hand in `now` and `rng`.

mod credit;
pub mod crypto;
pub mod identity;
pub mod limits;
pub mod message;
mod stream;
pub mod streams;
