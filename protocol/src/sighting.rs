//! Sighting: a relay's signed word that others were there in time.
//!
//! Specification: docs/protocol.md, "Settling". Who comes at the last second is seen in time by some and too late by
//! others. What all do with such a one is decided by what a few relays, the observers of the epoch, say that they saw
//! (`settling.rs`). This file is the statement only.

use crate::{
    crypto,
    epoch::Epoch,
    identity::{RelayId, RelaySecret},
    limits::SIGHTED_MAX,
    params::NetworkId,
    wire::Reader,
};

/// What an observer has signed: these relays were there in time for the usable set of this epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    epoch: Epoch,
    observer: RelayId,
    /// In the order of their ids, 1 to [`SIGHTED_MAX`].
    relays: Vec<RelayId>,
    signature: [u8; SIGNATURE],
}

/// A name for a sighting, among those of an epoch: `BLAKE3(bytes)[..16]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SightingName(pub [u8; 16]);

/// Why bytes are no sighting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SightingError {
    /// Wrong length, or relays out of order.
    #[error("not a sighting: wrong length, or relays out of order")]
    Form,
    /// Not signed by its observer for this network.
    #[error("not signed by its observer for this network")]
    Signature,
}

impl Sighting {
    /// Signs that these relays were there in time.
    ///
    /// # Panics
    /// If there are none, or more than [`SIGHTED_MAX`].
    pub fn sign(epoch: Epoch, mut relays: Vec<RelayId>, network: &NetworkId, secret: &RelaySecret) -> Self {
        relays.sort_unstable();
        relays.dedup();
        assert!((1..=SIGHTED_MAX).contains(&relays.len()), "a sighting of {} relays", relays.len());
        let mut sighting = Self { epoch, observer: secret.id(), relays, signature: [0; SIGNATURE] };
        sighting.signature = secret.sign(LABEL, &sighting.signed(network));
        sighting
    }

    /// The epoch whose usable set it is about.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Who says it.
    pub fn observer(&self) -> RelayId {
        self.observer
    }

    /// Whom it saw, in the order of their ids.
    pub fn relays(&self) -> &[RelayId] {
        &self.relays
    }

    /// Its name.
    pub fn name(&self) -> SightingName {
        let hash = crypto::blake3(&[&self.encode()]);
        let (name, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
        SightingName(*name)
    }

    /// `epoch 4 ‖ observer 32 ‖ RelayId 32 for each ‖ signature 64`.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.said();
        bytes.extend(self.signature);
        bytes
    }

    /// Takes what [`Self::encode`] made.
    ///
    /// # Errors
    /// [`SightingError::Form`] for all else.
    pub fn decode(bytes: &[u8]) -> Result<Self, SightingError> {
        Self::read(bytes).ok_or(SightingError::Form)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (said, signature) = bytes.split_last_chunk::<SIGNATURE>()?;
        let mut reader = Reader::new(said);
        let (epoch, observer) = (Epoch(reader.u32()?), RelayId::from_bytes(reader.array()?));
        let (relays, []) = reader.rest().as_chunks::<32>() else { return None };
        let relays: Vec<_> = relays.iter().map(|id| RelayId::from_bytes(*id)).collect();
        let is_list = (1..=SIGHTED_MAX).contains(&relays.len()) && relays.is_sorted_by(|a, b| a < b);
        is_list.then_some(Self { epoch, observer, relays, signature: *signature })
    }

    /// Whether its observer has signed it for this network.
    ///
    /// # Errors
    /// [`SightingError::Signature`] if not.
    pub fn check(&self, network: &NetworkId) -> Result<(), SightingError> {
        let is_signed = crypto::verify(self.observer.as_bytes(), LABEL, &self.signed(network), &self.signature);
        if is_signed { Ok(()) } else { Err(SightingError::Signature) }
    }

    /// All but the signature.
    fn said(&self) -> Vec<u8> {
        let mut bytes = self.epoch.0.to_le_bytes().to_vec();
        bytes.extend(self.observer.as_bytes());
        self.relays.iter().for_each(|relay| bytes.extend(relay.as_bytes()));
        bytes
    }

    fn signed(&self, network: &NetworkId) -> Vec<u8> {
        [network.as_bytes(), &self.said()[..]].concat()
    }
}

const LABEL: &[u8] = b"trefoil/1 sighting";
const SIGNATURE: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{crypto::Secret, params::NetworkParams};

    fn secret() -> RelaySecret {
        RelaySecret::from_bytes(&Secret::new([7; 32]))
    }

    fn network() -> NetworkId {
        NetworkParams::main().id()
    }

    fn sighting(relays: u8) -> Sighting {
        let relays = (0..relays).rev().map(|number| RelayId::from_bytes([number; 32])).collect();
        Sighting::sign(Epoch(80_000), relays, &network(), &secret())
    }

    #[test]
    fn a_sighting_is_whole_or_refused() {
        for relays in [1, 2, 64] {
            let (sighting, bytes) = (sighting(relays), sighting(relays).encode());
            assert_eq!(bytes.len(), 100 + 32 * usize::from(relays));
            assert_eq!(Sighting::decode(&bytes), Ok(sighting));
            let lengths = (0..bytes.len()).filter(|length| length % 32 != 100 % 32 || *length < 132);
            lengths.for_each(|length| assert_eq!(Sighting::decode(&bytes[..length]), Err(SightingError::Form)));
        }
        let mut long = sighting(64).encode();
        long.splice(36..36, [0; 32]);
        assert_eq!(Sighting::decode(&long), Err(SightingError::Form));
        let mut order = sighting(2).encode();
        order[36..100].rotate_left(32);
        let mut twice = order.clone();
        twice.copy_within(36..68, 68);
        [order, twice].iter().for_each(|bytes| assert_eq!(Sighting::decode(bytes), Err(SightingError::Form)));
    }

    #[test]
    fn whoever_changes_a_bit_of_it_has_not_its_observers_word() {
        let bytes = sighting(2).encode();
        assert_eq!(sighting(2).check(&network()), Ok(()));
        let mut other = NetworkParams::main();
        other.allow_loopback = true;
        assert_eq!(sighting(2).check(&other.id()), Err(SightingError::Signature));
        for bit in 0..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let checked = Sighting::decode(&changed).and_then(|changed| changed.check(&network()));
            assert!(checked.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn its_bytes_and_name_are_those_of_the_specification() {
        let (one, bytes) = (sighting(1), sighting(1).encode());
        assert_eq!(bytes[..4], 80_000u32.to_le_bytes());
        assert_eq!(bytes[4..36], *secret().id().as_bytes());
        assert_eq!(bytes[36..68], [0; 32]);
        assert_eq!(one.name().0, crypto::blake3(&[&bytes])[..16]);
        assert_ne!(one.name(), sighting(2).name());
    }

    proptest! {
        #[test]
        fn bytes_are_a_sighting_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..260)) {
            if let Ok(sighting) = Sighting::decode(&bytes) {
                prop_assert_eq!(sighting.encode(), bytes);
            }
        }
    }
}
