//! Ledger: a mailbox's tables while they are written, and the room that everything takes.
//!
//! Specification: docs/protocol.md, "Mailbox streams". All changes of one commit go through one of these. It reckons the
//! room of an inbox by what came, and gives it back when that would have expired, whatever has become of it. It never
//! commits: `writer.rs` does.

use redb::{ReadableTable, StorageError, Table, TableError, WriteTransaction};
use trefoil_protocol::{
    envelope::LetterId,
    limits::INBOX_ROOM,
    mailbox::Refusal,
    period::Day,
    puzzle::Hour,
    ring::Placement,
    stamp::{self, Stamp, StampError, Stamped},
};

use super::{
    Terms,
    rows::{
        self, DUE, DueKey, ENVELOPES, INBOXES, InboxKey, InboxRow, LETTERS, LetterKey, ORDER, PIECE, PREKEYS, PlaceKey,
        REPAIRED, ROOM, Row, SERIAL, SPENT, SpentKey, State, TICKETS, TOMBSTONES, TOTALS, TicketsKey, place_key,
    },
};

/// The tables, open for writing.
pub(super) struct Ledger<'t> {
    pub(super) terms: &'t Terms,
    pub(super) inboxes: Table<'t, &'static InboxKey, &'static [u8; 24]>,
    pub(super) letters: Table<'t, &'static LetterKey, &'static [u8; 47]>,
    pub(super) order: Table<'t, &'static PlaceKey, &'static [u8; 37]>,
    pub(super) tombstones: Table<'t, &'static PlaceKey, &'static [u8; 100]>,
    pub(super) repaired: Table<'t, &'static PlaceKey, &'static LetterKey>,
    pub(super) envelopes: Table<'t, u64, &'static [u8]>,
    pub(super) tickets: Table<'t, &'static TicketsKey, &'static [u8]>,
    pub(super) spent: Table<'t, &'static SpentKey, ()>,
    pub(super) prekeys: Table<'t, &'static InboxKey, &'static [u8; 1482]>,
    pub(super) due: Table<'t, &'static DueKey, &'static [u8]>,
    totals: Table<'t, u8, u64>,
    room: u64,
    serial: u64,
}

/// Why something is not done.
#[derive(Debug)]
pub(super) enum Stop {
    /// Whoever asked is told why, and nothing of this request was done; others' are.
    Refused(Refusal),
    /// The file cannot be written: nothing of this commit is done.
    Failed(Box<redb::Error>),
}

/// Whose letters give way.
#[derive(Clone, Copy)]
enum Whose<'a> {
    Of(&'a Placement),
    Anyones,
}

impl<'t> Ledger<'t> {
    /// Opens the tables, and makes those that are not there.
    pub(super) fn open(transaction: &'t WriteTransaction, terms: &'t Terms) -> Result<Self, redb::Error> {
        let totals = transaction.open_table(TOTALS)?;
        let room = totals.get(ROOM)?.map_or(0, |total| total.value());
        let serial = totals.get(SERIAL)?.map_or(0, |total| total.value());
        Ok(Self {
            terms,
            inboxes: transaction.open_table(INBOXES)?,
            letters: transaction.open_table(LETTERS)?,
            order: transaction.open_table(ORDER)?,
            tombstones: transaction.open_table(TOMBSTONES)?,
            repaired: transaction.open_table(REPAIRED)?,
            envelopes: transaction.open_table(ENVELOPES)?,
            tickets: transaction.open_table(TICKETS)?,
            spent: transaction.open_table(SPENT)?,
            prekeys: transaction.open_table(PREKEYS)?,
            due: transaction.open_table(DUE)?,
            totals,
            room,
            serial,
        })
    }

    /// Writes the totals. Without it, nothing that was done may be committed.
    pub(super) fn close(mut self) -> Result<(), redb::Error> {
        self.totals.insert(ROOM, self.room)?;
        self.totals.insert(SERIAL, self.serial)?;
        Ok(())
    }

    /// A number that nothing else has.
    pub(super) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// What is known of an inbox; `None` where nothing came for it yet.
    pub(super) fn inbox(&self, inbox: &Placement) -> Result<Option<InboxRow>, Stop> {
        Ok(self.inboxes.get(&inbox.encode())?.map(|row| InboxRow::decode(row.value())))
    }

    /// Changes what is known of an inbox; one that is new gets an end.
    fn change<T>(&mut self, inbox: &Placement, change: impl FnOnce(&mut InboxRow) -> T) -> Result<T, Stop> {
        let known = self.inbox(inbox)?;
        if known.is_none() {
            self.look_again(end(inbox), &inbox.encode())?;
        }
        let mut row = known.unwrap_or(InboxRow::NEW);
        let changed = change(&mut row);
        self.inboxes.insert(&inbox.encode(), &row.encode())?;
        Ok(changed)
    }

    /// The next place among an inbox's letters and tombstones.
    pub(super) fn next_place(&mut self, inbox: &Placement) -> Result<u64, Stop> {
        self.change(inbox, |row| {
            row.next = row.next.saturating_add(1);
            row.next - 1
        })
    }

    /// Checks that a stamp counts, and is worth what the inbox asks for today.
    pub(super) fn check_stamp(
        &self,
        stamp: &Stamp,
        inbox: &Placement,
        letter: &LetterId,
        today: Day,
    ) -> Result<(), Stop> {
        let price = stamp::price(self.inbox(inbox)?.unwrap_or(InboxRow::NEW).stamped_on(today));
        let stamped = Stamped { network: &self.terms.network, inbox, letter };
        stamp.check(&stamped, price, today).map_err(|error| match error {
            StampError::Day => Stop::Refused(Refusal::BadStamp),
            StampError::Bits(_) => Stop::Refused(Refusal::Price(price)),
        })
    }

    /// Counts a stamp that was taken: it makes the next ones dearer.
    pub(super) fn count_stamp(&mut self, inbox: &Placement, today: Day) -> Result<(), Stop> {
        self.change(inbox, |row| {
            (row.stamped, row.day) = (row.stamped_on(today).saturating_add(1), today);
        })
    }

    /// Takes so much room, for something that gives way to nothing; letters that came by repair give way to it.
    pub(super) fn take_room(&mut self, inbox: &Placement, room: u32) -> Result<(), Stop> {
        while self.room_of(inbox)? + u64::from(room) > INBOX_ROOM {
            self.give_way(Whose::Of(inbox), Refusal::Quota)?;
        }
        while self.room + u64::from(room) > self.terms.size {
            self.give_way(Whose::Anyones, Refusal::Full)?;
        }
        self.reckon(inbox, room)
    }

    /// Takes so much room if it is there.
    pub(super) fn take_free_room(&mut self, inbox: &Placement, room: u32) -> Result<(), Stop> {
        if self.room_of(inbox)? + u64::from(room) > INBOX_ROOM {
            return Err(Refusal::Quota.into());
        }
        if self.room + u64::from(room) > self.terms.size {
            return Err(Refusal::Full.into());
        }
        self.reckon(inbox, room)
    }

    fn room_of(&self, inbox: &Placement) -> Result<u64, Stop> {
        Ok(self.inbox(inbox)?.map_or(0, |row| row.room))
    }

    /// Counts so much room, whether or not it is there.
    pub(super) fn reckon(&mut self, inbox: &Placement, room: u32) -> Result<(), Stop> {
        self.room += u64::from(room);
        self.change(inbox, |row| row.room += u64::from(room))
    }

    /// Gives room back. An inbox that has ended has given all of its own back.
    pub(super) fn release(&mut self, inbox: &Placement, room: u64) -> Result<(), Stop> {
        if self.inbox(inbox)?.is_some() {
            self.room = self.room.saturating_sub(room);
            self.change(inbox, |row| row.room = row.room.saturating_sub(room))?;
        }
        Ok(())
    }

    /// Removes the oldest letter that came by repair; where there is none, this is why nothing more is taken.
    fn give_way(&mut self, whose: Whose<'_>, otherwise: Refusal) -> Result<(), Stop> {
        let (place, key) = self.repaired(whose)?.ok_or(otherwise)?;
        self.repaired.remove(&place)?; // also if nothing is known of the letter: it would be found again and again
        let (Some((inbox, _)), Some(row)) = (rows::of_letter_key(&key), self.letter(&key)?) else { return Ok(()) };
        self.remove(&inbox, &row)?;
        self.letters.remove(&key)?;
        self.release(&inbox, row.room.into())
    }

    /// The oldest letter of an inbox that came by repair, or one of any inbox.
    fn repaired(&self, whose: Whose<'_>) -> Result<Option<(PlaceKey, LetterKey)>, Stop> {
        let (from, to) = match whose {
            Whose::Of(inbox) => (place_key(inbox, 0), place_key(inbox, u64::MAX)),
            Whose::Anyones => ([0; _], [u8::MAX; _]),
        };
        let Some(found) = self.repaired.range::<&PlaceKey>(&from..=&to)?.next() else { return Ok(None) };
        let (place, key) = found?;
        Ok(Some((*place.value(), *key.value())))
    }

    /// What is known of a letter.
    pub(super) fn letter(&self, key: &LetterKey) -> Result<Option<Row>, Stop> {
        Ok(self.letters.get(key)?.map(|row| Row::decode(row.value())))
    }

    /// Removes the envelope of a letter, and its place.
    pub(super) fn remove(&mut self, inbox: &Placement, row: &Row) -> Result<(), Stop> {
        let place = place_key(inbox, row.place);
        self.order.remove(&place)?;
        if row.state == State::Repaired {
            self.repaired.remove(&place)?;
        }
        let pieces = row.class.map_or(0, |class| class.bytes().div_ceil(PIECE)) as u64;
        for piece in 0..pieces {
            self.envelopes.remove(envelope_key(row.serial, piece))?;
        }
        Ok(())
    }

    /// Writes an envelope.
    pub(super) fn put_envelope(&mut self, serial: u64, envelope: &[u8]) -> Result<(), Stop> {
        for (number, piece) in (0..).zip(envelope.chunks(PIECE)) {
            self.envelopes.insert(envelope_key(serial, number), piece)?;
        }
        Ok(())
    }

    /// Has this key looked at again from an hour on.
    pub(super) fn look_again(&mut self, hour: Hour, key: &[u8]) -> Result<(), Stop> {
        let serial = self.serial();
        self.due.insert(&rows::due_key(hour, serial), key)?;
        Ok(())
    }
}

/// The key of a piece of an envelope.
pub(super) fn envelope_key(serial: u64, piece: u64) -> u64 {
    serial.saturating_mul(PIECES).saturating_add(piece)
}

/// From when on nothing of an inbox is kept: some hours after all of its letters have expired.
pub(super) fn end(inbox: &Placement) -> Hour {
    let Hour(last) = Hour::of_unix(inbox.kept_until().0);
    Hour(last.saturating_add(2))
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

/// More than an envelope has.
const PIECES: u64 = 32;
