//! The sizes, counts and times of what people have and send: phrases, inboxes, mailboxes, letters.

// phrase.rs

/// Words of the list that a mistyped one is told to be near to.
pub const PHRASE_NEAR: usize = 5;

// ring.rs

/// Ranks of a ring that anyone looks at: the 5 replicas, those that repair them, and where both sides look when a letter
/// is not delivered.
pub const RING_MAX: usize = 15;
/// Netgroups in which relays of an age class must be before rings are made of that class: twice the ranks, so that a
/// young network's few old relays do not keep everything.
pub const RING_CHOICE: usize = 2 * RING_MAX;
