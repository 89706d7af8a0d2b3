//! Repair: letters that other replicas of an inbox have, and this relay has not.
//!
//! Specification: docs/protocol.md, "Mailbox streams". Relays come and go, and so do the replicas of an inbox: each asks
//! the others, a few at a time, which inboxes it is to keep, too, and takes what it lacks. What a replica says is believed as
//! far as the ring, the store and the letters themselves bear it out; one that lies is left alone for a day.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rand::{
    RngExt,
    seq::{IteratorRandom, SliceRandom},
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};
use trefoil_protocol::{
    blind::BlindUse,
    entry::RelayEntry,
    envelope::LetterId,
    identity::RelayId,
    limits::{
        REPAIR_AGAIN, REPAIR_AT_ONCE, REPAIR_CURSORS, REPAIR_EVERY, REPAIR_LEAST, REPAIR_LIAR, REPAIR_PAGES,
        REPAIR_SOON, REPAIR_SOON_ROUNDS, REPAIR_TAKEN, REPAIR_TALK,
    },
    mailbox::{Answer, FRAME_HEADER, Listed, MailboxError, Refusal, Request},
    ring::Placement,
    tombstone::Tombstone,
};

use crate::{
    endpoint::DialError,
    frames::{self, FrameError},
    link::LinkError,
    mailbox::{Asker, Repair},
    node::Node,
    opened::RequestStream,
    post::Post,
};

/// How far this relay has read what others keep. All of it is in memory: what is forgotten is read again.
#[derive(Default)]
struct Read {
    /// Where a relay's list of inboxes goes on.
    lists: HashMap<RelayId, u64>,
    /// Where a relay's list of letters of an inbox goes on.
    letters: HashMap<(RelayId, Placement), Place>,
    /// Relays that lied, and when.
    liars: HashMap<RelayId, Instant>,
}

/// Where a list goes on, and when it was begun: a replica may have lost all that it had.
#[derive(Clone, Copy)]
struct Place {
    after: u64,
    begun: Instant,
}

/// Another replica, which is asked.
struct Replica {
    relay: RelayId,
    stream: RequestStream,
    /// Letters that were taken from it in this talk.
    taken: usize,
}

/// Why a talk with a replica ended early.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it refuses: {0}")]
    Refused(Refusal),
    #[error("it lies: {0}")]
    Lie(&'static str),
    #[error("this relay takes nothing: {0}")]
    Here(Refusal),
    #[error("it took too long")]
    Timeout,
}

/// Repairs, for as long as the node keeps mailboxes, and they have not broken down.
pub(crate) async fn run(node: Arc<Node>) {
    let Some(post) = &node.post else { return };
    let (mut read, mut rounds) = (Read::default(), 0);
    while !post.is_broken() {
        sleep(pause(&node, rounds)).await;
        rounds += 1;
        for relay in read.choose(&node) {
            let id = relay.id;
            let talk = timeout(REPAIR_TALK, talk(&node, post, &mut read, &relay)).await;
            match talk.unwrap_or(Err(Ended::Timeout)) {
                Ok(()) => {}
                Err(error @ Ended::Lie(_)) => {
                    info!(relay = %id.short(), %error, "a replica of mailboxes is left alone for a day");
                    read.liars.insert(id, Instant::now());
                }
                Err(error) => debug!(%error, "a replica of mailboxes was not asked to the end"),
            }
        }
    }
    node.directory.own_changed.notify_one(); // so that nobody looks for letters here any more
}

/// Until the next round: sooner after the start, when much can have come that this relay has not heard of.
fn pause(node: &Node, rounds: u32) -> Duration {
    let epoch = Duration::from_secs(node.directory.params().directory.epoch.get().into());
    let usual = if rounds < REPAIR_SOON_ROUNDS { REPAIR_SOON } else { REPAIR_EVERY };
    let mean = usual.min(epoch / 4).max(REPAIR_LEAST);
    mean.mul_f64(node.rng().random_range(0.5..1.5))
}

impl Read {
    /// Some usable relays that keep mailboxes, at random.
    fn choose(&mut self, node: &Node) -> Vec<RelayEntry> {
        let now = Instant::now();
        self.liars.retain(|_, since| now < *since + REPAIR_LIAR);
        self.letters.retain(|_, place| now < place.begun + REPAIR_AGAIN);
        if self.letters.len() > REPAIR_CURSORS {
            self.letters.clear();
        }
        let usable = node.directory.usable();
        let view = node.directory.view();
        self.lists.retain(|relay, _| usable.class(relay).is_some());
        let others = usable.iter().map(|(relay, _)| relay).filter(|relay| *relay != node.id());
        let keeping = others.filter_map(|relay| {
            let known = view.get(&relay).filter(|_| !self.liars.contains_key(&relay))?;
            let record = known.record.record();
            record.descriptor().mailbox.then(|| record.entry())
        });
        let mut chosen = keeping.sample(&mut node.rng(), REPAIR_AT_ONCE);
        chosen.shuffle(&mut node.rng());
        chosen
    }
}

/// Asks a relay what this one is to keep, too, and takes what is missing.
async fn talk(node: &Node, post: &Post, read: &mut Read, relay: &RelayEntry) -> Result<(), Ended> {
    let link = node.link(relay).await?;
    let mut replica = Replica { relay: relay.id, stream: link.open_mailbox().await?, taken: 0 };
    for _ in 0..REPAIR_PAGES {
        let after = read.lists.get(&relay.id).copied().unwrap_or(0);
        let (next, inboxes) = replica.kept(after).await?;
        for inbox in post.shared(node, inboxes, &relay.id).await.map_err(Ended::Here)? {
            replica.fill(node, post, read, inbox).await?;
        }
        let is_last = next == after;
        read.lists.insert(relay.id, if is_last { 0 } else { next }); // and from the beginning again: rings change
        if is_last {
            break;
        }
    }
    replica.stream.finish();
    Ok(())
}

impl Replica {
    /// Takes what is missing in an inbox.
    async fn fill(&mut self, node: &Node, post: &Post, read: &mut Read, inbox: Placement) -> Result<(), Ended> {
        let key = (self.relay, inbox);
        for _ in 0..REPAIR_PAGES {
            let place = read.letters.get(&key).copied().unwrap_or(Place { after: 0, begun: Instant::now() });
            let Some((next, letters, tombstones)) = self.pull(inbox, place.after).await? else { return Ok(()) };
            let is_whole = self.take_lacking(node, post, inbox, &letters).await?;
            bury(node, post, inbox, tombstones).await?;
            if !is_whole {
                return Ok(()); // a later talk goes on here
            }
            read.letters.insert(key, Place { after: next, ..place });
            if next == place.after {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes what is missing of a page of letters; whether this talk may take more.
    async fn take_lacking(
        &mut self,
        node: &Node,
        post: &Post,
        inbox: Placement,
        letters: &[Listed],
    ) -> Result<bool, Ended> {
        let lacking = post.mailbox().lacking(&inbox, letters, node.directory.now()).map_err(Ended::Here)?;
        for listed in lacking {
            if self.taken >= REPAIR_TAKEN {
                return Ok(false);
            }
            self.take(node, post, inbox, listed).await?;
        }
        Ok(self.taken < REPAIR_TAKEN)
    }

    async fn take(&mut self, node: &Node, post: &Post, inbox: Placement, listed: Listed) -> Result<(), Ended> {
        let frame = self.ask(&Request::Take { inbox, letter: listed.letter }).await?;
        let (postage, envelope) = match decode(&frame)? {
            Answer::Taken { postage, envelope } => (postage, envelope),
            Answer::Refused(Refusal::Gone) => return Ok(()), // it expired meanwhile, or was deleted
            Answer::Refused(refusal) => return Err(Ended::Refused(refusal)),
            _ => return Err(Ended::Lie("an answer to another question")),
        };
        if LetterId::of(envelope) != listed.letter {
            return Err(Ended::Lie("another letter than the one that was asked for"));
        }
        self.taken += 1;
        let repair = Repair { from: self.relay, inbox, expiry: listed.expiry, postage, envelope };
        match post.mailbox().repair(repair, node.directory.now()).await {
            Ok(()) => post.count_repaired(),
            Err(Refusal::NotReady) => return Err(Ended::Here(Refusal::NotReady)),
            Err(Refusal::Full) => self.taken = REPAIR_TAKEN, // what else it has would find no room either
            Err(refusal) => debug!(%refusal, "a letter of a replica is not kept"),
        }
        Ok(())
    }

    async fn kept(&mut self, after: u64) -> Result<(u64, Vec<Placement>), Ended> {
        let frame = self.ask(&Request::Kept { after }).await?;
        match decode(&frame)? {
            Answer::Kept { placements, .. } if placements.iter().any(|placement| placement.of == BlindUse::Prekeys) => {
                Err(Ended::Lie("prekeys among inboxes"))
            }
            Answer::Kept { next, placements } if next >= after => Ok((next, placements)),
            Answer::Refused(refusal) => Err(Ended::Refused(refusal)),
            _ => Err(Ended::Lie("an answer to another question")),
        }
    }

    /// `None` where there is nothing any more, or the relay sees the ring otherwise.
    async fn pull(&mut self, inbox: Placement, after: u64) -> Result<Option<Pulled>, Ended> {
        let frame = self.ask(&Request::Pull { inbox, after }).await?;
        match decode(&frame)? {
            Answer::Pulled { next, letters, tombstones } if next >= after => Ok(Some((next, letters, tombstones))),
            Answer::Refused(Refusal::NotReady | Refusal::Limit) => Err(Ended::Refused(Refusal::NotReady)),
            Answer::Refused(_) => Ok(None),
            _ => Err(Ended::Lie("an answer to another question")),
        }
    }

    async fn ask(&mut self, request: &Request<'_>) -> Result<Vec<u8>, Ended> {
        let (mut reader, mut writer) = self.stream.halves();
        Ok(frames::ask_mailbox(&mut reader, &mut writer, request).await?)
    }
}

/// Deletes what the owner has deleted at a replica.
async fn bury(node: &Node, post: &Post, inbox: Placement, tombstones: Vec<Tombstone>) -> Result<(), Ended> {
    if tombstones.is_empty() {
        return Ok(());
    }
    let delete = Request::Delete { inbox, tombstones };
    let frame = post.mailbox().answer(delete, Asker::Replica, node.directory.now()).await;
    match Answer::decode(frame.get(FRAME_HEADER..).unwrap_or_default()) {
        Ok(Answer::Refused(Refusal::BadClaim)) => Err(Ended::Lie("a tombstone that the owner has not signed")),
        _ => Ok(()),
    }
}

type Pulled = (u64, Vec<Listed>, Vec<Tombstone>);

fn decode(frame: &[u8]) -> Result<Answer<'_>, Ended> {
    Answer::decode(frame).map_err(|error: MailboxError| FrameError::from(error).into())
}
