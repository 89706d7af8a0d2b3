//! Inboxes: where a person's letters wait, and how the owner proves to be the owner.
//!
//! Specification: docs/protocol.md, "Inboxes". The request inbox is where everyone writes who knows the address; the
//! private one only contacts can find. Each has another key every day or week, and only the owner can read it or delete
//! from it. This file never says what a mailbox answers: `mailbox.rs` does.

use std::fmt;

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    address::{Address, AddressSecret},
    blind::{BlindUse, BlindedKey, BlindedSecret, Blinding},
    crypto::{self, Secret},
    identity::RelayId,
    params::NetworkId,
    period::{Day, Week, WeekOffset},
    ring::Placement,
};

/// One inbox in one period, as everyone sees it who can find it.
#[derive(Debug)]
pub struct Inbox {
    placement: Placement,
    blinding: Blinding,
}

/// What contacts know, and nobody else: how a person's private inbox is found. Another one for each generation.
pub struct Whereabouts {
    generation: u32,
    secret: Secret,
}

/// What the owner adds to the private inbox of a week, and tells contacts shortly before: whoever is told no more loses
/// the inbox.
pub type WeekSalt = [u8; 16];

/// The circuit to a mailbox on which a request is made.
#[derive(Clone, Copy)]
pub struct Channel<'a> {
    /// In which network.
    pub network: &'a NetworkId,
    /// With which mailbox.
    pub mailbox: &'a RelayId,
    /// The `binding` of the circuit's handshake with it.
    pub binding: &'a [u8; 32],
}

/// What the owner signs: that this request is the owner's, to this mailbox, on this circuit.
#[derive(Clone, Copy)]
pub struct Claimed<'a> {
    /// Whom is asked, and how.
    pub channel: Channel<'a>,
    /// What for: the request's type.
    pub operation: u8,
    /// The request's body but for the claim; the inbox is in it.
    pub request: &'a [u8],
}

/// The owner's signature over a [`Claimed`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Claim(pub [u8; 64]);

impl Inbox {
    /// The request inbox of a day.
    pub fn request(network: &NetworkId, address: Address, day: Day) -> Self {
        Self::new(BlindUse::RequestInbox, day.0, Blinding::new(BlindUse::RequestInbox, network, address, None, day.0))
    }

    /// The private inbox of a week.
    pub fn private(network: &NetworkId, address: Address, at: &Whereabouts, week: Week, salt: &WeekSalt) -> Self {
        let secret = at.of_week(salt);
        let blinding = Blinding::new(BlindUse::PrivateInbox, network, address, Some(&secret), week.0);
        Self::new(BlindUse::PrivateInbox, week.0, blinding)
    }

    fn new(of: BlindUse, period: u32, blinding: Blinding) -> Self {
        Self { placement: Placement { of, period, key: blinding.key() }, blinding }
    }

    /// Its name, and what decides which relays keep it.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// What signs for it.
    ///
    /// # Panics
    /// If `owner` is not the address's.
    pub fn secret(&self, owner: &AddressSecret) -> BlindedSecret {
        self.blinding.secret(owner)
    }
}

impl Whereabouts {
    /// Bytes of their form.
    pub const LENGTH: usize = 4 + 32;

    /// Those of a new inbox.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::drawn(0, rng)
    }

    /// Those of the next generation: whoever is not told them cannot find the inbox any more.
    pub fn next(&self, rng: &mut impl CryptoRng) -> Self {
        Self::drawn(self.generation.saturating_add(1), rng)
    }

    /// Those of a person's self-inbox, which has no salts: whoever knows its address, which is the owner alone, finds it.
    pub fn of_self(address: Address) -> Self {
        Self { generation: 0, secret: Zeroizing::new(crypto::blake3(&[SELF_LABEL, address.as_bytes()])) }
    }

    fn drawn(generation: u32, rng: &mut impl CryptoRng) -> Self {
        let mut secret = Secret::default();
        rng.fill_bytes(&mut *secret);
        Self { generation, secret }
    }

    /// How often the owner has moved; of two, the higher is the newer.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// When its weeks begin.
    pub fn offset(&self) -> WeekOffset {
        WeekOffset::of(&self.secret)
    }

    /// `generation 4 ‖ secret 32`.
    pub fn encode(&self) -> Zeroizing<[u8; Self::LENGTH]> {
        let mut bytes = Zeroizing::new([0; Self::LENGTH]);
        let (generation, secret) = bytes.split_at_mut(4);
        generation.copy_from_slice(&self.generation.to_le_bytes());
        secret.copy_from_slice(&*self.secret);
        bytes
    }

    /// Takes what [`Self::encode`] made.
    pub fn decode(bytes: &[u8; Self::LENGTH]) -> Self {
        let [a, b, c, d, secret @ ..] = bytes;
        Self { generation: u32::from_le_bytes([*a, *b, *c, *d]), secret: Zeroizing::new(*secret) }
    }

    fn of_week(&self, salt: &WeekSalt) -> Secret {
        Zeroizing::new(crypto::blake3(&[PRIVATE_LABEL, &*self.secret, &self.generation.to_le_bytes(), salt]))
    }
}

impl Claimed<'_> {
    /// Signs it.
    pub fn sign(&self, owner: &BlindedSecret) -> Claim {
        Claim(owner.sign(CLAIM_LABEL, &self.message()))
    }

    fn message(&self) -> Vec<u8> {
        let Channel { network, mailbox, binding } = self.channel;
        let request = crypto::blake3(&[self.request]);
        [&network.as_bytes()[..], &[self.operation], mailbox.as_bytes(), binding, &request].concat()
    }
}

impl Claim {
    /// Whether the owner of this key signed just that.
    pub fn is_of(&self, key: &BlindedKey, claimed: &Claimed<'_>) -> bool {
        key.verify(CLAIM_LABEL, &claimed.message(), &self.0)
    }
}

impl fmt::Debug for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Whereabouts(generation {})", self.generation)
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim(..)")
    }
}

const PRIVATE_LABEL: &[u8] = b"trefoil/1 private inbox";
const SELF_LABEL: &[u8] = b"trefoil/1 self inbox";
const CLAIM_LABEL: &[u8] = b"trefoil/1 claim";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::address::tests::person;

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
    const WEEK: Week = Week(2900);
    const SALT: WeekSalt = [5; 16];

    fn whereabouts() -> Whereabouts {
        Whereabouts::decode(&[[9, 0, 0, 0].as_slice(), &[7; 32]].concat().try_into().unwrap())
    }

    fn private() -> Inbox {
        Inbox::private(&NETWORK, person(1).address(), &whereabouts(), WEEK, &SALT)
    }

    const CHANNEL: Channel<'static> =
        Channel { network: &NETWORK, mailbox: &RelayId::from_bytes([2; 32]), binding: &[3; 32] };
    const CLAIMED: Claimed<'static> = Claimed { channel: CHANNEL, operation: 2, request: b"a request" };

    #[test]
    fn a_request_inbox_is_found_by_its_address_and_day() {
        let inbox = Inbox::request(&NETWORK, person(1).address(), Day(20_000));
        let Placement { of, period, key } = inbox.placement();
        assert_eq!((of, period), (BlindUse::RequestInbox, 20_000));
        assert_eq!(inbox.secret(&person(1)).key(), key);
        assert_ne!(Inbox::request(&NETWORK, person(1).address(), Day(20_001)).placement().key, key);
        assert_ne!(Inbox::request(&NETWORK, person(2).address(), Day(20_000)).placement().key, key);
    }

    #[test]
    fn a_private_inbox_is_another_one_for_each_secret_generation_salt_and_week() {
        let (owner, here) = (person(1).address(), whereabouts());
        let key = |at: &Whereabouts, week, salt| Inbox::private(&NETWORK, owner, at, week, salt).placement().key;
        let other = |generation, secret: u8| Whereabouts { generation, secret: Zeroizing::new([secret; 32]) };
        let keys = [
            key(&here, WEEK, &SALT),
            key(&other(10, 7), WEEK, &SALT),
            key(&other(9, 8), WEEK, &SALT),
            key(&here, WEEK.plus(1), &SALT),
            key(&here, WEEK, &[6; 16]),
            key(&Whereabouts::of_self(owner), WEEK, &SALT),
        ];
        assert_eq!(keys.into_iter().collect::<BTreeSet<_>>().len(), 6);
        assert_eq!(private().secret(&person(1)).key(), keys[0]);
        assert_eq!((private().placement().of, private().placement().period), (BlindUse::PrivateInbox, 2900));
    }

    #[test]
    fn a_private_inbox_is_where_the_specification_says() {
        let secret = crypto::blake3(&[b"trefoil/1 private inbox", &[7; 32], &[9, 0, 0, 0], &SALT]);
        let address = person(1).address();
        let blinding = Blinding::new(BlindUse::PrivateInbox, &NETWORK, address, Some(&Zeroizing::new(secret)), WEEK.0);
        assert_eq!(private().placement().key, blinding.key());
        let own = crypto::blake3(&[b"trefoil/1 self inbox", address.as_bytes()]);
        assert_eq!(Whereabouts::of_self(address).encode()[4..], own);
    }

    #[test]
    fn the_next_generation_cannot_be_found_by_who_knows_the_one_before() {
        let rng = &mut StdRng::seed_from_u64(1);
        let before = Whereabouts::generate(rng);
        let next = before.next(rng);
        assert_eq!((before.generation(), next.generation()), (0, 1));
        assert_ne!(before.secret, next.secret);
    }

    #[test]
    fn whereabouts_survive_their_bytes_and_do_not_print_their_secret() {
        let here = whereabouts();
        let decoded = Whereabouts::decode(&here.encode());
        assert_eq!((decoded.generation, &decoded.secret), (9, &here.secret));
        assert_eq!(decoded.offset(), here.offset());
        assert_eq!(format!("{here:?}"), "Whereabouts(generation 9)");
    }

    #[test]
    fn a_claim_is_for_its_key_network_operation_mailbox_circuit_and_request_only() {
        let inbox = private();
        let key = inbox.placement().key;
        let claim = CLAIMED.sign(&inbox.secret(&person(1)));
        assert!(claim.is_of(&key, &CLAIMED));
        let others = [
            Claimed { channel: Channel { network: &NetworkId::from_bytes([9; 32]), ..CHANNEL }, ..CLAIMED },
            Claimed { channel: Channel { mailbox: &RelayId::from_bytes([9; 32]), ..CHANNEL }, ..CLAIMED },
            Claimed { channel: Channel { binding: &[9; 32], ..CHANNEL }, ..CLAIMED },
            Claimed { operation: 3, ..CLAIMED },
            Claimed { request: b"another", ..CLAIMED },
        ];
        others.iter().for_each(|other| assert!(!claim.is_of(&key, other)));
        let stranger = Inbox::private(&NETWORK, person(2).address(), &whereabouts(), WEEK, &SALT);
        assert!(!claim.is_of(&stranger.placement().key, &CLAIMED));
        assert!(!CLAIMED.sign(&stranger.secret(&person(2))).is_of(&key, &CLAIMED));
    }

    #[test]
    fn a_claim_signs_the_bytes_of_the_specification() {
        let inbox = private();
        let request = crypto::blake3(&[b"a request"]);
        let message = [&[1; 32][..], &[2], &[2; 32], &[3; 32], &request].concat();
        let Claim(signature) = CLAIMED.sign(&inbox.secret(&person(1)));
        assert!(crypto::verify(inbox.placement().key.as_bytes(), b"trefoil/1 claim", &message, &signature));
    }
}
