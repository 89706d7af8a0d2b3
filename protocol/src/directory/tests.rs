use proptest::prelude::*;

use super::*;
use crate::entry::AddressError;

fn addresses(text: &str) -> RelayAddresses {
    text.parse().unwrap()
}

fn greeting(seen: Option<&str>) -> Greeting {
    Greeting {
        minutes: 29_000_000,
        network: NetworkId::from_bytes([7; 32]),
        records: 10_000,
        usable: [9; 32],
        epoch: Epoch(83_333),
        seen: seen.map(|text| text.parse().unwrap()),
    }
}

fn requests() -> Vec<Request<'static>> {
    vec![
        Request::Hello,
        Request::Reconcile { begin: Some(Salt([1; 16])), message: b"first" },
        Request::Reconcile { begin: None, message: &[2; RECONCILE_FRAME] },
        Request::Want(vec![]),
        Request::Want((0..DIRECTORY_LIST).map(|n| SaltedId([u8::try_from(n).unwrap(); 32])).collect()),
        Request::Push { records: vec![b"a record", &[3; MAX_RECORD]], frauds: vec![&[4; MAX_FRAUD]] },
        Request::Push { records: vec![], frauds: vec![] },
        Request::Usable { salt: Salt([5; 16]), offset: 70_000 },
        Request::Reach(addresses("192.0.2.7:9001,[2001:db8::7]:9002")),
        Request::Reach(addresses("[2001:db8::7]:9002")),
        Request::Frauds { offset: 256 },
        Request::Sight(vec![&[5; MAX_SIGHTING], b"a sighting"]),
        Request::Sightings(vec![]),
        Request::Sightings((0..SIGHTINGS_MAX).map(|n| SightingName([u8::try_from(n % 256).unwrap(); 16])).collect()),
    ]
}

fn answers() -> Vec<Answer<'static>> {
    let member = Member { name: *b"a member", class: AgeClass::Old, said: *b"said" };
    vec![
        Answer::Refused(Refusal::NotForYou),
        Answer::Refused(Refusal::NotReady),
        Answer::Hello(greeting(None)),
        Answer::Hello(greeting(Some("192.0.2.7:9001"))),
        Answer::Hello(greeting(Some("[2001:db8::7]:9001"))),
        Answer::Reconcile(b"an answer"),
        Answer::Records(vec![b"a record", b"", &[3; MAX_RECORD]]),
        Answer::Taken(3),
        Answer::Usable { epoch: Epoch(1), total: 0, members: vec![] },
        Answer::Usable { epoch: Epoch(1), total: 9000, members: vec![member; DIRECTORY_MEMBERS] },
        Answer::Reach(vec![Reach::Reached, Reach::TooSoon]),
        Answer::Reach(vec![Reach::NotYours]),
        Answer::Frauds(vec![&[4; MAX_FRAUD]; 3]),
        Answer::Sightings(vec![&[5; MAX_SIGHTING]; 30]),
    ]
}

/// A frame without its length, which is checked.
fn body(frame: &[u8]) -> &[u8] {
    let (length, body) = frame.split_first_chunk().unwrap();
    assert_eq!(frame_length(*length), Ok(body.len()));
    body
}

#[test]
fn what_is_said_survives_and_no_part_of_it_says_the_same() {
    for request in requests() {
        let frame = request.encode();
        assert_eq!(Request::decode(body(&frame)), Ok(request.clone()));
        for length in 0..body(&frame).len() {
            assert_ne!(Request::decode(&body(&frame)[..length]), Ok(request.clone()));
        }
    }
    for answer in answers() {
        let frame = answer.encode();
        assert_eq!(Answer::decode(body(&frame)), Ok(answer.clone()));
        for length in 0..body(&frame).len() {
            assert_ne!(Answer::decode(&body(&frame)[..length]), Ok(answer.clone()));
        }
    }
}

#[test]
fn nothing_may_follow_and_only_what_ends_with_bytes_of_its_own_takes_them() {
    let grow = |frame: &[u8]| [body(frame), &[0]].concat();
    for request in requests() {
        let longer = grow(&request.encode());
        let open = matches!(request, Request::Reconcile { message, .. } if message.len() < RECONCILE_FRAME);
        assert_eq!(Request::decode(&longer).is_ok(), open, "{request:?}");
    }
    for answer in answers() {
        let longer = grow(&answer.encode());
        let open = matches!(answer, Answer::Reconcile(_)) || answer == Answer::Reach(vec![Reach::NotYours]);
        assert_eq!(Answer::decode(&longer).is_ok(), open, "{answer:?}");
    }
}

#[test]
fn a_frame_has_bounds() {
    assert_eq!(frame_length([0; 4]), Err(DirectoryError::Length(0)));
    let most = u32::try_from(DIRECTORY_FRAME).unwrap();
    assert_eq!(frame_length(most.to_le_bytes()), Ok(DIRECTORY_FRAME));
    assert_eq!(frame_length((most + 1).to_le_bytes()), Err(DirectoryError::Length(most + 1)));
    assert_eq!(frame_length([0xff; 4]), Err(DirectoryError::Length(u32::MAX)));
    assert_eq!(Request::decode(&[]), Err(DirectoryError::Length(0)));
}

#[test]
fn unknown_types_and_values_are_refused() {
    for kind in [REFUSED, 10, 255] {
        assert_eq!(Request::decode(&[kind]), Err(DirectoryError::Type(kind)));
    }
    assert_eq!(Answer::decode(&[9]), Err(DirectoryError::Type(9)));
    let refused: [&[u8]; 8] = [
        &[REFUSED, 0],
        &[REFUSED, 5],
        &[REACH],
        &[REACH, 5],
        &[REACH, 0, 0, 0],
        &[RECONCILE],
        &[USABLE, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 9, 9, 9, 9], // there is no class 3
        &[WANT, 1, 0, 65, 1], // a record of 321 bytes, which is not there
    ];
    for frame in refused {
        let [kind, ..] = frame else { unreachable!() };
        assert_eq!(Answer::decode(frame), Err(DirectoryError::Body(*kind)), "{frame:?}");
    }
    let refused: [&[u8]; 7] = [
        &[RECONCILE, 0],
        &[RECONCILE, 2, 1],
        &[PUSH, 1, 0, 0, 0, 0, 0], // an empty record
        &[REACH, 0],
        &[REACH, 4, 192, 0, 2, 7, 1, 0],
        &[REACH, 1, 192, 0, 2, 7, 0, 0], // port 0
        &[WANT, 1, 1],                   // 257 names
    ];
    for frame in refused {
        let [kind, ..] = frame else { unreachable!() };
        assert_eq!(Request::decode(frame), Err(DirectoryError::Body(*kind)), "{frame:?}");
    }
}

#[test]
fn lists_and_messages_have_bounds() {
    let list = |count: u16, length: u16| {
        let item = [&length.to_le_bytes()[..], &vec![1; length.into()]].concat();
        [&count.to_le_bytes()[..], &item.repeat(count.into())].concat()
    };
    let answer = |kind: u8, list: Vec<u8>| Answer::decode(&[&[kind][..], &list].concat()).is_ok();
    assert!(answer(WANT, list(256, 1)) && !answer(WANT, list(257, 1)));
    assert!(answer(WANT, list(1, 320)) && !answer(WANT, list(1, 321)));
    assert!(answer(FRAUDS, list(1, 642)) && !answer(FRAUDS, list(1, 643)) && !answer(FRAUDS, list(1, 0)));
    assert!(answer(RECONCILE, vec![1; RECONCILE_FRAME]) && !answer(RECONCILE, vec![1; RECONCILE_FRAME + 1]));
}

#[test]
fn as_many_items_as_fit_one_frame_are_taken_in_order() {
    let few = [b"one".as_slice(), b"", b"three"];
    assert_eq!(fitting(few), few);
    let short = [7; 100];
    assert_eq!(fitting(std::iter::repeat_n(&short[..], 1000)).len(), DIRECTORY_LIST);
    let long = [7; MAX_FRAUD];
    let fits = fitting(std::iter::repeat_n(&long[..], 1000));
    assert_eq!(fits.len(), (DIRECTORY_FRAME - 5) / (2 + MAX_FRAUD));
    assert!(Answer::Frauds(fits.clone()).encode().len() <= FRAME_HEADER + DIRECTORY_FRAME);
    assert!(Request::Push { records: vec![], frauds: fits }.encode().len() <= FRAME_HEADER + DIRECTORY_FRAME);
}

#[test]
fn an_address_that_nobody_can_have_is_not_told() {
    let unusable = greeting(Some("[::ffff:192.0.2.7]:1"));
    assert!(matches!(RelayAddresses::new(unusable.seen), Err(AddressError::Unusable(_))));
    let frame = Answer::Hello(unusable).encode();
    assert_eq!(Answer::decode(body(&frame)), Ok(Answer::Hello(greeting(None))));
}

proptest! {
    #[test]
    fn there_is_one_way_to_say_a_thing(kind in 0u8..=8, rest: Vec<u8>) {
        let frame = [&[kind][..], &rest].concat();
        if let Ok(request) = Request::decode(&frame) {
            prop_assert_eq!(body(&request.encode()).to_vec(), frame.clone());
        }
        if let Ok(answer) = Answer::decode(&frame) {
            prop_assert_eq!(body(&answer.encode()).to_vec(), frame.clone());
        }
    }
}
