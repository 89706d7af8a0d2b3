//! Outbox: letters on their way, from the moment they are written until they are delivered, expired or failed.
//!
//! Specification: docs/protocol.md, "Delivery". A letter is sealed when its reader's keys are there, left on the replica
//! that the reader watches and then on the others, accepted when enough of them signed for it, and sealed and left again
//! until its reader confirms it. It never forgets a letter without saying what became of it.

use std::{collections::HashMap, sync::Arc};

use trefoil_protocol::{
    address::Address,
    blind::BlindUse,
    crypto,
    envelope::{LetterId, Recipient},
    identity::RelayId,
    inbox::{Inbox, Whereabouts},
    letter::{Between, Dispatch, Form, Letter},
    limits::{
        BACKUP_TICKETS, DEPOSIT_RETRY, DEPOSIT_RETRY_MAX, LETTER_HOURS, LETTERS_WAITING, REPLICAS, REPLICAS_ENOUGH,
        RESEAL, RING_MAX, STAMP_BITS, STRANGERS_LETTER,
    },
    mailbox::{Answer, Refusal},
    period::{Day, Week},
    prekeys,
    ring::Placement,
    ticket::TicketKey,
};

use super::{
    LettersError, News,
    agenda::Job,
    backup::ONESELF,
    errand::{Busy, Errand, Wanted, What},
    inbox::{Transit, watched},
    rows::{
        ContactRow, Delivery, EntryRow, Failure, Hidden, OutRow, Purpose, Said, SealedRow, SpotRow, Standing, TheirsRow,
    },
    session::Sessions,
    vault::Shelf,
    work::{Ring, Work},
};

/// What a letter needs before it can be sealed.
enum Lacking {
    /// The prekeys of this week.
    Prekeys(u32),
    /// To be told where they live.
    Pass,
}

impl Work<'_> {
    /// Does what is due for a letter.
    pub(super) fn deliver(
        &mut self,
        serial: u64,
        transit: &Transit,
        ring: Ring<'_>,
    ) -> Result<Vec<Errand>, LettersError> {
        let Some(mut out) = self.draft.get::<OutRow>(Shelf::Outgoing, &serial.to_be_bytes())? else {
            return Ok(vec![]);
        };
        if out.errand == Purpose::Backup {
            return self.leave(serial, out, transit, ring);
        }
        let contact = match self.contact(out.contact) {
            Ok(contact) if contact.standing != Standing::Blocked => contact,
            Ok(_) => return self.fail(serial, &mut out, Failure::Blocked),
            Err(LettersError::Unknown) => return self.fail(serial, &mut out, Failure::Removed),
            Err(error) => return Err(error),
        };
        if self.now.0 >= out.expires {
            self.became(serial, &mut out, Delivery::Expired)?;
            self.file_lost(&out)?;
            return Ok(vec![]);
        }
        if self.is_to_be_sealed(&out) {
            if out.times > 0 {
                let address = Address::from_bytes(contact.address).map_err(|_| LettersError::Damaged)?;
                let week = Week::of(self.now, prekeys::offset(&address));
                self.wake(0, Job::Look(out.contact, week.0)); // they may have another device by now
            }
            match self.seal(serial, &mut out, contact, ring)? {
                None => {}
                Some(Lacking::Prekeys(week)) => {
                    self.wake(0, Job::Look(out.contact, week));
                    self.wake(DEPOSIT_RETRY_MAX, Job::Deliver(serial));
                    return Ok(vec![]);
                }
                Some(Lacking::Pass) => {
                    self.wake(DEPOSIT_RETRY_MAX, Job::Deliver(serial)); // and when a pass comes
                    return Ok(vec![]);
                }
            }
        }
        self.deposits(serial, &mut out, transit)
    }

    /// Does what is due for a sheet of the person's backup.
    fn leave(
        &mut self,
        serial: u64,
        mut out: OutRow,
        transit: &Transit,
        ring: Ring<'_>,
    ) -> Result<Vec<Errand>, LettersError> {
        let own = self.own();
        let week = own.week(self.now);
        if self.now.0 >= out.expires {
            self.forget_out(serial, &out)?;
            return Ok(vec![]);
        }
        if self.is_to_be_sealed(&out) {
            let Ok(envelope) = own.seal(week, &out.letter.0, self.rng) else { return Err(LettersError::Damaged) };
            self.put_sealed(serial, &mut out, (own.placement(week), &envelope), ring)?;
            self.wake(0, Job::Plan); // there have to be tickets for it
        }
        self.deposits(serial, &mut out, transit)
    }

    pub(super) fn fail(&mut self, serial: u64, out: &mut OutRow, why: Failure) -> Result<Vec<Errand>, LettersError> {
        self.became(serial, out, Delivery::Failed(why))?;
        self.file_lost(out)?;
        Ok(vec![])
    }

    /// All letters to them have failed, since they are no contact any more.
    pub(super) fn fail_all(&mut self, contact: u32) -> Result<(), LettersError> {
        for (serial, mut out) in self.waiting(contact)? {
            self.became(serial, &mut out, Delivery::Failed(Failure::Removed))?;
        }
        Ok(())
    }

    /// The letters to them that are on their way.
    pub(super) fn waiting(&self, contact: u32) -> Result<Vec<(u64, OutRow)>, LettersError> {
        let mut waiting = vec![];
        for key in self.draft.keys(Shelf::Waiting, &contact.to_be_bytes())? {
            let serial = serial_of(&key);
            let out: Option<OutRow> = self.draft.get(Shelf::Outgoing, &serial.to_be_bytes())?;
            waiting.push((serial, out.ok_or(LettersError::Damaged)?));
        }
        Ok(waiting)
    }

    pub(super) fn check_waiting(&self, contact: u32) -> Result<(), LettersError> {
        let is_bounded = self.draft.keys(Shelf::Waiting, &contact.to_be_bytes())?.len() < LETTERS_WAITING;
        if is_bounded { Ok(()) } else { Err(LettersError::TooManyLetters) }
    }

    /// Has all letters to them sealed again: what they were sealed to is gone.
    pub(super) fn reseal_all(&mut self, contact: u32) -> Result<(), LettersError> {
        for (serial, mut out) in self.waiting(contact)? {
            out.sealed = None;
            self.draft.put(Shelf::Outgoing, &serial.to_be_bytes(), &out)?;
            self.wake(0, Job::Deliver(serial));
        }
        Ok(())
    }

    /// Something that letters to them were waiting for has come.
    pub(super) fn wake_all(&mut self, contact: u32) -> Result<(), LettersError> {
        for key in self.draft.keys(Shelf::Waiting, &contact.to_be_bytes())? {
            self.wake(0, Job::Deliver(serial_of(&key)));
        }
        Ok(())
    }

    fn is_to_be_sealed(&self, out: &OutRow) -> bool {
        out.sealed.as_ref().is_none_or(|sealed| {
            let is_current = placement(&sealed.inbox).is_some_and(|inbox| inbox.is_current(self.now));
            !is_current || self.now.0 >= sealed.at + RESEAL
        })
    }

    fn seal(
        &mut self,
        serial: u64,
        out: &mut OutRow,
        mut contact: ContactRow,
        ring: Ring<'_>,
    ) -> Result<Option<Lacking>, LettersError> {
        let address = Address::from_bytes(contact.address).map_err(|_| LettersError::Damaged)?;
        let week = Week::of(self.now, prekeys::offset(&address));
        let Some(theirs) = self.draft.get::<TheirsRow>(Shelf::Prekeys, &prekeys_key(contact.id, week.0))? else {
            return Ok(Some(Lacking::Prekeys(week.0)));
        };
        self.meet_device(&mut contact, theirs.identity, theirs.device)?;
        let Some(inbox) = self.inbox_of(&contact, &address, out) else { return Ok(Some(Lacking::Pass)) };
        if inbox.placement().of == BlindUse::RequestInbox && out.letter.0.len() > STRANGERS_LETTER {
            return Ok(Some(Lacking::Pass)); // mailboxes take no long letters without a ticket
        }
        let Some(message) = self.encrypt(&contact, &theirs, &out.letter)? else {
            self.became(serial, out, Delivery::Failed(Failure::Unsealable))?;
            return Ok(None);
        };
        let placement = inbox.placement();
        let recipient = Recipient { network: self.network, address: &address, inbox: &placement, week };
        let xwing = theirs.xwing.first_chunk().ok_or(LettersError::Damaged)?;
        let sealed = recipient.seal(xwing, &message, self.rng);
        let Ok(envelope) = sealed else {
            self.became(serial, out, Delivery::Failed(Failure::Unsealable))?;
            return Ok(None);
        };
        self.put_sealed(serial, out, (placement, &envelope), ring)?;
        Ok(None)
    }

    fn put_sealed(
        &mut self,
        serial: u64,
        out: &mut OutRow,
        (placement, envelope): (Placement, &[u8]),
        ring: Ring<'_>,
    ) -> Result<(), LettersError> {
        let name = *LetterId::of(envelope).as_bytes();
        out.times = out.times.saturating_add(1);
        let spots = self.spots(&placement, out.times, ring);
        let inbox = placement.encode().to_vec();
        out.sealed = Some(SealedRow { inbox, at: self.now.0, name, bits: self.settings.stamps, spots });
        self.draft.put(Shelf::Envelope, &serial.to_be_bytes(), &Hidden::new(envelope))?;
        self.draft.put(Shelf::Outgoing, &serial.to_be_bytes(), out)?;
        Ok(())
    }

    /// Their device is another one, if it is: what is begun from now on is begun with it.
    pub(super) fn meet_device(
        &mut self,
        contact: &mut ContactRow,
        identity: [u8; 32],
        device: u32,
    ) -> Result<(), LettersError> {
        if contact.identity.is_some() && device <= contact.device {
            return Ok(());
        }
        if self.meet(contact, identity, device)? {
            self.reseal_all(contact.id)?;
            if contact.standing == Standing::Accepted {
                self.send_request(contact, "")?; // they may have forgotten the person
            }
        }
        Ok(())
    }

    /// This is the contact's device from now on: whether another one was before. What is on its way is sealed to that one.
    pub(super) fn meet(
        &mut self,
        contact: &mut ContactRow,
        identity: [u8; 32],
        device: u32,
    ) -> Result<bool, LettersError> {
        let is_another = contact.identity.is_some_and(|known| known != identity);
        (contact.identity, contact.device) = (Some(identity), device);
        self.put_contact(contact)?;
        if is_another {
            self.note(contact.id, Said::Renewed)?;
            self.news.push(News::Renewed { contact: contact.id });
        }
        Ok(is_another)
    }

    /// Puts something into a conversation that nobody wrote.
    pub(super) fn note(&mut self, contact: u32, said: Said) -> Result<(), LettersError> {
        let mut id = [0; 16];
        rand::Rng::fill_bytes(self.rng, &mut id);
        let written = u32::try_from(self.now.0 / 3600).unwrap_or(u32::MAX);
        let (at, place) = (self.now.0, (0, 0));
        let entry = EntryRow { id, place, written, at, sent: None, shown: Some(at), timer: 0, said };
        self.put_entry(contact, &entry)?;
        Ok(())
    }

    /// Where a letter to them is left now; `None` before they have told it.
    fn inbox_of(&self, contact: &ContactRow, address: &Address, out: &OutRow) -> Option<Inbox> {
        let request = || Inbox::request(self.network, *address, Day::of(self.now));
        if out.errand == Purpose::Request {
            return Some(request());
        }
        let pass = contact.pass.as_ref()?;
        if out.times > 1 && out.delivery == Delivery::Queued(0) {
            return Some(request()); // no mailbox has taken it for two days, with whatever ticket
        }
        let at: Whereabouts = pass.at();
        let week = Week::of(self.now, at.offset());
        let salt = week.0.checked_sub(pass.first).and_then(|weeks| pass.salts.get(usize::try_from(weeks).ok()?));
        // Whoever has not heard of them for so long that the pass has ended writes like a stranger.
        Some(salt.map_or_else(request, |salt| Inbox::private(self.network, *address, &at, week, salt)))
    }

    fn encrypt(
        &mut self,
        contact: &ContactRow,
        theirs: &TheirsRow,
        letter: &Hidden,
    ) -> Result<Option<Vec<u8>>, LettersError> {
        let key = contact.id.to_be_bytes();
        let mut sessions: Sessions = self.draft.get(Shelf::Sessions, &key)?.unwrap_or_default();
        let identity = contact.identity.unwrap_or(theirs.identity);
        let (writer, reader) =
            (self.address(), Address::from_bytes(contact.address).map_err(|_| LettersError::Damaged)?);
        let said = Letter::decode(&letter.0).map_err(|_| LettersError::Damaged)?;
        let text = Hidden::new(&Between { network: self.network, writer: &writer, reader: &reader }.say(&said));
        let mut sealed = sessions.seal(&identity, &text.0);
        if sealed.is_none() && theirs.identity == identity {
            sealed = sessions
                .begin(&self.person.account, identity, theirs.fallback, self.now.0)
                .and_then(|()| sessions.seal(&identity, &text.0));
        }
        self.draft.put(Shelf::Sessions, &key, &sessions)?;
        Ok(sealed.map(|(form, message): (Form, Vec<u8>)| Dispatch { writer, form, message }.encode()))
    }

    /// The replicas of an inbox, and when a letter is left on each.
    fn spots(&mut self, inbox: &Placement, times: u8, ring: Ring<'_>) -> Vec<SpotRow> {
        let width = if times > 1 { RING_MAX } else { REPLICAS };
        let relays: Vec<RelayId> = ring(inbox).into_iter().take(width).collect();
        let first = watched(inbox, Day::of(self.now), relays.len());
        let spread = self.settings.spread;
        let mut spots = vec![];
        for (rank, relay) in relays.iter().enumerate() {
            let wait = if Some(rank) == first { 0 } else { self.delay(spread) };
            let due = self.now.plus(wait).0;
            spots.push(SpotRow { relay: *relay.as_bytes(), due, tries: 0, ticket: None, accepted: false });
        }
        spots
    }

    /// The deposits that are due.
    fn deposits(&mut self, serial: u64, out: &mut OutRow, transit: &Transit) -> Result<Vec<Errand>, LettersError> {
        let Some(mut sealed) = out.sealed.clone().filter(|_| !out.delivery.is_over()) else { return Ok(vec![]) };
        let inbox = placement(&sealed.inbox).ok_or(LettersError::Damaged)?;
        let Some(envelope) = self.draft.get::<Hidden>(Shelf::Envelope, &serial.to_be_bytes())? else {
            return Err(LettersError::Damaged);
        };
        let left = out.expires.saturating_sub(self.now.0).div_ceil(3600);
        let hours = u16::try_from(left).unwrap_or(u16::MAX).clamp(1, LETTER_HOURS);
        let mut errands = vec![];
        for spot in &mut sealed.spots {
            let mailbox = RelayId::from_bytes(spot.relay);
            let is_due = !spot.accepted && spot.due <= self.now.0;
            if !is_due || transit.is_busy(&Busy::Deposit(serial, mailbox)) {
                continue;
            }
            let postage = match inbox.of {
                BlindUse::RequestInbox => {
                    Some(Wanted::Stamp(sealed.bits, transit.stamp(serial, &inbox.encode(), sealed.bits)))
                }
                _ => self.ticket(out.contact, &inbox, spot)?,
            };
            let Some(postage) = postage else {
                spot.due = self.now.plus(DEPOSIT_RETRY_MAX).0; // no ticket is left for this week
                continue;
            };
            let what = What::Deposit { serial, hours, postage, envelope: envelope.0.to_vec() };
            errands.push(self.errand(mailbox, inbox, what));
        }
        let waits = sealed.spots.iter().filter(|spot| !spot.accepted && spot.due > self.now.0).map(|spot| spot.due);
        let next = waits.chain([sealed.at + RESEAL, out.expires]).min().unwrap_or(out.expires);
        self.jobs.push((next, Job::Deliver(serial)));
        out.sealed = Some(sealed);
        self.draft.put(Shelf::Outgoing, &serial.to_be_bytes(), out)?;
        Ok(errands)
    }

    /// The ticket that is shown at this replica; `None` where all of this week are spent.
    fn ticket(&mut self, contact: u32, inbox: &Placement, spot: &mut SpotRow) -> Result<Option<Wanted>, LettersError> {
        let (key, count) = self.ticket_key(contact)?;
        let number = match spot.ticket {
            Some(number) => number,
            None => {
                // Taken, and on disk before it is shown to anyone: it counts once.
                let week = inbox.period.to_be_bytes();
                let row = self.draft.name(Shelf::Ticket, &[key.as_bytes(), &week, &spot.relay]);
                let spent: u16 = self.draft.get(Shelf::Ticket, &row)?.unwrap_or(0);
                if spent >= count {
                    return Ok(None);
                }
                self.draft.put(Shelf::Ticket, &row, &(spent + 1))?;
                // An earlier device has spent some, and began elsewhere.
                let [a, b, c, d, ..] = crypto::blake3(&[&row, &self.person.device.to_le_bytes()]);
                let number =
                    (u32::from_le_bytes([a, b, c, d]) % u32::from(count) + u32::from(spent)) % u32::from(count);
                *spot.ticket.insert(u16::try_from(number).unwrap_or(0))
            }
        };
        let mailbox = RelayId::from_bytes(spot.relay);
        Ok(Some(Wanted::Ticket(key.ticket(inbox, number, &mailbox))))
    }

    /// What tickets for a contact are made from, and how many there are at each mailbox.
    fn ticket_key(&self, contact: u32) -> Result<(TicketKey, u16), LettersError> {
        if contact == ONESELF {
            return Ok((TicketKey::from_bytes(self.own().tickets().as_bytes()), BACKUP_TICKETS));
        }
        let pass = self.contact(contact)?.pass.ok_or(LettersError::Damaged)?;
        Ok((TicketKey::from_bytes(&pass.tickets.array()), pass.count))
    }

    pub(super) fn errand(&self, mailbox: RelayId, placement: Placement, what: What) -> Errand {
        Errand { mailbox, network: *self.network, placement, day: Day::of(self.now), what }
    }

    /// What came of a deposit.
    pub(super) fn deposited(
        &mut self,
        errand: &Errand,
        serial: u64,
        answer: Option<&Answer<'_>>,
    ) -> Result<(), LettersError> {
        let Some(mut out) = self.draft.get::<OutRow>(Shelf::Outgoing, &serial.to_be_bytes())? else { return Ok(()) };
        let Some(mut sealed) = out.sealed.take() else { return Ok(()) };
        let name = LetterId::from_bytes(sealed.name);
        let is_same = sealed.inbox == errand.placement.encode();
        let spot = sealed.spots.iter_mut().find(|spot| spot.relay == *errand.mailbox.as_bytes());
        if let Some(spot) = spot.filter(|_| is_same) {
            let signed = |answer: &&Answer<'_>| match answer {
                Answer::Accepted(receipt) => {
                    receipt.keeps(errand.hours(), self.now)
                        && receipt.is_of(&errand.mailbox, self.network, &errand.placement, &name)
                }
                _ => false,
            };
            if answer.as_ref().is_some_and(signed) {
                spot.accepted = true;
            } else {
                let bits = retry(spot, answer, sealed.bits);
                let wait = if bits > sealed.bits { 0 } else { back_off(spot.tries) };
                sealed.bits = bits;
                spot.due = self.now.plus(wait).0;
                spot.tries = spot.tries.saturating_add(1);
            }
        }
        let count = sealed.spots.iter().filter(|spot| spot.accepted).count();
        let delivery = accepted(out.delivery, count);
        out.sealed = Some(sealed);
        self.draft.put(Shelf::Outgoing, &serial.to_be_bytes(), &out)?;
        self.became(serial, &mut out, delivery)?;
        self.wake(0, Job::Deliver(serial));
        Ok(())
    }
}

/// What a refusal changes: the price, or the ticket.
fn retry(spot: &mut SpotRow, answer: Option<&Answer<'_>>, bits: u8) -> u8 {
    match answer {
        Some(Answer::Refused(Refusal::Price(asked))) if *asked <= *STAMP_BITS.end() => bits.max(*asked),
        Some(Answer::Refused(Refusal::BadTicket)) => {
            // Not registered yet, or spent by a state that was lost: every other time another one is tried.
            spot.ticket = spot.ticket.filter(|_| spot.tries.is_multiple_of(2));
            bits
        }
        _ => bits,
    }
}

/// A letter that was accepted stays so, when it is sealed again.
fn accepted(before: Delivery, count: usize) -> Delivery {
    let count = u8::try_from(count).unwrap_or(u8::MAX);
    match before {
        Delivery::Queued(_) if usize::from(count) < REPLICAS_ENOUGH => Delivery::Queued(count),
        Delivery::Queued(_) => Delivery::Accepted(count),
        Delivery::Accepted(most) => Delivery::Accepted(most.max(count)),
        over => over,
    }
}

/// Seconds to wait after so many tries.
pub(super) fn back_off(tries: u8) -> u64 {
    DEPOSIT_RETRY.saturating_mul(1 << u32::from(tries.min(16))).min(DEPOSIT_RETRY_MAX)
}

pub(super) fn prekeys_key(contact: u32, week: u32) -> [u8; 8] {
    let mut key = [0; 8];
    let (first, last) = key.split_at_mut(4);
    first.copy_from_slice(&contact.to_be_bytes());
    last.copy_from_slice(&week.to_be_bytes());
    key
}

/// Which letter a key of [`Shelf::Waiting`] is of.
fn serial_of(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |serial| u64::from_be_bytes(*serial))
}

fn placement(bytes: &[u8]) -> Option<Placement> {
    Placement::decode(bytes.try_into().ok()?)
}

/// Stamps that were made for letters, so that each is made once.
pub(super) type Stamps = HashMap<(u64, Vec<u8>, u8), Arc<std::sync::OnceLock<trefoil_protocol::stamp::Stamp>>>;
