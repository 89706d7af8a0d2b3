//! Writer: the one thread that changes a mailbox's file.
//!
//! Specification: docs/protocol.md, "Mailbox streams". It takes what waits, up to [`MAILBOX_QUEUE`] requests, into one
//! commit, and answers them when that is on disk. When nothing can be written all are refused; it opens the file again
//! for the next ones, so that it goes on as soon as there is room. Where nothing is changed there is no commit. It never
//! acknowledges what could be lost.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread::{self, JoinHandle},
};

use redb::Database;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot},
};
use tracing::{info, warn};
use trefoil_protocol::{epoch::UnixSeconds, limits::MAILBOX_QUEUE, mailbox::Refusal, ring::Placement};

use super::{
    Terms,
    changes::{Change, Done},
    disk::Disk,
    ledger::{Ledger, Stop},
    watchers::Watchers,
};

/// The thread, and the way to it. Dropped, it ends when all that waits is done.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// One request.
struct Job {
    change: Change,
    now: UnixSeconds,
    done: oneshot::Sender<Result<Done, Refusal>>,
}

/// What the thread has.
struct Desk {
    disk: Arc<Disk>,
    terms: Arc<Terms>,
    watchers: Arc<Watchers>,
    failing: bool,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(disk: Arc<Disk>, terms: Arc<Terms>, watchers: Arc<Watchers>) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(MAILBOX_QUEUE);
        let desk = Desk { disk, terms, watchers, failing: false };
        let thread = thread::Builder::new().name("mailbox".into()).spawn(move || desk.work(waiting))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Waits for a turn, and until what is asked for is on disk. Cancel-safe: it may be done all the same.
    pub(super) async fn change(&self, change: Change, now: UnixSeconds) -> Result<Done, Refusal> {
        let (done, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(Refusal::NotReady)?;
        jobs.send(Job { change, now, done }).await.map_err(|_| Refusal::NotReady)?;
        wait(answered).await.unwrap_or(Err(Refusal::NotReady))
    }
}

/// Waits for the thread's answer. On a runtime of one thread, as in simulations, no time passes meanwhile: a clock that
/// is paused would jump, since it cannot see that something is under way.
async fn wait<T: Send + 'static>(answered: oneshot::Receiver<T>) -> Option<T> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => tokio::task::spawn_blocking(move || answered.blocking_recv()).await.ok()?.ok(),
        _ => answered.await.ok(),
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic in it was told by its hook
        }
    }
}

impl Desk {
    fn work(mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(MAILBOX_QUEUE);
        while waiting.blocking_recv_many(&mut group, MAILBOX_QUEUE) > 0 {
            // a panic in what keeps the file is not the end of this thread, but of the mailboxes
            let committed = panic::catch_unwind(AssertUnwindSafe(|| self.commit(&group)));
            let results = committed.unwrap_or_else(|_| {
                self.disk.break_down();
                group.iter().map(|_| Err(Refusal::NotReady)).collect()
            });
            for (job, result) in group.drain(..).zip(results) {
                if let (Some(inbox), Ok(_)) = (job.change.letter_for(), result) {
                    self.watchers.tell(inbox);
                }
                let _ = job.done.send(result); // whoever asked may have gone
            }
        }
    }

    fn commit(&mut self, group: &[Job]) -> Vec<Result<Done, Refusal>> {
        let committed = match self.disk.reopen(&self.terms) {
            Ok(database) => write(&database, &self.terms, group).map_err(|error| {
                self.disk.close();
                error.to_string()
            }),
            Err(error) => Err(error.to_string()),
        };
        match committed {
            Ok(results) => {
                if std::mem::take(&mut self.failing) {
                    info!("the mailboxes can be written again");
                }
                results
            }
            Err(cause) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(%cause, "cannot write the mailboxes, and takes no letters until it can: is the disk full?");
                }
                group.iter().map(|_| Err(Refusal::Full)).collect()
            }
        }
    }
}

/// Does all of it in one commit. Two phases, since letters are bytes of strangers: in one phase a checksum that can be
/// forged would tell a whole commit from a torn one.
fn write(database: &Database, terms: &Terms, group: &[Job]) -> Result<Vec<Result<Done, Refusal>>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    let mut ledger = Ledger::open(&transaction, terms)?;
    let mut results = Vec::with_capacity(group.len());
    for job in group {
        results.push(match ledger.change_by(&job.change, job.now) {
            Ok(done) => Ok(done),
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(Stop::Failed(error)) => return Err(*error),
        });
    }
    if ledger.close()? {
        transaction.commit()?;
    } else {
        transaction.abort()?; // nothing of it is to be waited for
    }
    Ok(results)
}

impl Change {
    /// The inbox that a letter is for.
    fn letter_for(&self) -> Option<&Placement> {
        match self {
            Self::Keep(parcel) => Some(&parcel.inbox),
            _ => None,
        }
    }
}
