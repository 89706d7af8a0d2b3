//! The Trefoil client: circuits, proxies, and the `trefoil` program.
//!
//! [`tunnel`] is its core, to be embedded; the rest are doors to it and the program around it.

mod allowance;
mod build;
mod circuit;
pub mod cli;
pub mod commands;
pub mod control;
pub mod demo;
pub mod desk;
mod directory;
pub mod forward;
pub mod guards;
pub mod home;
pub mod http;
pub mod invite;
pub mod letters;
mod listener;
mod local;
pub mod mailbox;
mod pool;
pub mod postman;
pub mod profile;
pub mod proxy;
mod pulse;
mod race;
mod rings;
pub mod socks;
mod source;
pub mod start;
pub mod state;
pub mod status;
pub mod target;
pub mod testnet;
pub mod tunnel;
pub mod up;
