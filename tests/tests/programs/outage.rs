//! A network that finds itself from one relay, loses that one and a third of the others, and has them back.

use std::{
    collections::BTreeMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use trefoil_client::status::Status;
use trefoil_tests::process::{
    binaries::trefoil,
    following::Following,
    names::WEB,
    network::{RealClient, RealNetwork},
    program::{Program, Signal},
    server::Server,
};

use crate::{LONG, alone, curl, socks5h};

const RELAYS: u8 = 30;
const CLIENTS: usize = 5;
/// Relays that are killed at once.
const KILLED: usize = 10;
/// For all to find each other, from the moment at which the last has started.
const FIND: Duration = Duration::from_secs(30);
/// A record of a test network lasts 30 s, and a usable set 10 s more.
const FORGET: Duration = Duration::from_secs(60);
/// For a request after relays died.
const NEXT_REQUEST: Duration = Duration::from_secs(5);

/// A proxy that keeps what it knows in this directory.
fn client(network: &RealNetwork, place: &Path) -> RealClient {
    let place = place.to_str().unwrap();
    network.client(&["proxy", "--socks", "127.0.0.1:0", "--log", "debug", "--data-dir", place])
}

/// Waits until the client that keeps what it knows there uses this many relays; how long that took.
fn knows(place: &Path, relays: usize) -> Duration {
    let started = Instant::now();
    let mut status = trefoil();
    status.args(["status", "--follow", "--json", "--data-dir"]).arg(place);
    Following::<Status>::start(&mut status).status(FIND, |client| client.usable >= relays);
    started.elapsed()
}

/// The guards that the client uses which keeps what it knows there, of the relays that have these names.
fn guards(place: &Path, names: &BTreeMap<String, u8>) -> Vec<u8> {
    let mut status = trefoil();
    status.args(["status", "--follow", "--json", "--data-dir"]).arg(place);
    let status = Following::<Status>::start(&mut status).status(FIND, |client| !client.guards.is_empty());
    status.guards.iter().map(|guard| names[guard]).collect()
}

/// Relays to kill: the last ones, but for one guard of each client that would lose both. It may have none then that it
/// may still dial, which is as it should be, and no matter of 5 s.
fn to_kill(clients: &[Vec<u8>], dead: u8) -> Vec<u8> {
    let mut killed: Vec<_> = (1..=RELAYS).rev().filter(|relay| *relay != dead).collect();
    let is_guard = |relay: &u8| clients.iter().flatten().any(|guard| guard == relay);
    let mut others = killed.split_off(KILLED).into_iter().filter(|relay| !is_guard(relay));
    for guards in clients {
        let loses_all = guards.iter().all(|guard| *guard == dead || killed.contains(guard));
        let spared = killed.iter_mut().find(|relay| loses_all && guards.contains(relay));
        if let Some(spared) = spared {
            *spared = others.next().expect("most relays are nobody's guards");
        }
    }
    killed
}

/// Lets each client fetch a page, all at once, on circuits that this user has or new ones; the longest time.
fn fetch(clients: &[RealClient], user: &str, web: &Server) -> Duration {
    let fetch = |client: &RealClient| {
        let started = Instant::now();
        let proxy = socks5h(client.address).replace("://", &format!("://{user}:@"));
        let mut curl = curl(&proxy);
        curl.args(["--output", "/dev/null", "--write-out", "%{size_download}"]);
        let ended = Program::run(curl.arg(format!("http://{WEB}:{}/1000", web.port())), LONG);
        let log = || client.program.errors();
        assert_eq!((ended.code(), ended.stdout.as_str()), (0, "1000"), "{}{}", ended.stderr, log());
        started.elapsed()
    };
    thread::scope(|scope| {
        let fetching: Vec<_> = clients.iter().map(|client| scope.spawn(move || fetch(client))).collect();
        fetching.into_iter().map(|fetching| fetching.join().unwrap()).max().unwrap()
    })
}

#[test]
fn thirty_relays_find_each_other_from_one_and_five_clients_outlive_it_and_ten_more() {
    let _alone = alone();
    let web = Server::web();
    let mut network = RealNetwork::start_from(RELAYS, 1);
    let kept = tempfile::tempdir().unwrap();
    let places: Vec<_> = (0..CLIENTS).map(|number| kept.path().join(number.to_string())).collect();
    let clients: Vec<_> = places.iter().map(|place| client(&network, place)).collect();
    let all = usize::from(RELAYS);
    let took = network.wait_until(FIND, |relay| relay.usable == all && relay.listed_until.is_some());
    println!("{all} relays found each other in {took:?}");
    let took = places.iter().map(|place| knows(place, all)).max().unwrap();
    println!("the clients knew them all {took:?} later");
    let took = fetch(&clients, "first", &web);
    println!("first requests: {took:?}");

    let name = |relay| network.status(relay).id.chars().take(8).collect();
    let names: BTreeMap<String, _> = (1..=RELAYS).map(|relay| (name(relay), relay)).collect();
    network.take(1).stop(Signal::KILL);
    let took = fetch(&clients, "second", &web);
    println!("requests without the bootstrap relay: {took:?}");
    assert!(took < NEXT_REQUEST, "after the bootstrap relay was killed, a request took {took:?}");

    let guards: Vec<_> = places.iter().map(|place| guards(place, &names)).collect();
    let numbers = to_kill(&guards, 1);
    println!("of the guards {guards:?} and others these are killed: {numbers:?}");
    let killed: Vec<_> = numbers.iter().map(|number| network.take(*number)).collect();
    killed.iter().for_each(|relay| relay.signal(Signal::KILL));
    for user in ["third", "second"] {
        let took = fetch(&clients, user, &web);
        println!("requests of {user} without ten relays more: {took:?}");
        assert!(took < NEXT_REQUEST, "after ten relays were killed, a request of {user} took {took:?}");
    }
    drop(killed);
    let left = all - 1 - KILLED;
    let took = network.wait_until(FORGET, |relay| relay.known == left && relay.usable == left);
    println!("the dead were forgotten in {took:?}");
    fetch(&clients, "fourth", &web);

    numbers.iter().for_each(|number| network.start_again(*number));
    let took = network.wait_until(FORGET, |relay| relay.usable == all - 1);
    println!("those that came back were known to all in {took:?}");
    let took = fetch(&clients, "fifth", &web);
    assert!(took < NEXT_REQUEST, "after ten relays came back, a request took {took:?}");
}
