//! Blinded keys: an Ed25519 key times a factor, and its signatures, which are ordinary ones.
//!
//! Specification: docs/protocol.md, "Blinded keys". As in Tor's rend-spec-v3, A.2, but for the hash, and for the
//! nonces: there, two blinded keys of one secret that sign the same message draw the same one, which gives the secret
//! away to whoever knows the two factors.

use curve25519_dalek::{edwards::CompressedEdwardsY, scalar::Scalar};
use ed25519_dalek::{
    VerifyingKey,
    hazmat::{ExpandedSecretKey, raw_sign},
};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::{BadKey, SigningSecret, is_prime_order_key};

/// What a key is multiplied with: whoever knows it can blind a public key, and nobody else sees whose it was.
pub struct BlindFactor(Zeroizing<Scalar>);

/// A signing key times a factor. Zeroized when dropped, as `ed25519-dalek` does.
pub struct BlindedSigner {
    key: ExpandedSecretKey,
    public: VerifyingKey,
}

impl BlindFactor {
    /// SHA-512 over parts put one after the other, as a little-endian number modulo the group's order.
    pub fn hash(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha512::new();
        parts.iter().for_each(|part| hasher.update(part));
        Self(Zeroizing::new(Scalar::from_bytes_mod_order_wide(&hasher.finalize().into())))
    }

    /// This public key, blinded.
    ///
    /// # Errors
    /// [`BadKey`] if it is not of prime order, or not in its one form.
    pub fn blind(&self, public: &[u8; 32]) -> Result<[u8; 32], BadKey> {
        let point = CompressedEdwardsY(*public).decompress().filter(|_| is_prime_order_key(public)).ok_or(BadKey)?;
        Ok((*self.0 * point).compress().to_bytes())
    }
}

impl BlindedSigner {
    /// This secret, blinded: its public key is what [`BlindFactor::blind`] makes of the secret's.
    pub fn new(secret: &SigningSecret, factor: &BlindFactor) -> Self {
        let own = ExpandedSecretKey::from(secret.0.as_bytes());
        let mut key = ExpandedSecretKey { scalar: own.scalar * *factor.0, hash_prefix: [0; 32] };
        let public = VerifyingKey::from(&key);
        // Nonces of its own, which no other blinded key has for the same message.
        let prefix = Zeroizing::new(<[u8; 64]>::from(
            Sha512::new().chain_update(NONCE_LABEL).chain_update(own.hash_prefix).chain_update(public).finalize(),
        ));
        key.hash_prefix.copy_from_slice(prefix.first_chunk::<32>().expect("64 bytes have 32"));
        Self { key, public }
    }

    /// Its public key.
    pub fn public(&self) -> [u8; 32] {
        self.public.to_bytes()
    }

    /// Signs `label ‖ message`; [`super::verify`] checks it under [`Self::public`]. Every use has a label of its own.
    pub fn sign(&self, label: &[u8], message: &[u8]) -> [u8; 64] {
        raw_sign::<Sha512>(&self.key, &[label, message].concat(), &self.public).to_bytes()
    }
}

const NONCE_LABEL: &[u8] = b"trefoil/1 blinded nonce";

#[cfg(test)]
mod tests {
    use super::{super::verify, *};

    fn secret(seed: u8) -> SigningSecret {
        SigningSecret::from_bytes(&Zeroizing::new([seed; 32]))
    }

    #[test]
    fn a_blinded_secret_signs_for_the_blinded_public_key() {
        for number in 0..32 {
            let (secret, factor) = (secret(number), BlindFactor::hash(&[b"factor", &[number]]));
            let signer = BlindedSigner::new(&secret, &factor);
            assert_eq!(factor.blind(&secret.public()), Ok(signer.public()));
            let signature = signer.sign(b"label", b"message");
            assert!(verify(&signer.public(), b"label", b"message", &signature));
            assert!(!verify(&secret.public(), b"label", b"message", &signature));
            assert!(!verify(&signer.public(), b"label", b"another", &signature));
            assert!(is_prime_order_key(&signer.public()));
        }
    }

    #[test]
    fn a_factor_of_one_leaves_a_key_as_it_is() {
        let one = BlindFactor(Zeroizing::new(Scalar::ONE));
        assert_eq!(one.blind(&secret(1).public()), Ok(secret(1).public()));
        assert_eq!(BlindedSigner::new(&secret(1), &one).public(), secret(1).public());
    }

    #[test]
    fn blinding_twice_is_blinding_with_the_product() {
        let (a, b) = (BlindFactor::hash(&[b"a"]), BlindFactor::hash(&[b"b"]));
        let product = BlindFactor(Zeroizing::new(*a.0 * *b.0));
        let public = secret(2).public();
        assert_eq!(b.blind(&a.blind(&public).unwrap()), product.blind(&public));
    }

    #[test]
    fn two_blinded_keys_never_share_a_nonce() {
        // With R the same in two signatures, and both factors known, the secret is the solution of two equations.
        let [a, b] = [b"a", b"b"].map(|name| BlindedSigner::new(&secret(3), &BlindFactor::hash(&[name])));
        let signatures = [a.sign(b"", b"message"), b.sign(b"", b"message"), secret(3).sign(b"", b"message")];
        let [a, b, own] = signatures.map(|signature| *signature.first_chunk::<32>().unwrap());
        assert!(a != b && a != own && b != own);
    }

    #[test]
    fn what_is_no_key_of_prime_order_is_not_blinded() {
        let torsion = super::super::tests::with_torsion(&secret(4).public());
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        for key in [torsion, identity_point, [2; 32]] {
            assert_eq!(BlindFactor::hash(&[b"a"]).blind(&key), Err(BadKey));
        }
    }
}
