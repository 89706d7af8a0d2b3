//! Onion keys: the one that a relay tells others of, and the one before, which is still accepted for a while.
//!
//! Specification: docs/operator.md, "The data directory". Others learn of a new key from the relay's descriptor, hours
//! later. The file is written before the keys change, so a crash loses neither.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use data_encoding::HEXLOWER;
use rand::CryptoRng;
use trefoil_protocol::{
    epoch::UnixSeconds,
    identity::{OnionKey, OnionKeyId, OnionSecret},
    limits::{ONION_KEY_LIFETIME, ONION_KEY_OVERLAP},
};
use zeroize::Zeroizing;

use crate::{
    file::{self, Access},
    state::decode_key,
};

/// A relay's onion keys, which change while it runs.
#[derive(Debug)]
pub struct OnionKeys {
    keys: RwLock<Keys>,
    file: Option<PathBuf>,
}

/// At one time.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    present: Arc<OnionSecret>,
    made: UnixSeconds,
    previous: Option<Arc<OnionSecret>>,
}

/// Whether keys have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// All is as before.
    Unchanged,
    /// There is a new key to tell others of.
    NewKey,
    /// The key before the present one is no longer accepted.
    PreviousDropped,
}

impl From<OnionSecret> for OnionKeys {
    /// A key that is in no file, and is never replaced: for relays that do not live long.
    fn from(secret: OnionSecret) -> Self {
        Self::made_at(secret, UnixSeconds(u64::MAX))
    }
}

impl OnionKeys {
    /// A key that is in no file and was made at this time.
    pub fn made_at(secret: OnionSecret, made: UnixSeconds) -> Self {
        let keys = Keys { present: Arc::new(secret), made, previous: None };
        Self { keys: RwLock::new(keys), file: None }
    }

    /// Keys as they are in a file.
    pub(crate) fn in_file(keys: Keys, file: PathBuf) -> Self {
        Self { keys: RwLock::new(keys), file: Some(file) }
    }

    /// The key to tell others of.
    pub fn present(&self) -> OnionKey {
        self.read().present.public()
    }

    /// When the present key was made.
    pub fn made(&self) -> UnixSeconds {
        self.read().made
    }

    /// The secret that a `Create` names, if it is of the present key or the one before.
    pub fn find(&self, id: OnionKeyId) -> Option<Arc<OnionSecret>> {
        let keys = self.read();
        keys.all().find(|secret| secret.public().id() == id).cloned()
    }

    /// Makes a new key when the present one is 28 days old, and drops the one before 7 days later. To be called now and
    /// then, by one task.
    ///
    /// # Errors
    /// The file cannot be written; the keys are then as before.
    pub fn rotate(&self, now: UnixSeconds, rng: &mut impl CryptoRng) -> io::Result<Rotation> {
        let (keys, rotation) = self.read().rotated(now, rng);
        if rotation != Rotation::Unchanged {
            if let Some(file) = &self.file {
                file::write_atomic(file, keys.encode().as_bytes(), Access::Private)?;
            }
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        }
        Ok(rotation)
    }

    fn read(&self) -> Keys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Keys {
    /// A first key.
    pub(crate) fn generate(now: UnixSeconds, rng: &mut impl CryptoRng) -> Self {
        Self { present: Arc::new(OnionSecret::generate(rng)), made: now, previous: None }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<OnionSecret>> {
        [&self.present].into_iter().chain(&self.previous)
    }

    /// The keys as they should be now, and what that changes. A clock that goes back changes nothing.
    fn rotated(self, now: UnixSeconds, rng: &mut impl CryptoRng) -> (Self, Rotation) {
        let age = Duration::from_secs(now.since(self.made));
        if age >= ONION_KEY_LIFETIME {
            (Self { previous: Some(self.present), ..Self::generate(now, rng) }, Rotation::NewKey)
        } else if age >= ONION_KEY_OVERLAP && self.previous.is_some() {
            (Self { previous: None, ..self }, Rotation::PreviousDropped)
        } else {
            (self, Rotation::Unchanged)
        }
    }

    /// A line for the present key, and one for the key before.
    pub(crate) fn encode(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(MAX_ONION_FILE)); // growing would leave copies behind
        encode_line(&mut text, LABEL, &self.present, &format!(" {}", self.made.0));
        if let Some(previous) = &self.previous {
            encode_line(&mut text, PREVIOUS_LABEL, previous, "");
        }
        text
    }

    /// Reads what [`Self::encode`] wrote; `None` for anything else.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let (present, previous) = text.split_at_checked(text.find('\n')? + 1)?;
        let (present, made) = decode_line(LABEL, present)?;
        let previous = if previous.is_empty() { None } else { Some(decode_line(PREVIOUS_LABEL, previous)?) };
        if previous.as_ref().is_some_and(|(_, rest)| !rest.is_empty()) {
            return None;
        }
        let previous = previous.map(|(secret, _)| Arc::new(secret));
        Some(Self { present: Arc::new(present), made: UnixSeconds(made.strip_prefix(' ')?.parse().ok()?), previous })
    }
}

fn encode_line(text: &mut String, label: &str, secret: &OnionSecret, rest: &str) {
    text.push_str(label);
    text.push(' ');
    HEXLOWER.encode_append(&*secret.to_bytes(), text);
    text.push_str(&format!(" {}{rest}\n", secret.public()));
}

/// The secret, and what follows its public key.
fn decode_line<'a>(label: &str, text: &'a str) -> Option<(OnionSecret, &'a str)> {
    let (secret, rest) = decode_key(label, text)?;
    let (key, rest) = rest.split_at_checked(KEY_TEXT)?;
    let secret = OnionSecret::from_bytes(&secret);
    (secret.public() == key.parse().ok()?).then_some((secret, rest))
}

const LABEL: &str = "trefoil-relay-onion-1";
const PREVIOUS_LABEL: &str = "trefoil-relay-onion-previous-1";
/// Characters of an onion key.
const KEY_TEXT: usize = 56;
/// More than two lines have.
const MAX_ONION_FILE: usize = 512;

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const START: UnixSeconds = UnixSeconds(1_800_000_000);

    fn day(days: u64) -> UnixSeconds {
        START.plus(days * 24 * 3600)
    }

    fn keys(directory: &tempfile::TempDir) -> OnionKeys {
        let keys = Keys::generate(START, &mut StdRng::seed_from_u64(1));
        OnionKeys::in_file(keys, directory.path().join("onion.key"))
    }

    fn saved(directory: &tempfile::TempDir) -> String {
        std::fs::read_to_string(directory.path().join("onion.key")).unwrap()
    }

    #[test]
    fn a_key_lasts_28_days_and_is_accepted_for_7_more() {
        let directory = tempfile::tempdir().unwrap();
        let (keys, mut rng) = (keys(&directory), StdRng::seed_from_u64(2));
        let mut rotate = |now: UnixSeconds| keys.rotate(now, &mut rng).unwrap();
        let first = keys.present();
        assert_eq!(rotate(UnixSeconds(day(28).0 - 1)), Rotation::Unchanged);
        assert_eq!(rotate(day(28)), Rotation::NewKey);
        let second = keys.present();
        assert!(first != second && keys.made() == day(28));
        assert_eq!([first, second].map(|key| keys.find(key.id()).unwrap().public()), [first, second]);
        assert_eq!(rotate(UnixSeconds(day(35).0 - 1)), Rotation::Unchanged);
        assert!(keys.find(first.id()).is_some());
        assert_eq!(rotate(day(35)), Rotation::PreviousDropped);
        assert!(keys.find(first.id()).is_none() && keys.find(second.id()).is_some());
        assert_eq!(rotate(day(35)), Rotation::Unchanged);
        assert_eq!(rotate(day(56)), Rotation::NewKey);
    }

    #[test]
    fn what_is_saved_is_what_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let (keys, mut rng) = (keys(&directory), StdRng::seed_from_u64(2));
        for now in [day(28), day(36), day(60), day(300)] {
            keys.rotate(now, &mut rng).unwrap();
            let text = saved(&directory);
            let read = Keys::decode(&text).unwrap();
            assert_eq!(*read.encode(), text);
            assert_eq!((read.present.public(), read.made), (keys.present(), keys.made()));
            read.all().for_each(|secret| assert!(keys.find(secret.public().id()).is_some()));
        }
        assert_eq!(saved(&directory).lines().count(), 2);
    }

    #[test]
    fn a_clock_that_goes_back_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (keys, mut rng) = (keys(&directory), StdRng::seed_from_u64(2));
        assert_eq!(keys.rotate(UnixSeconds(0), &mut rng).unwrap(), Rotation::Unchanged);
    }

    #[test]
    fn a_key_in_no_file_is_never_replaced() {
        let mut rng = StdRng::seed_from_u64(1);
        let keys = OnionKeys::from(OnionSecret::generate(&mut rng));
        assert_eq!(keys.rotate(day(10_000), &mut rng).unwrap(), Rotation::Unchanged);
    }

    #[test]
    fn keys_that_cannot_be_saved_do_not_change() {
        let directory = tempfile::tempdir().unwrap();
        let (keys, mut rng) = (keys(&directory), StdRng::seed_from_u64(2));
        let before = keys.present();
        drop(directory);
        assert!(keys.rotate(day(28), &mut rng).is_err());
        assert_eq!((keys.present(), keys.made()), (before, START));
    }

    #[test]
    fn a_file_cut_within_a_line_or_with_more_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let keys = keys(&directory);
        keys.rotate(day(28), &mut StdRng::seed_from_u64(2)).unwrap();
        let text = saved(&directory);
        let first_line = text.find('\n').unwrap() + 1; // is whole by itself
        for length in (0..text.len()).filter(|length| *length != first_line) {
            assert!(Keys::decode(&text[..length]).is_none(), "{length}");
        }
        assert!(Keys::decode(&format!("{text}\n")).is_none());
        assert!(Keys::decode(&format!("{text}{text}")).is_none());
    }
}
