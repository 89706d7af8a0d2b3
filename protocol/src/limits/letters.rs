//! The sizes, counts and times of what people have and send: phrases, inboxes, mailboxes, letters.

// phrase.rs

/// Words of the list that a mistyped one is told to be near to.
pub const PHRASE_NEAR: usize = 5;
