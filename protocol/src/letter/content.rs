//! What a letter says: a kind, and the body of that kind.
//!
//! Specification: docs/protocol.md, "Letters". What a person reads is bounded and checked here; how it is shown is not.

use std::fmt;

use super::MessageId;
use crate::{
    limits::{FILE_BYTES, FILE_NAME, FILE_PIECE, GREETING, LETTER_TEXT, PERSON_NAME, RECEIPTS_LISTED},
    pass::Pass,
    period::Week,
    prekeys::PrekeysRecord,
    wire::Reader,
};

/// What a letter says. Its debug form tells the kind alone.
pub enum Content {
    /// Words: 1 to [`LETTER_TEXT`] bytes, with nothing in them that [`clean`] takes out.
    Text(String),
    /// A file that the other may have.
    FileOffer(FileOffer),
    /// Whether a file that was offered is wanted.
    FileAnswer {
        /// Which: the offer's name.
        file: MessageId,
        /// Yes, or no.
        wanted: bool,
    },
    /// A piece of a file that is wanted.
    FilePiece {
        /// Which file: the offer's name.
        file: MessageId,
        /// Which piece, from 0.
        piece: u16,
        /// 1 to [`FILE_PIECE`] bytes, and just as many for all pieces but the last.
        bytes: Vec<u8>,
    },
    /// What became of letters.
    Receipts(Receipts),
    /// A stranger's first letter: may I be a contact?
    Request(Contact, Box<Introduction>),
    /// To a request, or an invite: yes.
    Welcome(Contact),
    /// Where I am found from now on.
    Pass(Pass),
    /// My device is another one, and this begins its conversation.
    Renewal(Box<Published>),
    /// From now on letters go away so many seconds after they were shown; 0 for never.
    Timer(u32),
}

/// A file that is offered; the offer's own name is the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOffer {
    /// 1 to [`FILE_NAME`] bytes, and no path: no separators, no control characters, not `.` or `..`.
    pub name: String,
    /// 1 to [`FILE_BYTES`].
    pub size: u32,
    /// BLAKE3 of all of it.
    pub hash: [u8; 32],
}

/// That letters came, or were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipts {
    /// Read, or else delivered.
    pub read: bool,
    /// Which: 1 to [`RECEIPTS_LISTED`].
    pub letters: Vec<MessageId>,
}

/// How somebody becomes a contact.
#[derive(Debug)]
pub struct Contact {
    /// What the writer wants to be called: at most [`PERSON_NAME`] bytes, without control characters, those of direction among them.
    pub name: String,
    /// What the other needs to write back.
    pub pass: Pass,
}

/// What an invite is recognised by: 16 random bytes, which only its maker and whoever was invited know.
pub type InviteToken = [u8; 16];

/// What the writer published. Who has it need not look it up, which others could notice: their identity key is the one
/// that this conversation began with.
pub struct Published {
    /// The week of the record.
    pub week: Week,
    /// The writer's prekeys.
    pub prekeys: PrekeysRecord,
}

/// How a stranger shows who it is.
pub struct Introduction {
    /// What shows it.
    pub of: Published,
    /// The token of the invite that the writer has, if any; never zeros.
    pub token: Option<InviteToken>,
    /// Words to be recognised by: at most [`GREETING`] bytes, with nothing in them that [`clean`] takes out.
    pub greeting: String,
}

const TEXT: u8 = 1;
const FILE_OFFER: u8 = 2;
const FILE_ANSWER: u8 = 3;
const FILE_PIECE_KIND: u8 = 4;
const RECEIPTS: u8 = 5;
const REQUEST: u8 = 6;
const WELCOME: u8 = 7;
const PASS: u8 = 8;
const RENEWAL: u8 = 9;
const TIMER: u8 = 10;

impl Content {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Text(_) => TEXT,
            Self::FileOffer(_) => FILE_OFFER,
            Self::FileAnswer { .. } => FILE_ANSWER,
            Self::FilePiece { .. } => FILE_PIECE_KIND,
            Self::Receipts(_) => RECEIPTS,
            Self::Request(..) => REQUEST,
            Self::Welcome(_) => WELCOME,
            Self::Pass(_) => PASS,
            Self::Renewal(_) => RENEWAL,
            Self::Timer(_) => TIMER,
        }
    }

    pub(super) fn is_kind(kind: u8) -> bool {
        (TEXT..=TIMER).contains(&kind)
    }

    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                assert!(is_text(text), "a text of {} bytes", text.len());
                bytes.extend_from_slice(text.as_bytes());
            }
            Self::FileOffer(offer) => offer.put(bytes),
            Self::FileAnswer { file, wanted } => {
                bytes.extend(file.0);
                bytes.push((*wanted).into());
            }
            Self::FilePiece { file, piece, bytes: part } => {
                assert!(is_piece(*piece, part), "piece {piece} of {} bytes", part.len());
                bytes.extend(file.0);
                bytes.extend(piece.to_le_bytes());
                bytes.extend_from_slice(part);
            }
            Self::Receipts(receipts) => receipts.put(bytes),
            Self::Request(contact, introduction) => {
                contact.put(bytes);
                introduction.put(bytes);
            }
            Self::Welcome(contact) => contact.put(bytes),
            Self::Pass(pass) => pass.put(bytes),
            Self::Renewal(of) => of.put(bytes),
            Self::Timer(seconds) => bytes.extend(seconds.to_le_bytes()),
        }
    }

    pub(super) fn read(kind: u8, body: &mut Reader<'_>) -> Option<Self> {
        Some(match kind {
            TEXT => Self::Text(text(body.rest()).filter(|text| is_text(text))?),
            FILE_OFFER => Self::FileOffer(FileOffer::read(body)?),
            FILE_ANSWER => Self::FileAnswer { file: MessageId(body.array()?), wanted: flag(body)? },
            FILE_PIECE_KIND => {
                let (file, piece, bytes) = (MessageId(body.array()?), body.u16()?, body.rest());
                is_piece(piece, bytes).then(|| Self::FilePiece { file, piece, bytes: bytes.to_vec() })?
            }
            RECEIPTS => Self::Receipts(Receipts::read(body)?),
            REQUEST => Self::Request(Contact::read(body)?, Box::new(Introduction::read(body)?)),
            WELCOME => Self::Welcome(Contact::read(body)?),
            PASS => Self::Pass(Pass::read(body)?),
            RENEWAL => Self::Renewal(Box::new(Published::read(body)?)),
            TIMER => Self::Timer(body.u32()?),
            _ => return None,
        })
    }
}

impl FileOffer {
    /// How many pieces it comes in: all but the last of [`FILE_PIECE`] bytes.
    pub fn pieces(&self) -> u16 {
        let piece = u32::try_from(FILE_PIECE).unwrap_or(u32::MAX);
        u16::try_from(self.size.div_ceil(piece)).unwrap_or(u16::MAX)
    }

    fn is_bounded(&self) -> bool {
        let is_path = matches!(self.name.as_str(), "." | "..") || self.name.contains(['/', '\\']);
        let is_named = (1..=FILE_NAME).contains(&self.name.len()) && !has_controls(&self.name);
        is_named && !is_path && (1..=FILE_BYTES).contains(&self.size)
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        assert!(self.is_bounded(), "a file has a name and a size");
        bytes.extend(self.size.to_le_bytes());
        bytes.extend(self.hash);
        bytes.extend_from_slice(self.name.as_bytes());
    }

    fn read(body: &mut Reader<'_>) -> Option<Self> {
        let (size, hash) = (body.u32()?, body.array()?);
        Some(Self { name: text(body.rest())?, size, hash }).filter(Self::is_bounded)
    }
}

impl Receipts {
    fn put(&self, bytes: &mut Vec<u8>) {
        assert!((1..=RECEIPTS_LISTED).contains(&self.letters.len()), "{} receipts", self.letters.len());
        bytes.push(self.read.into());
        self.letters.iter().for_each(|letter| bytes.extend(letter.0));
    }

    fn read(body: &mut Reader<'_>) -> Option<Self> {
        let read = flag(body)?;
        let (letters, []) = body.rest().as_chunks() else { return None };
        let letters: Vec<_> = letters.iter().map(|letter| MessageId(*letter)).collect();
        (1..=RECEIPTS_LISTED).contains(&letters.len()).then_some(Self { read, letters })
    }
}

impl Contact {
    fn put(&self, bytes: &mut Vec<u8>) {
        assert!(is_name(&self.name), "a name of {} bytes", self.name.len());
        bytes.push(u8::try_from(self.name.len()).expect("a name is short"));
        bytes.extend_from_slice(self.name.as_bytes());
        self.pass.put(bytes);
    }

    fn read(body: &mut Reader<'_>) -> Option<Self> {
        let length = body.byte()?.into();
        let name = text(body.take(length)?).filter(|name| is_name(name))?;
        Some(Self { name, pass: Pass::read(body)? })
    }
}

impl Published {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.week.0.to_le_bytes());
        bytes.extend_from_slice(self.prekeys.as_bytes());
    }

    fn read(body: &mut Reader<'_>) -> Option<Self> {
        Some(Self { week: Week(body.u32()?), prekeys: PrekeysRecord::from_bytes(body.take_array()?) })
    }
}

impl Introduction {
    fn put(&self, bytes: &mut Vec<u8>) {
        assert!(is_greeting(&self.greeting), "a greeting of {} bytes", self.greeting.len());
        self.of.put(bytes);
        bytes.extend(self.token.unwrap_or_default());
        bytes.extend_from_slice(self.greeting.as_bytes());
    }

    fn read(body: &mut Reader<'_>) -> Option<Self> {
        let of = Published::read(body)?;
        let token = Some(body.array()?).filter(|token| *token != InviteToken::default());
        let greeting = text(body.rest()).filter(|greeting| is_greeting(greeting))?;
        Some(Self { of, token, greeting })
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    str::from_utf8(bytes).ok().map(str::to_owned)
}

fn flag(body: &mut Reader<'_>) -> Option<bool> {
    match body.byte()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// These words without what would change how a screen shows others: control characters but for line breaks and tabs (an
/// ESC commands a terminal), and those that turn the direction of what comes after them.
pub fn clean(text: &str) -> String {
    text.chars().filter(|character| !is_command(*character)).collect()
}

fn is_command(character: char) -> bool {
    let is_control = character.is_control() && !matches!(character, '\n' | '\t');
    is_control || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_text(text: &str) -> bool {
    (1..=LETTER_TEXT).contains(&text.len()) && !text.contains(is_command)
}

fn is_greeting(text: &str) -> bool {
    text.len() <= GREETING && !text.contains(is_command)
}

fn is_name(name: &str) -> bool {
    name.len() <= PERSON_NAME && !has_controls(name)
}

/// Whether a name of something can be shown as it is: it has no control characters, and none that change what stands
/// around it.
pub fn is_plain(text: &str) -> bool {
    !has_controls(text)
}

fn has_controls(text: &str) -> bool {
    let is_mark = |character| matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}');
    text.chars().any(|character| character.is_control() || is_command(character) || is_mark(character))
}

fn is_piece(piece: u16, bytes: &[u8]) -> bool {
    let most = u64::from(FILE_BYTES).div_ceil(u64::try_from(FILE_PIECE).unwrap_or(u64::MAX));
    u64::from(piece) < most && (1..=FILE_PIECE).contains(&bytes.len())
}

impl fmt::Debug for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Introduction({:?}, token: {})", self.of.week, self.token.is_some())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content(kind {})", self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_person_reads_commands_a_terminal_or_turns_what_others_wrote() {
        let hidden = ["\u{1b}[2J", "\r", "\u{7f}", "\u{9b}", "\u{0}", "\u{202e}", "\u{2066}", "\u{2069}"];
        for part in hidden {
            let text = format!("a{part}b");
            assert!(!is_text(&text) && !is_greeting(&text) && !is_name(&text), "{text:?}");
            assert!(is_text(&clean(&text)), "{text:?}");
            let offer = FileOffer { name: text, size: 1, hash: [0; 32] };
            assert!(!offer.is_bounded(), "{offer:?}");
        }
        let whole = "two lines\n\tof שלום\u{200f} and مرحبا";
        assert!(is_text(whole) && is_greeting(whole) && clean(whole) == whole);
        assert!(is_name("שלום") && !is_name("שלום\u{200f}") && !is_name("a\u{2028}b"));
    }

    #[test]
    fn what_was_said_with_hidden_characters_is_not_read() {
        let mut body = Reader::new(b"a\x1b[2J");
        assert!(Content::read(TEXT, &mut body).is_none());
        assert!(Content::read(TEXT, &mut Reader::new(b"a[2J")).is_some());
    }
}
