//! Control: what other programs ask of the running `trefoil up`, and what it answers.
//!
//! Specification: docs/control.md. Lines of JSON on a Unix socket that only its user can open. Commands of this program
//! use it as bots do; where nobody runs, a command does the same for itself (`desk.rs`). This file is the words only.

mod answer;
pub mod caller;
pub mod server;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::answer::{Contact, Delivery, File, FileState, Invite, Letter, Me, Receipts, Said, Standing, State};

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
    /// The person has seen these: [`Answer::Nothing`]. Their writers are told, where both tell it.
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
    /// When a contact is told that its letters came: [`Answer::Contact`].
    Receipts {
        /// Which.
        contact: String,
        /// When.
        when: Receipts,
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
    /// A file that has come is kept elsewhere now, and is forgotten here: [`Answer::Nothing`].
    Saved {
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
