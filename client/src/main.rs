//! `trefoil`: the client as a program. See docs/user-guide.md.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trefoil_client::{
    cli::{self, Arguments, Command},
    commands::{self, Ended},
    demo,
    forward::Forward,
    home::Home,
    proxy::{Exposure, Proxy},
    start, status, target,
    testnet::Testnet,
    up,
};
use trefoil_relay::{daemon::Daemon, log, network::NetworkFile, open_files};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(ended) => ExitCode::from(ended.code()),
        Err(error) => {
            eprintln!("trefoil: {error:#}");
            ExitCode::from(commands::code_of(&error))
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<Ended> {
    start_log(&arguments.log)?;
    open_files::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let done = runtime.block_on(async {
        let shutdown = on_signal()?;
        let done = match arguments.command {
            Command::Letters(command) => return commands::run(command, &shutdown).await,
            Command::Demo(arguments) => demo::run(&arguments, &shutdown).await,
            Command::Testnet(arguments) => testnet(arguments, &shutdown).await,
            Command::Proxy(proxy) => up(cli::Up::only(proxy), shutdown).await,
            Command::Up(arguments) => up(arguments, shutdown).await,
            Command::Forward(arguments) => forward(arguments, shutdown).await,
        };
        done.map(|()| Ended::Done)
    });
    runtime.shutdown_background(); // whatever still runs has been told to end, and has nothing to lose
    done
}

async fn testnet(arguments: cli::Testnet, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let place = Place::of(arguments.dir, arguments.network)?;
    let testnet = tokio::select! {
        started = Testnet::start(arguments.relays) => started?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let file = place.file();
    testnet.file().save(&file)?;
    let shown = file.display();
    say(&format!(
        "{} relays are running. Their network file is {shown}\n\n\
         In a second terminal:\n  \
         trefoil proxy --network {shown} --socks 127.0.0.1:9150\n\
         In a third:\n  \
         curl -x socks5h://127.0.0.1:9150 http://127.0.0.1:PORT/    (its relays exit to this machine only)\n\n\
         Ctrl-C ends the network.",
        arguments.relays
    ));
    shutdown.cancelled().await;
    testnet.stop().await;
    say("The network has ended.");
    Ok(())
}

async fn up(arguments: cli::Up, shutdown: CancellationToken) -> anyhow::Result<()> {
    let cli::Up { proxy: arguments, relay, whose } = arguments;
    let exposure = if arguments.expose { Exposure::Everybody } else { Exposure::Loopback };
    let network = NetworkFile::load(&arguments.network.network)?;
    let relay = match relay.wanted() {
        true => Some(up::relay_config(relay, &arguments.network, &network.params)?),
        false => None,
    };
    let proxy = Proxy::bind(arguments.socks, exposure).await?;
    let daemon = match relay {
        Some(config) => Some(Daemon::start(config, open_files::outlets(2)).await?), // the proxy has the other half
        None => None,
    };
    let own = daemon.iter().map(|daemon| up::own(daemon.entry().clone(), daemon.family())).collect();
    let letters = Home::wanted(&whose, &arguments.network, &network)?;
    let client = start::client(network, arguments.network, own)?;
    if let Some(daemon) = &daemon {
        say(&format!("relay {} is at {}", daemon.id(), daemon.entry().addresses));
    }
    say(&format!("listening on {} for SOCKS5, SOCKS4a and HTTP CONNECT", proxy.local_addr()));
    let home = letters.map(|letters| letters.move_in(client.clone()));
    let served = async {
        let Some(home) = home else { return Ok(()) };
        say(&format!("letters of the profile \"{}\" come and go", home.profile()));
        home.serve(shutdown.clone()).await
    };
    let (_, _, served) = tokio::join!(
        proxy.run(client.clone(), shutdown.clone()),
        status::serve(client.clone(), shutdown.clone()),
        served
    );
    let stop = async {
        if let Some(daemon) = daemon {
            daemon.stop().await;
        }
    };
    tokio::join!(client.close(), stop); // each may take most of the time that a person waits
    served
}

async fn forward(arguments: cli::Forward, shutdown: CancellationToken) -> anyhow::Result<()> {
    let target = target::parse(&arguments.target).with_context(|| format!("{:?} is no target", arguments.target))?;
    let network = NetworkFile::load(&arguments.network.network)?;
    let forward = Forward::bind(arguments.port, target).await?;
    let client = start::client(network, arguments.network, Vec::new())?;
    say(&format!("listening on {}, forwarding to {}", forward.local_addr(), arguments.target));
    tokio::join!(forward.run(client.clone(), shutdown.clone()), status::serve(client.clone(), shutdown));
    client.close().await;
    Ok(())
}

/// Where a testnet's network file goes.
enum Place {
    Given(PathBuf),
    Own(PathBuf),
}

impl Place {
    fn of(directory: Option<PathBuf>, file: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(file) = file {
            return Ok(Self::Given(file));
        }
        let (directory, own) = match directory {
            Some(directory) => (directory, false),
            None => (std::env::temp_dir().join(format!("trefoil-testnet-{}", std::process::id())), true),
        };
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let directory = directory.canonicalize().with_context(|| format!("cannot use {}", directory.display()))?;
        Ok(if own { Self::Own(directory) } else { Self::Given(directory.join("network.toml")) })
    }

    fn file(&self) -> PathBuf {
        match self {
            Self::Given(file) => file.clone(),
            Self::Own(directory) => directory.join("network.toml"),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Own(directory) = self {
            let _ = std::fs::remove_dir_all(directory); // what is left is in the system's temporary directory
        }
    }
}

/// Cancelled by the first SIGINT or SIGTERM. A second SIGINT ends the process at once.
fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
        interrupt.recv().await;
        std::process::exit(130);
    });
    Ok(token)
}

fn start_log(filter: &str) -> anyhow::Result<()> {
    log::start(filter)
        .ok()
        .with_context(|| format!("--log {filter:?} is no filter: use one like \"info\" or \"trefoil_client=debug\""))
}

/// A line for the person, which another program may wait for. Nobody reading it is no reason to end.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
