//! Desk: the running program of one person: letters, the network that carries them, and the programs that ask.
//!
//! Specification: docs/control.md. All that is asked goes through [`Desk::handle`], whoever asks; what changes is on disk
//! before it is answered. The disk is never waited for on a thread that others need.

mod answers;
mod names;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{
    sync::{Notify, broadcast, watch},
    task::spawn_blocking,
};
use tracing::warn;
use trefoil_protocol::{
    entry::RelayEntry, epoch::UnixSeconds, identity::RelayId, limits::CONTROL_EVENTS, mailbox, params::NetworkId,
};
use trefoil_relay::clock::Clock;

use crate::{
    control::{Answer, Code, Event, Problem, Request},
    letters::{Errand, Letters, LettersError, News},
    postman::Outcome,
    profile::ProfileName,
    tunnel::Client,
};

/// See the file's head.
pub struct Desk {
    letters: Mutex<Letters>,
    client: Client,
    about: About,
    /// There is something to do.
    wake: Notify,
    events: broadcast::Sender<Event>,
    /// Whether all that was to be done is done, and mailboxes are only watched.
    caught_up: watch::Sender<bool>,
    heard: Mutex<Heard>,
}

/// Whose desk it is, and where.
#[derive(Clone, Debug)]
pub struct About {
    /// The profile.
    pub profile: ProfileName,
    /// The network's name.
    pub network: String,
    /// The network.
    pub id: NetworkId,
    /// Its time.
    pub clock: Clock,
    /// Relays of the network file, for invites to name where no others are known.
    pub named: Vec<RelayEntry>,
}

/// How mailboxes answered lately.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// Of those asked lately, how many answered.
    answered: u32,
    asked: u32,
    at: Option<UnixSeconds>,
}

impl Desk {
    /// The desk of whoever these letters are.
    pub fn new(letters: Letters, client: Client, about: About) -> Arc<Self> {
        let events = broadcast::Sender::new(CONTROL_EVENTS);
        let (letters, heard) = (Mutex::new(letters), Mutex::default());
        let (wake, caught_up) = (Notify::new(), watch::Sender::new(false));
        Arc::new(Self { letters, client, about, wake, events, caught_up, heard })
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// [`Problem`] says what happened and what to do; nothing was changed then.
    pub async fn handle(self: &Arc<Self>, request: Request) -> Result<Answer, Problem> {
        let answer = self.aside(move |desk| desk.answer(request)).await;
        self.wake.notify_one();
        answer
    }

    /// The relays that keep what contacts write to the person now.
    ///
    /// # Errors
    /// [`LettersError`].
    pub(crate) fn replicas(&self) -> Result<Vec<RelayId>, LettersError> {
        self.letters().replicas(self.now(), &|placement| self.client.ring(placement))
    }

    /// Waits until all mailboxes were asked that were to be asked.
    pub(crate) async fn caught_up(&self) {
        let mut caught_up = self.caught_up.subscribe();
        let _never_gone = caught_up.wait_for(|is| *is).await.is_err(); // the sender is this desk's
    }

    /// Whether they were.
    pub(crate) async fn note_caught_up(self: &Arc<Self>, is: bool) {
        self.caught_up.send_replace(is);
        if !is {
            return;
        }
        self.aside(|desk| {
            if let Err(error) = desk.letters().note_asked(desk.now()) {
                warn!(%error, "that all mailboxes were asked could not be kept"); // they are asked again at the next start
            }
        })
        .await;
    }

    /// What is to be asked of mailboxes now.
    pub(crate) async fn errands(self: &Arc<Self>) -> Vec<Errand> {
        self.aside(|desk| {
            let made = desk.letters().errands(desk.now(), &|placement| desk.client.ring(placement));
            let (errands, news) = made.unwrap_or_else(|error| {
                warn!(%error, "letters cannot be seen to for now");
                Default::default()
            });
            desk.tell(&news);
            errands
        })
        .await
    }

    /// Takes back what was asked, and what came of it.
    pub(crate) async fn done(self: &Arc<Self>, errand: Arc<Errand>, outcome: Outcome) {
        self.aside(move |desk| {
            let answer = match &outcome {
                Outcome::Answered(answered) => Some(answered.answer()),
                Outcome::Refused(refusal) => Some(mailbox::Answer::Refused(*refusal)),
                Outcome::Silent => None,
            };
            desk.hear(answer.is_some());
            let ring = |placement: &_| desk.client.ring(placement);
            let done = desk.letters().done(&errand, answer.as_ref(), desk.now(), &ring);
            match done {
                Ok(news) => desk.tell(&news),
                Err(error) => warn!(%error, "what a mailbox answered could not be kept"),
            }
        })
        .await;
    }

    /// When something is to be done again.
    pub(crate) fn next(&self) -> Option<UnixSeconds> {
        self.letters().next()
    }

    /// Waits until there is something to do that was not known before.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The time.
    pub(crate) fn now(&self) -> UnixSeconds {
        self.about.clock.now()
    }

    /// Does what waits for the disk.
    async fn aside<T: Send + 'static>(self: &Arc<Self>, work: impl FnOnce(&Self) -> T + Send + 'static) -> T {
        let desk = Arc::clone(self);
        spawn_blocking(move || work(&desk)).await.expect("what is done aside does not panic, and is not given up")
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner) // each change is on disk, or did not happen
    }

    fn hear(&self, answered: bool) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.asked >= HEARD_OF {
            *heard = Heard { answered: heard.answered / 2, asked: heard.asked / 2, at: heard.at };
        }
        heard.asked += 1;
        if answered {
            heard.answered += 1;
            heard.at = Some(self.now());
        }
    }

    /// Tells whoever follows.
    fn tell(&self, news: &[News]) {
        if self.events.receiver_count() == 0 {
            return;
        }
        for news in news {
            match self.event(news) {
                Ok(Some(event)) => drop(self.events.send(event)),
                Ok(None) => {}
                Err(error) => warn!(%error, "something has happened that cannot be told"),
            }
        }
    }

    fn event(&self, news: &News) -> Result<Option<Event>, LettersError> {
        let letters = self.letters();
        match news {
            News::Letter { contact, letter } | News::Became { contact, letter, .. } => {
                Ok(answers::letter(&letters, *contact, letter)?.map(Event::Letter))
            }
            News::Requested { contact } | News::Accepted { contact } | News::Renewed { contact } => {
                Ok(answers::contact(&letters, *contact)?.map(Event::Contact))
            }
            News::Unreadable { contact } => Ok(answers::contact(&letters, *contact)?.map(Event::Contact)),
            News::File { contact, file } => {
                drop(letters);
                Ok(answers::file(&mut self.letters(), *contact, *file, self.now())?.map(Event::File))
            }
        }
    }
}

impl From<LettersError> for Problem {
    fn from(error: LettersError) -> Self {
        use LettersError as E;
        let code = match &error {
            E::Vault(_) | E::Damaged => Code::Store,
            E::Unknown => Code::UnknownContact,
            E::Known | E::NoRequest | E::NotAccepted | E::Blocked | E::NotBlocked => Code::State,
            E::Oneself | E::Name | E::NameTaken => Code::BadInput,
            E::TooMany | E::TooManyLetters => Code::TooMany,
            E::TooLong(_) | E::FileSize => Code::TooLarge,
            E::NoInvite | E::NoFile => Code::Unknown,
            E::Unplaceable => Code::Store,
        };
        Self::new(code, error)
    }
}

/// Errands by which it is judged how mailboxes answer.
const HEARD_OF: u32 = 64;
