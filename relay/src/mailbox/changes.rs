//! Changes: what a mailbox does for a request that changes something, within one commit.
//!
//! Specification: docs/protocol.md, "Mailbox streams" and "Stamps and tickets". Signatures were checked before. A letter
//! that was deposited before is acknowledged once more and costs nothing, whatever has become of it. What came by repair
//! was not deposited. What is refused changes nothing.

use redb::ReadableTable;
use trefoil_protocol::{
    envelope::{LetterId, SizeClass},
    epoch::UnixSeconds,
    identity::RelayId,
    mailbox::{Postage, Refusal},
    period::Day,
    prekeys::PrekeysRecord,
    puzzle::Hour,
    ring::Placement,
    stamp::{self, Fullness, Stamp},
    ticket::{TicketHash, TicketList},
    tombstone::Tombstone,
};

use super::{
    counter::Left,
    ledger::{Ledger, Stop},
    rows::{
        Fate, LetterKey, PREKEYS_ROOM, Row, SPENT_ROOM, TICKETS_PIECE, TICKETS_ROOM, TicketsKey, letter_key, spent_key,
        tickets_key,
    },
};

/// What is to be changed.
pub(super) enum Change {
    /// A letter.
    Keep(Parcel),
    /// Tombstones that the owner signed.
    Delete { inbox: Placement, tombstones: Vec<Tombstone> },
    /// Tickets, as the owner asked.
    Register { inbox: Placement, list: u8, tickets: TicketList, stamp: Stamp },
    /// Prekeys that the owner signed.
    Publish { placement: Placement, stamp: Stamp, record: PrekeysRecord },
    /// Clear away some of what has expired.
    Sweep,
}

/// A letter that came.
pub(super) struct Parcel {
    pub(super) inbox: Placement,
    pub(super) letter: LetterId,
    pub(super) class: SizeClass,
    pub(super) expiry: Hour,
    pub(super) postage: Postage,
    pub(super) envelope: Vec<u8>,
    pub(super) way: Way,
}

/// How a letter came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Somebody deposited it.
    Deposited,
    /// It was taken from this replica.
    Repaired(RelayId),
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// The letter is kept until then, or was deleted.
    Kept(Hour),
    /// What was asked for.
    Changed,
    /// Something has expired; is there more?
    Swept { more: bool },
}

impl Ledger<'_> {
    /// Does what is asked for.
    pub(super) fn change_by(&mut self, change: &Change, now: UnixSeconds) -> Result<Done, Stop> {
        match change {
            Change::Keep(parcel) => match &parcel.way {
                Way::Deposited => self.deposit(parcel, now).map(Done::Kept),
                Way::Repaired(source) => self.repair(parcel, source, now).map(Done::Kept),
            },
            Change::Delete { inbox, tombstones } => self.delete(inbox, tombstones, now).map(|()| Done::Changed),
            Change::Register { inbox, list, tickets, stamp } => {
                let left = Left { at: inbox, list: *list, what: &tickets.encode(), stamp };
                let fullness = self.counter().fullness();
                let worth = left.check(self.terms, stamp::list_price(fullness), Day::of(now))?;
                let paid = u32::try_from(stamp::bought(worth, fullness)).unwrap_or(u32::MAX);
                self.register(inbox, *list, tickets, paid).map(|()| Done::Changed)
            }
            Change::Publish { placement, stamp, record } => {
                self.publish(placement, stamp, record, now).map(|()| Done::Changed)
            }
            Change::Sweep => self.sweep(Hour::of_unix(now.0)).map(|more| Done::Swept { more }),
        }
    }

    fn deposit(&mut self, parcel: &Parcel, now: UnixSeconds) -> Result<Hour, Stop> {
        let Parcel { inbox, class, expiry, postage, .. } = parcel;
        let key = letter_key(inbox, &parcel.letter);
        let known = self.lapse(&key, Hour::of_unix(now.0))?;
        if let Some(row) = known.filter(|row| row.deposited > Hour(0)) {
            // whoever asked for less before, or asks for less now, does not cut it short
            let deposited = row.deposited.max(*expiry);
            if deposited > row.deposited {
                self.keep(&key, inbox, Row { deposited, ..row })?;
            }
            return Ok(deposited);
        }
        let list = self.counter().check(parcel, now)?;
        self.pay(parcel, list, now)?;
        self.make_way()?;
        let row = match self.letter(&key)? {
            Some(row) => row, // it came by repair, or was deleted before it came
            None => self.unpack(parcel)?,
        };
        let (class, room) = (Some(*class), class.reckoned());
        self.keep(&key, inbox, Row { class, deposited: *expiry, room, list, postage: *postage, ..row })?;
        Ok(*expiry)
    }

    /// Writes a letter that was deposited; a replica need not have it here for less time.
    fn keep(&mut self, key: &LetterKey, inbox: &Placement, row: Row) -> Result<(), Stop> {
        let is_held = row.repaired > Hour(0) && row.repaired <= row.deposited;
        let row = if is_held { self.let_go(inbox, row)? } else { row };
        self.settle(key, row).map(|_| ())
    }

    fn pay(&mut self, parcel: &Parcel, list: u8, now: UnixSeconds) -> Result<(), Stop> {
        let Parcel { inbox, class, postage, .. } = parcel;
        let room = class.reckoned();
        self.reckon(inbox, room)?;
        match postage {
            Postage::Stamp(_) => {
                self.change(inbox, |row| row.paid += u64::from(room))?;
                self.count_stamp(inbox, Day::of(now))
            }
            Postage::Ticket(ticket) => {
                self.spent.insert(&spent_key(inbox, &ticket.hash()), ())?;
                self.reckon(inbox, SPENT_ROOM)?;
                self.change(inbox, |row| {
                    row.lists.get_mut(usize::from(list)).into_iter().for_each(|list| list.room += room);
                })
            }
        }
    }

    fn repair(&mut self, parcel: &Parcel, source: &RelayId, now: UnixSeconds) -> Result<Hour, Stop> {
        let Parcel { inbox, letter, class, expiry, postage, .. } = parcel;
        let key = letter_key(inbox, letter);
        let known = self.lapse(&key, Hour::of_unix(now.0))?;
        if known.is_some_and(|row| row.fate != Fate::Here || row.expiry() >= *expiry) {
            return Ok(*expiry); // it is not asked for, and nobody hears of it
        }
        if let Postage::Stamp(stamp) = postage {
            // what was good on its day, at a mailbox that nobody had written to
            let price = stamp::letter_price(*class, 0, Fullness::LOW).ok_or(Refusal::NotForYou)?;
            self.counter().check_stamp(stamp, (inbox, letter), price, Day(inbox.period))?;
        }
        if let Some(row) = known.filter(|row| row.repaired > Hour(0)) {
            self.settle(&key, Row { repaired: *expiry, ..row })?;
            return Ok(*expiry);
        }
        self.check_repaired(inbox, source, class.reckoned())?;
        let row = match known {
            Some(row) => row,
            None => self.unpack(parcel)?,
        };
        self.hold(&key, inbox, &row, source)?;
        self.settle(&key, Row { repaired: *expiry, ..row })?;
        Ok(*expiry)
    }

    fn delete(&mut self, inbox: &Placement, tombstones: &[Tombstone], now: UnixSeconds) -> Result<(), Stop> {
        if self.inbox(inbox)?.is_none() {
            return Err(Refusal::Gone.into()); // else anyone could leave tombstones for letters of nobody
        }
        let hour = Hour::of_unix(now.0);
        let mut alone = vec![];
        let mut known = vec![];
        for stone in tombstones {
            let key = letter_key(inbox, &stone.letter);
            match self.lapse(&key, hour)? {
                Some(row) if row.fate == Fate::Buried => {}
                Some(_) => known.push((key, stone)),
                None if stone.until > hour => alone.push((key, stone)),
                None => {}
            }
        }
        self.check_stones(inbox, alone.len()).or_else(|stop| if alone.is_empty() { Ok(()) } else { Err(stop) })?;
        for (key, stone) in alone.into_iter().chain(known) {
            let row = self.letter(&key)?;
            let lone = Row { fate: Fate::Gone, ..Row::NEW };
            if row.is_none_or(|row| row.fate != Fate::Buried) {
                self.bury(&key, stone, row.unwrap_or(lone))?;
            }
        }
        self.make_way()
    }

    fn register(&mut self, inbox: &Placement, list: u8, tickets: &TicketList, paid: u32) -> Result<(), Stop> {
        let (first, last) = (TicketHash([0; 16]), TicketHash([0xff; 16]));
        let (from, to) = (tickets_key(inbox, list, &first), tickets_key(inbox, list, &last));
        if self.tickets.range::<&TicketsKey>(&from..=&to)?.next().is_none() {
            self.counter().check_room(TICKETS_ROOM)?;
            self.reckon(inbox, TICKETS_ROOM)?;
            self.make_way()?;
        }
        self.tickets.retain_in::<&TicketsKey, _>(&from..=&to, |_, _| false)?;
        let hashes: Vec<_> = tickets.iter().copied().collect();
        for piece in hashes.chunks(TICKETS_PIECE) {
            let Some(first) = piece.first() else { continue };
            let bytes: Vec<_> = piece.iter().flat_map(|hash| hash.0).collect();
            self.tickets.insert(&tickets_key(inbox, list, first), &*bytes)?;
        }
        self.change(inbox, |row| {
            // the same stamp, shown again, buys nothing more
            row.lists.get_mut(usize::from(list)).into_iter().for_each(|list| list.paid = list.paid.max(paid));
        })
    }

    fn publish(
        &mut self,
        placement: &Placement,
        stamp: &Stamp,
        record: &PrekeysRecord,
        now: UnixSeconds,
    ) -> Result<(), Stop> {
        let key = placement.encode();
        let before = self.prekeys.get(&key)?.map(|before| PrekeysRecord::from_bytes(before.value()));
        let today = Day::of(now);
        match &before {
            Some(before) if *before == *record => return Ok(()),
            Some(before) if before.revision() >= record.revision() => return Err(Refusal::Stale.into()),
            _ => {}
        }
        let counter = self.counter();
        let stamped = counter.inbox(placement)?.stamped_on(today);
        let price = stamp::letter_price(SizeClass::Short, stamped, counter.fullness()).ok_or(Refusal::NotForYou)?;
        Left { at: placement, list: 0, what: record.as_bytes(), stamp }.check(self.terms, price, today)?;
        if before.is_none() {
            self.counter().check_room(PREKEYS_ROOM)?;
            self.reckon(placement, PREKEYS_ROOM)?;
            self.make_way()?;
        }
        self.prekeys.insert(&key, record.as_bytes())?;
        self.count_stamp(placement, today)
    }
}
