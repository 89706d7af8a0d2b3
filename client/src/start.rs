//! Start: a client made of what the command line says.
//!
//! Specification: docs/user-guide.md. It says on standard error what the person should know of it.

use trefoil_protocol::relays::UsableRelay;
use trefoil_relay::{bootstrap_file, clock::Clock, dht::Dht, lan::Lan, network::NetworkFile, seed::seed};

use crate::{
    cli,
    commands::place::default_directory,
    guards,
    state::State,
    tunnel::{Client, Setup},
};

/// Starts a client that uses neither these relays nor what is near them.
///
/// # Errors
/// What is wrong with the command line, or with what is kept, and what to do.
pub fn client(network: NetworkFile, arguments: cli::Network, own: Vec<UsableRelay>) -> anyhow::Result<Client> {
    let state = match (&arguments.data_dir, arguments.no_state) {
        (_, true) => State::none(),
        (Some(directory), _) => State::open(directory)?,
        (None, _) => match default_directory(&network.params)? {
            Some(directory) => State::open(&directory)?,
            None => State::none(),
        },
    };
    if state.is_second() {
        eprintln!(
            "trefoil: another trefoil uses the same data directory: this one has its guards, and keeps nothing itself"
        );
    }
    let sockets = guards::system_sockets(&network.params, arguments.congestion);
    let NetworkFile { params, relays } = network;
    let in_file = match &arguments.bootstrap_file {
        Some(file) => bootstrap_file::load(file, &params)?,
        None => Vec::new(),
    };
    let named = arguments.bootstrap.into_iter().chain(in_file);
    let bootstrap = relays.into_iter().chain(named.map(Into::into)).collect();
    let new_guards = arguments.new_guards;
    let lan = if arguments.lan { Some(Lan::open()?) } else { None };
    let dht = arguments.dht.then(|| Dht::new(arguments.dht_bootstrap));
    let clock = Clock::System;
    let setup = Setup { params, bootstrap, own, sockets, clock, state, lan, dht, new_guards, seed: seed() };
    Ok(Client::start(setup)?)
}
