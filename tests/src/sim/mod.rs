//! Simulated networks: the production code over sockets in memory, under tokio's paused time.

pub mod flows;
pub mod nodes;
pub mod outside;
pub mod udp;

#[cfg(test)]
mod bad_gossip_tests;
#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod congestion_tests;
#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod doors_tests;
#[cfg(test)]
mod exit_tests;
#[cfg(test)]
mod extend_tests;
#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod gossip_tests;
#[cfg(test)]
mod hello;
#[cfg(test)]
mod hello_tests;
#[cfg(test)]
mod hint_tests;
#[cfg(test)]
mod hop;
#[cfg(test)]
mod hostile_relay_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod isolation_tests;
#[cfg(test)]
mod letter_tests;
#[cfg(test)]
mod liar_tests;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod links_tests;
#[cfg(test)]
mod look_tests;
#[cfg(test)]
mod mailbox_tests;
#[cfg(test)]
mod origin;
#[cfg(test)]
mod outage_tests;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod renewal_tests;
#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod settle_tests;
#[cfg(test)]
mod transfer_tests;
#[cfg(test)]
mod up_tests;
