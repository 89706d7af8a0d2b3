//! Backup: whom the person knows and what was said lately, in the person's own inbox, for whoever has the phrase.
//!
//! Specification: docs/protocol.md, "Backups". A backup is a heap of sheets: whatever part of them is found, it is of use,
//! and the newest row counts. All is written anew every few days, so that it lasts, and for each week's inbox. No state of a ratchet is in
//! it, and no letter that is to go away. A sheet goes out as letters do (`outbox.rs`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use trefoil_protocol::{
    address::Address,
    backup::SelfInbox,
    conversation::Heard,
    crypto,
    envelope::LetterId,
    epoch::UnixSeconds,
    letter::{Content, Place},
    limits::{BACKUP_BYTES, BACKUP_CHECK, BACKUP_LETTERS, BACKUP_WHOLE, RESTORE, RESTORE_WAIT, SHEET},
    period::Week,
};

use super::{
    Letters, LettersError, News,
    agenda::Job,
    opening::Verdict,
    room::NO_SLOT,
    rows::{ContactRow, Delivery, EntryRow, Failure, Hidden, OutRow, PassRow, PersonRow, Purpose, Standing},
    sheet::{Page, People, SaidRow, Sheet, encoded, pages, size},
    vault::Shelf,
    work::{Work, entry_key},
};

/// Who a sheet goes to, where others have the number of a contact.
pub(super) const ONESELF: u32 = 0;

/// How a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// When mailboxes took a part of it last.
    pub left: Option<UnixSeconds>,
    /// Whether that of an earlier device is looked for.
    pub restoring: bool,
}

/// What is in the backup of this week.
#[derive(Default, Serialize, Deserialize)]
struct KeptRow {
    week: u32,
    /// When all of it was written last.
    whole_at: u64,
    /// Of the people, as they were written last.
    people: [u8; 32],
    /// What was said before this serial is in it.
    until: u64,
    /// When something that was said was written last.
    said_at: u64,
}

impl Letters {
    /// Looks for what an earlier device of the person's has left, from now on: the profile was made from the phrase.
    ///
    /// # Errors
    /// [`LettersError`].
    pub fn look_for_backup(&mut self, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| {
            work.person.restoring = Some(now.plus(RESTORE).0);
            work.person.since = 0;
            work.wake(0, Job::Plan);
            Ok(())
        })
    }

    /// How the backup is.
    ///
    /// # Errors
    /// [`LettersError`].
    pub fn backup(&self) -> Result<Backup, LettersError> {
        let person: Option<PersonRow> = self.vault.draft()?.get(Shelf::Person, b"")?;
        let person = person.ok_or(LettersError::Damaged)?;
        Ok(Backup { left: person.backed_up.map(UnixSeconds), restoring: person.restoring.is_some() })
    }
}

impl Work<'_> {
    /// The person's self-inbox.
    pub(super) fn own(&self) -> SelfInbox {
        SelfInbox::new(self.network, &self.person.phrase())
    }

    /// Writes what has changed since it was written last; all of it every few days, and where the week is another.
    pub(super) fn back_up(&mut self) -> Result<(), LettersError> {
        self.wake(BACKUP_CHECK, Job::BackUp);
        let mut kept: KeptRow = self.draft.get(Shelf::Backup, b"")?.unwrap_or_default();
        let contacts = self.contacts()?;
        if contacts.is_empty() && kept.week == 0 {
            return Ok(()); // the phrase brings back all there is
        }
        let week = self.own().week(self.now).0;
        let is_whole = kept.week != week || self.now.0 >= kept.whole_at + BACKUP_WHOLE;
        if is_whole {
            kept = KeptRow { week, whole_at: self.now.0, ..KeptRow::default() };
            for (serial, out) in self.waiting(ONESELF)? {
                self.forget_out(serial, &out)?;
            }
        }
        let hash = self.people_hash(&contacts);
        if hash != kept.people {
            kept.people = hash;
            for people in self.people(contacts) {
                self.put_sheet(Page::People(people))?;
            }
        }
        let said = self.said_since(kept.until)?;
        let is_due = is_whole || self.now.0 >= kept.said_at + BACKUP_LETTERS;
        if !said.is_empty() && is_due {
            (kept.until, kept.said_at) = (self.person.next_serial, self.now.0);
            for page in pages(said) {
                self.put_sheet(Page::Said(page))?;
            }
        }
        Ok(self.draft.put(Shelf::Backup, b"", &kept)?)
    }

    /// The people as sheets have them.
    fn people(&self, contacts: Vec<ContactRow>) -> Vec<People> {
        let roster: Vec<_> = contacts.iter().map(|contact| contact.address).collect();
        let pages = pages(contacts.into_iter().map(slim).collect());
        let of = |contacts| People {
            name: self.person.name.clone(),
            tells_read: self.person.tells_read,
            covers: self.person.covers.clone(),
            homes: self.person.homes.clone(),
            filling: self.person.filling.clone(),
            roster: roster.clone(),
            contacts,
        };
        if pages.is_empty() { vec![of(vec![])] } else { pages.into_iter().map(of).collect() }
    }

    /// Changes with what of the people is worth a new sheet: not with each letter.
    fn people_hash(&self, contacts: &[ContactRow]) -> [u8; 32] {
        let still = |contact: &ContactRow| {
            let contact = slim(contact.clone());
            let pass = contact.pass.map(|pass| PassRow { first: 0, salts: vec![], ..pass });
            ContactRow { said: 0, heard: vec![], told: None, pass, ..contact }
        };
        let PersonRow { name, tells_read, covers, homes, .. } = &self.person;
        let homes: Vec<_> = homes.iter().map(|home| &home.whereabouts).collect();
        let contacts: Vec<_> = contacts.iter().map(still).collect();
        crypto::blake3(&[&encoded(&(name, tells_read, covers, homes, contacts))])
    }

    /// What was said from this serial on, the newest first to have room, in order.
    fn said_since(&self, serial: u64) -> Result<Vec<SaidRow>, LettersError> {
        let mut keys = vec![];
        for key in self.draft.keys(Shelf::Entry, b"")? {
            let Some((contact, at)) = key.split_first_chunk::<4>() else { continue };
            let at = at.first_chunk().map_or(0, |at| u64::from_be_bytes(*at));
            if at >= serial {
                keys.push((at, u32::from_be_bytes(*contact)));
            }
        }
        keys.sort_unstable();
        let (mut said, mut room) = (vec![], BACKUP_BYTES);
        for (serial, contact) in keys.into_iter().rev() {
            let Some(entry) = self.draft.get::<EntryRow>(Shelf::Entry, &entry_key(contact, serial))? else { continue };
            if entry.timer > 0 {
                continue; // it is to go away, wherever it is
            }
            let row = SaidRow { with: self.contact(contact)?.address, serial, entry };
            let Some(left) = room.checked_sub(size(&row)) else { break };
            room = left;
            said.push(row);
        }
        said.reverse();
        Ok(said)
    }

    fn put_sheet(&mut self, said: Page) -> Result<(), LettersError> {
        let sheet = Sheet { device: self.person.device, at: self.now.0, said };
        let mut id = [0; 16];
        rand::Rng::fill_bytes(self.rng, &mut id);
        let out = OutRow {
            contact: ONESELF,
            id,
            letter: Hidden(sheet.encode()),
            errand: Purpose::Backup,
            expires: self.now.plus(self.settings.delivery).0,
            delivery: Delivery::Queued(0),
            sealed: None,
            times: 0,
        };
        let serial = self.serial();
        self.draft.put(Shelf::Outgoing, &serial.to_be_bytes(), &out)?;
        self.draft.put(Shelf::Waiting, &entry_key(ONESELF, serial), &false)?;
        self.wake(0, Job::Deliver(serial));
        Ok(())
    }

    /// A sheet that was left by the person. What it says counts when no more come.
    pub(super) fn sheet_came(&mut self, week: u32, envelope: &[u8]) -> Result<Verdict, LettersError> {
        let name = LetterId::of(envelope);
        if self.is_seen(&name)? {
            return Ok(Verdict::Done);
        }
        self.put_seen(&name)?;
        let opened = self.own().open(Week(week), envelope);
        let verdict = if opened.is_some() { Verdict::Done } else { Verdict::Useless };
        if opened
            .as_ref()
            .and_then(|bytes| Sheet::decode(bytes))
            .is_some_and(|sheet| sheet.device != self.person.device)
        {
            let bytes = Hidden(opened.unwrap_or_default());
            self.draft.put(Shelf::Sheet, name.as_bytes(), &bytes)?;
            self.wake(RESTORE_WAIT, Job::Restore);
        }
        Ok(verdict)
    }

    /// Brings back what the sheets say that have come.
    pub(super) fn restore(&mut self) -> Result<(), LettersError> {
        let bytes = self.draft.scan::<Hidden>(Shelf::Sheet, b"")?;
        let mut sheets: Vec<Sheet> = bytes.iter().filter_map(|(_, bytes)| Sheet::decode(&bytes.0)).collect();
        sheets.sort_by_key(|sheet| (sheet.device, sheet.at));
        let devices: BTreeSet<u32> = sheets.iter().map(|sheet| sheet.device).collect();
        let (mut rosters, mut rows, mut said) = (BTreeMap::new(), BTreeMap::new(), vec![]);
        for Sheet { device, at, said: page } in sheets {
            match page {
                Page::Said(rows) => said.extend(rows),
                Page::People(mut people) => {
                    for contact in people.contacts.drain(..) {
                        rows.insert(contact.address, contact); // the newest is the last
                    }
                    rosters.insert(device, (at, people));
                }
            }
        }
        let covered: BTreeSet<u32> = rosters.values().flat_map(|(_, people)| people.covers.clone()).collect();
        rosters.retain(|device, _| !covered.contains(device));
        let known: BTreeSet<_> = rosters.values().flat_map(|(_, people)| people.roster.clone()).collect();
        rows.retain(|address, _| known.contains(address));
        let newest = rosters.into_values().max_by_key(|(at, _)| *at).map(|(_, people)| people);
        let covers: BTreeSet<u32> = self.person.covers.iter().copied().chain(devices).collect();
        if let Some(people) = newest.filter(|_| covers.len() > self.person.covers.len()) {
            self.move_back(people)?;
            self.person.covers = covers.into_iter().collect();
        }
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_by_key(|row| !matches!(row.standing, Standing::Accepted | Standing::RequestedByMe)); // these first
        for contact in rows {
            self.bring_back(contact)?;
        }
        self.recall(said)?;
        self.contacts()?.iter().for_each(|contact| self.tickets_changed(contact));
        self.upkeep()
    }

    /// The person can be found where contacts think, and moves from there: the earlier device may have moved, too, and told
    /// nobody but them.
    fn move_back(&mut self, people: People) -> Result<(), LettersError> {
        let People { name, tells_read, homes, filling, .. } = people;
        if self.person.name.is_empty() {
            self.person.name = name;
        }
        (self.person.tells_read, self.person.filling, self.person.homes) = (tells_read, filling, homes);
        self.move_out();
        for contact in self.contacts()? {
            self.put_contact(&ContactRow { told: None, ..contact })?;
        }
        Ok(())
    }

    /// Somebody whom the person knew is known again, and is told of the new device.
    fn bring_back(&mut self, row: ContactRow) -> Result<(), LettersError> {
        let Ok(address) = Address::from_bytes(row.address) else { return Ok(()) };
        if self.contact_of(&address)?.is_some() {
            return Ok(());
        }
        let name = self.free_name(&row.name, &address)?;
        let ContactRow { id, list, slot, .. } = match self.add_contact(&address, &name, row.slot != NO_SLOT) {
            Ok(added) => added,
            Err(LettersError::TooMany) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut contact = ContactRow { id, name, list, slot, said: 0, told: None, ..row };
        self.put_contact(&contact)?;
        match contact.standing {
            Standing::Accepted => {
                let of = Box::new(self.published()?);
                self.say(&mut contact, Content::Renewal(of), Purpose::Said)?;
                self.news.push(News::Accepted { contact: id });
            }
            Standing::RequestedByMe => {
                self.send_request(&mut contact, "")?;
            }
            Standing::RequestedByThem => self.news.push(News::Requested { contact: id }),
            Standing::Blocked => {}
        }
        Ok(())
    }

    /// What was said stands in the conversations again.
    fn recall(&mut self, mut said: Vec<SaidRow>) -> Result<(), LettersError> {
        said.sort_by_key(|row| row.serial);
        for SaidRow { with, mut entry, .. } in said {
            let Ok(address) = Address::from_bytes(with) else { continue };
            let Some(mut contact) = self.contact_of(&address)? else { continue };
            if self.entry_of(contact.id, &entry.id)?.is_some() {
                continue;
            }
            match entry.sent {
                Some(delivery) if !delivery.is_over() => entry.sent = Some(Delivery::Failed(Failure::Copied)),
                Some(_) => {}
                None => {
                    let mut heard = Heard::decode(&contact.heard).map_err(|_| LettersError::Damaged)?;
                    let place = Place { device: entry.place.0, sequence: entry.place.1 };
                    if heard.hear(place).is_ok() {
                        contact.heard = heard.encode();
                        self.put_contact(&contact)?;
                    }
                }
            }
            self.put_entry(contact.id, &entry)?;
        }
        Ok(())
    }

    /// What an earlier device left is looked for no more, once all of it must have expired.
    pub(super) fn end_restoring(&mut self) -> Result<(), LettersError> {
        if self.person.restoring.is_some_and(|until| self.now.0 >= until) {
            self.person.restoring = None;
            for sheet in self.draft.keys(Shelf::Sheet, b"")? {
                self.draft.remove(Shelf::Sheet, &sheet)?;
            }
        }
        Ok(())
    }
}

/// What a backup has of a contact: all but what would be too long.
fn slim(contact: ContactRow) -> ContactRow {
    let is_answered = contact.standing != Standing::RequestedByThem;
    let greeting = if is_answered { String::new() } else { contact.greeting };
    let heard = if contact.heard.len() > SHEET / 2 { vec![] } else { contact.heard };
    ContactRow { greeting, heard, ..contact }
}
