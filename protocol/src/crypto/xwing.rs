//! X-Wing in HPKE: sealing to a public key, so that the secret holds while either X25519 or ML-KEM-768 does.
//!
//! Specification: docs/protocol.md, "Envelopes". RFC 9180 in base mode, with X-Wing (KEM 0x647a), HKDF-SHA256 and
//! ChaCha20-Poly1305, and no associated data.

use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::XWing,
    single_shot_open, single_shot_seal_with_rng,
};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{BadKey, Forged, Secret};
use crate::limits::{XWING_CIPHERTEXT, XWING_KEY};

/// An X-Wing secret key: its 32-byte seed.
pub struct XWingSecret(Secret);

impl XWingSecret {
    /// A new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Secret::default();
        rng.fill_bytes(&mut *seed);
        Self(seed)
    }

    /// The key of this seed.
    pub fn from_bytes(seed: &Secret) -> Self {
        Self(seed.clone())
    }

    /// Its seed.
    pub fn to_bytes(&self) -> Secret {
        self.0.clone()
    }

    /// Its public key.
    pub fn public(&self) -> [u8; XWING_KEY] {
        XWing::sk_to_pk(&self.key()).to_bytes().into()
    }

    /// Opens what [`seal_to`] made: `encapsulated key ‖ ciphertext`.
    ///
    /// # Errors
    /// [`Forged`] for anything else, or another `info`.
    pub fn open(&self, info: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Forged> {
        self.open_with(info, b"", sealed)
    }

    fn open_with(&self, info: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Forged> {
        let (key, text) = sealed.split_at_checked(XWING_CIPHERTEXT).ok_or(Forged)?;
        let key = <XWing as Kem>::EncappedKey::from_bytes(key).map_err(|_| Forged)?;
        let mode = OpModeR::Base;
        let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(&mode, &self.key(), &key, info, text, aad);
        opened.map(Zeroizing::new).map_err(|_| Forged)
    }

    fn key(&self) -> <XWing as Kem>::PrivateKey {
        <XWing as Kem>::PrivateKey::from_bytes(&*self.0).expect("a seed has 32 bytes")
    }
}

/// Seals to a public key: `encapsulated key ‖ ciphertext`, 1,136 bytes longer than `text`.
///
/// # Errors
/// [`BadKey`] if it is no X-Wing key.
pub fn seal_to(
    public: &[u8; XWING_KEY],
    info: &[u8],
    text: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, BadKey> {
    let public = <XWing as Kem>::PublicKey::from_bytes(public).map_err(|_| BadKey)?;
    let (key, ciphertext) =
        single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(&OpModeS::Base, &public, info, text, b"", rng)
            .map_err(|_| BadKey)?;
    Ok([&key.to_bytes()[..], &ciphertext].concat())
}

/// Whether these bytes are an X-Wing public key.
pub fn is_xwing_key(public: &[u8; XWING_KEY]) -> bool {
    <XWing as Kem>::PublicKey::from_bytes(public).is_ok()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::vectors;

    fn secret() -> XWingSecret {
        XWingSecret::from_bytes(&Zeroizing::new([1; 32]))
    }

    #[test]
    fn what_is_sealed_opens_with_its_secret_and_info_only() {
        let rng = &mut StdRng::seed_from_u64(1);
        let sealed = seal_to(&secret().public(), b"info", b"text", rng).unwrap();
        assert_eq!(sealed.len(), 4 + 1136);
        assert_eq!(secret().open(b"info", &sealed).unwrap().as_slice(), b"text");
        assert_eq!(secret().open(b"other", &sealed), Err(Forged));
        assert_eq!(XWingSecret::generate(rng).open(b"info", &sealed), Err(Forged));
        for at in (0..sealed.len()).step_by(61).chain([sealed.len() - 1]) {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(secret().open(b"info", &changed), Err(Forged), "{at}");
            assert_eq!(secret().open(b"info", &sealed[..at]), Err(Forged), "{at}");
        }
    }

    /// draft-connolly-cfrg-xwing-kem, the first of its vectors: the seed, and the public key by its SHA-256.
    #[test]
    fn a_public_key_is_that_of_the_drafts_vector() {
        let seed = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26";
        let seed: [u8; 32] = data_encoding::HEXLOWER.decode(seed.as_bytes()).unwrap().try_into().unwrap();
        let public = XWingSecret::from_bytes(&Zeroizing::new(seed)).public();
        let expected = "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb";
        assert_eq!(data_encoding::HEXLOWER.encode(&super::super::sha256(&[&public])), expected);
    }

    #[test]
    fn hpkes_vector_opens() {
        let vector = vectors::hpke();
        let secret = XWingSecret::from_bytes(&Zeroizing::new(vectors::array(&vector["secret"])));
        assert_eq!(secret.public().to_vec(), vectors::bytes(&vector["public"]));
        let [info, aad] = ["info", "aad"].map(|part| vectors::bytes(&vector[part]));
        let sealed = [vectors::bytes(&vector["encapsulated"]), vectors::bytes(&vector["ciphertext"])].concat();
        assert_eq!(*secret.open_with(&info, &aad, &sealed).unwrap(), vectors::bytes(&vector["plaintext"]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let mut malformed = secret().public();
        malformed[..3].fill(0xff); // coefficients above ML-KEM's modulus
        assert!(!is_xwing_key(&malformed) && is_xwing_key(&secret().public()));
        assert_eq!(seal_to(&malformed, b"", b"", &mut StdRng::seed_from_u64(1)), Err(BadKey));
    }
}
