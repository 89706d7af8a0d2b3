//! DHT: BitTorrent's Mainline DHT as a place where the relays of a network can be found, which nobody owns.
//!
//! Specification: docs/protocol.md, "The DHT". A node of the DHT is made for each errand, with a socket and a thread of
//! its own, and is gone after it: it serves nobody, and two errands have nothing in common but the address that they
//! come from. What is found are hints (`hints.rs`) and no more. The DHT knows IPv4 only.

use std::{collections::BTreeSet, io, net::SocketAddrV4, sync::Arc, thread};

use futures_lite::StreamExt;
use mainline::{DEFAULT_BOOTSTRAP_NODES, Id, async_dht::AsyncDht};
use rand::{Rng, RngExt, seq::SliceRandom};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::debug;
use trefoil_protocol::{
    limits::{
        DHT_ADDRESSES, DHT_EVERY, DHT_LISTED_LOOK, DHT_NODES, DHT_RETRY_MAX, DHT_RETRY_MIN, DHT_SPREAD, DHT_TIMEOUT,
    },
    meeting::{self, MeetingPoint},
    params::NetworkParams,
};

use crate::{
    clock::Clock,
    hints::{Hints, Kind},
    node::Node,
};

/// How to join the DHT, and whom to begin at.
#[derive(Debug)]
pub struct Dht {
    /// Its nodes that a person names; if there are none, those that the library names.
    named: Vec<SocketAddrV4>,
    /// Some that the last errand met.
    met: Vec<String>,
}

/// What is to be done there.
#[derive(Debug)]
struct Errand {
    /// Where to look for relays.
    look: MeetingPoint,
    /// Where to announce this one, with its port.
    announce: Option<(Vec<MeetingPoint>, u16)>,
}

/// What became of it.
#[derive(Debug, Default)]
struct Found {
    /// Where relays may be.
    addresses: BTreeSet<SocketAddrV4>,
    /// Whether this one is announced.
    is_announced: bool,
    /// Nodes of the DHT.
    nodes: Vec<String>,
}

/// Why an errand came to nothing.
#[derive(Debug, thiserror::Error)]
enum DhtError {
    #[error("there is no socket or thread for it: {0}")]
    System(#[from] io::Error),
    #[error("it took too long")]
    Timeout,
    #[error("none of its nodes answers")]
    Silent,
    #[error("the library failed")]
    Library,
}

impl Dht {
    /// Begins at these nodes of the DHT; if there are none, at those that the library names.
    pub fn new(named: Vec<SocketAddrV4>) -> Self {
        Self { named, met: Vec::new() }
    }

    /// Looks for relays of this network whenever `hints` are needed, for as long as it is polled. It announces nothing;
    /// but the nodes of the DHT that it asks see its address, and for which network it asks.
    pub async fn search(mut self, hints: Arc<Hints>, params: NetworkParams, clock: Clock, mut rng: impl Rng) {
        hints.search();
        let mut pause = DHT_RETRY_MIN;
        loop {
            hints.needed().await;
            let look = meeting::to_look(&params.id(), clock.now());
            match self.run(Errand { look, announce: None }).await {
                Ok(found) => take_in(found, &hints, &params, &mut rng),
                Err(error) => debug!(%error, "the DHT showed nothing"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(DHT_RETRY_MAX);
        }
    }

    /// Announces a relay while it is listed, and looks for others, until the node stops.
    pub(crate) async fn serve(mut self, node: Arc<Node>) {
        node.hints.search();
        let mut pause = DHT_RETRY_MIN;
        loop {
            let was_listed = is_listed(&node);
            let is_announced = match self.run(errand_of(&node)).await {
                Ok(found) => {
                    let is_announced = found.is_announced;
                    take_in(found, &node.hints, node.directory.params(), &mut node.rng());
                    is_announced
                }
                Err(error) => {
                    debug!(%error, "the DHT showed nothing");
                    false
                }
            };
            if is_announced {
                pause = DHT_RETRY_MIN;
                sleep(DHT_EVERY + DHT_SPREAD.mul_f64(node.rng().random())).await;
            } else if was_listed {
                sleep(pause).await;
                pause = (pause * 2).min(DHT_RETRY_MAX);
            } else if timeout(pause, until_listed(&node)).await.is_err() {
                pause = (pause * 2).min(DHT_RETRY_MAX);
            }
        }
    }

    /// Runs an errand, in a task of its own: the library panics where its thread has.
    async fn run(&mut self, errand: Errand) -> Result<Found, DhtError> {
        let mut running = JoinSet::new();
        let begin_at = self.begin_at();
        running.spawn(timeout(DHT_TIMEOUT, async move { Ok::<_, DhtError>(errand.run(join(begin_at).await?).await) }));
        let mut found = match running.join_next().await {
            Some(Ok(Ok(found))) => found?,
            Some(Ok(Err(_))) => return Err(DhtError::Timeout),
            Some(Err(_)) | None => return Err(DhtError::Library),
        };
        found.nodes.truncate(DHT_NODES);
        self.met = std::mem::take(&mut found.nodes);
        if self.met.is_empty() { Err(DhtError::Silent) } else { Ok(found) }
    }

    fn begin_at(&self) -> Vec<String> {
        let named: Vec<_> = match self.named.is_empty() {
            true => DEFAULT_BOOTSTRAP_NODES.map(str::to_owned).into(),
            false => self.named.iter().map(SocketAddrV4::to_string).collect(),
        };
        self.met.iter().cloned().chain(named).collect()
    }
}

impl Errand {
    async fn run(self, dht: AsyncDht) -> Found {
        let mut found = Found::default();
        let mut peers = dht.get_peers(Id::from(self.look));
        while let Some(addresses) = peers.next().await {
            found.addresses.extend(addresses);
            if found.addresses.len() >= MOST_READ {
                break;
            }
        }
        if let Some((points, port)) = self.announce {
            found.is_announced = true;
            for point in points {
                if let Err(error) = dht.announce_peer(Id::from(point), Some(port)).await {
                    debug!(%error, "this relay was not announced in the DHT");
                    found.is_announced = false;
                }
            }
        }
        found.nodes = dht.to_bootstrap().await;
        found
    }
}

/// What a relay has to do: it announces itself at its IPv4 address while its record counts, since else nobody could
/// use it.
fn errand_of(node: &Node) -> Errand {
    let now = node.directory.now();
    let port = node.publisher.addresses().v4().filter(|_| is_listed(node)).map(|address| address.port());
    let announce = port.map(|port| (meeting::to_announce(&node.network, now), port));
    Errand { look: meeting::to_look(&node.network, now), announce }
}

fn is_listed(node: &Node) -> bool {
    node.publisher.listed_until(node).is_some()
}

async fn until_listed(node: &Node) {
    while !is_listed(node) {
        sleep(DHT_LISTED_LOOK).await;
    }
}

fn take_in(found: Found, hints: &Hints, params: &NetworkParams, rng: &mut impl Rng) {
    let allowed = |address: &SocketAddrV4| params.allows_relay_at((*address.ip()).into());
    let mut addresses: Vec<_> = found.addresses.into_iter().filter(allowed).collect();
    debug!(addresses = addresses.len(), "the DHT was looked into");
    addresses.shuffle(rng); // whoever answers first must not fill all places
    addresses.truncate(DHT_ADDRESSES);
    addresses.into_iter().for_each(|address| hints.note(Kind::Dht, address.into()));
}

/// Makes a node of the DHT. Its thread ends with it, also if nobody waits any more.
///
/// This is done on a thread of our own, since names are resolved in it.
async fn join(begin_at: Vec<String>) -> Result<AsyncDht, DhtError> {
    let (made, waiting) = oneshot::channel();
    let make = move || {
        let dht = mainline::Dht::builder().port(0).bootstrap(&begin_at).build();
        drop(made.send(dht)); // nobody waits: it ends here
    };
    thread::Builder::new().name("trefoil-dht".to_owned()).spawn(make)?;
    let dht = waiting.await.map_err(|_| DhtError::Library)??;
    Ok(dht.as_async())
}

/// Addresses that one look reads at most, before some are drawn.
const MOST_READ: usize = 8 * DHT_ADDRESSES;

#[cfg(test)]
mod tests {
    use std::{fs, net::SocketAddr};

    use mainline::Testnet;
    use rand::{SeedableRng, rngs::StdRng};
    use tokio::time::{Duration, Instant};

    use super::*;
    use crate::relay::Setup;

    /// Twice as long as the relays themselves take to try again, should the machine be too busy for the DHT's timeouts.
    const PATIENCE: Duration = Duration::from_secs(180);

    /// Waits until this holds.
    async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let start = Instant::now();
        while !holds().await {
            assert!(start.elapsed() < PATIENCE, "after {PATIENCE:?} it does not hold that {what}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A relay of a test network that knows nobody, and its address.
    fn relay(number: u64) -> (crate::relay::Relay, SocketAddr) {
        Setup::for_tests(&mut StdRng::seed_from_u64(number)).start_for_tests(vec![])
    }

    /// How many threads the library has in this process.
    fn threads() -> usize {
        let names = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let names = names.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("Mainline")).count()
    }

    #[tokio::test]
    async fn relays_that_know_nobody_find_each_other_in_the_dht_and_leave_nothing_behind() {
        let dht = tokio::task::spawn_blocking(|| Testnet::builder(8).build()).await.unwrap().unwrap();
        let nodes: Vec<SocketAddrV4> = dht.bootstrap.iter().map(|node| node.parse().unwrap()).collect();
        let (first, address) = relay(1);
        let network = first.node().network;
        let params = first.node().directory.params().clone();
        let look = || meeting::to_look(&network, Clock::System.now());

        first.find_by_dht(Dht::new(nodes.clone()));
        let mut seeker = Dht::new(nodes.clone());
        until("the first relay is announced", async || {
            let found = seeker.run(Errand { look: look(), announce: None }).await.unwrap();
            found.addresses.iter().any(|found| SocketAddr::from(*found) == address)
        })
        .await;
        assert!(!seeker.met.is_empty(), "nodes are remembered");

        let hints = Arc::new(Hints::default());
        let search = Dht::new(nodes.clone()).search(hints.clone(), params, Clock::System, StdRng::seed_from_u64(1));
        hints.need();
        timeout(PATIENCE, async {
            tokio::select! { () = search => {}, () = hints.wait() => {} }
        })
        .await
        .unwrap();
        let due = hints.due(9, || StdRng::seed_from_u64(1), |_| true);
        assert_eq!(due.iter().map(|hint| hint.address).collect::<Vec<_>>(), [address]);

        let (second, _) = relay(2);
        second.find_by_dht(Dht::new(nodes));
        let know_both = async || [&first, &second].iter().all(|relay| relay.directory().usable().len() == 2);
        until("both relays use both", know_both).await;
        assert_eq!(second.status().met["dht"], 1);
        first.stop().await;
        second.stop().await;
        drop((dht, seeker));
        until("all threads have ended", async || threads() == 0).await;
    }

    #[tokio::test]
    async fn a_dht_that_does_not_answer_is_told_as_such() {
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = nobody.local_addr().unwrap() else { panic!("an IPv4 address") };
        let mut dht = Dht::new(vec![address]);
        let done = dht.run(Errand { look: [1; 20], announce: Some((vec![[1; 20]], 9)) }).await;
        assert!(matches!(done, Err(DhtError::Silent)), "{done:?}");
    }

    #[test]
    fn what_a_person_names_is_begun_at_and_else_what_the_library_names() {
        let named = Dht { named: vec!["127.0.0.1:1".parse().unwrap()], met: vec!["127.0.0.1:2".to_owned()] };
        assert_eq!(named.begin_at(), ["127.0.0.1:2", "127.0.0.1:1"]);
        assert_eq!(Dht::new(vec![]).begin_at(), DEFAULT_BOOTSTRAP_NODES);
    }
}
