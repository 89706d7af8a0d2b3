//! Ledger: a mailbox's tables while they are written, and the room that everything takes.
//!
//! Specification: docs/protocol.md, "Mailbox streams". All changes of one commit go through one of these. What was
//! deposited, what came by repair, and tombstones are each reckoned by themselves, so that none of them shows in what is
//! said of another. What is in the way when there is no room any more came by repair. It never commits: `writer.rs` does.

use redb::{ReadableTable, StorageError, Table, TableError, WriteTransaction};
use trefoil_protocol::{
    identity::RelayId,
    limits::{REPAIRED_ROOM, SOURCE_EIGHTHS, SOURCE_ROOM, TOMBSTONES_EIGHTHS},
    mailbox::Refusal,
    period::Day,
    puzzle::Hour,
    ring::Placement,
};

use super::{
    Terms,
    counter::Counter,
    rows::{
        self, ARRIVED, BY_REPAIR, DEPOSITED, DUE, DueKey, ENVELOPES, INBOXES, InboxKey, InboxRow, LETTERS, LetterKey,
        ORDER, PREKEYS, PlaceKey, REPAIRED, Row, SERIAL, SOURCES, SPENT, STONES, SourceKey, SpentKey, TICKETS,
        TOMBSTONE_ROOM, TOMBSTONES, TOTALS, TicketsKey, source_key,
    },
};

/// The tables, open for writing.
pub(super) struct Ledger<'t> {
    pub(super) terms: &'t Terms,
    pub(super) inboxes: Table<'t, &'static InboxKey, &'static [u8; InboxRow::LENGTH]>,
    pub(super) arrived: Table<'t, u64, &'static InboxKey>,
    pub(super) letters: Table<'t, &'static LetterKey, &'static [u8; Row::LENGTH]>,
    pub(super) order: Table<'t, &'static PlaceKey, &'static [u8; 37]>,
    pub(super) tombstones: Table<'t, &'static PlaceKey, &'static [u8; 100]>,
    pub(super) repaired: Table<'t, u64, &'static [u8; rows::REPAIRED_LENGTH]>,
    pub(super) envelopes: Table<'t, u64, &'static [u8]>,
    pub(super) tickets: Table<'t, &'static TicketsKey, &'static [u8]>,
    pub(super) spent: Table<'t, &'static SpentKey, ()>,
    pub(super) prekeys: Table<'t, &'static InboxKey, &'static [u8; 1482]>,
    pub(super) due: Table<'t, &'static DueKey, &'static [u8]>,
    sources: Table<'t, &'static SourceKey, u64>,
    totals: Table<'t, u8, u64>,
    deposited: u64,
    by_repair: u64,
    stones: u64,
    serial: u64,
    touched: bool,
}

/// Why something is not done.
#[derive(Debug)]
pub(super) enum Stop {
    /// Whoever asked is told why, and nothing of this request was done; others' are.
    Refused(Refusal),
    /// The file cannot be written: nothing of this commit is done.
    Failed(Box<redb::Error>),
}

impl<'t> Ledger<'t> {
    /// Opens the tables, and makes those that are not there.
    pub(super) fn open(transaction: &'t WriteTransaction, terms: &'t Terms) -> Result<Self, redb::Error> {
        let totals = transaction.open_table(TOTALS)?;
        let total = |of| Ok::<_, redb::Error>(totals.get(of)?.map_or(0, |total| total.value()));
        let (deposited, by_repair, stones) = (total(DEPOSITED)?, total(BY_REPAIR)?, total(STONES)?);
        let serial = total(SERIAL)?;
        Ok(Self {
            terms,
            inboxes: transaction.open_table(INBOXES)?,
            arrived: transaction.open_table(ARRIVED)?,
            letters: transaction.open_table(LETTERS)?,
            order: transaction.open_table(ORDER)?,
            tombstones: transaction.open_table(TOMBSTONES)?,
            repaired: transaction.open_table(REPAIRED)?,
            envelopes: transaction.open_table(ENVELOPES)?,
            tickets: transaction.open_table(TICKETS)?,
            spent: transaction.open_table(SPENT)?,
            prekeys: transaction.open_table(PREKEYS)?,
            due: transaction.open_table(DUE)?,
            sources: transaction.open_table(SOURCES)?,
            totals,
            deposited,
            by_repair,
            stones,
            serial,
            touched: false,
        })
    }

    /// Writes the totals; without it, nothing that was done may be committed. Was anything done?
    pub(super) fn close(mut self) -> Result<bool, redb::Error> {
        if self.touched {
            self.totals.insert(DEPOSITED, self.deposited)?;
            self.totals.insert(BY_REPAIR, self.by_repair)?;
            self.totals.insert(STONES, self.stones)?;
            self.totals.insert(SERIAL, self.serial)?;
        }
        Ok(self.touched)
    }

    /// Something is done, so that there is something to commit.
    pub(super) fn touch(&mut self) {
        self.touched = true;
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
    pub(super) fn change<T>(&mut self, inbox: &Placement, change: impl FnOnce(&mut InboxRow) -> T) -> Result<T, Stop> {
        self.touch();
        let key = inbox.encode();
        let mut row = match self.inbox(inbox)? {
            Some(row) => row,
            None => {
                self.look_again(end(inbox), &key)?;
                let arrived = self.serial();
                self.arrived.insert(arrived, &key)?;
                InboxRow { arrived, ..InboxRow::NEW }
            }
        };
        let changed = change(&mut row);
        self.inboxes.insert(&key, &row.encode())?;
        Ok(changed)
    }

    /// The next place among an inbox's letters and tombstones.
    pub(super) fn next_place(&mut self, inbox: &Placement) -> Result<u64, Stop> {
        self.change(inbox, |row| {
            row.next = row.next.saturating_add(1);
            row.next - 1
        })
    }

    /// What checks deposits.
    pub(super) fn counter(
        &self,
    ) -> Counter<
        '_,
        impl ReadableTable<&'static InboxKey, &'static [u8; InboxRow::LENGTH]>,
        impl ReadableTable<&'static SpentKey, ()>,
        impl ReadableTable<&'static TicketsKey, &'static [u8]>,
    > {
        let Self { terms, inboxes, spent, tickets, deposited, .. } = self;
        Counter { terms, inboxes, spent, tickets, deposited: *deposited }
    }

    /// Counts a letter with a stamp, or prekeys, that were taken: they make the next ones dearer.
    pub(super) fn count_stamp(&mut self, inbox: &Placement, today: Day) -> Result<(), Stop> {
        self.change(inbox, |row| {
            (row.stamped, row.day) = (row.stamped_on(today).saturating_add(1), today);
        })
    }

    /// Counts so much room for what was deposited, registered or published, whether or not it is there.
    pub(super) fn reckon(&mut self, inbox: &Placement, room: u32) -> Result<(), Stop> {
        self.deposited += u64::from(room);
        self.change(inbox, |row| row.room += u64::from(room))
    }

    /// Gives the room of a letter back that was deposited.
    pub(super) fn release(&mut self, inbox: &Placement, row: &Row) -> Result<(), Stop> {
        let room = row.room;
        self.deposited = self.deposited.saturating_sub(room.into());
        self.change(inbox, |inbox| {
            inbox.room = inbox.room.saturating_sub(room.into());
            if let Some(list) = inbox.lists.get_mut(usize::from(row.list)) {
                list.room = list.room.saturating_sub(room);
            }
        })
    }

    /// Whether there is room for so many tombstones more.
    pub(super) fn check_stones(&self, inbox: &Placement, count: usize) -> Result<(), Stop> {
        let room = u64::from(TOMBSTONE_ROOM).saturating_mul(count as u64);
        let row = self.inbox(inbox)?.unwrap_or(InboxRow::NEW);
        if row.stones + room > row.stones_room() {
            return Err(Refusal::Quota.into());
        }
        let most = self.terms.size / 8 * TOMBSTONES_EIGHTHS;
        if self.stones + room > most { Err(Refusal::Full.into()) } else { Ok(()) }
    }

    /// Counts a tombstone.
    pub(super) fn reckon_stone(&mut self, inbox: &Placement) -> Result<(), Stop> {
        self.stones += u64::from(TOMBSTONE_ROOM);
        self.change(inbox, |row| row.stones += u64::from(TOMBSTONE_ROOM))
    }

    /// Whether a replica may tell so much more. It drives nothing out.
    pub(super) fn check_repaired(&self, inbox: &Placement, source: &RelayId, room: u32) -> Result<(), Stop> {
        let room = u64::from(room);
        let told = |of| Ok::<_, Stop>(self.sources.get(&source_key(of, source))?.map_or(0, |room| room.value()));
        let of_inbox = self.inbox(inbox)?.map_or(0, |row| row.repaired);
        if of_inbox + room > REPAIRED_ROOM || told(Some(inbox))? + room > SOURCE_ROOM {
            return Err(Refusal::Quota.into());
        }
        let is_full = self.all() + room > self.terms.size;
        let is_much = told(None)? + room > self.terms.size / 8 * SOURCE_EIGHTHS;
        if is_full || is_much { Err(Refusal::Full.into()) } else { Ok(()) }
    }

    /// Counts so much that a replica told.
    pub(super) fn reckon_repaired(&mut self, inbox: &Placement, source: &RelayId, room: u32) -> Result<(), Stop> {
        let room = u64::from(room);
        self.by_repair += room;
        self.change(inbox, |row| row.repaired += room)?;
        self.change_sources(inbox, source, |told| told.saturating_add(room))
    }

    /// Gives back the room of what a replica told.
    pub(super) fn release_repaired(&mut self, inbox: &Placement, source: &RelayId, room: u32) -> Result<(), Stop> {
        let room = u64::from(room);
        self.by_repair = self.by_repair.saturating_sub(room);
        self.change(inbox, |row| row.repaired = row.repaired.saturating_sub(room))?;
        self.change_sources(inbox, source, |told| told.saturating_sub(room))
    }

    fn change_sources(&mut self, inbox: &Placement, source: &RelayId, change: impl Fn(u64) -> u64) -> Result<(), Stop> {
        for of in [Some(inbox), None] {
            let key = source_key(of, source);
            let before = self.sources.get(&key)?.map_or(0, |room| room.value());
            match change(before) {
                0 => drop(self.sources.remove(&key)?),
                told => drop(self.sources.insert(&key, told)?),
            }
        }
        Ok(())
    }

    /// Whether there is more than the mailbox has room for.
    pub(super) fn is_over(&self) -> bool {
        self.all() > self.terms.size
    }

    fn all(&self) -> u64 {
        self.deposited + self.by_repair + self.stones
    }

    /// Forgets an inbox that nothing is left of but what it is reckoned at.
    pub(super) fn forget(&mut self, inbox: &Placement) -> Result<(), Stop> {
        let Some(row) = self.inbox(inbox)? else { return Ok(()) };
        self.touch();
        self.deposited = self.deposited.saturating_sub(row.room);
        self.stones = self.stones.saturating_sub(row.stones);
        self.arrived.remove(row.arrived)?;
        self.inboxes.remove(&inbox.encode())?;
        Ok(())
    }

    /// Has this key looked at again from an hour on.
    pub(super) fn look_again(&mut self, hour: Hour, key: &[u8]) -> Result<(), Stop> {
        self.touch();
        let serial = self.serial();
        self.due.insert(&rows::due_key(hour, serial), key)?;
        Ok(())
    }
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
