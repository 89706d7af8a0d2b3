//! Expiry: what a mailbox clears away, in steps, hour by hour.
//!
//! Specification: docs/protocol.md, "Mailbox streams". A letter goes when it expires; an inbox, with its tickets and
//! tombstones, after all of its letters. The room of a letter is given back when it would have expired, and not before. To
//! look at something too often, or twice, does nothing.

use redb::ReadableTable;
use trefoil_protocol::{limits::MAILBOX_SWEEP, puzzle::Hour, ring::Placement, ticket::TicketHash};

use super::{
    ledger::{Ledger, Stop},
    rows::{self, DueKey, InboxKey, LetterKey, Row, SpentKey, TicketsKey, spent_key, tickets_key},
};

impl Ledger<'_> {
    /// Looks at what is due, the oldest first, and at about [`MAILBOX_SWEEP`] rows. Is there more?
    pub(super) fn sweep(&mut self, hour: Hour) -> Result<bool, Stop> {
        let mut left = MAILBOX_SWEEP;
        while left > 0 {
            let Some((at, key)) = self.first_due(hour)? else { return Ok(false) };
            self.touch();
            self.due.remove(&at)?;
            let mut looked = 1;
            if let Ok(letter) = <&LetterKey>::try_from(&key[..]) {
                self.look_at(letter, rows::due_hour(&at), hour)?;
            } else if let Some(inbox) = <&InboxKey>::try_from(&key[..]).ok().and_then(Placement::decode) {
                looked += self.end(&inbox, rows::due_hour(&at))?;
            }
            left = left.saturating_sub(looked);
        }
        Ok(true)
    }

    fn first_due(&self, hour: Hour) -> Result<Option<(DueKey, Vec<u8>)>, Stop> {
        let first = self.due.range::<&DueKey>(..=&rows::due_key(hour, u64::MAX))?.next().transpose()?;
        Ok(first.map(|(at, key)| (*at.value(), key.value().to_vec())))
    }

    fn look_at(&mut self, key: &LetterKey, due: Hour, hour: Hour) -> Result<(), Stop> {
        let (Some((inbox, _)), Some(row)) = (rows::of_letter_key(key), self.letter(key)?) else { return Ok(()) };
        if row.due != due {
            return Ok(()); // it is looked at sooner or later than was thought then
        }
        let row = self.passed(&inbox, Row { due: Hour(0), ..row }, hour)?;
        self.settle(key, row).map(|_| ())
    }

    /// Removes of an inbox that is over up to about [`MAILBOX_SWEEP`] rows of a kind, and all of it with the last of them. How many
    /// was it?
    fn end(&mut self, inbox: &Placement, due: Hour) -> Result<usize, Stop> {
        let letters = self.letters_of(inbox, MAILBOX_SWEEP)?;
        for key in &letters {
            self.erase(inbox, key)?;
        }
        let (first, last) = (TicketHash([0; 16]), TicketHash([0xff; 16]));
        let (from, to) = (spent_key(inbox, &first), spent_key(inbox, &last));
        let spent = self.spent.range::<&SpentKey>(&from..=&to)?.take(MAILBOX_SWEEP);
        let spent: Vec<_> = spent.map(|entry| entry.map(|(key, _)| *key.value())).collect::<Result<_, _>>()?;
        for key in &spent {
            self.spent.remove(key)?;
        }
        if letters.len().max(spent.len()) == MAILBOX_SWEEP {
            self.look_again(due, &inbox.encode())?;
            return Ok(letters.len() + spent.len());
        }
        let (from, to) = (tickets_key(inbox, 0, &first), tickets_key(inbox, u8::MAX, &last));
        self.tickets.retain_in::<&TicketsKey, _>(&from..=&to, |_, _| false)?;
        self.prekeys.remove(&inbox.encode())?;
        self.forget(inbox)?;
        Ok(letters.len() + spent.len())
    }
}
