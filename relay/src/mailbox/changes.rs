//! Changes: what a mailbox does for a request that changes something, within one commit.
//!
//! Specification: docs/protocol.md, "Mailbox streams" and "Stamps and tickets". Signatures were checked before. A letter
//! that is here, or was deleted, is acknowledged once more and costs nothing. What is refused changes nothing, but that
//! letters that came by repair may have given way.

use redb::ReadableTable;
use trefoil_protocol::{
    blind::BlindUse,
    envelope::{LetterId, SizeClass},
    epoch::UnixSeconds,
    limits::{LETTER_HOURS, TICKET_LISTS},
    mailbox::{Listed, Postage, Refusal},
    period::Day,
    prekeys::PrekeysRecord,
    puzzle::Hour,
    ring::Placement,
    stamp::Stamp,
    ticket::{TicketHash, TicketList},
    tombstone::Tombstone,
};

use super::{
    ledger::{Ledger, Stop, end},
    rows::{
        LetterKey, PREKEYS_ROOM, Row, SPENT_ROOM, State, TICKETS_PIECE, TICKETS_ROOM, TOMBSTONE_ROOM, TicketsKey,
        letter_key, letter_room, listed, place_key, spent_key, tickets_key, tombstone,
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
    /// It was taken from a replica.
    Repaired,
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
            Change::Keep(parcel) => self.keep(parcel, now).map(Done::Kept),
            Change::Delete { inbox, tombstones } => self.delete(inbox, tombstones, now).map(|()| Done::Changed),
            Change::Register { inbox, list, tickets, stamp } => {
                self.check_stamp(stamp, inbox, &LetterId::of(&tickets.encode()), Day::of(now))?;
                self.register(inbox, *list, tickets)?;
                self.count_stamp(inbox, Day::of(now)).map(|()| Done::Changed)
            }
            Change::Publish { placement, stamp, record } => {
                self.publish(placement, stamp, record, now).map(|()| Done::Changed)
            }
            Change::Sweep => self.sweep(Hour::of_unix(now.0)).map(|more| Done::Swept { more }),
        }
    }

    fn keep(&mut self, parcel: &Parcel, now: UnixSeconds) -> Result<Hour, Stop> {
        let key = letter_key(&parcel.inbox, &parcel.letter);
        self.lapse(&key, Hour::of_unix(now.0))?;
        let known = self.letter(&key)?;
        if let Some(row) = known.filter(|row| row.expiry > Hour(0))
            && (row.state != State::Repaired || parcel.way == Way::Repaired)
        {
            return Ok(row.expiry);
        }
        let today = match parcel.way {
            Way::Deposited => Day::of(now),
            Way::Repaired => Day(parcel.inbox.period), // a stamp that was good then is good
        };
        self.check_postage(parcel, today)?;
        let expiry = match known {
            None => self.keep_new(&key, parcel)?,
            Some(row) if row.state == State::Repaired => self.keep_for_good(&key, parcel, row)?,
            Some(row) => self.keep_deleted(&key, parcel, row)?,
        };
        match parcel.postage {
            Postage::Stamp(_) => self.count_stamp(&parcel.inbox, today)?,
            Postage::Ticket(ticket) if parcel.way == Way::Deposited => {
                self.spent.insert(&spent_key(&parcel.inbox, &ticket.hash()), ())?;
                self.reckon(&parcel.inbox, SPENT_ROOM)?;
            }
            Postage::Ticket(_) => {} // it is another mailbox's
        }
        Ok(expiry)
    }

    fn check_postage(&self, parcel: &Parcel, today: Day) -> Result<(), Stop> {
        match &parcel.postage {
            Postage::Stamp(stamp) => self.check_stamp(stamp, &parcel.inbox, &parcel.letter, today),
            Postage::Ticket(_) if parcel.way == Way::Repaired => Ok(()),
            Postage::Ticket(ticket) => {
                let hash = ticket.hash();
                let spent = self.spent.get(&spent_key(&parcel.inbox, &hash))?.is_some();
                let counts = !spent && self.is_registered(&parcel.inbox, &hash)?;
                if counts { Ok(()) } else { Err(Refusal::BadTicket.into()) }
            }
        }
    }

    fn keep_new(&mut self, key: &LetterKey, parcel: &Parcel) -> Result<Hour, Stop> {
        let Parcel { inbox, letter, class, expiry, postage, .. } = parcel;
        let (class, expiry, postage) = (*class, *expiry, *postage);
        let room = letter_room(class);
        let state = match (parcel.way, postage) {
            (Way::Repaired, Postage::Ticket(_)) => State::Repaired,
            _ => State::Kept,
        };
        match parcel.way {
            Way::Deposited => self.take_room(inbox, room)?,
            Way::Repaired => self.take_free_room(inbox, room)?,
        }
        let (place, serial) = (self.next_place(inbox)?, self.serial());
        let at = place_key(inbox, place);
        self.order.insert(&at, &listed(&Listed { letter: *letter, class, expiry }))?;
        if state == State::Repaired {
            self.repaired.insert(&at, key)?;
        }
        self.put_envelope(serial, &parcel.envelope)?;
        let row = Row { state, class: Some(class), place, serial, expiry, until: Hour(0), room, postage };
        self.letters.insert(key, &row.encode())?;
        self.look_again(expiry, key)?;
        Ok(expiry)
    }

    /// One that came by repair, and is deposited now: it gives way to none any more.
    fn keep_for_good(&mut self, key: &LetterKey, parcel: &Parcel, row: Row) -> Result<Hour, Stop> {
        let at = place_key(&parcel.inbox, row.place);
        let expiry = row.expiry.max(parcel.expiry);
        self.repaired.remove(&at)?;
        self.order.insert(&at, &listed(&Listed { letter: parcel.letter, class: parcel.class, expiry }))?;
        let row = Row { state: State::Kept, expiry, postage: parcel.postage, ..row };
        self.letters.insert(key, &row.encode())?;
        self.look_again(expiry, key)?;
        Ok(expiry)
    }

    /// One whose tombstone was here before it: it costs what others cost, and is not there.
    fn keep_deleted(&mut self, key: &LetterKey, parcel: &Parcel, row: Row) -> Result<Hour, Stop> {
        let (room, expiry) = (letter_room(parcel.class), parcel.expiry);
        match parcel.way {
            Way::Deposited => self.take_room(&parcel.inbox, room)?,
            Way::Repaired => return Ok(row.until), // it is not asked for, and nobody hears of it
        }
        self.release(&parcel.inbox, row.room.into())?;
        let until = row.until.max(expiry);
        let row = Row { class: Some(parcel.class), expiry, until, room, postage: parcel.postage, ..row };
        self.letters.insert(key, &row.encode())?;
        self.look_again(until, key)?;
        self.look_again(expiry, key)?;
        Ok(expiry)
    }

    fn delete(&mut self, inbox: &Placement, tombstones: &[Tombstone], now: UnixSeconds) -> Result<(), Stop> {
        if self.inbox(inbox)?.is_none() {
            return Err(Refusal::Gone.into()); // else anyone could leave tombstones for letters of nobody
        }
        let hour = Hour::of_unix(now.0);
        let latest = Hour(hour.0.saturating_add(LETTER_HOURS.into()).saturating_add(1)).min(end(inbox));
        for stone in tombstones {
            let key = letter_key(inbox, &stone.letter);
            self.lapse(&key, hour)?;
            let mut until = stone.until.min(latest);
            let mut known = self.letter(&key)?;
            if let Some(row) = known.filter(|row| row.state == State::Repaired) {
                // nobody has deposited it here: whoever does finds what there is where a tombstone came alone
                self.remove(inbox, &row)?;
                self.letters.remove(&key)?;
                self.release(inbox, row.room.into())?;
                (known, until) = (None, until.max(row.expiry));
            }
            match known {
                Some(row) if row.state == State::Deleted => {}
                Some(row) => {
                    self.remove(inbox, &row)?;
                    let until = until.max(row.expiry);
                    self.bury(&key, inbox, stone, Row { until, ..row })?;
                }
                None if until <= hour => {}
                None => {
                    self.take_room(inbox, TOMBSTONE_ROOM)?;
                    let postage = Postage::Stamp(Stamp { day: Day(0), nonce: 0 }); // of no letter
                    let (class, place, serial, expiry) = (None, 0, 0, Hour(0));
                    let state = State::Deleted;
                    let row = Row { state, class, place, serial, expiry, until, room: TOMBSTONE_ROOM, postage };
                    self.bury(&key, inbox, stone, row)?;
                }
            }
        }
        Ok(())
    }

    fn bury(&mut self, key: &LetterKey, inbox: &Placement, stone: &Tombstone, row: Row) -> Result<(), Stop> {
        let place = self.next_place(inbox)?;
        self.tombstones.insert(&place_key(inbox, place), &tombstone(stone))?;
        self.letters.insert(key, &Row { state: State::Deleted, place, ..row }.encode())?;
        self.look_again(row.until, key)
    }

    fn register(&mut self, inbox: &Placement, list: u8, tickets: &TicketList) -> Result<(), Stop> {
        let (first, last) = (TicketHash([0; 16]), TicketHash([0xff; 16]));
        let (from, to) = (tickets_key(inbox, list, &first), tickets_key(inbox, list, &last));
        if self.tickets.range::<&TicketsKey>(&from..=&to)?.next().is_none() {
            self.take_room(inbox, TICKETS_ROOM)?;
        }
        self.tickets.retain_in::<&TicketsKey, _>(&from..=&to, |_, _| false)?;
        let hashes: Vec<_> = tickets.iter().copied().collect();
        for piece in hashes.chunks(TICKETS_PIECE) {
            let Some(first) = piece.first() else { continue };
            let bytes: Vec<_> = piece.iter().flat_map(|hash| hash.0).collect();
            self.tickets.insert(&tickets_key(inbox, list, first), &*bytes)?;
        }
        Ok(())
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
        match before {
            Some(before) if before == *record => return Ok(()),
            Some(before) if before.revision() >= record.revision() => return Err(Refusal::Stale.into()),
            before => {
                self.check_stamp(stamp, placement, &LetterId::of(record.as_bytes()), Day::of(now))?;
                if before.is_none() {
                    self.take_room(placement, PREKEYS_ROOM)?;
                }
            }
        }
        self.prekeys.insert(&key, record.as_bytes())?;
        self.count_stamp(placement, Day::of(now))
    }

    /// Whether a ticket with this hash is in one of the inbox's lists.
    fn is_registered(&self, inbox: &Placement, hash: &TicketHash) -> Result<bool, Stop> {
        debug_assert_eq!(inbox.of, BlindUse::PrivateInbox);
        for list in 0..TICKET_LISTS {
            let (from, to) = (tickets_key(inbox, list, &TicketHash([0; 16])), tickets_key(inbox, list, hash));
            if let Some(piece) = self.tickets.range::<&TicketsKey>(&from..=&to)?.next_back() {
                let (_, piece) = piece?;
                let (hashes, _) = piece.value().as_chunks::<16>();
                if hashes.binary_search(&hash.0).is_ok() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
