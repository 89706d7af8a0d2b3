//! Contacts: how two people come to write to each other, and how one stops.
//!
//! Specification: docs/protocol.md, "Letters" and "Invites of people". A request and its answer bring both passes. To
//! block or remove somebody is to register no more of their tickets, and to move the private inbox for all others.

use rand::Rng;
use trefoil_protocol::{
    address::Address,
    crypto,
    epoch::UnixSeconds,
    letter::{Contact, Content, Introduction, InviteToken, MessageId, clean, is_plain},
    limits::{ANSWER_AGAIN, GREETING, INVITES, LETTER_TEXT, PERSON_NAME},
};

use super::{
    LettersError,
    agenda::Job,
    invite::SCHEME,
    room::NO_SLOT,
    rows::{ContactRow, EntryRow, InviteRow, Purpose, Standing},
    vault::Shelf,
    work::Work,
};

impl Work<'_> {
    /// Asks somebody to be a contact.
    pub(super) fn request(
        &mut self,
        address: &Address,
        name: &str,
        greeting: &str,
        token: Option<InviteToken>,
    ) -> Result<u32, LettersError> {
        if *address == self.address() {
            return Err(LettersError::Oneself);
        }
        let greeting = &clean(greeting);
        if greeting.len() > GREETING {
            return Err(LettersError::TooLong(GREETING));
        }
        let mut contact = match self.contact_of(address)? {
            None => {
                self.check_name(name)?;
                ContactRow { standing: Standing::RequestedByMe, ..self.add_contact(address, name, true)? }
            }
            Some(contact) if contact.standing == Standing::RequestedByThem => {
                let id = contact.id;
                return self.accept(id).map(|()| id);
            }
            Some(contact)
                if contact.standing == Standing::RequestedByMe && token.is_some() && token != contact.token =>
            {
                contact
            }
            Some(_) => return Err(LettersError::Known),
        };
        contact.token = token;
        self.send_request(&mut contact, greeting)?;
        Ok(contact.id)
    }

    pub(super) fn send_request(&mut self, contact: &mut ContactRow, greeting: &str) -> Result<MessageId, LettersError> {
        let (of, own, token) = (self.published()?, self.introduce(contact), contact.token);
        let introduction = Introduction { of, token, greeting: greeting.to_owned() };
        self.say(contact, Content::Request(own, Box::new(introduction)), Purpose::Request)
    }

    fn introduce(&self, contact: &mut ContactRow) -> Contact {
        Contact { name: self.person.name.clone(), pass: self.pass_for(contact) }
    }

    /// Says yes to a request.
    pub(super) fn accept(&mut self, id: u32) -> Result<(), LettersError> {
        let mut contact = self.contact(id)?;
        if contact.standing != Standing::RequestedByThem {
            return Err(LettersError::NoRequest);
        }
        self.welcome(&mut contact)
    }

    /// Both are contacts from here on, and they are told the way.
    pub(super) fn welcome(&mut self, contact: &mut ContactRow) -> Result<(), LettersError> {
        if contact.slot == NO_SLOT {
            self.give_slot(contact)?;
        }
        contact.standing = Standing::Accepted;
        let own = self.introduce(contact);
        self.say(contact, Content::Welcome(own), Purpose::Said)?;
        Ok(())
    }

    /// Blocks somebody: they cannot write, and cannot see that.
    pub(super) fn block(&mut self, id: u32) -> Result<(), LettersError> {
        let mut contact = self.contact(id)?;
        let knew = contact.told.is_some();
        contact.standing = Standing::Blocked;
        contact.told = None;
        self.put_contact(&contact)?;
        self.shut_out(&contact, knew)
    }

    /// Lets somebody who was blocked write again.
    pub(super) fn unblock(&mut self, id: u32) -> Result<(), LettersError> {
        let mut contact = self.contact(id)?;
        if contact.standing != Standing::Blocked {
            return Err(LettersError::NotBlocked);
        }
        contact.standing = match (contact.slot == NO_SLOT, contact.pass.is_some()) {
            (true, _) => Standing::RequestedByThem,
            (false, true) => Standing::Accepted,
            (false, false) => Standing::RequestedByMe,
        };
        self.put_contact(&contact)?;
        self.tickets_changed(&contact);
        if contact.standing == Standing::RequestedByMe {
            self.send_request(&mut contact, "")?; // the one before has failed
        }
        self.upkeep()
    }

    /// Forgets somebody, and all that both have said. Letters that are on their way fail.
    pub(super) fn remove(&mut self, id: u32) -> Result<(), LettersError> {
        let contact = self.contact(id)?;
        let key = id.to_be_bytes();
        let address = self.draft.name(Shelf::ContactOf, &[&contact.address]);
        self.draft.remove(Shelf::ContactOf, &address)?;
        let former = self.draft.name(Shelf::Former, &[&contact.address]);
        self.draft.put(Shelf::Former, &former, &(self.person.device, contact.said))?;
        for shelf in [Shelf::Contact, Shelf::Sessions, Shelf::Owed, Shelf::Answered] {
            self.draft.remove(shelf, &key)?;
        }
        for (_, entry) in self.draft.scan::<EntryRow>(Shelf::Entry, &key)? {
            self.forget_name(id, &entry.id)?;
        }
        for shelf in [Shelf::Entry, Shelf::Unread, Shelf::Going, Shelf::Prekeys, Shelf::File, Shelf::Piece] {
            for row in self.draft.keys(shelf, &key)? {
                self.draft.remove(shelf, &row)?;
            }
        }
        self.fail_all(id)?;
        self.wake(0, Job::Renew);
        self.shut_out(&contact, contact.told.is_some())
    }

    /// Whoever knew the way is to know it no more.
    fn shut_out(&mut self, contact: &ContactRow, knew: bool) -> Result<(), LettersError> {
        if knew {
            self.move_out();
        }
        self.tickets_changed(contact);
        self.upkeep()
    }

    pub(super) fn rename(&mut self, id: u32, name: &str) -> Result<(), LettersError> {
        self.check_name(name)?;
        let mut contact = self.contact(id)?;
        contact.name = name.to_owned();
        Ok(self.put_contact(&contact)?)
    }

    fn check_name(&self, name: &str) -> Result<(), LettersError> {
        check_own_name(name)?;
        if name.is_empty() {
            return Err(LettersError::Name);
        }
        if self.contacts()?.iter().any(|other| other.name == name) { Err(LettersError::NameTaken) } else { Ok(()) }
    }

    /// A new invite: whoever comes with it is a contact at once, under this name.
    pub(super) fn invite(
        &mut self,
        name: &str,
        expires: UnixSeconds,
        use_: InviteUse,
    ) -> Result<InviteToken, LettersError> {
        if self.draft.keys(Shelf::Invite, b"")?.len() >= INVITES {
            return Err(LettersError::TooMany);
        }
        self.person.invited = self.now.0;
        self.wake(0, Job::Plan); // somebody may come with it soon
        let mut token = [0; 16];
        self.rng.fill_bytes(&mut token);
        let reusable = use_ == InviteUse::Reusable;
        let row = InviteRow { name: name.to_owned(), expires: expires.0, reusable, used: 0, revoked: false };
        let key = self.draft.name(Shelf::Invite, &[&token]);
        self.draft.put(Shelf::Invite, &key, &row)?;
        Ok(token)
    }

    /// Nobody can come with it any more.
    pub(super) fn revoke(&mut self, token: &InviteToken) -> Result<(), LettersError> {
        let key = self.draft.name(Shelf::Invite, &[token]);
        let mut row: InviteRow = self.draft.get(Shelf::Invite, &key)?.ok_or(LettersError::NoInvite)?;
        row.revoked = true;
        Ok(self.draft.put(Shelf::Invite, &key, &row)?)
    }

    /// The invite that somebody comes with, where it still counts.
    pub(super) fn invite_of(&self, token: &InviteToken) -> Result<Option<InviteRow>, LettersError> {
        let row: Option<InviteRow> = self.draft.get(Shelf::Invite, &self.draft.name(Shelf::Invite, &[token]))?;
        let is_used = |row: &InviteRow| !row.reusable && row.used > 0;
        Ok(row.filter(|row| !row.revoked && !is_used(row) && self.now.0 < row.expires))
    }

    /// Somebody has become a contact by it.
    pub(super) fn redeem(&mut self, token: &InviteToken) -> Result<(), LettersError> {
        let Some(mut row) = self.invite_of(token)? else { return Ok(()) };
        row.used += 1;
        Ok(self.draft.put(Shelf::Invite, &self.draft.name(Shelf::Invite, &[token]), &row)?)
    }

    /// Whether a contact that asks anew is answered: not again and again.
    pub(super) fn answers(&mut self, contact: u32) -> Result<bool, LettersError> {
        let key = contact.to_be_bytes();
        let last: Option<u64> = self.draft.get(Shelf::Answered, &key)?;
        let is_due = last.is_none_or(|last| self.now.0 >= last + ANSWER_AGAIN);
        if is_due {
            self.draft.put(Shelf::Answered, &key, &self.now.0)?;
        }
        Ok(is_due)
    }

    /// Sends words to a contact.
    pub(super) fn write(&mut self, id: u32, text: &str) -> Result<MessageId, LettersError> {
        let text = clean(text);
        if text.is_empty() || text.len() > LETTER_TEXT {
            return Err(LettersError::TooLong(LETTER_TEXT));
        }
        self.tell(id, Content::Text(text))
    }

    /// Says something to a contact that the contact confirms.
    pub(super) fn tell(&mut self, id: u32, content: Content) -> Result<MessageId, LettersError> {
        let mut contact = self.contact(id)?;
        match contact.standing {
            Standing::Accepted | Standing::RequestedByMe => {}
            Standing::RequestedByThem => return Err(LettersError::NotAccepted),
            Standing::Blocked => return Err(LettersError::Blocked),
        }
        self.check_waiting(id)?;
        self.say(&mut contact, content, Purpose::Said)
    }

    /// From now on letters in both directions go away so many seconds after they were shown.
    pub(super) fn set_timer(&mut self, id: u32, seconds: u32) -> Result<MessageId, LettersError> {
        let mut contact = self.contact(id)?;
        contact.timer = seconds;
        self.put_contact(&contact)?;
        self.tell(id, Content::Timer(seconds))
    }
}

/// Whether this can be what somebody wants to be called: a few characters, or none, and nobody's address.
pub(super) fn check_own_name(name: &str) -> Result<(), LettersError> {
    let is_name = name.len() <= PERSON_NAME && is_plain(name) && !is_like_address(name);
    if is_name { Ok(()) } else { Err(LettersError::Name) }
}

/// Whether a name could be taken for somebody's address, or for an invite: who has it would get what is meant for them.
pub(super) fn is_like_address(name: &str) -> bool {
    let name = name.trim().to_lowercase();
    name.ends_with(Address::ENDING) || name.starts_with(SCHEME)
}

/// How often an invite counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteUse {
    /// Once.
    Once,
    /// Until it expires or is revoked.
    Reusable,
}

/// The number that two people compare to know that nobody is between them: 60 digits, the same for both.
pub fn safety_number(one: &Address, other: &Address) -> String {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    let digits = |block: u8| {
        let hash = crypto::blake3(&[SAFETY_LABEL, &[block], first.as_bytes(), second.as_bytes()]);
        let [a, b, c, d, e, f, g, h, ..] = hash;
        format!("{:05}", u64::from_le_bytes([a, b, c, d, e, f, g, h]) % 100_000)
    };
    (0..12).map(digits).collect::<Vec<_>>().join(" ")
}

const SAFETY_LABEL: &[u8] = b"trefoil/1 safety number";
