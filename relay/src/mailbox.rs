//! Mailbox: the letters that a relay keeps for people who are away.
//!
//! Specification: docs/protocol.md, "Mailbox streams". It answers the requests of mailbox streams, from one file on disk:
//! what it acknowledges is there, and survives a crash. Nothing is in memory for each letter or inbox, but for whoever
//! waits for one. It does not know the network: whether this relay is in the ring of an inbox, and who may ask as a
//! replica, its caller says. It never logs an inbox or a letter.

mod changes;
mod counter;
mod disk;
mod expiry;
mod ledger;
mod letters;
mod reading;
mod rows;
mod watchers;
mod writer;

use std::{
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Arc,
    time::Duration,
};

use redb::Database;
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use trefoil_protocol::{
    blind::BlindUse,
    envelope::{LetterId, SizeClass},
    epoch::UnixSeconds,
    identity::{RelayId, RelaySecret},
    inbox::Channel,
    limits::LETTER_HOURS,
    mailbox::{Answer, Ask, Deposit, Listed, Owned, Postage, Refusal, Request},
    params::NetworkId,
    period::Day,
    prekeys::PrekeysRecord,
    puzzle::Hour,
    receipt::Receipt,
    ring::Placement,
    stamp::{self, Fullness, Stamp},
    tombstone::Tombstone,
};

pub use self::disk::MailboxOpenError;
use self::{
    changes::{Change, Done, Parcel, Way},
    counter::Left,
    disk::{Disk, Place},
    ledger::Stop,
    reading::Page,
    watchers::Watchers,
    writer::Writer,
};
use crate::directory::aside;

/// The file in a data directory.
pub const MAILBOX_FILE: &str = "mailbox.redb";

/// All mailboxes of a relay.
#[derive(Debug)]
pub struct Mailbox {
    terms: Arc<Terms>,
    disk: Arc<Disk>,
    watchers: Arc<Watchers>,
    writer: Writer,
}

/// On what terms letters are kept.
#[derive(Debug)]
pub struct Terms {
    /// In which network.
    pub network: NetworkId,
    /// Who signs for letters.
    pub identity: RelaySecret,
    /// For how many bytes of disk: what all letters are reckoned at, with their rows. The file can be larger by what is
    /// free in it.
    pub size: u64,
    /// Bits that stamps may lack: 0 everywhere but in simulations, which have something else to compute.
    pub rebate: u8,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// Whoever is at the other end of a circuit whose handshake had this `binding`.
    Circuit(&'a [u8; 32]),
    /// A relay that is among the replicas of the inbox, by its link.
    Replica,
}

/// What mailboxes keep, in bytes as they are reckoned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// What was deposited, registered and published.
    pub deposited: u64,
    /// What came from replicas.
    pub repaired: u64,
    /// What the owners deleted.
    pub tombstones: u64,
}

/// A letter that was taken from a replica.
#[derive(Clone, Copy, Debug)]
pub struct Repair<'a> {
    /// Which replica.
    pub from: RelayId,
    /// Of which inbox.
    pub inbox: Placement,
    /// Until when the replica keeps it.
    pub expiry: Hour,
    /// What it had cost there.
    pub postage: Postage,
    /// The envelope: as many bytes as one of the classes has.
    pub envelope: &'a [u8],
}

impl Mailbox {
    /// Opens the mailboxes of this file, and makes it where there is none. All of the file is read: that can take some
    /// seconds. A damaged one is set aside, with a warning.
    ///
    /// # Errors
    /// [`MailboxOpenError`]; the file is then as it was.
    pub fn open(file: &Path, terms: Terms) -> Result<Self, MailboxOpenError> {
        Self::open_at(Place::File(file.to_owned()), terms)
    }

    /// Mailboxes that are gone with the process, for networks that are tried out.
    ///
    /// # Errors
    /// [`MailboxOpenError`].
    pub fn in_memory(terms: Terms) -> Result<Self, MailboxOpenError> {
        Self::open_at(Place::Memory, terms)
    }

    fn open_at(place: Place, terms: Terms) -> Result<Self, MailboxOpenError> {
        let (terms, watchers) = (Arc::new(terms), Arc::new(Watchers::default()));
        let name = place.to_string();
        let disk = Arc::new(Disk::open(place, &terms)?);
        let started = Writer::start(Arc::clone(&disk), Arc::clone(&terms), Arc::clone(&watchers));
        let writer = started
            .map_err(|cause| MailboxOpenError::Unusable { place: name, cause: Box::new(redb::Error::Io(cause)) })?;
        Ok(Self { terms, disk, watchers, writer })
    }

    /// The frame that answers a request. What it acknowledges is on disk. A `List` with patience takes as long as that.
    /// Cancel-safe: what was asked for may be done all the same.
    pub async fn answer(&self, request: Request<'_>, asker: Asker<'_>, now: UnixSeconds) -> Vec<u8> {
        let answered = self.answered(request, asker, now).await;
        answered.unwrap_or_else(|refusal| Answer::Refused(refusal).encode())
    }

    async fn answered(&self, request: Request<'_>, asker: Asker<'_>, now: UnixSeconds) -> Result<Vec<u8>, Refusal> {
        match request {
            Request::Deposit(deposit) => self.deposit(&deposit, now).await,
            Request::Owned(owned) => self.owned(owned, asker, now).await,
            Request::Delete { inbox, tombstones } => self.delete(inbox, tombstones, now).await,
            Request::Publish { placement, stamp, record } => self.publish(placement, stamp, record, now).await,
            Request::Look { placement } => {
                let record = self.read(&placement, now, |database, _| reading::look(database, &placement))?;
                Ok(Answer::Prekeys(record).encode())
            }
            Request::Pull { inbox, after } => self.pull(asker, &inbox, after, now),
            Request::Take { inbox, letter } => self.take(asker, &inbox, &letter, now),
            Request::Kept { .. } => Err(Refusal::NotForYou), // which relays an inbox concerns, `kept` is told
        }
    }

    /// The inboxes here that came after this number, a page of them, and where the next page begins: at
    /// `after`, where there is none.
    ///
    /// # Errors
    /// Why none are told.
    pub fn kept(&self, after: u64, now: UnixSeconds) -> Result<(u64, Vec<Placement>), Refusal> {
        let is_inbox = |placement: &Placement| placement.of != BlindUse::Prekeys && placement.is_kept(now);
        self.look(|database| reading::kept(database, after, is_inbox))
    }

    /// Whether anything is kept there, whoever brought it.
    pub fn has(&self, placement: &Placement) -> bool {
        self.look(|database| reading::has(database, placement)) == Ok(true)
    }

    /// What is kept, in bytes as they are reckoned.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn totals(&self) -> Result<Totals, Refusal> {
        self.look(reading::totals)
    }

    /// The bytes that all of it may have.
    pub fn size(&self) -> u64 {
        self.terms.size
    }

    /// Those letters of a replica that are to be taken from it: they were not deleted here, and are not kept for as long.
    ///
    /// # Errors
    /// Why nothing is taken.
    pub fn lacking(&self, inbox: &Placement, letters: &[Listed], now: UnixSeconds) -> Result<Vec<Listed>, Refusal> {
        self.read(inbox, now, |database, _| reading::lacking(database, inbox, letters))
    }

    /// Whether they broke down: nothing is answered any more but that, and they are not to be offered.
    pub fn is_broken(&self) -> bool {
        self.disk.is_broken()
    }

    /// Keeps a letter that was taken from a replica. It gives way to what is deposited here, and nobody who deposits hears
    /// of it.
    ///
    /// # Errors
    /// Why it is not kept.
    pub async fn repair(&self, letter: Repair<'_>, now: UnixSeconds) -> Result<(), Refusal> {
        let Repair { from, inbox, expiry, postage, envelope } = letter;
        let expiry = expiry.min(expiry_of(LETTER_HOURS, now)).min(Hour::of_unix(inbox.kept_until().0));
        let class = class_of(&inbox, &postage, envelope)?;
        if expiry <= Hour::of_unix(now.0) {
            return Err(Refusal::Gone);
        }
        let (letter, envelope) = (LetterId::of(envelope), envelope.to_vec());
        let parcel = Parcel { inbox, letter, class, expiry, postage, envelope, way: Way::Repaired(from) };
        self.change(&inbox, Change::Keep(parcel), now).await.map(|_| ())
    }

    /// Clears away some of what has expired; whether there is more. To be asked each hour, and again while there is; not with
    /// a time that may be wrong, since what has expired by it is lost.
    ///
    /// # Errors
    /// [`Refusal::Full`] while nothing can be written.
    pub async fn sweep(&self, now: UnixSeconds) -> Result<bool, Refusal> {
        let done = self.writer.change(Change::Sweep, now).await?;
        Ok(done == Done::Swept { more: true })
    }

    async fn deposit(&self, deposit: &Deposit<'_>, now: UnixSeconds) -> Result<Vec<u8>, Refusal> {
        let Deposit { inbox, hours, postage, envelope } = *deposit;
        if !inbox.is_current(now) {
            return Err(Refusal::Period);
        }
        let class = class_of(&inbox, &postage, envelope)?;
        if hours > LETTER_HOURS {
            return Err(Refusal::TooLong(LETTER_HOURS));
        }
        let (letter, expiry) = (LetterId::of(envelope), expiry_of(hours, now));
        let parcel = Parcel { inbox, letter, class, expiry, postage, envelope: envelope.to_vec(), way: Way::Deposited };
        let known = self.glance(|database| reading::deposited(database, &self.terms, &parcel, now))?;
        let expiry = match known.flatten() {
            Some(expiry) => expiry,
            None => match self.writer.change(Change::Keep(parcel), now).await? {
                Done::Kept(expiry) => expiry,
                _ => return Err(Refusal::NotReady), // no other answer is given to it
            },
        };
        let Terms { identity, network, .. } = &*self.terms;
        Ok(Answer::Accepted(Receipt::sign(identity, network, &inbox, &letter, expiry)).encode())
    }

    async fn delete(&self, inbox: Placement, tombstones: Vec<Tombstone>, now: UnixSeconds) -> Result<Vec<u8>, Refusal> {
        check_kept(&inbox, now)?;
        let is_signed = |stone: &Tombstone| stone.is_of(&self.terms.network, &inbox);
        // one signature shows that the owner is behind it, before anything is looked for
        tombstones.first().filter(|stone| aside(|| is_signed(stone))).ok_or(Refusal::BadClaim)?;
        let unknown = self.glance(|database| reading::unknown(database, &inbox, &tombstones))?;
        let tombstones = unknown.unwrap_or(tombstones);
        if !aside(|| tombstones.iter().all(is_signed)) {
            return Err(Refusal::BadClaim);
        }
        if !tombstones.is_empty() {
            self.change(&inbox, Change::Delete { inbox, tombstones }, now).await?;
        }
        Ok(Answer::Deleted.encode())
    }

    async fn publish(
        &self,
        placement: Placement,
        stamp: Stamp,
        record: PrekeysRecord,
        now: UnixSeconds,
    ) -> Result<Vec<u8>, Refusal> {
        check_kept(&placement, now)?;
        match self.glance(|database| reading::look(database, &placement)) {
            Ok(Some(before)) if before == record => return Ok(Answer::Published.encode()),
            Ok(Some(before)) if before.revision() >= record.revision() => return Err(Refusal::Stale),
            Ok(_) | Err(Refusal::Gone) => {}
            Err(refusal) => return Err(refusal),
        }
        let least = stamp::letter_price(SizeClass::Short, 0, Fullness::LOW).ok_or(Refusal::NotForYou)?;
        let left = Left { at: &placement, list: 0, what: record.as_bytes(), stamp: &stamp };
        left.check(&self.terms, least, Day::of(now))?; // and what costs more to check after it
        record.check(&self.terms.network, &placement).map_err(|_| Refusal::BadClaim)?;
        self.change(&placement, Change::Publish { placement, stamp, record }, now).await?;
        Ok(Answer::Published.encode())
    }

    async fn owned(&self, owned: Owned, asker: Asker<'_>, now: UnixSeconds) -> Result<Vec<u8>, Refusal> {
        let Asker::Circuit(binding) = asker else { return Err(Refusal::BadClaim) };
        check_kept(&owned.inbox, now)?;
        if let Ask::Register { list, tickets, stamp } = &owned.ask {
            let left = Left { at: &owned.inbox, list: *list, what: &tickets.encode(), stamp };
            left.check(&self.terms, stamp::list_price(Fullness::LOW), Day::of(now))?;
        }
        let mailbox = self.terms.identity.id();
        let channel = Channel { network: &self.terms.network, mailbox: &mailbox, binding };
        if !owned.is_claimed(&channel) {
            return Err(Refusal::BadClaim);
        }
        let Owned { inbox, ask, .. } = owned;
        match ask {
            Ask::List { after, patience } => {
                let until = Instant::now() + Duration::from_secs(patience.into());
                let Page { next, letters, .. } = self.list(&inbox, after, until, now).await?;
                Ok(Answer::Letters { next, letters }.encode())
            }
            Ask::Fetch(letter) => {
                let found = self.read(&inbox, now, |database, hour| reading::find(database, &inbox, &letter, hour))?;
                Ok(Answer::Letter(&found.envelope).encode())
            }
            Ask::Register { .. } if inbox.of != BlindUse::PrivateInbox => Err(Refusal::BadTicket),
            Ask::Register { list, tickets, stamp } => {
                self.change(&inbox, Change::Register { inbox, list, tickets, stamp }, now).await?;
                Ok(Answer::Registered.encode())
            }
        }
    }

    async fn list(&self, inbox: &Placement, after: u64, until: Instant, now: UnixSeconds) -> Result<Page, Refusal> {
        let look = || self.read(inbox, now, |database, hour| reading::list(database, inbox, after, hour));
        if until <= Instant::now() || inbox.of != BlindUse::PrivateInbox {
            return look();
        }
        if !self.read(inbox, now, |database, _| reading::is_paid(database, inbox))? {
            return Err(Refusal::Gone); // a place costs what its inbox has cost
        }
        let mut watcher = self.watchers.watch(*inbox);
        loop {
            let page = look()?;
            if !page.letters.is_empty() || !timeout_at(until, watcher.news()).await.unwrap_or(false) {
                return Ok(page);
            }
        }
    }

    fn pull(&self, asker: Asker<'_>, inbox: &Placement, after: u64, now: UnixSeconds) -> Result<Vec<u8>, Refusal> {
        check_replica(asker)?;
        let page = self.read(inbox, now, |database, hour| reading::pull(database, inbox, after, hour))?;
        let Page { next, letters, tombstones } = page;
        Ok(Answer::Pulled { next, letters, tombstones }.encode())
    }

    fn take(
        &self,
        asker: Asker<'_>,
        inbox: &Placement,
        letter: &LetterId,
        now: UnixSeconds,
    ) -> Result<Vec<u8>, Refusal> {
        check_replica(asker)?;
        let found = self.read(inbox, now, |database, hour| reading::find(database, inbox, letter, hour))?;
        Ok(Answer::Taken { postage: found.postage, envelope: &found.envelope }.encode())
    }

    /// Changes something in an inbox that is kept.
    async fn change(&self, inbox: &Placement, change: Change, now: UnixSeconds) -> Result<Done, Refusal> {
        check_kept(inbox, now)?;
        self.writer.change(change, now).await
    }

    /// Looks something up in an inbox that is kept.
    fn read<T>(
        &self,
        inbox: &Placement,
        now: UnixSeconds,
        look: impl FnOnce(&Database, Hour) -> Result<T, Stop>,
    ) -> Result<T, Refusal> {
        check_kept(inbox, now)?;
        self.look(|database| look(database, Hour::of_unix(now.0)))
    }

    /// Looks something up that is looked at again when it is written; `None` while nothing can be read, since whoever writes
    /// opens the file again.
    fn glance<T>(&self, look: impl FnOnce(&Database) -> Result<T, Stop>) -> Result<Option<T>, Refusal> {
        match self.look(look) {
            Err(Refusal::NotReady) => Ok(None),
            looked => looked.map(Some),
        }
    }

    fn look<T>(&self, look: impl FnOnce(&Database) -> Result<T, Stop>) -> Result<T, Refusal> {
        let database = self.disk.database().ok_or(Refusal::NotReady)?;
        let looked = panic::catch_unwind(AssertUnwindSafe(|| aside(|| look(&database))));
        drop(database);
        let Ok(looked) = looked else {
            self.disk.break_down();
            return Err(Refusal::NotReady);
        };
        looked.map_err(|stop| match stop {
            Stop::Refused(refusal) => refusal,
            Stop::Failed(error) => {
                self.disk.close(); // whoever writes next opens it again, and then all of it is checked
                warn!(%error, "cannot read the mailboxes");
                Refusal::NotReady
            }
        })
    }
}

fn class_of(inbox: &Placement, postage: &Postage, envelope: &[u8]) -> Result<SizeClass, Refusal> {
    let fits = postage.of() == inbox.of && postage.is_for(envelope);
    SizeClass::of(envelope.len()).filter(|_| fits).ok_or(Refusal::NotForYou)
}

fn check_replica(asker: Asker<'_>) -> Result<(), Refusal> {
    if matches!(asker, Asker::Replica) { Ok(()) } else { Err(Refusal::NotForYou) }
}

fn check_kept(inbox: &Placement, now: UnixSeconds) -> Result<(), Refusal> {
    if inbox.is_kept(now) { Ok(()) } else { Err(Refusal::Period) }
}

/// The first hour that begins when a letter was kept for so many.
fn expiry_of(hours: u16, now: UnixSeconds) -> Hour {
    Hour::of_unix(now.plus(u64::from(hours) * 3600 + 3599).0)
}

#[cfg(test)]
mod tests;
