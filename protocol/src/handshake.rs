//! The circuit handshake: ntor with an ephemeral ML-KEM-768 beside it, one cell each way.
//!
//! Specification: docs/protocol.md, "Handshake". Secrecy holds if either X25519 or ML-KEM does; that the relay is the
//! right one rests on its X25519 onion key. There is no classical fallback. A handshake is a value that is consumed.

use rand::CryptoRng;

use crate::{
    cell::{AUTH, CREATE_FIELDS, CREATED_FIELDS, Create, Created, Malformed, VERSION},
    crypto::{self, BadKey, KeySchedule, MlKemSecret, Secret, X25519Secret},
    identity::{OnionKey, OnionSecret, RelayId},
    limits::MLKEM_CIPHERTEXT,
    params::NetworkId,
    puzzle::Puzzle,
};

const LABEL: &[u8] = b"trefoil/1 circuit x25519-mlkem768";

/// What a finished handshake gives to both ends.
pub struct CircuitKeys {
    /// Origin to hop.
    pub forward: Secret,
    /// Hop to origin.
    pub backward: Secret,
    /// Ties signatures to this circuit.
    pub binding: Secret,
}

/// Why a handshake failed. The circuit closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The bytes are not a handshake of this version.
    #[error("malformed handshake")]
    Malformed,
    /// The peer's ephemeral key is not usable.
    #[error("the peer's key is not usable")]
    BadKey,
    /// The relay could not prove that it holds the onion key.
    #[error("the relay did not prove its onion key")]
    Auth,
}

/// To whom a handshake is addressed; both ends must mean the same.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The network.
    pub network: NetworkId,
    /// The relay.
    pub relay: RelayId,
    /// Its onion key.
    pub onion: OnionKey,
}

/// The origin's side, between `Create` and `Created`.
pub struct OriginHandshake {
    peer: Peer,
    x: X25519Secret,
    mlkem: MlKemSecret,
    create: Vec<u8>,
}

impl OriginHandshake {
    /// Begins: makes the ephemeral keys, and solves `puzzle` if the relay asked for one (2^bits hashes).
    pub fn start(peer: Peer, puzzle: Puzzle, rng: &mut impl CryptoRng) -> Self {
        let x = X25519Secret::generate(rng);
        let mlkem = MlKemSecret::generate(rng);
        let solution = puzzle.solve(&peer.relay, &x.public());

        let mut create = Vec::with_capacity(CREATE_FIELDS);
        create.push(VERSION);
        create.extend(peer.onion.id().0);
        create.extend(x.public());
        create.extend(mlkem.public());
        create.push(puzzle.effort);
        create.extend(solution);
        create.extend(0u16.to_le_bytes()); // no extensions
        Self { peer, x, mlkem, create }
    }

    /// The `Create`'s fields, version through extensions.
    pub fn create(&self) -> &[u8] {
        &self.create
    }

    /// Ends with the `Created`'s fields, status through auth.
    ///
    /// # Errors
    /// See [`HandshakeError`]; whoever answered is not the relay that was meant, or is broken.
    pub fn finish(self, created: &[u8]) -> Result<CircuitKeys, HandshakeError> {
        let created = Created::decode(created)?;
        let secrets = Secrets {
            ephemeral: self.x.agree(created.y)?,
            onion: self.x.agree(self.peer.onion.as_bytes())?,
            mlkem: self.mlkem.decapsulate(created.ct),
        };
        let (auth, keys) = derive(&self.peer, &secrets, &self.create, created.bytes);
        if crypto::equal(&auth, created.auth) { Ok(keys) } else { Err(HandshakeError::Auth) }
    }
}

/// The relay's side: answers `create` under `onion`, the key that it named.
///
/// Gives the `Created`'s fields, status through auth.
///
/// # Errors
/// [`HandshakeError::BadKey`] if the origin's keys are not usable.
pub fn respond(
    peer: &Peer,
    onion: &OnionSecret,
    create: &Create<'_>,
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, CircuitKeys), HandshakeError> {
    let y = X25519Secret::generate(rng);
    let (ciphertext, mlkem) = crypto::mlkem_encapsulate(create.ek, rng)?;
    let secrets = Secrets { ephemeral: y.agree(create.x)?, onion: onion.secret().agree(create.x)?, mlkem };

    let mut created = unauthenticated(&y.public(), &ciphertext);
    let (auth, keys) = derive(peer, &secrets, create.bytes, &created);
    created.extend(*auth);
    Ok((created, keys))
}

fn unauthenticated(y: &[u8; 32], ciphertext: &[u8; MLKEM_CIPHERTEXT]) -> Vec<u8> {
    let mut created = Vec::with_capacity(CREATED_FIELDS + AUTH);
    created.push(0); // status
    created.extend(y);
    created.extend(ciphertext);
    created.extend(0u16.to_le_bytes()); // no extensions
    created
}

struct Secrets {
    ephemeral: Secret,
    onion: Secret,
    mlkem: Secret,
}

fn derive(peer: &Peer, secrets: &Secrets, create: &[u8], created: &[u8]) -> (Secret, CircuitKeys) {
    let transcript = crypto::sha256(&[
        LABEL,
        peer.network.as_bytes(),
        peer.relay.as_bytes(),
        peer.onion.as_bytes(),
        &length(create),
        create,
        &length(created),
        created,
    ]);
    let schedule = KeySchedule::extract(LABEL, &[&*secrets.ephemeral, &*secrets.onion, &*secrets.mlkem]);
    let [auth] = schedule.expand(&[b"auth", &transcript]);
    let [forward, backward, binding] = schedule.expand(&[b"keys", &transcript]);
    (auth, CircuitKeys { forward, backward, binding })
}

fn length(field: &[u8]) -> [u8; 2] {
    u16::try_from(field.len()).expect("a cell's field is shorter than a cell").to_le_bytes()
}

impl From<Malformed> for HandshakeError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<BadKey> for HandshakeError {
    fn from(BadKey: BadKey) -> Self {
        Self::BadKey
    }
}

#[cfg(test)]
mod tests;
