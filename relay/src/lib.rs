//! relay

pub mod config;
pub mod file;
pub mod network;
pub mod state;
