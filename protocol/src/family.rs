//! Family: the mark that the relays of one operator share, so that no path goes through two of them.
//!
//! Specification: docs/protocol.md, "Descriptors". Whoever holds the family's key decides which relays are in it, so
//! nobody can be put into a family, or leave it, by others. This file never touches key files.

use std::fmt;

use rand::CryptoRng;

use crate::{
    crypto::{self, Secret, SigningSecret},
    identity::RelayId,
    params::NetworkId,
};

/// A family's name: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FamilyId([u8; 32]);

/// A family's secret; every operator of relays has one, and its relays' descriptors carry what it signed.
pub struct FamilySecret(SigningSecret);

/// That a relay is in a family: the family's name, and its signature over the relay's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// The family's name.
    pub id: FamilyId,
    /// Over `"trefoil/1 family" ‖ network id ‖ RelayId`.
    pub signature: [u8; 64],
}

impl FamilyId {
    /// The name whose bytes these are. Whether it is a usable key is checked with the signature.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FamilySecret {
    /// A new family.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Secret::default();
        rng.fill_bytes(&mut *seed);
        Self::from_bytes(&seed)
    }

    /// The family of this seed.
    pub fn from_bytes(seed: &Secret) -> Self {
        Self(SigningSecret::from_bytes(seed))
    }

    /// Its seed.
    pub fn to_bytes(&self) -> Secret {
        self.0.to_bytes()
    }

    /// Its public name.
    pub fn id(&self) -> FamilyId {
        FamilyId(self.0.public())
    }

    /// Takes a relay into the family, in this network.
    pub fn take_in(&self, network: &NetworkId, relay: &RelayId) -> Family {
        Family { id: self.id(), signature: self.0.sign(LABEL, &message(network, relay)) }
    }
}

impl Family {
    /// Whether this relay is in the family, in this network.
    pub fn is_of(&self, network: &NetworkId, relay: &RelayId) -> bool {
        crypto::verify(&self.id.0, LABEL, &message(network, relay), &self.signature)
    }
}

fn message(network: &NetworkId, relay: &RelayId) -> [u8; 64] {
    let mut message = [0; 64];
    let (first, second) = message.split_at_mut(32);
    first.copy_from_slice(network.as_bytes());
    second.copy_from_slice(relay.as_bytes());
    message
}

impl fmt::Debug for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "FamilyId({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

impl fmt::Debug for FamilySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FamilySecret of {:?}", self.id())
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Family({:?})", self.id)
    }
}

const LABEL: &[u8] = b"trefoil/1 family";

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
    const RELAY: RelayId = RelayId::from_bytes([2; 32]);

    #[test]
    fn membership_holds_for_its_relay_and_network_only() {
        let secret = FamilySecret::from_bytes(&Zeroizing::new([3; 32]));
        let family = secret.take_in(&NETWORK, &RELAY);
        assert!(family.is_of(&NETWORK, &RELAY));
        assert!(!family.is_of(&NETWORK, &RelayId::from_bytes([4; 32])));
        assert!(!family.is_of(&NetworkId::from_bytes([4; 32]), &RELAY));
        let other = FamilySecret::from_bytes(&Zeroizing::new([5; 32]));
        assert!(!Family { id: other.id(), ..family }.is_of(&NETWORK, &RELAY));
    }

    #[test]
    fn a_key_of_small_order_is_no_family() {
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1; // R is the identity point, s is 0: the equation holds for any message
        let family = Family { id: FamilyId::from_bytes(identity_point), signature };
        assert!(!family.is_of(&NETWORK, &RELAY));
    }
}
