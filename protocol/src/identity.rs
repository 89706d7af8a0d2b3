//! Who a relay is: its identity key, its onion key, and how both are written.
//!
//! Specification: docs/protocol.md, "Relay identities". A `RelayId` is an Ed25519 public key; its text form has a
//! checksum, so that a mistyped one is noticed. This file never touches key files: `relay/src/state.rs` does.

use std::{fmt, str::FromStr};

use data_encoding::{BASE32_NOPAD, Encoding};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::{self, BadKey, Secret, SigningSecret, X25519Secret};

/// A relay's name: its Ed25519 public key. 56 base32 characters as text: key 32 ‖ checksum 3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId([u8; 32]);

/// A relay's X25519 public key for circuit handshakes. 56 base32 characters as text: key 32 ‖ checksum 3.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OnionKey([u8; 32]);

/// The name of an onion key in a `Create`: `BLAKE3(key)[..8]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnionKeyId(pub [u8; 8]);

/// A relay's identity secret.
pub struct RelaySecret(SigningSecret);

/// A relay's onion secret.
pub struct OnionSecret(X25519Secret);

/// Why a text is not a relay id or an onion key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Not 56 base32 characters.
    #[error("expected 56 characters from a-z and 2-7")]
    Form,
    /// The checksum does not fit: probably a typing error.
    #[error("the checksum does not fit: a character is wrong")]
    Checksum,
    /// A weak or malformed key.
    #[error("{0}")]
    Key(#[from] BadKey),
}

const RELAY_ID_LABEL: &[u8] = b"trefoil/1 relay id";
const ONION_KEY_LABEL: &[u8] = b"trefoil/1 onion key";
const CHECKSUM: usize = 3;

impl RelayId {
    /// The id whose bytes these are. Whether it is a usable key is checked where it comes in from a person
    /// ([`FromStr`]) or a descriptor; an unusable one can never complete a link handshake.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 characters of its text form: enough for a person to tell relays apart, never for a program.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl OnionKey {
    /// The key whose bytes these are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its name in a `Create`.
    pub fn id(&self) -> OnionKeyId {
        let [a, b, c, d, e, f, g, h, ..] = crypto::blake3(&[&self.0]);
        OnionKeyId([a, b, c, d, e, f, g, h])
    }

    /// Whether one can agree on a secret with it: a key of low order agrees on nothing with anyone.
    pub fn is_usable(&self) -> bool {
        X25519Secret::from_bytes(&Zeroizing::new([1; 32])).agree(&self.0).is_ok()
    }
}

impl RelaySecret {
    /// A new identity.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Secret::default();
        rng.fill_bytes(&mut *seed);
        Self::from_bytes(&seed)
    }

    /// The identity of this seed.
    pub fn from_bytes(seed: &Secret) -> Self {
        Self(SigningSecret::from_bytes(seed))
    }

    /// Its seed.
    pub fn to_bytes(&self) -> Secret {
        self.0.to_bytes()
    }

    /// Its public name.
    pub fn id(&self) -> RelayId {
        RelayId(self.0.public())
    }

    /// Signs `label ‖ message`. Every use has a label of its own.
    pub(crate) fn sign(&self, label: &[u8], message: &[u8]) -> [u8; 64] {
        self.0.sign(label, message)
    }
}

impl OnionSecret {
    /// A new onion key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(X25519Secret::generate(rng))
    }

    /// The onion key whose bytes these are.
    pub fn from_bytes(bytes: &Secret) -> Self {
        Self(X25519Secret::from_bytes(bytes))
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Secret {
        self.0.to_bytes()
    }

    /// Its public half.
    pub fn public(&self) -> OnionKey {
        OnionKey(self.0.public())
    }

    /// The secret, for the handshake.
    pub(crate) fn secret(&self) -> &X25519Secret {
        &self.0
    }
}

fn encode_key(label: &[u8], key: &[u8; 32]) -> String {
    let mut bytes = [0; 32 + CHECKSUM];
    bytes[..32].copy_from_slice(key);
    bytes[32..].copy_from_slice(&crypto::blake3(&[label, key])[..CHECKSUM]);
    let mut text = BASE32_NOPAD.encode(&bytes);
    text.make_ascii_lowercase();
    text
}

fn decode_key(label: &[u8], text: &str) -> Result<[u8; 32], KeyTextError> {
    let base32: &Encoding = &BASE32_NOPAD;
    let bytes = base32.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| KeyTextError::Form)?;
    let (key, checksum) = bytes.split_first_chunk::<32>().ok_or(KeyTextError::Form)?;
    if checksum.len() != CHECKSUM {
        return Err(KeyTextError::Form);
    }
    if !crypto::blake3(&[label, key]).starts_with(checksum) {
        return Err(KeyTextError::Checksum);
    }
    Ok(*key)
}

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_key(RELAY_ID_LABEL, &self.0))
    }
}

impl fmt::Display for OnionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_key(ONION_KEY_LABEL, &self.0))
    }
}

impl fmt::Debug for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayId({})", self.short())
    }
}

impl fmt::Debug for OnionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnionKey({self})")
    }
}

impl fmt::Debug for RelaySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelaySecret of {:?}", self.id())
    }
}

impl fmt::Debug for OnionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnionSecret of {:?}", self.public())
    }
}

impl FromStr for RelayId {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let key = decode_key(RELAY_ID_LABEL, text)?;
        if crypto::is_signing_key(&key) { Ok(Self(key)) } else { Err(KeyTextError::Key(BadKey)) }
    }
}

impl FromStr for OnionKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let key = decode_key(ONION_KEY_LABEL, text)?;
        if Self(key).is_usable() { Ok(Self(key)) } else { Err(KeyTextError::Key(BadKey)) }
    }
}

/// Text forms inside configuration and network files.
macro_rules! serde_as_text {
    ($($name:ident)*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(RelayId OnionKey);

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn an_id_survives_its_text_form_in_either_case() {
        let id = RelaySecret::generate(&mut StdRng::seed_from_u64(1)).id();
        let text = id.to_string();
        assert_eq!(text.len(), 56);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_ascii_uppercase().parse(), Ok(id));
    }

    #[test]
    fn every_single_wrong_character_is_noticed() {
        let text = RelaySecret::generate(&mut StdRng::seed_from_u64(2)).id().to_string();
        for at in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(wrong.parse::<RelayId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_onion_key_is_not_taken_for_an_id() {
        let key = OnionSecret::generate(&mut StdRng::seed_from_u64(3)).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.to_string().parse::<RelayId>(), Err(KeyTextError::Checksum));
    }

    #[test]
    fn a_truncated_or_empty_text_is_refused() {
        let text = RelaySecret::generate(&mut StdRng::seed_from_u64(4)).id().to_string();
        for length in 0..text.len() {
            assert!(text[..length].parse::<RelayId>().is_err());
        }
    }

    #[test]
    fn secrets_do_not_print_themselves() {
        let secret = RelaySecret::generate(&mut StdRng::seed_from_u64(5));
        assert_eq!(format!("{secret:?}"), format!("RelaySecret of {:?}", secret.id()));
    }
}
