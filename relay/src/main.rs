//! `trefoil-relay`: the relay as a daemon. See docs/operator.md.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use rand::{SeedableRng, rngs::StdRng};
use serde::Serialize;
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
};
use tracing::info;
use trefoil_protocol::{entry::RelayEntry, uri::RelayUri};
use trefoil_relay::{
    clock,
    config::{Config, Settings},
    daemon::Daemon,
    family_file,
    leave::{Farewell, LeftFile},
    log, open_files,
    seed::seed,
    state::State,
    status,
    status_socket::Form,
};

/// Runs a Trefoil relay: it forwards other people's circuits, and connects to the outside as its exit policy allows.
#[derive(Parser)]
#[command(version, after_help = "Every setting of the file can be given as a flag; flags win. See docs/operator.md.")]
struct Arguments {
    /// The configuration, a TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print this relay's entry for a network file, and exit; makes the keys if there are none
    #[arg(long, group = "instead")]
    show_relay: bool,
    /// Print this relay's URI, for others to name it as `bootstrap`, and exit; makes the keys if there are none
    #[arg(long, group = "instead")]
    show_uri: bool,
    /// Tell how the relay that runs with this data directory is: what it knows, and what is wrong if something is
    #[arg(long, group = "instead")]
    status: bool,
    /// Leave the network for good: tell the other relays, so that nobody uses this one any more. Stop it first
    #[arg(long, group = "instead")]
    leave: bool,
    /// Make the key that all your relays share, in this new file, and exit; see `family`
    #[arg(long, value_name = "FILE", group = "instead")]
    make_family: Option<PathBuf>,
    /// With --status: print JSON, for programs
    #[arg(long, requires = "status")]
    json: bool,
    /// With --status: print it again every second, until Ctrl-C; the relay may be started later, or again
    #[arg(long, requires = "status")]
    follow: bool,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments {
        Arguments { make_family: Some(file), .. } => make_family(file),
        Arguments { show_relay: true, .. } | Arguments { show_uri: true, .. } => show(arguments),
        Arguments { status: true, .. } => show_status(arguments),
        Arguments { leave: true, .. } => leave(arguments),
        _ => run(arguments),
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

/// Prints what others need to know of this relay, as an entry of a network file or as a URI.
fn show(arguments: Arguments) -> anyhow::Result<()> {
    let settings = Settings::merged(arguments.config.as_deref(), arguments.settings)?;
    let addresses =
        settings.advertised().context("others need a fixed address and port: set `listen` or `advertise`")?;
    let state = open_state(&settings.data_dir()?)?;
    let relay = RelayEntry {
        id: state.identity.id(),
        onion_key: state.onion.present(),
        addresses,
        weight: settings.weight.unwrap_or_default(),
        exit: settings.exit_policy.unwrap_or_default(),
    };
    if arguments.show_uri {
        println!("{}", RelayUri::from(&relay));
    } else {
        print!("{}", toml::to_string(&Entries { relay: [relay] }).context("cannot write the entry")?);
    }
    Ok(())
}

/// Prints how the running relay is.
fn show_status(arguments: Arguments) -> anyhow::Result<()> {
    let directory = Settings::merged(arguments.config.as_deref(), arguments.settings)?.data_dir()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot ask")?;
    let form = if arguments.json { Form::Json } else { Form::Words };
    runtime.block_on(async {
        if arguments.follow {
            status::follow(&directory, form).await;
            return Ok(());
        }
        Ok(status::show(&directory, form).await?)
    })
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (config, runtime) = prepare(arguments)?;
    runtime.block_on(async {
        let stopped = first_signal()?;
        let daemon = Daemon::start(config, open_files::outlets(1)).await?;
        stopped.await;
        info!("stopping");
        daemon.stop().await;
        Ok(())
    })
}

/// Leaves, and prints what became of that.
fn leave(arguments: Arguments) -> anyhow::Result<()> {
    let (config, runtime) = prepare(arguments)?;
    let left = LeftFile::in_directory(&config.data_dir);
    let farewell = runtime.block_on(async {
        let stopped = first_signal()?;
        tokio::select! {
            farewell = Daemon::leave(config) => farewell.context("the relay has not left"),
            () = stopped => anyhow::bail!("interrupted: not all was told"),
        }
    })?;
    match farewell {
        Farewell::Unlisted | Farewell::Told(_) => {
            println!("{farewell}");
            println!(
                "{} keeps it from coming back by a restart: remove it to have it come back",
                left.path().display()
            );
            Ok(())
        }
        failed => anyhow::bail!("{failed}"),
    }
}

/// Makes a family key.
fn make_family(file: &Path) -> anyhow::Result<()> {
    family_file::make(file, &mut StdRng::from_seed(seed()))?;
    println!(
        "{} is the key of a new family: copy it to each of your relays, keep it from everybody else, and set `family` to it",
        file.display()
    );
    Ok(())
}

fn prepare(arguments: Arguments) -> anyhow::Result<(Config, Runtime)> {
    let config = Config::load(arguments.config.as_deref(), arguments.settings)?;
    start_log(&config.log)?;
    open_files::raise();
    Ok((config, runtime().context("cannot start threads")?))
}

/// A runtime with a thread for each core.
fn runtime() -> std::io::Result<Runtime> {
    runtime::Builder::new_multi_thread().enable_all().build()
}

fn open_state(directory: &Path) -> anyhow::Result<State> {
    Ok(State::open(directory, clock::now(), &mut StdRng::from_seed(seed()))?)
}

fn start_log(filter: &str) -> anyhow::Result<()> {
    log::start(filter)
        .ok()
        .with_context(|| format!("`log` = {filter:?} is no filter: use one like \"info\" or \"trefoil_relay=debug\""))
}

/// Ends at the first SIGTERM or SIGINT that comes from now on.
fn first_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_relay_has_a_thread_for_each_core() {
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(super::runtime().unwrap().metrics().num_workers(), cores);
    }
}
