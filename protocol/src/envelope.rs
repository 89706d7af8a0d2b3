//! Envelopes: letters as mailboxes see them, sealed and of one of three sizes.
//!
//! Specification: docs/protocol.md, "Envelopes". Neither who wrote a letter, nor what is in it, nor how long it is can
//! be seen from its envelope. It says nothing of who sealed it, either: what is inside does.

use std::fmt;

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    address::Address,
    crypto::{self, BadKey, Forged, XWingSecret},
    limits::{LETTER_SIZES, TAG, XWING_CIPHERTEXT, XWING_KEY},
    params::NetworkId,
    period::Week,
    ring::Placement,
    wire::Reader,
};

/// How many bytes an envelope has; its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SizeClass {
    /// 1,792 bytes: with all that a deposit says besides, one message on a circuit.
    Short = 1,
    /// 8 KiB.
    Middle = 2,
    /// 64 KiB: pieces of files.
    Long = 3,
}

/// The name of a letter: `BLAKE3(envelope)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LetterId([u8; 32]);

/// Whom an envelope is for, and for which inbox: it opens as nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// In which network.
    pub network: &'a NetworkId,
    /// Who.
    pub address: &'a Address,
    /// Which inbox it is left at: sealed for one it is of no use at another, so that none are linked by what they have in
    /// common.
    pub inbox: &'a Placement,
    /// Of which week the recipient's prekeys are that it is sealed to.
    pub week: Week,
}

/// Why a letter cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// More than the longest envelope holds.
    #[error("a letter has {LONGEST} bytes at most, not {0}")]
    TooLong(usize),
    /// The recipient's key is none.
    #[error("the recipient's prekeys are not usable")]
    Key(#[from] BadKey),
}

/// Why an envelope does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Of no class.
    #[error("no envelope has {0} bytes")]
    Size(usize),
    /// Sealed to another key, for somebody else or another inbox, or changed.
    #[error("the envelope is not for this key")]
    Forged(#[from] Forged),
    /// Its padding has another form.
    #[error("the envelope is not padded as it should be")]
    Padding,
}

impl SizeClass {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Short, Self::Middle, Self::Long];

    /// The class of an envelope of so many bytes, if one has just as many.
    pub fn of(length: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.bytes() == length)
    }

    /// The class with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == number)
    }

    /// Bytes of disk that mailboxes reckon a letter of this class at: its pages, and all that is noted of it.
    pub const fn reckoned(self) -> u32 {
        match self {
            Self::Short => 3 << 10,
            Self::Middle => 14 << 10,
            Self::Long => 72 << 10,
        }
    }

    /// Bytes of an envelope.
    pub const fn bytes(self) -> usize {
        let [short, middle, long] = LETTER_SIZES;
        match self {
            Self::Short => short,
            Self::Middle => middle,
            Self::Long => long,
        }
    }
}

impl SizeClass {
    /// Most bytes that an envelope of this class holds.
    pub const fn room(self) -> usize {
        self.bytes() - XWING_CIPHERTEXT - TAG - LENGTH
    }

    /// The least class whose envelopes hold so many bytes.
    pub fn holding(length: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|class| length <= class.room())
    }
}

impl Recipient<'_> {
    /// Seals a letter to the key of the recipient's prekeys, in the smallest envelope that holds it.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, key: &[u8; XWING_KEY], letter: &[u8], rng: &mut impl CryptoRng) -> Result<Vec<u8>, SealError> {
        let class = SizeClass::holding(letter.len()).ok_or(SealError::TooLong(letter.len()))?;
        let length = u16::try_from(letter.len()).map_err(|_| SealError::TooLong(letter.len()))?;
        let mut padded = Zeroizing::new(vec![0; LENGTH + class.room()]);
        let bytes = length.to_le_bytes().into_iter().chain(letter.iter().copied());
        padded.iter_mut().zip(bytes).for_each(|(space, byte)| *space = byte);
        Ok(crypto::seal_to(key, &self.info(), &padded, rng)?)
    }

    /// Opens an envelope with the secret of one's own prekeys.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, secret: &XWingSecret, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        SizeClass::of(envelope.len()).ok_or(OpenError::Size(envelope.len()))?;
        let padded = secret.open(&self.info(), envelope)?;
        let mut reader = Reader::new(&padded);
        let letter = reader.u16().and_then(|length| reader.take(length.into())).ok_or(OpenError::Padding)?;
        let rightly = reader.rest().iter().all(|byte| *byte == 0);
        if rightly { Ok(Zeroizing::new(letter.to_vec())) } else { Err(OpenError::Padding) }
    }

    /// `"trefoil/1 envelope" ‖ network id 32 ‖ address 32 ‖ inbox 37 ‖ week 4`.
    fn info(&self) -> Vec<u8> {
        let Self { network, address, inbox, week } = self;
        [LABEL, network.as_bytes(), address.as_bytes(), &inbox.encode(), &week.0.to_le_bytes()].concat()
    }
}

impl LetterId {
    /// The name of this envelope.
    pub fn of(envelope: &[u8]) -> Self {
        Self(crypto::blake3(&[envelope]))
    }

    /// The name whose bytes these are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "LetterId({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

const LABEL: &[u8] = b"trefoil/1 envelope";
/// Bytes of a letter's length, before it.
const LENGTH: usize = 2;
/// Most bytes of a letter.
const LONGEST: usize = SizeClass::Long.room();
/// So a length of 2 bytes is enough, and a short letter has room for more than a greeting.
const _: () = assert!(LONGEST <= 0xffff && SizeClass::Short.room() == 654);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{address::tests::person, blind::BlindUse, ring::tests::PLACEMENT};

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);

    fn recipient(address: &Address) -> Recipient<'_> {
        Recipient { network: &NETWORK, address, inbox: &PLACEMENT, week: Week(2900) }
    }

    fn secret(seed: u8) -> XWingSecret {
        XWingSecret::from_bytes(&Zeroizing::new([seed; 32]))
    }

    fn seal(letter: &[u8]) -> Result<Vec<u8>, SealError> {
        recipient(&person(1).address()).seal(&secret(1).public(), letter, &mut StdRng::seed_from_u64(1))
    }

    fn open(envelope: &[u8]) -> Result<Vec<u8>, OpenError> {
        recipient(&person(1).address()).open(&secret(1), envelope).map(|letter| letter.to_vec())
    }

    /// An envelope around these bytes, whatever they are.
    fn around(padded: &[u8]) -> Vec<u8> {
        let address = person(1).address();
        let label = b"trefoil/1 envelope";
        let info = [&label[..], &[1; 32], address.as_bytes(), &PLACEMENT.encode(), &[0x54, 0x0b, 0, 0]].concat();
        crypto::seal_to(&secret(1).public(), &info, padded, &mut StdRng::seed_from_u64(1)).unwrap()
    }

    #[test]
    fn a_letter_survives_in_the_smallest_envelope_that_holds_it() {
        let rooms = SizeClass::ALL.map(SizeClass::room);
        assert_eq!(rooms, [654, 7054, 64_398]);
        let cases = [(0, 1792), (1, 1792), (654, 1792), (655, 8192), (7054, 8192), (7055, 65_536), (64_398, 65_536)];
        for (length, size) in cases {
            let letter: Vec<_> = (1..=255).cycle().take(length).collect();
            let envelope = seal(&letter).unwrap();
            assert_eq!((envelope.len(), open(&envelope)), (size, Ok(letter)), "{length}");
        }
        assert_eq!(seal(&vec![1; 64_399]), Err(SealError::TooLong(64_399)));
        assert_eq!(seal(&vec![1; 1 << 17]), Err(SealError::TooLong(1 << 17)));
    }

    #[test]
    fn an_envelope_opens_for_its_recipient_network_inbox_week_and_key_only() {
        let envelope = seal(b"a letter").unwrap();
        let (address, other) = (person(1).address(), person(2).address());
        let own = recipient(&address);
        let of = Placement { of: BlindUse::RequestInbox, ..PLACEMENT };
        let next = Placement { period: PLACEMENT.period + 1, ..PLACEMENT };
        let others = [
            Recipient { network: &NetworkId::from_bytes([9; 32]), ..own },
            Recipient { address: &other, ..own },
            Recipient { inbox: &of, ..own },
            Recipient { inbox: &next, ..own },
            Recipient { week: Week(2901), ..own },
        ];
        assert_eq!(own.open(&secret(1), &envelope).unwrap().as_slice(), b"a letter");
        for other in others {
            assert_eq!(other.open(&secret(1), &envelope), Err(OpenError::Forged(Forged)), "{other:?}");
        }
        assert_eq!(own.open(&secret(2), &envelope), Err(OpenError::Forged(Forged)));
    }

    #[test]
    fn a_changed_or_cut_envelope_does_not_open() {
        let envelope = seal(b"a letter").unwrap();
        for at in (0..envelope.len()).step_by(37).chain([1791]) {
            let mut changed = envelope.clone();
            changed[at] ^= 0x80;
            assert_eq!(open(&changed), Err(OpenError::Forged(Forged)), "{at}");
        }
        for length in 0..envelope.len() {
            assert_eq!(open(&envelope[..length]), Err(OpenError::Size(length)));
        }
        assert_eq!(open(&[1; 8192]), Err(OpenError::Forged(Forged)));
    }

    #[test]
    fn padding_has_one_form() {
        let padded = |length: u16, bytes: &[u8]| {
            let mut padded = [&length.to_le_bytes()[..], bytes].concat();
            padded.resize(656, 0);
            around(&padded)
        };
        assert_eq!(open(&padded(3, b"abc")), Ok(b"abc".to_vec()));
        assert_eq!(open(&padded(3, b"abcd")), Err(OpenError::Padding));
        assert_eq!(open(&padded(654, b"abc")).unwrap().len(), 654);
        assert_eq!(open(&padded(655, b"abc")), Err(OpenError::Padding));
        assert_eq!(open(&padded(65_535, b"abc")), Err(OpenError::Padding));
    }

    #[test]
    fn nothing_of_two_envelopes_of_one_letter_is_equal() {
        let address = person(1).address();
        let rng = &mut StdRng::seed_from_u64(1);
        let mut seal = || recipient(&address).seal(&secret(1).public(), b"a letter", rng).unwrap();
        let (one, other) = (seal(), seal());
        assert!(one.chunks(16).zip(other.chunks(16)).all(|(a, b)| a != b));
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let sealed = recipient(&person(1).address()).seal(&[0xff; XWING_KEY], b"", &mut StdRng::seed_from_u64(1));
        assert_eq!(sealed, Err(SealError::Key(BadKey)));
    }

    proptest! {
        #[test]
        fn bytes_that_nobody_sealed_do_not_open(bytes in prop::collection::vec(any::<u8>(), 1792)) {
            prop_assert_eq!(open(&bytes), Err(OpenError::Forged(Forged)));
        }
    }

    #[test]
    fn an_envelope_has_just_as_many_bytes_as_its_class() {
        assert_eq!(SizeClass::ALL.map(SizeClass::bytes), [1792, 8192, 65_536]);
        for length in 0..70_000 {
            let class = SizeClass::of(length);
            assert_eq!(class.is_some(), [1792, 8192, 65_536].contains(&length));
            assert!(class.is_none_or(|class| SizeClass::from_number(class as u8) == Some(class)));
        }
        [0, 4, 255].iter().for_each(|number| assert_eq!(SizeClass::from_number(*number), None));
    }

    #[test]
    fn a_letter_is_named_by_all_of_its_envelope() {
        assert_eq!(*LetterId::of(&[1; 1792]).as_bytes(), crypto::blake3(&[&[1; 1792]]));
    }
}
