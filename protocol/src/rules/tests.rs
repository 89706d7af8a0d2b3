use super::*;
use crate::{
    identity::RelayId,
    message::{ExtendError, Reason, StreamId, Target},
};

const STREAM: StreamId = StreamId(1);

/// One message of every type.
fn messages() -> [Message<'static>; 10] {
    [
        Message::Extend { relay: RelayId::from_bytes([1; 32]), create: b"" },
        Message::Extended { created: b"\0" },
        Message::ExtendFailed(ExtendError::Unknown),
        Message::Open { stream: STREAM, target: Target::Directory },
        Message::Opened { stream: STREAM },
        Message::Data { stream: STREAM, bytes: b"x" },
        Message::Credit { stream: STREAM, bytes: 1 },
        Message::Close { stream: STREAM, reason: Reason::Done },
        Message::PadStart { budget: MAX_PAD_BUDGET },
        Message::Padding,
    ]
}

/// What `check` answers for each type of [`messages`], in a state made anew for each.
fn row(check: impl Fn(&Message<'_>) -> Result<(), Violation>) -> [Option<Violation>; 10] {
    messages().map(|message| check(&message).err())
}

const DIRECTION: Option<Violation> = Some(Violation::Direction);

#[test]
fn the_hops_table_is_as_specified() {
    let fresh = HopRules::default;
    let extending = || {
        let mut rules = fresh();
        rules.check(&messages()[0]).unwrap();
        rules
    };
    let extended = || {
        let mut rules = extending();
        rules.extend_done();
        rules
    };
    let failed = || {
        let mut rules = extending();
        rules.extend_failed();
        rules
    };
    let allowed = [None, DIRECTION, DIRECTION, None, DIRECTION, None, None, None, None, None];
    let mut no_extend = allowed;
    no_extend[0] = Some(Violation::Extend);
    assert_eq!(row(|message| fresh().check(message)), allowed);
    assert_eq!(row(|message| failed().check(message)), allowed);
    assert_eq!(row(|message| extending().check(message)), no_extend);
    assert_eq!(row(|message| extended().check(message)), no_extend);
    assert!(extended().has_next() && !extending().has_next() && !failed().has_next());
}

#[test]
fn a_hop_is_not_asked_to_extend_without_end() {
    let mut rules = HopRules::default();
    for _ in 0..MAX_EXTENDS {
        rules.check(&messages()[0]).unwrap();
        rules.extend_failed();
    }
    assert_eq!(rules.check(&messages()[0]), Err(Violation::Extend));
}

#[test]
fn padding_is_owed_as_often_as_asked_and_within_its_bound() {
    let mut rules = HopRules::default();
    rules.check(&Message::PadStart { budget: 3 }).unwrap();
    assert_eq!(rules.check(&Message::PadStart { budget: MAX_PAD_BUDGET }), Err(Violation::Padding));
    assert_eq!((rules.take_padding(), rules.take_padding()), (3, 0));
    rules.check(&Message::PadStart { budget: MAX_PAD_BUDGET }).unwrap();
}

#[test]
fn the_origins_table_is_as_specified() {
    // A circuit of two hops, with budget for padding from hop 1 only.
    let idle = || {
        let mut rules = OriginRules::new();
        assert!(rules.start_extend());
        rules.check(0, &Message::Extended { created: b"\0" }).unwrap();
        rules.start_padding(1, 1);
        rules
    };
    let extending = || {
        let mut rules = idle();
        assert!(rules.start_extend());
        rules
    };
    let not_owed = Some(Violation::Extended);
    let no_padding = Some(Violation::Padding);
    let streams = [DIRECTION, None, None, None, None];
    let row_of = |extended: Option<Violation>, padding: Option<Violation>| {
        let [open, opened, data, credit, close] = streams;
        [DIRECTION, extended, extended, open, opened, data, credit, close, DIRECTION, padding]
    };
    assert_eq!(row(|message| idle().check(0, message)), row_of(not_owed, no_padding));
    assert_eq!(row(|message| idle().check(1, message)), row_of(not_owed, None));
    assert_eq!(row(|message| extending().check(0, message)), row_of(not_owed, no_padding));
    assert_eq!(row(|message| extending().check(1, message)), row_of(None, None));
}

#[test]
fn one_extension_at_a_time_and_six_hops_at_most() {
    let mut rules = OriginRules::new();
    while rules.hops() < MAX_HOPS {
        assert!(rules.start_extend());
        assert!(!rules.start_extend());
        rules.check(rules.hops() - 1, &Message::Extended { created: b"\0" }).unwrap();
    }
    assert!(!rules.start_extend());
}

#[test]
fn a_failed_extension_adds_no_hop_and_may_be_tried_again() {
    let mut rules = OriginRules::new();
    assert!(rules.start_extend());
    rules.check(0, &Message::ExtendFailed(ExtendError::Timeout)).unwrap();
    assert_eq!(rules.hops(), 1);
    assert!(rules.start_extend());
}

#[test]
fn padding_ends_with_its_budget() {
    let mut rules = OriginRules::new();
    rules.start_padding(0, 2);
    assert_eq!(rules.check(0, &Message::Padding), Ok(()));
    assert_eq!(rules.check(0, &Message::Padding), Ok(()));
    assert_eq!(rules.check(0, &Message::Padding), Err(Violation::Padding));
}
