//! Opening: what has come, from an envelope to what the person is told.
//!
//! Specification: docs/protocol.md, "Envelopes", "Letters" and "Conversations". What is taken is on disk before the
//! mailbox is asked to delete it. It never tells a stranger anything, and never believes who wrote before the ratchet
//! and the writer's own prekeys say so.

use trefoil_protocol::{
    address::Address,
    conversation::{Arrival, Heard},
    crypto::XWingSecret,
    envelope::{LetterId, Recipient, SizeClass},
    letter::{Between, Content, Dispatch, Form, InviteToken, Letter, LetterError, MessageId, Published},
    limits::{REQUESTS_WAITING, SEEN_DAYS},
    period::{Day, Week},
    prekeys::{Prekeys, PrekeysOf},
};

use super::{
    LettersError, News,
    contacts::is_like_address,
    person::InboxName,
    rows::{ContactRow, Delivery, EntryRow, PassRow, Standing},
    session::{Opened, Sessions},
    vault::Shelf,
    work::{Work, said},
};

/// What is done with an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is taken, or of no use: the mailbox may forget it.
    Done,
    /// It does not open, or nobody whom the person knows can have written it: the mailbox may forget it, or made it.
    Useless,
    /// Taken, and a contact has another device from now on: what waited for that can be taken.
    Met {
        /// Who.
        contact: u32,
    },
    /// Only when it is known that this is the writer's device: it stays where it is until then.
    Later {
        /// Whose.
        contact: u32,
    },
}

/// Somebody's letter, opened.
struct Read {
    writer: Address,
    contact: Option<ContactRow>,
    sessions: Sessions,
    opened: Opened,
    envelope: LetterId,
}

impl Work<'_> {
    /// Whether this envelope has come before. That a mailbox says so again is no reason to confirm anything: a letter
    /// whose writer has not heard of it comes again in another envelope.
    pub(super) fn is_seen(&self, envelope: &LetterId) -> Result<bool, LettersError> {
        let key = self.draft.name(Shelf::Seen, &[envelope.as_bytes()]);
        Ok(self.draft.get::<()>(Shelf::Seen, &key)?.is_some())
    }

    /// Takes an envelope.
    pub(super) fn take(
        &mut self,
        inbox: InboxName,
        bytes: &[u8],
        checked: impl Fn(u32) -> bool,
    ) -> Result<Verdict, LettersError> {
        let envelope = LetterId::of(bytes);
        if self.is_seen(&envelope)? {
            return Ok(Verdict::Done);
        }
        let Some(dispatch) = self.unwrap(inbox, bytes) else { return self.refuse_it(&envelope) };
        let contact = self.contact_of(&dispatch.writer)?;
        let class = SizeClass::of(bytes.len()).filter(|class| *class != SizeClass::Long);
        if let (Some(contact), Some(class), InboxName::Private(..)) = (&contact, class, inbox) {
            self.need_room(contact.list, class.reckoned().into()); // pieces of files count when the file is wanted
        }
        let is_strange =
            contact.is_none() && (dispatch.form != Form::Beginning || matches!(inbox, InboxName::Private(..)));
        let is_blocked = contact.as_ref().is_some_and(|contact| contact.standing == Standing::Blocked);
        if is_strange || is_blocked || dispatch.writer == self.address() {
            return self.refuse_it(&envelope);
        }
        let key = contact.as_ref().map(|contact| contact.id.to_be_bytes());
        let sessions = key.map(|key| self.draft.get(Shelf::Sessions, &key)).transpose()?.flatten();
        let mut sessions: Sessions = sessions.unwrap_or_default();
        let at = (self.serial(), self.now.0);
        let Ok(opened) = sessions.open(&self.person.account, &dispatch, at) else { return self.refuse_it(&envelope) };
        let read = Read { writer: dispatch.writer, contact, sessions, opened, envelope };
        self.read(read, checked)
    }

    /// What is in the envelope, if a secret of the weeks that can be opens it.
    fn unwrap(&self, inbox: InboxName, envelope: &[u8]) -> Option<Dispatch> {
        let (address, network) = (self.address(), self.network);
        let placement = self.placement_of(inbox)?;
        let this = self.prekeys_week().0;
        let mut weeks: Vec<_> = self.person.xwing.iter().collect();
        weeks.sort_by_key(|(week, _)| week.abs_diff(this));
        let opened = weeks.into_iter().find_map(|(week, secret)| {
            let recipient = Recipient { network, address: &address, inbox: &placement, week: Week(*week) };
            recipient.open(&XWingSecret::from_bytes(&secret.array()), envelope).ok()
        })?;
        Dispatch::decode(&opened)
    }

    fn read(&mut self, read: Read, checked: impl Fn(u32) -> bool) -> Result<Verdict, LettersError> {
        let (writer, reader) = (&read.writer, &self.address());
        let heard = (Between { network: self.network, writer, reader }).hear(&read.opened.text);
        match heard {
            Ok(letter) if matches!(letter.content, Content::Request(..)) => self.requested(read, letter),
            Ok(letter) if matches!(letter.content, Content::Renewal(_)) => self.renewed(read, letter),
            heard => self.told(read, heard, checked),
        }
    }

    /// What can only be a contact's. Nothing of it counts, and no session is kept, before it is known whose device wrote.
    fn told(
        &mut self,
        read: Read,
        heard: Result<Letter, LetterError>,
        checked: impl Fn(u32) -> bool,
    ) -> Result<Verdict, LettersError> {
        let is_known = |contact: &&ContactRow| contact.standing != Standing::RequestedByThem;
        let Some(contact) = read.contact.as_ref().filter(is_known) else {
            return self.drop_it(&read.envelope); // they send it again, until the person has answered
        };
        if read.opened.is_new && contact.identity != Some(read.opened.identity) {
            // Nobody is asked about that: who asks for somebody's prekeys knows them, and is there.
            let later = Verdict::Later { contact: contact.id };
            return if checked(contact.id) { self.drop_it(&read.envelope) } else { Ok(later) };
        }
        match heard {
            Ok(letter) => self.heard(read, letter),
            Err(error) => self.unreadable(read, error),
        }
    }

    /// What the writer published, if it is the writer's own, and of the device that wrote.
    fn published_by(&self, read: &Read, of: &Published, device: u32) -> Option<Prekeys> {
        let opened = PrekeysOf::new(self.network, read.writer, of.week).open(&of.prekeys);
        opened.ok().filter(|prekeys| prekeys.identity == read.opened.identity && prekeys.device == device)
    }

    /// A contact shows that another device is its own.
    fn renewed(&mut self, mut read: Read, letter: Letter) -> Result<Verdict, LettersError> {
        let Content::Renewal(of) = &letter.content else { return Ok(Verdict::Done) };
        let is_news = |contact: &ContactRow| {
            let is_contact = matches!(contact.standing, Standing::Accepted | Standing::RequestedByMe);
            is_contact && !is_outdated(contact, &read.opened, letter.place.device)
        };
        let prekeys = self.published_by(&read, of, letter.place.device);
        let Some((mut contact, prekeys)) = read.contact.take().filter(is_news).zip(prekeys) else {
            return self.drop_it(&read.envelope);
        };
        let id = contact.id;
        self.keep_prekeys(id, of, &prekeys)?;
        if self.meet(&mut contact, read.opened.identity, letter.place.device)? && self.answers(id)? {
            self.reseal_all(id)?;
        }
        read.contact = Some(contact);
        self.heard(read, letter)?;
        Ok(Verdict::Met { contact: id })
    }

    fn unreadable(&mut self, read: Read, error: LetterError) -> Result<Verdict, LettersError> {
        let is_newer = matches!(error, LetterError::Version(_) | LetterError::Kind(_));
        if let Some(contact) = read.contact.filter(|contact| is_newer && contact.standing == Standing::Accepted) {
            self.draft.put(Shelf::Sessions, &contact.id.to_be_bytes(), &read.sessions)?;
            self.note(contact.id, super::rows::Said::Unknown)?;
            self.news.push(News::Unreadable { contact: contact.id });
        }
        self.drop_it(&read.envelope)
    }

    /// Somebody asks to be a contact.
    fn requested(&mut self, mut read: Read, letter: Letter) -> Result<Verdict, LettersError> {
        let Content::Request(own, introduction) = &letter.content else { return Ok(Verdict::Done) };
        let device = letter.place.device;
        let is_old = read.contact.as_ref().is_some_and(|contact| is_outdated(contact, &read.opened, device));
        let has_place = Heard::default().hear(letter.place).is_ok(); // no conversation begins with one that has none
        let prekeys = self.published_by(&read, &introduction.of, device).filter(|_| has_place && !is_old);
        let Some(prekeys) = prekeys else { return self.drop_it(&read.envelope) };
        let invite = introduction.token.map(|token| self.invite_of(&token)).transpose()?.flatten();
        let mut contact = match read.contact.take() {
            Some(contact) => contact,
            None => {
                let wanted = invite.as_ref().map_or(&own.name, |invite| &invite.name);
                let name = self.free_name(wanted, &read.writer)?;
                if invite.is_none() && self.has_all_requests()? {
                    return self.drop_it(&read.envelope);
                }
                self.add_contact(&read.writer, &name, false)?
            }
        };
        match self.place(&mut contact, &letter) {
            Ok(Arrival::Duplicate) => {
                if contact.standing == Standing::Accepted && self.answers(contact.id)? {
                    self.welcome(&mut contact)?; // they ask still: it was not answered, or the answer did not come
                    self.reseal_all(contact.id)?;
                }
                return self.drop_it(&read.envelope);
            }
            Err(LettersError::Unplaceable) => return self.drop_it(&read.envelope),
            arrival => arrival?,
        };
        contact.own_name = shown_name(&own.name);
        contact.greeting.clone_from(&introduction.greeting);
        contact.pass = Some(PassRow::of(&own.pass));
        let is_another = self.meet(&mut contact, read.opened.identity, device)?;
        self.keep_prekeys(contact.id, &introduction.of, &prekeys)?;
        self.draft.put(Shelf::Sessions, &contact.id.to_be_bytes(), &read.sessions)?;
        self.put_seen(&read.envelope)?;
        let id = contact.id;
        self.answer_request(contact, &letter, introduction.token.filter(|_| invite.is_some()))?;
        Ok(if is_another { Verdict::Met { contact: id } } else { Verdict::Done })
    }

    /// Who was invited, or asked at the same time, or is a contact already, is answered at once.
    fn answer_request(
        &mut self,
        mut contact: ContactRow,
        letter: &Letter,
        invite: Option<InviteToken>,
    ) -> Result<(), LettersError> {
        let id = contact.id;
        match contact.standing {
            Standing::RequestedByThem => {
                self.put_heard(&contact, letter)?;
                self.news.push(News::Requested { contact: id });
                if let Some(token) = invite
                    && self.has_room(&contact)?
                {
                    self.accept(id)?;
                    self.redeem(&token)?;
                    self.news.push(News::Accepted { contact: id });
                }
            }
            Standing::RequestedByMe => {
                self.welcome(&mut contact)?;
                self.requests_answered(id)?;
                self.news.push(News::Accepted { contact: id });
            }
            Standing::Accepted if self.answers(id)? => {
                self.welcome(&mut contact)?;
                self.reseal_all(id)?;
            }
            Standing::Accepted | Standing::Blocked => {}
        }
        Ok(())
    }

    /// Whether so many strangers wait for an answer that no more can.
    fn has_all_requests(&self) -> Result<bool, LettersError> {
        let waits = |other: &&ContactRow| other.standing == Standing::RequestedByThem;
        Ok(self.contacts()?.iter().filter(waits).count() >= REQUESTS_WAITING)
    }

    pub(super) fn free_name(&self, wanted: &str, writer: &Address) -> Result<String, LettersError> {
        let others = self.contacts()?;
        let is_none = wanted.is_empty() || is_like_address(wanted);
        let base = if is_none { writer.short() } else { wanted.to_owned() };
        let is_free = |name: &str| others.iter().all(|other| other.name != name);
        let numbered = (2..).map(|number: u32| format!("{base} ({number})"));
        Ok([base.clone()].into_iter().chain(numbered).find(|name| is_free(name)).unwrap_or(base))
    }

    /// A letter of a contact.
    fn heard(&mut self, read: Read, letter: Letter) -> Result<Verdict, LettersError> {
        let Read { contact: Some(mut contact), sessions, opened, envelope, .. } = read else {
            return Ok(Verdict::Done);
        };
        let key = contact.id.to_be_bytes();
        let is_confirmed = !matches!(letter.content, Content::Receipts(_) | Content::Pass(_));
        // A backup may have had it; or somebody uses the name of a letter of the person's again, on purpose.
        let name = (contact.id, &letter.id.0);
        let is_there = self.entry_of(name.0, name.1)?.is_some() || self.out_of(name.0, name.1)?.is_some();
        let arrival = match self.place(&mut contact, &letter) {
            Ok(_) if is_there => Arrival::Duplicate,
            Ok(arrival) => arrival,
            Err(LettersError::Unplaceable) => return self.drop_it(&envelope),
            Err(error) => return Err(error),
        };
        if arrival != Arrival::Duplicate || !opened.is_new {
            // A session that only brings what was known may be an old one, sent again by somebody else.
            self.draft.put(Shelf::Sessions, &key, &sessions)?;
        }
        self.put_seen(&envelope)?;
        if is_confirmed {
            self.owe(contact.id, letter.id.0, super::receipts::Kind::Delivered)?;
        }
        if arrival == Arrival::Duplicate {
            return Ok(Verdict::Done);
        }
        self.put_contact(&contact)?;
        self.put_heard(&contact, &letter)?;
        self.obey(contact, letter)?;
        Ok(Verdict::Done)
    }

    /// The place of a letter in what they have said.
    fn place(&self, contact: &mut ContactRow, letter: &Letter) -> Result<Arrival, LettersError> {
        let mut heard = Heard::decode(&contact.heard).map_err(|_| LettersError::Damaged)?;
        let arrival = heard.hear(letter.place).map_err(|_| LettersError::Unplaceable)?;
        contact.heard = heard.encode();
        Ok(arrival)
    }

    /// Shows a letter, if it is one to be shown.
    fn put_heard(&mut self, contact: &ContactRow, letter: &Letter) -> Result<(), LettersError> {
        let Some(said) = said(&letter.content) else { return Ok(()) };
        let entry = EntryRow {
            id: letter.id.0,
            place: (letter.place.device, letter.place.sequence),
            written: letter.written.0,
            at: self.now.0,
            sent: None,
            shown: None,
            timer: contact.timer,
            said,
        };
        self.put_entry(contact.id, &entry)?;
        self.news.push(News::Letter { contact: contact.id, letter: letter.id });
        Ok(())
    }

    /// Does what a letter brings about besides being shown.
    fn obey(&mut self, mut contact: ContactRow, letter: Letter) -> Result<(), LettersError> {
        match letter.content {
            Content::Receipts(receipts) => {
                for id in receipts.letters {
                    self.confirmed(contact.id, id, receipts.read)?;
                }
            }
            Content::Welcome(own) => {
                let was_new = contact.standing == Standing::RequestedByMe;
                contact.standing = Standing::Accepted;
                contact.own_name = shown_name(&own.name);
                let moved = contact
                    .pass
                    .as_ref()
                    .is_none_or(|pass| pass.whereabouts.0[..] != own.pass.whereabouts.encode()[..]);
                contact.pass = Some(PassRow::of(&own.pass));
                self.put_contact(&contact)?;
                self.requests_answered(contact.id)?;
                if moved {
                    self.reseal_all(contact.id)?
                } else {
                    self.wake_all(contact.id)?
                }
                if was_new {
                    self.news.push(News::Accepted { contact: contact.id });
                }
            }
            Content::Pass(pass) => {
                let pass = PassRow::of(&pass);
                if contact.pass.as_ref().is_none_or(|before| pass.is_newer_than(before)) {
                    contact.pass = Some(pass);
                    self.put_contact(&contact)?;
                    self.wake_all(contact.id)?;
                }
            }
            Content::Timer(seconds) => {
                contact.timer = seconds;
                self.put_contact(&contact)?;
            }
            content => self.obey_file(&contact, letter.id, content)?,
        }
        Ok(())
    }

    /// The requests to them need no more than their answer.
    fn requests_answered(&mut self, contact: u32) -> Result<(), LettersError> {
        for (serial, mut out) in self.waiting(contact)? {
            if out.errand == super::rows::Purpose::Request {
                self.became(serial, &mut out, Delivery::Delivered)?;
            }
        }
        Ok(())
    }

    fn confirmed(&mut self, contact: u32, id: MessageId, read: bool) -> Result<(), LettersError> {
        let read = read && self.person.tells_read; // who does not tell is not told
        let delivery = if read { Delivery::Read } else { Delivery::Delivered };
        if let Some((serial, mut out)) = self.out_of(contact, &id.0)? {
            self.became(serial, &mut out, delivery)?;
            return self.piece_confirmed(contact, &out);
        }
        let Some((at, mut entry)) = self.entry_of(contact, &id.0)? else { return Ok(()) };
        if entry.sent == Some(Delivery::Delivered) && read {
            entry.sent = Some(Delivery::Read);
            self.draft.put(Shelf::Entry, &super::work::entry_key(contact, at), &entry)?;
            self.news.push(News::Became { contact, letter: id, delivery: Delivery::Read });
        }
        Ok(())
    }

    fn refuse_it(&mut self, envelope: &LetterId) -> Result<Verdict, LettersError> {
        self.put_seen(envelope)?;
        Ok(Verdict::Useless)
    }

    fn drop_it(&mut self, envelope: &LetterId) -> Result<Verdict, LettersError> {
        self.put_seen(envelope)?;
        Ok(Verdict::Done)
    }

    pub(super) fn put_seen(&mut self, envelope: &LetterId) -> Result<(), LettersError> {
        let key = self.draft.name(Shelf::Seen, &[envelope.as_bytes()]);
        let serial = self.serial().to_be_bytes();
        self.draft.put(Shelf::Forgotten, &serial, &(Day::of(self.now).0 + SEEN_DAYS, key))?;
        Ok(self.draft.put(Shelf::Seen, &key, &())?)
    }
}

/// Whether this was written by an older device of the contact's than is known.
fn is_outdated(contact: &ContactRow, opened: &Opened, device: u32) -> bool {
    contact.identity.is_some_and(|known| known != opened.identity) && device <= contact.device
}

/// What somebody wants to be called, where others can be shown it.
fn shown_name(name: &str) -> String {
    if is_like_address(name) { String::new() } else { name.to_owned() }
}
