//! The Trefoil relay: links, circuits, exits, and the daemon around them.

pub mod cells;
pub mod endpoint;
pub mod link;
pub mod links;
pub mod reason;
pub mod socket;
pub mod sources;
mod tls;
