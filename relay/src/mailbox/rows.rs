//! Rows: the tables of a mailbox's file, and their bytes.
//!
//! Specification: docs/operator.md, "The data directory". Keys begin with the inbox, so that all that is of one lies
//! together. Numbers in keys are big-endian, which is the order that the file has. This file never reads or writes one.

use redb::TableDefinition;
use trefoil_protocol::{
    envelope::{LetterId, SizeClass},
    mailbox::{Listed, Postage},
    period::Day,
    prekeys::PrekeysRecord,
    puzzle::Hour,
    ring::Placement,
    stamp::Stamp,
    ticket::{Ticket, TicketHash},
    tombstone::Tombstone,
};

/// `placement 37`.
pub(super) type InboxKey = [u8; Placement::LENGTH];
/// `placement 37 ‖ letter id 32`.
pub(super) type LetterKey = [u8; Placement::LENGTH + 32];
/// `placement 37 ‖ place 8`.
pub(super) type PlaceKey = [u8; Placement::LENGTH + 8];
/// `placement 37 ‖ list 1 ‖ hash 16`.
pub(super) type TicketsKey = [u8; Placement::LENGTH + 1 + 16];
/// `placement 37 ‖ hash 16`.
pub(super) type SpentKey = [u8; Placement::LENGTH + 16];
/// `hour 4 ‖ serial 8`.
pub(super) type DueKey = [u8; 4 + 8];

/// What is known of each inbox, and of each placement of prekeys.
pub(super) const INBOXES: TableDefinition<'_, &InboxKey, &[u8; InboxRow::LENGTH]> = TableDefinition::new("inboxes");
/// Letters that are here, and letters that are to be gone.
pub(super) const LETTERS: TableDefinition<'_, &LetterKey, &[u8; Row::LENGTH]> = TableDefinition::new("letters");
/// Letters that are here, in the order in which they came.
pub(super) const ORDER: TableDefinition<'_, &PlaceKey, &[u8; LISTED]> = TableDefinition::new("order");
/// Tombstones, in the order in which they came; one order with the letters.
pub(super) const TOMBSTONES: TableDefinition<'_, &PlaceKey, &[u8; Tombstone::LENGTH]> =
    TableDefinition::new("tombstones");
/// Letters that give way to those that are deposited.
pub(super) const REPAIRED: TableDefinition<'_, &PlaceKey, &LetterKey> = TableDefinition::new("repaired");
/// Envelopes in pieces, by `serial × 32 + number of the piece`.
pub(super) const ENVELOPES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("envelopes");
/// Hashes of registered tickets, in pieces, each under its first one.
pub(super) const TICKETS: TableDefinition<'_, &TicketsKey, &[u8]> = TableDefinition::new("tickets");
/// Hashes of tickets that were spent.
pub(super) const SPENT: TableDefinition<'_, &SpentKey, ()> = TableDefinition::new("spent");
/// Prekeys.
pub(super) const PREKEYS: TableDefinition<'_, &InboxKey, &[u8; PrekeysRecord::LENGTH]> =
    TableDefinition::new("prekeys");
/// What is to be looked at from an hour on: a [`LetterKey`], or an [`InboxKey`] where all of an inbox ends.
pub(super) const DUE: TableDefinition<'_, &DueKey, &[u8]> = TableDefinition::new("due");
/// The two numbers of the whole file: [`ROOM`] and [`SERIAL`].
pub(super) const TOTALS: TableDefinition<'_, u8, u64> = TableDefinition::new("totals");
/// How many bytes all inboxes are reckoned at.
pub(super) const ROOM: u8 = 0;
/// The next number for what needs one of its own.
pub(super) const SERIAL: u8 = 1;

/// Bytes of an envelope in one row: a row of so many fills a page of the file, and two short letters fit one.
pub(super) const PIECE: usize = 4064;
/// Hashes of tickets in one row: again a page.
pub(super) const TICKETS_PIECE: usize = 248;
/// Bytes of disk that a tombstone without a letter is reckoned at.
pub(super) const TOMBSTONE_ROOM: u32 = 512;
/// Bytes of disk that a spent ticket is reckoned at, for as long as its inbox is kept.
pub(super) const SPENT_ROOM: u32 = 128;
/// Bytes of disk that a list of tickets is reckoned at.
pub(super) const TICKETS_ROOM: u32 = 80 << 10;
/// Bytes of disk that prekeys are reckoned at.
pub(super) const PREKEYS_ROOM: u32 = 2 << 10;
const LISTED: usize = 32 + 1 + 4;

/// What is known of an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InboxRow {
    /// The place of the next letter or tombstone; from 1.
    pub(super) next: u64,
    /// Bytes of disk that it is reckoned at.
    pub(super) room: u64,
    /// The day of `stamped`.
    pub(super) day: Day,
    /// How many stamps were taken that day.
    pub(super) stamped: u32,
}

/// What is known of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) state: State,
    /// None has a tombstone that no letter came for.
    pub(super) class: Option<SizeClass>,
    /// Its place among the letters; or, once deleted, its tombstone's.
    pub(super) place: u64,
    /// Which envelope is its.
    pub(super) serial: u64,
    /// Until when it is kept, and its room counts; hour 0 where no letter came, or it would have expired.
    pub(super) expiry: Hour,
    /// Until when its tombstone counts.
    pub(super) until: Hour,
    /// Bytes of disk that it is reckoned at.
    pub(super) room: u32,
    pub(super) postage: Postage,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It was deposited, and acknowledged; or it came from a replica with a stamp, which is as good.
    Kept = 1,
    /// It came from a replica with a ticket, which says nothing here.
    Repaired = 2,
    /// Its owner has deleted it.
    Deleted = 3,
}

/// Bytes of disk that a letter of this class is reckoned at: its pages, and its rows in the other tables.
pub(super) fn letter_room(class: SizeClass) -> u32 {
    match class {
        SizeClass::Short => 3 << 10,
        SizeClass::Middle => 14 << 10,
        SizeClass::Long => 72 << 10,
    }
}

pub(super) fn letter_key(inbox: &Placement, letter: &LetterId) -> LetterKey {
    joined(&[&inbox.encode(), letter.as_bytes()])
}

pub(super) fn place_key(inbox: &Placement, place: u64) -> PlaceKey {
    joined(&[&inbox.encode(), &place.to_be_bytes()])
}

/// The place in a key.
pub(super) fn place(key: &PlaceKey) -> u64 {
    key.last_chunk().map_or(0, |place| u64::from_be_bytes(*place))
}

pub(super) fn tickets_key(inbox: &Placement, list: u8, first: &TicketHash) -> TicketsKey {
    joined(&[&inbox.encode(), &[list], &first.0])
}

pub(super) fn spent_key(inbox: &Placement, hash: &TicketHash) -> SpentKey {
    joined(&[&inbox.encode(), &hash.0])
}

pub(super) fn due_key(hour: Hour, serial: u64) -> DueKey {
    joined(&[&hour.0.to_be_bytes(), &serial.to_be_bytes()])
}

/// The inbox and the letter of a key.
pub(super) fn of_letter_key(key: &LetterKey) -> Option<(Placement, LetterId)> {
    let (inbox, letter) = key.split_first_chunk()?;
    Some((Placement::decode(inbox)?, LetterId::from_bytes(letter.try_into().ok()?)))
}

pub(super) fn listed(letter: &Listed) -> [u8; LISTED] {
    joined(&[letter.letter.as_bytes(), &[letter.class as u8], &letter.expiry.0.to_le_bytes()])
}

pub(super) fn of_listed(bytes: &[u8; LISTED]) -> Option<Listed> {
    let (letter, rest) = bytes.split_first_chunk()?;
    let (class, expiry) = rest.split_first()?;
    let expiry = Hour(u32::from_le_bytes(expiry.try_into().ok()?));
    Some(Listed { letter: LetterId::from_bytes(*letter), class: SizeClass::from_number(*class)?, expiry })
}

pub(super) fn tombstone(tombstone: &Tombstone) -> [u8; Tombstone::LENGTH] {
    joined(&[&tombstone.encode()])
}

pub(super) fn of_tombstone(bytes: &[u8; Tombstone::LENGTH]) -> Option<Tombstone> {
    let (letter, rest) = bytes.split_first_chunk()?;
    let (until, signature) = rest.split_first_chunk()?;
    let until = Hour(u32::from_le_bytes(*until));
    Some(Tombstone { letter: LetterId::from_bytes(*letter), until, signature: signature.try_into().ok()? })
}

/// These bytes one after another, and zeros.
fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut all = [0; N];
    all.iter_mut().zip(parts.iter().copied().flatten()).for_each(|(space, byte)| *space = *byte);
    all
}

impl InboxRow {
    const LENGTH: usize = 8 + 8 + 4 + 4;

    /// One that nothing came for yet.
    pub(super) const NEW: Self = Self { next: 1, room: 0, day: Day(0), stamped: 0 };

    pub(super) fn encode(&self) -> [u8; Self::LENGTH] {
        let Self { next, room, day, stamped } = self;
        let (next, room, day) = (next.to_le_bytes(), room.to_le_bytes(), day.0.to_le_bytes());
        joined(&[&next, &room, &day, &stamped.to_le_bytes()])
    }

    pub(super) fn decode(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut fields = Fields(bytes);
        Self { next: fields.u64(), room: fields.u64(), day: Day(fields.u32()), stamped: fields.u32() }
    }

    /// How many stamps were taken today.
    pub(super) fn stamped_on(&self, today: Day) -> u32 {
        if self.day == today { self.stamped } else { 0 }
    }
}

impl Row {
    const LENGTH: usize = 1 + 1 + 8 + 8 + 4 + 4 + 4 + 1 + 16;

    pub(super) fn encode(&self) -> [u8; Self::LENGTH] {
        let class = self.class.map_or(0, |class| class as u8);
        let (place, serial) = (self.place.to_le_bytes(), self.serial.to_le_bytes());
        let (expiry, until, room) = (self.expiry.0.to_le_bytes(), self.until.0.to_le_bytes(), self.room.to_le_bytes());
        let postage = match self.postage {
            Postage::Stamp(stamp) => stamp.encode().to_vec(),
            Postage::Ticket(ticket) => ticket.0.to_vec(),
        };
        let of = self.postage.of() as u8;
        joined(&[&[self.state as u8, class], &place, &serial, &expiry, &until, &room, &[of], &postage])
    }

    pub(super) fn decode(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut fields = Fields(bytes);
        let state = match fields.take::<1>() {
            [1] => State::Kept,
            [2] => State::Repaired,
            _ => State::Deleted,
        };
        let [class] = fields.take();
        Self {
            state,
            class: SizeClass::from_number(class),
            place: fields.u64(),
            serial: fields.u64(),
            expiry: Hour(fields.u32()),
            until: Hour(fields.u32()),
            room: fields.u32(),
            postage: match fields.take::<1>() {
                [1] => Postage::Stamp(Stamp::decode(&fields.take())),
                _ => Postage::Ticket(Ticket(fields.take())),
            },
        }
    }
}

/// What is left of a row.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next bytes; zeros where a row has no more.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        let taken = *taken;
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use trefoil_protocol::blind::{BlindUse, BlindedKey};

    use super::*;

    const STAMP: Postage = Postage::Stamp(Stamp { day: Day(20_000), nonce: u64::MAX - 7 });

    fn row(state: State, class: Option<SizeClass>, postage: Postage) -> Row {
        let (expiry, until) = (Hour(500_000), Hour(500_001));
        Row { state, class, place: 1 << 40, serial: 1 << 50, expiry, until, room: 3 << 10, postage }
    }

    #[test]
    fn rows_survive_their_bytes() {
        let ticket = Postage::Ticket(Ticket([6; 16]));
        for state in [State::Kept, State::Repaired, State::Deleted] {
            for class in SizeClass::ALL.map(Some).into_iter().chain([None]) {
                for postage in [STAMP, ticket] {
                    let row = row(state, class, postage);
                    assert_eq!(Row::decode(&row.encode()), row);
                }
            }
        }
        let inbox = InboxRow { next: 1 << 40, room: 1 << 33, day: Day(20_000), stamped: 77 };
        assert_eq!(InboxRow::decode(&inbox.encode()), inbox);
        let entry = Listed { letter: LetterId::from_bytes([4; 32]), class: SizeClass::Middle, expiry: Hour(500_000) };
        assert_eq!(of_listed(&listed(&entry)), Some(entry));
        let stone = Tombstone { letter: entry.letter, until: Hour(500_000), signature: [9; 64] };
        assert_eq!(of_tombstone(&tombstone(&stone)), Some(stone));
    }

    #[test]
    fn keys_are_in_the_order_of_what_they_are_of() {
        let inbox = Placement { of: BlindUse::PrivateInbox, period: 2900, key: BlindedKey::from_bytes([7; 32]) };
        let letter = LetterId::from_bytes([4; 32]);
        assert_eq!(of_letter_key(&letter_key(&inbox, &letter)), Some((inbox, letter)));
        let places = [0, 1, 255, 256, 1 << 40, u64::MAX];
        assert!(places.is_sorted_by_key(|at| place_key(&inbox, *at)));
        places.iter().for_each(|at| assert_eq!(place(&place_key(&inbox, *at)), *at));
        assert!([(0, 9), (1, 0), (255, 1), (256, 0)].is_sorted_by_key(|(hour, at)| due_key(Hour(*hour), *at)));
    }

    #[test]
    fn today_has_a_count_of_stamps_of_its_own() {
        let inbox = InboxRow { day: Day(9), stamped: 70, ..InboxRow::NEW };
        assert_eq!([8, 9, 10].map(|day| inbox.stamped_on(Day(day))), [0, 70, 0]);
    }
}
