//! Trefoil's protocol: bytes, keys, rules and state machines.
//!
//! The directory is the specification's table of contents (docs/protocol.md). Nothing in this crate reads a clock,
//! a socket, a file or the system's randomness, or spawns a task: callers hand in `now` and `rng`.

// What a peer sent can make none of this panic.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice))]

pub mod address;
pub mod backup;
pub mod beacon;
pub mod blind;
pub mod cell;
pub mod conversation;
mod credit;
pub mod crypto;
pub mod descriptor;
pub mod directory;
pub mod entry;
pub mod envelope;
pub mod epoch;
pub mod exit_summary;
pub mod family;
mod frame;
pub mod fraud;
pub mod guard;
pub mod handshake;
pub mod host;
pub mod identity;
pub mod inbox;
pub mod invite;
pub mod ip;
pub mod letter;
pub mod limits;
pub mod look;
pub mod mailbox;
pub mod majority;
pub mod meeting;
pub mod message;
pub mod onion;
pub mod params;
pub mod pass;
pub mod path;
pub mod period;
pub mod phrase;
pub mod policy;
pub mod prekeys;
pub mod puzzle;
pub mod receipt;
pub mod reconcile;
pub mod relays;
pub mod resolve;
pub mod ring;
pub mod rules;
pub mod settling;
pub mod sighting;
pub mod stamp;
mod stream;
pub mod streams;
pub mod ticket;
pub mod tombstone;
pub mod uri;
pub mod usable;
#[cfg(test)]
mod vectors;
pub mod view;
mod wire;
pub mod work;
