//! Work: one thing that is done with a person's letters, in one change of the vault.
//!
//! Everything that changes belongs to one [`Draft`]: it is on disk before anyone hears of it, or nothing of it has
//! happened. What is to be done next, and what the person is told, counts only when the draft is kept.

use rand::{RngExt, rngs::StdRng};
use trefoil_protocol::{
    address::{Address, AddressSecret},
    epoch::UnixSeconds,
    identity::RelayId,
    inbox::Whereabouts,
    letter::{Content, Letter, MessageId, Place},
    params::NetworkId,
    puzzle::Hour,
    ring::Placement,
};

use super::{
    LettersError, News, Settings,
    agenda::Job,
    room::NO_SLOT,
    rows::{ContactRow, Delivery, EntryRow, Hidden, OutRow, PersonRow, Purpose, Receipts, Said, Standing},
    vault::{Draft, Shelf, VaultError},
};

/// The relays that keep a placement, nearest first: up to 15.
pub type Ring<'a> = &'a dyn Fn(&Placement) -> Vec<RelayId>;

/// See the file's head.
pub(super) struct Work<'a> {
    pub(super) draft: Draft<'a>,
    pub(super) person: PersonRow,
    pub(super) owner: &'a AddressSecret,
    pub(super) network: &'a NetworkId,
    pub(super) settings: &'a Settings,
    pub(super) rng: &'a mut StdRng,
    pub(super) now: UnixSeconds,
    pub(super) news: Vec<News>,
    /// What is to be done, and when.
    pub(super) jobs: Vec<(u64, Job)>,
}

/// What a kept change leaves to be done and told.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) news: Vec<News>,
    pub(super) jobs: Vec<(u64, Job)>,
}

impl Work<'_> {
    /// Keeps all changes.
    pub(super) fn keep(mut self) -> Result<Outcome, VaultError> {
        self.draft.put_if_new(Shelf::Person, b"", &self.person)?;
        self.draft.keep()?;
        Ok(Outcome { news: self.news, jobs: self.jobs })
    }

    pub(super) fn address(&self) -> Address {
        self.owner.address()
    }

    /// Has something be looked at, so many seconds from now.
    pub(super) fn wake(&mut self, after: u64, job: Job) {
        self.jobs.push((self.now.plus(after).0, job));
    }

    pub(super) fn serial(&mut self) -> u64 {
        let serial = self.person.next_serial;
        self.person.next_serial += 1;
        serial
    }

    /// A delay of this mean, exponential, and at most eight times as long.
    pub(super) fn delay(&mut self, mean: u64) -> u64 {
        delay(mean, self.rng)
    }

    pub(super) fn home(&self) -> Whereabouts {
        let home = self.person.homes.last().expect("a person lives somewhere");
        Whereabouts::decode(&home.whereabouts.array())
    }

    pub(super) fn contact(&self, id: u32) -> Result<ContactRow, LettersError> {
        self.draft.get(Shelf::Contact, &id.to_be_bytes())?.ok_or(LettersError::Unknown)
    }

    pub(super) fn contacts(&self) -> Result<Vec<ContactRow>, VaultError> {
        Ok(self.draft.scan(Shelf::Contact, b"")?.into_iter().map(|(_, row)| row).collect())
    }

    pub(super) fn contact_of(&self, address: &Address) -> Result<Option<ContactRow>, LettersError> {
        let key = self.draft.name(Shelf::ContactOf, &[address.as_bytes()]);
        let id: Option<u32> = self.draft.get(Shelf::ContactOf, &key)?;
        id.map(|id| self.contact(id)).transpose()
    }

    pub(super) fn put_contact(&mut self, row: &ContactRow) -> Result<(), VaultError> {
        self.draft.put(Shelf::Contact, &row.id.to_be_bytes(), row)
    }

    /// Somebody new, who has asked, or has tickets from now on.
    pub(super) fn add_contact(
        &mut self,
        address: &Address,
        name: &str,
        has_tickets: bool,
    ) -> Result<ContactRow, LettersError> {
        let mut tickets = Hidden::new(&[0; 32]);
        rand::Rng::fill_bytes(self.rng, &mut tickets.0);
        let id = self.person.next_contact;
        self.person.next_contact += 1;
        let mut row = ContactRow {
            id,
            address: *address.as_bytes(),
            name: name.to_owned(),
            own_name: String::new(),
            greeting: String::new(),
            standing: Standing::RequestedByThem,
            since: self.now.0,
            verified: false,
            device: 0,
            identity: None,
            tickets,
            list: 0,
            slot: NO_SLOT,
            pass: None,
            told: None,
            said: self.said_before(address)?,
            heard: vec![],
            timer: 0,
            receipts: Receipts::default(),
            token: None,
        };
        if has_tickets {
            self.give_slot(&mut row)?;
        }
        let key = self.draft.name(Shelf::ContactOf, &[address.as_bytes()]);
        self.draft.put(Shelf::ContactOf, &key, &id)?;
        self.put_contact(&row)?;
        self.wake(self.settings.backup, Job::BackUp);
        Ok(row)
    }

    /// The first place of what this device has not said to them yet: they may know what was said before they were removed.
    fn said_before(&self, address: &Address) -> Result<u32, LettersError> {
        let key = self.draft.name(Shelf::Former, &[address.as_bytes()]);
        let former: Option<(u32, u32)> = self.draft.get(Shelf::Former, &key)?;
        Ok(former.filter(|(device, _)| *device == self.person.device).map_or(0, |(_, said)| said))
    }

    /// Has a contact be told something: its name. It is on its way when the change is kept.
    pub(super) fn say(
        &mut self,
        contact: &mut ContactRow,
        content: Content,
        purpose: Purpose,
    ) -> Result<MessageId, LettersError> {
        let mut id = [0; 16];
        rand::Rng::fill_bytes(self.rng, &mut id);
        let place = Place { device: self.person.device, sequence: contact.said };
        contact.said = contact.said.checked_add(1).ok_or(LettersError::TooManyLetters)?;
        let written = Hour::of_unix(self.now.0);
        let entry = said(&content);
        let letter = Letter { id: MessageId(id), place, written, content };
        let serial = self.serial();
        let out = OutRow {
            contact: contact.id,
            id,
            letter: Hidden(zeroize::Zeroizing::new(letter.encode())),
            errand: purpose,
            expires: self.now.plus(self.settings.delivery).0,
            delivery: Delivery::Queued(0),
            sealed: None,
            times: 0,
        };
        self.draft.put(Shelf::Outgoing, &serial.to_be_bytes(), &out)?;
        self.draft.put(Shelf::Waiting, &entry_key(contact.id, serial), &entry.is_some())?;
        self.index((contact.id, &id), Indexed::Out, serial)?;
        if let Some(said) = entry {
            let entry = EntryRow {
                id,
                place: (place.device, place.sequence),
                written: written.0,
                at: self.now.0,
                sent: Some(Delivery::Queued(0)),
                shown: None,
                timer: contact.timer,
                said,
            };
            self.put_entry(contact.id, &entry)?;
        }
        self.put_contact(contact)?;
        self.wake(0, Job::Deliver(serial));
        Ok(MessageId(id))
    }

    /// Puts something at the end of a conversation.
    pub(super) fn put_entry(&mut self, contact: u32, entry: &EntryRow) -> Result<u64, VaultError> {
        let serial = self.serial();
        self.draft.put(Shelf::Entry, &entry_key(contact, serial), entry)?;
        if entry.sent.is_none() && entry.shown.is_none() {
            self.draft.put(Shelf::Unread, &entry_key(contact, serial), &())?;
        }
        self.index((contact, &entry.id), Indexed::Entry, serial)?;
        Ok(serial)
    }

    fn index(&mut self, name: (u32, &[u8; 16]), what: Indexed, serial: u64) -> Result<(), VaultError> {
        let key = index_key(&self.draft, name, what);
        self.draft.put(Shelf::EntryOf, &key, &serial)
    }

    /// The name of an entry leads nowhere any more.
    pub(super) fn forget_name(&mut self, contact: u32, id: &[u8; 16]) -> Result<(), VaultError> {
        self.draft.remove(Shelf::EntryOf, &index_key(&self.draft, (contact, id), Indexed::Entry))
    }

    /// The letter of this name on its way to them.
    pub(super) fn out_of(&self, contact: u32, id: &[u8; 16]) -> Result<Option<(u64, OutRow)>, VaultError> {
        let key = index_key(&self.draft, (contact, id), Indexed::Out);
        let Some(serial) = self.draft.get::<u64>(Shelf::EntryOf, &key)? else { return Ok(None) };
        let row = self.draft.get(Shelf::Outgoing, &serial.to_be_bytes())?;
        Ok(row.map(|row| (serial, row)))
    }

    /// The entry of this name in the conversation with them.
    pub(super) fn entry_of(&self, contact: u32, id: &[u8; 16]) -> Result<Option<(u64, EntryRow)>, VaultError> {
        entry_of(&self.draft, contact, id)
    }

    /// Nothing more is done for it.
    pub(super) fn forget_out(&mut self, serial: u64, row: &OutRow) -> Result<(), VaultError> {
        self.draft.remove(Shelf::Outgoing, &serial.to_be_bytes())?;
        self.draft.remove(Shelf::Waiting, &entry_key(row.contact, serial))?;
        self.draft.remove(Shelf::EntryOf, &index_key(&self.draft, (row.contact, &row.id), Indexed::Out))?;
        self.draft.remove(Shelf::Envelope, &serial.to_be_bytes())
    }

    /// Takes note of what has become of a letter; once nothing more is to be done for it, it is forgotten but for its
    /// entry.
    pub(super) fn became(&mut self, serial: u64, row: &mut OutRow, delivery: Delivery) -> Result<(), VaultError> {
        if row.delivery == delivery {
            return Ok(());
        }
        row.delivery = delivery;
        let is_silent = matches!(row.errand, Purpose::Silent | Purpose::Backup);
        let is_accepted = matches!(delivery, Delivery::Accepted(_));
        if is_accepted && row.errand == Purpose::Backup {
            self.person.backed_up = Some(self.now.0);
        }
        if delivery.is_over() || (is_silent && is_accepted) {
            self.forget_out(serial, row)?;
        } else {
            self.draft.put(Shelf::Outgoing, &serial.to_be_bytes(), row)?;
        }
        if let Some((at, mut entry)) = self.entry_of(row.contact, &row.id)? {
            entry.sent = Some(delivery);
            self.draft.put(Shelf::Entry, &entry_key(row.contact, at), &entry)?;
            self.goes_at((row.contact, at), &entry)?;
            self.news.push(News::Became { contact: row.contact, letter: MessageId(row.id), delivery });
        }
        Ok(())
    }
}

/// What a letter's name leads to.
#[derive(Clone, Copy)]
enum Indexed {
    Out = 0,
    Entry = 1,
}

/// The entry of this name in the conversation with them.
pub(super) fn entry_of(draft: &Draft<'_>, contact: u32, id: &[u8; 16]) -> Result<Option<(u64, EntryRow)>, VaultError> {
    let key = index_key(draft, (contact, id), Indexed::Entry);
    let Some(serial) = draft.get::<u64>(Shelf::EntryOf, &key)? else { return Ok(None) };
    let row = draft.get(Shelf::Entry, &entry_key(contact, serial))?;
    Ok(row.map(|row| (serial, row)))
}

/// Where the serial number stands that a letter has on its way, or in the conversation.
fn index_key(draft: &Draft<'_>, (contact, id): (u32, &[u8; 16]), what: Indexed) -> [u8; 16] {
    draft.name(Shelf::EntryOf, &[&contact.to_be_bytes(), id, &[what as u8]])
}

/// Where an entry stands: conversation by conversation, in the order in which they came about.
pub(super) fn entry_key(contact: u32, serial: u64) -> [u8; 12] {
    let mut key = [0; 12];
    let (first, last) = key.split_at_mut(4);
    first.copy_from_slice(&contact.to_be_bytes());
    last.copy_from_slice(&serial.to_be_bytes());
    key
}

/// See [`Work::delay`].
pub(super) fn delay(mean: u64, rng: &mut StdRng) -> u64 {
    let even: f64 = rng.random_range(0.000_335..1.0); // e^-8
    let factor = (-even.ln() * 1000.0).clamp(0.0, 8000.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 8000")]
    let thousandths = factor as u64;
    (mean * thousandths).div_ceil(1000)
}

/// What stands in the conversation for something that is said; `None` for what nobody is to see.
pub(super) fn said(content: &Content) -> Option<Said> {
    Some(match content {
        Content::Text(text) => Said::Text(text.clone()),
        Content::FileOffer(offer) => Said::File { name: offer.name.clone(), size: offer.size },
        Content::FileAnswer { wanted, .. } => Said::Answer(*wanted),
        Content::Request(_, introduction) => Said::Request(introduction.greeting.clone()),
        Content::Welcome(_) => Said::Welcome,
        Content::Timer(seconds) => Said::Timer(*seconds),
        Content::FilePiece { .. } | Content::Receipts(_) | Content::Pass(_) | Content::Renewal(_) => return None,
    })
}
