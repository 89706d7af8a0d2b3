//! Postman: carries a person's errands to mailboxes, each through a circuit that nothing else of the person's shares.
//!
//! Specification: docs/protocol.md, "Mailbox streams" and "Looking for letters". What is to be done is for `letters.rs`
//! to say, and every errand is handed back. It never looks into letters.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};
use tracing::debug;
use trefoil_protocol::{
    limits::{CIRCUITS_OURS, CIRCUITS_OURS_WITHIN, ERRAND_TIMEOUT, ERRANDS_PAUSE, ERRANDS_RUNNING, STREAM_RESTS},
    mailbox::{FRAME_HEADER, Refusal, Request},
};

use crate::{
    allowance::Allowance,
    desk::Desk,
    letters::Errand,
    mailbox::{Answered, Mailbox, MailboxError},
    tunnel::Client,
};

/// What a mailbox said.
pub(crate) enum Outcome {
    /// What was asked for.
    Answered(Answered),
    /// No.
    Refused(Refusal),
    /// Nothing.
    Silent,
}

/// Streams that wait for another question, by whose they are.
struct Streams {
    open: Mutex<HashMap<[u8; 32], (Instant, Mailbox)>>,
    /// For the person's own inboxes and prekeys: how often somebody else is written to is for the person to say.
    ours: Mutex<Allowance>,
}

/// Carries errands for as long as it is polled.
pub async fn run(desk: Arc<Desk>, client: Client) {
    let (mut waiting, streams) = (VecDeque::new(), Arc::new(Streams::new()));
    let (mut running, mut under_way) = (JoinSet::new(), HashMap::new());
    client.known().await; // before that nobody can be asked, and nothing has its place
    loop {
        waiting.extend(desk.errands().await.into_iter().map(Arc::new));
        while running.len() < ERRANDS_RUNNING
            && let Some(errand) = next(&mut waiting, under_way.values())
        {
            let (client, streams, carried) = (client.clone(), Arc::clone(&streams), Arc::clone(&errand));
            let task = running.spawn(async move { carry(&client, &streams, &carried).await });
            under_way.insert(task.id(), errand);
        }
        let only_watches = under_way.values().all(|errand| errand.patience() > 0);
        desk.note_caught_up(waiting.is_empty() && only_watches).await;
        tokio::select! {
            biased; // all of it works: so that a simulation repeats itself
            Some(done) = running.join_next_with_id() => {
                let (task, outcome) = done.unwrap_or_else(|broken| (broken.id(), Outcome::Silent));
                if let Some(errand) = under_way.remove(&task) {
                    desk.done(errand, outcome).await;
                }
            }
            () = desk.woken() => {}
            () = sleep(pause(&desk)) => {}
        }
    }
}

/// The next that can be carried. Those about one of the person's own inboxes that go to one mailbox take turns, on one
/// circuit; only the one that waits for a letter has another.
fn next<'a>(
    waiting: &mut VecDeque<Arc<Errand>>,
    under_way: impl Iterator<Item = &'a Arc<Errand>>,
) -> Option<Arc<Errand>> {
    let takes_turns = |errand: &Errand| errand.is_ours() && errand.patience() == 0;
    let taken: HashSet<_> = under_way.filter(|errand| takes_turns(errand)).map(|errand| errand.circuit()).collect();
    let at = waiting.iter().position(|errand| !takes_turns(errand) || !taken.contains(&errand.circuit()))?;
    waiting.remove(at)
}

/// Until something is to be done that nobody wakes for.
fn pause(desk: &Desk) -> Duration {
    let now = desk.now().0;
    let next = desk.next().map_or(ERRANDS_PAUSE, |next| Duration::from_secs(next.0.saturating_sub(now)));
    next.clamp(Duration::from_millis(100), ERRANDS_PAUSE)
}

async fn carry(client: &Client, streams: &Streams, errand: &Arc<Errand>) -> Outcome {
    let patience = Duration::from_secs(errand.patience().into()) + ERRAND_TIMEOUT;
    let asked = timeout(patience, ask(client, streams, errand)).await;
    match asked.unwrap_or(Err(MailboxError::Silent)) {
        Ok(answered) => Outcome::Answered(answered),
        Err(MailboxError::Refused(refusal)) => Outcome::Refused(refusal),
        Err(error) => {
            debug!(%error, ?errand, "a mailbox was not asked");
            Outcome::Silent
        }
    }
}

/// Asks on the stream that there is, and where that is gone on another one.
async fn ask(client: &Client, streams: &Streams, errand: &Arc<Errand>) -> Result<Answered, MailboxError> {
    if let Some(mut mailbox) = streams.take(errand)
        && let done @ (Ok(_) | Err(MailboxError::Refused(_))) = ask_on(&mut mailbox, errand).await
    {
        streams.keep(errand, mailbox);
        return done;
    }
    let mut mailbox = streams.build(client, errand).await?;
    let answered = ask_on(&mut mailbox, errand).await;
    if let Ok(_) | Err(MailboxError::Refused(_)) = &answered {
        streams.keep(errand, mailbox);
    }
    answered
}

async fn ask_on(mailbox: &mut Mailbox, errand: &Arc<Errand>) -> Result<Answered, MailboxError> {
    let (binding, making) = (*mailbox.channel().binding, Arc::clone(errand));
    // A stamp in it keeps a core busy for a while.
    let frame = spawn_blocking(move || making.request(&binding)).await.expect("a question is made without a panic");
    let request = Request::decode(&frame[FRAME_HEADER..]).expect("it was made just now");
    mailbox.ask(&request).await
}

impl Streams {
    fn new() -> Self {
        Self { open: Mutex::default(), ours: Mutex::new(Allowance::new(CIRCUITS_OURS, CIRCUITS_OURS_WITHIN)) }
    }

    /// A stream on a circuit of its own, unless there were too many of those.
    async fn build(&self, client: &Client, errand: &Errand) -> Result<Mailbox, MailboxError> {
        if !errand.is_ours() {
            return client.mailbox(errand.mailbox).await;
        }
        self.spend(errand)?; // also where nobody waits for long enough to see whether it comes so far
        let opened = client.mailbox(errand.mailbox).await;
        if !matches!(&opened, Ok(_) | Err(MailboxError::Silent | MailboxError::NotOpened(_))) {
            lock(&self.ours).give_back(&errand.circuit());
        }
        opened
    }

    fn spend(&self, errand: &Errand) -> Result<(), MailboxError> {
        let (mut ours, now) = (lock(&self.ours), Instant::now());
        if !ours.has(&errand.circuit(), now) {
            return Err(MailboxError::NoPath("it ended as many circuits as it may have".to_owned()));
        }
        ours.spend(errand.circuit(), now);
        Ok(())
    }

    /// One that may still be open; those that are surely not are let go.
    fn take(&self, errand: &Errand) -> Option<Mailbox> {
        let mut streams = lock(&self.open);
        streams.retain(|_, (kept, _)| kept.elapsed() < STREAM_RESTS);
        streams.remove(&errand.circuit()).map(|(_, mailbox)| mailbox)
    }

    fn keep(&self, errand: &Errand, mailbox: Mailbox) {
        lock(&self.open).insert(errand.circuit(), (Instant::now(), mailbox));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
}
