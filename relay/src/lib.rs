//! The Trefoil relay: links, circuits, exits, and the daemon around them.
//!
//! [`relay`] is the whole of it, to be embedded. The client uses [`endpoint`], [`link`], [`cells`] and [`pump`] too.

mod answer;
mod backward;
pub mod cells;
mod circuit;
pub mod clock;
pub mod config;
pub mod counters;
pub mod directory;
mod effort;
pub mod endpoint;
mod exit;
mod extend;
pub mod file;
mod forward;
pub mod frames;
mod gate;
mod gossip;
mod half;
pub mod link;
pub mod links;
pub mod log;
mod memory;
pub mod network;
mod news;
mod node;
pub mod open_files;
pub mod opened;
mod outlets;
pub mod outside;
mod publish;
pub mod pump;
pub mod questions;
mod reach;
pub mod reason;
pub mod relay;
pub mod seed;
mod senders;
pub mod socket;
pub mod sources;
mod spent;
pub mod splice;
pub mod state;
pub mod store;
mod tls;
mod verify;
