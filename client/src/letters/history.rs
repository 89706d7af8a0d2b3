//! History: what the person is shown: contacts, conversations with their gaps, and what goes away.
//!
//! Specification: docs/protocol.md, "Conversations". It changes nothing but what is too old.

use std::ops::Range;

use trefoil_protocol::{
    address::Address,
    conversation::Heard,
    epoch::UnixSeconds,
    letter::{InviteToken, MessageId},
    period::Day,
};

use super::{
    FileRow, InviteUse, Letters, LettersError,
    agenda::Job,
    rows::{ContactRow, Delivery, EntryRow, Receipts, Said, Standing},
    vault::{Shelf, VaultError},
    work::{Work, entry_key, entry_of},
};

/// A contact, as the person knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its number in this profile.
    pub id: u32,
    /// Who it is.
    pub address: Address,
    /// What the person calls it.
    pub name: String,
    /// What it wants to be called.
    pub own_name: String,
    /// The words that came with its request.
    pub greeting: String,
    /// How things are with it.
    pub standing: Standing,
    /// Whether the safety number was compared.
    pub verified: bool,
    /// Seconds after which letters go away, or 0.
    pub timer: u32,
    /// When it is told that letters came.
    pub receipts: Receipts,
}

/// Something in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its name.
    pub id: MessageId,
    /// Whether the person said it.
    pub is_ours: bool,
    /// When it was written, in hours since the Unix epoch, by the writer's clock.
    pub written: u32,
    /// When it came, or was written, by the person's clock.
    pub at: UnixSeconds,
    /// What became of it, where the person said it.
    pub delivery: Option<Delivery>,
    /// Whether the person has seen it.
    pub is_shown: bool,
    /// What it says.
    pub said: Said,
    /// The writer's device and sequence.
    place: (u32, u32),
}

/// Places in what a contact said that have not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// By which of its devices.
    pub device: u32,
    /// Which sequences.
    pub places: Range<u32>,
}

impl Letters {
    /// Asks somebody to be a contact, under a name of the person's: its number.
    ///
    /// # Errors
    /// [`LettersError`]; nothing was done then, here and with all that the person does.
    pub fn request(
        &mut self,
        address: &Address,
        (name, greeting): (&str, &str),
        token: Option<InviteToken>,
        now: UnixSeconds,
    ) -> Result<u32, LettersError> {
        self.change(now, |work| work.request(address, name, greeting, token))
    }

    /// Says yes to a request.
    pub fn accept(&mut self, contact: u32, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| work.accept(contact))
    }

    /// Blocks a contact: it cannot write, and cannot see that.
    pub fn block(&mut self, contact: u32, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| work.block(contact))
    }

    /// Lets a contact that was blocked write again.
    pub fn unblock(&mut self, contact: u32, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| work.unblock(contact))
    }

    /// Forgets a contact, or refuses its request. It is told nothing.
    pub fn remove(&mut self, contact: u32, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| work.remove(contact))
    }

    /// Calls a contact something else.
    pub fn rename(&mut self, contact: u32, name: &str, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| work.rename(contact, name))
    }

    /// Takes note of whether the safety number was compared.
    pub fn set_verified(&mut self, contact: u32, verified: bool, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| {
            let mut row = work.contact(contact)?;
            row.verified = verified;
            Ok(work.put_contact(&row)?)
        })
    }

    /// A new invite that counts until then: its token.
    pub fn invite(
        &mut self,
        name: &str,
        expires: UnixSeconds,
        often: InviteUse,
        now: UnixSeconds,
    ) -> Result<InviteToken, LettersError> {
        self.change(now, |work| work.invite(name, expires, often))
    }

    /// An invite counts no more.
    pub fn revoke(&mut self, token: &InviteToken, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| work.revoke(token))
    }

    /// Writes to a contact.
    pub fn write(&mut self, contact: u32, text: &str, now: UnixSeconds) -> Result<MessageId, LettersError> {
        self.change(now, |work| work.write(contact, text))
    }

    /// The person has seen these letters of a contact.
    pub fn shown(&mut self, contact: u32, letters: &[MessageId], now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| work.shown(contact, letters))
    }

    /// Letters with this contact go away so many seconds after they were shown; 0 for never.
    pub fn set_timer(&mut self, contact: u32, seconds: u32, now: UnixSeconds) -> Result<MessageId, LettersError> {
        self.change(now, |work| work.set_timer(contact, seconds))
    }

    /// When a contact is told that its letters came.
    pub fn set_receipts(&mut self, contact: u32, receipts: Receipts, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| {
            let row = work.contact(contact)?;
            Ok(work.put_contact(&ContactRow { receipts, ..row })?)
        })
    }

    /// Whether contacts are told what was read, and the person is told what they read.
    pub fn set_tells_read(&mut self, tells: bool, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| {
            work.person.tells_read = tells;
            Ok(())
        })
    }

    /// Offers a file.
    pub fn offer(
        &mut self,
        contact: u32,
        (name, bytes): (&str, &[u8]),
        now: UnixSeconds,
    ) -> Result<MessageId, LettersError> {
        self.change(now, |work| work.offer(contact, name, bytes))
    }

    /// Says whether a file is wanted.
    pub fn answer_file(
        &mut self,
        contact: u32,
        file: MessageId,
        wanted: bool,
        now: UnixSeconds,
    ) -> Result<MessageId, LettersError> {
        self.change(now, |work| work.answer_file(contact, file, wanted))
    }

    /// How far a file is.
    pub fn file(&mut self, contact: u32, file: MessageId, now: UnixSeconds) -> Result<FileRow, LettersError> {
        self.change(now, |work| work.file(contact, file))
    }

    /// All bytes of a file that has come whole.
    pub fn file_bytes(&mut self, contact: u32, file: MessageId, now: UnixSeconds) -> Result<Vec<u8>, LettersError> {
        self.change(now, |work| work.file_bytes(contact, file))
    }

    /// A file that has come whole is kept elsewhere now, and is forgotten here.
    pub fn file_saved(&mut self, contact: u32, file: MessageId, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| work.file_saved(contact, file))
    }

    /// All contacts, requests and whoever is blocked.
    pub fn contacts(&self) -> Result<Vec<Known>, LettersError> {
        let rows = self.vault.draft()?.scan::<ContactRow>(Shelf::Contact, b"")?;
        rows.into_iter().map(|(_, row)| Known::of(row)).collect()
    }

    /// A conversation: what was said, in order.
    pub fn conversation(&self, contact: u32) -> Result<Vec<Line>, LettersError> {
        let rows = self.vault.draft()?.scan::<EntryRow>(Shelf::Entry, &contact.to_be_bytes())?;
        let (mut lines, mut last): (Vec<Line>, _) = (vec![], (0, 0));
        for line in rows.into_iter().map(|(_, row)| Line::of(row)) {
            let is_late = !line.is_ours && line.place.0 > 0 && line.place < last;
            // What came late stands where its writer said it.
            let is_after = |other: &Line| !other.is_ours && other.place > line.place;
            let late = is_late.then(|| lines.iter().position(is_after)).flatten();
            let at = late.unwrap_or(lines.len());
            last = if line.is_ours { last } else { last.max(line.place) };
            lines.insert(at, line);
        }
        Ok(lines)
    }

    /// One letter of a conversation.
    pub fn line(&self, contact: u32, letter: &MessageId) -> Result<Option<Line>, LettersError> {
        let found = entry_of(&self.vault.draft()?, contact, &letter.0)?;
        Ok(found.map(|(_, row)| Line::of(row)))
    }

    /// How many letters of a contact were not shown.
    pub fn unread(&self, contact: u32) -> Result<usize, LettersError> {
        Ok(self.vault.draft()?.keys(Shelf::Unread, &contact.to_be_bytes())?.len())
    }

    /// How many letters are on their way to a contact, of those that stand in the conversation.
    pub fn waiting(&self, contact: u32) -> Result<usize, LettersError> {
        let rows = self.vault.draft()?.scan::<bool>(Shelf::Waiting, &contact.to_be_bytes())?;
        Ok(rows.into_iter().filter(|(_, is_said)| *is_said).count())
    }

    /// What a contact has said that has not come.
    pub fn gaps(&self, contact: u32) -> Result<Vec<Gap>, LettersError> {
        let row: Option<ContactRow> = self.vault.draft()?.get(Shelf::Contact, &contact.to_be_bytes())?;
        let heard = Heard::decode(&row.ok_or(LettersError::Unknown)?.heard).map_err(|_| LettersError::Damaged)?;
        Ok(heard.missing().map(|(device, places)| Gap { device, places: places.clone() }).collect())
    }
}

impl Known {
    fn of(row: ContactRow) -> Result<Self, LettersError> {
        let address = Address::from_bytes(row.address).map_err(|_| LettersError::Damaged)?;
        let ContactRow { id, name, own_name, greeting, standing, verified, timer, receipts, .. } = row;
        Ok(Self { id, address, name, own_name, greeting, standing, verified, timer, receipts })
    }
}

impl Line {
    fn of(row: EntryRow) -> Self {
        Self {
            id: MessageId(row.id),
            is_ours: row.sent.is_some(),
            written: row.written,
            at: UnixSeconds(row.at),
            delivery: row.sent,
            is_shown: row.shown.is_some(),
            said: row.said,
            place: row.place,
        }
    }
}

impl Work<'_> {
    /// Has go away what is to.
    pub(super) fn tidy(&mut self) -> Result<(), LettersError> {
        let today = Day::of(self.now).0;
        while let Some((serial, (last, name))) = self.draft.first::<(u32, [u8; 16])>(Shelf::Forgotten)? {
            if last >= today {
                break;
            }
            self.draft.remove(Shelf::Forgotten, &serial)?;
            self.draft.remove(Shelf::Seen, &name)?;
        }
        let mut next = self.now.0 + 24 * 3600;
        for (key, gone) in self.draft.scan::<u64>(Shelf::Going, b"")? {
            if gone > self.now.0 {
                next = next.min(gone);
                continue;
            }
            if let Some(later) = self.go(&key)? {
                next = next.min(later);
            }
        }
        self.jobs.push((next, Job::Tidy));
        Ok(())
    }

    /// Has an entry go away with all that it leads to, or not yet: then when to look at it again.
    fn go(&mut self, key: &[u8]) -> Result<Option<u64>, LettersError> {
        if let Some(entry) = self.draft.get::<EntryRow>(Shelf::Entry, key)? {
            let contact = key.first_chunk().map_or(0, |contact| u32::from_be_bytes(*contact));
            if matches!(entry.said, Said::File { .. }) {
                let latest = entry.shown.unwrap_or(entry.at) + u64::from(entry.timer) + self.settings.delivery;
                if self.now.0 < latest && self.is_under_way(contact, MessageId(entry.id))? {
                    let later = self.now.0 + u64::from(entry.timer);
                    self.draft.put(Shelf::Going, key, &later)?;
                    return Ok(Some(later));
                }
                self.forget_file(contact, MessageId(entry.id))?;
            }
            self.forget_name(contact, &entry.id)?;
        }
        self.draft.remove(Shelf::Going, key)?;
        self.draft.remove(Shelf::Entry, key)?;
        Ok(None)
    }

    /// Has an entry go away in its time, once that is known.
    pub(super) fn goes_at(&mut self, (contact, serial): (u32, u64), entry: &EntryRow) -> Result<(), VaultError> {
        let Some(gone) = goes(entry) else { return Ok(()) };
        self.draft.put(Shelf::Going, &entry_key(contact, serial), &gone)?;
        self.jobs.push((gone, Job::Tidy));
        Ok(())
    }
}

/// When an entry goes away, if it does: one's own when it is read, or delivered where that is not told.
fn goes(entry: &EntryRow) -> Option<u64> {
    let from = match entry.sent {
        None => entry.shown?,
        Some(delivery) if delivery.is_over() => entry.at,
        Some(_) => return None,
    };
    (entry.timer > 0).then(|| from + u64::from(entry.timer))
}
