//! Status: what a running relay tells the person who runs it, on the status socket of its data directory.
//!
//! Specification: docs/operator.md, "Watching it". Sums and states only: it names no peer, no target and no path, and
//! says nothing about any one link or circuit, since that would help whoever gets it to tell circuits apart.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    agreement::Agreeing,
    counters::Cause,
    hints::Kind,
    node::Node,
    post::{Holdings, Post},
    publish::Progress,
    status_socket::{self, AskError, Form, SOCKET},
    store::Store,
    trouble::Trouble,
};

/// How a relay is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its id.
    pub id: String,
    /// The network's name.
    pub network: String,
    /// The version of the program.
    pub version: String,
    /// Where others reach it.
    pub addresses: Vec<String>,
    /// For how long it runs.
    pub uptime_seconds: u64,
    /// The epoch now.
    pub epoch: u32,
    /// The first epoch in which its record no longer counts; none if it has no record that counts.
    pub listed_until: Option<u32>,
    /// The epoch from which on others learn of a change of what it says of itself; none if nothing has changed.
    pub change_from: Option<u32>,
    /// Whether it is one of the usable relays of this epoch, as it sees them itself.
    pub in_use: bool,
    /// Relays whose records are known, this one included.
    pub known: usize,
    /// Relays that circuits are drawn from in this epoch.
    pub usable: usize,
    /// Relays that it compared itself with lately, in this epoch.
    pub compared: usize,
    /// Of these, how many have the same usable set of the same epoch.
    pub agreeing: usize,
    /// Relays that its operator names, in the network file and besides.
    pub named: usize,
    /// Relays that it met at addresses which nobody vouches for, by where these came from: `lan`, `dht`.
    pub met: BTreeMap<String, u64>,
    /// Relays that it talks to of its own accord.
    pub neighbours: usize,
    /// Links to other relays that are open for new circuits.
    pub links: usize,
    /// Circuits that go through it.
    pub circuits: usize,
    /// Circuits that may.
    pub circuits_limit: u64,
    /// Bytes that circuits hold.
    pub memory_bytes: u64,
    /// Bytes that they may.
    pub memory_limit_bytes: u64,
    /// Its mailboxes; none where it keeps none, or they broke down.
    #[serde(default)]
    pub mailboxes: Option<Mailboxes>,
    /// What was turned away since the start, by the name of its [`Cause`].
    pub turned_away: BTreeMap<String, u64>,
    /// What is wrong, or keeps it from being listed: words, by a short name.
    pub trouble: BTreeMap<String, String>,
}

/// What a relay keeps for people who are away. Bytes are as they are reckoned, with all that a letter costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailboxes {
    /// Bytes that it gives to them.
    pub size_bytes: u64,
    /// Bytes that were deposited.
    pub deposited_bytes: u64,
    /// Bytes that came from other replicas.
    pub repaired_bytes: u64,
    /// Bytes of tombstones.
    pub tombstones_bytes: u64,
    /// Deposits that were accepted since the start.
    pub accepted: u64,
    /// Deposits that were refused since the start.
    pub refused: u64,
    /// Letters that were taken from other replicas since the start.
    pub repaired: u64,
}

impl Mailboxes {
    fn of(post: &Post) -> Self {
        let Holdings { size, totals, accepted, refused, repaired } = post.holdings();
        Self {
            size_bytes: size,
            deposited_bytes: totals.deposited,
            repaired_bytes: totals.repaired,
            tombstones_bytes: totals.tombstones,
            accepted,
            refused,
            repaired,
        }
    }
}

impl Status {
    /// How the node is now.
    pub(crate) fn of(node: &Node) -> Self {
        let directory = &node.directory;
        let (epoch, usable) = (directory.epoch(), directory.usable());
        let Agreeing { agreeing, compared } = directory.agreement.in_epoch(usable.epoch());
        let listed_until = node.publisher.listed_until(node);
        let turned_away = Cause::ALL.map(|cause| (cause.name().to_owned(), directory.counters().of(cause)));
        let trouble = troubles(node, listed_until.is_some());
        Self {
            id: node.id().to_string(),
            network: directory.params().name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: node.publisher.addresses().iter().map(|address| address.to_string()).collect(),
            uptime_seconds: node.started.elapsed().as_secs(),
            epoch: epoch.0,
            listed_until: listed_until.map(|epoch| epoch.0),
            change_from: node.publisher.change_waits_for().map(|epoch| epoch.0),
            in_use: usable.class(&node.id()).is_some(),
            known: directory.len(),
            usable: usable.len(),
            compared,
            agreeing,
            named: directory.bootstrap().count(),
            met: Kind::ALL.map(|kind| (kind.name().to_owned(), node.hints.met(kind))).into(),
            neighbours: node.neighbours.all().len(),
            links: node.links.count(),
            circuits: node.memory.circuits(),
            circuits_limit: node.memory.room(),
            memory_bytes: node.memory.held(),
            memory_limit_bytes: node.memory.budget(),
            mailboxes: node.post.as_ref().filter(|post| !post.is_broken()).map(Mailboxes::of),
            turned_away: turned_away.into(),
            trouble: trouble.iter().map(|trouble| (trouble.name().to_owned(), trouble.to_string())).collect(),
        }
    }
}

/// What is wrong now.
fn troubles(node: &Node, is_listed: bool) -> Vec<Trouble> {
    let directory = &node.directory;
    let clock = directory.clock_off_by().map(|ahead| Trouble::Clock { ahead });
    let listing = match node.publisher.progress() {
        Progress::Unreachable => Some(Trouble::Unreachable { addresses: node.publisher.addresses() }),
        _ if is_listed || clock.is_some() => None, // the clock is what it waits for
        Progress::Asking => Some(Trouble::Starting),
        Progress::Working => Some(Trouble::Work),
        Progress::Checking => Some(Trouble::Checking),
        Progress::Done => None,
    };
    let others = match directory.others() {
        0 => Some(Trouble::Alone),
        _ => (node.neighbours.are_silent() && node.links.count() == 0).then_some(Trouble::Silent),
    };
    let outage = directory.outages.silent().map(|silent| Trouble::Outage { silent });
    let twice = directory.is_barred(&node.id()).then_some(Trouble::Twice);
    let unsaved = node.publisher.is_unsaved().then_some(Trouble::Unsaved);
    let mailboxes = node.post.as_ref().is_some_and(Post::is_broken).then_some(Trouble::Mailboxes);
    [twice, clock, listing, others, outage, unsaved, mailboxes].into_iter().flatten().collect()
}

/// Tells the status at the data directory, if there is one, for as long as it is polled.
pub(crate) async fn serve(node: Arc<Node>, store: Store) {
    if let Some(path) = store.file(SOCKET) {
        status_socket::serve(path, || Status::of(&node)).await;
    }
}

/// Prints how the relay is that holds this data directory.
///
/// # Errors
/// [`AskError`].
pub async fn show(directory: &Path, form: Form) -> Result<(), AskError> {
    status_socket::show::<Status>(directory, WHO, form).await
}

/// The same every second, until nobody looks any more; see [`status_socket::follow`].
pub async fn follow(directory: &Path, form: Form) {
    status_socket::follow::<Status>(directory, WHO, form).await;
}

const WHO: &str = "relay";

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &str| writeln!(f, "{name:<12} {value}");
        line("relay", &self.id)?;
        line("network", &self.network)?;
        line("addresses", &self.addresses.join(", "))?;
        line("running", &format!("{}, version {}", duration(self.uptime_seconds), self.version))?;
        line("listed", &self.listed_in_words())?;
        line("relays", &format!("{} known, {} usable in epoch {}", self.known, self.usable, self.epoch))?;
        line("agreement", &self.agreement_in_words())?;
        line("sources", &self.sources_in_words())?;
        line("neighbours", &self.neighbours.to_string())?;
        line("links", &format!("{} to other relays", self.links))?;
        line("circuits", &format!("{} of at most {}", self.circuits, self.circuits_limit))?;
        line("memory", &format!("{} of {} MiB", self.memory_bytes >> 20, self.memory_limit_bytes >> 20))?;
        line("mailboxes", &self.mailboxes_in_words())?;
        line("turned away", &self.turned_away_in_words())?;
        self.trouble.values().try_for_each(|words| line("trouble", words))?;
        if self.trouble.is_empty() { writeln!(f, "all is well") } else { Ok(()) }
    }
}

impl Status {
    fn listed_in_words(&self) -> String {
        let change = match self.change_from {
            Some(epoch) => format!("; a change waits for epoch {epoch}"),
            None => String::new(),
        };
        match self.listed_until {
            None => "no".to_owned(),
            Some(until) if self.in_use => format!("yes, until epoch {until}; renewed before{change}"),
            Some(until) => format!("yes, until epoch {until}; in use from one of the next epochs on{change}"),
        }
    }

    fn agreement_in_words(&self) -> String {
        match self.compared {
            0 => "compared with nobody yet in this epoch".to_owned(),
            compared => format!("{} of {compared} relays have the same usable relays", self.agreeing),
        }
    }

    fn sources_in_words(&self) -> String {
        let met = self.met.iter().filter(|(_, times)| **times > 0);
        let met: Vec<_> = met.map(|(kind, times)| format!("; {kind}: {times} met")).collect();
        format!("{} relays named{}", self.named, met.concat())
    }

    fn mailboxes_in_words(&self) -> String {
        let Some(of) = &self.mailboxes else { return "none".to_owned() };
        let held = of.deposited_bytes + of.repaired_bytes + of.tombstones_bytes;
        format!(
            "{} of {} MiB; {} letters accepted, {} refused, {} from other replicas",
            held >> 20,
            of.size_bytes >> 20,
            of.accepted,
            of.refused,
            of.repaired,
        )
    }

    fn turned_away_in_words(&self) -> String {
        let met = self.turned_away.iter().filter(|(_, times)| **times > 0);
        let met: Vec<_> = met.map(|(cause, times)| format!("{cause} {times}")).collect();
        if met.is_empty() { "nothing".to_owned() } else { met.join(", ") }
    }
}

/// In the two largest units, like `3 d 4 h`.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::relay::Setup;

    #[tokio::test]
    async fn the_first_relay_of_a_network_tells_that_it_is_listed_and_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let (relay, address) =
            Setup { store, ..Setup::for_tests(&mut StdRng::seed_from_u64(1)) }.start_for_tests(vec![]);
        while relay.status().listed_until.is_none() {
            tokio::task::yield_now().await;
        }
        let told: Status = status_socket::ask(directory.path(), WHO).await.unwrap();
        assert_eq!((told.id, told.known, told.links), (relay.id().to_string(), 1, 0));
        assert_eq!(told.addresses, [address.to_string()]);
        assert_eq!(told.trouble.into_keys().collect::<Vec<_>>(), ["alone"]);
        relay.stop().await;
        assert!(matches!(show(directory.path(), Form::Json).await, Err(AskError::NotRunning { .. })));
    }

    /// A relay with which all is well.
    fn status() -> Status {
        Status {
            id: "aoqqpp7t".to_owned(),
            network: "test".to_owned(),
            version: "0.1.0".to_owned(),
            addresses: vec!["192.0.2.7:9001".to_owned(), "[2001:db8::7]:9001".to_owned()],
            uptime_seconds: 273_700,
            epoch: 7,
            listed_until: Some(14),
            change_from: None,
            in_use: true,
            known: 812,
            usable: 790,
            compared: 6,
            agreeing: 5,
            named: 2,
            met: [("dht".to_owned(), 3), ("lan".to_owned(), 0)].into(),
            neighbours: 4,
            links: 37,
            circuits: 412,
            circuits_limit: 16_384,
            memory_bytes: 3 << 20,
            memory_limit_bytes: 512 << 20,
            mailboxes: Some(Mailboxes {
                size_bytes: 1 << 30,
                deposited_bytes: 5 << 20,
                repaired_bytes: 2 << 20,
                tombstones_bytes: 1 << 20,
                accepted: 40,
                refused: 3,
                repaired: 7,
            }),
            turned_away: Cause::ALL.map(|cause| (cause.name().to_owned(), 0)).into(),
            trouble: BTreeMap::new(),
        }
    }

    fn with(trouble: &Trouble) -> Status {
        Status { trouble: [(trouble.name().to_owned(), trouble.to_string())].into(), ..status() }
    }

    #[test]
    fn a_status_survives_its_json() {
        let status = with(&Trouble::Alone);
        assert_eq!(serde_json::from_str::<Status>(&status_socket::to_json(&status)).unwrap(), status);
    }

    #[test]
    fn words_say_what_is_well() {
        let words = status().to_string();
        for part in [
            "relay        aoqqpp7t\n",
            "addresses    192.0.2.7:9001, [2001:db8::7]:9001\n",
            "running      3 d 4 h, version 0.1.0\n",
            "listed       yes, until epoch 14; renewed before\n",
            "relays       812 known, 790 usable in epoch 7\n",
            "agreement    5 of 6 relays have",
            "sources      2 relays named; dht: 3 met\n",
            "circuits     412 of at most 16384\n",
            "memory       3 of 512 MiB\n",
            "mailboxes    8 of 1024 MiB; 40 letters accepted, 3 refused, 7 from other replicas\n",
            "turned away  nothing\n",
            "all is well\n",
        ] {
            assert!(words.contains(part), "{part:?} is not in:\n{words}");
        }
    }

    #[test]
    fn words_say_what_is_not_well() {
        let words = with(&Trouble::Clock { ahead: 95 }).to_string();
        assert!(words.contains("trouble      this machine's clock is 95 minutes behind"), "{words}");
        assert!(!words.contains("all is well"), "{words}");
        let unlisted = Status { listed_until: None, in_use: false, compared: 0, agreeing: 0, ..with(&Trouble::Work) };
        let words = unlisted.to_string();
        assert!(words.contains("listed       no\n") && words.contains("compared with nobody"), "{words}");
        assert!(words.contains("trouble      its proof of work is under way"), "{words}");
        let words = Status { in_use: false, ..status() }.to_string();
        assert!(words.contains("in use from one of the next epochs on"), "{words}");
        let words = Status { change_from: Some(8), ..status() }.to_string();
        assert!(words.contains("renewed before; a change waits for epoch 8\n"), "{words}");
    }

    #[test]
    fn what_was_turned_away_is_told_by_its_causes() {
        let mut status = status();
        status.turned_away.extend([("stale".to_owned(), 12), ("circuit_busy".to_owned(), 3)]);
        assert!(status.to_string().contains("turned away  circuit_busy 3, stale 12\n"), "{status}");
    }

    #[test]
    fn durations_have_their_two_largest_units() {
        for (seconds, words) in [(59, "59 s"), (60, "1 min"), (3600, "1 h 0 min"), (86_399, "23 h 59 min")] {
            assert_eq!(duration(seconds), words);
        }
        assert_eq!(duration(86_400 * 40 + 3600), "40 d 1 h");
    }
}
