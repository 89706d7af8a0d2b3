//! Prekeys: what somebody needs to write to a person for the first time, kept where the person is not.
//!
//! Specification: docs/protocol.md, "Prekeys". A record for each week, under a blinded key: relays that keep it see that
//! its owner signed it, and neither whose it is nor what it says. The Olm keys in it are opaque here. This file never
//! keeps a record.

use std::fmt;

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    address::{Address, AddressSecret},
    blind::{BlindUse, Blinding},
    crypto::{self, Forged, KeySchedule, Secret},
    limits::{FALLBACK_KEYS, TAG, XWING_KEY},
    params::NetworkId,
    period::{Week, WeekOffset},
    ring::Placement,
    wire::Reader,
};

/// The keys that a person publishes for a week.
#[derive(Clone, PartialEq, Eq)]
pub struct Prekeys {
    /// What envelopes of this week are sealed to.
    pub xwing: [u8; XWING_KEY],
    /// The device's Olm identity key (X25519).
    pub identity: [u8; 32],
    /// How often the person began anew with another device or from the phrase. Of two, the higher is the newer.
    pub device: u32,
    /// The device's Olm fallback keys (X25519), with which conversations begin; 1 to [`FALLBACK_KEYS`].
    pub fallback: Vec<[u8; 32]>,
}

/// Whose prekeys, of which week.
pub struct PrekeysOf<'a> {
    network: &'a NetworkId,
    address: Address,
    week: Week,
    blinding: Blinding,
}

/// Prekeys as mailboxes keep them: sealed, and signed with the blinded key.
#[derive(Clone, PartialEq, Eq)]
pub struct PrekeysRecord(Box<[u8; PrekeysRecord::LENGTH]>);

/// Why a record cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrekeysError {
    /// Of a version that this program does not know.
    #[error("prekeys of version {0}")]
    Version(u8),
    /// Not signed by the owner.
    #[error("the prekeys' signature is wrong")]
    Signature,
    /// Sealed for others.
    #[error("the prekeys do not open")]
    Sealed(#[from] Forged),
    /// Signed and sealed, and of another form, or with a key that is none.
    #[error("the prekeys are malformed")]
    Form,
}

/// When the weeks of a person's prekeys begin: everyone who knows the address can tell.
pub fn offset(address: &Address) -> WeekOffset {
    WeekOffset::of(&Zeroizing::new(*address.as_bytes()))
}

impl<'a> PrekeysOf<'a> {
    /// Those of this person and week.
    pub fn new(network: &'a NetworkId, address: Address, week: Week) -> Self {
        let blinding = Blinding::new(BlindUse::Prekeys, network, address, None, week.0);
        Self { network, address, week, blinding }
    }

    /// Where they are kept.
    pub fn placement(&self) -> Placement {
        Placement { of: BlindUse::Prekeys, period: self.week.0, key: self.blinding.key() }
    }

    /// Seals and signs them. Of two records of one week, the one with the higher revision counts.
    ///
    /// # Panics
    /// If `owner` is not the address's, or there are not 1 to [`FALLBACK_KEYS`] fallback keys.
    pub fn seal(
        &self,
        prekeys: &Prekeys,
        revision: u32,
        owner: &AddressSecret,
        rng: &mut impl CryptoRng,
    ) -> PrekeysRecord {
        let mut salt = [0; SALT];
        rng.fill_bytes(&mut salt);
        let sealed = crypto::seal_once(&self.key(&salt), &prekeys.encode());
        let signed = [&[VERSION][..], &revision.to_le_bytes(), &salt, &sealed].concat();
        let message = [&self.network.as_bytes()[..], &self.placement().encode(), &signed].concat();
        let signature = self.blinding.secret(owner).sign(LABEL, &message);
        let mut record = Box::new([0; PrekeysRecord::LENGTH]);
        record.iter_mut().zip(signed.iter().chain(&signature)).for_each(|(space, byte)| *space = *byte);
        PrekeysRecord(record)
    }

    /// Opens a record of theirs.
    ///
    /// # Errors
    /// [`PrekeysError`].
    pub fn open(&self, record: &PrekeysRecord) -> Result<Prekeys, PrekeysError> {
        record.check(self.network, &self.placement())?;
        let mut reader = Reader::new(record.0.as_slice());
        reader.take(AT_SALT);
        let salt = reader.array().ok_or(PrekeysError::Form)?;
        let sealed = reader.take(CONTENT + TAG).ok_or(PrekeysError::Form)?;
        let content = crypto::open_once(&self.key(&salt), sealed)?;
        Prekeys::decode(&content).ok_or(PrekeysError::Form)
    }

    /// What everyone has who knows the address, and no mailbox.
    fn key(&self, salt: &[u8; SALT]) -> Secret {
        let schedule = KeySchedule::extract(LABEL, &[self.address.as_bytes()]);
        let [key] = schedule.expand(&[b"seal", self.network.as_bytes(), &self.week.0.to_le_bytes(), salt]);
        key
    }
}

impl PrekeysRecord {
    /// Bytes of a record.
    pub const LENGTH: usize = AT_SALT + SALT + CONTENT + TAG + SIGNATURE;

    /// The record of these bytes; nothing of it is checked yet.
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        Self(Box::new(*bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Which of several of one week counts: the highest.
    pub fn revision(&self) -> u32 {
        let [_, a, b, c, d, ..] = *self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    /// Whether the owner of this placement signed it: all that a mailbox can check.
    ///
    /// # Errors
    /// [`PrekeysError::Version`] or [`PrekeysError::Signature`].
    pub fn check(&self, network: &NetworkId, placement: &Placement) -> Result<(), PrekeysError> {
        let [version, ..] = *self.0;
        if version != VERSION {
            return Err(PrekeysError::Version(version));
        }
        let (signed, signature) = self.0.split_last_chunk::<SIGNATURE>().ok_or(PrekeysError::Form)?;
        let message = [&network.as_bytes()[..], &placement.encode(), signed].concat();
        let signed = placement.key.verify(LABEL, &message, signature);
        if signed { Ok(()) } else { Err(PrekeysError::Signature) }
    }
}

impl Prekeys {
    /// What stands in a record: `X-Wing key 1216 ‖ identity 32 ‖ device 4 ‖ count 1 ‖ count × key 32 ‖ zeros`.
    ///
    /// # Panics
    /// If there are not 1 to [`FALLBACK_KEYS`] fallback keys.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let count = u8::try_from(self.fallback.len()).unwrap_or(u8::MAX);
        assert!((1..=FALLBACK_KEYS).contains(&self.fallback.len()), "{count} fallback keys");
        let mut content = Zeroizing::new(Vec::with_capacity(CONTENT));
        content.extend_from_slice(&self.xwing);
        content.extend_from_slice(&self.identity);
        content.extend_from_slice(&self.device.to_le_bytes());
        content.push(count);
        content.extend_from_slice(self.fallback.as_flattened());
        content.resize(CONTENT, 0);
        content
    }

    /// Takes what [`Self::encode`] made; `None` for anything else.
    pub fn decode(content: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        let (xwing, identity, device) = (reader.array()?, reader.array()?, reader.u32()?);
        let count = reader.byte().map(usize::from).filter(|count| (1..=FALLBACK_KEYS).contains(count))?;
        let fallback = (0..count).map(|_| reader.array()).collect::<Option<_>>()?;
        let padded = content.len() == CONTENT && reader.rest().iter().all(|byte| *byte == 0);
        (padded && crypto::is_xwing_key(&xwing)).then_some(Self { xwing, identity, device, fallback })
    }
}

impl fmt::Debug for Prekeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prekeys(device {}, {} fallback keys)", self.device, self.fallback.len())
    }
}

impl fmt::Debug for PrekeysOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrekeysOf({:?}, {:?})", self.address, self.week)
    }
}

impl fmt::Debug for PrekeysRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrekeysRecord(revision {})", self.revision())
    }
}

const LABEL: &[u8] = b"trefoil/1 prekeys";
const VERSION: u8 = 1;
const SALT: usize = 16;
const SIGNATURE: usize = 64;
const AT_SALT: usize = 1 + 4;
const CONTENT: usize = XWING_KEY + 32 + 4 + 1 + FALLBACK_KEYS * 32;

#[cfg(test)]
pub(crate) mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{address::tests::person, crypto::XWingSecret};

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
    const WEEK: Week = Week(2900);

    fn prekeys() -> Prekeys {
        let xwing = XWingSecret::from_bytes(&Zeroizing::new([3; 32])).public();
        Prekeys { xwing, identity: [4; 32], device: 2, fallback: vec![[5; 32], [6; 32]] }
    }

    fn of(seed: u8, week: Week) -> PrekeysOf<'static> {
        PrekeysOf::new(&NETWORK, person(seed).address(), week)
    }

    /// The record of the person whose seed is 1.
    pub(crate) fn record() -> PrekeysRecord {
        of(1, WEEK).seal(&prekeys(), 7, &person(1), &mut StdRng::seed_from_u64(1))
    }

    /// A record around these bytes, whatever they are.
    fn around(content: &[u8]) -> PrekeysRecord {
        let (of, salt) = (of(1, WEEK), [0; 16]);
        let signed = [&[1, 0, 0, 0, 0][..], &salt, &crypto::seal_once(&of.key(&salt), content)].concat();
        let message = [&[1; 32][..], &of.placement().encode(), &signed].concat();
        let signature = of.blinding.secret(&person(1)).sign(b"trefoil/1 prekeys", &message);
        PrekeysRecord::from_bytes(&[&signed[..], &signature].concat().try_into().unwrap())
    }

    #[test]
    fn prekeys_open_for_who_knows_address_and_week_only() {
        let record = record();
        assert_eq!(of(1, WEEK).open(&record), Ok(prekeys()));
        assert_eq!(record.revision(), 7);
        assert_eq!(of(2, WEEK).open(&record), Err(PrekeysError::Signature));
        assert_eq!(of(1, WEEK.plus(1)).open(&record), Err(PrekeysError::Signature));
        let other_network = NetworkId::from_bytes([2; 32]);
        let elsewhere = PrekeysOf::new(&other_network, person(1).address(), WEEK);
        assert_eq!(elsewhere.open(&record), Err(PrekeysError::Signature));
    }

    #[test]
    fn a_mailbox_sees_who_may_have_signed_and_nothing_of_the_keys() {
        let (record, placement) = (record(), of(1, WEEK).placement());
        assert_eq!(record.check(&NETWORK, &placement), Ok(()));
        let secrets = [person(1).address().as_bytes().to_vec(), prekeys().identity.to_vec(), vec![5; 32]];
        let holds = |part: &[u8]| record.0.windows(part.len()).any(|window| window == part);
        assert!(!secrets.iter().any(|secret| holds(&secret[..8])));
        let again = of(1, WEEK).seal(&prekeys(), 7, &person(1), &mut StdRng::seed_from_u64(2));
        let equal = again.0.chunks(16).zip(record.0.chunks(16)).filter(|(a, b)| a == b).count();
        assert_eq!(equal, 0, "two records of one person look like those of two");
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let record = record();
        for at in (0..PrekeysRecord::LENGTH).step_by(11).chain([PrekeysRecord::LENGTH - 1]) {
            let mut changed = record.clone();
            changed.0[at] ^= 4;
            let expected = if at == 0 { PrekeysError::Version(5) } else { PrekeysError::Signature };
            assert_eq!(of(1, WEEK).open(&changed), Err(expected), "{at}");
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let content = [&prekeys().xwing[..], &[4; 32], &[2, 0, 0, 0], &[2], &[5; 32], &[6; 32], &[0; 64]].concat();
        assert_eq!((content.len(), PrekeysRecord::LENGTH), (1381, 1482));
        assert_eq!(of(1, WEEK).open(&around(&content)), Ok(prekeys()));
    }

    #[test]
    fn content_of_another_form_is_refused_though_it_is_signed() {
        let right = prekeys().encode();
        let with = |at: usize, byte: u8| {
            let mut content = right.to_vec();
            content[at] = byte;
            of(1, WEEK).open(&around(&content))
        };
        assert!(with(1216, 9).is_ok());
        for (at, byte) in [(1, 0xff), (1252, 0), (1252, 5), (1380, 1)] {
            assert_eq!(with(at, byte), Err(PrekeysError::Form), "{at} {byte}");
        }
        assert!(with(1252, 4).is_ok_and(|prekeys| prekeys.fallback.len() == 4));
    }

    #[test]
    fn another_revision_or_salt_is_another_seal() {
        let seal = |salt| *of(1, WEEK).key(&salt);
        assert_ne!(seal([0; 16]), seal([1; 16]));
        assert_ne!(*of(1, WEEK).key(&[0; 16]), *of(1, WEEK.plus(1)).key(&[0; 16]));
        assert_ne!(*of(1, WEEK).key(&[0; 16]), *of(2, WEEK).key(&[0; 16]));
    }

    #[test]
    fn weeks_begin_at_another_moment_for_each_person() {
        assert_ne!(offset(&person(1).address()), offset(&person(2).address()));
    }

    #[test]
    #[should_panic = "5 fallback keys"]
    fn too_many_fallback_keys_are_not_published() {
        let many = Prekeys { fallback: vec![[0; 32]; 5], ..prekeys() };
        of(1, WEEK).seal(&many, 0, &person(1), &mut StdRng::seed_from_u64(1));
    }
}
