//! Post: a relay's mailbox at work: who may ask it what, on streams of circuits and of links, and its upkeep.
//!
//! Specification: docs/protocol.md, "Mailbox streams". The store is `mailbox.rs`, which knows neither network nor
//! streams. One question is answered at a time on a stream; one that waits for a letter holds up nothing else of its
//! circuit, and ends with its stream. Nothing of who asks or for what is logged. Replicas ask on links, where each knows who
//! the other is; how this relay asks them is `repair.rs`.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    sync::Semaphore,
    time::{Instant, interval_at, sleep, timeout},
};
use tracing::debug;
use trefoil_protocol::{
    identity::RelayId,
    limits::{
        MAILBOX_IDLE, MAILBOX_REQUESTS, MAILBOX_SWEEP_EVERY, MAILBOX_TIMEOUT, REPAIR_RANKS, REPAIR_SHARE, REPAIR_TALK,
        REPAIRS_SERVED,
    },
    mailbox::{Answer, Deposit, FRAME_HEADER, MailboxError, Owned, Refusal, Request},
    message::Reason,
    ring::Placement,
};

use crate::{
    circuit::Shared,
    frames::{self, FrameError},
    link::Link,
    mailbox::{Asker, Mailbox, Totals},
    mailbox_stream::{MailboxStream, MailboxStreamError},
    node::Node,
    opened::RequestStream,
    pump::{Stream, StreamError},
    reason::CloseReason,
    rings::{Asked, Ring, Rings},
};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Post {
    mailbox: Mailbox,
    rings: Rings,
    /// Replicas that are answered, each on one stream: so none of them takes the places of all.
    replicas: Mutex<HashSet<RelayId>>,
    /// Whose turn it is to have a page of inboxes looked through: each costs its rings.
    pages: Semaphore,
    tally: Tally,
}

/// What was done since the start.
#[derive(Debug, Default)]
struct Tally {
    accepted: AtomicU64,
    refused: AtomicU64,
    repaired: AtomicU64,
}

/// How mailboxes are, in sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) size: u64,
    pub(crate) totals: Totals,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) repaired: u64,
}

/// A replica's place among those that are answered, given back when dropped.
struct Place<'a> {
    post: &'a Post,
    peer: RelayId,
}

/// Why a stream ended before its asker ended it.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Stream(#[from] MailboxStreamError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("only a usable relay may ask on a link, and only what replicas ask")]
    Stranger,
    #[error("nothing was asked for too long")]
    Idle,
    #[error("too many requests")]
    Requests,
    #[error("it asked for too long")]
    Long,
}

impl Post {
    pub(crate) fn new(mailbox: Mailbox) -> Self {
        let (rings, pages) = (Rings::new(), Semaphore::new(1));
        Self { mailbox, rings, replicas: Mutex::default(), pages, tally: Tally::default() }
    }

    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Whether it keeps letters no more, until the relay is started again.
    pub(crate) fn is_broken(&self) -> bool {
        self.mailbox.is_broken()
    }

    pub(crate) fn holdings(&self) -> Holdings {
        let Tally { accepted, refused, repaired } = &self.tally;
        Holdings {
            size: self.mailbox.size(),
            totals: self.mailbox.totals().unwrap_or_default(), // while it opens its file again
            accepted: accepted.load(Relaxed),
            refused: refused.load(Relaxed),
            repaired: repaired.load(Relaxed),
        }
    }

    pub(crate) fn count_repaired(&self) {
        self.tally.repaired.fetch_add(1, Relaxed);
    }

    /// Those of a page of inboxes that both this relay and another repair. To look through one takes up to a second where
    /// there are many relays, and whoever names them names what it likes: so one goes after the other, whether this relay
    /// asks or is asked, and takes a small share of the time.
    ///
    /// # Errors
    /// [`Refusal::Limit`] when its turn does not come before whoever waits for it gives up.
    pub(crate) async fn shared(
        &self,
        node: &Node,
        inboxes: Vec<Placement>,
        other: &RelayId,
    ) -> Result<Vec<Placement>, Refusal> {
        let turn = timeout(MAILBOX_TIMEOUT / 2, self.pages.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Refusal::Limit) };
        let began = Instant::now();
        let mut shared = vec![];
        for inbox in inboxes {
            if self.is_shared(node, &inbox, other).await {
                shared.push(inbox);
            }
        }
        sleep(began.elapsed() * REPAIR_SHARE).await;
        Ok(shared)
    }

    /// Whether both this relay and another repair this inbox.
    async fn is_shared(&self, node: &Node, inbox: &Placement, other: &RelayId) -> bool {
        if !inbox.is_kept(node.directory.now()) {
            return false;
        }
        let Ok(ring) = self.ring(node, inbox, None).await else { return false };
        let first = ring.get(..REPAIR_RANKS).unwrap_or(&ring);
        first.contains(&node.id()) && first.contains(other)
    }

    /// The answer's frame.
    async fn answer(&self, circuit: &Shared, request: Request<'_>, asker: Asker<'_>) -> Vec<u8> {
        let (node, turn) = (&circuit.node, &circuit.ring_turn);
        let is_deposit = matches!(request, Request::Deposit(_));
        let frame = match self.check(node, placement(&request), turn).await {
            Ok(()) => self.mailbox.answer(request, asker, node.directory.now()).await,
            Err(refusal) => Answer::Refused(refusal).encode(),
        };
        if is_deposit {
            let answer = Answer::decode(frame.get(FRAME_HEADER..).unwrap_or_default());
            let is_accepted = matches!(answer, Ok(Answer::Accepted(_)));
            let of = if is_accepted { &self.tally.accepted } else { &self.tally.refused };
            of.fetch_add(1, Relaxed);
        }
        frame
    }

    /// The answer's frame, to a replica.
    async fn answer_replica(&self, node: &Node, request: Request<'_>, peer: &RelayId) -> Result<Vec<u8>, Ended> {
        Ok(match request {
            Request::Pull { inbox, .. } | Request::Take { inbox, .. } => match self.is_shared(node, &inbox, peer).await
            {
                true => self.mailbox.answer(request, Asker::Replica, node.directory.now()).await,
                false => Answer::Refused(Refusal::NotForYou).encode(),
            },
            Request::Kept { after } => self.kept(node, after, peer).await.unwrap_or_else(Answer::Refused).encode(),
            _ => return Err(Ended::Stranger),
        })
    }

    /// A page of the inboxes that a replica is to keep, too.
    async fn kept(&self, node: &Node, after: u64, peer: &RelayId) -> Result<Answer<'static>, Refusal> {
        let (next, inboxes) = self.mailbox.kept(after, node.directory.now())?;
        let placements = self.shared(node, inboxes, peer).await?;
        Ok(Answer::Kept { next, placements })
    }

    /// A replica's place, if there is one and it has none yet.
    fn place(&self, peer: RelayId) -> Option<Place<'_>> {
        let mut replicas = self.replicas();
        let is_free = replicas.len() < REPAIRS_SERVED && replicas.insert(peer);
        is_free.then(|| Place { post: self, peer })
    }

    fn replicas(&self) -> MutexGuard<'_, HashSet<RelayId>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }

    /// Whether this relay is to keep what is placed there; cheap checks first.
    async fn check(&self, node: &Node, placement: Option<&Placement>, turn: &Semaphore) -> Result<(), Refusal> {
        let Some(placement) = placement else { return Ok(()) };
        if !placement.is_kept(node.directory.now()) {
            return Err(Refusal::Period);
        }
        let ring = self.ring(node, placement, Some(turn)).await?;
        if ring.contains(&node.id()) { Ok(()) } else { Err(Refusal::NotHere) }
    }

    /// Which relays keep what is placed there. Where a circuit asks, one ring is looked for at a time: in its `turn`.
    async fn ring(&self, node: &Node, placement: &Placement, turn: Option<&Semaphore>) -> Result<Ring, Refusal> {
        if let Some(ring) = self.rings.known(node, placement)? {
            return Ok(ring);
        }
        let Some(turn) = turn else { return self.rings.find(node, placement, Asked::ByRelay).await };
        let _turn = turn.acquire().await.map_err(|_| Refusal::NotReady)?;
        let asked = if self.mailbox.has(placement) { Asked::OfOurs } else { Asked::OfStrange };
        self.rings.find(node, placement, asked).await
    }
}

/// Answers on a stream of a circuit, until it ends.
pub(crate) async fn serve_circuit(circuit: &Shared, mut stream: Stream) {
    let post = circuit.node.post.as_ref().filter(|post| !post.is_broken());
    let (Some(post), Some(binding)) = (post, circuit.binding.get()) else {
        return stream.refuse(Reason::NotOffered);
    };
    let Ok(_place) = circuit.mailbox_places.try_acquire() else { return stream.refuse(Reason::Limit) };
    stream.accept();
    let mut stream = MailboxStream::new(stream);
    match answer_all(post, circuit, &mut stream, Asker::Circuit(binding)).await {
        Ok(()) => stream.close(),
        Err(error) => debug!(%error, "a circuit's mailbox stream ended early"),
    }
}

/// Answers a replica on a stream of a link, until it ends.
pub(crate) async fn serve_link(node: Arc<Node>, link: Link, mut stream: RequestStream) {
    let post = node.post.as_ref().filter(|post| !post.is_broken());
    let peer = link.peer().filter(|peer| node.directory.usable().class(peer).is_some());
    let (Some(post), Some(peer)) = (post, peer) else { return stream.close(CloseReason::Unspecified) };
    let Some(_place) = post.place(peer) else { return stream.close(CloseReason::Limit) };
    let answered = tokio::select! {
        answered = timeout(REPAIR_TALK, answer_link(post, &node, &mut stream, &peer)) => {
            answered.unwrap_or(Err(Ended::Long))
        }
        () = node.shutdown.cancelled() => Ok(()),
    };
    match answered {
        Ok(()) => stream.finish(),
        Err(error) => {
            debug!(%error, "a replica's stream ended early");
            stream.close(CloseReason::Protocol);
        }
    }
}

async fn answer_link(post: &Post, node: &Node, stream: &mut RequestStream, peer: &RelayId) -> Result<(), Ended> {
    let (mut reader, mut writer) = stream.halves();
    for _ in 0..MAILBOX_REQUESTS {
        let frame = timeout(MAILBOX_IDLE, frames::read_mailbox(&mut reader)).await.map_err(|_| Ended::Idle)??;
        let Some(frame) = frame else { return Ok(()) };
        let answer = post.answer_replica(node, Request::decode(&frame)?, peer).await?;
        frames::write(&mut writer, &answer).await?;
    }
    Err(Ended::Requests)
}

async fn answer_all(post: &Post, circuit: &Shared, stream: &mut MailboxStream, asker: Asker<'_>) -> Result<(), Ended> {
    for _ in 0..MAILBOX_REQUESTS {
        let frame = timeout(MAILBOX_IDLE, stream.read()).await.map_err(|_| Ended::Idle)??;
        let Some(frame) = frame else { return Ok(()) };
        let request = Request::decode(&frame)?;
        let answer = stream.unless_broken(post.answer(circuit, request, asker)).await?;
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

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.post.replicas().remove(&self.peer);
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::{SeedableRng, rngs::StdRng};
    use trefoil_protocol::{
        blind::BlindedKey,
        crypto,
        epoch::UnixSeconds,
        limits::{RINGS_KEPT, RINGS_WAITING},
    };

    use super::*;
    use crate::{
        clock::Clock,
        relay::{Relay, Setup},
    };

    /// A relay that is alone, with these mailboxes, at this time.
    fn relay(mailbox: Mailbox, unix: UnixSeconds) -> Relay {
        let clock = Clock::Simulated { at: Instant::now(), unix };
        let setup = Setup { mailbox: Some(mailbox), clock, ..Setup::for_tests(&mut StdRng::seed_from_u64(1)) };
        setup.start_for_tests(vec![]).0
    }

    /// Until it is usable, and in the midst of an epoch.
    async fn until_usable(relay: &Relay) {
        let epoch = Duration::from_secs(relay.directory().params().directory.epoch.get().into());
        sleep(epoch * 5 / 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_cleared_away_within_the_hour() {
        let (mailbox, now) = Mailbox::with_a_letter_for_an_hour().await;
        let relay = relay(mailbox, now);
        let deposited = || relay.status().mailboxes.unwrap().deposited_bytes;
        let before = deposited();
        sleep(MAILBOX_SWEEP_EVERY / 2).await;
        assert_eq!(deposited(), before, "it is kept for as long as it was left for");
        sleep(MAILBOX_SWEEP_EVERY * 3).await;
        assert!(deposited() + 3072 <= before, "{} of {before} bytes", deposited());
        relay.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_for_what_is_kept_nowhere_holds_up_nobody_else() {
        let (mailbox, now) = Mailbox::with_a_letter_for_an_hour().await;
        let relay = relay(mailbox, now);
        let node = relay.node();
        let post = node.post.as_ref().unwrap();
        let kept = post.mailbox().kept(0, now).unwrap().1[0];
        let strange = |number: usize| {
            let key = crypto::blake3(&[&number.to_le_bytes()]);
            Placement { key: BlindedKey::from_bytes(key), ..kept }
        };
        until_usable(&relay).await;
        let long = post.rings.strange.turn.acquire().await.unwrap(); // somebody's ring that is looked for

        let one = Semaphore::new(1);
        let mut asked: Vec<_> = (0..4).map(|number| (strange(number), &one)).collect();
        let others: Vec<_> = (0..RINGS_WAITING).map(|_| Semaphore::new(1)).collect();
        asked.extend(others.iter().enumerate().map(|(number, turn)| (strange(4 + number), turn)));
        let (last, mut waiting) = (asked.pop().unwrap(), vec![]);
        for (placement, turn) in &asked {
            let mut ring = Box::pin(post.ring(node, placement, Some(turn)));
            assert!(timeout(Duration::ZERO, &mut ring).await.is_err(), "it waits, and one of each circuit");
            waiting.push(ring);
        }
        let refused = post.ring(node, &last.0, Some(last.1)).await;
        assert!(matches!(refused, Err(Refusal::Limit)), "{refused:?}");

        let own = Semaphore::new(1);
        assert_eq!(post.ring(node, &kept, Some(&own)).await.unwrap()[..], [node.id()]);
        assert_eq!(post.ring(node, &last.0, None).await.unwrap()[..], [node.id()], "another relay asks");
        drop((waiting, long));
        assert!(post.ring(node, &strange(0), Some(&one)).await.is_ok());
        relay.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn rings_of_what_is_kept_here_are_not_forgotten_for_those_of_strangers() {
        let (mailbox, now) = Mailbox::with_a_letter_for_an_hour().await;
        let relay = relay(mailbox, now);
        let node = relay.node();
        let post = node.post.as_ref().unwrap();
        let kept = post.mailbox().kept(0, now).unwrap().1[0];
        until_usable(&relay).await;
        let turn = Semaphore::new(1);
        post.ring(node, &kept, Some(&turn)).await.unwrap();
        for number in 0..=RINGS_KEPT {
            let strange = Placement { key: BlindedKey::from_bytes(crypto::blake3(&[&number.to_le_bytes()])), ..kept };
            post.ring(node, &strange, Some(&turn)).await.unwrap();
        }
        assert!(post.rings.known(node, &kept).unwrap().is_some());
        relay.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_whose_mailboxes_broke_down_says_so_and_is_listed_without_any() {
        let (mailbox, now) = Mailbox::with_a_letter_for_an_hour().await;
        let relay = relay(mailbox, now);
        let is_listed_with_some = || {
            let view = relay.directory().view();
            view.get(&relay.id()).map(|known| known.record.record().descriptor().mailbox)
        };
        let epoch = Duration::from_secs(relay.directory().params().directory.epoch.get().into());
        sleep(epoch * 2).await;
        assert_eq!(is_listed_with_some(), Some(true));
        relay.node().post.as_ref().unwrap().mailbox().break_down();
        sleep(epoch * 2).await;
        assert_eq!(is_listed_with_some(), Some(false));
        let status = relay.status();
        assert!(status.mailboxes.is_none() && status.trouble.contains_key("mailboxes"), "{status}");
        relay.stop().await;
    }
}
