//! Blinded keys: what an address looks like to those who are not to see whose it is.
//!
//! Specification: docs/protocol.md, "Blinded keys". For each use and period an owner's key is multiplied with a factor.
//! Who knows the address, and the secret where there is one, finds the blinded key; only the owner signs for it; two of
//! one owner have nothing in common for anyone else. This file never says what is signed.

use std::fmt;

use crate::{
    address::{Address, AddressSecret},
    crypto::{self, BlindFactor, BlindedSigner, Secret},
    params::NetworkId,
};

/// What a key is blinded for; its number is in the factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum BlindUse {
    /// An inbox that everyone finds who knows the address; period: day.
    RequestInbox = 1,
    /// An inbox that only contacts find; period: week.
    PrivateInbox = 2,
    /// Records for those who know the address; period: week.
    Prekeys = 3,
}

/// The number is not a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a use is 1 to 3")]
pub struct BadUse;

/// The factor that one address is blinded with.
pub struct Blinding {
    address: Address,
    factor: BlindFactor,
}

/// An owner's public key, blinded: an Ed25519 key, if it is one at all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlindedKey([u8; 32]);

/// What signs for a blinded key.
pub struct BlindedSecret(BlindedSigner);

impl Blinding {
    /// The factor of this address, in this network, for this use and period. Without a secret, everyone who knows the
    /// address has it.
    pub fn new(of: BlindUse, network: &NetworkId, address: Address, secret: Option<&Secret>, period: u32) -> Self {
        let open = Secret::default();
        let secret = secret.unwrap_or(&open);
        let parts = [LABEL, &[of as u8], network.as_bytes(), address.as_bytes(), &**secret, &period.to_le_bytes()];
        Self { address, factor: BlindFactor::hash(&parts) }
    }

    /// The blinded key.
    pub fn key(&self) -> BlindedKey {
        BlindedKey(self.factor.blind(self.address.as_bytes()).expect("an address is a key of prime order"))
    }

    /// What signs for the blinded key.
    ///
    /// # Panics
    /// If `owner` is not the address's.
    pub fn secret(&self, owner: &AddressSecret) -> BlindedSecret {
        assert_eq!(owner.address(), self.address, "an address is blinded by its owner");
        BlindedSecret(BlindedSigner::new(owner.secret(), &self.factor))
    }
}

impl BlindedKey {
    /// The key whose bytes these are. Whether it is one is checked with what it signed.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature over `label ‖ message`, strictly.
    pub(crate) fn verify(&self, label: &[u8], message: &[u8], signature: &[u8; 64]) -> bool {
        crypto::verify(&self.0, label, message, signature)
    }
}

impl BlindedSecret {
    /// Its public key.
    pub fn key(&self) -> BlindedKey {
        BlindedKey(self.0.public())
    }

    /// Signs `label ‖ message`. Every use has a label of its own.
    pub(crate) fn sign(&self, label: &[u8], message: &[u8]) -> [u8; 64] {
        self.0.sign(label, message)
    }
}

impl TryFrom<u8> for BlindUse {
    type Error = BadUse;

    fn try_from(number: u8) -> Result<Self, BadUse> {
        [Self::RequestInbox, Self::PrivateInbox, Self::Prekeys]
            .into_iter()
            .find(|known| *known as u8 == number)
            .ok_or(BadUse)
    }
}

impl fmt::Debug for BlindedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "BlindedKey({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

impl fmt::Debug for BlindedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlindedSecret of {:?}", self.key())
    }
}

impl fmt::Debug for Blinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blinding(..)")
    }
}

const LABEL: &[u8] = b"trefoil/1 blind";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use zeroize::Zeroizing;

    use super::*;
    use crate::address::tests::person;

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);

    #[test]
    fn only_the_owner_signs_for_what_everyone_who_knows_the_address_finds() {
        let owner = person(1);
        let blinding = Blinding::new(BlindUse::RequestInbox, &NETWORK, owner.address(), None, 20_000);
        let secret = blinding.secret(&owner);
        assert_eq!(secret.key(), blinding.key());
        let signature = secret.sign(b"label", b"message");
        assert!(blinding.key().verify(b"label", b"message", &signature));
        assert!(!blinding.key().verify(b"other", b"message", &signature));
        assert!(!BlindedKey::from_bytes(*owner.address().as_bytes()).verify(b"label", b"message", &signature));
    }

    #[test]
    fn use_network_address_secret_and_period_each_make_another_key() {
        let (owner, secret) = (person(1).address(), Zeroizing::new([7; 32]));
        let other_network = NetworkId::from_bytes([2; 32]);
        let all = [
            Blinding::new(BlindUse::RequestInbox, &NETWORK, owner, None, 3000),
            Blinding::new(BlindUse::PrivateInbox, &NETWORK, owner, None, 3000),
            Blinding::new(BlindUse::Prekeys, &NETWORK, owner, None, 3000),
            Blinding::new(BlindUse::PrivateInbox, &other_network, owner, None, 3000),
            Blinding::new(BlindUse::PrivateInbox, &NETWORK, person(2).address(), None, 3000),
            Blinding::new(BlindUse::PrivateInbox, &NETWORK, owner, Some(&secret), 3000),
            Blinding::new(BlindUse::PrivateInbox, &NETWORK, owner, None, 3001),
        ];
        assert_eq!(all.iter().map(Blinding::key).collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn the_factor_is_as_the_specification_says() {
        let (owner, secret) = (person(3).address(), Zeroizing::new([5; 32]));
        let ours = Blinding::new(BlindUse::PrivateInbox, &NETWORK, owner, Some(&secret), 0x0102_0304);
        let bytes = [&b"trefoil/1 blind\x02"[..], &[1; 32], owner.as_bytes(), &[5; 32], &[4, 3, 2, 1]].concat();
        assert_eq!(BlindFactor::hash(&[&bytes]).blind(owner.as_bytes()), Ok(*ours.key().as_bytes()));
        let hex = data_encoding::HEXLOWER.encode(ours.key().as_bytes());
        assert_eq!(hex, EXAMPLE);
    }

    #[test]
    #[should_panic = "an address is blinded by its owner"]
    fn nobody_blinds_for_another() {
        Blinding::new(BlindUse::Prekeys, &NETWORK, person(1).address(), None, 1).secret(&person(2));
    }

    #[test]
    fn secrets_do_not_print_themselves() {
        let blinding = Blinding::new(BlindUse::Prekeys, &NETWORK, person(1).address(), None, 1);
        assert_eq!(format!("{blinding:?}"), "Blinding(..)");
        let secret = blinding.secret(&person(1));
        assert_eq!(format!("{secret:?}"), format!("BlindedSecret of {:?}", blinding.key()));
    }

    /// The same by another implementation, in another language.
    const EXAMPLE: &str = "2708df450abf5862e14dc9cd21842979099fae58f13c5d9037501bfb2b9717bb";
}
