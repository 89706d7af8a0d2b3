//! Configuration: what a relay's operator says, in a TOML file and in flags.
//!
//! Specification: docs/operator.md, "Configuration". Flags win over the file. Unknown keys are errors; paths in the
//! file are relative to its directory. All values are checked here, before anything is started or made.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;
use trefoil_protocol::{
    entry::{AddressError, RelayAddresses, RelayEntry, Weight},
    limits::MAILBOX_SIZE,
    params::NetworkParams,
    policy::ExitPolicy,
    uri::{RelayUri, UriError},
};

use crate::{
    bootstrap_file::{self, BootstrapFileError},
    endpoint::Congestion,
    network::{NetworkFile, NetworkFileError},
};

/// What may be set, in the file and as flags of the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The network file: the network's parameters and its bootstrap relays
    #[arg(long, value_name = "FILE")]
    pub network: Option<PathBuf>,
    /// Relays to get to know the network through, as URIs trefoil-relay:...; besides those of the network file
    #[arg(long, value_name = "URI")]
    pub bootstrap: Option<Vec<Bootstrap>>,
    /// A file with more of them, one URI a line and # for comments: what `trefoil invite` prints
    #[arg(long, value_name = "FILE")]
    pub bootstrap_file: Option<PathBuf>,
    /// Tell of the relay by beacons on the local network, and find others there [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    pub lan: Option<bool>,
    /// Announce the relay in BitTorrent's DHT, and find others there [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    pub dht: Option<bool>,
    /// Nodes of the DHT to begin at, with commas between [default: some that all programs know]
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',')]
    pub dht_bootstrap: Option<Vec<SocketAddrV4>>,
    /// Where the relay keeps its keys; made on first start
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The UDP address to listen on [default: 0.0.0.0:9001]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// The public address, or one of each family with a comma between, when it is not the one listened on
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Option<RelayAddresses>,
    /// 2 for a relay with room for twice as many circuits as most: it is drawn twice as often [default: 1]
    #[arg(long, value_name = "CLASS")]
    pub weight: Option<Weight>,
    /// The key that all your relays share, so that no path goes through two of them; --make-family makes it
    #[arg(long, value_name = "FILE")]
    pub family: Option<PathBuf>,
    /// What to connect to for others: rules like "accept *:80,443" with ; between [default: nothing]
    #[arg(long, value_name = "RULES")]
    pub exit_policy: Option<ExitPolicy>,
    /// The congestion control of links [default: tolerant]
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<Congestion>,
    /// How much memory circuits may take together, like "512 MiB" [default: 512 MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<MemorySize>,
    /// Keep letters for people who are away [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    pub mailbox: Option<bool>,
    /// How much disk these letters may take, like "1 GiB" [default: 1 GiB]
    #[arg(long, value_name = "SIZE")]
    pub mailbox_size: Option<MemorySize>,
    /// Name servers to ask, with commas between [default: the system's]
    #[arg(long, value_name = "IP[:PORT]", value_delimiter = ',')]
    pub resolver: Option<Vec<NameServer>>,
    /// Where to offer metrics to a monitoring system, over HTTP, like 127.0.0.1:9035 [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    pub metrics: Option<SocketAddr>,
    /// What to log [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// A relay's configuration, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The network, read from its file.
    pub network: NetworkFile,
    /// Relays that are named besides those of the network file, in URIs and in the bootstrap file.
    pub bootstrap: Vec<RelayUri>,
    /// Whether to send beacons on the local network, and to listen for them.
    pub lan: bool,
    /// The nodes of the DHT to begin at, none for those that the library names; `None` to keep away from it.
    pub dht: Option<Vec<SocketAddrV4>>,
    /// Where the relay keeps its keys.
    pub data_dir: PathBuf,
    /// The UDP address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The addresses at which others reach the relay; `None` for the one that it listens on.
    pub advertise: Option<RelayAddresses>,
    /// How likely the relay is drawn.
    pub weight: Weight,
    /// The file with the key that the operator's relays share.
    pub family: Option<PathBuf>,
    /// What the relay connects to for others.
    pub exit_policy: ExitPolicy,
    /// The congestion control of links.
    pub congestion: Congestion,
    /// How much memory circuits may take together.
    pub memory: MemorySize,
    /// How much disk the letters of people who are away may take; `None` to keep none.
    pub mailbox: Option<MemorySize>,
    /// Name servers to ask; empty for the system's.
    pub resolver: Vec<SocketAddr>,
    /// Where to offer metrics over HTTP; port 0 lets the system choose. `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// What to log, in the words of `tracing_subscriber::EnvFilter`.
    pub log: String,
}

/// An amount of memory or disk in bytes; as text a whole number of KiB, MiB or GiB, at least [`MIN_MEMORY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct MemorySize(u64);

/// A relay's URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bootstrap(RelayUri);

/// A name server; as text `IP`, `IP:PORT` or `[IPv6]:PORT`, port 53 when it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NameServer(SocketAddr);

/// Why a relay cannot start with this configuration, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file is not a configuration; the cause names line and key.
    #[error("{}: {}", path.display(), cause.to_string().trim_end())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: Box<toml::de::Error>,
    },
    /// Something without a default is not set.
    #[error("`{key}` is not set: add {key} = {example:?} to the configuration, or pass --{flag}")]
    Missing {
        /// Its key in the file.
        key: &'static str,
        /// Its flag.
        flag: &'static str,
        /// What it could be.
        example: &'static str,
    },
    /// The network file cannot be used.
    #[error(transparent)]
    Network(#[from] NetworkFileError),
    /// The bootstrap file cannot be used.
    #[error(transparent)]
    BootstrapFile(#[from] BootstrapFileError),
    /// Nobody knows where to reach the relay.
    #[error(
        "`listen` = {0} is every address of this machine, and others need one: \
         set `advertise` to its public address, like \"192.0.2.7:9001\""
    )]
    Wildcard(SocketAddr),
    /// No relay of the network would dial this address.
    #[error(
        "`{key}` = {address} is private or special, and no relay of the network \"{network}\" would dial it: \
         set `advertise` to this machine's public address"
    )]
    NotPublic {
        /// `listen` or `advertise`.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The network's name.
        network: String,
    },
}

/// The text is not an amount of memory or disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size of at least 32 MiB, like \"512 MiB\" or \"2 GiB\"")]
pub struct BadSize(String);

/// The text is not a name server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the address of a name server, like \"192.0.2.53\" or \"192.0.2.53:53\"")]
pub struct BadNameServer(String);

/// Less than this serves nobody.
pub const MIN_MEMORY: u64 = 32 << 20;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9001);
const DEFAULT_MEMORY: MemorySize = MemorySize(512 << 20);
const DEFAULT_MAILBOX: MemorySize = MemorySize(MAILBOX_SIZE);
const DNS_PORT: u16 = 53;

impl Config {
    /// The configuration of `file`, if there is one, and of `flags`, which win.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and the line, or the key, and says what to do.
    pub fn load(file: Option<&Path>, flags: Settings) -> Result<Self, ConfigError> {
        let settings = Settings::merged(file, flags)?;
        let data_dir = settings.data_dir()?;
        let network = required(settings.network, "network", "network", "network.toml")?;
        let network = NetworkFile::load(&network)?;
        let config = Self {
            data_dir,
            bootstrap: bootstrap(settings.bootstrap, settings.bootstrap_file.as_deref(), &network.params)?,
            network,
            lan: settings.lan.unwrap_or_default(),
            dht: settings.dht.unwrap_or_default().then(|| settings.dht_bootstrap.unwrap_or_default()),
            listen: settings.listen.unwrap_or(DEFAULT_LISTEN),
            advertise: settings.advertise,
            weight: settings.weight.unwrap_or_default(),
            family: settings.family,
            exit_policy: settings.exit_policy.unwrap_or_default(),
            congestion: settings.congestion.unwrap_or_default(),
            memory: settings.memory.unwrap_or(DEFAULT_MEMORY),
            mailbox: settings.mailbox.unwrap_or(true).then(|| settings.mailbox_size.unwrap_or(DEFAULT_MAILBOX)),
            resolver: settings.resolver.unwrap_or_default().into_iter().map(|NameServer(address)| address).collect(),
            metrics: settings.metrics,
            log: settings.log.unwrap_or_else(|| "info".to_owned()),
        };
        config.check_addresses(&config.network.params)?;
        Ok(config)
    }

    /// Where others reach the relay once its socket is bound to `bound`.
    ///
    /// # Errors
    /// [`AddressError`] if `bound` is not what a socket can be bound to: with port 0, for one.
    pub fn addresses(&self, bound: SocketAddr) -> Result<RelayAddresses, AddressError> {
        match self.advertise {
            Some(addresses) => Ok(addresses),
            None => RelayAddresses::new([dialable(bound)]),
        }
    }

    /// All relays that are named: those of the network file, and the others.
    pub fn bootstrap(&self) -> Vec<RelayEntry> {
        let named = self.bootstrap.iter().copied().map(RelayEntry::from);
        named.chain(self.network.relays.iter().cloned()).collect() // of one that is named twice, the file says more
    }

    fn check_addresses(&self, params: &NetworkParams) -> Result<(), ConfigError> {
        let (key, special) = match self.advertise {
            None if self.listen.ip().is_unspecified() && params.allow_loopback => return Ok(()),
            None if self.listen.ip().is_unspecified() => return Err(ConfigError::Wildcard(self.listen)),
            None => ("listen", Some(self.listen).filter(|address| !params.allows_relay_at(address.ip()))),
            Some(all) => ("advertise", all.iter().find(|address| !params.allows_relay_at(address.ip()))),
        };
        let network = params.name.to_string();
        special.map_or(Ok(()), |address| Err(ConfigError::NotPublic { key, address, network }))
    }
}

fn bootstrap(
    named: Option<Vec<Bootstrap>>,
    file: Option<&Path>,
    params: &NetworkParams,
) -> Result<Vec<RelayUri>, BootstrapFileError> {
    let in_file = file.map_or(Ok(Vec::new()), |file| bootstrap_file::load(file, params))?;
    Ok(named.unwrap_or_default().into_iter().map(|Bootstrap(uri)| uri).chain(in_file).collect())
}

/// Of a wildcard, the loopback address that it includes.
fn dialable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip.to_canonical(),
    };
    SocketAddr::new(ip, bound.port())
}

fn required<T>(
    setting: Option<T>,
    key: &'static str,
    flag: &'static str,
    example: &'static str,
) -> Result<T, ConfigError> {
    setting.ok_or(ConfigError::Missing { key, flag, example })
}

impl Settings {
    /// The settings of a file; its paths are taken from its directory.
    ///
    /// # Errors
    /// [`ConfigError::Read`] and [`ConfigError::Parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        let mut settings: Self = toml::from_str(&text)
            .map_err(|cause| ConfigError::Parse { path: path.to_owned(), cause: Box::new(cause) })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let Self { network, bootstrap_file, data_dir, family, .. } = &mut settings;
        for relative in [network, bootstrap_file, data_dir, family].into_iter().flatten() {
            *relative = directory.join(&*relative);
        }
        Ok(settings)
    }

    /// The settings of `file`, if there is one, and of `flags`, which win.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn merged(file: Option<&Path>, flags: Self) -> Result<Self, ConfigError> {
        Ok(match file {
            Some(path) => flags.or(Self::load(path)?),
            None => flags,
        })
    }

    /// The data directory.
    ///
    /// # Errors
    /// [`ConfigError::Missing`].
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        required(self.data_dir.clone(), "data_dir", "data-dir", "relay")
    }

    /// Where others reach the relay, as far as the settings say: its socket is not bound yet.
    ///
    /// # Errors
    /// [`AddressError`] if `listen` leaves the port to the system and there is no `advertise`.
    pub fn advertised(&self) -> Result<RelayAddresses, AddressError> {
        match self.advertise {
            Some(addresses) => Ok(addresses),
            None => RelayAddresses::new([dialable(self.listen.unwrap_or(DEFAULT_LISTEN))]),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            network: self.network.or(other.network),
            bootstrap: self.bootstrap.or(other.bootstrap),
            bootstrap_file: self.bootstrap_file.or(other.bootstrap_file),
            lan: self.lan.or(other.lan),
            dht: self.dht.or(other.dht),
            dht_bootstrap: self.dht_bootstrap.or(other.dht_bootstrap),
            data_dir: self.data_dir.or(other.data_dir),
            listen: self.listen.or(other.listen),
            advertise: self.advertise.or(other.advertise),
            weight: self.weight.or(other.weight),
            family: self.family.or(other.family),
            exit_policy: self.exit_policy.or(other.exit_policy),
            congestion: self.congestion.or(other.congestion),
            memory: self.memory.or(other.memory),
            mailbox: self.mailbox.or(other.mailbox),
            mailbox_size: self.mailbox_size.or(other.mailbox_size),
            resolver: self.resolver.or(other.resolver),
            metrics: self.metrics.or(other.metrics),
            log: self.log.or(other.log),
        }
    }
}

impl MemorySize {
    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for MemorySize {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        parse_size(text).filter(|bytes| *bytes >= MIN_MEMORY).map(Self).ok_or_else(|| BadSize(text.to_owned()))
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let bytes: u64 = match unit.trim_start() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(bytes)
}

impl FromStr for NameServer {
    type Err = BadNameServer;

    fn from_str(text: &str) -> Result<Self, BadNameServer> {
        let with_port = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
        text.parse().or_else(|_| with_port()).map(Self).map_err(|_| BadNameServer(text.to_owned()))
    }
}

impl FromStr for Bootstrap {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        text.parse().map(Self)
    }
}

impl TryFrom<String> for Bootstrap {
    type Error = UriError;

    fn try_from(text: String) -> Result<Self, UriError> {
        text.parse()
    }
}

impl TryFrom<String> for MemorySize {
    type Error = BadSize;

    fn try_from(text: String) -> Result<Self, BadSize> {
        text.parse()
    }
}

impl TryFrom<String> for NameServer {
    type Error = BadNameServer;

    fn try_from(text: String) -> Result<Self, BadNameServer> {
        text.parse()
    }
}

#[cfg(test)]
mod tests;
