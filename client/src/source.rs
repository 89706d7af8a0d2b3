//! A source: a relay that is asked about the network, over its link or through a circuit.
//!
//! Specification: docs/protocol.md, "Directory streams". Nothing that a source says is taken at its word: records are
//! checked, and which of them are used is decided by the majority of several sources (`directory.rs`). This client
//! never pushes, and never says what time it is, what it knows, or who it is.

use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use tokio::time::timeout;
use trefoil_protocol::{
    descriptor::{Checked, DescriptorError, Record},
    directory::{self, Answer, DirectoryError, FRAME_HEADER, Greeting, Refusal, Request},
    epoch::UnixSeconds,
    fraud::FraudProof,
    identity::RelayId,
    limits::{DIRECTORY_LIST, DIRECTORY_REQUESTS, DIRECTORY_TIMEOUT},
    majority::{BadSource, SourcePages, SourceSet},
    params::NetworkParams,
    reconcile::{Held, ReconcileError, Reconciler, Salt},
    view::View,
};
use trefoil_relay::{
    frames::{self, FrameError},
    link::Link,
    opened::RequestStream,
    pump::{Stream, StreamError},
};

use crate::circuit::Circuit;

/// See the file's head.
pub(crate) struct Source {
    relay: RelayId,
    way: Way,
    asked: usize,
}

enum Way {
    Link(RequestStream),
    /// The circuit lives for as long as its stream is used; what has come of the next frame is kept.
    Circuit {
        stream: Box<Stream>,
        rest: Vec<u8>,
        _circuit: Arc<Circuit>,
    },
}

/// Why a source is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{0}")]
    Link(#[from] trefoil_relay::link::LinkError),
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Form(#[from] DirectoryError),
    #[error("it refused: {0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Usable(#[from] BadSource),
    #[error("it answered with something else")]
    Unexpected,
    #[error("it belongs to another network")]
    Network,
    #[error("it did not answer in time")]
    Timeout,
    #[error("it makes us ask without end")]
    Endless,
}

impl Source {
    /// The relay at the other end of this link.
    pub(crate) async fn on_link(relay: RelayId, link: &Link) -> Result<Self, SourceError> {
        Ok(Self { relay, way: Way::Link(link.open_directory().await?), asked: 0 })
    }

    /// The last relay of this circuit.
    pub(crate) async fn on_circuit(circuit: Arc<Circuit>) -> Result<Self, SourceError> {
        let relay = circuit.hops().last().ok_or(SourceError::Unexpected)?.relay.id;
        let mut stream = circuit.open(trefoil_protocol::message::Target::Directory)?;
        timeout(DIRECTORY_TIMEOUT, stream.opened()).await.map_err(|_| SourceError::Timeout)??;
        Ok(Self {
            relay,
            way: Way::Circuit { stream: Box::new(stream), rest: Vec::new(), _circuit: circuit },
            asked: 0,
        })
    }

    /// Who it is.
    pub(crate) fn relay(&self) -> RelayId {
        self.relay
    }

    /// What it says of itself.
    pub(crate) async fn hello(&mut self, params: &NetworkParams) -> Result<Greeting, SourceError> {
        let frame = self.ask(&Request::Hello).await?;
        match decode(&frame)? {
            Answer::Hello(greeting) if greeting.network == params.id() => Ok(greeting),
            Answer::Hello(_) => Err(SourceError::Network),
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Its usable set, under a salt of this question's own.
    pub(crate) async fn usable(&mut self, salt: [u8; 16]) -> Result<SourceSet, SourceError> {
        let mut pages = SourcePages::new(salt);
        while let Some(offset) = pages.next_offset() {
            let offset = u32::try_from(offset).map_err(|_| SourceError::Unexpected)?;
            let frame = self.ask(&Request::Usable { salt: Salt(salt), offset }).await?;
            let Answer::Usable { epoch, total, members } = decode(&frame)? else {
                return Err(SourceError::Unexpected);
            };
            pages.handle_page(epoch, total, &members)?;
        }
        Ok(pages.finish()?)
    }

    /// Takes from it what the view does not have: records, and proofs of fraud. Gives how many records were news.
    pub(crate) async fn pull(
        &mut self,
        view: &Mutex<View>,
        params: &NetworkParams,
        now: impl Fn() -> UnixSeconds,
        mut rng: impl rand::Rng,
    ) -> Result<usize, SourceError> {
        let salt = Salt(rng.random());
        let held = Held::of(&lock(view));
        let (mut session, mut message) = Reconciler::start(&held, salt);
        let mut begin = Some(salt);
        loop {
            let frame = self.ask(&Request::Reconcile { begin: begin.take(), message: &message }).await?;
            let Answer::Reconcile(answer) = decode(&frame)? else { return Err(SourceError::Unexpected) };
            match session.handle_answer(answer) {
                Ok(Some(next)) => message = next,
                Ok(None) | Err(ReconcileError::Rounds) => break, // the rest is for the next session
                Err(_) => return Err(SourceError::Unexpected),
            }
        }
        let mut wanted: Vec<_> = session.wants().collect();
        let mut news = 0;
        while !wanted.is_empty() {
            let names = wanted.iter().take(DIRECTORY_LIST).copied().collect();
            let frame = self.ask(&Request::Want(names)).await?;
            let Answer::Records(records) = decode(&frame)? else { return Err(SourceError::Unexpected) };
            if records.is_empty() || records.len() > wanted.len() {
                break;
            }
            wanted.drain(..records.len());
            news += records.iter().filter(|record| offer(view, record, params, now()).is_ok_and(|new| new)).count();
        }
        self.pull_frauds(view, params, now).await?;
        Ok(news)
    }

    async fn pull_frauds(
        &mut self,
        view: &Mutex<View>,
        params: &NetworkParams,
        now: impl Fn() -> UnixSeconds,
    ) -> Result<(), SourceError> {
        let mut offset = 0;
        loop {
            let frame = self.ask(&Request::Frauds { offset }).await?;
            let Answer::Frauds(proofs) = decode(&frame)? else { return Err(SourceError::Unexpected) };
            if proofs.is_empty() {
                return Ok(());
            }
            for proof in &proofs {
                let good = FraudProof::decode(proof).ok().filter(|proof| proof.check(params, now()).is_ok());
                good.map(|proof| lock(view).offer_fraud(proof, now()));
            }
            offset = u16::try_from(usize::from(offset) + proofs.len()).map_err(|_| SourceError::Endless)?;
        }
    }

    /// Asks, and gives the answer's frame.
    async fn ask(&mut self, request: &Request<'_>) -> Result<Vec<u8>, SourceError> {
        self.asked += 1;
        if self.asked > DIRECTORY_REQUESTS {
            return Err(SourceError::Endless);
        }
        match &mut self.way {
            Way::Link(stream) => {
                let (mut reader, mut writer) = stream.halves();
                Ok(frames::ask(&mut reader, &mut writer, request).await?)
            }
            Way::Circuit { stream, rest, .. } => {
                let answered = timeout(DIRECTORY_TIMEOUT, ask_on_circuit(stream, rest, request)).await;
                answered.map_err(|_| SourceError::Timeout)?
            }
        }
    }

    /// Ends the stream in order.
    pub(crate) fn finish(self) {
        match self.way {
            Way::Link(stream) => stream.finish(),
            Way::Circuit { stream, .. } => stream.close(),
        }
    }
}

async fn ask_on_circuit(
    stream: &mut Stream,
    rest: &mut Vec<u8>,
    request: &Request<'_>,
) -> Result<Vec<u8>, SourceError> {
    stream.send(&request.encode()).await?;
    let mut piece = Vec::new();
    loop {
        if let Some((header, body)) = rest.split_first_chunk::<FRAME_HEADER>() {
            let length = directory::frame_length(*header)?;
            if let Some(frame) = body.get(..length) {
                let frame = frame.to_vec();
                rest.drain(..FRAME_HEADER + length);
                return Ok(frame);
            }
        }
        if stream.receive(&mut piece).await? == 0 {
            return Err(SourceError::Unexpected);
        }
        rest.extend_from_slice(&piece);
    }
}

fn decode(frame: &[u8]) -> Result<Answer<'_>, SourceError> {
    match Answer::decode(frame)? {
        Answer::Refused(refusal) => Err(refusal.into()),
        answer => Ok(answer),
    }
}

/// Offers a record to the view, if it stands the checks; whether it was news.
///
/// The memory-hard work is left to the sources, which are relays and check it: a client uses what most of them list.
fn offer(view: &Mutex<View>, bytes: &[u8], params: &NetworkParams, now: UnixSeconds) -> Result<bool, DescriptorError> {
    let record = Record::decode(bytes)?;
    if !lock(view).would_take(&record, false, now) {
        return Ok(false);
    }
    let checked = Checked::listed(record.check_signature(params, now)?);
    lock(view).offer(checked, now);
    Ok(true)
}

pub(crate) fn lock(view: &Mutex<View>) -> std::sync::MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
}
