//! Mailbox: a client's way to one relay that keeps letters, and the questions that it asks there.
//!
//! Specification: docs/protocol.md, "Mailbox streams" and "Paths". A circuit of four hops: three that are drawn as for
//! any circuit, and the mailbox. It is built for one caller, and no other stream ever shares it: whoever opens one for
//! each inbox and mailbox shows nobody that they belong together. What is asked, and why, is its caller's.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use trefoil_protocol::{
    identity::RelayId,
    inbox::Channel,
    limits::{MAILBOX_TIMEOUT, OPEN_TIMEOUT},
    mailbox::{Answer, Ask, FRAME_HEADER, Owned, Refusal, Request},
    message::{Reason, Target},
    params::NetworkId,
};
use trefoil_relay::{
    mailbox_stream::{MailboxStream, MailboxStreamError},
    pump::StreamError,
};

use crate::{
    circuit::{Circuit, Hop},
    pool::{NoCircuit, Pool},
    tunnel::Client,
};

/// An open stream to a mailbox, on a circuit of its own, which closes with it.
pub struct Mailbox {
    circuit: Arc<Circuit>,
    stream: MailboxStream,
    network: NetworkId,
    relay: RelayId,
    /// A question went wrong, so that the next answer might be to that one.
    spoilt: bool,
}

/// An answer, other than a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered(Vec<u8>);

/// Why there is no mailbox, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// No circuit leads there now: it is this client's network or guards, and another mailbox is likely to fail, too.
    #[error("no path through the network: {0}")]
    NoPath(String),
    /// The relay is none that is in use now: the ring has changed.
    #[error("the relay is not in use now")]
    Unknown,
    /// The relay does not answer, or the way to it broke. What was asked may be done all the same.
    #[error("the relay does not answer")]
    Silent,
    /// The relay keeps no mailboxes, or has no time for this one.
    #[error("the relay opens no mailbox: {0}")]
    NotOpened(Reason),
    /// The relay said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The relay broke the protocol: it is broken, or lies.
    #[error("the relay did not answer what was asked")]
    Garbage,
    /// The client is shutting down.
    #[error("the client is shutting down")]
    Shutdown,
}

impl Client {
    /// Opens a stream to the mailbox of this relay, over a circuit that is made for it.
    ///
    /// # Errors
    /// [`MailboxError`], but never `Refused`.
    pub async fn mailbox(&self, relay: RelayId) -> Result<Mailbox, MailboxError> {
        open(self.pool(), relay).await
    }
}

async fn open(pool: &Arc<Pool>, relay: RelayId) -> Result<Mailbox, MailboxError> {
    if pool.is_closed() {
        return Err(MailboxError::Shutdown);
    }
    let circuit = match pool.build_to(&relay).await {
        Ok(circuit) => circuit,
        Err(_) if pool.is_closed() => return Err(MailboxError::Shutdown),
        Err(error) => return Err(MailboxError::of(error, &relay)),
    };
    let mut stream = circuit.open(Target::Mailbox).map_err(MailboxError::of_opening)?;
    let opened = timeout(OPEN_TIMEOUT, stream.opened()).await;
    opened.map_err(|_| MailboxError::Silent)?.map_err(MailboxError::of_opening)?;
    let stream = MailboxStream::new(stream);
    Ok(Mailbox { circuit, stream, network: pool.network(), relay, spoilt: false })
}

impl Mailbox {
    /// What the owner's claims are tied to here: they are of no use anywhere else.
    pub fn channel(&self) -> Channel<'_> {
        Channel { network: &self.network, mailbox: &self.relay, binding: self.circuit.binding() }
    }

    /// The hops of its circuit, guard first.
    pub fn hops(&self) -> &[Hop] {
        self.circuit.hops()
    }

    /// Asks, and waits for the answer: 30 s, and the patience that is asked for. After any error but `Refused`, and where
    /// the wait was given up, another mailbox stream must be opened.
    ///
    /// # Errors
    /// [`MailboxError`].
    pub async fn ask(&mut self, request: &Request<'_>) -> Result<Answered, MailboxError> {
        if std::mem::replace(&mut self.spoilt, true) {
            return Err(MailboxError::Silent);
        }
        let question = request.encode();
        self.stream.write(&question).await?;
        let answer = timeout(MAILBOX_TIMEOUT + patience(request), self.stream.read()).await;
        let answer = answer.map_err(|_| MailboxError::Silent)??.ok_or(MailboxError::Silent)?;
        let refusal = match Answer::decode(&answer).map_err(|_| MailboxError::Garbage)? {
            Answer::Refused(refusal) => Some(refusal),
            _ if answer.first() != question.get(FRAME_HEADER) => return Err(MailboxError::Garbage),
            _ => None,
        };
        self.spoilt = false;
        refusal.map_or(Ok(Answered(answer)), |refusal| Err(MailboxError::Refused(refusal)))
    }
}

/// For how long a request wants the mailbox to wait before it answers.
fn patience(request: &Request<'_>) -> Duration {
    match request {
        Request::Owned(Owned { ask: Ask::List { patience, .. }, .. }) => Duration::from_secs((*patience).into()),
        _ => Duration::ZERO,
    }
}

impl Answered {
    /// What it says: the answer to what was asked, never a refusal.
    pub fn answer(&self) -> Answer<'_> {
        Answer::decode(&self.0).expect("it was decoded when it came")
    }
}

impl MailboxError {
    fn of(error: NoCircuit, relay: &RelayId) -> Self {
        match error {
            NoCircuit::Unknown => Self::Unknown,
            error if error.blames(relay) => Self::Silent,
            error => Self::NoPath(error.to_string()),
        }
    }

    fn of_opening(error: StreamError) -> Self {
        match error {
            StreamError::Closed(reason @ (Reason::NotOffered | Reason::Limit | Reason::Shutdown)) => {
                Self::NotOpened(reason)
            }
            _ => Self::Silent,
        }
    }
}

impl From<MailboxStreamError> for MailboxError {
    fn from(error: MailboxStreamError) -> Self {
        match error {
            MailboxStreamError::Frame(_) => Self::Garbage,
            MailboxStreamError::Stream(_) | MailboxStreamError::Cut | MailboxStreamError::Timeout => Self::Silent,
        }
    }
}
