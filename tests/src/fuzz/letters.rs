//! What people say to each other: prekeys, envelopes, what is sealed in them, and the order of a conversation.

use std::collections::BTreeSet;

use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    address::AddressSecret,
    blind::BlindUse,
    conversation::{Arrival, Heard},
    crypto::{self, XWingSecret},
    envelope::{OpenError, Recipient, SizeClass},
    inbox::Inbox,
    letter::{
        Between, Contact, Content, Dispatch, FileOffer, Introduction, Letter, LetterError, Place, Published, clean,
        is_plain,
    },
    limits::{
        DEVICES_KEPT, FALLBACK_KEYS, FILE_BYTES, FILE_NAME, FILE_PIECE, GAPS_KEPT, GREETING, LETTER_TEXT, PASS_WEEKS,
        PERSON_NAME, RATCHET_MESSAGE, RECEIPTS_LISTED, TAG, TICKETS_LISTED, XWING_CIPHERTEXT,
    },
    params::NetworkId,
    pass::Pass,
    period::{Day, Week},
    prekeys::{Prekeys, PrekeysOf},
};

use super::Verdict;

const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
const WEEK: Week = Week(2900);

fn person(seed: u8) -> AddressSecret {
    AddressSecret::from_bytes(&[seed; 32].into())
}

/// What stands in a record of prekeys is written as the same bytes, and is what comes out of the record again; of another
/// week it is not.
pub fn prekeys(data: &[u8]) -> Verdict {
    let Some(prekeys) = Prekeys::decode(data) else { return Verdict::Refused };
    assert_eq!(**prekeys.encode(), *data);
    assert!((1..=FALLBACK_KEYS).contains(&prekeys.fallback.len()));
    let owner = person(1);
    let of = |week| PrekeysOf::new(&NETWORK, owner.address(), week);
    let record = of(WEEK).seal(&prekeys, 7, &owner, &mut StdRng::seed_from_u64(1));
    assert_eq!((record.revision(), of(WEEK).open(&record)), (7, Ok(prekeys)));
    assert!(of(WEEK.plus(1)).open(&record).is_err());
    Verdict::Accepted
}

/// Whatever somebody seals in an envelope, it opens for its recipient and nobody else, to the letter that it says and
/// only if it is padded with zeros. Zeros fill what the bytes leave of the smallest envelope that holds them.
pub fn envelope(data: &[u8]) -> Verdict {
    let Some(class) = SizeClass::ALL.into_iter().find(|class| data.len() <= inside(*class)) else {
        return Verdict::Refused;
    };
    let mut padded = data.to_vec();
    padded.resize(inside(class), 0);
    let (owner, secret) = (person(1), XWingSecret::from_bytes(&[3; 32].into()));
    let (address, placement) = (owner.address(), Inbox::request(&NETWORK, owner.address(), Day(20_000)).placement());
    let recipient = Recipient { network: &NETWORK, address: &address, inbox: &placement, week: WEEK };
    let info = [
        &b"trefoil/1 envelope"[..],
        NETWORK.as_bytes(),
        address.as_bytes(),
        &placement.encode(),
        &WEEK.0.to_le_bytes(),
    ];
    let sealed = crypto::seal_to(&secret.public(), &info.concat(), &padded, &mut StdRng::seed_from_u64(1));
    let sealed = sealed.expect("a good key");
    assert_eq!(sealed.len(), class.bytes());
    let forged = |result: Result<_, OpenError>| matches!(result, Err(OpenError::Forged(_)));
    assert!(forged(Recipient { week: WEEK.plus(1), ..recipient }.open(&secret, &sealed)));
    assert!(forged(recipient.open(&XWingSecret::from_bytes(&[4; 32].into()), &sealed)));
    let (length, rest) = padded.split_first_chunk().expect("more than two bytes");
    let said = rest.split_at_checked(u16::from_le_bytes(*length).into());
    match recipient.open(&secret, &sealed) {
        Ok(letter) => {
            let (expected, padding) = said.expect("a letter is as long as it says");
            assert!(**letter == *expected && padding.iter().all(|byte| *byte == 0));
            Verdict::Accepted
        }
        Err(error) => {
            assert_eq!(error, OpenError::Padding);
            assert!(said.is_none_or(|(_, padding)| padding.iter().any(|byte| *byte != 0)));
            Verdict::Refused
        }
    }
}

/// Bytes that are sealed in an envelope of this class.
fn inside(class: SizeClass) -> usize {
    class.bytes() - XWING_CIPHERTEXT - TAG
}

/// What stands in an envelope is written as the same bytes.
pub fn dispatch(data: &[u8]) -> Verdict {
    let Some(dispatch) = Dispatch::decode(data) else { return Verdict::Refused };
    assert_eq!(dispatch.encode(), data);
    assert!((1..=RATCHET_MESSAGE).contains(&dispatch.message.len()));
    Verdict::Accepted
}

/// A letter that is read is written as the same bytes, and nothing in it passes its bounds, changes a screen or names a
/// path. It is heard between its writer and its reader, and not the other way round.
pub fn letter(data: &[u8]) -> Verdict {
    let Ok(letter) = Letter::decode(data) else { return Verdict::Refused };
    assert_eq!(letter.encode(), data);
    check_content(&letter.content);
    let [writer, reader] = [person(1).address(), person(2).address()];
    let between = Between { network: &NETWORK, writer: &writer, reader: &reader };
    let said = between.say(&letter);
    assert_eq!(between.hear(&said).map(|heard| heard.encode()), Ok(data.to_vec()));
    let back = Between { writer: &reader, reader: &writer, ..between };
    assert!(matches!(back.hear(&said), Err(LetterError::Between)));
    Verdict::Accepted
}

fn check_content(content: &Content) {
    match content {
        Content::Text(text) => assert!((1..=LETTER_TEXT).contains(&text.len()) && clean(text) == *text),
        Content::FileOffer(offer) => check_offer(offer),
        Content::FilePiece { piece, bytes, .. } => {
            assert!(*piece < pieces(FILE_BYTES) && (1..=FILE_PIECE).contains(&bytes.len()));
        }
        Content::Receipts(receipts) => assert!((1..=RECEIPTS_LISTED).contains(&receipts.letters.len())),
        Content::Request(contact, introduction) => {
            check_contact(contact);
            check_introduction(introduction);
        }
        Content::Welcome(contact) => check_contact(contact),
        Content::Pass(pass) => check_pass(pass),
        Content::Renewal(of) => check_published(of),
        Content::FileAnswer { .. } | Content::Timer(_) => {}
    }
}

/// A file's name is one part of a path, and neither the folder itself nor the one above.
fn check_offer(offer: &FileOffer) {
    let mut parts = std::path::Path::new(&offer.name).components();
    assert!(matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None)), "{offer:?}");
    assert!(offer.name.len() <= FILE_NAME && is_plain(&offer.name) && !offer.name.contains('\\'));
    assert!((1..=FILE_BYTES).contains(&offer.size));
    assert_eq!(offer.pieces(), pieces(offer.size));
}

fn pieces(size: u32) -> u16 {
    let piece = u32::try_from(FILE_PIECE).expect("60 KiB");
    u16::try_from(size.div_ceil(piece)).expect("a few hundred")
}

fn check_contact(contact: &Contact) {
    assert!(contact.name.len() <= PERSON_NAME && is_plain(&contact.name));
    check_pass(&contact.pass);
}

/// A pass is good for the weeks of its salts and no others.
fn check_pass(pass: &Pass) {
    assert!((1..=PASS_WEEKS).contains(&pass.salts.len()) && usize::from(pass.count) <= TICKETS_LISTED);
    let weeks = u32::try_from(pass.salts.len()).expect("at most four");
    for ahead in 0..=weeks {
        let week = pass.first.0.checked_add(ahead).map(Week);
        let salt = usize::try_from(ahead).ok().and_then(|at| pass.salts.get(at));
        assert!(week.is_none_or(|week| pass.salt(week) == salt));
    }
    assert!(pass.first.0.checked_sub(1).is_none_or(|before| pass.salt(Week(before)).is_none()));
    let of = Inbox::private(&NETWORK, person(1).address(), &pass.whereabouts, pass.first, &[0; 16]).placement().of;
    assert_eq!(of, BlindUse::PrivateInbox);
}

fn check_introduction(introduction: &Introduction) {
    let Introduction { of, token, greeting } = introduction;
    assert!(greeting.len() <= GREETING && clean(greeting) == *greeting && *token != Some([0; 16]));
    check_published(of);
}

fn check_published(of: &Published) {
    let _ = PrekeysOf::new(&NETWORK, person(1).address(), of.week).open(&of.prekeys); // most are not even signed
}

/// What is saved of a conversation is written as the same bytes, and goes on.
pub fn heard(data: &[u8]) -> Verdict {
    let Ok(mut heard) = Heard::decode(data) else { return Verdict::Refused };
    assert_eq!(heard.encode(), data);
    check_heard(&heard);
    let missing: Vec<Place> = heard.missing().map(|(device, gap)| Place { device, sequence: gap.start }).collect();
    for place in missing {
        if heard.hear(place).is_ok_and(|arrival| arrival == Arrival::Late) {
            assert_eq!(heard.hear(place), Ok(Arrival::Duplicate));
        }
    }
    check_heard(&heard);
    Verdict::Accepted
}

/// In whatever order letters come, none is taken twice, none that has come is missing, and what is refused changes
/// nothing. Each four bytes are a device, a sequence, and whether it is counted from the last there can be.
pub fn conversation(data: &[u8]) -> Verdict {
    let (mut heard, mut taken, mut verdict) = (Heard::default(), BTreeSet::new(), Verdict::Accepted);
    for step in data.as_chunks::<4>().0 {
        let [device, low, high, end] = *step;
        let count = u32::from_le_bytes([low, high, 0, 0]);
        let sequence = if end == 0 { count } else { u32::MAX - count };
        let place = Place { device: device.into(), sequence };
        let before = heard.clone();
        match heard.hear(place) {
            Ok(Arrival::Duplicate) => assert!(taken.contains(&place) && heard == before),
            Ok(Arrival::Ahead(gap)) => {
                assert!(!gap.is_empty() && gap.end == sequence && taken.insert(place));
                assert!(taken.range(Place { sequence: gap.start, ..place }..place).next().is_none());
            }
            Ok(Arrival::Next | Arrival::Late) => assert!(taken.insert(place)),
            Err(_) => {
                assert_eq!(heard, before);
                verdict = Verdict::Refused;
            }
        }
        check_heard(&heard);
    }
    for (device, gap) in heard.missing() {
        let [start, end] = [gap.start, gap.end].map(|sequence| Place { device, sequence });
        assert!(taken.range(start..end).next().is_none());
    }
    verdict
}

fn check_heard(heard: &Heard) {
    assert_eq!(Heard::decode(&heard.encode()).as_ref(), Ok(heard));
    assert!(heard.missing().count() <= DEVICES_KEPT * GAPS_KEPT);
    assert!(heard.missing().all(|(_, gap)| !gap.is_empty()));
}
