//! Configuration: what a relay's operator says, in a TOML file and in flags.
//!
//! Specification: docs/operator.md, "Configuration". Flags win over the file. Unknown keys are errors; paths in the
//! file are relative to its directory. All values are checked here, before anything is started or made.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;
use trefoil_protocol::{
    entry::{AddressError, RelayAddresses, RelayEntry},
    params::NetworkParams,
    policy::ExitPolicy,
    uri::{RelayUri, UriError},
};

use crate::{
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
    /// Where the relay keeps its keys; made on first start
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The UDP address to listen on [default: 0.0.0.0:9001]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// The public address, or one of each family with a comma between, when it is not the one listened on
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Option<RelayAddresses>,
    /// What to connect to for others: rules like "accept *:80,443" with ; between [default: nothing]
    #[arg(long, value_name = "RULES")]
    pub exit_policy: Option<ExitPolicy>,
    /// The congestion control of links [default: cubic]
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<Congestion>,
    /// How much memory circuits may take together, like "512 MiB" [default: 512 MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<MemorySize>,
    /// Name servers to ask, with commas between [default: the system's]
    #[arg(long, value_name = "IP[:PORT]", value_delimiter = ',')]
    pub resolver: Option<Vec<NameServer>>,
    /// What to log [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// A relay's configuration, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The network, read from its file.
    pub network: NetworkFile,
    /// Relays that are named besides those of the network file.
    pub bootstrap: Vec<RelayUri>,
    /// Where the relay keeps its keys.
    pub data_dir: PathBuf,
    /// The UDP address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The addresses at which others reach the relay; `None` for the one that it listens on.
    pub advertise: Option<RelayAddresses>,
    /// What the relay connects to for others.
    pub exit_policy: ExitPolicy,
    /// The congestion control of links.
    pub congestion: Congestion,
    /// How much memory circuits may take together.
    pub memory: MemorySize,
    /// Name servers to ask; empty for the system's.
    pub resolver: Vec<SocketAddr>,
    /// What to log, in the words of `tracing_subscriber::EnvFilter`.
    pub log: String,
}

/// An amount of memory in bytes; as text a whole number of KiB, MiB or GiB, at least [`MIN_MEMORY`].
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

/// The text is not an amount of memory.
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
        let config = Self {
            data_dir,
            network: NetworkFile::load(&network)?,
            bootstrap: settings.bootstrap.unwrap_or_default().into_iter().map(|Bootstrap(uri)| uri).collect(),
            listen: settings.listen.unwrap_or(DEFAULT_LISTEN),
            advertise: settings.advertise,
            exit_policy: settings.exit_policy.unwrap_or_default(),
            congestion: settings.congestion.unwrap_or_default(),
            memory: settings.memory.unwrap_or(DEFAULT_MEMORY),
            resolver: settings.resolver.unwrap_or_default().into_iter().map(|NameServer(address)| address).collect(),
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
        for relative in [&mut settings.network, &mut settings.data_dir].into_iter().flatten() {
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
            data_dir: self.data_dir.or(other.data_dir),
            listen: self.listen.or(other.listen),
            advertise: self.advertise.or(other.advertise),
            exit_policy: self.exit_policy.or(other.exit_policy),
            congestion: self.congestion.or(other.congestion),
            memory: self.memory.or(other.memory),
            resolver: self.resolver.or(other.resolver),
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
mod tests {
    use clap::Parser;
    use tempfile::TempDir;

    use super::*;

    /// A directory with a network file of these parameters and a configuration of this text.
    fn files(params: &NetworkParams, text: &str) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let network = NetworkFile { params: params.clone(), relays: Vec::new() };
        network.save(&dir.path().join("network.toml")).unwrap();
        let path = dir.path().join("relay.toml");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn testnet() -> NetworkParams {
        NetworkParams::testnet("box".parse().unwrap())
    }

    fn load(params: &NetworkParams, text: &str) -> Result<Config, ConfigError> {
        let (_dir, path) = files(params, text);
        Config::load(Some(&path), Settings::default())
    }

    fn with(line: &str) -> String {
        format!("network = \"network.toml\"\ndata_dir = \"data\"\n{line}\n")
    }

    fn refusal(params: &NetworkParams, text: &str) -> String {
        load(params, text).unwrap_err().to_string()
    }

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        settings: Settings,
    }

    fn flags(line: &str) -> Result<Settings, clap::Error> {
        Flags::try_parse_from(["relay"].into_iter().chain(line.split('|'))).map(|flags| flags.settings)
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let config = load(&testnet(), &with("")).unwrap();
        assert_eq!(config.listen, DEFAULT_LISTEN);
        assert!(!config.exit_policy.is_exit() && config.resolver.is_empty() && config.advertise.is_none());
        assert_eq!((config.congestion, config.memory.bytes()), (Congestion::Cubic, 512 << 20));
        assert_eq!(config.log, "info");
    }

    #[test]
    fn bootstrap_relays_come_from_the_file_and_from_flags_which_win() {
        let uri = |port: u16| {
            let id = "aoqqpp7tzyil4hlq3umoos6atft6jvrqtosq2xy53sdgiesvgg4plfau";
            let onion = "r5amllnwr4swesxfwikou5t2n3eu3au5hv5v4gwrxjxt4ijyfbpqoqnz";
            format!("trefoil-relay:{id}@127.1.0.1:{port},[::1]:9001?onion={onion}")
        };
        let text = with(&format!("bootstrap = [\"{}\"]", uri(1)));
        let bootstrap = |config: Config| config.bootstrap().iter().map(|relay| relay.addresses).collect::<Vec<_>>();
        let listed = |port| vec![format!("127.1.0.1:{port},[::1]:9001").parse().unwrap()];
        assert_eq!(bootstrap(load(&testnet(), &text).unwrap()), listed(1));
        let (_dir, path) = files(&testnet(), &text);
        let flags = flags(&format!("--bootstrap|{}", uri(2))).unwrap();
        assert_eq!(bootstrap(Config::load(Some(&path), flags).unwrap()), listed(2));
        assert!(refusal(&testnet(), &with("bootstrap = [\"trefoil-relay:x\"]")).contains("bootstrap"));
    }

    #[test]
    fn everything_can_be_set_in_the_file() {
        let text = with(
            "listen = \"127.1.0.1:0\"\nadvertise = \"127.1.0.1:9001,[::1]:9001\"\ncongestion = \"bbr\"\n\
             memory = \"64 MiB\"\nresolver = [\"127.0.0.53\", \"[::1]:5353\"]\nlog = \"debug\"\n\
             exit_policy = [\"reject *:25\", \"accept *:*\"]",
        );
        let (dir, path) = files(&testnet(), &text);
        let config = Config::load(Some(&path), Settings::default()).unwrap();
        assert_eq!(config.network.params, testnet());
        assert_eq!(config.data_dir, dir.path().join("data"));
        assert_eq!(config.listen, "127.1.0.1:0".parse().unwrap());
        assert_eq!(config.advertise, Some("127.1.0.1:9001,[::1]:9001".parse().unwrap()));
        assert_eq!(config.exit_policy, "reject *:25; accept *:*".parse().unwrap());
        assert_eq!((config.congestion, config.memory.bytes()), (Congestion::Bbr, 64 << 20));
        assert_eq!(config.resolver, ["127.0.0.53:53", "[::1]:5353"].map(|text| text.parse().unwrap()));
        assert_eq!(config.log, "debug");
    }

    #[test]
    fn flags_win_over_the_file() {
        let (dir, path) = files(&testnet(), &with("log = \"warn\"\nmemory = \"64 MiB\"\nlisten = \"127.1.0.1:1\""));
        let line = "--memory|1 GiB|--exit-policy|accept *:80; accept *:443|--resolver|127.0.0.1:5,::1|--data-dir|/tmp/x\
                    |--listen|127.2.0.1:2|--advertise|127.2.0.1:3|--congestion|bbr";
        let config = Config::load(Some(&path), flags(line).unwrap()).unwrap();
        assert_eq!((config.memory.bytes(), config.log.as_str()), (1 << 30, "warn"));
        assert_eq!(config.exit_policy, "accept *:80; accept *:443".parse().unwrap());
        assert_eq!(config.resolver, ["127.0.0.1:5", "[::1]:53"].map(|text| text.parse().unwrap()));
        assert_eq!((config.data_dir, config.listen), ("/tmp/x".into(), "127.2.0.1:2".parse().unwrap()));
        assert_eq!(config.congestion, Congestion::Bbr);
        let network = dir.path().join("network.toml").into_os_string().into_string().unwrap();
        let alone = Config::load(None, flags(&format!("--network|{network}|--data-dir|d")).unwrap()).unwrap();
        assert_eq!(alone.data_dir, Path::new("d"));
    }

    #[test]
    fn a_bad_flag_is_refused_by_name() {
        for line in ["--memory|5", "--listen|x", "--exit-policy|allow *", "--resolver|x", "--advertise|1.1.1.1"] {
            let (flag, value) = line.split_once('|').unwrap();
            let words = flags(line).unwrap_err().to_string();
            assert!(words.contains(flag) && words.contains(value), "{words}");
        }
    }

    #[test]
    fn a_bad_line_is_named_with_its_file_and_number() {
        let lines = [
            "colour = \"red\"",
            "listen = \"here\"",
            "advertise = \"192.0.2.7\"",
            "exit_policy = [\"allow *:80\"]",
            "exit_policy = \"accept *:80\"",
            "congestion = \"reno\"",
            "memory = \"5 parsecs\"",
            "memory = 5",
            "resolver = [\"dns.example\"]",
            "log = 3",
            "listen",
        ];
        for line in lines {
            let words = refusal(&testnet(), &with(line));
            assert!(words.contains("relay.toml: ") && words.contains("line 3"), "{words}");
            assert!(words.contains(line), "{words}");
        }
        assert!(refusal(&testnet(), &with("colour = 1")).contains("unknown field `colour`"));
    }

    #[test]
    fn a_bad_rule_is_named_among_good_ones() {
        let words = refusal(&testnet(), &with("exit_policy = [\n  \"accept *:80\",\n  \"accept 10.0.0.1/8:1\",\n]"));
        assert!(words.contains("line 3") && words.contains("the network is 10.0.0.0/8"), "{words}");
    }

    #[test]
    fn what_has_no_default_is_asked_for() {
        let words = refusal(&testnet(), "network = \"network.toml\"");
        assert!(words.contains("data_dir = \"relay\"") && words.contains("--data-dir"), "{words}");
        assert!(refusal(&testnet(), "data_dir = \"data\"").contains("--network"));
    }

    #[test]
    fn missing_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere.toml");
        let words = Config::load(Some(&nowhere), Settings::default()).unwrap_err().to_string();
        assert!(words.contains("nowhere.toml"), "{words}");
        assert!(refusal(&testnet(), "network = \"other.toml\"\ndata_dir = \"data\"").contains("other.toml"));
    }

    #[test]
    fn a_public_network_needs_a_public_address() {
        let main = NetworkParams::main();
        assert!(matches!(load(&main, &with("")), Err(ConfigError::Wildcard(_))));
        assert!(matches!(load(&main, &with("listen = \"[::]:1\"")), Err(ConfigError::Wildcard(_))));
        let words = refusal(&main, &with("listen = \"192.168.1.2:9001\""));
        assert!(words.contains("`listen` = 192.168.1.2:9001") && words.contains("\"main\""), "{words}");
        let words = refusal(&main, &with("advertise = \"1.1.1.1:1,[fd00::1]:1\""));
        assert!(words.contains("`advertise` = [fd00::1]:1"), "{words}");
        assert!(load(&main, &with("listen = \"1.1.1.1:9001\"")).is_ok());
        assert!(load(&main, &with("listen = \"192.168.1.2:9001\"\nadvertise = \"1.1.1.1:9001\"")).is_ok());
    }

    #[test]
    fn a_testnet_takes_the_address_that_was_bound() {
        let config = load(&testnet(), &with("")).unwrap();
        let addresses = |bound: &str| config.addresses(bound.parse().unwrap()).map(|all| all.to_string());
        assert_eq!(addresses("0.0.0.0:77").unwrap(), "127.0.0.1:77");
        assert_eq!(addresses("[::]:77").unwrap(), "[::1]:77");
        assert_eq!(addresses("127.5.0.1:77").unwrap(), "127.5.0.1:77");
        assert!(addresses("127.5.0.1:0").is_err());
        let advertised = load(&testnet(), &with("advertise = \"127.9.0.1:9\"")).unwrap();
        assert_eq!(advertised.addresses("0.0.0.0:77".parse().unwrap()).unwrap().to_string(), "127.9.0.1:9");
    }

    #[test]
    fn sizes_have_a_number_and_a_unit() {
        for (text, bytes) in [("32 MiB", 32 << 20), ("40000KiB", 40_000 << 10), ("2 GiB", 2 << 30)] {
            assert_eq!(text.parse::<MemorySize>().map(MemorySize::bytes), Ok(bytes));
        }
        for text in
            ["", "5", "MiB", "31 MiB", "1.5 GiB", "-1 GiB", "1 GB", "512 mib", "99999999999 GiB", " 1 GiB", "1 GiB "]
        {
            assert_eq!(text.parse::<MemorySize>(), Err(BadSize(text.to_owned())), "{text}");
        }
    }
}
