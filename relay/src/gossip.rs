//! Gossip: this relay tells its neighbours what is new, and compares all that it knows with one of them now and then.
//!
//! Specification: docs/protocol.md, "Gossip". Neighbours are a few relays in different netgroups, drawn at random and
//! replaced one by one, so that nobody stays between a relay and the rest. Where none answers, the relays that the
//! operator names and those of the saved view are tried for ever, more and more rarely.

use std::{
    collections::BTreeSet,
    mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rand::{
    Rng, RngExt,
    seq::{IteratorRandom, SliceRandom},
};
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, sleep, timeout},
};
use tracing::{debug, info, warn};
use trefoil_protocol::{
    crypto,
    directory::{self, Answer, Request},
    entry::RelayEntry,
    identity::RelayId,
    ip::IpNet,
    limits::{
        FIRST_ASKED, FRAUDS_MAX, NEIGHBOURS, PUSHES_RUNNING, PUSHES_RUNNING_EACH, RETRY_MIN, SIGHTINGS_ASKED,
        SIGHTINGS_AT_ONCE, TALK_ALONE, TALK_TIMEOUT, WANTS_AT_ONCE,
    },
    reconcile::{Held, ReconcileError, Reconciler, Salt, SaltedId},
};

use crate::{
    counters::Cause,
    directory::{Manner, Sender},
    link::Link,
    news::{Haste, Item},
    node::Node,
    questions::{QuestionError, Questions},
    reason::CloseReason,
    trouble::Trouble,
};

/// The relays that this one talks to of its own accord.
#[derive(Default)]
pub(crate) struct Neighbours {
    all: Mutex<Vec<Neighbour>>,
    /// Neither they nor anybody else answers.
    silent: AtomicBool,
}

struct Neighbour {
    entry: RelayEntry,
    /// It was talked to.
    is_met: bool,
}

/// What the peer of a talk is to this relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// This relay chose it.
    Chosen,
    /// It was met at an address that anyone may have named. Its clock does not count, and what it shows counts like what
    /// is pushed; but where nobody else is known, it is as good as chosen.
    Stranger,
}

/// Why a talk with a neighbour came to nothing.
#[derive(Debug, thiserror::Error)]
enum TalkError {
    #[error("it cannot be dialled")]
    Dial,
    #[error(transparent)]
    Question(#[from] QuestionError),
    #[error("it is of another network")]
    Network,
    #[error("its reconciliation: {0}")]
    Reconcile(#[from] ReconcileError),
    #[error("it sends garbage")]
    Garbage,
    #[error("it took too long")]
    Timeout,
}

impl Neighbours {
    /// Those there are now.
    pub(crate) fn all(&self) -> Vec<RelayEntry> {
        self.lock().iter().map(|neighbour| neighbour.entry.clone()).collect()
    }

    /// So many of them, drawn at random.
    fn some(&self, count: usize, rng: &mut impl Rng) -> Vec<RelayEntry> {
        self.all().into_iter().sample(rng, count)
    }

    /// Whether no other relay answers.
    pub(crate) fn are_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }

    /// Some were talked to, and one was `reached` or none. Whether nobody answers now; the operator is told when that
    /// is news.
    fn note_talk(&self, reached: bool, links: usize) -> bool {
        let silent = !reached && links == 0;
        let were_silent = self.silent.swap(silent, Relaxed);
        if silent && !were_silent {
            warn!("{}", Trouble::Silent);
        } else if were_silent && reached {
            info!("other relays answer again");
        }
        silent
    }

    /// Draws as many as are missing, none in a netgroup that has one.
    pub(crate) fn fill(&self, node: &Node) {
        let mut neighbours = self.lock();
        if neighbours.len() >= NEIGHBOURS {
            return;
        }
        let mut others = node.directory.acquaintances();
        others.shuffle(&mut node.rng());
        let mut taken: Vec<IpNet> = neighbours.iter().flat_map(|neighbour| groups(&neighbour.entry)).collect();
        for entry in others {
            let is_one = neighbours.iter().any(|neighbour| neighbour.entry.id == entry.id);
            let is_near = !node.directory.params().allow_same_netgroup && groups(&entry).any(|at| taken.contains(&at));
            if neighbours.len() < NEIGHBOURS && !is_one && !is_near {
                taken.extend(groups(&entry));
                neighbours.push(Neighbour { entry, is_met: false });
            }
        }
    }

    /// One of them, at random, but none of these.
    fn draw(&self, node: &Node, except: &BTreeSet<RelayId>) -> Option<RelayEntry> {
        let neighbours = self.lock();
        let free = neighbours.iter().filter(|neighbour| !except.contains(&neighbour.entry.id));
        free.choose(&mut node.rng()).map(|neighbour| neighbour.entry.clone())
    }

    /// Whether this one was talked to for the first time now.
    fn meet(&self, relay: &RelayId) -> bool {
        let mut neighbours = self.lock();
        let neighbour = neighbours.iter_mut().find(|neighbour| neighbour.entry.id == *relay);
        neighbour.is_some_and(|neighbour| !mem::replace(&mut neighbour.is_met, true))
    }

    /// This one is none any more.
    pub(crate) fn remove(&self, relay: &RelayId) {
        self.lock().retain(|neighbour| neighbour.entry.id != *relay);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Neighbour>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

fn groups(entry: &RelayEntry) -> impl Iterator<Item = IpNet> + use<> {
    entry.addresses.netgroups().into_iter().flatten()
}

/// Compares with one neighbour after the other, until the node stops. One that is slow, or gone and not known to be,
/// does not keep it from the others.
pub(crate) async fn reconcile(node: Arc<Node>) {
    let rules = &node.directory.params().directory;
    let (every, redraw) = (seconds(rules.reconcile), seconds(rules.redraw));
    let (mut pause, mut redrawn) = (every, Instant::now());
    let (mut talks, mut talking) = (JoinSet::new(), BTreeSet::new());
    loop {
        sleep(pause.mul_f64(node.rng().random_range(0.8..1.2))).await; // so that relays started together do not stay so
        if redrawn.elapsed() >= redraw {
            redrawn = Instant::now();
            let old = node.neighbours.draw(&node, &talking);
            old.inspect(|old| node.neighbours.remove(&old.id));
        }
        node.neighbours.fill(&node);
        if let Some(entry) = node.neighbours.draw(&node, &talking) {
            talking.insert(entry.id);
            let node = Arc::clone(&node);
            talks.spawn(async move { (talk(&node, &entry).await, entry.id) });
        }
        let Ok(Some(Ok((reached, relay)))) = timeout(TALK_ALONE, talks.join_next()).await else { continue };
        talking.remove(&relay);
        if !reached {
            node.neighbours.remove(&relay);
        }
        let silent = node.neighbours.note_talk(reached, node.links.count());
        pause = if reached { every } else { (pause * 2).min(every).max(RETRY_MIN.min(every)) };
        if !reached && !silent {
            pause = RETRY_MIN.min(every);
        }
    }
}

/// At start: compares with several at once, of those that the operator names and those that were known before.
pub(crate) async fn ask_first(node: &Arc<Node>) {
    let mut named: Vec<_> = node.directory.bootstrap().cloned().collect();
    named.shuffle(&mut node.rng());
    named.truncate(FIRST_ASKED);
    node.neighbours.fill(node);
    let more = node.neighbours.all().into_iter().filter(|entry| named.iter().all(|named| named.id != entry.id));
    let all: Vec<_> = named.clone().into_iter().chain(more).collect();
    if all.is_empty() {
        return;
    }
    let mut asking = JoinSet::new();
    for entry in all {
        let node = Arc::clone(node);
        asking.spawn(async move {
            let reached = talk(&node, &entry).await;
            if !reached {
                node.neighbours.remove(&entry.id);
            }
            reached
        });
    }
    let reached = asking.join_all().await.contains(&true);
    node.neighbours.note_talk(reached, node.links.count());
    info!(known = node.directory.len(), "the directory was compared with that of other relays");
}

/// Tells neighbours what is new and has this haste, until the node stops.
pub(crate) async fn push(node: Arc<Node>, haste: Haste) {
    let (mut pushing, mut running) = (JoinSet::new(), Vec::new());
    let news = node.directory.news(haste);
    loop {
        news.ready().await;
        sleep(haste.delay()).await; // what comes together goes together
        let items = Arc::new(news.take());
        node.neighbours.fill(&node);
        while let Some(ended) = pushing.try_join_next() {
            let at = running.iter().position(|relay| ended.as_ref().is_ok_and(|ended| ended == relay));
            at.map(|at| running.swap_remove(at));
        }
        for entry in node.neighbours.some(haste.neighbours(), &mut node.rng()) {
            let is_full = running.iter().filter(|relay| **relay == entry.id).count() >= PUSHES_RUNNING_EACH;
            if is_full || pushing.len() >= PUSHES_RUNNING {
                continue; // those that are left out find it when they compare
            }
            running.push(entry.id);
            let (node, items) = (Arc::clone(&node), Arc::clone(&items));
            pushing.spawn(async move {
                if let Err(error) = within(tell(&node, &entry, &items)).await {
                    debug!(%error, "a neighbour did not hear of news");
                    node.neighbours.remove(&entry.id);
                }
                entry.id
            });
        }
    }
}

/// Compares with a relay; whether it is one to talk to again.
async fn talk(node: &Arc<Node>, entry: &RelayEntry) -> bool {
    let mut seen = None;
    let talked = within(compare(node, entry, &mut seen)).await;
    if let Err(error) = &talked {
        debug!(%error, "a talk with a neighbour came to nothing");
    }
    let answered = !matches!(talked, Err(TalkError::Dial));
    if node.neighbours.meet(&entry.id) || !answered {
        node.directory.outages.note(answered);
    }
    if !answered {
        node.directory.note_unreachable(&entry.id);
    }
    is_good(node, talked, seen)
}

/// Compares with a relay that was met; whether it is one to talk to again.
pub(crate) async fn talk_with_stranger(node: &Arc<Node>, relay: RelayId, link: &Link) -> bool {
    let standing = if node.directory.others() == 0 { Standing::Chosen } else { Standing::Stranger };
    let talked = within(compare_on(node, relay, link, standing)).await;
    if let Err(error) = &talked {
        debug!(%error, "a talk with a relay that was met came to nothing");
    }
    is_good(node, talked, Some(link.remote_address()))
}

/// Whether a peer with which a talk went like this is one to talk to again.
fn is_good(node: &Node, talked: Result<(), TalkError>, seen: Option<SocketAddr>) -> bool {
    match talked {
        Err(TalkError::Reconcile(ReconcileError::Rounds)) => return true, // much differs; the rest is for the next talk
        Err(TalkError::Reconcile(_)) => turn_away(node, seen, Cause::Reconcile),
        Err(TalkError::Question(error)) if error.is_garbage() => turn_away(node, seen, Cause::Frame),
        Err(TalkError::Question(QuestionError::Refused(_))) => return true, // it is busy
        Err(_) => {}
        Ok(()) => return true,
    }
    false
}

/// Compares with a relay, and whether it has this one's own record then; `None` where that does not come to an end.
pub(crate) async fn has_own(node: &Arc<Node>, entry: &RelayEntry) -> Option<bool> {
    let own = node.id();
    let again = async {
        compare(node, entry, &mut None).await?;
        let mut questions = Questions::on(&node.link(entry).await.map_err(|_| TalkError::Dial)?).await?;
        let (_, haves) = differences(node, &mut questions).await?;
        questions.finish();
        Ok(!haves.contains(&own))
    };
    within(again).await.inspect_err(|error| debug!(%error, "a neighbour was not told")).ok()
}

/// Charges the address that the relay is seen at: those of its record may be anybody's.
fn turn_away(node: &Node, seen: Option<SocketAddr>, cause: Cause) {
    if let Some(address) = seen {
        node.directory.turn_away(cause, address.ip());
    }
}

async fn within<T>(work: impl Future<Output = Result<T, TalkError>>) -> Result<T, TalkError> {
    timeout(TALK_TIMEOUT, work).await.unwrap_or(Err(TalkError::Timeout))
}

async fn compare(node: &Arc<Node>, entry: &RelayEntry, seen: &mut Option<SocketAddr>) -> Result<(), TalkError> {
    let link = node.link(entry).await.map_err(|_| TalkError::Dial)?;
    *seen = Some(link.remote_address());
    compare_on(node, entry.id, &link, Standing::Chosen).await
}

async fn compare_on(node: &Arc<Node>, relay: RelayId, link: &Link, standing: Standing) -> Result<(), TalkError> {
    let mut questions = Questions::on(link).await?;
    greet(node, relay, &mut questions, standing).await?;
    let (wants, haves) = differences(node, &mut questions).await?;
    let manner = if standing == Standing::Chosen { Manner::Pulled } else { Manner::Pushed };
    let sender = Sender { relay, address: link.remote_address().ip(), manner };
    pull(node, &sender, link, &mut questions, &wants).await?;
    pull_frauds(node, relay, link, &mut questions).await?;
    pull_sightings(node, relay, link, &mut questions).await?;
    offer(node, questions, &haves).await
}

async fn greet(node: &Node, relay: RelayId, questions: &mut Questions, standing: Standing) -> Result<(), TalkError> {
    let answered = questions.ask(&Request::Hello).await?;
    let greeting = answered.read(|answer| if let Answer::Hello(greeting) = answer { Some(greeting) } else { None })?;
    if greeting.network != node.network {
        return Err(TalkError::Network);
    }
    if standing == Standing::Chosen {
        node.directory.skews.note(relay, greeting.minutes, node.directory.now());
        node.directory.agreement.note(relay, &greeting, &node.directory.usable());
    }
    Ok(())
}

/// The names of records that only the peer has, and the relays whose records it has not.
async fn differences(node: &Node, questions: &mut Questions) -> Result<(Vec<SaltedId>, Vec<RelayId>), TalkError> {
    let salt = Salt(node.rng().random());
    let held = Held::of(&node.directory.view());
    let (mut session, first) = Reconciler::start(&held, salt);
    let (mut begin, mut message) = (Some(salt), Some(first));
    while let Some(next) = message {
        let answered = questions.ask(&Request::Reconcile { begin: begin.take(), message: &next }).await?;
        let answer =
            answered.read(|answer| if let Answer::Reconcile(answer) = answer { Some(answer) } else { None })?;
        message = session.handle_answer(answer)?;
    }
    Ok((session.wants().collect(), session.haves().collect()))
}

async fn pull(
    node: &Node,
    sender: &Sender,
    link: &Link,
    questions: &mut Questions,
    wants: &[SaltedId],
) -> Result<(), TalkError> {
    for names in wants.chunks(WANTS_AT_ONCE) {
        let answered = questions.ask(&Request::Want(names.to_vec())).await?;
        let records =
            answered.read(|answer| if let Answer::Records(records) = answer { Some(records) } else { None })?;
        for record in records {
            if let Err(cause) = node.directory.take(record, sender).await {
                bear(node, link, cause)?;
            }
        }
    }
    Ok(())
}

async fn pull_frauds(node: &Node, relay: RelayId, link: &Link, questions: &mut Questions) -> Result<(), TalkError> {
    let mut seen = 0;
    while let Ok(offset) = u16::try_from(seen)
        && seen < FRAUDS_MAX
    {
        let answered = questions.ask(&Request::Frauds { offset }).await?;
        let proofs = answered.read(|answer| if let Answer::Frauds(proofs) = answer { Some(proofs) } else { None })?;
        if proofs.is_empty() {
            break;
        }
        seen += proofs.len();
        for proof in proofs {
            if let Err(cause) = node.directory.take_fraud(proof, relay) {
                bear(node, link, cause)?;
            }
        }
    }
    Ok(())
}

async fn pull_sightings(node: &Node, relay: RelayId, link: &Link, questions: &mut Questions) -> Result<(), TalkError> {
    for _ in 0..SIGHTINGS_ASKED {
        let Some(names) = node.directory.sighting_names() else { break };
        let answered = questions.ask(&Request::Sightings(names)).await?;
        let sightings = answered.read(|answer| if let Answer::Sightings(all) = answer { Some(all) } else { None })?;
        let mut is_news = false;
        for sighting in sightings {
            match node.directory.take_sighting(sighting, relay) {
                Ok(new) => is_news |= new,
                Err(cause) => bear(node, link, cause)?,
            }
        }
        if !is_news {
            break;
        }
    }
    Ok(())
}

/// Goes on unless the peer has sent too much garbage: then the link goes.
fn bear(node: &Node, link: &Link, cause: Cause) -> Result<(), TalkError> {
    if node.directory.blame(cause, link.remote_address().ip()) {
        link.close(CloseReason::Protocol);
        return Err(TalkError::Garbage);
    }
    Ok(())
}

/// Pushes records that the peer has not, at the end of a talk; it finds what does not fit when it compares itself.
async fn offer(node: &Node, questions: Questions, relays: &[RelayId]) -> Result<(), TalkError> {
    let records: Vec<_> = {
        let view = node.directory.view();
        relays.iter().filter_map(|relay| view.get(relay)).map(|known| known.record.record().clone()).collect()
    };
    if records.is_empty() {
        questions.finish();
    } else {
        let records = directory::fitting(records.iter().map(|record| record.bytes()));
        questions.ask_last(&Request::Push { records, frauds: vec![] }).await?;
    }
    Ok(())
}

async fn tell(node: &Arc<Node>, entry: &RelayEntry, items: &[(Item, Option<RelayId>)]) -> Result<(), TalkError> {
    let (mut records, mut frauds, mut sightings) = (vec![], vec![], vec![]);
    for (item, _) in items.iter().filter(|(_, from)| *from != Some(entry.id)) {
        match item {
            Item::Record(record) => records.push(record.bytes()),
            Item::Fraud(proof) => frauds.push(proof.encode()),
            Item::Sighting(sighting) => sightings.push(sighting.encode()),
        }
    }
    let mut told = BTreeSet::new();
    records.retain(|record| told.insert(crypto::blake3(&[record])));
    let records =
        records.chunks(WANTS_AT_ONCE).map(|records| Request::Push { records: records.to_vec(), frauds: vec![] });
    let frauds = frauds.chunks(WANTS_AT_ONCE / 2).map(|frauds| {
        let frauds = frauds.iter().map(|proof| &proof[..]).collect();
        Request::Push { records: vec![], frauds }
    });
    let sightings = sightings.chunks(SIGHTINGS_AT_ONCE);
    let sightings = sightings.map(|sightings| Request::Sight(sightings.iter().map(|sighting| &sighting[..]).collect()));
    let mut pushes: Vec<_> = records.chain(frauds).chain(sightings).collect();
    let Some(last) = pushes.pop() else { return Ok(()) };
    let link = node.link(entry).await.map_err(|_| TalkError::Dial)?;
    let mut questions = Questions::on(&link).await?;
    for push in &pushes {
        questions.ask(push).await?;
    }
    questions.ask_last(&last).await?;
    Ok(())
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}
