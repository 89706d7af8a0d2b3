//! What must hold for any bytes at all, one function for each kind of bytes that strangers send or people type.
//!
//! The same functions run in two places: under a fuzzer (`tests/fuzz`), and over the saved inputs of
//! `tests/fuzz/corpus` as an ordinary test. A function panics if a rule does not hold; it never reads anything else.

use trefoil_protocol::{
    identity::{OnionKey, RelayId},
    message::Message,
};

/// Whether the code under test took the bytes for what they claim to be. Either is right; a corpus should have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They were read, and every rule held.
    Accepted,
    /// They were refused with an error.
    Refused,
}

/// A fuzz target's function.
pub type Target = fn(&[u8]) -> Verdict;

/// Every target under the name of its corpus and of its binary in `tests/fuzz`.
pub const TARGETS: [(&str, Target); 3] = [("message", message), ("onion_key", onion_key), ("relay_id", relay_id)];

/// A message that decodes is written again as the same bytes: there is one way to say a thing.
pub fn message(data: &[u8]) -> Verdict {
    let Ok(message) = Message::decode(data) else { return Verdict::Refused };
    let mut again = vec![0xff; data.len()];
    message.encode(&mut again);
    assert_eq!(again, data, "{message:?}");
    Verdict::Accepted
}

/// A text that is read as a relay id is that id's text, but for the case of its letters.
pub fn relay_id(data: &[u8]) -> Verdict {
    let Some((text, id)) = parse::<RelayId>(data) else { return Verdict::Refused };
    assert_eq!(id.to_string(), text.to_ascii_lowercase());
    Verdict::Accepted
}

/// A text that is read as an onion key is that key's text, but for the case of its letters.
pub fn onion_key(data: &[u8]) -> Verdict {
    let Some((text, key)) = parse::<OnionKey>(data) else { return Verdict::Refused };
    assert_eq!(key.to_string(), text.to_ascii_lowercase());
    Verdict::Accepted
}

fn parse<T: std::str::FromStr>(data: &[u8]) -> Option<(&str, T)> {
    let text = str::from_utf8(data).ok()?;
    Some((text, text.parse().ok()?))
}
