//! Expiry: what a mailbox clears away, in steps, hour by hour.
//!
//! Specification: docs/protocol.md, "Mailbox streams". A letter goes when it expires, a tombstone when it need not count
//! any more, and an inbox, with its tickets, after all of its letters. The room of a letter is given back when it would
//! have expired, and not before. To look at something too often, or twice, does nothing.

use redb::ReadableTable;
use trefoil_protocol::{limits::MAILBOX_SWEEP, puzzle::Hour, ring::Placement, ticket::TicketHash};

use super::{
    ledger::{Ledger, Stop},
    rows::{self, DueKey, InboxKey, LetterKey, Row, SpentKey, State, TicketsKey, place_key, spent_key, tickets_key},
};

impl Ledger<'_> {
    /// Looks at up to [`MAILBOX_SWEEP`] of what is due, the oldest first. Is there more?
    pub(super) fn sweep(&mut self, hour: Hour) -> Result<bool, Stop> {
        let last = rows::due_key(hour, u64::MAX);
        let due = self.due.range::<&DueKey>(..=&last)?.take(MAILBOX_SWEEP);
        let due: Vec<_> =
            due.map(|due| due.map(|(at, key)| (*at.value(), key.value().to_vec()))).collect::<Result<_, _>>()?;
        for (at, key) in &due {
            self.due.remove(at)?;
            if let Ok(letter) = <&LetterKey>::try_from(&key[..]) {
                self.lapse(letter, hour)?;
            } else if let Some(inbox) = <&InboxKey>::try_from(&key[..]).ok().and_then(Placement::decode) {
                self.end(&inbox)?;
            }
        }
        Ok(due.len() == MAILBOX_SWEEP)
    }

    /// Removes of a letter what has expired by this hour.
    pub(super) fn lapse(&mut self, key: &LetterKey, hour: Hour) -> Result<(), Stop> {
        let (Some((inbox, _)), Some(row)) = (rows::of_letter_key(key), self.letter(key)?) else { return Ok(()) };
        let expired = row.expiry > Hour(0) && row.expiry <= hour;
        if row.state != State::Deleted {
            if expired {
                self.remove(&inbox, &row)?;
                self.letters.remove(key)?;
                self.release(&inbox, row.room.into())?;
            }
            return Ok(());
        }
        if row.until <= hour {
            self.tombstones.remove(&place_key(&inbox, row.place))?;
            self.letters.remove(key)?;
            return self.release(&inbox, row.room.into());
        }
        if expired {
            self.letters.insert(key, &Row { expiry: Hour(0), room: 0, ..row }.encode())?;
            self.release(&inbox, row.room.into())?;
        }
        Ok(())
    }

    /// Removes all of an inbox that is over: its letters have expired before.
    fn end(&mut self, inbox: &Placement) -> Result<(), Stop> {
        let room = self.inbox(inbox)?.map_or(0, |row| row.room);
        self.release(inbox, room)?;
        self.inboxes.remove(&inbox.encode())?;
        self.prekeys.remove(&inbox.encode())?;
        let (first, last) = (TicketHash([0; 16]), TicketHash([0xff; 16]));
        let (from, to) = (tickets_key(inbox, 0, &first), tickets_key(inbox, u8::MAX, &last));
        self.tickets.retain_in::<&TicketsKey, _>(&from..=&to, |_, _| false)?;
        let (from, to) = (spent_key(inbox, &first), spent_key(inbox, &last));
        self.spent.retain_in::<&SpentKey, _>(&from..=&to, |_, ()| false)?;
        Ok(())
    }
}
