use proptest::prelude::*;

use super::*;
use crate::{limits::MESSAGE, vectors};

fn encoded(message: &Message<'_>) -> [u8; MESSAGE] {
    let mut space = [0xee; MESSAGE];
    message.encode(&mut space);
    space
}

fn examples() -> Vec<Message<'static>> {
    let stream = StreamId(0x0102);
    let name = Host::parse("Example.ORG.").unwrap();
    let mut examples = vec![
        Message::Extend { relay: RelayId::from_bytes([3; 32]), create: &[1, 2, 3] },
        Message::Extended { created: &[0, 1, 2] },
        Message::Opened { stream },
        Message::Data { stream, bytes: b"hello" },
        Message::Data { stream, bytes: &[7; MAX_DATA] },
        Message::Credit { stream, bytes: MAX_CREDIT },
        Message::PadStart { budget: MAX_PAD_BUDGET },
        Message::Padding,
    ];
    let errors = [
        ExtendError::Busy(9),
        ExtendError::Refused,
        ExtendError::Unknown,
        ExtendError::Unreachable,
        ExtendError::Timeout,
        ExtendError::Limit,
    ];
    examples.extend(errors.map(Message::ExtendFailed));
    let targets = [
        Target::Exit { host: name.clone(), port: 443 },
        Target::Exit { host: Host::parse("192.0.2.1").unwrap(), port: 1 },
        Target::Exit { host: Host::parse("[2001:db8::1]").unwrap(), port: 65535 },
        Target::Resolve { host: name },
        Target::Directory,
        Target::Mailbox,
        Target::Service { port: 22 },
    ];
    examples.extend(targets.map(|target| Message::Open { stream, target }));
    examples.extend(Reason::ALL.map(|reason| Message::Close { stream, reason }));
    examples
}

#[test]
fn every_message_survives_its_encoding() {
    for message in examples() {
        assert_eq!(Message::decode(&encoded(&message)), Ok(message));
    }
}

#[test]
fn a_body_cut_or_lengthened_by_any_number_of_bytes_is_refused_or_another_message() {
    for message in examples() {
        let whole = encoded(&message);
        let (kind, body) = unframe(&whole).unwrap();
        for length in 0..body.len() {
            let mut cut = [0; MESSAGE];
            cut[0] = kind;
            cut[1..3].copy_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
            cut[3..3 + length].copy_from_slice(&body[..length]);
            match Message::decode(&cut) {
                Err(error) => assert_eq!(error, MessageError::Body(kind)),
                Ok(other) => {
                    assert_ne!(other, message);
                    assert_eq!(encoded(&other), cut, "a second form of one message");
                }
            }
        }
    }
}

#[test]
fn truncation_of_the_space_is_refused() {
    let whole = encoded(&Message::Data { stream: StreamId(1), bytes: &[7; MAX_DATA] });
    for length in 0..whole.len() {
        assert_eq!(Message::decode(&whole[..length]), Err(MessageError::Length));
    }
}

#[test]
fn values_out_of_bounds_are_refused() {
    let stream = StreamId(1);
    let too_much = [
        Message::Credit { stream, bytes: 0 },
        Message::Credit { stream, bytes: MAX_CREDIT + 1 },
        Message::PadStart { budget: 0 },
        Message::PadStart { budget: MAX_PAD_BUDGET + 1 },
        Message::Data { stream, bytes: b"" },
        Message::Open { stream, target: Target::Service { port: 0 } },
    ];
    for message in too_much {
        assert!(matches!(Message::decode(&encoded(&message)), Err(MessageError::Body(_))), "{message:?}");
    }
}

#[test]
fn an_unknown_type_target_or_reason_is_refused() {
    let mut space = encoded(&Message::Padding);
    for kind in (0..=u8::MAX).filter(|kind| !(EXTEND..=PADDING).contains(kind)) {
        space[0] = kind;
        assert_eq!(Message::decode(&space), Err(MessageError::Type(kind)));
    }
    let mut open = encoded(&Message::Open { stream: StreamId(1), target: Target::Directory });
    open[5] = 99;
    assert_eq!(Message::decode(&open), Err(MessageError::Body(OPEN)));
    let mut close = encoded(&Message::Close { stream: StreamId(1), reason: Reason::Done });
    close[5] = 99;
    assert_eq!(Message::decode(&close), Err(MessageError::Body(CLOSE)));
}

#[test]
fn a_name_in_another_form_is_refused_on_the_wire() {
    let mut open =
        encoded(&Message::Open { stream: StreamId(1), target: Target::Resolve { host: Host::parse("abc").unwrap() } });
    let at = open.iter().position(|byte| *byte == b'a').unwrap();
    open[at] = b'A';
    assert_eq!(Message::decode(&open), Err(MessageError::Body(OPEN)));
}

proptest! {
    #[test]
    fn whatever_decodes_has_no_other_form(kind in 0..12u8, body in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut space = [0; MESSAGE];
        space[0] = kind;
        space[1] = u8::try_from(body.len()).unwrap();
        space[3..3 + body.len()].copy_from_slice(&body);
        if let Ok(message) = Message::decode(&space) {
            prop_assert_eq!(encoded(&message), space);
        }
    }
}

#[test]
fn the_message_vectors_hold() {
    for vector in vectors::list(&vectors::circuit()["message"]) {
        let space = vectors::bytes(&vector["encoded"]);
        let framed = unframe(&space).map(|(kind, body)| (u64::from(kind), body.to_vec()));
        match vector["why"].as_str() {
            None => assert_eq!(framed, Ok((vector["type"].as_u64().unwrap(), vectors::bytes(&vector["body"])))),
            Some("padding is not zero") => assert_eq!(framed, Err(MessageError::Padding)),
            Some(_) => assert_eq!(framed, Err(MessageError::Length)),
        }
    }
}
