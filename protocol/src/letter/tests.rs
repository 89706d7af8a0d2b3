use proptest::prelude::*;

use super::{
    content::{Content, Introduction, Published},
    *,
};
use crate::{
    envelope::SizeClass,
    limits::{FILE_BYTES, FILE_NAME, FILE_PIECE, LETTER_TEXT, PERSON_NAME, RATCHET_MESSAGE, RECEIPTS_LISTED},
    pass::tests::pass,
    period::Week,
    prekeys,
};

const FILE: MessageId = MessageId([6; 16]);

fn offer() -> FileOffer {
    FileOffer { name: "photo.jpg".into(), size: 70_000, hash: [7; 32] }
}

fn contact() -> Contact {
    Contact { name: "Alice".into(), pass: pass() }
}

fn introduction(greeting: String) -> Box<Introduction> {
    let token = Some([9; 16]).filter(|_| greeting.len() > 5);
    Box::new(Introduction { of: published(), token, greeting })
}

fn published() -> Published {
    Published { week: Week(2900), prekeys: prekeys::tests::record() }
}

fn contents() -> Vec<Content> {
    vec![
        Content::Text("hi".into()),
        Content::Text("é".repeat(LETTER_TEXT / 2)),
        Content::FileOffer(offer()),
        Content::FileOffer(FileOffer { name: "n".repeat(FILE_NAME), size: FILE_BYTES, ..offer() }),
        Content::FileAnswer { file: FILE, wanted: true },
        Content::FileAnswer { file: FILE, wanted: false },
        Content::FilePiece { file: FILE, piece: 0, bytes: vec![1] },
        Content::FilePiece { file: FILE, piece: 170, bytes: vec![1; FILE_PIECE] },
        Content::Receipts(Receipts { read: false, letters: vec![FILE] }),
        Content::Receipts(Receipts { read: true, letters: vec![FILE; RECEIPTS_LISTED] }),
        Content::Request(contact(), introduction("We met in Utrecht".into())),
        Content::Request(Contact { name: "n".repeat(PERSON_NAME), ..contact() }, introduction("g".repeat(1024))),
        Content::Welcome(contact()),
        Content::Pass(pass()),
        Content::Renewal(Box::new(published())),
        Content::Timer(86_400),
    ]
}

fn letter(content: Content) -> Letter {
    let place = Place { device: 2, sequence: 300 };
    Letter { id: MessageId([5; 16]), place, written: Hour(500_000), content }
}

/// The bytes of a letter of this kind with this body.
fn with(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = letter(Content::Timer(0)).encode();
    bytes.truncate(bytes.len() - 5);
    [&bytes[..], &[kind], body].concat()
}

#[test]
fn every_kind_survives_and_no_part_of_it_says_the_same() {
    for content in contents() {
        let bytes = letter(content).encode();
        let heard = Letter::decode(&bytes).unwrap();
        assert_eq!((heard.id, heard.place.device, heard.place.sequence), (MessageId([5; 16]), 2, 300));
        assert_eq!((heard.written, heard.encode()), (Hour(500_000), bytes.clone()));
        for length in (0..bytes.len().min(200)).chain(bytes.len().saturating_sub(50)..bytes.len()) {
            if let Ok(part) = Letter::decode(&bytes[..length]) {
                assert_eq!(part.encode(), bytes[..length]);
                assert!(matches!(part.content.kind(), 1 | 2 | 4 | 5 | 6), "only what ends with bytes of its own");
            }
        }
    }
}

#[test]
fn the_longest_letter_fits_an_envelope_and_a_short_text_a_short_one() {
    let longest = contents().into_iter().map(|content| letter(content).encode().len()).max().unwrap();
    assert_eq!(longest, 30 + 18 + FILE_PIECE);
    assert!(longest + 1024 <= RATCHET_MESSAGE, "with what Olm adds, which is below 1 KiB");
    assert!(RATCHET_MESSAGE + 34 <= SizeClass::Long.room());
    let short = letter(Content::Text("x".repeat(320))).encode().len();
    assert!(34 + 240 + 16 + short <= SizeClass::Short.room(), "with its mark, and what Olm adds to a first message");
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let head = [&[1][..], &[5; 16], &[2, 0, 0, 0], &[44, 1, 0, 0], &[0x20, 0xa1, 7, 0]].concat();
    let cases: [(Content, Vec<u8>); 5] = [
        (Content::Text("hi".into()), b"\x01hi".to_vec()),
        (Content::FileOffer(offer()), [&[2, 0x70, 0x11, 1, 0][..], &[7; 32], b"photo.jpg"].concat()),
        (Content::FileAnswer { file: FILE, wanted: true }, [&[3][..], &[6; 16], &[1]].concat()),
        (Content::Receipts(Receipts { read: true, letters: vec![FILE; 2] }), [&[5, 1][..], &[6; 32]].concat()),
        (Content::Timer(60), vec![10, 60, 0, 0, 0]),
    ];
    for (content, body) in cases {
        assert_eq!(letter(content).encode(), [&head[..], &body].concat());
    }
}

#[test]
fn bounds_hold() {
    let refused: Vec<(u8, Vec<u8>)> = vec![
        (1, vec![]),
        (1, vec![b'a'; LETTER_TEXT + 1]),
        (1, vec![0xff]),
        (2, [&[0; 4][..], &[7; 32], b"name"].concat()),
        (2, [&(FILE_BYTES + 1).to_le_bytes()[..], &[7; 32], b"name"].concat()),
        (2, [&[1, 0, 0, 0][..], &[7; 32], &vec![b'n'; FILE_NAME + 1]].concat()),
        (3, [&[6; 16][..], &[2]].concat()),
        (4, [&[6; 16][..], &[0, 0]].concat()),
        (4, [&[6; 16][..], &[171, 0], &[1]].concat()),
        (4, [&[6; 16][..], &[0, 0], &vec![1; FILE_PIECE + 1]].concat()),
        (5, vec![1]),
        (5, vec![6; 17]),
        (5, [&[1][..], &vec![6; 16 * (RECEIPTS_LISTED + 1)]].concat()),
        (9, vec![0]),
        (10, vec![0; 3]),
    ];
    for (kind, body) in refused {
        assert_eq!(Letter::decode(&with(kind, &body)).err(), Some(LetterError::Form), "{kind} {}", body.len());
    }
    for kind in [0, 11, 255] {
        assert_eq!(Letter::decode(&with(kind, &[])).err(), Some(LetterError::Kind(kind)));
    }
    assert_eq!(Letter::decode(&[2]).err(), Some(LetterError::Version(2)));
    assert_eq!(Letter::decode(&[]).err(), Some(LetterError::Form));
}

#[test]
fn a_files_name_is_no_path_and_a_persons_has_no_controls() {
    let offered = |name: &str| {
        let body = [&[1, 0, 0, 0][..], &[7; 32], name.as_bytes()].concat();
        Letter::decode(&with(2, &body)).is_ok()
    };
    for name in ["", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "a\nb", "a\0", "\u{1b}[2J"] {
        assert!(!offered(name), "{name:?}");
    }
    assert!(["...", "a b.txt", ".profile", "ключ"].into_iter().all(offered));
    let mut bytes = vec![];
    pass().put(&mut bytes);
    let called = |name: &str| {
        let length = u8::try_from(name.len()).unwrap();
        Letter::decode(&with(7, &[&[length], name.as_bytes(), &bytes].concat())).is_ok()
    };
    assert!(called("") && called("Zoë") && !called("a\u{7}") && !called(&"n".repeat(PERSON_NAME + 1)));
}

#[test]
fn a_file_comes_in_as_many_pieces_as_it_takes() {
    let pieces = |size| FileOffer { size, ..offer() }.pieces();
    assert_eq!([1, 61_440, 61_441, 122_880, FILE_BYTES].map(pieces), [1, 1, 2, 2, 171]);
}

#[test]
fn a_letter_does_not_print_what_it_says() {
    let printed = format!("{:?}", letter(Content::Text("secret".into())));
    assert!(printed.contains("Content(kind 1)") && !printed.contains("secret"));
}

proptest! {
    #[test]
    fn there_is_one_way_to_say_a_thing(kind in 0u8..12, body: Vec<u8>) {
        let bytes = with(kind, &body);
        if let Ok(letter) = Letter::decode(&bytes) {
            prop_assert_eq!(letter.encode(), bytes);
        }
    }
}
