//! Real programs: Trefoil's own binaries and Debian's, started by a test and ended with it.
//!
//! Nothing here leaves loopback, sleeps, or has a fixed port: a test waits for a line, an end or a byte, and for a
//! bounded time. What goes wrong here panics, with what the program has printed.

pub mod binaries;
pub mod following;
pub mod names;
pub mod network;
pub mod program;
pub mod rogue;
pub mod search;
pub mod server;
pub mod socks;
