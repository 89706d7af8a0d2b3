//! Scenarios of a node that is both a relay and a client, at one address: nothing but the address ties them together.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use tokio::time::sleep;
use trefoil_client::{state::State, tunnel::Client};
use trefoil_protocol::{entry::RelayEntry, ip::netgroup};

use super::{
    gossip_tests::{await_all, plan, settled, until},
    hello::connection_ids,
    nodes::{SimNetwork, relay_address},
    outside::ECHO,
    transfer_tests::{echo, isolation, open},
    udp::Seen,
};

const SOON: Duration = Duration::from_secs(60);
/// The relay that a client runs beside, and the first port of that client.
const RELAY: u8 = 5;
const FIRST_PORT: u16 = 20_000;

/// A network whose relays know each other, and all of whose packets are watched.
async fn watched(seed: u64, relays: u8) -> SimNetwork {
    let network = plan(seed, relays).start();
    network.net.watch();
    await_all(&network, relays).await;
    network
}

fn named(network: &SimNetwork) -> Vec<RelayEntry> {
    network.entries()[..2].to_vec()
}

/// Whether a packet is the client's, by its port.
fn is_clients(sent: &Seen) -> bool {
    sent.from.port() >= FIRST_PORT
}

fn guards(network: &SimNetwork, client: &Client) -> BTreeSet<SocketAddr> {
    let names = client.status().guards;
    let is_guard = |entry: &&RelayEntry| names.contains(&entry.id.short());
    network.entries().iter().filter(is_guard).flat_map(|entry| entry.addresses.iter()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_beside_a_relay_speaks_from_ports_and_over_links_of_its_own_to_its_guards_alone() {
    let (network, dir) = (watched(1, 12).await, tempfile::tempdir().unwrap());
    let path = dir.path().join("client");
    let client = network.client_beside(RELAY, FIRST_PORT, named(&network), State::open(&path).unwrap());
    until(SOON, "the client knows all, its own relay, too", || client.status().usable == 12).await;
    echo(&mut open(&client, &isolation(0), ECHO).await, b"hello").await;
    client.close().await;

    let client = network.client_beside(RELAY, FIRST_PORT + 1000, named(&network), State::open(&path).unwrap());
    for number in 0..6 {
        echo(&mut open(&client, &isolation(number), ECHO).await, b"hello").await;
        sleep(Duration::from_secs(10)).await; // an epoch each: the directory is asked, and the relay gossips
    }
    let seen = network.net.watch().into_iter().filter(|sent| sent.from.ip() == relay_address(RELAY).ip());
    let (clients, relays): (Vec<_>, Vec<_>) = seen.partition(is_clients);
    let later: BTreeSet<_> =
        clients.iter().filter(|sent| sent.from.port() >= FIRST_PORT + 1000).map(|s| s.to).collect();
    assert!(later.is_subset(&guards(&network, &client)), "a client that has guards speaks to them alone: {later:?}");
    assert!(
        !clients.is_empty() && clients.iter().all(|sent| sent.to != relay_address(RELAY)),
        "and never to its relay"
    );
    let own = relay_address(RELAY);
    assert!(relays.iter().filter(|sent| sent.from != own).all(|sent| sent.from.port() >= 10_000), "relays dial back");

    let ids = [connection_ids(&clients), connection_ids(&relays)];
    assert!(ids.iter().all(|ids| ids.len() > 4), "{ids:?}");
    assert!(ids[0].is_disjoint(&ids[1]), "{ids:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_never_uses_its_own_relay_and_keeps_it_in_its_view_like_any_other() {
    let (network, dir) = (settled(2, 8).await, tempfile::tempdir().unwrap());
    let path = dir.path().join("client");
    let client = network.client_beside(RELAY, FIRST_PORT, named(&network), State::open(&path).unwrap());
    until(SOON, "the client knows all", || client.status().usable == 8).await;
    let own = netgroup(relay_address(RELAY).ip());
    let mut met = BTreeSet::new();
    for number in 0..24 {
        open(&client, &isolation(number), ECHO).await;
        met.extend(client.paths(&isolation(number)).into_iter().flatten().map(|hop| hop.relay.id));
        for hop in client.paths(&isolation(number)).into_iter().flatten() {
            assert!(hop.relay.addresses.iter().all(|address| netgroup(address.ip()) != own), "{hop:?}");
        }
    }
    assert_eq!(met.len(), 7, "all others are");
    client.close().await;
    let id = network.entries()[usize::from(RELAY) - 1].id;
    let guards = std::fs::read_to_string(path.join("guards.toml")).unwrap();
    assert!(!guards.contains(&id.to_string()), "{guards}");
    for file in ["view.bin", "usable.bin"] {
        let bytes = std::fs::read(path.join(file)).unwrap();
        for entry in network.entries() {
            let times = bytes.windows(32).filter(|part| part == entry.id.as_bytes()).count();
            assert_eq!(times, 1, "{file}: a list without its own relay, or with more of it, would tell which that is");
        }
    }
}
