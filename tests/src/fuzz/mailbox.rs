//! What is said on mailbox streams, by clients and between replicas, and what a mailbox does with it.

use trefoil_protocol::{
    blind::BlindUse,
    envelope::{LetterId, SizeClass},
    epoch::UnixSeconds,
    identity::RelayId,
    inbox::Channel,
    limits::{LETTER_HOURS, MAILBOX_LIST, MAILBOX_PATIENCE, TICKET_LISTS},
    mailbox::{Answer, Ask, Deposit, FRAME_HEADER, Listed, Owned, Postage, Request, frame_length},
    params::NetworkId,
    period::Day,
    receipt::Receipt,
    ring::Placement,
    stamp::{Stamp, Stamped},
    tombstone::Tombstone,
};

use super::Verdict;

const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
const MAILBOX: RelayId = RelayId::from_bytes([2; 32]);

/// A request that is read is written as the same bytes and keeps its bounds; what stands in it can be checked.
pub fn mailbox_request(data: &[u8]) -> Verdict {
    let Ok(request) = Request::decode(data) else { return Verdict::Refused };
    check_frame(&request.encode(), data);
    match &request {
        Request::Deposit(deposit) => check_deposit(deposit),
        Request::Owned(owned) => check_owned(owned),
        Request::Delete { inbox, tombstones } => {
            assert!(!tombstones.is_empty());
            check_inbox(inbox);
            check_tombstones(inbox, tombstones);
        }
        Request::Pull { inbox, .. } | Request::Take { inbox, .. } => check_inbox(inbox),
        Request::Publish { placement, stamp, record } => {
            check_prekeys(placement);
            check_stamp(stamp, placement);
            let _ = record.check(&NETWORK, placement); // most are not even signed
        }
        Request::Look { placement } => check_prekeys(placement),
        Request::Kept { .. } => {}
    }
    Verdict::Accepted
}

/// An answer that is read is written as the same bytes and keeps its bounds.
pub fn mailbox_answer(data: &[u8]) -> Verdict {
    let Ok(answer) = Answer::decode(data) else { return Verdict::Refused };
    check_frame(&answer.encode(), data);
    match &answer {
        Answer::Accepted(receipt) => check_receipt(receipt),
        Answer::Letters { letters, .. } => check_letters(letters),
        Answer::Letter(envelope) => assert!(SizeClass::of(envelope.len()).is_some()),
        Answer::Pulled { letters, tombstones, .. } => {
            check_letters(letters);
            assert!(tombstones.len() <= MAILBOX_LIST);
        }
        Answer::Taken { postage, envelope } => check_postage(postage, envelope),
        Answer::Kept { placements, .. } => {
            assert!(placements.len() <= MAILBOX_LIST);
            placements.iter().for_each(check_placement);
        }
        Answer::Refused(_) | Answer::Deleted | Answer::Registered | Answer::Published | Answer::Prekeys(_) => {}
    }
    Verdict::Accepted
}

fn check_frame(frame: &[u8], data: &[u8]) {
    let (header, body) = frame.split_first_chunk::<FRAME_HEADER>().expect("a frame has a length");
    assert_eq!(body, data);
    assert_eq!(frame_length(*header), Ok(data.len()));
}

fn check_deposit(deposit: &Deposit<'_>) {
    let Deposit { inbox, hours, postage, envelope } = deposit;
    check_inbox(inbox);
    assert_eq!(postage.of(), inbox.of);
    assert!((1..=LETTER_HOURS).contains(hours));
    check_postage(postage, envelope);
    if let Postage::Stamp(stamp) = postage {
        check_stamp(stamp, inbox);
    }
}

fn check_postage(postage: &Postage, envelope: &[u8]) {
    let class = SizeClass::of(envelope.len()).expect("an envelope is of a class");
    let is_stamp = matches!(postage, Postage::Stamp(_));
    assert!(!is_stamp || class != SizeClass::Long, "strangers send no long letters");
}

/// A claim that counts on one circuit counts on no other.
fn check_owned(owned: &Owned) {
    check_inbox(&owned.inbox);
    match &owned.ask {
        Ask::List { patience, .. } => assert!(*patience <= MAILBOX_PATIENCE),
        Ask::Fetch(_) => {}
        Ask::Register { list, tickets, stamp } => {
            assert!(*list < TICKET_LISTS && tickets.iter().is_sorted());
            check_stamp(stamp, &owned.inbox);
        }
    }
    let claimed = [[3; 32], [4; 32]].map(|binding| {
        let channel = Channel { network: &NETWORK, mailbox: &MAILBOX, binding: &binding };
        owned.is_claimed(&channel)
    });
    assert_ne!(claimed, [true; 2]);
}

/// A stamp that is taken for a price is worth it; on days that are far from its own it is not taken.
fn check_stamp(stamp: &Stamp, inbox: &Placement) {
    let stamped = Stamped { network: &NETWORK, inbox, letter: &LetterId::from_bytes([5; 32]) };
    let worth = stamp.worth(&stamped);
    let price = u8::try_from(worth).expect("a hash has 256 bits, and none is of zeros");
    assert!(stamp.check(&stamped, price, stamp.day).is_ok());
    assert!(stamp.check(&stamped, price.saturating_add(1), stamp.day).is_err());
    assert!(stamp.check(&stamped, 0, Day(stamp.day.0 ^ 2)).is_err());
}

fn check_tombstones(inbox: &Placement, tombstones: &[Tombstone]) {
    assert!(tombstones.len() <= MAILBOX_LIST);
    if let Some(tombstone) = tombstones.first() {
        let _ = tombstone.is_of(&NETWORK, inbox); // most are not even signed
    }
}

fn check_receipt(receipt: &Receipt) {
    let inbox = Placement::decode(&[1; Placement::LENGTH]).expect("a request inbox");
    assert!(
        !receipt.is_of(&MAILBOX, &NETWORK, &inbox, &LetterId::from_bytes([5; 32])),
        "nobody has this mailbox's key"
    );
    for now in [0, 1 << 31, u64::MAX].map(UnixSeconds) {
        assert!(!receipt.keeps(2, now) || receipt.keeps(1, now), "what is kept longer is kept");
    }
}

fn check_letters(letters: &[Listed]) {
    assert!(letters.len() <= MAILBOX_LIST);
}

fn check_inbox(inbox: &Placement) {
    assert_ne!(inbox.of, BlindUse::Prekeys);
    check_placement(inbox);
}

fn check_prekeys(placement: &Placement) {
    assert_eq!(placement.of, BlindUse::Prekeys);
    check_placement(placement);
}

/// It is one of its bytes, and whatever the time is, letters are taken for it only while it is kept.
fn check_placement(placement: &Placement) {
    assert_eq!(Placement::decode(&placement.encode()), Some(*placement));
    let until = placement.kept_until();
    for now in [UnixSeconds(0), until, until.plus(1), UnixSeconds(u64::MAX)] {
        assert!(!placement.is_current(now) || placement.is_kept(now), "{now:?}");
    }
    assert!(!placement.is_kept(until.plus(1)));
}
