//! Rows: the tables of a mailbox's file, and their bytes.
//!
//! Specification: docs/operator.md, "The data directory". Keys begin with the inbox, so that all that is of one lies
//! together. Numbers in keys are big-endian, which is the order that the file has. This file never reads or writes one.

use redb::TableDefinition;
use trefoil_protocol::{
    envelope::{LetterId, SizeClass},
    identity::RelayId,
    limits::{TICKET_LISTS, TOMBSTONES_LEAST, TOMBSTONES_PART},
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
/// `placement 37 ‖ RelayId 32`; zeros in the place of the placement for all of them.
pub(super) type SourceKey = [u8; Placement::LENGTH + 32];
/// `hour 4 ‖ serial 8`.
pub(super) type DueKey = [u8; 4 + 8];

/// What is known of each inbox, and of each placement of prekeys.
pub(super) const INBOXES: TableDefinition<'_, &InboxKey, &[u8; InboxRow::LENGTH]> = TableDefinition::new("inboxes");
/// What is known of each letter: who wants it here, or that it is to be gone.
pub(super) const LETTERS: TableDefinition<'_, &LetterKey, &[u8; Row::LENGTH]> = TableDefinition::new("letters");
/// Letters that are here, in the order in which they came.
pub(super) const ORDER: TableDefinition<'_, &PlaceKey, &[u8; LISTED]> = TableDefinition::new("order");
/// Tombstones, in the order in which they came; one order with the letters.
pub(super) const TOMBSTONES: TableDefinition<'_, &PlaceKey, &[u8; Tombstone::LENGTH]> =
    TableDefinition::new("tombstones");
/// Letters that came by repair and give way to what is deposited, by the serial of their envelopes, which is the order in
/// which they came.
pub(super) const REPAIRED: TableDefinition<'_, u64, &[u8; REPAIRED_LENGTH]> = TableDefinition::new("repaired");
/// Bytes of disk that what came from one replica takes: of one inbox, and of all.
pub(super) const SOURCES: TableDefinition<'_, &SourceKey, u64> = TableDefinition::new("sources");
/// Inboxes, and placements of prekeys, in the order in which something came for them first.
pub(super) const ARRIVED: TableDefinition<'_, u64, &InboxKey> = TableDefinition::new("arrived");
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
/// The numbers of the whole file.
pub(super) const TOTALS: TableDefinition<'_, u8, u64> = TableDefinition::new("totals");
/// How many bytes all is reckoned at that was deposited, registered or published.
pub(super) const DEPOSITED: u8 = 0;
/// The last number that was given to what needs one of its own.
pub(super) const SERIAL: u8 = 1;
/// How many bytes all is reckoned at that came by repair.
pub(super) const BY_REPAIR: u8 = 2;
/// How many bytes all tombstones are reckoned at.
pub(super) const STONES: u8 = 3;

/// Bytes of an envelope in one row: a row of so many fills a page of the file, and two short letters fit one.
pub(super) const PIECE: usize = 4064;
/// Hashes of tickets in one row: again a page.
pub(super) const TICKETS_PIECE: usize = 248;
/// Bytes of disk that a tombstone is reckoned at.
pub(super) const TOMBSTONE_ROOM: u32 = 512;
/// Bytes of disk that a spent ticket is reckoned at, for as long as its inbox is kept.
pub(super) const SPENT_ROOM: u32 = 128;
/// Bytes of disk that a list of tickets is reckoned at.
pub(super) const TICKETS_ROOM: u32 = 80 << 10;
/// Bytes of disk that prekeys are reckoned at.
pub(super) const PREKEYS_ROOM: u32 = 2 << 10;
const LISTED: usize = 32 + 1 + 4;
/// `placement 37 ‖ letter id 32 ‖ RelayId 32`: which letter, and who told it.
pub(super) const REPAIRED_LENGTH: usize = Placement::LENGTH + 32 + 32;

/// What is known of an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InboxRow {
    /// The place of the next letter or tombstone; from 1.
    pub(super) next: u64,
    /// Its number among those that arrived.
    pub(super) arrived: u64,
    /// Bytes of disk that it is reckoned at for what was deposited, registered and published.
    pub(super) room: u64,
    /// Bytes of disk of what strangers have ever deposited.
    pub(super) paid: u64,
    /// Bytes of disk that its tombstones are reckoned at.
    pub(super) stones: u64,
    /// Bytes of disk that it is reckoned at for what came by repair.
    pub(super) repaired: u64,
    /// The day of `stamped`.
    pub(super) day: Day,
    /// How many letters with stamps were taken that day.
    pub(super) stamped: u32,
    /// Its lists of tickets.
    pub(super) lists: [ListRow; TICKET_LISTS as usize],
}

/// What is known of a list of tickets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ListRow {
    /// Bytes of disk that letters with its tickets may take; 0 where there is no list.
    pub(super) paid: u32,
    /// Bytes that they take.
    pub(super) room: u32,
}

/// What is known of a letter. It is here for as long as somebody wants it here: who deposited it, or a replica. Neither
/// of the two shows in what the other is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// None has a tombstone that no letter came for.
    pub(super) class: Option<SizeClass>,
    /// Its place among the letters; or, once deleted, its tombstone's.
    pub(super) place: u64,
    /// Which envelope is its.
    pub(super) serial: u64,
    /// Until when it was deposited for, whatever has become of it since; hour 0 for not at all.
    pub(super) deposited: Hour,
    /// Bytes of disk that it is reckoned at until then.
    pub(super) room: u32,
    /// With a ticket of which list.
    pub(super) list: u8,
    /// Until when a replica has it; hour 0 where it did not come by repair, or was deleted.
    pub(super) repaired: Hour,
    pub(super) fate: Fate,
    /// When it is looked at again; hour 0 for never.
    pub(super) due: Hour,
    pub(super) postage: Postage,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is here.
    Here = 0,
    /// Its owner has deleted it, and there was no room for the tombstone.
    Gone = 1,
    /// Its owner has deleted it, and the tombstone counts for as long as the inbox is kept.
    Buried = 2,
}

pub(super) fn letter_key(inbox: &Placement, letter: &LetterId) -> LetterKey {
    joined(&[&inbox.encode(), letter.as_bytes()])
}

/// The keys of the first and the last letter that an inbox can have.
pub(super) fn letters_of(inbox: &Placement) -> (LetterKey, LetterKey) {
    let key = |letter| letter_key(inbox, &LetterId::from_bytes([letter; 32]));
    (key(0), key(u8::MAX))
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

/// The hour in a key.
pub(super) fn due_hour(key: &DueKey) -> Hour {
    key.first_chunk().map_or(Hour(0), |hour| Hour(u32::from_be_bytes(*hour)))
}

pub(super) fn source_key(inbox: Option<&Placement>, source: &RelayId) -> SourceKey {
    joined(&[&inbox.map_or([0; Placement::LENGTH], Placement::encode), source.as_bytes()])
}

pub(super) fn repaired(key: &LetterKey, source: &RelayId) -> [u8; REPAIRED_LENGTH] {
    joined(&[key, source.as_bytes()])
}

/// The letter, and who told it.
pub(super) fn of_repaired(bytes: &[u8; REPAIRED_LENGTH]) -> (LetterKey, RelayId) {
    let mut fields = Fields(bytes);
    (fields.take(), RelayId::from_bytes(fields.take()))
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
    pub(super) const LENGTH: usize = 6 * 8 + 2 * 4 + TICKET_LISTS as usize * 8;

    /// One that nothing came for yet.
    pub(super) const NEW: Self = Self {
        next: 1,
        arrived: 0,
        room: 0,
        paid: 0,
        stones: 0,
        repaired: 0,
        day: Day(0),
        stamped: 0,
        lists: [ListRow { paid: 0, room: 0 }; _],
    };

    pub(super) fn encode(&self) -> [u8; Self::LENGTH] {
        let Self { next, arrived, room, paid, stones, repaired, day, stamped, lists } = self;
        let longs = [next, arrived, room, paid, stones, repaired].map(|number| number.to_le_bytes());
        let shorts = [day.0, *stamped].into_iter().chain(lists.iter().flat_map(|list| [list.paid, list.room]));
        let shorts: Vec<_> = shorts.flat_map(u32::to_le_bytes).collect();
        joined(&[longs.as_flattened(), &shorts])
    }

    pub(super) fn decode(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            next: fields.u64(),
            arrived: fields.u64(),
            room: fields.u64(),
            paid: fields.u64(),
            stones: fields.u64(),
            repaired: fields.u64(),
            day: Day(fields.u32()),
            stamped: fields.u32(),
            lists: std::array::from_fn(|_| ListRow { paid: fields.u32(), room: fields.u32() }),
        }
    }

    /// How many letters with stamps were taken today.
    pub(super) fn stamped_on(&self, today: Day) -> u32 {
        if self.day == today { self.stamped } else { 0 }
    }

    /// Bytes of disk that its tombstones may take: more, the more was paid for it.
    pub(super) fn stones_room(&self) -> u64 {
        let paid = self.lists.iter().map(|list| u64::from(list.paid)).sum::<u64>() + self.paid;
        TOMBSTONES_LEAST + paid / TOMBSTONES_PART
    }
}

impl Row {
    pub(super) const LENGTH: usize = 1 + 8 + 8 + 4 + 4 + 1 + 4 + 1 + 4 + 1 + 16;

    /// One that nobody wants here yet.
    pub(super) const NEW: Self = Self {
        class: None,
        place: 0,
        serial: 0,
        deposited: Hour(0),
        room: 0,
        list: 0,
        repaired: Hour(0),
        fate: Fate::Here,
        due: Hour(0),
        postage: Postage::Stamp(Stamp { day: Day(0), nonce: 0 }), // of no letter
    };

    /// Until when the letter is here, if it was not deleted.
    pub(super) fn expiry(&self) -> Hour {
        self.deposited.max(self.repaired)
    }

    /// When something of it passes next; hour 0 for never.
    pub(super) fn passes(&self) -> Hour {
        let hours = [self.deposited, self.repaired].into_iter().filter(|hour| *hour > Hour(0));
        hours.min().unwrap_or(Hour(0))
    }

    pub(super) fn encode(&self) -> [u8; Self::LENGTH] {
        let class = self.class.map_or(0, |class| class as u8);
        let (place, serial) = (self.place.to_le_bytes(), self.serial.to_le_bytes());
        let [deposited, room, repaired, due] =
            [self.deposited.0, self.room, self.repaired.0, self.due.0].map(u32::to_le_bytes);
        let postage = match self.postage {
            Postage::Stamp(stamp) => stamp.encode().to_vec(),
            Postage::Ticket(ticket) => ticket.0.to_vec(),
        };
        let (fate, of) = ([self.fate as u8], [self.postage.of() as u8]);
        joined(&[&[class], &place, &serial, &deposited, &room, &[self.list], &repaired, &fate, &due, &of, &postage])
    }

    pub(super) fn decode(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            class: SizeClass::from_number(fields.u8()),
            place: fields.u64(),
            serial: fields.u64(),
            deposited: Hour(fields.u32()),
            room: fields.u32(),
            list: fields.u8(),
            repaired: Hour(fields.u32()),
            fate: match fields.u8() {
                0 => Fate::Here,
                1 => Fate::Gone,
                _ => Fate::Buried,
            },
            due: Hour(fields.u32()),
            postage: match fields.u8() {
                1 => Postage::Stamp(Stamp::decode(&fields.take())),
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

    fn u8(&mut self) -> u8 {
        let [byte] = self.take();
        byte
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

    #[test]
    fn rows_survive_their_bytes() {
        let ticket = Postage::Ticket(Ticket([6; 16]));
        for fate in [Fate::Here, Fate::Gone, Fate::Buried] {
            for class in SizeClass::ALL.map(Some).into_iter().chain([None]) {
                for postage in [STAMP, ticket] {
                    let (deposited, repaired, due) = (Hour(500_000), Hour(500_001), Hour(500_002));
                    let (place, serial, room, list) = (1 << 40, 1 << 50, 3 << 10, 7);
                    let row = Row { class, place, serial, deposited, room, list, repaired, fate, due, postage };
                    assert_eq!(Row::decode(&row.encode()), row);
                }
            }
        }
        let mut inbox = InboxRow { next: 1 << 40, arrived: 1 << 41, room: 1 << 33, paid: 1 << 34, ..InboxRow::NEW };
        inbox = InboxRow { stones: 1 << 35, repaired: 1 << 36, day: Day(20_000), stamped: 77, ..inbox };
        inbox.lists[7] = ListRow { paid: 1 << 20, room: 1 << 19 };
        assert_eq!(InboxRow::decode(&inbox.encode()), inbox);
        let (key, source) = ([8; 69], RelayId::from_bytes([9; 32]));
        assert_eq!(of_repaired(&repaired(&key, &source)), (key, source));
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
        let hours = [(0, 9), (1, 0), (255, 1), (256, 0)];
        assert!(hours.is_sorted_by_key(|(hour, at)| due_key(Hour(*hour), *at)));
        hours.iter().for_each(|(hour, at)| assert_eq!(due_hour(&due_key(Hour(*hour), *at)), Hour(*hour)));
    }

    #[test]
    fn today_has_a_count_of_stamps_of_its_own() {
        let inbox = InboxRow { day: Day(9), stamped: 70, ..InboxRow::NEW };
        assert_eq!([8, 9, 10].map(|day| inbox.stamped_on(Day(day))), [0, 70, 0]);
    }
}
