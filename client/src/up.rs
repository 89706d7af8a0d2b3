//! A relay beside the client, in one process: what `trefoil up --relay` adds to the proxy.
//!
//! Specification: docs/user-guide.md, "up", and docs/threat-model.md, "A relay beside the client". The two share the
//! process and nothing else: identity, sockets, links, seeds, view and files are each one's own, and neither asks the
//! other for anything. The client knows one thing of the relay, in memory only: whom it never uses.

use std::path::{Path, PathBuf};

use trefoil_protocol::{
    entry::RelayEntry, family::FamilyId, params::NetworkParams, relays::UsableRelay, usable::AgeClass,
};
use trefoil_relay::config::{Config, ConfigError, Settings};

use crate::{
    cli::{self, RelayFlags},
    state,
};

/// The relay's directory in that of the client.
const DIRECTORY: &str = "relay";

/// The configuration of the relay: that of its file, if there is one, of these flags, which win, and of the network that
/// the client is in.
///
/// # Errors
/// [`ConfigError`] says what to do.
pub fn relay_config(flags: RelayFlags, client: &cli::Network, params: &NetworkParams) -> Result<Config, ConfigError> {
    let RelayFlags { relay: _, relay_config, relay_data_dir, listen, advertise, exit_policy } = flags;
    let flags = Settings {
        network: Some(client.network.clone()),
        bootstrap_file: client.bootstrap_file.clone(),
        data_dir: relay_data_dir,
        listen,
        advertise,
        exit_policy,
        ..Settings::default()
    };
    let mut settings = Settings::merged(relay_config.as_deref(), flags)?;
    settings.data_dir = settings.data_dir.or_else(|| default_directory(client.data_dir.as_deref(), params));
    let mut config = Config::load(None, settings)?;
    config.bootstrap.extend(client.bootstrap.iter().copied());
    Ok(config)
}

/// Where the relay keeps its keys if nobody says otherwise. A network of local relays has no such place.
fn default_directory(client: Option<&Path>, params: &NetworkParams) -> Option<PathBuf> {
    let of_network = || if params.allow_loopback { None } else { state::default_directory(params) };
    client.map(Path::to_owned).or_else(of_network).map(|client| relay_directory(&client))
}

/// Where the relay is that runs beside the client with this data directory.
pub fn relay_directory(client: &Path) -> PathBuf {
    client.join(DIRECTORY)
}

/// The relay as a client must know it to use neither it nor what is near it.
pub fn own(entry: RelayEntry, family: Option<FamilyId>) -> UsableRelay {
    UsableRelay { entry, class: AgeClass::New, family }
}
