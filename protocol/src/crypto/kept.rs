//! Boxes for what a person keeps on disk: many under one key, and the key itself under a passphrase.
//!
//! Specification: docs/architecture.md, "The client's letters". XChaCha20-Poly1305 with random nonces of 24 bytes, and
//! Argon2id (RFC 9106) for passphrases. Nothing of this is ever on a wire.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{Forged, Secret};
use crate::limits::{PASSPHRASE_KIB, PASSPHRASE_PASSES};

/// A key under which any number of values are kept, each with a random nonce.
pub struct KeptKey(XChaCha20Poly1305);

/// What it costs to try a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseCost {
    /// KiB of memory: within [`PASSPHRASE_KIB`].
    pub kib: u32,
    /// Passes over it: within [`PASSPHRASE_PASSES`].
    pub passes: u32,
}

impl KeptKey {
    /// The key of these bytes.
    pub fn new(key: &Secret) -> Self {
        Self(XChaCha20Poly1305::new(&(**key).into()))
    }

    /// `nonce 24 ‖ ciphertext ‖ tag 16`. It opens in the same `place` only.
    pub fn seal(&self, place: &[u8], text: &[u8], rng: &mut impl CryptoRng) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let sealed = self.0.encrypt(&nonce.into(), Payload { msg: text, aad: place });
        [&nonce[..], &sealed.expect("far below the cipher's limit")].concat()
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// [`Forged`] for anything else, or in another place.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Forged> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE>().ok_or(Forged)?;
        let opened = self.0.decrypt(&(*nonce).into(), Payload { msg: text, aad: place });
        opened.map(Zeroizing::new).map_err(|_| Forged)
    }
}

impl PassphraseCost {
    /// What a new passphrase costs: 64 MiB, 3 passes.
    pub const USUAL: Self = Self { kib: 64 << 10, passes: 3 };

    /// The key that a passphrase stands for; `None` if the cost is out of its bounds.
    pub fn key(self, passphrase: &[u8], salt: &[u8; 16]) -> Option<Secret> {
        let bounded = PASSPHRASE_KIB.contains(&self.kib) && PASSPHRASE_PASSES.contains(&self.passes);
        let params = bounded.then(|| Params::new(self.kib, self.passes, 1, Some(32)).ok())??;
        let mut blocks = vec![Block::default(); params.block_count()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Secret::default();
        argon2.hash_password_into_with_memory(passphrase, salt, &mut *key, &mut blocks).ok()?;
        Some(key)
    }
}

const NONCE: usize = 24;

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn a_kept_box_opens_whole_in_its_place_and_with_its_key_only() {
        let (key, other) = (KeptKey::new(&Zeroizing::new([7; 32])), KeptKey::new(&Zeroizing::new([8; 32])));
        let mut rng = StdRng::seed_from_u64(1);
        let sealed = key.seal(b"here", b"text", &mut rng);
        assert_ne!(sealed, key.seal(b"here", b"text", &mut rng), "nonces are drawn");
        assert_eq!(*key.open(b"here", &sealed).unwrap(), b"text");
        assert_eq!(key.open(b"there", &sealed), Err(Forged));
        assert_eq!(other.open(b"here", &sealed), Err(Forged));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(b"here", &changed), Err(Forged));
            assert_eq!(key.open(b"here", &sealed[..at]), Err(Forged));
        }
    }

    /// draft-irtf-cfrg-xchacha-03, A.3.1.
    #[test]
    fn a_box_is_that_of_the_drafts_vector() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let key: [u8; 32] = std::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
        let nonce: [u8; 24] = std::array::from_fn(|at| 0x40 + u8::try_from(at).unwrap());
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it.";
        let sealed = hex(concat!(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c2",
            "16cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c6",
            "8b13b52ec0875924c1c7987947deafd8780acf49"
        ));
        let place = hex("50515253c0c1c2c3c4c5c6c7");
        let opened = KeptKey::new(&Zeroizing::new(key)).open(&place, &[&nonce[..], &sealed].concat()).unwrap();
        assert_eq!(*opened, text);
    }

    #[test]
    fn the_usual_cost_of_a_passphrase_is_within_its_bounds() {
        assert!(PassphraseCost::USUAL.key(b"words", &[1; 16]).is_some());
    }

    #[test]
    fn a_passphrase_has_one_key_for_each_salt_and_cost() {
        let cost = PassphraseCost { kib: 1 << 10, passes: 3 };
        let key = |cost: PassphraseCost, word: &str, salt| cost.key(word.as_bytes(), &[salt; 16]).map(|key| *key);
        let first = key(cost, "word", 1);
        assert!(first.is_some());
        assert_eq!(key(cost, "word", 1), first);
        for other in [key(cost, "Word", 1), key(cost, "word", 2), key(PassphraseCost { passes: 4, ..cost }, "word", 1)]
        {
            assert!(other.is_some() && other != first);
        }
        for wrong in [PassphraseCost { kib: 1 << 30, ..cost }, PassphraseCost { passes: 0, ..cost }] {
            assert_eq!(key(wrong, "word", 1), None, "{wrong:?}");
        }
    }
}
