//! Answers: what a relay says to those who ask its directory, on a link or through a circuit.
//!
//! Specification: docs/protocol.md, "Directory streams". Anyone may read; only relays may push, on a link; and nobody
//! can have this relay dial another's address. Whoever breaks the protocol loses the stream, and in time the link.

use std::{net::IpAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tracing::debug;
use trefoil_protocol::{
    directory::{self, Answer, Refusal, Request},
    entry::RelayAddresses,
    identity::RelayId,
    limits::{
        DIRECTORY_FRAME, DIRECTORY_IDLE, DIRECTORY_LIST, DIRECTORY_MEMBERS, DIRECTORY_REQUESTS, PUSH_PATIENCE,
        RECONCILE_FRAME,
    },
    message::Reason,
    reconcile::{Held, Responder, Salt, SaltedId},
};

use crate::{
    askers::Asker,
    circuit::Shared,
    counters::Cause,
    directory::{Manner, Sender},
    frames::{self, FrameError},
    link::Link,
    node::Node,
    opened::RequestStream,
    pump::Stream,
    reach,
    reason::CloseReason,
};

/// Most bytes of a request from somebody who may not push.
const SHORT_FRAME: usize = RECONCILE_FRAME + 64;
/// Bytes between a circuit's stream and the directory.
const PIPE: usize = 16 * 1024;

/// Who asks, on one stream.
struct Session<'a> {
    node: &'a Arc<Node>,
    /// On which link; `None` through a circuit.
    link: Option<&'a Link>,
    /// Its place among those who ask through circuits.
    asker: Option<Asker<'a>>,
    /// Its reconciliation, and the place among those that are under way.
    session: Option<(Responder, Asker<'a>)>,
}

/// Why a stream ended before its asker ended it.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("too many requests")]
    Requests,
    #[error("nothing was asked for too long")]
    Idle,
    #[error("others wait, and it was silent longest")]
    Crowded,
    #[error("the peer sent garbage: {0:?}")]
    Garbage(Cause),
}

/// Answers on a stream of a link, until it ends.
pub(crate) async fn serve_link(node: Arc<Node>, link: Link, mut stream: RequestStream) {
    let address = link.remote_address().ip();
    if node.directory.senders.is_dropped(address) {
        node.directory.turn_away(Cause::Dropped, address);
        return link.close(CloseReason::Limit);
    }
    let ended = {
        let (mut reader, mut writer) = stream.halves();
        let mut session = Session { node: &node, link: Some(&link), asker: None, session: None };
        tokio::select! {
            ended = session.serve(&mut reader, &mut writer) => ended,
            () = node.shutdown.cancelled() => Ok(()),
        }
    };
    match ended {
        Ok(()) => stream.finish(),
        Err(ended) => {
            debug!(error = %ended, "a directory stream ended early");
            stream.close(ended.reason_for_peer());
            let dropped = ended.cause().is_some_and(|cause| node.directory.turn_away(cause, address));
            if dropped || node.directory.senders.is_dropped(address) {
                link.close(CloseReason::Protocol);
            }
        }
    }
}

/// Answers on a stream of a circuit, until it ends.
pub(crate) async fn serve_circuit(circuit: &Shared, mut stream: Stream) {
    let node = &circuit.node;
    let Ok(_share) = circuit.askers.try_acquire() else { return stream.refuse(Reason::Limit) };
    stream.accept();
    let (near, far) = tokio::io::duplex(PIPE);
    let (mut reader, mut writer) = tokio::io::split(near);
    let answering = async move {
        let (mut reader, mut writer) = tokio::io::split(far);
        let mut session = Session { node, link: None, asker: Some(node.askers.enter()), session: None };
        if let Err(ended) = session.serve(&mut reader, &mut writer).await {
            debug!(error = %ended, "a directory stream ended early");
        }
    };
    let splicing = stream.splice(&[], &mut reader, &mut writer);
    tokio::pin!(splicing, answering);
    let spliced = tokio::select! {
        biased; // both work: so that a simulation repeats itself
        spliced = &mut splicing => spliced, // nobody is there for an answer any more
        () = &mut answering => splicing.await,
    };
    if let Err(error) = spliced {
        debug!(%error, "a circuit's directory stream broke");
    }
}

impl Session<'_> {
    async fn serve(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Ended> {
        let most = if self.peer().is_some() { DIRECTORY_FRAME } else { SHORT_FRAME };
        for _ in 0..DIRECTORY_REQUESTS {
            let frame = tokio::select! {
                biased; // so that a simulation repeats itself
                () = self.crowded_out() => return Err(Ended::Crowded),
                frame = timeout(DIRECTORY_IDLE, frames::read(reader, most)) => frame.map_err(|_| Ended::Idle)??,
            };
            let Some(frame) = frame else { return Ok(()) };
            self.asker.iter_mut().for_each(Asker::speak);
            let request = Request::decode(&frame).map_err(FrameError::from)?;
            let answer = self.answer(request).await?;
            frames::write(writer, &answer).await?;
        }
        Err(Ended::Requests)
    }

    /// Waits until others have taken a place of this asker's.
    async fn crowded_out(&self) {
        let (asker, session) = (self.asker.as_ref(), self.session.as_ref().map(|(_, asker)| asker));
        tokio::select! {
            biased;
            () = lost(asker) => {}
            () = lost(session) => {}
        }
    }

    /// The answer's frame.
    async fn answer(&mut self, request: Request<'_>) -> Result<Vec<u8>, Ended> {
        let directory = &self.node.directory;
        Ok(match request {
            Request::Hello => Answer::Hello(directory.greeting(self.link.map(Link::remote_address))).encode(),
            Request::Reconcile { begin, message } => return self.reconcile(begin, message),
            Request::Want(names) => self.records(&names),
            Request::Push { records, frauds } => self.push(&records, &frauds).await?,
            Request::Usable { salt, offset } => self.usable(salt, offset),
            Request::Reach(addresses) => self.reach(&addresses).await,
            Request::Frauds { offset } => {
                let proofs: Vec<_> = directory
                    .view()
                    .frauds()
                    .skip(offset.into())
                    .take(DIRECTORY_LIST)
                    .map(|proof| proof.encode())
                    .collect();
                Answer::Frauds(directory::fitting(proofs.iter().map(|proof| &proof[..]))).encode()
            }
            Request::Sight(sightings) => self.sight(&sightings)?,
            Request::Sightings(names) => {
                let sightings = directory.sightings_but(&names);
                Answer::Sightings(directory::fitting(sightings.iter().map(|sighting| &sighting[..]))).encode()
            }
        })
    }

    fn reconcile(&mut self, begin: Option<Salt>, message: &[u8]) -> Result<Vec<u8>, Ended> {
        let directory = &self.node.directory;
        if let Some(salt) = begin {
            if !directory.senders.session(self.address()) {
                return Ok(refused(Refusal::Limit));
            }
            let held = Held::of(&directory.view());
            self.session = Some((Responder::new(&held, salt), self.node.sessions.enter()));
        }
        let Some((responder, asker)) = &mut self.session else { return Ok(refused(Refusal::NoSession)) };
        asker.speak();
        let answer = responder.respond(message).map_err(|_| Ended::Garbage(Cause::Reconcile))?;
        Ok(Answer::Reconcile(&answer).encode())
    }

    fn records(&self, names: &[SaltedId]) -> Vec<u8> {
        let Some((responder, _)) = &self.session else { return refused(Refusal::NoSession) };
        let view = self.node.directory.view();
        let relays = names.iter().filter_map(|name| responder.find(name));
        let records = relays.filter_map(|relay| view.get(&relay)).map(|known| known.record.record().bytes());
        Answer::Records(directory::fitting(records)).encode()
    }

    async fn push(&self, records: &[&[u8]], frauds: &[&[u8]]) -> Result<Vec<u8>, Ended> {
        let (Some(link), Some(relay)) = (self.link, self.peer()) else { return Ok(refused(Refusal::NotForYou)) };
        let directory = &self.node.directory;
        let sender = Sender { relay, address: link.remote_address().ip(), manner: Manner::Pushed };
        let deadline = Instant::now() + PUSH_PATIENCE;
        let mut taken = 0;
        for record in records {
            if Instant::now() > deadline {
                directory.turn_away(Cause::Busy, sender.address);
            } else if !directory.may_send(&relay, record) {
                directory.turn_away(Cause::Stranger, sender.address);
            } else {
                match directory.take(record, &sender).await {
                    Ok(_) => taken += 1,
                    Err(cause) => self.bear(cause, &sender)?,
                }
            }
        }
        for proof in frauds {
            if Instant::now() > deadline {
                break; // they are asked for in the next talk
            }
            match directory.take_fraud(proof, relay) {
                Ok(is_news) => taken += u16::from(is_news),
                Err(cause) => self.bear(cause, &sender)?,
            }
        }
        if directory.knows(&relay) && !link.is_closed() {
            self.node.trust(link); // a newcomer is no stranger once its record is here
        }
        Ok(Answer::Taken(taken).encode())
    }

    fn sight(&self, sightings: &[&[u8]]) -> Result<Vec<u8>, Ended> {
        let (Some(link), Some(relay)) = (self.link, self.peer()) else { return Ok(refused(Refusal::NotForYou)) };
        let directory = &self.node.directory;
        let sender = Sender { relay, address: link.remote_address().ip(), manner: Manner::Pushed };
        if !directory.knows(&relay) {
            directory.turn_away(Cause::Stranger, sender.address);
            return Ok(refused(Refusal::NotForYou));
        }
        let mut taken = 0;
        for sighting in sightings {
            match directory.take_sighting(sighting, relay) {
                Ok(is_news) => taken += u16::from(is_news),
                Err(cause) => self.bear(cause, &sender)?,
            }
        }
        Ok(Answer::Taken(taken).encode())
    }

    /// Goes on unless this sender has sent too much garbage. What it was is counted already.
    fn bear(&self, cause: Cause, sender: &Sender) -> Result<(), Ended> {
        let dropped = self.node.directory.blame(cause, sender.address);
        if dropped { Err(Ended::Garbage(Cause::Dropped)) } else { Ok(()) }
    }

    fn usable(&self, salt: Salt, offset: u32) -> Vec<u8> {
        let usable = self.node.directory.usable();
        if usable.is_empty() {
            return refused(Refusal::NotReady);
        }
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let view = self.node.directory.view();
        let said = |relay: &RelayId| view.get(relay).map(|known| known.record.record().statement());
        let members = usable.short_members(&salt.0, offset, DIRECTORY_MEMBERS, said).collect();
        let total = u32::try_from(usable.len()).unwrap_or(u32::MAX);
        Answer::Usable { epoch: usable.epoch(), total, members }.encode()
    }

    async fn reach(&self, addresses: &RelayAddresses) -> Vec<u8> {
        let (Some(link), Some(relay)) = (self.link, self.peer()) else { return refused(Refusal::NotForYou) };
        Answer::Reach(reach::look(self.node, link, relay, addresses).await).encode()
    }

    fn peer(&self) -> Option<RelayId> {
        self.link.and_then(Link::peer)
    }

    fn address(&self) -> Option<IpAddr> {
        self.link.map(|link| link.remote_address().ip())
    }
}

async fn lost(asker: Option<&Asker<'_>>) {
    match asker {
        Some(asker) => asker.lost().await,
        None => std::future::pending().await,
    }
}

fn refused(refusal: Refusal) -> Vec<u8> {
    Answer::Refused(refusal).encode()
}

impl Ended {
    fn reason_for_peer(&self) -> CloseReason {
        match self {
            Self::Frame(FrameError::Protocol(_) | FrameError::Mailbox(_)) | Self::Garbage(_) => CloseReason::Protocol,
            Self::Frame(FrameError::Timeout) | Self::Idle => CloseReason::Timeout,
            Self::Frame(FrameError::Broken(_) | FrameError::Ended) => CloseReason::Unspecified,
            Self::Requests | Self::Crowded => CloseReason::Limit,
        }
    }

    /// What is counted.
    fn cause(&self) -> Option<Cause> {
        match self {
            Self::Frame(FrameError::Protocol(_)) => Some(Cause::Frame),
            Self::Garbage(cause) => Some(*cause),
            Self::Frame(_) | Self::Requests | Self::Idle | Self::Crowded => None,
        }
    }
}
