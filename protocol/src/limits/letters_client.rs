//! The sizes, counts and times of what a person's own program does with letters (`client/src/letters`).

use std::ops::RangeInclusive;

use super::LETTER_SIZES;

// crypto/kept.rs

/// KiB of memory that a passphrase may cost: a damaged file must not take all there is.
pub const PASSPHRASE_KIB: RangeInclusive<u32> = 1 << 10..=1 << 20;
/// Passes over that memory.
pub const PASSPHRASE_PASSES: RangeInclusive<u32> = 1..=64;

// client/src/letters/vault.rs

/// Bytes of memory in which a person's file has its pages.
pub const VAULT_CACHE: usize = 16 << 20;

/// Seconds after which all that a person's file holds is written anew, so that what was taken away is gone from it.
pub const VAULT_RENEWED: u64 = 24 * 3600;
/// Seconds after which that is tried again where it failed.
pub const VAULT_AGAIN: u64 = 3600;

// client/src/letters/person.rs

/// Replicas of an inbox on which letters are left at first.
pub const REPLICAS: usize = 5;
/// Replicas that have to have a letter before it counts as accepted.
pub const REPLICAS_ENOUGH: usize = 3;
/// Weeks ahead for which prekeys are published, and tickets registered.
pub const WEEKS_AHEAD: u32 = 3;
/// Weeks for which the salts of an inbox are told at once: the present one, and those that begin within 14 days.
pub const SALT_WEEKS: u32 = 3;
/// Weeks after its own for which the secret of a week's prekeys is kept: a letter may be sealed at the end of one, left
/// at the end of the next inbox's, and wait for two.
pub const XWING_WEEKS: u32 = 4;
/// Seconds after which an Olm fallback key is followed by another. Two are kept: a letter that was sealed to the older
/// one on the last day that it was published for has expired when it goes.
pub const FALLBACK_LIFE: u64 = 42 * 24 * 3600;

// client/src/letters/chores.rs

/// Seconds after which tickets and prekeys of the present week are brought to mailboxes again: one that has lost them does
/// not say so.
pub const RENEW_CHORES: u64 = 3 * 24 * 3600;

// client/src/letters/contacts.rs

/// Tickets of a contact at each mailbox in a week, by its place in a list: so many letters it can leave there. The first
/// eight contacts of a person are first in a list.
pub const TICKET_SLOTS: [u16; 16] = [1024, 512, 512, 256, 256, 256, 256, 256, 96, 96, 96, 96, 96, 96, 96, 96];
/// Bytes of room that are bought for a list of tickets at first: some 600 short letters.
pub const LIST_ROOM_BOUGHT: u64 = 2 << 20;
/// People that a person has to do with, at most: the tickets of all have room in the lists of an inbox.
pub const CONTACTS: usize = 128;
/// Seconds within which a contact that asks anew to be one is answered once: each answer seals all anew that waits.
pub const ANSWER_AGAIN: u64 = 6 * 3600;
/// Seconds of a week within which a contact's prekeys are looked up, where no letter needs them before.
pub const LOOK_CONTACTS: u64 = 2 * 24 * 3600;
/// Seconds until they are, on average, by a program that did not run then.
pub const LOOK_LATE: u64 = 3600;
/// Requests of strangers that wait for an answer, at most; further ones are not taken.
pub const REQUESTS_WAITING: usize = 256;
/// Invites that are kept, at most.
pub const INVITES: usize = 1024;
/// Most bytes of an invite as text.
pub const INVITE_TEXT: usize = 4096;
/// Relays that an invite of a person names, at most: it has to fit a code that a telephone can read.
pub const INVITE_DOORS: usize = 4;

// client/src/letters/session.rs

/// Olm sessions with one contact; of more, those that were used longest ago go.
pub const SESSIONS: usize = 8;
/// Keys of letters that have not come which Olm keeps of each chain of a session.
pub const OLM_KEYS: u64 = 40;
/// Chains of a session that Olm keeps.
pub const OLM_CHAINS: usize = 5;
/// Letters of a chain that Olm skips, at most; whoever has sealed as many without an answer begins another session.
pub const OLM_AHEAD: u64 = 2000;
/// Seconds for which a session is kept as it was before Olm forgot keys of letters that had not come: within a day they
/// come from other mailboxes, or are sealed again.
pub const SESSION_PAST: u64 = 24 * 3600;
/// How many of those there are of one session.
pub const SESSION_PASTS: usize = 4;

// client/src/letters/outbox.rs

/// Seconds for which a letter is delivered, unless the writer says otherwise.
pub const DELIVERY: u64 = 14 * 24 * 3600;
/// Letters to one contact that wait to be delivered, at most.
pub const LETTERS_WAITING: usize = 1000;
/// Bytes of a letter without a ticket: mailboxes take none of the longest class, and what is around a letter has less than
/// 2 KiB.
pub const STRANGERS_LETTER: usize = LETTER_SIZES[1] - 2048;
/// Seconds between the replicas of a letter, on average, where it is not left at once.
pub const DEPOSIT_SPREAD: u64 = 60;
/// Seconds after which a mailbox that did not answer, or refused, is asked again; doubled each time.
pub const DEPOSIT_RETRY: u64 = 10;
/// Most seconds between two such questions.
pub const DEPOSIT_RETRY_MAX: u64 = 3600;
/// Seconds after which a letter that was not delivered is sealed again, and left on the whole ring.
pub const RESEAL: u64 = 24 * 3600;
/// Seconds between the moment when a letter is shown and its receipt, on average.
pub const RECEIPT_DELAY: u64 = 3;

// client/src/letters/inbox.rs

/// Seconds for which a mailbox is asked to wait for a letter.
pub const WATCH: u16 = 300;
/// Seconds between two looks at a replica of a private inbox that is not watched, on average.
pub const LOOK_PRIVATE: u64 = 4 * 3600;
/// Seconds between two looks at a replica of a request inbox, on average.
pub const LOOK_REQUEST: u64 = 1800;
/// Seconds between two looks at one of the ten relays of a private inbox's ring behind its replicas, on average: at some of
/// them every two or three hours.
pub const LOOK_OUTER: u64 = 24 * 3600;
/// Seconds between two looks at an inbox whose time is over, on average.
pub const LOOK_PAST: u64 = 24 * 3600;
/// Letters that are fetched from one mailbox at a time.
pub const FETCHES: usize = 4;
/// Days for which it is remembered that a letter has come.
pub const SEEN_DAYS: u32 = 29;

// client/src/letters/file.rs

/// Pieces of one file that are under way at once: Olm keeps the keys of 40 letters that have not come.
pub const PIECES_UNDER_WAY: usize = 16;

// client/src/letters/backup.rs

/// Seconds after which a change of contacts goes into the backup, so that several go together.
pub const BACKUP_SOON: u64 = 60;
/// Seconds between two looks at whether the backup lacks something.
pub const BACKUP_CHECK: u64 = 3600;
/// Seconds after which letters go into the backup: a part of them that goes alone costs an envelope at each replica.
pub const BACKUP_LETTERS: u64 = 24 * 3600;
/// Seconds after which all of the backup is written anew: of the 14 days that letters are kept, 11 are left then.
pub const BACKUP_WHOLE: u64 = 3 * 24 * 3600;
/// Bytes of letters in a backup, at most: the newest.
pub const BACKUP_BYTES: usize = 1 << 20;
/// Bytes of rows in a sheet of it: with what stands around them, one long envelope.
pub const SHEET: usize = 56 * 1024;
/// Bits more than a list of tickets costs that the self-inbox's costs: room for 4 MiB in a week.
pub const BACKUP_BITS: u8 = 4;
/// Seconds for which the backup of an earlier device is looked for: as long as letters are kept.
pub const RESTORE: u64 = 14 * 24 * 3600;
/// Seconds after the last part of it that has come, until it is brought back.
pub const RESTORE_WAIT: u64 = 5;
/// Tickets of the self-inbox at each mailbox in a week.
pub const BACKUP_TICKETS: u16 = 2048;

// client/src/letters/inbox.rs

/// Letters that a mailbox lists and then has not, until it is left alone for a day.
pub const GONE_MOST: usize = 256;
/// Envelopes of no use that a mailbox brings of one inbox, until it is left alone for a while: more than a contact has
/// tickets for in a week.
pub const USELESS_MOST: usize = 1280;
/// Seconds for which it is left alone then; doubled each time, up to a day.
pub const USELESS_PAUSE: u64 = 3600;

// client/src/letters/receipts.rs

/// Times as long as others a contact waits for a receipt that the person wants to be slow: 30 s on average.
pub const RECEIPT_SLOW: u64 = 10;
/// Seconds after an invite was made for which the request inbox is looked at more often.
pub const INVITED: u64 = 3600;
/// Seconds between two looks at a mailbox of it then, on average.
pub const LOOK_INVITED: u64 = 10;
/// Seconds between two looks at a replica of the private inbox, on average, while the one to watch does not answer.
pub const LOOK_UNWATCHED: u64 = 20;
/// Seconds after a mailbox that did not answer, until it is looked which relays keep what by now.
pub const PLAN_AGAIN: u64 = 30;
