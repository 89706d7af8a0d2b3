//! Postman: carries a person's errands to mailboxes, each through a circuit that nothing else of the person's shares.
//!
//! Specification: docs/protocol.md, "Mailbox streams" and "Looking for letters". What is to be done is for `letters.rs`
//! to say, and every errand is handed back. It never looks into letters.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};
use tracing::debug;
use trefoil_protocol::{
    limits::{ERRAND_TIMEOUT, ERRANDS_PAUSE, ERRANDS_RUNNING, STREAM_RESTS},
    mailbox::{FRAME_HEADER, Refusal, Request},
};

use crate::{
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
#[derive(Default)]
struct Streams(Mutex<HashMap<[u8; 32], (Instant, Mailbox)>>);

/// Carries errands for as long as it is polled.
pub async fn run(desk: Arc<Desk>, client: Client) {
    let (mut waiting, streams) = (VecDeque::new(), Arc::<Streams>::default());
    let (mut running, mut under_way) = (JoinSet::new(), HashMap::new());
    client.known().await; // before that nobody can be asked, and nothing has its place
    loop {
        waiting.extend(desk.errands().await.into_iter().map(Arc::new));
        while running.len() < ERRANDS_RUNNING
            && let Some(errand) = waiting.pop_front()
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
    let mut mailbox = client.mailbox(errand.mailbox).await?;
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
    /// One that may still be open; those that are surely not are let go.
    fn take(&self, errand: &Errand) -> Option<Mailbox> {
        let mut streams = self.lock();
        streams.retain(|_, (kept, _)| kept.elapsed() < STREAM_RESTS);
        streams.remove(&errand.circuit()).map(|(_, mailbox)| mailbox)
    }

    fn keep(&self, errand: &Errand, mailbox: Mailbox) {
        self.lock().insert(errand.circuit(), (Instant::now(), mailbox));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Instant, Mailbox)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}
