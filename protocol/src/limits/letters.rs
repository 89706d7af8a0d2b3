//! The sizes, counts and times of what people have and send: phrases, inboxes, mailboxes, letters.

use std::{ops::RangeInclusive, time::Duration};

// phrase.rs

/// Words of the list that a mistyped one is told to be near to.
pub const PHRASE_NEAR: usize = 5;

// ring.rs

/// Ranks of a ring that anyone looks at: the 5 replicas, those that repair them, and where both sides look when a letter
/// is not delivered.
pub const RING_MAX: usize = 15;
/// Netgroups in which relays of an age class must be before rings are made of that class: twice the ranks, so that a
/// young network's few old relays do not keep everything.
pub const RING_CHOICE: usize = 2 * RING_MAX;
/// Groups of relays that are to be expected nearer to a placement than a relay that is not even looked at for its ring.
pub const RING_REACH: u32 = 64;
/// Seconds before a period begins from which on its owner may leave something for it: tickets and prekeys for three
/// weeks without the owner.
pub const PLACEMENT_AHEAD: u64 = 21 * 24 * 3600;

// envelope.rs

/// Bytes of an X-Wing public key: ML-KEM-768's and X25519's.
pub const XWING_KEY: usize = 1184 + 32;
/// Bytes of an X-Wing ciphertext: ML-KEM-768's and X25519's.
pub const XWING_CIPHERTEXT: usize = 1088 + 32;

/// Bytes of an envelope, by class: one message on a circuit; a long text; a piece of a file.
pub const LETTER_SIZES: [usize; 3] = [1792, 8 * 1024, 64 * 1024];

// stamp.rs

/// What a stamp costs in zero bits: from about 10 ms of one core, up to about 10 s.
pub const STAMP_BITS: RangeInclusive<u8> = 16..=26;
/// Letters with stamps that come for one inbox on one day at the least price. Each doubling costs one bit more.
pub const STAMPS_CHEAP: u32 = 64;
/// Bits more that a stranger's letter of the middle class costs, which takes four times as much room.
pub const STAMP_MIDDLE: u8 = 2;
/// Bits that a list of tickets costs, at least: about 40 ms of one core, at each mailbox.
pub const TICKETS_BITS: u8 = 18;
/// Bytes of disk that letters with tickets of a list have for that price; twice as many for each bit more. So a mailbox
/// of 1 GiB is not filled with less than minutes of work.
pub const TICKETS_BOUGHT: u64 = 256 << 10;

// ticket.rs

/// Hashes of one list of tickets: 64 KiB, one frame.
pub const TICKETS_LISTED: usize = 4096;
/// Lists of tickets of one inbox at one mailbox: room for the tickets of hundreds of contacts.
pub const TICKET_LISTS: u8 = 8;

// mailbox.rs

/// Hours that a letter is kept, at most: 14 days.
pub const LETTER_HOURS: u16 = 14 * 24;
/// Most bytes of a frame on a mailbox stream, without its length: the longest letter, or a list of tickets, and what
/// comes with it.
pub const MAILBOX_FRAME: usize = 64 * 1024 + 512;
/// Most letters, or tombstones, that one frame names.
pub const MAILBOX_LIST: usize = 256;
/// Most seconds that a mailbox is asked to wait for a letter before it says that there is none.
pub const MAILBOX_PATIENCE: u16 = 600;

// relay/src/mailbox.rs

/// Bytes of disk that a relay gives to mailboxes unless its operator says otherwise.
pub const MAILBOX_SIZE: u64 = 1 << 30;
/// Of a mailbox's disk: the share of what was deposited, in eighths. It never depends on what came by repair.
pub const DEPOSITS_EIGHTHS: u64 = 5;
/// The share of tombstones, in eighths; what is left is for what comes by repair, which may use what the others do not.
pub const TOMBSTONES_EIGHTHS: u64 = 1;
/// Bytes of disk that a request inbox has at a mailbox, for what strangers deposit.
pub const INBOX_ROOM: u64 = 32 << 20;
/// Bytes of disk that letters with tickets of one list have at a mailbox, at most: room for one of the longest files. One
/// contact's files close no more than the list of that contact.
pub const LIST_ROOM: u64 = 16 << 20;
/// Bytes of disk that tombstones of one inbox have, whatever was paid for it.
pub const TOMBSTONES_LEAST: u64 = 16 << 10;
/// The share of what was paid for an inbox that its tombstones have besides: a fourth.
pub const TOMBSTONES_PART: u64 = 4;
/// Bytes of disk that what comes by repair has of one inbox.
pub const REPAIRED_ROOM: u64 = 32 << 20;
/// Bytes of disk that what one replica tells of one inbox has: so one that lies cannot fill it.
pub const SOURCE_ROOM: u64 = REPAIRED_ROOM / 4;
/// The share of a mailbox's disk that what one replica tells of all inboxes has, in eighths.
pub const SOURCE_EIGHTHS: u64 = 1;
/// Bytes of memory in which a mailbox keeps pages of its file, whatever it holds.
pub const MAILBOX_CACHE: usize = 32 << 20;
/// Requests that wait to be written at one mailbox, and that one commit takes; further ones wait where they came in.
pub const MAILBOX_QUEUE: usize = 256;
/// Questions at one mailbox that wait for a letter to come; one more, and the oldest waits no longer.
pub const MAILBOX_WATCHERS: usize = 8192;
/// Those of them that are of one inbox.
pub const INBOX_WATCHERS: usize = 4;
/// Things that one step of clearing away what has expired looks at, so that deposits wait for none longer.
pub const MAILBOX_SWEEP: usize = 256;

// relay: mailbox_stream.rs, post.rs, rings.rs; client: mailbox.rs

/// Mailbox streams of one circuit that a relay serves at once: one that waits for a letter, one for what is asked
/// meanwhile, and as many again while they end.
pub const MAILBOX_STREAMS: usize = 4;
/// Requests on one mailbox stream; then whoever asks opens another.
pub const MAILBOX_REQUESTS: usize = 4096;
/// A mailbox stream on which nothing is asked for this long ends.
pub const MAILBOX_IDLE: Duration = Duration::from_secs(120);
/// For the rest of a frame on a mailbox stream, for writing one, and for an answer beyond the patience that was asked
/// for.
pub const MAILBOX_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two times at which a mailbox clears away what has expired.
pub const MAILBOX_SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Hops of a circuit to a mailbox: three, and the mailbox.
pub const MAILBOX_HOPS: usize = 4;
/// Rings that a relay remembers, about 600 bytes each.
pub const RINGS_KEPT: usize = 4096;
/// Rings of what a relay keeps already, which it remembers besides.
pub const RINGS_OWN: usize = 16_384;
/// Questions that wait for a ring at a relay, each of another circuit: some 4 s in a network of 5,000 relays.
pub const RINGS_WAITING: usize = 1024;
/// For how long: within an epoch a relay may begin to keep mailboxes, or end it.
pub const RINGS_FRESH: Duration = Duration::from_secs(60);

// prekeys.rs

/// Olm fallback keys of one record: the present one, and room for those that come.
pub const FALLBACK_KEYS: usize = 4;

// pass.rs, letter.rs

/// Weeks that one pass is good for: the present one, and as long as a letter waits.
pub const PASS_WEEKS: usize = 4;
/// Most bytes of a text, in UTF-8.
pub const LETTER_TEXT: usize = 16 * 1024;
/// Most bytes of what a person wants to be called.
pub const PERSON_NAME: usize = 64;
/// Most bytes of the words that come with a request.
pub const GREETING: usize = 1024;
/// Most bytes of a file's name.
pub const FILE_NAME: usize = 255;
/// Most bytes of a file.
pub const FILE_BYTES: u32 = 10 * 1024 * 1024;
/// Bytes of a piece of a file: with all that comes around it, one long envelope.
pub const FILE_PIECE: usize = 60 * 1024;
/// Letters that one letter of receipts names, at most: it fits a short envelope.
pub const RECEIPTS_LISTED: usize = 16;
/// Most bytes of a message that Olm made.
pub const RATCHET_MESSAGE: usize = 64_000;

// conversation.rs

/// Devices of one writer whose letters are still taken: letters of those before have expired long ago.
pub const DEVICES_KEPT: usize = 8;
/// Gaps in what one device said, at most; what would make more is not taken until some are filled.
pub const GAPS_KEPT: usize = 1024;

// relay/src/repair.rs, and post.rs for those who ask

/// Ranks of an inbox's ring that repair each other.
pub const REPAIR_RANKS: usize = 10;
/// Relays that are asked in one round of repair.
pub const REPAIR_AT_ONCE: usize = 8;
/// Between two rounds, on average; so 1,000 relays are asked within a day, and the five that have a letter sooner.
pub const REPAIR_EVERY: Duration = Duration::from_secs(600);
/// Between the first rounds after the start, and how many these are.
pub const REPAIR_SOON: Duration = Duration::from_secs(60);
/// See [`REPAIR_SOON`].
pub const REPAIR_SOON_ROUNDS: u32 = 16;
/// Between two rounds, at least, however short the epochs of a network are.
pub const REPAIR_LEAST: Duration = Duration::from_secs(2);
/// For one talk with a replica.
pub const REPAIR_TALK: Duration = Duration::from_secs(120);
/// Pages of inboxes, and of letters of one of them, that one talk goes through.
pub const REPAIR_PAGES: usize = 64;
/// Letters that one talk takes, at most.
pub const REPAIR_TAKEN: usize = 1024;
/// Lists of letters of which it is remembered how far they were read, about 100 bytes each.
pub const REPAIR_CURSORS: usize = 65_536;
/// After which such a list is read again from its beginning.
pub const REPAIR_AGAIN: Duration = Duration::from_secs(24 * 3600);
/// For which a replica that lied is asked nothing.
pub const REPAIR_LIAR: Duration = Duration::from_secs(24 * 3600);
/// Replicas that are answered at once.
pub const REPAIRS_SERVED: usize = 16;
/// Times as long as a page of inboxes took until the next one is looked through.
pub const REPAIR_SHARE: u32 = 3;
