//! Post: a relay's mailbox at work: who may ask it what, on the streams of circuits, and its upkeep.
//!
//! Specification: docs/protocol.md, "Mailbox streams". The store is `mailbox.rs`, which knows neither network nor
//! streams. One question is answered at a time on a stream; one that waits for a letter holds up nothing else of its
//! circuit, and ends with its stream. Nothing of who asks or for what is logged.

use std::sync::Arc;

use tokio::time::{Instant, interval_at, timeout};
use tracing::debug;
use trefoil_protocol::{
    limits::{MAILBOX_IDLE, MAILBOX_REQUESTS, MAILBOX_SWEEP_EVERY},
    mailbox::{Answer, Deposit, MailboxError, Owned, Refusal, Request},
    message::Reason,
    ring::Placement,
};

use crate::{
    circuit::Shared,
    mailbox::{Asker, Mailbox},
    mailbox_stream::{MailboxStream, MailboxStreamError},
    node::Node,
    pump::{Stream, StreamError},
    rings::Rings,
};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Post {
    mailbox: Mailbox,
    rings: Rings,
}

/// Why a stream ended before its asker ended it.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Stream(#[from] MailboxStreamError),
    #[error("nothing was asked for too long")]
    Idle,
    #[error("too many requests")]
    Requests,
}

impl Post {
    pub(crate) fn new(mailbox: Mailbox) -> Self {
        Self { mailbox, rings: Rings::new() }
    }

    /// The answer's frame.
    async fn answer(&self, node: &Node, request: Request<'_>, asker: Asker<'_>) -> Vec<u8> {
        match self.check(node, placement(&request)).await {
            Ok(()) => self.mailbox.answer(request, asker, node.directory.now()).await,
            Err(refusal) => Answer::Refused(refusal).encode(),
        }
    }

    /// Whether this relay is to keep what is placed there; cheap checks first.
    async fn check(&self, node: &Node, placement: Option<&Placement>) -> Result<(), Refusal> {
        let Some(placement) = placement else { return Ok(()) };
        if !placement.is_kept(node.directory.now()) {
            return Err(Refusal::Period);
        }
        let ring = self.rings.find(&node.directory, placement).await.ok_or(Refusal::NotReady)?;
        if ring.contains(&node.id()) { Ok(()) } else { Err(Refusal::NotHere) }
    }
}

/// Answers on a stream of a circuit, until it ends.
pub(crate) async fn serve_circuit(circuit: &Shared, mut stream: Stream) {
    let (Some(post), Some(binding)) = (&circuit.node.post, circuit.binding.get()) else {
        return stream.refuse(Reason::NotOffered);
    };
    let Ok(_place) = circuit.mailbox_places.try_acquire() else { return stream.refuse(Reason::Limit) };
    stream.accept();
    let mut stream = MailboxStream::new(stream);
    match answer_all(post, &circuit.node, &mut stream, Asker::Circuit(binding)).await {
        Ok(()) => stream.close(),
        Err(error) => debug!(%error, "a circuit's mailbox stream ended early"),
    }
}

async fn answer_all(post: &Post, node: &Node, stream: &mut MailboxStream, asker: Asker<'_>) -> Result<(), Ended> {
    for _ in 0..MAILBOX_REQUESTS {
        let frame = timeout(MAILBOX_IDLE, stream.read()).await.map_err(|_| Ended::Idle)??;
        let Some(frame) = frame else { return Ok(()) };
        let request = Request::decode(&frame)?;
        let answer = stream.unless_broken(post.answer(node, request, asker)).await?;
        drop(frame);
        stream.write(&answer).await?;
    }
    Err(Ended::Requests)
}

/// Clears away what has expired, by a clock that others agree with.
pub(crate) async fn keep_clean(node: Arc<Node>) {
    let Some(post) = &node.post else { return };
    let first = Instant::now() + MAILBOX_SWEEP_EVERY; // others have been asked for the time by then
    let mut ticks = interval_at(first, MAILBOX_SWEEP_EVERY);
    loop {
        ticks.tick().await;
        while !node.directory.is_clock_off() && post.mailbox.sweep(node.directory.now()).await == Ok(true) {}
    }
}

/// Where what a request is about is placed, if it is about one thing.
fn placement<'a>(request: &'a Request<'_>) -> Option<&'a Placement> {
    Some(match request {
        Request::Deposit(Deposit { inbox, .. })
        | Request::Owned(Owned { inbox, .. })
        | Request::Delete { inbox, .. }
        | Request::Pull { inbox, .. }
        | Request::Take { inbox, .. } => inbox,
        Request::Publish { placement, .. } | Request::Look { placement } => placement,
        Request::Kept { .. } => return None,
    })
}

impl From<MailboxError> for Ended {
    fn from(error: MailboxError) -> Self {
        Self::Stream(error.into())
    }
}

impl From<StreamError> for Ended {
    fn from(error: StreamError) -> Self {
        Self::Stream(error.into())
    }
}
