//! Receipts: that letters came, and that they were read.
//!
//! Specification: docs/protocol.md, "Delivery". Contacts get them, for letters that stand in the conversation; several go
//! together, after a while that is drawn anew each time. Who was read is told only where both tell it.

use trefoil_protocol::{
    letter::{Content, MessageId, Receipts},
    limits::{RECEIPT_SLOW, RECEIPTS_LISTED},
};

use super::{
    LettersError,
    agenda::Job,
    rows::{OwedRow, Purpose, Receipts as When, Standing},
    vault::Shelf,
    work::{Work, entry_key},
};

/// What is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Delivered,
    Read,
}

impl Work<'_> {
    /// A receipt is owed from now on.
    pub(super) fn owe(&mut self, contact: u32, letter: [u8; 16], kind: Kind) -> Result<(), LettersError> {
        let key = contact.to_be_bytes();
        let mut owed: OwedRow = self.draft.get(Shelf::Owed, &key)?.unwrap_or_default();
        let slower = match self.contact(contact)?.receipts {
            When::Usual => 1,
            When::Slow => RECEIPT_SLOW,
            When::Off => return Ok(()),
        };
        let wait = self.delay(self.settings.receipt * slower);
        if owed.delivered.is_empty() && owed.read.is_empty() {
            owed.due = self.now.plus(wait).0;
        }
        let list = if kind == Kind::Read { &mut owed.read } else { &mut owed.delivered };
        if !list.contains(&letter) {
            list.push(letter);
        }
        self.jobs.push((owed.due, Job::Confirm(contact)));
        Ok(self.draft.put(Shelf::Owed, &key, &owed)?)
    }

    /// Sends what is owed to a contact.
    pub(super) fn confirm(&mut self, id: u32) -> Result<(), LettersError> {
        let key = id.to_be_bytes();
        let Some(owed) = self.draft.get::<OwedRow>(Shelf::Owed, &key)? else { return Ok(()) };
        let mut contact = match self.contact(id) {
            Ok(contact) => contact,
            Err(LettersError::Unknown) => return Ok(self.draft.remove(Shelf::Owed, &key)?),
            Err(error) => return Err(error),
        };
        if contact.standing != Standing::Accepted {
            return Ok(()); // when the answer to a request has come
        }
        if self.now.0 < owed.due {
            self.jobs.push((owed.due, Job::Confirm(id)));
            return Ok(());
        }
        for (read, letters) in [(false, &owed.delivered), (true, &owed.read)] {
            for some in letters.chunks(RECEIPTS_LISTED) {
                let letters = some.iter().map(|id| MessageId(*id)).collect();
                self.say(&mut contact, Content::Receipts(Receipts { read, letters }), Purpose::Silent)?;
            }
        }
        Ok(self.draft.remove(Shelf::Owed, &key)?)
    }

    /// The person has seen these letters of a contact.
    pub(super) fn shown(&mut self, id: u32, letters: &[MessageId]) -> Result<(), LettersError> {
        let contact = self.contact(id)?;
        for letter in letters {
            let Some((serial, mut entry)) = self.entry_of(id, &letter.0)? else { continue };
            if entry.sent.is_some() || entry.shown.is_some() {
                continue;
            }
            entry.shown = Some(self.now.0);
            self.draft.put(Shelf::Entry, &entry_key(id, serial), &entry)?;
            self.draft.remove(Shelf::Unread, &entry_key(id, serial))?;
            self.goes_at((id, serial), &entry)?;
            if self.person.tells_read && contact.standing == Standing::Accepted {
                self.owe(id, letter.0, Kind::Read)?;
            }
        }
        Ok(())
    }
}
