//! Letters: a person's own program, without a network: who the person is, whom the person knows, what was said, and
//! what has become of it.
//!
//! Specification: docs/protocol.md, from "Addresses of people" to "Delivery", and docs/architecture.md, "The client's
//! letters". [`Letters`] says what is to be asked of which mailbox ([`Errand`]), and is told what came of it; all that it
//! knows is in one encrypted file. It does no network, and reads no clock.

mod agenda;
mod backup;
mod chores;
mod contacts;
mod device;
mod errand;
mod file;
mod history;
mod inbox;
pub mod invite;
mod invites;
mod opening;
mod outbox;
mod person;
mod receipts;
mod room;
mod rows;
mod session;
mod sheet;
mod steps;
pub mod vault;
mod work;

use std::fmt;

use rand::{Rng, SeedableRng, rngs::StdRng};
use tracing::warn;
use trefoil_protocol::{
    address::{Address, AddressSecret},
    crypto::Secret,
    epoch::UnixSeconds,
    identity::RelayId,
    letter::MessageId,
    limits::{
        BACKUP_SOON, DELIVERY, DEPOSIT_SPREAD, FILE_BYTES, LETTERS_WAITING, LIST_ROOM_BOUGHT, LOOK_REQUEST,
        RECEIPT_DELAY, STAMP_BITS, TICKETS_BITS, VAULT_AGAIN, VAULT_RENEWED,
    },
    mailbox::Answer,
    params::NetworkId,
    phrase::Phrase,
};

use self::{
    agenda::{Agenda, Job},
    contacts::check_own_name,
    inbox::Transit,
    rows::PersonRow,
    vault::{Place, Shelf, Unlock, Vault, VaultError},
    work::{Outcome, Work},
};
pub use self::{
    backup::Backup,
    contacts::{InviteUse, safety_number},
    errand::Errand,
    file::{FileRow, FileState},
    history::{Gap, Known, Line},
    invites::MadeInvite,
    rows::{Delivery, Failure, Receipts, Said, Standing},
    sheet::Sheet,
    work::Ring,
};

/// See the file's head.
pub struct Letters {
    vault: Vault,
    owner: AddressSecret,
    network: NetworkId,
    settings: Settings,
    rng: StdRng,
    agenda: Agenda,
    transit: Transit,
    /// When it was noted last that all mailboxes were asked.
    asked: u64,
}

/// How long things take. Those of a network for tests are shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Seconds between the deposits of a letter, on average.
    pub spread: u64,
    /// Seconds before a receipt, on average.
    pub receipt: u64,
    /// Seconds for which a letter is delivered.
    pub delivery: u64,
    /// Seconds after which a change of contacts goes into the backup.
    pub backup: u64,
    /// Seconds between two looks at a mailbox of the request inbox, on average.
    pub requests: u64,
    /// Zero bits of the stamps that are tried first; a mailbox that asks for more says so.
    pub stamps: u8,
    /// As `stamps`, of lists of tickets.
    pub lists: u8,
    /// Bytes of room that are bought for a list of tickets at first.
    pub room: u64,
}

/// Something that the person may want to know at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something has come, and stands in the conversation.
    Letter {
        /// Whose.
        contact: u32,
        /// Which.
        letter: MessageId,
    },
    /// A letter of the person's is somewhere else than before.
    Became {
        /// To whom.
        contact: u32,
        /// Which.
        letter: MessageId,
        /// Where.
        delivery: Delivery,
    },
    /// Somebody wants to be a contact.
    Requested {
        /// Who.
        contact: u32,
    },
    /// Somebody is a contact from here on.
    Accepted {
        /// Who.
        contact: u32,
    },
    /// A contact's device is another one.
    Renewed {
        /// Whose.
        contact: u32,
    },
    /// Something came that this program is too old to read.
    Unreadable {
        /// Whose.
        contact: u32,
    },
    /// A file has come further.
    File {
        /// Whose, or to whom.
        contact: u32,
        /// Which.
        file: MessageId,
    },
}

/// Why something was not done, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Something in the vault is not what this program puts there.
    #[error("what is kept of letters is damaged: restore the profile from a copy, or the person from the phrase")]
    Damaged,
    /// Nobody of this name.
    #[error("there is no such contact")]
    Unknown,
    /// Somebody who is known already.
    #[error("this address is a contact already, or was asked already")]
    Known,
    /// The person.
    #[error("this is your own address")]
    Oneself,
    /// Too many contacts, or invites.
    #[error("there are as many as there can be: remove some first")]
    TooMany,
    /// Too many letters wait for one contact.
    #[error("{LETTERS_WAITING} letters to this contact wait to be delivered: no more until some are")]
    TooManyLetters,
    /// More bytes than a letter may have, or none.
    #[error("1 to {0} bytes fit: write less, or send a file")]
    TooLong(usize),
    /// No name.
    #[error("a name is short, has no control characters, a file's no slashes, and is like no address")]
    Name,
    /// Another contact's name.
    #[error("another contact has this name: choose another one")]
    NameTaken,
    /// Nobody waits for an answer.
    #[error("this contact waits for no answer")]
    NoRequest,
    /// The contact was not accepted.
    #[error("accept the contact's request before you write")]
    NotAccepted,
    /// The contact is blocked.
    #[error("the contact is blocked: unblock it before you write")]
    Blocked,
    /// The contact is not blocked.
    #[error("the contact is not blocked")]
    NotBlocked,
    /// No such invite.
    #[error("there is no such invite")]
    NoInvite,
    /// No such file, or not in a state for this.
    #[error("there is no such file, or it is not there yet, or was answered already")]
    NoFile,
    /// A file that is too large, or empty.
    #[error("a file has 1 to {FILE_BYTES} bytes")]
    FileSize,
    /// A letter whose place cannot be.
    #[error("a letter that has no place in the conversation")]
    Unplaceable,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            spread: DEPOSIT_SPREAD,
            receipt: RECEIPT_DELAY,
            delivery: DELIVERY,
            backup: BACKUP_SOON,
            requests: LOOK_REQUEST,
            stamps: *STAMP_BITS.start(),
            lists: TICKETS_BITS,
            room: LIST_ROOM_BOUGHT,
        }
    }
}

impl Letters {
    /// Makes a profile for the person of this phrase, on a new device: a new person, or one that is restored. The seed
    /// makes all that is random here but Olm's keys.
    ///
    /// # Errors
    /// [`LettersError::Vault`], also where there is a profile already.
    pub fn create(
        place: &Place,
        unlock: &Unlock<'_>,
        (phrase_entropy, name): (&Secret, &str),
        (network, settings): (NetworkId, Settings),
        (now, seed): (UnixSeconds, &Secret),
    ) -> Result<Self, LettersError> {
        check_own_name(name)?;
        let mut rng = StdRng::from_seed(**seed);
        let vault = Vault::create(place, unlock, &drawn(&mut rng))?;
        let person = PersonRow::new(phrase_entropy, name, now, &mut rng);
        let mut draft = vault.draft()?;
        draft.put(Shelf::Person, b"", &person)?;
        draft.put(Shelf::Renewed, b"", &now.0)?;
        draft.keep()?;
        Self::with(vault, network, settings, (now, rng))
    }

    /// Opens a profile.
    ///
    /// # Errors
    /// [`LettersError::Vault`] says what to do.
    pub fn open(
        place: &Place,
        unlock: &Unlock<'_>,
        (network, settings): (NetworkId, Settings),
        (now, seed): (UnixSeconds, &Secret),
    ) -> Result<Self, LettersError> {
        let mut rng = StdRng::from_seed(**seed);
        let vault = Vault::open(place, unlock, &drawn(&mut rng))?;
        Self::with(vault, network, settings, (now, rng))
    }

    fn with(
        vault: Vault,
        network: NetworkId,
        settings: Settings,
        (now, rng): (UnixSeconds, StdRng),
    ) -> Result<Self, LettersError> {
        let person: Option<PersonRow> = vault.draft()?.get(Shelf::Person, b"")?;
        let owner = person.ok_or(LettersError::Damaged)?.phrase().address_secret();
        let (agenda, transit) = Default::default();
        let mut letters = Self { vault, owner, network, settings, rng, agenda, transit, asked: 0 };
        letters.change(now, |work| {
            work.upkeep()?;
            for key in work.draft.keys(Shelf::Outgoing, b"")? {
                work.wake(0, Job::Deliver(key.first_chunk().map_or(0, |key| u64::from_be_bytes(*key))));
            }
            for key in work.draft.keys(Shelf::Owed, b"")? {
                work.wake(0, Job::Confirm(key.first_chunk().map_or(0, |key| u32::from_be_bytes(*key))));
            }
            work.wake(0, Job::Plan);
            work.wake(0, Job::Tidy);
            let renewed = work.draft.get::<u64>(Shelf::Renewed, b"")?.unwrap_or(0);
            work.wake(renewed.saturating_add(VAULT_RENEWED).saturating_sub(now.0), Job::Renew);
            work.wake(work.settings.backup, Job::BackUp);
            Ok(())
        })?;
        Ok(letters)
    }

    /// Writes the vault anew.
    fn renew(&mut self, now: UnixSeconds) {
        let renewed = self.vault.renew().map_err(LettersError::from);
        let renewed = renewed.and_then(|()| {
            self.change(now, |work| {
                work.wake(VAULT_RENEWED, Job::Renew);
                Ok(work.draft.put(Shelf::Renewed, b"", &now.0)?)
            })
        });
        if let Err(error) = renewed {
            warn!(%error, "letters that were deleted may still be on disk: that is tried again");
            self.agenda.add([(now.0 + VAULT_AGAIN, Job::Renew)]);
        }
    }

    /// Locks the vault in another way.
    ///
    /// # Errors
    /// [`LettersError::Vault`]; it is locked as before then.
    pub fn relock(&mut self, before: &Unlock<'_>, after: &Unlock<'_>) -> Result<(), LettersError> {
        Ok(self.vault.relock(before, after)?)
    }

    /// The person's address.
    pub fn address(&self) -> Address {
        self.owner.address()
    }

    /// The person's phrase.
    ///
    /// # Errors
    /// [`LettersError::Vault`].
    pub fn phrase(&self) -> Result<Phrase, LettersError> {
        let person: Option<PersonRow> = self.vault.draft()?.get(Shelf::Person, b"")?;
        Ok(person.ok_or(LettersError::Damaged)?.phrase())
    }

    /// The relays that keep what contacts write to the person now.
    ///
    /// # Errors
    /// [`LettersError`].
    pub fn replicas(&mut self, now: UnixSeconds, ring: Ring<'_>) -> Result<Vec<RelayId>, LettersError> {
        self.change(now, |work| Ok(work.replicas(ring)))
    }

    /// What is to be asked of mailboxes now. Each errand has to be handed back, by [`Self::done`].
    ///
    /// # Errors
    /// [`LettersError`]; nothing is forgotten then.
    pub fn errands(&mut self, now: UnixSeconds, ring: Ring<'_>) -> Result<(Vec<Errand>, Vec<News>), LettersError> {
        let (mut errands, mut news) = (vec![], vec![]);
        if self.next().is_some_and(|next| next > now) {
            return Ok((errands, news));
        }
        while let Some(job) = self.agenda.take(now.0) {
            if job == Job::Renew {
                self.renew(now);
                continue;
            }
            let (more, told) = match self.change_with(now, |work, transit| work.job(job, transit, ring)) {
                Ok(done) => done,
                Err(error) => {
                    warn!(%error, "something of letters was not done, and is tried again"); // all else goes on
                    self.agenda.add([(now.0 + FAILED_AGAIN, job)]);
                    continue;
                }
            };
            more.iter().for_each(|errand| self.transit.begin(errand));
            errands.extend(more);
            news.extend(told);
        }
        let (more, told) = self.change_with(now, |work, transit| {
            let mut errands = work.chores(transit)?;
            errands.extend(work.visit(transit, ring));
            Ok(errands)
        })?;
        more.iter().for_each(|errand| self.transit.begin(errand));
        errands.extend(more);
        news.extend(told);
        Ok((errands, news))
    }

    /// All mailboxes have been asked that were to be asked by now.
    ///
    /// # Errors
    /// [`LettersError`].
    pub fn note_asked(&mut self, now: UnixSeconds) -> Result<(), LettersError> {
        if now.0 < self.asked + NOTE_ASKED {
            return Ok(());
        }
        self.asked = now.0;
        self.change(now, |work| {
            work.person.asked = now.0;
            Ok(())
        })
    }

    /// When [`Self::errands`] has something again, as far as that is known.
    pub fn next(&self) -> Option<UnixSeconds> {
        self.agenda.next().into_iter().chain(self.transit.next()).min().map(UnixSeconds)
    }

    /// What came of an errand: the answer, if there was one.
    ///
    /// # Errors
    /// [`LettersError`]; the errand counts as unanswered then.
    pub fn done(
        &mut self,
        errand: &Errand,
        answer: Option<&Answer<'_>>,
        now: UnixSeconds,
        ring: Ring<'_>,
    ) -> Result<Vec<News>, LettersError> {
        self.transit.end(errand);
        let (_, news) = self.change_with(now, |work, transit| {
            work.answered(errand, answer, transit, ring)?;
            Ok(vec![])
        })?;
        Ok(news)
    }

    /// Does something of the person's, in one change.
    fn change<T>(
        &mut self,
        now: UnixSeconds,
        act: impl FnOnce(&mut Work<'_>) -> Result<T, LettersError>,
    ) -> Result<T, LettersError> {
        let mut made = None;
        self.change_with(now, |work, _| {
            made = Some(act(work)?);
            Ok(vec![])
        })?;
        made.ok_or(LettersError::Damaged)
    }

    fn change_with(
        &mut self,
        now: UnixSeconds,
        act: impl FnOnce(&mut Work<'_>, &mut Transit) -> Result<Vec<Errand>, LettersError>,
    ) -> Result<(Vec<Errand>, Vec<News>), LettersError> {
        let draft = self.vault.draft()?;
        let person = draft.get(Shelf::Person, b"")?.ok_or(LettersError::Damaged)?;
        let (owner, network, settings, rng) = (&self.owner, &self.network, &self.settings, &mut self.rng);
        let (news, jobs) = (vec![], vec![]);
        let mut work = Work { draft, person, owner, network, settings, rng, now, news, jobs };
        let errands = act(&mut work, &mut self.transit)?;
        let Outcome { news, jobs } = work.keep()?;
        self.agenda.add(jobs);
        Ok((errands, news))
    }
}

/// Seconds between two notes that all mailboxes were asked.
const NOTE_ASKED: u64 = 3600;
/// Seconds until something is tried again that could not be done: the disk may be full.
const FAILED_AGAIN: u64 = 60;

fn drawn(rng: &mut StdRng) -> Secret {
    let mut seed = Secret::default();
    rng.fill_bytes(&mut *seed);
    seed
}

impl fmt::Debug for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Letters of {:?}", self.owner.address())
    }
}

#[cfg(test)]
mod tests;
