//! Mailboxes in memory that check claims and postage by the protocol's own rules; some of them lie.

use std::collections::{BTreeMap, HashMap, HashSet};

use trefoil_protocol::{
    blind::BlindUse,
    envelope::{LetterId, SizeClass},
    identity::{RelayId, RelaySecret},
    inbox::Channel,
    mailbox::{Ask, Deposit, Listed, Owned, Postage, Refusal, Request},
    period::Day,
    prekeys::PrekeysRecord,
    puzzle::Hour,
    receipt::Receipt,
    ring::Placement,
    stamp::Stamped,
    ticket::TicketList,
};
use zeroize::Zeroizing;

use super::{world::NETWORK, *};

/// A mailbox.
pub(super) struct Box_ {
    secret: RelaySecret,
    pub(super) up: bool,
    pub(super) lie: Lie,
    /// Questions what there is.
    pub(super) lists: u32,
    /// Letters that were asked for, by inbox.
    pub(super) fetched: HashMap<Placement, u32>,
    letters: BTreeMap<(Placement, u64), Kept>,
    tickets: HashMap<(Placement, u8), TicketList>,
    spent: HashSet<(Placement, [u8; 16])>,
    prekeys: HashMap<Placement, PrekeysRecord>,
    serial: u64,
}

struct Kept {
    id: LetterId,
    expiry: Hour,
    envelope: Vec<u8>,
    is_deleted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    None,
    /// Signs for letters, and keeps none.
    Drops,
    /// Says that there is nothing.
    Empty,
    /// Brings what was deleted again and again.
    Old,
    /// Signs for other letters.
    Forges,
    /// Does not wait for letters.
    Hasty,
    /// Says what came last first.
    Backwards,
    /// Has letters of private inboxes that nobody wrote.
    Garbage,
}

impl Box_ {
    pub(super) fn new(number: u8) -> Self {
        Self {
            secret: RelaySecret::from_bytes(&Zeroizing::new([100 + number; 32])),
            up: true,
            lie: Lie::None,
            lists: 0,
            fetched: HashMap::new(),
            letters: BTreeMap::new(),
            tickets: HashMap::new(),
            spent: HashSet::new(),
            prekeys: HashMap::new(),
            serial: 1,
        }
    }

    pub(super) fn id(&self) -> RelayId {
        self.secret.id()
    }

    /// Keeps a letter, whoever brings it.
    pub(super) fn keep(&mut self, inbox: Placement, envelope: &[u8], expiry: Hour) {
        self.serial += 1;
        let kept = Kept { id: LetterId::of(envelope), expiry, envelope: envelope.to_vec(), is_deleted: false };
        self.letters.insert((inbox, self.serial), kept);
    }

    /// Loses all it has.
    pub(super) fn burn(&mut self) {
        let number = self.secret.id();
        let fresh = Self::new(0);
        let secret = std::mem::replace(&mut self.secret, RelaySecret::from_bytes(&Zeroizing::new([0; 32])));
        *self = Self { secret, ..fresh };
        assert_eq!(self.secret.id(), number);
    }

    pub(super) fn prekeys(&self, placement: &Placement) -> Option<&PrekeysRecord> {
        self.prekeys.get(placement)
    }

    pub(super) fn answer(&mut self, frame: &[u8], binding: &[u8; 32], now: UnixSeconds) -> Option<Vec<u8>> {
        if !self.up {
            return None;
        }
        let request = Request::decode(&frame[4..]).unwrap();
        let owned: Vec<u8>;
        let answer = match request {
            Request::Deposit(deposit) => self.deposit(&deposit, now),
            Request::Owned(asked) => {
                let id = self.secret.id();
                assert!(asked.is_claimed(&Channel { network: &NETWORK, mailbox: &id, binding }));
                match asked {
                    Owned { inbox, ask: Ask::Fetch(letter), .. } => {
                        *self.fetched.entry(inbox).or_default() += 1;
                        match self.find(&inbox, &letter) {
                            Some(envelope) => {
                                owned = envelope;
                                Answer::Letter(&owned)
                            }
                            None => Answer::Refused(Refusal::Gone),
                        }
                    }
                    Owned { inbox, ask: Ask::List { after, .. }, .. } => {
                        self.lists += 1;
                        self.invent(&inbox, now);
                        self.list(&inbox, after, now)
                    }
                    Owned { inbox, ask: Ask::Register { list, tickets, .. }, .. } => {
                        self.tickets.insert((inbox, list), tickets);
                        Answer::Registered
                    }
                }
            }
            Request::Delete { inbox, tombstones } => {
                assert!(tombstones.iter().all(|stone| stone.is_of(&NETWORK, &inbox)));
                for ((of, _), kept) in &mut self.letters {
                    kept.is_deleted |= *of == inbox && tombstones.iter().any(|stone| stone.letter == kept.id);
                }
                Answer::Deleted
            }
            Request::Publish { placement, record, .. } => {
                assert!(record.check(&NETWORK, &placement).is_ok());
                let is_before = |other: &PrekeysRecord| *other != record && other.revision() >= record.revision();
                let is_stale = self.prekeys.get(&placement).is_some_and(is_before);
                if !is_stale {
                    self.prekeys.insert(placement, record);
                }
                if is_stale { Answer::Refused(Refusal::Stale) } else { Answer::Published }
            }
            Request::Look { placement } => match self.prekeys.get(&placement) {
                Some(record) => Answer::Prekeys(record.clone()),
                None => Answer::Refused(Refusal::Gone),
            },
            Request::Pull { .. } | Request::Take { .. } | Request::Kept { .. } => unreachable!("people ask for none"),
        };
        Some(answer.encode())
    }

    fn deposit(&mut self, deposit: &Deposit<'_>, now: UnixSeconds) -> Answer<'static> {
        let Deposit { inbox, hours, postage, envelope } = *deposit;
        assert!(SizeClass::of(envelope.len()).is_some());
        let id = LetterId::of(envelope);
        if !inbox.is_current(now) {
            return Answer::Refused(Refusal::Period);
        }
        let expiry = Hour::of_unix(now.plus(u64::from(hours) * 3600 + 3599).0);
        let is_known = self.letters.iter().any(|((of, _), kept)| *of == inbox && kept.id == id);
        if !is_known && let Some(refusal) = self.check(&inbox, &id, &postage, now) {
            return Answer::Refused(refusal);
        }
        if !is_known && self.lie != Lie::Drops && self.lie != Lie::Forges {
            self.keep(inbox, envelope, expiry);
        }
        let signed = if self.lie == Lie::Forges { LetterId::from_bytes([9; 32]) } else { id };
        Answer::Accepted(Receipt::sign(&self.secret, &NETWORK, &inbox, &signed, expiry))
    }

    fn check(&mut self, inbox: &Placement, letter: &LetterId, postage: &Postage, now: UnixSeconds) -> Option<Refusal> {
        match postage {
            Postage::Stamp(stamp) => {
                let stamped = Stamped { network: &NETWORK, inbox, letter };
                assert_eq!(inbox.of, BlindUse::RequestInbox);
                stamp.check(&stamped, 6, Day::of(now)).is_err().then_some(Refusal::Price(6))
            }
            Postage::Ticket(ticket) => {
                let is_registered = self.tickets.iter().any(|((of, _), list)| of == inbox && list.holds(ticket));
                let is_new = is_registered && self.spent.insert((*inbox, ticket.0));
                (!is_new).then_some(Refusal::BadTicket)
            }
        }
    }

    fn list(&self, inbox: &Placement, after: u64, now: UnixSeconds) -> Answer<'static> {
        let is_there = |kept: &Kept| {
            let lasts = kept.expiry > Hour::of_unix(now.0);
            lasts && self.lie != Lie::Empty && (!kept.is_deleted || self.lie == Lie::Old)
        };
        let from = if self.lie == Lie::Old { 0 } else { after };
        let of_inbox = self.letters.range((*inbox, 0)..=(*inbox, u64::MAX));
        let mut all: Vec<_> = of_inbox.map(|((_, serial), kept)| (*serial, kept)).collect();
        if self.lie == Lie::Backwards {
            let turned: Vec<_> = (1..).zip(all.iter().rev().map(|(_, kept)| *kept)).collect();
            all = turned;
        }
        let found = all.into_iter().filter(|(serial, kept)| *serial > from && is_there(kept));
        let found: Vec<_> = found.take(3).collect();
        let next = found.last().map_or(after, |(serial, _)| *serial);
        let letters = found.iter().map(|(_, kept)| Listed {
            letter: kept.id,
            class: SizeClass::of(kept.envelope.len()).unwrap(),
            expiry: kept.expiry,
        });
        Answer::Letters { next, letters: letters.collect() }
    }

    /// Puts some more letters into an inbox that are none, if it lies so.
    fn invent(&mut self, inbox: &Placement, now: UnixSeconds) {
        if self.lie != Lie::Garbage || inbox.of != BlindUse::PrivateInbox {
            return;
        }
        for _ in 0..3 {
            self.serial += 1;
            let serial = self.serial;
            let envelope = [&serial.to_le_bytes()[..], self.secret.id().as_bytes(), &[7; 1752]].concat();
            let expiry = Hour::of_unix(now.plus(14 * 86_400).0);
            let kept = Kept { id: LetterId::of(&envelope), expiry, envelope, is_deleted: false };
            self.letters.insert((*inbox, serial), kept);
        }
    }

    fn find(&self, inbox: &Placement, letter: &LetterId) -> Option<Vec<u8>> {
        let found = self.letters.iter().find(|((of, _), kept)| of == inbox && kept.id == *letter);
        found.map(|(_, kept)| kept.envelope.clone())
    }
}
