//! The daemon: a relay made of its configuration, with its data directory and its metrics.
//!
//! Specification: docs/operator.md. The programs `trefoil-relay` and `trefoil up --relay` run the same one. Seeds come
//! from the system here, one for each use.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use hickory_resolver::net::NetError;
use rand::{SeedableRng, rngs::StdRng};
use tracing::{info, warn};
use trefoil_protocol::{
    entry::{AddressError, RelayEntry},
    family::{Family, FamilyId},
    identity::{RelayId, RelaySecret},
};

use crate::{
    clock::{self, Clock},
    config::Config,
    data_dir::DataLock,
    dht::Dht,
    directory::aside,
    family_file::{self, FamilyError},
    lan::{Lan, LanError},
    leave::{Farewell, LeftFile},
    mailbox::{MAILBOX_FILE, Mailbox, Terms},
    metrics::{MetricsError, MetricsListener},
    open_files,
    outside::Internet,
    relay::{Relay, Setup, Statement},
    seed::seed,
    socket::BindError,
    state::{State, StateError},
    store::Store,
};

/// A running relay that holds its data directory.
pub struct Daemon {
    relay: Relay,
    entry: RelayEntry,
    family: Option<FamilyId>,
    _lock: DataLock,
}

/// Why a relay does not start, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its data directory is of no use.
    #[error(transparent)]
    State(#[from] StateError),
    /// It has left.
    #[error(
        "this relay has left its network for good, says {}: to have it come back, remove that file; to tell others once \
         more that it leaves, run it with --leave", .0.display()
    )]
    Left(PathBuf),
    /// That it leaves cannot be kept.
    #[error("cannot write {}, and so nothing was said: {cause}", path.display())]
    Leave {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Its family's key is of no use.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// Metrics cannot be offered where they should be.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Beacons cannot be listened for.
    #[error(transparent)]
    Lan(#[from] LanError),
    /// Names cannot be resolved.
    #[error("cannot read the system's resolver configuration: {0}")]
    Resolver(NetError),
    /// Its UDP address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Others could not dial where it listens.
    #[error("its socket has no address that others can dial: {0}")]
    Address(#[from] AddressError),
    /// The system does not tell where it listens.
    #[error("its socket has no address: {0}")]
    Socket(std::io::Error),
}

/// Whether a relay comes or goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Here,
    Leaving,
}

impl Daemon {
    /// Starts the relay, which may have so many sockets open to the outside: see [`open_files::outlets`]. Must be called
    /// within a runtime.
    ///
    /// # Errors
    /// [`DaemonError`] says what to do.
    pub async fn start(config: Config, outlets: usize) -> Result<Self, DaemonError> {
        Self::set_out(config, outlets, Way::Here).await
    }

    /// Has the relay leave its network for good: runs it until others know, and ends it.
    ///
    /// # Errors
    /// [`DaemonError`] says what to do; nothing was said then.
    pub async fn leave(config: Config) -> Result<Farewell, DaemonError> {
        let left = LeftFile::in_directory(&config.data_dir);
        let daemon = Self::set_out(config, open_files::outlets(1), Way::Leaving).await?;
        let farewell = match left.make() {
            Ok(()) => Ok(daemon.relay.say_farewell().await), // what is not kept in mind is not said
            Err(cause) => Err(DaemonError::Leave { path: left.path().to_owned(), cause }),
        };
        daemon.stop().await;
        farewell
    }

    /// Its name.
    pub fn id(&self) -> RelayId {
        self.relay.id()
    }

    /// As others know it, at its start.
    pub fn entry(&self) -> &RelayEntry {
        &self.entry
    }

    /// The family that it is in.
    pub fn family(&self) -> Option<FamilyId> {
        self.family
    }

    /// Stops it: see [`Relay::stop`].
    pub async fn stop(self) {
        self.relay.stop().await;
    }

    async fn set_out(config: Config, outlets: usize, way: Way) -> Result<Self, DaemonError> {
        let state = State::open(&config.data_dir, clock::now(), &mut StdRng::from_seed(seed()))?;
        let left = LeftFile::in_directory(&config.data_dir);
        if way == Way::Here && left.is_there() {
            return Err(DaemonError::Left(left.path().to_owned()));
        }
        let metrics = match config.metrics {
            Some(address) => Some(listen_for_metrics(address).await?),
            None => None,
        };
        let identity = Arc::new(state.identity);
        let family = family_of(&config, identity.id())?;
        let setup = Setup {
            params: config.network.params.clone(),
            identity: Arc::clone(&identity),
            onion: state.onion,
            exit: config.exit_policy.clone(),
            statement: Statement { weight: config.weight, family, leaving: way == Way::Leaving },
            mailbox: if way == Way::Here { open_mailbox(&config, &identity) } else { None },
            outside: Arc::new(Internet::new(&config.resolver).map_err(DaemonError::Resolver)?),
            outlets,
            memory: config.memory.bytes(),
            congestion: config.congestion,
            clock: Clock::System,
            store: Store::new(&config.data_dir),
            seed: seed(),
        };
        let bound = setup.bind(config.listen)?;
        let address = bound.local_address().map_err(DaemonError::Socket)?;
        let entry = bound.entry(config.addresses(address)?);
        let bootstrap = config.bootstrap();
        tell_of_start(&config, &entry, address, &bootstrap);
        let lan = if config.lan { Some(Lan::open()?) } else { None };
        let relay = bound.start(entry.addresses, bootstrap);
        lan.into_iter().for_each(|lan| relay.find_on_lan(lan));
        metrics.into_iter().for_each(|listener| relay.serve_metrics(listener));
        config.dht.into_iter().for_each(|nodes| relay.find_by_dht(Dht::new(nodes)));
        Ok(Self { relay, entry, family: family.map(|family| family.id), _lock: state.lock })
    }
}

/// What the family's key says of this relay; the key itself is not needed any more.
fn family_of(config: &Config, relay: RelayId) -> Result<Option<Family>, FamilyError> {
    let family = config.family.as_deref().map(family_file::load).transpose()?;
    Ok(family.map(|family| family.take_in(&config.network.params.id(), &relay)))
}

/// The mailboxes that the configuration asks for, if they can be used: a relay without them is of use all the same.
fn open_mailbox(config: &Config, identity: &RelaySecret) -> Option<Mailbox> {
    let size = config.mailbox?.bytes();
    let identity = RelaySecret::from_bytes(&identity.to_bytes());
    let terms = Terms { network: config.network.params.id(), identity, size, rebate: 0 };
    match aside(|| Mailbox::open(&config.data_dir.join(MAILBOX_FILE), terms)) {
        Ok(mailbox) => Some(mailbox),
        Err(error) => {
            warn!(%error, "this relay keeps no letters, and does all else: mend this and start it again, or set `mailbox = false`");
            None
        }
    }
}

fn tell_of_start(config: &Config, entry: &RelayEntry, address: SocketAddr, bootstrap: &[RelayEntry]) {
    let network = &config.network.params;
    let others = bootstrap.iter().filter(|relay| relay.id != entry.id).count();
    info!(relay = %entry.id, %address, network = %network.name, network_id = %network.id().short(), bootstrap = others, "relay started");
    if others == 0 && config.dht.is_none() && !config.lan {
        info!("no other relay is named in the network file or as `bootstrap`: this one waits to be found");
    }
}

async fn listen_for_metrics(address: SocketAddr) -> Result<MetricsListener, MetricsError> {
    let listener = MetricsListener::bind(address).await?;
    info!("metrics are at http://{}/metrics", listener.local_address());
    if !address.ip().to_canonical().is_loopback() {
        warn!(
            "`metrics` = {address} is not a loopback address: whoever can reach it sees how much this relay does, and \
             when; let nobody but your monitoring system reach it"
        );
    }
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use trefoil_protocol::params::NetworkParams;

    use super::*;
    use crate::{config::Settings, network::NetworkFile};

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_is_left_alone_and_the_relay_does_all_but_keep_letters() {
        let dir = tempfile::tempdir().unwrap();
        let network = dir.path().join("network.toml");
        let params = NetworkParams::testnet("box".parse().unwrap());
        NetworkFile { params, relays: Vec::new() }.save(&network).unwrap();
        let settings =
            Settings { network: Some(network), data_dir: Some(dir.path().to_owned()), ..Settings::default() };
        let config = Config::load(None, settings).unwrap();
        let identity = RelaySecret::generate(&mut StdRng::seed_from_u64(1));
        let file = dir.path().join(MAILBOX_FILE);
        fs::create_dir(&file).unwrap();
        assert!(open_mailbox(&config, &identity).is_none());
        assert!(file.is_dir() && fs::read_dir(dir.path()).unwrap().count() == 2, "nothing is set aside");
        fs::remove_dir(&file).unwrap();
        let opened = open_mailbox(&config, &identity);
        assert!(opened.is_some());
        assert!(open_mailbox(&config, &identity).is_none(), "another relay has it");
        drop(opened);
        assert!(open_mailbox(&config, &identity).is_some());
        assert!(open_mailbox(&Config { mailbox: None, ..config }, &identity).is_none());
    }
}
