//! Simulated networks: the production code over sockets in memory, under tokio's paused time.

pub mod udp;

#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod links_tests;
