//! A network that finds itself: 30 relays and 5 clients that know one relay, which is then killed; and what becomes of
//! relays that are not as they should be.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trefoil_protocol::{identity::RelaySecret, limits::GARBAGE_MAX};
use trefoil_relay::{
    endpoint::{Congestion, Endpoint, LinkIdentity, LinkOptions},
    link::LinkError,
    network::NetworkFile,
    reason::CloseReason,
    sources::Loopback,
};
use trefoil_tests::process::{
    binaries::{self, installed},
    names::WEB,
    network::{RealClient, RealNetwork},
    program::{PATIENCE, Program, Signal},
    server::Server,
};
use zeroize::Zeroizing;

use crate::{LONG, alone, curl, socks5h};

const RELAYS: u8 = 30;
const CLIENTS: usize = 5;
/// Relays that are killed at once.
const KILLED: std::ops::RangeInclusive<u8> = 21..=30;
/// For all to find each other, as asked.
const FIND: Duration = Duration::from_secs(30);
/// A record of the test network lasts 30 s, and a set 10 s more.
const FORGET: Duration = Duration::from_secs(60);
/// For a request after relays died.
const NEXT_REQUEST: Duration = Duration::from_secs(5);

/// Fetches a page, on circuits of its own.
fn fetch(client: &RealClient, user: &str, port: u16) -> Duration {
    let started = Instant::now();
    let proxy = socks5h(client.address).replace("://", &format!("://{user}:@"));
    let ended = Program::run(curl(&proxy).arg(format!("http://{WEB}:{port}/1000")), LONG);
    assert_eq!((ended.code(), ended.stdout.len()), (0, 1000), "{}", ended.stderr);
    started.elapsed()
}

/// Lets each client fetch a page, all at once; the longest time.
fn fetch_each(clients: &[RealClient], user: &str, port: u16) -> Duration {
    thread::scope(|scope| {
        let fetching: Vec<_> = clients.iter().map(|client| scope.spawn(|| fetch(client, user, port))).collect();
        fetching.into_iter().map(|fetching| fetching.join().unwrap()).max().unwrap()
    })
}

#[test]
fn thirty_relays_and_five_clients_find_each_other_from_one_that_dies_and_outlive_ten_more() {
    let _alone = alone();
    let web = Server::web();
    let mut network = RealNetwork::start_from(RELAYS, 1);
    for relay in network.relays() {
        relay.line("this relay is listed", LONG);
    }
    let clients: Vec<_> = (0..CLIENTS).map(|_| network.proxy()).collect();
    fetch_each(&clients, "first", web.port());

    drop(network.take(1).stop(Signal::KILL));
    let others = usize::from(RELAYS) - 1;
    let took = network.wait_until(FIND, |relay| relay.usable >= others && relay.listed_until.is_some());
    println!("29 relays found each other after {took:?}");
    fetch_each(&clients, "second", web.port());

    let killed: Vec<_> = KILLED.map(|number| network.take(number)).collect();
    killed.iter().for_each(|relay| relay.signal(Signal::KILL));
    drop(killed);
    let took = fetch_each(&clients, "third", web.port());
    assert!(took < NEXT_REQUEST, "after ten relays were killed, a request took {took:?}");
    let left = others - KILLED.count();
    network.wait_until(FORGET, |relay| relay.known == left && relay.usable == left);
    fetch_each(&clients, "fourth", web.port());

    for number in KILLED {
        network.start_again(number);
    }
    network.wait_until(FORGET, |relay| relay.usable == others);
    fetch_each(&clients, "fifth", web.port());
}

/// A relay of nobody's test network: its directory, with a configuration for this network.
struct Stray {
    directory: TempDir,
    program: Program,
}

impl Stray {
    /// Starts a relay at `listen` which says that it is at `advertise`, under `wrapper`, with this identity or a new one.
    fn start(
        network: &RealNetwork,
        advertise: SocketAddr,
        listen: SocketAddr,
        wrapper: Wrapper,
        keys: Option<&Path>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "network = \"{}\"\ndata_dir = \"data\"\nlisten = \"{listen}\"\nadvertise = \"{advertise}\"\n",
            network.file().display()
        );
        let file = directory.path().join("relay.toml");
        fs::write(&file, config).unwrap();
        if let Some(keys) = keys {
            let mut show = binaries::relay();
            Program::run(show.arg("--config").arg(&file).arg("--show-relay"), PATIENCE); // makes the directory
            fs::copy(keys.join("identity.key"), directory.path().join("data/identity.key")).unwrap();
        }
        let mut command = wrapper(binaries::relay());
        Self { program: Program::start(command.arg("--config").arg(&file)), directory }
    }
}

type Wrapper = fn(Command) -> Command;

fn as_it_is(relay: Command) -> Command {
    relay
}

/// With a clock that is two hours behind.
fn behind(relay: Command) -> Command {
    let mut command = installed("faketime", "faketime");
    command.args(["-f", "-2h"]).arg(relay.get_program());
    command
}

/// An address of a machine of its own on loopback, with a port that is free now.
fn address(machine: u8) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, machine, 0, 1), 0)).unwrap();
    socket.local_addr().unwrap()
}

/// A relay that sends bytes which are no messages to relay 1, until it is dropped: why.
fn send_garbage(network: &RealNetwork) -> LinkError {
    let NetworkFile { params, relays } = NetworkFile::load(&network.file()).unwrap();
    let identity = LinkIdentity::Relay(Arc::new(RelaySecret::from_bytes(&Zeroizing::new([7; 32]))));
    let options = LinkOptions {
        identity,
        network: *params.id().as_bytes(),
        congestion: Congestion::default(),
        loopback: Loopback::Exempt,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let endpoint = Endpoint::bind(SocketAddr::from(([127, 103, 0, 1], 0)), &options).unwrap();
        let link = endpoint.dial(relays[0].id, relays[0].addresses.iter().next().unwrap()).await.unwrap();
        while !link.is_closed() {
            let Ok(mut stream) = link.open_directory().await else { break };
            let (mut answer, mut garbage) = stream.halves();
            let _ = garbage.write_all(&[0xff; 64]).await; // the relay may have dropped the stream already
            let _ = answer.read(&mut [0]).await;
            drop((answer, garbage));
            stream.finish();
        }
        link.closed().await
    })
}

#[test]
fn relays_that_are_not_as_they_should_be_are_told_so_and_harm_nobody() {
    let _alone = alone();
    let web = Server::web();
    let network = RealNetwork::start(6);
    let client = network.proxy();
    fetch(&client, "before", web.port());

    let late = Stray::start(&network, address(101), address(101), behind, None);
    late.program.line("this machine's clock is 120 minutes behind", LONG);

    let (closed, open) = (address(102), address(102));
    let hidden = Stray::start(&network, closed, open, as_it_is, None);
    hidden.program.line(&format!("UDP port {} is not reachable from outside", closed.port()), LONG);

    assert!(matches!(send_garbage(&network), LinkError::Closed(CloseReason::Protocol)));
    let counted = network.status(1).turned_away;
    assert!(counted["frame"] as f64 >= GARBAGE_MAX, "{counted:?}");

    network.relay(5).signal(Signal::STOP);
    fetch(&client, "beside one that is silent", web.port());
    network.relay(5).signal(Signal::CONT);

    let keys = network.relay_directory(4).join("data");
    let thief = Stray::start(&network, address(104), address(104), as_it_is, Some(&keys));
    thief.program.line("uses this relay's identity", LONG);
    network.relay(4).line("uses this relay's identity", LONG);

    // Five are left, and the one whose key is in two places is out of use.
    network.wait_until(FORGET, |relay| relay.usable == 5 && relay.known >= 5);
    fetch(&client, "after", web.port());
    for stray in [late, hidden, thief] {
        let (ended, _) = stray.program.stop(Signal::TERM);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        drop(stray.directory);
    }
}
