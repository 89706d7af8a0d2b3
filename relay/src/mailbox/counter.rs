//! Counter: where a deposit is checked: its postage, and the room that there is for it.
//!
//! Specification: docs/protocol.md, "Stamps and tickets" and "Mailbox streams". It looks only at what was deposited and
//! registered, never at what came by repair or was deleted: so whoever deposits learns nothing of these. It is asked twice,
//! of what is on disk, before a deposit waits for its turn, and of what is being written. It changes nothing.

use redb::ReadableTable;
use trefoil_protocol::{
    envelope::LetterId,
    epoch::UnixSeconds,
    limits::{DEPOSITS_EIGHTHS, INBOX_ROOM, TICKET_LISTS},
    mailbox::{Postage, Refusal},
    period::Day,
    ring::Placement,
    stamp::{self, Fullness, Stamp, StampError, Stamped},
    ticket::{Ticket, TicketHash},
};

use super::{
    Terms,
    changes::Parcel,
    ledger::Stop,
    rows::{InboxKey, InboxRow, SpentKey, TicketsKey, spent_key, tickets_key},
};

/// What it looks at.
pub(super) struct Counter<'a, I, S, T> {
    pub(super) terms: &'a Terms,
    pub(super) inboxes: &'a I,
    pub(super) spent: &'a S,
    pub(super) tickets: &'a T,
    /// How many bytes all deposits are reckoned at.
    pub(super) deposited: u64,
}

/// What is left at a mailbox that is no letter, and the stamp for it.
pub(super) struct Left<'a> {
    /// Where: an inbox, or a placement of prekeys.
    pub(super) at: &'a Placement,
    /// Which list of tickets, or 0.
    pub(super) list: u8,
    pub(super) what: &'a [u8],
    pub(super) stamp: &'a Stamp,
}

impl Left<'_> {
    /// How many bits the stamp is worth, if it counts on this day and is worth the price.
    pub(super) fn check(&self, terms: &Terms, price: u8, today: Day) -> Result<u32, Refusal> {
        let letter = stamp::left(&terms.identity.id(), self.list, self.what);
        let stamped = Stamped { network: &terms.network, inbox: self.at, letter: &letter };
        check(self.stamp, &stamped, price, today, terms).map(|()| self.stamp.worth(&stamped) + u32::from(terms.rebate))
    }
}

impl<I, S, T> Counter<'_, I, S, T>
where
    I: ReadableTable<&'static InboxKey, &'static [u8; InboxRow::LENGTH]>,
    S: ReadableTable<&'static SpentKey, ()>,
    T: ReadableTable<&'static TicketsKey, &'static [u8]>,
{
    /// Whether a letter is taken that was not deposited before; the list that its ticket is of, or 0.
    pub(super) fn check(&self, parcel: &Parcel, now: UnixSeconds) -> Result<u8, Stop> {
        let row = self.inbox(&parcel.inbox)?;
        let room = parcel.class.reckoned();
        let list = match &parcel.postage {
            Postage::Stamp(stamp) => {
                let today = Day::of(now);
                let price = stamp::letter_price(parcel.class, row.stamped_on(today), self.fullness());
                let price = price.ok_or(Refusal::NotForYou)?;
                self.check_stamp(stamp, (&parcel.inbox, &parcel.letter), price, today)?;
                0
            }
            Postage::Ticket(ticket) => self.list_of(&parcel.inbox, ticket)?,
        };
        let (taken, most) = match &parcel.postage {
            Postage::Stamp(_) => (row.room, INBOX_ROOM),
            Postage::Ticket(_) => {
                let list = row.lists.get(usize::from(list)).copied().unwrap_or_default();
                (list.room.into(), list.paid.into())
            }
        };
        if taken + u64::from(room) > most {
            return Err(Refusal::Quota.into());
        }
        self.check_room(room).map(|()| list)
    }

    /// Whether there is room for so much more that is deposited, registered or published.
    pub(super) fn check_room(&self, room: u32) -> Result<(), Stop> {
        if self.deposited + u64::from(room) > self.size() { Err(Refusal::Full.into()) } else { Ok(()) }
    }

    /// Whether a stamp counts on this day, and is worth the price.
    pub(super) fn check_stamp(
        &self,
        stamp: &Stamp,
        (inbox, letter): (&Placement, &LetterId),
        price: u8,
        today: Day,
    ) -> Result<(), Stop> {
        let stamped = Stamped { network: &self.terms.network, inbox, letter };
        Ok(check(stamp, &stamped, price, today, self.terms)?)
    }

    /// How full the mailbox is, for those who pay.
    pub(super) fn fullness(&self) -> Fullness {
        Fullness::of(self.deposited, self.size())
    }

    /// What is known of an inbox.
    pub(super) fn inbox(&self, inbox: &Placement) -> Result<InboxRow, Stop> {
        Ok(self.inboxes.get(&inbox.encode())?.map_or(InboxRow::NEW, |row| InboxRow::decode(row.value())))
    }

    fn size(&self) -> u64 {
        self.terms.size / 8 * DEPOSITS_EIGHTHS
    }

    /// The list that has a ticket which was not spent.
    fn list_of(&self, inbox: &Placement, ticket: &Ticket) -> Result<u8, Stop> {
        let hash = ticket.hash();
        if self.spent.get(&spent_key(inbox, &hash))?.is_some() {
            return Err(Refusal::BadTicket.into());
        }
        for list in 0..TICKET_LISTS {
            let (from, to) = (tickets_key(inbox, list, &TicketHash([0; 16])), tickets_key(inbox, list, &hash));
            if let Some(piece) = self.tickets.range::<&TicketsKey>(&from..=&to)?.next_back() {
                let (_, piece) = piece?;
                let (hashes, _) = piece.value().as_chunks::<16>();
                if hashes.binary_search(&hash.0).is_ok() {
                    return Ok(list);
                }
            }
        }
        Err(Refusal::BadTicket.into())
    }
}

fn check(stamp: &Stamp, stamped: &Stamped<'_>, price: u8, today: Day, terms: &Terms) -> Result<(), Refusal> {
    let price = price.saturating_sub(terms.rebate);
    stamp.check(stamped, price, today).map_err(|error| match error {
        StampError::Day => Refusal::BadStamp,
        StampError::Bits(_) => Refusal::Price(price),
    })
}
