//! The command line of `trefoil`. See docs/user-guide.md.

mod letters;
mod values;

use std::{
    net::{SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Args, Parser, Subcommand};
use trefoil_protocol::{entry::RelayAddresses, policy::ExitPolicy, uri::RelayUri};
use trefoil_relay::endpoint::Congestion;

use crate::profile::ProfileName;

pub use self::{letters::*, values::*};

/// Sends TCP through circuits of three relays, so that no one of them knows both you and where you go.
#[derive(Debug, Parser)]
#[command(name = "trefoil", version, propagate_version = true)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// What to log to standard error, like "info" or "trefoil_client=debug"
    #[arg(long, global = true, value_name = "FILTER", default_value = "warn")]
    pub log: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show it all at once: a network, a web server, and a download through three relays
    Demo(Demo),
    /// Run a network of relays on this machine, to try things out
    Testnet(Testnet),
    /// Offer a SOCKS and HTTP CONNECT proxy to local programs
    Proxy(Proxy),
    /// Take part: offer the proxy, and with --relay run a relay, too, in one process
    Up(Up),
    /// Forward one local TCP port through a circuit
    Forward(Forward),
    #[command(flatten)]
    /// Letters, and how things are
    Letters(Letters),
}

/// `trefoil demo`
#[derive(Args, Debug)]
pub struct Demo {
    /// Relays of the network that is started for it
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub relays: usize,
    /// MiB to download
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub size: u64,
    /// Use this network instead of starting one; its exits must reach this machine
    #[arg(long, value_name = "FILE")]
    pub network: Option<PathBuf>,
}

/// `trefoil testnet`
#[derive(Args, Debug)]
pub struct Testnet {
    /// How many relays
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub relays: usize,
    /// Where to write the network file `network.toml` [default: a directory of its own, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where to write the network file, by its name
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    pub network: Option<PathBuf>,
}

/// `trefoil proxy`
#[derive(Args, Debug)]
pub struct Proxy {
    #[command(flatten)]
    /// Which network, and how
    pub network: Network,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9150", value_name = "IP:PORT", value_parser = parse_address)]
    pub socks: SocketAddr,
    /// Allow an address that is not a loopback one: everybody who can reach it can use the proxy
    #[arg(long)]
    pub expose: bool,
}

/// `trefoil up`
#[derive(Args, Debug)]
pub struct Up {
    #[command(flatten)]
    /// The client's proxy
    pub proxy: Proxy,
    #[command(flatten)]
    /// The relay beside it
    pub relay: RelayFlags,
    #[command(flatten)]
    /// Whose letters come and go
    pub whose: Opening,
}

/// Whose letters `trefoil up` sees to, if there is such a profile, and what opens it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Letters")]
pub struct Opening {
    /// Which of your identities, which `trefoil id new` has made [default: default, if there is one]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<ProfileName>,
    /// A file whose first line is the passphrase, for where nobody can be asked
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub passphrase_file: Option<PathBuf>,
    /// The file that opens the profile instead of a passphrase
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// See to no letters, although there is a profile
    #[arg(long, conflicts_with_all = ["profile", "passphrase_file", "key_file"])]
    pub no_letters: bool,
}

impl Network {
    /// A network and a data directory, and nothing else.
    pub fn of(network: &Path, data_dir: &Path) -> Self {
        Self {
            network: network.to_owned(),
            bootstrap: Vec::new(),
            bootstrap_file: None,
            lan: false,
            dht: false,
            dht_bootstrap: Vec::new(),
            data_dir: Some(data_dir.to_owned()),
            no_state: false,
            new_guards: false,
            congestion: Congestion::default(),
        }
    }
}

impl Up {
    /// The proxy alone.
    pub fn only(proxy: Proxy) -> Self {
        let whose = Opening { no_letters: true, ..Opening::default() };
        Self { proxy, relay: RelayFlags::default(), whose }
    }
}

/// Whether a relay runs beside the client, and how.
#[derive(Args, Debug, Default)]
#[command(group = ArgGroup::new("beside").multiple(true), next_help_heading = "The relay")]
pub struct RelayFlags {
    /// Run a relay, too, which forwards other people's circuits: see docs/operator.md. It has an identity, a port and
    /// files of its own; the client never uses it
    #[arg(long, group = "beside")]
    pub relay: bool,
    /// The relay's configuration, a TOML file as trefoil-relay has it; this implies --relay. Flags win
    #[arg(long, value_name = "FILE", group = "beside")]
    pub relay_config: Option<PathBuf>,
    /// Where the relay keeps its keys [default: relay in the client's data directory]
    #[arg(long, value_name = "DIR", requires = "beside")]
    pub relay_data_dir: Option<PathBuf>,
    /// The relay's UDP address to listen on [default: 0.0.0.0:9001]
    #[arg(long, value_name = "IP:PORT", requires = "beside", value_parser = parse_address)]
    pub listen: Option<SocketAddr>,
    /// The relay's public address, or one of each family with a comma between, when it is not the one listened on
    #[arg(long, value_name = "IP:PORT", requires = "beside")]
    pub advertise: Option<RelayAddresses>,
    /// What the relay connects to for others: rules like "accept *:80,443" with ; between [default: nothing]
    #[arg(long, value_name = "RULES", requires = "beside")]
    pub exit_policy: Option<ExitPolicy>,
}

impl RelayFlags {
    /// Whether there is to be a relay.
    pub fn wanted(&self) -> bool {
        self.relay || self.relay_config.is_some()
    }
}

/// `trefoil forward`
#[derive(Args, Debug)]
pub struct Forward {
    #[command(flatten)]
    /// Which network, and how
    pub network: Network,
    /// The port on 127.0.0.1 to listen on; 0 lets the system choose
    #[arg(value_name = "LOCALPORT")]
    pub port: u16,
    /// Where connections go, like example.org:22
    #[arg(value_name = "HOST:PORT")]
    pub target: String,
}

/// Which network, and how to use it.
#[derive(Args, Debug)]
pub struct Network {
    /// The network file: the network's parameters and some of its relays; `trefoil testnet` makes one
    #[arg(long, value_name = "FILE")]
    pub network: PathBuf,
    /// A relay to get to know the network from, besides those of the file; may be given several times
    #[arg(long, value_name = "URI")]
    pub bootstrap: Vec<RelayUri>,
    /// A file with more of them, one URI a line and # for comments: what `trefoil invite relays` prints
    #[arg(long, value_name = "FILE")]
    pub bootstrap_file: Option<PathBuf>,
    /// Find relays on the local network while none is known, by their beacons: this only listens
    #[arg(long)]
    pub lan: bool,
    /// Find relays in BitTorrent's DHT while none is known: its nodes see that this machine asks for the network
    #[arg(long)]
    pub dht: bool,
    /// Nodes of the DHT to begin at, with commas between [default: some that all programs know]
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', requires = "dht")]
    pub dht_bootstrap: Vec<SocketAddrV4>,
    /// Where to keep guards and known relays [default: trefoil/NETWORK in $XDG_DATA_HOME or ~/.local/share; nothing is
    /// kept for a network of local relays]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep nothing: each start then draws new guards, which in time makes this client meet the bad ones
    #[arg(long, conflicts_with = "data_dir")]
    pub no_state: bool,
    /// Go on with new guards although several did not answer; read the user guide first
    #[arg(long)]
    pub new_guards: bool,
    /// The congestion control of links to guards: tolerant (of lost packets), cubic, or bbr, which is unfair to others
    #[arg(long, default_value = "tolerant", value_name = "NAME")]
    pub congestion: Congestion,
}

fn parse_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an IP address and a port, like 127.0.0.1:9150 or [::1]:9150")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.command)
    }

    #[test]
    fn the_description_of_the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn whose_letters_may_be_said_before_and_after() {
        for line in ["trefoil contact --profile work list", "trefoil contact list --profile work --json"] {
            let Ok(Command::Letters(Letters::Contact(contact))) = parse(line) else { panic!("{line}") };
            assert_eq!(contact.whose.profile.unwrap().to_string(), "work");
        }
        assert!(parse("trefoil inbox --passphrase-file a --key-file b").is_err());
        assert!(parse("trefoil inbox --profile ../x").is_err());
    }

    #[test]
    fn all_that_follows_notify_is_the_program() {
        let line = "trefoil inbox --follow --notify notify-send --icon mail -t 5";
        let Ok(Command::Letters(Letters::Inbox(inbox))) = parse(line) else { panic!("{line}") };
        assert_eq!(inbox.notify, ["notify-send", "--icon", "mail", "-t", "5"]);
    }

    #[test]
    fn a_wrong_command_line_is_told_with_the_code_for_it() {
        for line in
            ["trefoil send", "trefoil send a b --timeout 30", "trefoil history --since soon", "trefoil nonsense"]
        {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
