//! Chores: what has to be at mailboxes so that others can write: prekeys and tickets; and looking up those of others.
//!
//! Specification: docs/protocol.md, "Prekeys" and "Stamps and tickets". It never decides what is said.

use std::{collections::BTreeSet, sync::Arc};

use trefoil_protocol::{
    address::Address,
    crypto,
    identity::RelayId,
    letter::Published,
    limits::{BACKUP_BITS, BACKUP_TICKETS, RENEW_CHORES, REPLICAS, REPLICAS_ENOUGH, RING_MAX, STAMP_BITS, WEEKS_AHEAD},
    mailbox::{Answer, Refusal},
    period::Week,
    prekeys::{Prekeys, PrekeysOf, PrekeysRecord},
    ring::Placement,
    ticket::{ListOf, TicketKey, TicketList, TooManyTickets},
};

use super::{
    LettersError,
    agenda::Job,
    backup::ONESELF,
    errand::{Busy, Errand, What},
    inbox::{Chore, Lookup, Transit},
    outbox::{back_off, prekeys_key},
    person::{InboxName, RecordRow},
    room::{NO_SLOT, tickets_of},
    rows::{Standing, TheirsRow},
    vault::Shelf,
    work::{Ring, Work},
};

impl Work<'_> {
    /// Which chores there are from now on.
    pub(super) fn plan_chores(&mut self, transit: &mut Transit, ring: Ring<'_>) -> Result<(), LettersError> {
        let mut wanted = vec![];
        for (key, row) in self.draft.scan::<RecordRow>(Shelf::Record, b"")? {
            let week = key.first_chunk().map_or(0, |key| u32::from_be_bytes(*key));
            let placement = PrekeysOf::new(self.network, self.address(), Week(week)).placement();
            let is_present = week == self.prekeys_week().0;
            let is_there = |relay: &RelayId| {
                let mut last = row.at.iter().filter(|(at, _)| at == relay.as_bytes()).map(|(_, since)| *since);
                last.any(|since| !is_present || self.now.0 < since + RENEW_CHORES)
            };
            for relay in ring(&placement).into_iter().take(REPLICAS).filter(|relay| !is_there(relay)) {
                wanted.push((Busy::Publish(week, relay), placement));
            }
        }
        let lists = self.contacts()?;
        let lists: BTreeSet<u8> = lists.iter().filter(|of| of.slot != NO_SLOT).map(|of| of.list).collect();
        for (inbox, placement, width) in self.ticketed()? {
            let own = [0].into();
            let lists = if inbox.is_own() { &own } else { &lists };
            for relay in ring(&placement).into_iter().take(width) {
                for list in lists {
                    // A mailbox that has lost them says nothing: those of the present week are brought again.
                    let done: Option<(u32, u64, u8)> =
                        self.draft.get(Shelf::Kept, &kept_key(&placement, &relay, *list))?;
                    let (version, extra) = (self.version(inbox, *list), self.extra_of(inbox, *list));
                    let lasts = |since: u64| width == REPLICAS || self.now.0 < since + RENEW_CHORES;
                    let is_done = |(of, since, had): (u32, u64, u8)| of == version && had >= extra && lasts(since);
                    if !done.is_some_and(is_done) {
                        wanted.push((Busy::Register(inbox, *list, relay), placement));
                    }
                }
            }
        }
        let names: BTreeSet<Busy> = wanted.iter().map(|(busy, _)| busy.clone()).collect();
        transit.chores.retain(|busy, _| names.contains(busy));
        for (busy, placement) in wanted {
            let is_list = matches!(busy, Busy::Register(..));
            let bits = if is_list { self.settings.lists } else { self.settings.stamps };
            let chore = Chore { placement, due: self.now.0, tries: 0, bits };
            let kept = transit.chores.entry(busy).or_insert(chore);
            if kept.placement != placement {
                (kept.placement, kept.due, kept.tries) = (placement, self.now.0, 0);
            }
        }
        Ok(())
    }

    /// The inboxes that have tickets, and at how many relays.
    fn ticketed(&self) -> Result<Vec<(InboxName, Placement, usize)>, LettersError> {
        let home = self.home();
        let week = Week::of(self.now, home.offset());
        let name = |of: Week| InboxName::Private(home.generation(), of.0);
        let mut names = vec![(name(week), RING_MAX)];
        names.extend((1..=WEEKS_AHEAD).map(|weeks| (name(week.plus(weeks)), REPLICAS)));
        if !self.waiting(ONESELF)?.is_empty() {
            names.push((InboxName::Own(self.own().week(self.now).0), REPLICAS));
        }
        let placed = |(name, width)| Some((name, self.placement_of(name)?, width));
        Ok(names.into_iter().filter_map(placed).collect())
    }

    /// Bits that the stamp of this list costs above the price.
    fn extra_of(&self, inbox: InboxName, list: u8) -> u8 {
        match inbox {
            InboxName::Own(_) => BACKUP_BITS,
            InboxName::Private(_, week) | InboxName::Request(week) => self.extra_bits(list, week),
        }
    }

    /// Counted up whenever this list of tickets of this inbox is another.
    fn version(&self, inbox: InboxName, list: u8) -> u32 {
        if inbox.is_own() { 0 } else { self.person.tickets.get(&list).copied().unwrap_or(0) }
    }

    /// The chores that are due.
    pub(super) fn chores(&mut self, transit: &Transit) -> Result<Vec<Errand>, LettersError> {
        let due = transit.chores.iter().filter(|(busy, chore)| chore.due <= self.now.0 && !transit.is_busy(busy));
        let due: Vec<_> = due.map(|(busy, chore)| (busy.clone(), chore.placement, chore.bits)).collect();
        let mut errands = vec![];
        for (busy, placement, bits) in due {
            let (relay, what) = match busy {
                Busy::Publish(week, relay) => {
                    let Some(row) = self.draft.get::<RecordRow>(Shelf::Record, &week.to_be_bytes())? else { continue };
                    let record = row.record.first_chunk().ok_or(LettersError::Damaged)?;
                    (relay, What::Publish { week, record: PrekeysRecord::from_bytes(record), bits })
                }
                Busy::Register(inbox, list, relay) => {
                    let Some(what) = self.registration(inbox, list, &relay, bits)? else { continue };
                    (relay, what)
                }
                _ => continue,
            };
            errands.push(self.errand(relay, placement, what));
        }
        Ok(errands)
    }

    fn registration(
        &self,
        inbox: InboxName,
        list: u8,
        relay: &RelayId,
        bits: u8,
    ) -> Result<Option<What>, LettersError> {
        let (Some(placement), Some(secret)) = (self.placement_of(inbox), self.secret_of(inbox)) else {
            return Ok(None);
        };
        let of = ListOf { inbox: &placement, mailbox: relay, list };
        let tickets = match inbox {
            InboxName::Own(_) => {
                let own = self.own();
                TicketList::new([(own.tickets(), 0..BACKUP_TICKETS)], &of, own.filling())
            }
            _ => self.tickets_of_contacts(&of)?,
        };
        let tickets = Box::new(tickets.map_err(|_| LettersError::TooMany)?);
        let (version, extra, secret) = (self.version(inbox, list), self.extra_of(inbox, list), Arc::new(secret));
        let bits = bits.saturating_add(extra).min(*STAMP_BITS.end());
        Ok(Some(What::Register { inbox, list, version, extra, secret, tickets, bits }))
    }

    fn tickets_of_contacts(&self, of: &ListOf<'_>) -> Result<Result<TicketList, TooManyTickets>, LettersError> {
        let has_some = |standing| standing != Standing::Blocked;
        let contacts = self.contacts()?;
        let keys: Vec<_> = contacts
            .iter()
            .filter(|contact| contact.list == of.list && has_some(contact.standing))
            .map(|contact| (TicketKey::from_bytes(&contact.tickets.array()), tickets_of(contact.slot)))
            .collect();
        let fill = TicketKey::from_bytes(&self.person.filling.array());
        Ok(TicketList::new(keys.iter().map(|(key, count)| (key, 0..*count)), of, &fill))
    }

    /// What came of a chore.
    pub(super) fn chore_done(
        &mut self,
        errand: &Errand,
        transit: &mut Transit,
        answer: Option<&Answer<'_>>,
    ) -> Result<(), LettersError> {
        let is_done = matches!(answer, Some(Answer::Registered | Answer::Published | Answer::Refused(Refusal::Stale)));
        let busy = errand.busy();
        if is_done {
            transit.chores.remove(&busy);
            if let (What::Publish { week, record, .. }, Some(Answer::Refused(Refusal::Stale))) = (&errand.what, answer)
                && self.is_published(*week, record)?
                && self.overtake(*week)?
            {
                self.wake(0, Job::Plan);
                return Ok(());
            }
            if let Busy::Register(inbox, _, relay) = busy {
                // Without any tickets there it had refused to be watched.
                transit.visits.get_mut(&(inbox, relay)).into_iter().for_each(|visit| visit.retry(self.now.0));
            }
            return self.keep_chore(errand);
        }
        if let Some(chore) = transit.chores.get_mut(&busy) {
            let asked = match answer {
                Some(Answer::Refused(Refusal::Price(bits))) if STAMP_BITS.contains(bits) => *bits,
                _ => 0,
            };
            let wait = if asked > chore.bits { 0 } else { back_off(chore.tries) };
            chore.bits = chore.bits.max(asked);
            chore.tries = chore.tries.saturating_add(1);
            chore.due = self.now.plus(wait).0;
        }
        Ok(())
    }

    fn keep_chore(&mut self, errand: &Errand) -> Result<(), LettersError> {
        match &errand.what {
            What::Register { inbox, list, version, extra, .. } => {
                let key = kept_key(&errand.placement, &errand.mailbox, *list);
                self.draft.put(Shelf::Kept, &key, &(*version, self.now.0, *extra))?;
                if *version != self.version(*inbox, *list) {
                    self.wake(0, Job::Plan);
                }
            }
            What::Publish { week, record, .. } if !self.is_published(*week, record)? => self.wake(0, Job::Plan),
            What::Publish { week, .. } => {
                let key = week.to_be_bytes();
                if let Some(mut row) = self.draft.get::<RecordRow>(Shelf::Record, &key)? {
                    row.at.retain(|(at, _)| at != errand.mailbox.as_bytes());
                    row.at.push((*errand.mailbox.as_bytes(), self.now.0));
                    self.draft.put(Shelf::Record, &key, &row)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether this is still the record of that week.
    fn is_published(&self, week: u32, record: &PrekeysRecord) -> Result<bool, LettersError> {
        let row: Option<RecordRow> = self.draft.get(Shelf::Record, &week.to_be_bytes())?;
        Ok(row.is_some_and(|row| row.record == record.as_bytes()))
    }

    /// Asks more mailboxes for somebody's prekeys, until enough have answered.
    pub(super) fn look(
        &mut self,
        (id, week): (u32, u32),
        transit: &mut Transit,
        ring: Ring<'_>,
    ) -> Result<Vec<Errand>, LettersError> {
        let contact = match self.contact(id) {
            Ok(contact) => contact,
            Err(LettersError::Unknown) => return Ok(vec![]),
            Err(error) => return Err(error),
        };
        let address = Address::from_bytes(contact.address).map_err(|_| LettersError::Damaged)?;
        let placement = PrekeysOf::new(self.network, address, Week(week)).placement();
        let ring = ring(&placement);
        let lookup = transit.lookups.entry((id, week)).or_default();
        let under_way = lookup.asked.len() - lookup.answered - lookup.silent;
        // Where relays came and went, those that had them stand further back in the ring.
        let least = usize::from(lookup.found.is_empty() && under_way == 0);
        let missing = REPLICAS_ENOUGH.saturating_sub(lookup.answered + under_way).max(least);
        let next: Vec<_> = ring.into_iter().filter(|relay| !lookup.asked.contains(relay)).take(missing).collect();
        if next.is_empty() && under_way == 0 {
            return self.looked((id, week), &address, transit);
        }
        lookup.asked.extend(next.iter().copied());
        Ok(next.into_iter().map(|relay| self.errand(relay, placement, What::Look { contact: id, week })).collect())
    }

    /// What a mailbox said.
    pub(super) fn look_answered(&mut self, name: (u32, u32), transit: &mut Transit, answer: Option<&Answer<'_>>) {
        let Some(lookup) = transit.lookups.get_mut(&name) else { return };
        match answer {
            Some(Answer::Prekeys(record)) => {
                lookup.answered += 1;
                lookup.found.push(record.clone());
            }
            Some(Answer::Refused(Refusal::Gone)) => lookup.answered += 1,
            _ => lookup.silent += 1, // another one is asked in its place
        }
        self.wake(0, Job::Look(name.0, name.1));
    }

    /// The best of what was found is kept; where there is nothing, it is looked for again later.
    fn looked(
        &mut self,
        (id, week): (u32, u32),
        address: &Address,
        transit: &mut Transit,
    ) -> Result<Vec<Errand>, LettersError> {
        let lookup: Lookup = transit.lookups.remove(&(id, week)).unwrap_or_default();
        transit.checked(id, self.now.0);
        let of = PrekeysOf::new(self.network, *address, Week(week));
        let opened = lookup.found.into_iter().filter_map(|record| Some((of.open(&record).ok()?, record)));
        let had_some = !self.draft.keys(Shelf::Prekeys, &prekeys_key(id, week))?.is_empty();
        if let Some((prekeys, record)) = opened.max_by_key(|(prekeys, record)| (prekeys.device, record.revision()))
            && self.keep_prekeys(id, &Published { week: Week(week), prekeys: record }, &prekeys)?
        {
            let mut contact = self.contact(id)?;
            self.meet_device(&mut contact, prekeys.identity, prekeys.device)?;
            self.wake_all(id)?;
            return Ok(vec![]);
        }
        if !had_some && !self.waiting(id)?.is_empty() {
            let tries = transit.lookups.entry((id, week)).or_default();
            tries.tries = lookup.tries.saturating_add(1);
            let wait = back_off(tries.tries);
            self.wake(wait, Job::Look(id, week));
        }
        Ok(vec![])
    }

    /// Somebody's prekeys are known: whether they are newer than those that were. An older device of theirs may still run,
    /// and publish.
    pub(super) fn keep_prekeys(&mut self, id: u32, of: &Published, opened: &Prekeys) -> Result<bool, LettersError> {
        let (key, revision) = (prekeys_key(id, of.week.0), of.prekeys.revision());
        let before: Option<TheirsRow> = self.draft.get(Shelf::Prekeys, &key)?;
        let is_older = |before: TheirsRow| (opened.device, revision) < (before.device, before.revision);
        if before.is_some_and(is_older) || opened.device < self.contact(id)?.device {
            return Ok(false);
        }
        let Prekeys { xwing, identity, device, fallback } = opened;
        let fallback = *fallback.last().ok_or(LettersError::Damaged)?;
        let row = TheirsRow { xwing: xwing.to_vec(), identity: *identity, device: *device, fallback, revision };
        self.draft.put(Shelf::Prekeys, &key, &row)?;
        Ok(true)
    }
}

fn kept_key(placement: &Placement, relay: &RelayId, list: u8) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h, ..] = crypto::blake3(&[&placement.encode(), relay.as_bytes(), &[list]]);
    vec![a, b, c, d, e, f, g, h]
}
