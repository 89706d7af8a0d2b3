use proptest::prelude::*;

use super::*;

/// What came of a greeting: the replies on the way, and the end.
type Outcome = (Vec<u8>, Result<Option<(Request, Bytes)>, SocksError>);

fn negotiate<'a>(fragments: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let (mut replies, mut negotiation, mut pipelined) = (Vec::new(), Negotiation::new(), Vec::new());
    let mut request = None;
    for fragment in fragments {
        if request.is_some() {
            pipelined.extend_from_slice(fragment);
            continue;
        }
        let mut step = negotiation.advance(fragment);
        negotiation = loop {
            match step {
                Ok(Step::Reply(reply, next)) => {
                    replies.extend_from_slice(reply);
                    step = next.advance(&[]);
                }
                Ok(Step::Incomplete(next)) => break next,
                Ok(Step::Request(asked, rest)) => {
                    pipelined.extend_from_slice(&rest);
                    request = Some(asked);
                    break Negotiation::new();
                }
                Err(error) => return (replies, Err(error)),
            }
        };
    }
    (replies, Ok(request.map(|request| (request, pipelined.into()))))
}

fn whole(bytes: &[u8]) -> Outcome {
    negotiate(std::iter::once(bytes))
}

fn error(bytes: &[u8]) -> SocksError {
    whole(bytes).1.unwrap_err()
}

fn name(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn connect(version: Version, host: &str, port: u16) -> Request {
    Request { command: Command::Connect { host: name(host), port }, isolation: Isolation::default(), version }
}

/// Greetings, the replies that they get before the last one, and what they ask for.
fn valid() -> Vec<(Vec<u8>, Vec<u8>, Request)> {
    let named5 = [&[5, 1, 0, 5, 1, 0, 3, 11][..], b"Example.com", &[1, 187]].concat();
    let password5 =
        [&[5, 2, 0, 2, 1, 5][..], b"alice", &[2], b"pw", &[5, 0xF0, 0, 3, 11], b"example.com", &[0, 0]].concat();
    let six = [&[5, 1, 0, 5, 1, 0, 4, 0x20, 1, 0xD, 0xB8][..], &[0; 11], &[1, 0, 80]].concat();
    let named4 = [&[4, 1, 0, 80, 0, 0, 0, 1][..], b"bob\0example.com.\0"].concat();
    let resolve = Request {
        command: Command::Resolve { host: name("example.com") },
        isolation: Isolation::new(&[b"password", b"alice", b"pw"]),
        version: Version::Five,
    };
    let bob = Isolation::new(&[b"user id", b"bob"]);
    vec![
        (named5, vec![5, 0], connect(Version::Five, "example.com", 443)),
        (password5, vec![5, 2, 1, 0], resolve),
        (vec![5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0, 80], vec![5, 0], connect(Version::Five, "192.0.2.1", 80)),
        (six, vec![5, 0], connect(Version::Five, "2001:db8::1", 80)),
        (named4, vec![], Request { isolation: bob, ..connect(Version::Four, "example.com", 80) }),
        (vec![4, 1, 0, 80, 192, 0, 2, 1, 0], vec![], connect(Version::Four, "192.0.2.1", 80)),
    ]
}

#[test]
fn a_valid_greeting_is_read_and_what_follows_it_is_the_streams() {
    for (mut bytes, replies, request) in valid() {
        bytes.extend_from_slice(b"GET /");
        let expected = (replies, Ok(Some((request, Bytes::from_static(b"GET /")))));
        assert_eq!(whole(&bytes), expected);
        assert_eq!(negotiate(bytes.chunks(1)), expected, "byte by byte");
    }
}

#[test]
fn every_truncation_of_a_valid_greeting_needs_more() {
    for (bytes, _, _) in valid() {
        for end in 0..bytes.len() {
            assert_eq!(whole(&bytes[..end]).1, Ok(None), "{:?}", &bytes[..end]);
        }
    }
}

#[test]
fn each_malformed_greeting_is_its_own_error() {
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1"[..], SocksError::Version(b'G')),
        (&[5, 0], SocksError::NoMethod),
        (&[5, 2, 1, 3], SocksError::NoMethod),
        (&[5, 1, 2, 5], SocksError::PasswordVersion(5)),
        (&[5, 1, 0, 4, 1, 0], SocksError::RequestVersion(4)),
        (&[5, 1, 0, 5, 1, 9], SocksError::Reserved(9)),
        (&[5, 1, 0, 5, 1, 0, 2], SocksError::AddressType(2)),
        (&[5, 1, 0, 5, 1, 0, 3, 0, 0, 80], SocksError::Host(Version::Five)),
        (&[5, 1, 0, 5, 1, 0, 3, 2, 0xFF, b'a', 0, 80], SocksError::Host(Version::Five)),
        (&[5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0, 0], SocksError::Port(Version::Five)),
        (&[4, 1, 0, 80, 0, 0, 0, 1, 0, b'a', b' ', 0], SocksError::Host(Version::Four)),
        (&[4, 1, 0, 0, 192, 0, 2, 1, 0], SocksError::Port(Version::Four)),
    ] {
        assert_eq!(error(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn what_is_not_served_is_refused_by_its_own_code() {
    for command in [2, 3, 0xF1] {
        let refused = error(&[5, 1, 0, 5, command, 0]);
        assert_eq!(refused, SocksError::Command(Version::Five, command));
        assert_eq!(refused.reply()[..2], [5, 7]);
        assert_eq!(error(&[4, command]).reply()[..2], [0, 91]);
    }
    assert_eq!(SocksError::NoMethod.reply(), [5, 0xFF]);
    assert_eq!(SocksError::AddressType(2).reply()[..2], [5, 8]);
}

#[test]
fn a_socks4_text_may_have_255_bytes_and_not_one_more() {
    let head = [4, 1, 0, 80, 192, 0, 2, 1];
    let user = [b'u'; MAX_SOCKS_FIELD + 1];
    assert_eq!(whole(&[&head[..], &user[1..]].concat()).1, Ok(None));
    assert!(matches!(whole(&[&head[..], &user[1..], &[0]].concat()).1, Ok(Some(_))));
    assert_eq!(error(&[&head[..], &user].concat()), SocksError::TooLong);
}

#[test]
fn programs_share_an_isolation_only_if_they_say_the_same() {
    let isolation = |user: &[u8], password: &[u8]| {
        let user = [&[u8::try_from(user.len()).unwrap()][..], user].concat();
        let password = [&[u8::try_from(password.len()).unwrap()][..], password].concat();
        let bytes = [&[5, 1, 2, 1][..], &user, &password, &[5, 1, 0, 1, 192, 0, 2, 1, 0, 80]].concat();
        whole(&bytes).1.unwrap().unwrap().0.isolation
    };
    assert_eq!(isolation(b"a", b"b"), isolation(b"a", b"b"));
    assert_ne!(isolation(b"a", b"b"), isolation(b"ab", b""));
    assert_ne!(isolation(b"", b""), Isolation::default());
}

#[test]
fn each_failure_has_its_reply_code() {
    let five = connect(Version::Five, "example.com", 80);
    let four = connect(Version::Four, "example.com", 80);
    for (error, code) in [
        (OpenError::Stream(Reason::Refused), 5),
        (OpenError::Stream(Reason::Unreachable), 4),
        (OpenError::Stream(Reason::NameNotFound), 4),
        (OpenError::Stream(Reason::Policy), 2),
        (OpenError::NoExit("none of the 8 relays exits to port 25".into()), 2),
        (OpenError::Stream(Reason::Timeout), 6),
        (OpenError::Stream(Reason::Internal), 1),
        (OpenError::NoPath("all guards are down".into()), 3),
        (OpenError::Timeout, 6),
        (OpenError::Shutdown, 1),
    ] {
        assert_eq!(five.failed(&error), [5, code, 0, 1, 0, 0, 0, 0, 0, 0], "{error}");
        assert_eq!(four.failed(&error), [0, 91, 0, 0, 0, 0, 0, 0], "{error}");
    }
}

#[test]
fn resolve_answers_with_an_address_that_the_version_can_express() {
    let (v4, v6) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x20; 16]));
    let five = connect(Version::Five, "example.com", 80);
    let four = connect(Version::Four, "example.com", 80);
    assert_eq!(five.resolved(&[v4, v6]), [5, 0, 0, 1, 192, 0, 2, 1, 0, 0]);
    assert_eq!(five.resolved(&[v6, v4]), [&[5, 0, 0, 4][..], &[0x20; 16], &[0, 0]].concat());
    assert_eq!(five.resolved(&[])[1], 4);
    assert_eq!(four.resolved(&[v6, v4]), [0, 90, 0, 0, 192, 0, 2, 1]);
    assert_eq!(four.resolved(&[v6])[1], 91);
    assert_eq!(five.granted(), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(four.granted(), [0, 90, 0, 0, 0, 0, 0, 0]);
}

proptest! {
    #[test]
    fn bytes_end_the_same_way_however_they_are_cut(
        head in prop::sample::select(vec![
            vec![], vec![4], vec![5], vec![5, 1, 0], vec![5, 1, 0, 5, 1, 0], vec![5, 1, 2, 1], vec![4, 1, 0, 80],
        ]),
        tail in prop::collection::vec(any::<u8>(), 0..700),
        size in 1_usize..40,
    ) {
        let bytes = [head, tail].concat();
        prop_assert_eq!(whole(&bytes), negotiate(bytes.chunks(size)));
    }
}
