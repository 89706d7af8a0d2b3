//! The Trefoil client: circuits, proxies, and the `trefoil` program.
//!
//! [`tunnel`] is its core, to be embedded; the rest are doors to it and the program around it.

mod build;
mod circuit;
pub mod cli;
pub mod commands;
pub mod control;
pub mod demo;
mod directory;
pub mod forward;
pub mod guards;
pub mod http;
pub mod invite;
mod listener;
mod local;
mod pool;
pub mod profile;
pub mod proxy;
mod pulse;
mod race;
pub mod socks;
mod source;
pub mod state;
pub mod status;
pub mod target;
pub mod testnet;
pub mod tunnel;
pub mod up;
