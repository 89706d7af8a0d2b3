//! The algorithms, each behind the one form in which Trefoil uses it.
//!
//! Specification: docs/protocol.md, "Algorithms". Only this file and those of its folder name algorithm crates. Secrets
//! are zeroized when dropped and never printed. It never draws randomness: callers hand in bytes or a generator.

mod blinding;
mod kept;
mod once;
mod xwing;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher, StreamCipherSeek},
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use ml_kem::{Decapsulate, DecapsulationKey, EncapsulationKey, KeyExport, MlKem768};
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

pub use self::{
    blinding::{BlindFactor, BlindedSigner},
    kept::{KeptKey, PassphraseCost},
    once::{open_once, seal_once},
    xwing::{XWingSecret, is_xwing_key, seal_to},
};
use crate::limits::{ARGON2_KIB, CELL, MLKEM_CIPHERTEXT, MLKEM_KEY, REKEY_CELLS, TAG, X25519_KEY};

/// A 32-byte secret that is zeroized when dropped.
pub type Secret = Zeroizing<[u8; 32]>;

/// The tag does not fit: the cell was changed, replayed, reordered, or is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cell is not authentic")]
pub struct Forged;

/// A public key that must not be used: a low-order X25519 point, a malformed ML-KEM key, a weak Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the public key is not usable")]
pub struct BadKey;

/// The key of one onion layer in one direction, with its cell counter.
///
/// ChaCha20-Poly1305 (RFC 8439), nonce = 4 zero bytes ‖ counter as little-endian u64, no associated data; after
/// every 2^16 cells the key is replaced by `HKDF-Expand(key, "rekey", 32)`.
pub struct LayerKey {
    key: Secret,
    aead: LessSafeKey,
    counter: u64,
}

impl LayerKey {
    /// The layer of a fresh key, at cell 0.
    pub fn new(key: Secret) -> Self {
        Self { aead: layer_aead(&key), key, counter: 0 }
    }

    /// How many cells have gone through this layer.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// Seals `cell[16..]` in place, puts the tag into `cell[..16]`, and advances to the next cell.
    pub fn seal(&mut self, cell: &mut [u8; CELL]) {
        let (tag, text) = cell.split_at_mut(TAG);
        let sealed = self.aead.seal_in_place_separate_tag(self.nonce(), Aad::empty(), text);
        tag.copy_from_slice(sealed.expect("2,032 bytes are far below the cipher's limit").as_ref());
        self.advance();
    }

    /// Opens `cell[16..]` in place against the tag in `cell[..16]`, and advances to the next cell.
    ///
    /// # Errors
    /// [`Forged`] if the tag does not fit; `cell` then holds nothing of use and the circuit must close.
    pub fn open(&mut self, cell: &mut [u8; CELL]) -> Result<(), Forged> {
        let (tag, text) = cell.split_at_mut(TAG);
        self.aead.open_in_place_separate_tag(self.nonce(), Aad::empty(), tag, text).map_err(|_| Forged)?;
        self.advance();
        Ok(())
    }

    /// XORs this cell's bare keystream into `bytes`, which stand at `offset` in the cell (16 ≤ `offset`).
    ///
    /// Only origins need it: to foresee the zero fill (forward), to find the speaker (backward).
    pub fn keystream(&self, offset: usize, bytes: &mut [u8]) {
        let mut cipher = ChaCha20::new((&*self.key).into(), (&nonce_bytes(self.counter)).into());
        let position = BLOCK + (offset - TAG); // block 0 makes the Poly1305 key
        cipher.seek(u64::try_from(position).expect("a position within a cell"));
        cipher.apply_keystream(bytes);
    }

    fn nonce(&self) -> Nonce {
        Nonce::assume_unique_for_key(nonce_bytes(self.counter))
    }

    fn advance(&mut self) {
        self.counter += 1;
        if self.counter.is_multiple_of(REKEY_CELLS) {
            self.rekey();
        }
    }

    fn rekey(&mut self) {
        let hkdf = Hkdf::<Sha256>::from_prk(&*self.key).expect("32 bytes are a PRK");
        let mut next = Secret::default();
        hkdf.expand(b"rekey", &mut *next).expect("32 bytes are within HKDF's limit");
        self.aead = layer_aead(&next);
        self.key = next;
    }

    /// The layer as it is after `counter` cells.
    #[cfg(test)]
    pub(crate) fn at(key: [u8; 32], counter: u64) -> Self {
        let mut layer = Self::new(Zeroizing::new(key));
        (0..counter / REKEY_CELLS).for_each(|_| layer.rekey());
        layer.counter = counter;
        layer
    }
}

const BLOCK: usize = 64;

fn layer_aead(key: &Secret) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &**key).expect("the key has 32 bytes"))
}

fn nonce_bytes(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// BLAKE3 over parts put one after the other.
pub fn blake3(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    *hasher.finalize().as_bytes()
}

/// How many zero bits a hash begins with.
pub fn leading_zeros(hash: &[u8; 32]) -> u32 {
    let zeros = hash.iter().take_while(|byte| **byte == 0).count();
    let partial = hash.get(zeros).map_or(0, |byte| byte.leading_zeros());
    u32::try_from(zeros * 8).unwrap_or(u32::MAX) + partial
}

/// Argon2id (RFC 9106) with version 0x13, one pass and one lane, and the memory that it works in.
pub struct MemoryHard {
    argon2: Argon2<'static>,
    blocks: Vec<Block>,
}

/// Of this size, glibc maps an allocation by itself and gives it back at once when it is freed. A smaller one can stay
/// with the heap of each thread that ever had one. What is never touched takes no memory.
const OWN_MAPPING: usize = (32 << 20) + 4096;

impl MemoryHard {
    /// With so many KiB of memory; what is outside of [`ARGON2_KIB`] is taken for the nearest in it.
    pub fn new(kib: u32) -> Self {
        let kib = kib.clamp(*ARGON2_KIB.start(), *ARGON2_KIB.end());
        let params = Params::new(kib, 1, 1, Some(32)).expect("the memory is within bounds");
        let mut blocks = Vec::with_capacity(params.block_count().max(OWN_MAPPING / size_of::<Block>()));
        blocks.resize(params.block_count(), Block::default());
        Self { argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params), blocks }
    }

    /// The 32-byte result.
    pub fn hash(&mut self, password: &[u8], salt: &[u8; 16]) -> [u8; 32] {
        let mut output = [0; 32];
        let hashed = self.argon2.hash_password_into_with_memory(password, salt, &mut output, &mut self.blocks);
        hashed.expect("lengths are within Argon2's bounds");
        output
    }
}

/// SHA-256 over parts put one after the other.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// HKDF-SHA256 after its extract step. Its state is zeroized when dropped (sha2's feature `zeroize`).
pub struct KeySchedule(Hkdf<Sha256>);

impl KeySchedule {
    /// HKDF-Extract over secret parts put one after the other.
    pub fn extract(salt: &[u8], secrets: &[&[u8]]) -> Self {
        let joined = Zeroizing::new(secrets.concat());
        let (mut prk, schedule) = Hkdf::extract(Some(salt), &joined);
        prk.as_mut_slice().zeroize();
        Self(schedule)
    }

    /// HKDF-Expand to `N` 32-byte keys, read off one output in order.
    pub fn expand<const N: usize>(&self, info: &[&[u8]]) -> [Secret; N] {
        let mut output = Zeroizing::new([[0; 32]; N]);
        self.0.expand_multi_info(info, output.as_flattened_mut()).expect("a few keys are within HKDF's limit");
        output.map(Zeroizing::new)
    }
}

/// Whether two 32-byte values are equal, in constant time.
pub fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}

/// An X25519 secret key (RFC 7748).
pub struct X25519Secret(StaticSecret);

impl X25519Secret {
    /// The key whose bytes these are; clamped when used.
    pub fn from_bytes(bytes: &Secret) -> Self {
        Self(StaticSecret::from(**bytes))
    }

    /// A new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(StaticSecret::random_from_rng(rng))
    }

    /// Its bytes, for the key file.
    pub fn to_bytes(&self) -> Secret {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Its public key.
    pub fn public(&self) -> [u8; X25519_KEY] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The shared secret with `theirs`.
    ///
    /// # Errors
    /// [`BadKey`] if `theirs` is of low order and would contribute nothing.
    pub fn agree(&self, theirs: &[u8; X25519_KEY]) -> Result<Secret, BadKey> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*theirs));
        if shared.was_contributory() { Ok(Zeroizing::new(shared.to_bytes())) } else { Err(BadKey) }
    }
}

/// An ML-KEM-768 decapsulation key (FIPS 203), made for one handshake.
pub struct MlKemSecret(Box<DecapsulationKey<MlKem768>>);

impl MlKemSecret {
    /// A new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 64]);
        rng.fill_bytes(&mut *seed);
        Self::from_seed(&seed)
    }

    /// The key of FIPS 203's seed `d ‖ z`.
    pub fn from_seed(seed: &Zeroizing<[u8; 64]>) -> Self {
        Self(Box::new(DecapsulationKey::from_seed((**seed).into())))
    }

    /// Its encapsulation key.
    pub fn public(&self) -> [u8; MLKEM_KEY] {
        self.0.encapsulation_key().to_bytes().into()
    }

    /// The shared secret in `ciphertext`; for a wrong ciphertext a random-looking one, as FIPS 203 has it.
    pub fn decapsulate(&self, ciphertext: &[u8; MLKEM_CIPHERTEXT]) -> Secret {
        take_secret(self.0.decapsulate(&(*ciphertext).into()).into())
    }
}

/// A fresh ML-KEM-768 shared secret for the holder of `key`, with its ciphertext.
///
/// # Errors
/// [`BadKey`] if `key` is not a canonical encapsulation key.
pub fn mlkem_encapsulate(
    key: &[u8; MLKEM_KEY],
    rng: &mut impl CryptoRng,
) -> Result<([u8; MLKEM_CIPHERTEXT], Secret), BadKey> {
    let key = EncapsulationKey::<MlKem768>::new(&(*key).into()).map_err(|_| BadKey)?;
    let mut seed = Secret::default();
    rng.fill_bytes(&mut *seed);
    let (ciphertext, shared) = key.encapsulate_deterministic(&(*seed).into());
    Ok((ciphertext.into(), take_secret(shared.into())))
}

fn take_secret(mut bytes: [u8; 32]) -> Secret {
    let secret = Zeroizing::new(bytes);
    bytes.zeroize();
    secret
}

/// An Ed25519 signing key (RFC 8032); zeroized when dropped.
pub struct SigningSecret(SigningKey);

impl SigningSecret {
    /// The key of this 32-byte seed.
    pub fn from_bytes(seed: &Secret) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Its seed, for the key file and for the link's TLS identity.
    pub fn to_bytes(&self) -> Secret {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Its public key.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs `label ‖ message`. Every use has a label of its own.
    pub fn sign(&self, label: &[u8], message: &[u8]) -> [u8; 64] {
        self.0.sign(&[label, message].concat()).to_bytes()
    }
}

/// Checks a signature over `label ‖ message`, strictly: no weak keys, no malleable signatures.
pub fn verify(public: &[u8; 32], label: &[u8], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public)
        .is_ok_and(|key| key.verify_strict(&[label, message].concat(), &Signature::from_bytes(signature)).is_ok())
}

/// Whether these bytes are an Ed25519 public key of large order.
pub fn is_signing_key(public: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| !key.is_weak())
}

/// Whether these bytes are the canonical form of an Ed25519 public key of prime order: what can be blinded, and is the
/// one name of its secret.
pub fn is_prime_order_key(public: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| {
        let point = key.to_edwards();
        !point.is_small_order() && point.is_torsion_free() && point.compress().to_bytes() == *public
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_two_chacha_implementations_agree(key: [u8; 32], counter in 0..REKEY_CELLS, byte: u8) {
            let mut ours = [byte; CELL];
            LayerKey::at(key, counter).seal(&mut ours);

            let mut theirs = [byte; CELL - TAG];
            let tag = ChaCha20Poly1305::new(&key.into())
                .encrypt_inout_detached(&nonce_bytes(counter).into(), b"", theirs.as_mut_slice().into())
                .unwrap();
            prop_assert_eq!(&ours[..TAG], tag.as_slice());
            prop_assert_eq!(&ours[TAG..], &theirs[..]);
        }

        #[test]
        fn the_keystream_is_that_of_the_sealed_cell(key: [u8; 32], offset in TAG..CELL, length in 0..CELL) {
            let layer = LayerKey::at(key, 7);
            let end = CELL.min(offset + length);
            let mut stream = vec![0; end - offset];
            layer.keystream(offset, &mut stream);

            let mut cell = [0; CELL];
            LayerKey::at(key, 7).seal(&mut cell);
            prop_assert_eq!(&cell[offset..end], &stream[..]);
        }
    }

    #[test]
    fn a_layer_opens_what_its_twin_sealed_and_nothing_else() {
        let (mut seal, mut open) = (LayerKey::at([7; 32], REKEY_CELLS - 1), LayerKey::at([7; 32], REKEY_CELLS - 1));
        for round in 0..4 {
            let mut cell = [round; CELL];
            seal.seal(&mut cell);
            let mut changed = cell;
            changed[usize::from(round) * 600] ^= 1;
            let mut twin = LayerKey::at([7; 32], open.counter());
            assert_eq!(twin.open(&mut changed), Err(Forged));
            open.open(&mut cell).unwrap();
            assert_eq!(cell[TAG..], [round; CELL - TAG]);
        }
    }

    /// A cell of zeros under this key and counter, by the other implementation.
    fn sealed_by_the_other(key: &[u8; 32], counter: u64) -> Vec<u8> {
        let mut cell = vec![0; CELL - TAG];
        let cipher = ChaCha20Poly1305::new(key.into());
        let tag = cipher.encrypt_inout_detached(&nonce_bytes(counter).into(), b"", cell.as_mut_slice().into()).unwrap();
        [tag.as_slice(), &cell].concat()
    }

    #[test]
    fn a_key_serves_65536_cells_and_its_successor_the_next_65536_with_a_counter_that_goes_on() {
        let (mut key, mut layer) = ([5; 32], LayerKey::new(Zeroizing::new([5; 32])));
        for counter in 0..=2 * REKEY_CELLS {
            if counter > 0 && counter.is_multiple_of(REKEY_CELLS) {
                let hkdf = Hkdf::<Sha256>::from_prk(&key).unwrap();
                hkdf.expand(b"rekey", &mut key).unwrap();
            }
            assert_eq!(layer.counter(), counter);
            let mut cell = [0; CELL];
            layer.seal(&mut cell);
            if [0, 1, REKEY_CELLS - 1].contains(&(counter % REKEY_CELLS)) {
                assert!(cell[..] == sealed_by_the_other(&key, counter), "cell {counter}");
            }
        }
    }

    #[test]
    fn argon2id_is_that_of_another_implementation() {
        let expected = "e793d64ef75d58f503d4631b2b149f7f80127c5f3993d89b1c9b781e51d0b413"; // OpenSSL's
        let mut memory = MemoryHard::new(64);
        for _ in 0..2 {
            let hash = memory.hash(b"password", b"somesaltsomesalt");
            assert_eq!(data_encoding::HEXLOWER.encode(&hash), expected);
        }
    }

    #[test]
    fn a_hash_begins_with_its_zero_bits() {
        let mut hash = [0; 32];
        assert_eq!(leading_zeros(&hash), 256);
        hash[2] = 0x10;
        assert_eq!(leading_zeros(&hash), 19);
    }

    #[test]
    fn a_low_order_point_is_refused() {
        let secret = X25519Secret::from_bytes(&Zeroizing::new([9; 32]));
        assert!(secret.agree(&[0; 32]).is_err());
    }

    /// This key, and a point of order 8 added to it.
    pub(crate) fn with_torsion(public: &[u8; 32]) -> [u8; 32] {
        let point = VerifyingKey::from_bytes(public).unwrap().to_edwards();
        (point + curve25519_dalek::constants::EIGHT_TORSION[1]).compress().to_bytes()
    }

    #[test]
    fn a_weak_signing_key_is_refused() {
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        assert!(!is_signing_key(&identity_point));
    }

    #[test]
    fn a_signature_is_bound_to_its_label() {
        let key = SigningSecret::from_bytes(&Zeroizing::new([1; 32]));
        let signature = key.sign(b"a", b"message");
        assert!(verify(&key.public(), b"a", b"message", &signature));
        assert!(!verify(&key.public(), b"b", b"message", &signature));
    }
}
