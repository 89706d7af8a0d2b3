//! The Trefoil client.

pub mod forward;
mod http;
mod listener;
mod local;
pub mod proxy;
pub mod socks;
pub mod target;
pub mod tunnel;
