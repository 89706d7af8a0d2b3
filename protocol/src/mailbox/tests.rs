mod way;

use proptest::prelude::*;

use super::*;
use crate::{
    address::tests::person,
    blind::BlindedKey,
    identity::RelayId,
    inbox::{Channel, Inbox},
    limits::{MAILBOX_PATIENCE, TICKET_LISTS},
    params::NetworkId,
    period::Day,
    prekeys,
    ring::tests::PLACEMENT,
    ticket,
};

const PREKEYS: Placement = Placement { of: BlindUse::Prekeys, ..PLACEMENT };
const REQUEST_INBOX: Placement = Placement { of: BlindUse::RequestInbox, ..PLACEMENT };
const STAMP: Stamp = Stamp { day: Day(20_000), nonce: 77 };
const TICKET: Postage = Postage::Ticket(Ticket([6; 16]));
const ID: LetterId = LetterId::from_bytes([4; 32]);
const CLAIM: Claim = Claim([5; 64]);
const TOMBSTONE: Tombstone = Tombstone { letter: ID, until: Hour(500_000), signature: [3; 64] };
const LISTED: Listed = Listed { letter: ID, class: SizeClass::Middle, expiry: Hour(500_001) };

fn deposit(envelope: &[u8]) -> Deposit<'_> {
    Deposit { inbox: PLACEMENT, hours: 336, postage: TICKET, envelope }
}

fn owned(ask: Ask) -> Request<'static> {
    Request::Owned(Owned { inbox: PLACEMENT, ask, claim: CLAIM })
}

fn requests() -> Vec<Request<'static>> {
    vec![
        Request::Deposit(deposit(&[1; 1792])),
        Request::Deposit(deposit(&[1; 65_536])),
        Request::Deposit(Deposit {
            inbox: REQUEST_INBOX,
            postage: Postage::Stamp(STAMP),
            hours: 1,
            ..deposit(&[2; 8192])
        }),
        owned(Ask::List { after: 0, patience: 0 }),
        owned(Ask::List { after: 1 << 40, patience: MAILBOX_PATIENCE }),
        owned(Ask::Fetch(ID)),
        owned(Ask::Register { list: TICKET_LISTS - 1, tickets: ticket::tests::list(), stamp: STAMP }),
        Request::Delete { inbox: PLACEMENT, tombstones: vec![TOMBSTONE] },
        Request::Delete { inbox: REQUEST_INBOX, tombstones: vec![TOMBSTONE; MAILBOX_LIST] },
        Request::Pull { inbox: PLACEMENT, after: 9 },
        Request::Take { inbox: PLACEMENT, letter: ID },
        Request::Publish { placement: PREKEYS, stamp: STAMP, record: prekeys::tests::record() },
        Request::Look { placement: PREKEYS },
        Request::Kept { after: 1 << 50 },
    ]
}

fn answers() -> Vec<Answer<'static>> {
    vec![
        Answer::Refused(Refusal::Price(20)),
        Answer::Refused(Refusal::Gone),
        Answer::Accepted(Receipt { expiry: Hour(500_000), signature: [8; 64] }),
        Answer::Letters { next: 0, letters: vec![] },
        Answer::Letters { next: 300, letters: vec![LISTED; MAILBOX_LIST] },
        Answer::Letter(&[1; 1792]),
        Answer::Letter(&[1; 65_536]),
        Answer::Deleted,
        Answer::Registered,
        Answer::Pulled { next: 7, letters: vec![LISTED], tombstones: vec![TOMBSTONE; MAILBOX_LIST] },
        Answer::Pulled { next: 7, letters: vec![], tombstones: vec![] },
        Answer::Taken { postage: TICKET, envelope: &[1; 65_536] },
        Answer::Published,
        Answer::Prekeys(prekeys::tests::record()),
        Answer::Taken { postage: Postage::Stamp(STAMP), envelope: &[1; 8192] },
        Answer::Kept { next: 5, placements: vec![] },
        Answer::Kept {
            next: 1 << 50,
            placements: [PLACEMENT, REQUEST_INBOX, PREKEYS, PREKEYS].repeat(MAILBOX_LIST / 4),
        },
    ]
}

/// A frame without its length, which is checked.
fn body(frame: &[u8]) -> &[u8] {
    let (length, body) = frame.split_first_chunk().unwrap();
    assert_eq!(frame_length(*length), Ok(body.len()));
    body
}

#[test]
fn what_is_said_survives_and_no_part_of_it_says_the_same_nor_may_anything_follow() {
    for request in requests() {
        let frame = request.encode();
        assert_eq!(Request::decode(body(&frame)), Ok(request.clone()));
        (0..body(&frame).len())
            .for_each(|length| assert_ne!(Request::decode(&body(&frame)[..length]), Ok(request.clone())));
        assert!(Request::decode(&[body(&frame), &[0]].concat()).is_err());
    }
    for answer in answers() {
        let frame = answer.encode();
        assert_eq!(Answer::decode(body(&frame)), Ok(answer.clone()));
        (0..body(&frame).len())
            .for_each(|length| assert_ne!(Answer::decode(&body(&frame)[..length]), Ok(answer.clone())));
        assert!(Answer::decode(&[body(&frame), &[0]].concat()).is_err());
    }
}

#[test]
fn a_cut_frame_is_none_unless_just_the_bytes_of_a_shorter_envelope_are_left() {
    for request in requests() {
        let frame = request.encode();
        let parts = (0..body(&frame).len()).filter(|length| Request::decode(&body(&frame)[..*length]).is_ok());
        let shorter = match request {
            Request::Deposit(Deposit { envelope, .. }) => {
                SizeClass::of(envelope.len()).map_or(0, |class| class as usize - 1)
            }
            _ => 0,
        };
        assert_eq!(parts.count(), shorter);
    }
}

#[test]
fn a_short_letters_deposit_fits_one_message() {
    assert_eq!(Request::Deposit(deposit(&[1; 1792])).encode().len(), 1852);
    const { assert!(1852 <= MAX_DATA) };
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let placement = [&[2, 0x54, 0x0b, 0, 0][..], &[7; 32]].concat();
    let envelope = [1; 1792];
    let expected = [&[0x38, 7, 0, 0, 1][..], &placement, &[0x50, 1], &[6; 16], &envelope].concat();
    assert_eq!(Request::Deposit(deposit(&envelope)).encode(), expected);
    let expected = [&[112, 0, 0, 0, 2][..], &placement, &[9, 0, 0, 0, 0, 0, 0, 0, 30, 0], &[5; 64]].concat();
    assert_eq!(owned(Ask::List { after: 9, patience: 30 }).encode(), expected);
    let entry = [&[4; 32][..], &[2], &[0x21, 0xa1, 7, 0]].concat();
    let expected = [&[48, 0, 0, 0, 2, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0][..], &entry].concat();
    assert_eq!(Answer::Letters { next: 9, letters: vec![LISTED] }.encode(), expected);
}

#[test]
fn unknown_types_and_values_are_refused() {
    for kind in [REFUSED, KEPT + 1, 255] {
        assert_eq!(Request::decode(&[kind]), Err(MailboxError::Type(kind)));
    }
    assert_eq!(Answer::decode(&[KEPT + 1]), Err(MailboxError::Type(KEPT + 1)));
    assert_eq!(Request::decode(&[]), Err(MailboxError::Length(0)));
    let change = |request: &Request<'_>, at: usize, byte: u8| {
        let mut frame = body(&request.encode()).to_vec();
        frame[at] = byte;
        Request::decode(&frame).is_ok()
    };
    let short = Request::Deposit(deposit(&[1; 1792]));
    let (of, hours) = (1, 1 + Placement::LENGTH);
    assert!(!change(&short, of, 0) && !change(&short, of, 3), "prekeys are no inbox");
    assert!(!change(&short, of, 1), "a ticket is longer than a stamp");
    assert!(change(&short, hours, 0x4f) && !change(&short, hours, 0x51), "336 hours and no more");
    let look = Request::Look { placement: PREKEYS };
    assert!(!change(&look, of, 2) && !change(&look, of, 1), "an inbox is no prekeys");
    let list = owned(Ask::List { after: 0, patience: 0 });
    assert!(change(&list, 1 + Placement::LENGTH + 9, 2) && !change(&list, 1 + Placement::LENGTH + 9, 3));
    let register = owned(Ask::Register { list: 0, tickets: ticket::tests::list(), stamp: STAMP });
    assert!(change(&register, 1 + Placement::LENGTH, 7) && !change(&register, 1 + Placement::LENGTH, 8));
    let none = [&[DELETE][..], &PLACEMENT.encode(), &[0, 0]].concat();
    assert_eq!(Request::decode(&none), Err(MailboxError::Body(DELETE)));
    let entry = |class: u8| [&[LIST][..], &[0; 8], &[1, 0], &[4; 32], &[class], &[0; 4]].concat();
    assert!(
        Answer::decode(&entry(3)).is_ok() && Answer::decode(&entry(0)).is_err() && Answer::decode(&entry(4)).is_err()
    );
}

#[test]
fn zero_hours_are_refused() {
    let mut frame = body(&Request::Deposit(Deposit { hours: 1, ..deposit(&[1; 1792]) }).encode()).to_vec();
    frame[1 + Placement::LENGTH] = 0;
    assert_eq!(Request::decode(&frame), Err(MailboxError::Body(DEPOSIT)));
}

#[test]
fn lists_and_frames_have_bounds() {
    let many = |count: u16| {
        [&[DELETE][..], &PLACEMENT.encode(), &count.to_le_bytes(), &vec![1; usize::from(count) * 100]].concat()
    };
    assert!(Request::decode(&many(256)).is_ok() && Request::decode(&many(257)).is_err());
    let most = u32::try_from(MAILBOX_FRAME).unwrap();
    assert_eq!(frame_length(most.to_le_bytes()), Ok(MAILBOX_FRAME));
    assert_eq!(frame_length((most + 1).to_le_bytes()), Err(MailboxError::Length(most + 1)));
    assert_eq!(frame_length([0; 4]), Err(MailboxError::Length(0)));
}

#[test]
fn a_stranger_sends_no_long_letter_neither_by_deposit_nor_by_repair() {
    let with = |length: usize| [&[DEPOSIT][..], &REQUEST_INBOX.encode(), &[1, 0], &[7; 12], &vec![1; length]].concat();
    let taken = |length: usize| [&[TAKE, 1][..], &[7; 12], &vec![1; length]].concat();
    for (length, sent) in [(1792, true), (8192, true), (65_536, false)] {
        assert_eq!(Request::decode(&with(length)).is_ok(), sent, "{length}");
        assert_eq!(Answer::decode(&taken(length)).is_ok(), sent, "{length}");
    }
}

#[test]
#[should_panic = "strangers have stamps, contacts have tickets"]
fn a_stranger_has_no_ticket() {
    Request::Deposit(Deposit { inbox: REQUEST_INBOX, ..deposit(&[1; 1792]) }).encode();
}

#[test]
fn only_the_owner_asks_on_this_circuit_and_for_just_this() {
    let (network, mailbox) = (NetworkId::from_bytes([1; 32]), RelayId::from_bytes([2; 32]));
    let channel = Channel { network: &network, mailbox: &mailbox, binding: &[3; 32] };
    let inbox = Inbox::request(&network, person(1).address(), Day(20_000));
    let sign = |ask: &Ask| Owned::sign(inbox.placement(), ask.clone(), &channel, &inbox.secret(&person(1)));
    let asks = [
        Ask::List { after: 0, patience: 30 },
        Ask::Fetch(ID),
        Ask::Register { list: 0, tickets: ticket::tests::list(), stamp: STAMP },
    ];
    for ask in &asks {
        let signed = sign(ask);
        let frame = Request::Owned(signed.clone()).encode();
        let Ok(Request::Owned(heard)) = Request::decode(body(&frame)) else { panic!("{ask:?}") };
        assert!(heard.is_claimed(&channel));
        assert!(!heard.is_claimed(&Channel { binding: &[4; 32], ..channel }));
        for other in asks.iter().filter(|other| *other != ask) {
            assert!(!Owned { ask: other.clone(), ..signed.clone() }.is_claimed(&channel));
        }
        let elsewhere = Placement { key: BlindedKey::from_bytes([7; 32]), ..inbox.placement() };
        assert!(!Owned { inbox: elsewhere, ..signed.clone() }.is_claimed(&channel));
        assert!(!Owned { inbox: Placement { period: 1, ..inbox.placement() }, ..signed }.is_claimed(&channel));
    }
    let longer = Owned { ask: Ask::List { after: 0, patience: 31 }, ..sign(&asks[0]) };
    assert!(!longer.is_claimed(&channel));
}

proptest! {
    #[test]
    fn there_is_one_way_to_say_a_thing(kind in 0u8..=11, of in 1u8..=3, rest: Vec<u8>) {
        let frame = [&[kind, of][..], &[0; 36], &rest].concat();
        if let Ok(request) = Request::decode(&frame) {
            prop_assert_eq!(body(&request.encode()).to_vec(), frame.clone());
        }
        for frame in [frame, [&[kind][..], &rest].concat()] {
            if let Ok(answer) = Answer::decode(&frame) {
                prop_assert_eq!(body(&answer.encode()).to_vec(), frame);
            }
        }
    }
}
