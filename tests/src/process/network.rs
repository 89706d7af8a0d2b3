//! A network of relay processes, each with a directory, an address 127.N.0.1 and a name server of its own; and client
//! processes in it. Its network file names one or two of the relays: they find the others as in any network.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use trefoil_protocol::params::NetworkParams;
use trefoil_relay::{network::NetworkFile, status::Status};

use super::{
    binaries,
    following::Following,
    names,
    program::{Ended, PATIENCE, Program},
};

/// What the relays connect to for others; and the addresses that tell exits apart, which they may then resolve.
pub(super) const EXIT_POLICY: &str = r#"["accept 127.0.0.1:*", "accept 127.9.9.0/24:9"]"#;
/// Relays that the network file names.
const BOOTSTRAP: u8 = 2;
/// For relays to find each other, on a busy machine.
const FIND: Duration = Duration::from_secs(60);
/// A port that is free when asked for may be taken when it is used: another network is tried then.
const TRIES: usize = 5;

/// A running network.
pub struct RealNetwork {
    relays: Vec<Option<Program>>,
    directory: TempDir,
}

/// A running `trefoil proxy` or `trefoil forward`.
pub struct RealClient {
    /// The process.
    pub program: Program,
    /// Where it listens.
    pub address: SocketAddr,
}

impl RealNetwork {
    /// Starts this many relays, and waits until each uses all of them.
    ///
    /// # Panics
    /// If they do not come to.
    pub fn start(relays: u8) -> Self {
        let network = Self::start_from(relays, BOOTSTRAP);
        network.wait_until(FIND, |relay| relay.usable == usize::from(relays));
        network
    }

    /// Starts this many relays, of which the network file names the first few, and waits until they serve.
    ///
    /// # Panics
    /// If they do not.
    pub fn start_from(relays: u8, bootstrap: u8) -> Self {
        let started = (0..TRIES).find_map(|_| Self::try_start(relays, bootstrap));
        started.expect("five times in a row a free port was taken")
    }

    /// Waits until every relay that was not killed says this of itself; how long that took.
    ///
    /// # Panics
    /// If one does not come to.
    pub fn wait_until(&self, patience: Duration, is_so: impl Fn(&Status) -> bool) -> Duration {
        let started = Instant::now();
        let following: Vec<_> = self.running().into_iter().map(|number| self.follow(number)).collect();
        let are_so = || following.iter().all(|relay| is_so(&relay.status(PATIENCE, |_| true)));
        loop {
            for relay in &following {
                relay.status(patience.saturating_sub(started.elapsed()), &is_so);
            }
            if are_so() {
                return started.elapsed(); // those that were so first may not have been any more
            }
        }
    }

    /// The numbers of the relays that were not killed.
    fn running(&self) -> Vec<u8> {
        (1..).zip(&self.relays).filter(|(_, relay)| relay.is_some()).map(|(number, _)| number).collect()
    }

    /// What the relay of this number says of itself; one that has just started is waited for.
    ///
    /// # Panics
    /// If it does not run.
    pub fn status(&self, number: u8) -> Status {
        self.follow(number).status(PATIENCE, |_| true)
    }

    fn follow(&self, number: u8) -> Following<Status> {
        Following::start(daemon(self.directory.path(), number).args(["--status", "--follow", "--json"]))
    }

    /// The directory of the relay of this number: its configuration, and `data` with its keys.
    pub fn relay_directory(&self, number: u8) -> PathBuf {
        self.directory.path().join(number.to_string())
    }

    /// Starts a relay again that was taken.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn start_again(&mut self, number: u8) {
        let started = serving(start(self.directory.path(), number)).expect("nobody else has taken its port");
        self.relays[usize::from(number) - 1] = Some(started);
    }

    /// Its network file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("network.toml")
    }

    /// The relay of this number, counted from 1, that was not killed.
    ///
    /// # Panics
    /// If there is none.
    pub fn relay(&self, number: u8) -> &Program {
        self.relays[usize::from(number) - 1].as_ref().expect("this relay was not killed")
    }

    /// All relays that were not killed.
    pub fn relays(&self) -> impl Iterator<Item = &Program> {
        self.relays.iter().flatten()
    }

    /// Takes a relay out of the network, for the test to end.
    ///
    /// # Panics
    /// If it was taken before.
    pub fn take(&mut self, number: u8) -> Program {
        self.relays[usize::from(number) - 1].take().expect("this relay was not killed")
    }

    /// Starts a proxy in this network, on a free port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn proxy(&self) -> RealClient {
        RealClient::proxy(&self.file())
    }

    /// Starts a forwarded port in this network.
    ///
    /// # Panics
    /// If it does not start.
    pub fn forward(&self, target: &str) -> RealClient {
        self.client(&["forward", "0", target])
    }

    /// Starts `trefoil` with these arguments in this network.
    ///
    /// # Panics
    /// If it does not come to listen.
    pub fn client(&self, arguments: &[&str]) -> RealClient {
        RealClient::with(&self.file(), arguments)
    }

    /// `None` if a port was taken.
    fn try_start(relays: u8, bootstrap: u8) -> Option<Self> {
        let directory = tempfile::tempdir().expect("there is a place for temporary files");
        let name = "programs".parse().expect("a good name");
        let params = NetworkFile { params: NetworkParams::testnet(name), relays: Vec::new() };
        let entries = (1..=relays).map(|number| prepare(directory.path(), number)).collect::<Vec<_>>();
        let named = entries.iter().take(bootstrap.into());
        let text = named.fold(params.to_toml(), |text, entry| text + "\n" + entry);
        fs::write(directory.path().join("network.toml"), text).expect("the directory is ours");
        let started = (1..=relays).map(|number| start(directory.path(), number)).collect::<Vec<_>>();
        let serving = started.into_iter().map(serving).collect::<Option<Vec<_>>>()?;
        Some(Self { relays: serving.into_iter().map(Some).collect(), directory })
    }
}

impl RealClient {
    /// Starts a proxy in the network of this file, on a free port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn proxy(network: &Path) -> Self {
        Self::with(network, &["proxy", "--socks", "127.0.0.1:0", "--log", "debug"])
    }

    fn with(network: &Path, arguments: &[&str]) -> Self {
        Self::start(binaries::trefoil().args(arguments).arg("--network").arg(network))
    }

    /// Starts what offers a proxy or a forwarded port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(command: &mut Command) -> Self {
        let program = Program::start(command);
        let line = program.line("listening on ", PATIENCE);
        let address = line.split([' ', ',']).find_map(|word| word.parse().ok());
        Self { address: address.unwrap_or_else(|| panic!("no address in {line:?}")), program }
    }
}

/// A port of 127.`machine`.0.1 that is free now.
///
/// # Panics
/// If there is none.
pub fn free_address(machine: u8) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, machine, 0, 1), 0)).expect("loopback has a free port");
    socket.local_addr().expect("a bound socket has an address")
}

/// Writes the configuration of a relay, and has it make its keys: what it shows is its entry in the network file.
fn prepare(network: &Path, number: u8) -> String {
    let directory = network.join(number.to_string());
    fs::create_dir(&directory).expect("the directory is ours");
    let config = format!(
        "network = \"../network.toml\"\ndata_dir = \"data\"\nlisten = \"{}\"\nexit_policy = {EXIT_POLICY}\n\
         resolver = [\"{}\"]\n",
        free_address(number),
        names::serve(number),
    );
    fs::write(directory.join("relay.toml"), config).expect("the directory is ours");
    let shown = Program::run(daemon(network, number).arg("--show-relay"), PATIENCE);
    assert_eq!(shown.code(), 0, "{}", shown.stderr);
    shown.stdout
}

fn start(network: &Path, number: u8) -> Program {
    Program::start(&mut daemon(network, number))
}

/// The relay, once it serves; `None` if its port was taken.
fn serving(relay: Program) -> Option<Program> {
    if relay.line_or_end("relay started", PATIENCE).is_some() {
        return Some(relay);
    }
    let Ended { stderr, .. } = relay.wait(PATIENCE);
    assert!(stderr.contains("in use"), "a relay did not start: {stderr}");
    None
}

fn daemon(network: &Path, number: u8) -> Command {
    let mut command = binaries::relay();
    command.arg("--config").arg(network.join(number.to_string()).join("relay.toml"));
    command
}
