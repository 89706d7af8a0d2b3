use rand::{SeedableRng, rngs::StdRng};
use zeroize::Zeroizing;

use super::*;
use crate::{puzzle::Hour, vectors};

struct Parties {
    peer: Peer,
    onion: OnionSecret,
    rng: StdRng,
}

fn parties(seed: u64) -> Parties {
    let mut rng = StdRng::seed_from_u64(seed);
    let onion = OnionSecret::generate(&mut rng);
    let peer =
        Peer { network: NetworkId::from_bytes([1; 32]), relay: RelayId::from_bytes([2; 32]), onion: onion.public() };
    Parties { peer, onion, rng }
}

/// One handshake in which the relay takes `peer` for itself.
fn run(parties: &mut Parties, relay_side: Peer) -> Result<(CircuitKeys, CircuitKeys), HandshakeError> {
    let origin = OriginHandshake::start(parties.peer, Puzzle::NONE, &mut parties.rng);
    let create = origin.create().to_vec();
    let (created, relay) = respond(&relay_side, &parties.onion, &Create::decode(&create)?, &mut parties.rng)?;
    Ok((origin.finish(&created)?, relay))
}

#[test]
fn both_ends_get_the_same_keys_and_three_different_ones() {
    let mut parties = parties(1);
    let peer = parties.peer;
    let (origin, relay) = run(&mut parties, peer).unwrap();
    assert_eq!(origin.forward, relay.forward);
    assert_eq!(origin.backward, relay.backward);
    assert_eq!(origin.binding, relay.binding);
    assert!(origin.forward != origin.backward && origin.backward != origin.binding);
}

#[test]
fn a_relay_that_means_another_network_relay_or_key_fails() {
    let mut parties = parties(2);
    let peer = parties.peer;
    let others = [
        Peer { network: NetworkId::from_bytes([9; 32]), ..peer },
        Peer { relay: RelayId::from_bytes([9; 32]), ..peer },
        Peer { onion: OnionKey::from_bytes([9; 32]), ..peer },
    ];
    for other in others {
        assert_eq!(run(&mut parties, other).err(), Some(HandshakeError::Auth));
    }
}

#[test]
fn a_relay_without_the_onion_secret_fails() {
    let mut parties = parties(3);
    parties.onion = OnionSecret::generate(&mut parties.rng);
    let peer = parties.peer;
    assert_eq!(run(&mut parties, peer).err(), Some(HandshakeError::Auth));
}

#[test]
fn a_change_of_any_byte_of_created_is_caught() {
    let mut parties = parties(4);
    let probe = OriginHandshake::start(parties.peer, Puzzle::NONE, &mut parties.rng);
    let create = probe.create().to_vec();
    let create = Create::decode(&create).unwrap();
    let (created, _) = respond(&parties.peer, &parties.onion, &create, &mut parties.rng).unwrap();
    for at in (0..created.len()).step_by(13).chain([1, 33, created.len() - 1]) {
        let mut twin = self::parties(4);
        let origin = OriginHandshake::start(twin.peer, Puzzle::NONE, &mut twin.rng);
        let mut changed = created.clone();
        changed[at] ^= 0x40;
        assert!(origin.finish(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn keys_that_contribute_nothing_are_refused() {
    let mut parties = parties(5);
    let origin = OriginHandshake::start(parties.peer, Puzzle::NONE, &mut parties.rng);
    let mut low_order = origin.create().to_vec();
    low_order[9..41].fill(0);
    let mut bad_ek = origin.create().to_vec();
    bad_ek[41..41 + 96].fill(0xff); // coefficients above q are not canonical
    for create in [low_order, bad_ek] {
        let create = Create::decode(&create).unwrap();
        let answer = respond(&parties.peer, &parties.onion, &create, &mut parties.rng);
        assert_eq!(answer.err(), Some(HandshakeError::BadKey));
    }
}

#[test]
fn a_puzzle_is_solved_inside_the_create() {
    let mut parties = parties(6);
    let puzzle = Puzzle { effort: 8, hour: Hour(480_000) };
    let origin = OriginHandshake::start(parties.peer, puzzle, &mut parties.rng);
    let create = Create::decode(origin.create()).unwrap();
    assert_eq!(create.effort, 8);
    assert!(puzzle.is_solved_by(&parties.peer.relay, create.x, &create.solution));
}

/// The fixed fields of a `Create` in the vectors, whose extensions are random bytes that no reader should accept.
fn x_and_ek(create: &[u8]) -> ([u8; 32], [u8; 1184]) {
    (create[9..41].try_into().unwrap(), create[41..1225].try_into().unwrap())
}

#[test]
fn the_handshake_vectors_hold() {
    for vector in vectors::list(&vectors::circuit()["handshake"]) {
        let secret = |name: &str| Zeroizing::new(vectors::array::<32>(&vector[name]));
        let seed = [*secret("mlkem_d"), *secret("mlkem_z")].concat().try_into().unwrap();
        let peer = Peer {
            network: NetworkId::from_bytes(vectors::array(&vector["network_id"])),
            relay: RelayId::from_bytes(vectors::array(&vector["relay_id"])),
            onion: OnionKey::from_bytes(vectors::array(&vector["B"])),
        };
        let (create, created) = (vectors::bytes(&vector["create"]), vectors::bytes(&vector["created_without_auth"]));
        let (x, mlkem) = (X25519Secret::from_bytes(&secret("x")), MlKemSecret::from_seed(&Zeroizing::new(seed)));
        assert_eq!(x_and_ek(&create), (x.public(), mlkem.public()));

        let (y, b) = (X25519Secret::from_bytes(&secret("y")), X25519Secret::from_bytes(&secret("b")));
        let relay_side = Secrets {
            ephemeral: y.agree(&x.public()).unwrap(),
            onion: b.agree(&x.public()).unwrap(),
            mlkem: secret("mlkem_shared"),
        };
        let origin_side = Secrets {
            ephemeral: x.agree(&y.public()).unwrap(),
            onion: x.agree(peer.onion.as_bytes()).unwrap(),
            mlkem: mlkem.decapsulate(&created[33..33 + MLKEM_CIPHERTEXT].try_into().unwrap()),
        };
        for secrets in [relay_side, origin_side] {
            let (auth, keys) = derive(&peer, &secrets, &create, &created);
            assert_eq!(auth.to_vec(), vectors::bytes(&vector["auth"]));
            assert_eq!(keys.forward.to_vec(), vectors::bytes(&vector["keys"]["forward"]));
            assert_eq!(keys.backward.to_vec(), vectors::bytes(&vector["keys"]["backward"]));
            assert_eq!(keys.binding.to_vec(), vectors::bytes(&vector["keys"]["binding"]));
        }
        if created.ends_with(&[0, 0]) {
            let keys =
                OriginHandshake { peer, x, mlkem, create }.finish(&[created, vectors::bytes(&vector["auth"])].concat());
            assert_eq!(keys.unwrap().binding.to_vec(), vectors::bytes(&vector["keys"]["binding"]));
        }
    }
}

#[test]
fn the_relays_ciphertext_is_that_of_the_vectors() {
    /// Draws what the vectors' author drew.
    struct Script([u8; 32]);
    impl rand::rand_core::TryRng for Script {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            unreachable!("ML-KEM draws bytes")
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            unreachable!("ML-KEM draws bytes")
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.copy_from_slice(&self.0);
            Ok(())
        }
    }
    impl rand::rand_core::TryCryptoRng for Script {}

    for vector in vectors::list(&vectors::circuit()["handshake"]) {
        let create = vectors::bytes(&vector["create"]);
        let (_, ek) = x_and_ek(&create);
        let mut rng = Script(vectors::array(&vector["mlkem_m"]));
        let (ciphertext, shared) = crypto::mlkem_encapsulate(&ek, &mut rng).unwrap();
        let created = vectors::bytes(&vector["created_without_auth"]);
        assert_eq!(ciphertext, created[33..33 + MLKEM_CIPHERTEXT]);
        assert_eq!(shared.to_vec(), vectors::bytes(&vector["mlkem_shared"]));
    }
}
