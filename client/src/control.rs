//! Control: what other programs ask of the running `trefoil up`, and what it answers.
//!
//! Specification: docs/control.md. Lines of JSON on a Unix socket that only its user can open. Commands of this program
//! use it as bots do; where nobody runs, a command does the same for itself (`desk.rs`). This file is the words only.

pub mod caller;

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of these words: a program that does not know it should not go on.
pub const VERSION: u32 = 1;
/// The socket's name in a profile's directory.
pub const SOCKET: &str = "control.sock";

/// A line from a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// A number of the program's choice, by which it finds the answer.
    pub id: u64,
    /// What it asks.
    #[serde(flatten)]
    pub request: Request,
}

/// A line to a program: an answer, or an event where it follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// What it asked was done.
    Done {
        /// The call's number.
        id: u64,
        /// The answer.
        ok: Answer,
    },
    /// What it asked was not done.
    Failed {
        /// The call's number; 0 where it could not be read.
        id: u64,
        /// Why.
        error: Problem,
    },
    /// Something has happened.
    Event {
        /// What.
        event: Event,
    },
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people: what happened, and what to do.
    pub text: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The line is no call.
    BadCall,
    /// No contact of this name.
    UnknownContact,
    /// Several contacts could be meant.
    Ambiguous,
    /// No letter, file or invite of this name.
    Unknown,
    /// Not an address, an invite or a name.
    BadInput,
    /// An invite that counts no more, or of another network.
    BadInvite,
    /// The contact's state does not allow it: blocked, not accepted, known already.
    State,
    /// Too many of something.
    TooMany,
    /// Too long, too large.
    TooLarge,
    /// The person's store.
    Store,
}

/// What can be asked. A contact is named by its name or its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", rename_all_fields = "snake_case")]
pub enum Request {
    /// Which version this is, and whose profile: [`Answer::Me`].
    Me,
    /// The 24 words: [`Answer::Phrase`].
    Phrase,
    /// A new invite: [`Answer::Invite`].
    Invite {
        /// What the person calls it.
        name: String,
        /// How many hours it counts.
        hours: u32,
        /// Whether it counts more than once.
        reusable: bool,
    },
    /// All invites that count: [`Answer::Invites`].
    Invites,
    /// An invite counts no more: [`Answer::Nothing`].
    Revoke {
        /// Its name.
        name: String,
    },
    /// Asks somebody to be a contact: [`Answer::Contact`].
    Add {
        /// An address or an invite link.
        who: String,
        /// What the person calls them.
        name: String,
        /// What they are told with the request.
        greeting: String,
    },
    /// All contacts and requests: [`Answer::Contacts`].
    Contacts,
    /// Says yes to a request: [`Answer::Contact`].
    Accept {
        /// Whose.
        contact: String,
    },
    /// Calls a contact something else: [`Answer::Contact`].
    Rename {
        /// Whom.
        contact: String,
        /// The new name.
        name: String,
    },
    /// The number to compare with a contact: [`Answer::Safety`].
    Safety {
        /// With whom.
        contact: String,
    },
    /// Takes note of whether it was compared: [`Answer::Contact`].
    Verified {
        /// With whom.
        contact: String,
        /// Whether it was.
        verified: bool,
    },
    /// Blocks: [`Answer::Contact`].
    Block {
        /// Whom.
        contact: String,
    },
    /// Ends that: [`Answer::Contact`].
    Unblock {
        /// For whom.
        contact: String,
    },
    /// Forgets a contact, or refuses its request: [`Answer::Nothing`].
    Remove {
        /// Whom.
        contact: String,
    },
    /// Writes: [`Answer::Letter`].
    Send {
        /// To whom.
        contact: String,
        /// What.
        text: String,
    },
    /// One letter as it is now: [`Answer::Letter`].
    Letter {
        /// In whose conversation.
        contact: String,
        /// Which.
        letter: String,
    },
    /// Conversations, the oldest letters first: [`Answer::Letters`].
    History {
        /// Whose; all without.
        contact: Option<String>,
        /// Only what came or was written since, in seconds since the Unix epoch.
        since: Option<u64>,
        /// Only what has this text.
        search: Option<String>,
        /// Only what was not shown.
        unread: bool,
        /// The last so many.
        most: Option<usize>,
    },
    /// The person has seen these: [`Answer::Nothing`]. Only then are their writers told that they came.
    Shown {
        /// In whose conversation.
        contact: String,
        /// Which.
        letters: Vec<String>,
    },
    /// Letters with this contact go away after they were seen: [`Answer::Contact`].
    Timer {
        /// With whom.
        contact: String,
        /// After how many seconds; 0 for never.
        seconds: u32,
    },
    /// Whether contacts are told what was read, and tell it: [`Answer::Nothing`].
    TellRead {
        /// Whether.
        tell: bool,
    },
    /// Offers a file: [`Answer::Letter`].
    Offer {
        /// To whom.
        contact: String,
        /// Its name.
        name: String,
        /// Its bytes, in base64.
        bytes: String,
    },
    /// Whether a file is wanted: [`Answer::File`].
    Want {
        /// Whose.
        contact: String,
        /// Which.
        file: String,
        /// Whether.
        wanted: bool,
    },
    /// All files: [`Answer::Files`].
    Files,
    /// One that has come whole: [`Answer::Bytes`].
    Bytes {
        /// Whose.
        contact: String,
        /// Which.
        file: String,
    },
    /// Events come on this connection from now on: [`Answer::Nothing`].
    Follow,
    /// How the program is: [`Answer::State`].
    State,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was done.
    Nothing {},
    /// Who the person is.
    Me(Me),
    /// 24 words with spaces between.
    Phrase(String),
    /// A `trefoil:` link.
    Invite(Invite),
    /// Those that count.
    Invites(Vec<Invite>),
    /// One contact.
    Contact(Contact),
    /// All of them.
    Contacts(Vec<Contact>),
    /// 60 digits in 12 groups.
    Safety(String),
    /// One letter.
    Letter(Letter),
    /// Several.
    Letters(Vec<Letter>),
    /// One file.
    File(File),
    /// All of them.
    Files(Vec<File>),
    /// A file's bytes in base64.
    Bytes(String),
    /// How it is.
    State(State),
}

/// Who the person is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// [`VERSION`].
    pub version: u32,
    /// The profile's name.
    pub profile: String,
    /// The network's name.
    pub network: String,
    /// The person's address.
    pub address: String,
}

/// An invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// What the person calls it.
    pub name: String,
    /// The link; only told when it is made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link: Option<String>,
    /// Until when it counts, in seconds since the Unix epoch.
    pub expires: u64,
    /// Whether it counts more than once.
    pub reusable: bool,
    /// How often it was used.
    pub used: u32,
}

/// How things are with a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The person asked, and waits for an answer.
    Asked,
    /// They asked, and wait for one.
    Asks,
    /// Both write.
    Accepted,
    /// They cannot write.
    Blocked,
}

/// A contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// What the person calls them.
    pub name: String,
    /// What they call themselves.
    pub own_name: String,
    /// Who they are.
    pub address: String,
    /// How things are.
    pub standing: Standing,
    /// The words of their request.
    pub greeting: String,
    /// Whether the safety number was compared.
    pub verified: bool,
    /// Seconds after which letters go away; 0 for never.
    pub timer: u32,
    /// Letters of theirs that were not shown.
    pub unread: usize,
    /// Letters of theirs that are known to be missing.
    pub missing: u32,
}

/// What became of a letter that the person wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Fewer mailboxes than are enough have it.
    Queued,
    /// Enough mailboxes have it.
    Accepted,
    /// It was shown to them, or to their program.
    Delivered,
    /// They have read it.
    Read,
    /// They had not fetched it when its time was over.
    Expired,
    /// It will not be delivered.
    Failed,
}

/// Something in a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The contact's name.
    pub contact: String,
    /// Whether the person wrote it.
    pub mine: bool,
    /// When it came, or was written, by the person's clock, in seconds since the Unix epoch.
    pub at: u64,
    /// In which hour since the Unix epoch it was written, by its writer's clock.
    pub hour: u32,
    /// Whether the person has seen it.
    pub shown: bool,
    /// What became of it, if the person wrote it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delivery: Option<Delivery>,
    /// How many mailboxes have it, while it waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mailboxes: Option<u8>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What it says.
    #[serde(flatten)]
    pub said: Said,
}

/// What something in a conversation says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Said {
    /// Words.
    Text {
        /// Which.
        text: String,
    },
    /// A file is offered.
    File {
        /// Its name.
        name: String,
        /// Its bytes.
        size: u32,
    },
    /// Whether a file is wanted.
    FileAnswer {
        /// Whether.
        wanted: bool,
    },
    /// A wish to be a contact.
    Request {
        /// Its words.
        text: String,
    },
    /// Both are contacts from here on.
    Welcome,
    /// Their device is another one from here on.
    Renewed,
    /// Letters go away from here on.
    Timer {
        /// After so many seconds.
        seconds: u32,
    },
    /// Of a newer program.
    Unknown,
}

/// How a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// Not answered.
    Offered,
    /// Under way.
    Wanted,
    /// Not wanted.
    Refused,
    /// All of it is there.
    Whole,
    /// All of it came, and is not what was offered.
    Wrong,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// 32 hexadecimal digits: the letter that offered it.
    pub id: String,
    /// The contact's name.
    pub contact: String,
    /// Whether the person offered it.
    pub mine: bool,
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u32,
    /// Its BLAKE3, in hexadecimal digits.
    pub blake3: String,
    /// How it is.
    pub state: FileState,
    /// Pieces that are there, or confirmed.
    pub done: u16,
    /// How many it has.
    pub pieces: u16,
}

/// How the program is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The client: what `trefoil status` shows.
    pub client: crate::status::Status,
    /// Letters that are on their way out.
    pub waiting: usize,
    /// Letters that were not shown.
    pub unread: usize,
    /// Mailboxes that answered last, of those asked last.
    pub mailboxes: (usize, usize),
    /// Seconds since any mailbox answered.
    pub answered: Option<u64>,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A letter has come, or one of the person's has become something else.
    Letter(Letter),
    /// A contact is another than before: asks, was accepted, has another device.
    Contact(Contact),
    /// A file is further.
    File(File),
    /// So many events were left out: this program read too slowly. Ask for what is.
    Missed(u64),
}

impl Problem {
    /// One of this kind, in these words.
    pub fn new(code: Code, text: impl fmt::Display) -> Self {
        Self { code, text: text.to_string() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Problem {}
