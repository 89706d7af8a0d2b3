//! Rows: what stands in a person's vault.
//!
//! Specification: docs/architecture.md, "The client's letters". Secrets in them are zeroized. This file has no logic.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trefoil_protocol::inbox::WeekSalt;
use zeroize::Zeroizing;

/// Bytes that nobody is to see: zeroized when dropped, and never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Hidden(pub(crate) Zeroizing<Vec<u8>>);

/// Who the person is; there is one such row.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PersonRow {
    /// That of the phrase.
    pub(crate) entropy: Hidden,
    /// What the person wants to be called.
    pub(crate) name: String,
    /// When this device began, in seconds since the Unix epoch: so it is higher than any before.
    pub(crate) device: u32,
    /// Of the prekeys that were sealed last.
    pub(crate) revision: u32,
    /// Olm's account, pickled.
    pub(crate) account: Hidden,
    /// Its present fallback key, and since when it is.
    pub(crate) fallback: [u8; 32],
    pub(crate) fallback_since: u64,
    /// Where the private inbox is, the present place last.
    pub(crate) homes: Vec<HomeRow>,
    /// The X-Wing secrets of weeks.
    pub(crate) xwing: BTreeMap<u32, Hidden>,
    /// Makes the hashes that are of no ticket, so that a list that is registered again is the same.
    pub(crate) filling: Hidden,
    /// Counted up for each list of tickets whenever other people have some of it.
    pub(crate) tickets: BTreeMap<u8, u32>,
    /// How much room letters of the contacts of each list of tickets need.
    pub(crate) rooms: BTreeMap<u8, RoomRow>,
    /// Whether others are told what was read, if they tell it, too.
    pub(crate) tells_read: bool,
    /// Until when the backup of an earlier device is looked for.
    pub(crate) restoring: Option<u64>,
    /// Earlier devices, whose backups need not be read any more.
    pub(crate) covers: Vec<u32>,
    /// When mailboxes took a part of the backup last.
    pub(crate) backed_up: Option<u64>,
    /// Since when anyone can have written to the person, and when all mailboxes had been asked last.
    pub(crate) since: u64,
    /// When the last invite was made.
    pub(crate) invited: u64,
    pub(crate) asked: u64,
    pub(crate) next_serial: u64,
    pub(crate) next_contact: u32,
}

/// A generation of the private inbox.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct HomeRow {
    pub(crate) whereabouts: Hidden,
    /// When the person moved out, if so.
    pub(crate) left: Option<u64>,
    pub(crate) salts: BTreeMap<u32, WeekSalt>,
}

/// What letters of the contacts of one list of tickets are reckoned at in a week, as far as they have come or are expected.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct RoomRow {
    pub(crate) week: u32,
    pub(crate) bytes: u64,
}

/// How things are with somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// The person asked, and waits for an answer.
    RequestedByMe,
    /// They asked, and wait for one.
    RequestedByThem,
    /// Both write.
    Accepted,
    /// They cannot write, and nothing is taken of them.
    Blocked,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ContactRow {
    pub(crate) id: u32,
    pub(crate) address: [u8; 32],
    /// What the person calls them.
    pub(crate) name: String,
    /// What they want to be called.
    pub(crate) own_name: String,
    pub(crate) greeting: String,
    pub(crate) standing: Standing,
    pub(crate) since: u64,
    /// Whether the safety number was compared.
    pub(crate) verified: bool,
    /// Their device, and its Olm identity key, as their prekeys had them.
    pub(crate) device: u32,
    pub(crate) identity: Option<[u8; 32]>,
    /// What they need to write to the person: key of tickets, and which list these are in.
    pub(crate) tickets: Hidden,
    pub(crate) list: u8,
    /// Their place in the list: it decides how many tickets they have. Who asks, and has no answer yet, has none.
    pub(crate) slot: u8,
    /// What the person needs to write to them.
    pub(crate) pass: Option<PassRow>,
    /// For which generation and first week the person's own pass was told to them last.
    pub(crate) told: Option<(u32, u32)>,
    /// The sequence of what is said to them next, by this device.
    pub(crate) said: u32,
    /// What they have said: a conversation's own form.
    pub(crate) heard: Vec<u8>,
    /// Seconds after which letters go away, or 0.
    pub(crate) timer: u32,
    /// When they are told that letters came.
    pub(crate) receipts: Receipts,
    /// The token of the invite that the person has from them.
    pub(crate) token: Option<[u8; 16]>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PassRow {
    pub(crate) whereabouts: Hidden,
    pub(crate) tickets: Hidden,
    pub(crate) count: u16,
    pub(crate) first: u32,
    pub(crate) salts: Vec<WeekSalt>,
}

/// Somebody's prekeys of a week.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TheirsRow {
    pub(crate) xwing: Vec<u8>,
    pub(crate) identity: [u8; 32],
    pub(crate) device: u32,
    pub(crate) fallback: [u8; 32],
    pub(crate) revision: u32,
}

/// When a contact is told that its letters came: who knows that at once knows when the person is online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receipts {
    /// After some seconds.
    #[default]
    Usual,
    /// After ten times as long.
    Slow,
    /// Never.
    Off,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// So many mailboxes have it: fewer than are enough.
    Queued(u8),
    /// So many mailboxes have it.
    Accepted(u8),
    /// They have it.
    Delivered,
    /// They have read it.
    Read,
    /// They had not fetched it when its time was over.
    Expired,
    /// It will not be delivered.
    Failed(Failure),
}

/// Why a letter will not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The contact was removed.
    Removed,
    /// The contact was blocked.
    Blocked,
    /// It cannot be sealed.
    Unsealable,
    /// It was on its way from another device of the person's, which may have sent it.
    Copied,
}

/// A letter on its way out.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OutRow {
    pub(crate) contact: u32,
    pub(crate) id: [u8; 16],
    /// The letter, encoded; it is sealed again when it has to be.
    pub(crate) letter: Hidden,
    pub(crate) errand: Purpose,
    pub(crate) expires: u64,
    pub(crate) delivery: Delivery,
    pub(crate) sealed: Option<SealedRow>,
    /// How often it was sealed.
    pub(crate) times: u8,
}

/// What a letter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Something that its reader confirms.
    Said,
    /// A request: its answer confirms it.
    Request,
    /// Nobody confirms it: enough mailboxes are the end.
    Silent,
    /// A sheet of the person's own backup: as silent.
    Backup,
}

/// An envelope that is being deposited.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SealedRow {
    pub(crate) inbox: Vec<u8>,
    pub(crate) at: u64,
    pub(crate) name: [u8; 32],
    /// What a stamp costs, where one is needed.
    pub(crate) bits: u8,
    pub(crate) spots: Vec<SpotRow>,
}

/// A replica that an envelope is for.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SpotRow {
    pub(crate) relay: [u8; 32],
    pub(crate) due: u64,
    pub(crate) tries: u8,
    pub(crate) ticket: Option<u16>,
    pub(crate) accepted: bool,
}

/// Something in a conversation.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct EntryRow {
    pub(crate) id: [u8; 16],
    /// The writer's device and sequence.
    pub(crate) place: (u32, u32),
    pub(crate) written: u32,
    pub(crate) at: u64,
    /// Its state, where the person wrote it.
    pub(crate) sent: Option<Delivery>,
    /// When it was shown, where they did.
    pub(crate) shown: Option<u64>,
    /// Seconds after that, it goes away.
    pub(crate) timer: u32,
    pub(crate) said: Said,
}

/// What an entry of a conversation says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// Words.
    Text(String),
    /// A file.
    File {
        /// Its name.
        name: String,
        /// Its bytes.
        size: u32,
    },
    /// Whether a file is wanted.
    Answer(bool),
    /// They want to be a contact, with these words.
    Request(String),
    /// Both are contacts from here on.
    Welcome,
    /// Their device is another one from here on: compare the safety number's device, if it matters.
    Renewed,
    /// Letters go away after so many seconds from here on.
    Timer(u32),
    /// Something that this program is too old to read.
    Unknown,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct InviteRow {
    pub(crate) name: String,
    pub(crate) expires: u64,
    pub(crate) reusable: bool,
    pub(crate) used: u32,
    pub(crate) revoked: bool,
}

/// Receipts that are owed to a contact.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct OwedRow {
    pub(crate) due: u64,
    pub(crate) delivered: Vec<[u8; 16]>,
    pub(crate) read: Vec<[u8; 16]>,
}

impl Hidden {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Its bytes, where it has to have so many.
    pub(crate) fn array<const N: usize>(&self) -> Zeroizing<[u8; N]> {
        let mut array = Zeroizing::new([0; N]);
        array.iter_mut().zip(self.0.iter()).for_each(|(space, byte)| *space = *byte);
        array
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|bytes| Self(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(..)")
    }
}

impl Delivery {
    /// Whether nothing will change it but a receipt.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Delivered | Self::Read | Self::Expired | Self::Failed(_))
    }
}
