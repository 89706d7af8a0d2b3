//! `trefoil-relay`: the relay as a daemon. See docs/operator.md.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::Parser;
use rand::{SeedableRng, rngs::StdRng};
use serde::Serialize;
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};
use trefoil_protocol::entry::{RelayEntry, Weight};
use trefoil_relay::{
    clock::{self, Clock},
    config::{Config, Settings},
    data_dir::DataLock,
    log,
    metrics::MetricsListener,
    open_files,
    outside::Internet,
    relay::{Relay, Setup},
    seed::seed,
    state::State,
    status, status_socket,
    store::Store,
};

/// Runs a Trefoil relay: it forwards other people's circuits, and connects to the outside as its exit policy allows.
#[derive(Parser)]
#[command(version, after_help = "Every setting of the file can be given as a flag; flags win. See docs/operator.md.")]
struct Arguments {
    /// The configuration, a TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print this relay's entry for a network file, and exit; makes the keys if there are none
    #[arg(long)]
    show_relay: bool,
    /// Tell how the relay that runs with this data directory is: what it knows, and what is wrong if something is
    #[arg(long, conflicts_with = "show_relay")]
    status: bool,
    /// With --status: print JSON, for programs
    #[arg(long, requires = "status")]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.show_relay, arguments.status) {
        (true, _) => show(arguments),
        (false, true) => show_status(arguments),
        (false, false) => run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trefoil-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A network file's relays, as TOML.
#[derive(Serialize)]
struct Entries {
    relay: [RelayEntry; 1],
}

/// Prints the entry by which others know this relay.
fn show(arguments: Arguments) -> anyhow::Result<()> {
    let settings = Settings::merged(arguments.config.as_deref(), arguments.settings)?;
    let addresses =
        settings.advertised().context("others need a fixed address and port: set `listen` or `advertise`")?;
    let state = open_state(&settings.data_dir()?)?;
    let relay = RelayEntry {
        id: state.identity.id(),
        onion_key: state.onion.present(),
        addresses,
        weight: Weight::default(),
        exit: settings.exit_policy.unwrap_or_default(),
    };
    print!("{}", toml::to_string(&Entries { relay: [relay] }).context("cannot write the entry")?);
    Ok(())
}

/// Prints how the running relay is.
fn show_status(arguments: Arguments) -> anyhow::Result<()> {
    let directory = Settings::merged(arguments.config.as_deref(), arguments.settings)?.data_dir()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot ask")?;
    let status = runtime.block_on(status::ask(&directory))?;
    if arguments.json {
        println!("{}", status_socket::to_json(&status));
    } else {
        print!("{status}");
    }
    Ok(())
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = Config::load(arguments.config.as_deref(), arguments.settings)?;
    start_log(&config.log)?;
    open_files::raise();
    runtime().context("cannot start threads")?.block_on(async {
        let (relay, _lock) = start(config).await?;
        wait_for_signal().await?;
        info!("stopping");
        relay.stop().await;
        Ok(())
    })
}

/// A runtime with a thread for each core.
fn runtime() -> std::io::Result<Runtime> {
    runtime::Builder::new_multi_thread().enable_all().build()
}

/// Starts the relay; the lock holds its data directory.
async fn start(config: Config) -> anyhow::Result<(Relay, DataLock)> {
    let state = open_state(&config.data_dir)?;
    let metrics = match config.metrics {
        Some(address) => Some(listen_for_metrics(address).await?),
        None => None,
    };
    let outside = Internet::new(&config.resolver).context("cannot read the system's resolver configuration")?;
    let setup = Setup {
        params: config.network.params.clone(),
        identity: Arc::new(state.identity),
        onion: state.onion,
        exit: config.exit_policy.clone(),
        outside: Arc::new(outside),
        outlets: open_files::outlets(1),
        memory: config.memory.bytes(),
        congestion: config.congestion,
        clock: Clock::System,
        store: Store::new(&config.data_dir),
        seed: seed(),
    };
    let bound = setup.bind(config.listen)?;
    let address = bound.local_address().context("the socket has no address")?;
    let entry = bound.entry(config.addresses(address)?);
    let network = &config.network.params;
    let bootstrap: Vec<_> = config.bootstrap();
    let others = bootstrap.iter().filter(|relay| relay.id != entry.id).count();
    info!(relay = %entry.id, %address, network = %network.name, network_id = %network.id().short(), bootstrap = others, "relay started");
    if others == 0 {
        info!("no other relay is named in the network file or as `bootstrap`: this one waits to be found");
    }
    let relay = bound.start(entry.addresses, bootstrap);
    metrics.into_iter().for_each(|listener| relay.serve_metrics(listener));
    Ok((relay, state.lock))
}

async fn listen_for_metrics(address: SocketAddr) -> anyhow::Result<MetricsListener> {
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

fn open_state(directory: &Path) -> anyhow::Result<State> {
    Ok(State::open(directory, clock::now(), &mut StdRng::from_seed(seed()))?)
}

fn start_log(filter: &str) -> anyhow::Result<()> {
    log::start(filter)
        .ok()
        .with_context(|| format!("`log` = {filter:?} is no filter: use one like \"info\" or \"trefoil_relay=debug\""))
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_relay_has_a_thread_for_each_core() {
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(super::runtime().unwrap().metrics().num_workers(), cores);
    }
}
