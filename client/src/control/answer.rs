//! What answers and events are made of.
//!
//! Specification: docs/control.md.

use serde::{Deserialize, Serialize};

/// Who the person is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// [`VERSION`](super::VERSION).
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

/// When a contact is told that its letters came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Receipts {
    /// After 3 s on average.
    Usual,
    /// After 30 s on average.
    Slow,
    /// Never: for them all letters expire.
    Off,
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
    /// When they are told that their letters came.
    pub receipts: Receipts,
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
    /// Their program has it, and shows it.
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
    /// Some of it expired on its way to the other, who can ask for it again.
    Lost,
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
    /// Seconds since mailboxes took a part of the backup.
    pub backed_up: Option<u64>,
    /// Whether the backup of an earlier device is looked for.
    pub restoring: bool,
}
