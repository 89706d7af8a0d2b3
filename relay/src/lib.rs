//! The Trefoil relay: links, circuits, exits, and the daemon around them.
//!
//! [`relay`] is the whole of it, to be embedded. The client uses [`endpoint`], [`link`], [`cells`] and [`pump`] too.

mod backward;
pub mod cells;
mod circuit;
pub mod config;
pub mod data_dir;
mod effort;
pub mod endpoint;
mod exit;
mod extend;
pub mod file;
mod forward;
mod gate;
mod half;
pub mod link;
pub mod links;
pub mod log;
mod memory;
pub mod network;
mod node;
pub mod open_files;
pub mod opened;
mod outlets;
pub mod outside;
pub mod pump;
pub mod reason;
pub mod relay;
pub mod seed;
pub mod socket;
pub mod sources;
mod spent;
pub mod splice;
pub mod state;
mod tls;
