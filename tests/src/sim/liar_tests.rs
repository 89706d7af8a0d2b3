//! A client among whose sources one lies: it neither plants a relay, nor removes one, nor has the client know one as
//! nobody else does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use trefoil_client::{status::Status, tunnel::Client};
use trefoil_protocol::{
    descriptor::Record,
    directory::{Answer, Greeting, Request},
    entry::{RelayAddresses, RelayEntry, Weight},
    epoch::{Epoch, UnixSeconds},
    identity::{OnionSecret, RelayId, RelaySecret},
    params::NetworkParams,
    reconcile::{Held, Responder},
    usable::{AgeClass, Member, Salt, short_hash, short_statement},
    view::View,
};
use trefoil_relay::{
    endpoint::{Endpoint, LinkIdentity},
    frames,
    opened::{Arrival, RequestStream},
};

use super::{
    bad_gossip_tests::describe,
    gossip_tests::{know, numbers, plan, until},
    nodes::{START, SimNetwork, relay_address, secrets},
    transfer_tests::{echo, isolation, open},
};

const LIAR: &str = "10.99.0.1:9001";
const PLANTED: &str = "10.98.0.1:9001";

/// What the liar says.
struct Lie {
    params: NetworkParams,
    view: View,
    listed: Vec<RelayId>,
    started: tokio::time::Instant,
}

impl Lie {
    fn now(&self) -> UnixSeconds {
        START.plus(self.started.elapsed().as_secs())
    }

    /// What the record says that it shows of a relay.
    fn said(&self, salt: &Salt, relay: &RelayId) -> [u8; 4] {
        let shown = self.view.get(relay).map(|known| known.record.record().statement());
        shown.map_or([0; 4], |said| short_statement(salt, &said))
    }

    async fn tell(&self, mut stream: RequestStream) {
        let (mut reader, mut writer) = stream.halves();
        let mut session = None;
        while let Ok(Some(frame)) = frames::read(&mut reader, 1 << 16).await {
            let epoch = Epoch::of(self.now(), &self.params.directory);
            let answer = match Request::decode(&frame).unwrap() {
                Request::Hello => Answer::Hello(Greeting {
                    minutes: u32::try_from(self.now().0 / 60).unwrap(),
                    network: self.params.id(),
                    records: 1,
                    usable: [7; 32],
                    epoch,
                    seen: None,
                })
                .encode(),
                Request::Reconcile { begin, message } => {
                    if let Some(salt) = begin {
                        session = Some(Responder::new(&Held::of(&self.view), salt));
                    }
                    Answer::Reconcile(&session.as_mut().unwrap().respond(message).unwrap()).encode()
                }
                Request::Want(names) => {
                    let records = names.iter().filter_map(|name| session.as_ref()?.find(name));
                    let records: Vec<_> = records.filter_map(|relay| self.view.get(&relay)).collect();
                    Answer::Records(records.iter().map(|known| known.record.record().bytes()).collect()).encode()
                }
                Request::Usable { salt, .. } => {
                    let member = |relay| Member {
                        name: short_hash(&salt.0, relay),
                        class: AgeClass::Old,
                        said: self.said(&salt.0, relay),
                    };
                    let members: Vec<_> = self.listed.iter().map(member).collect();
                    let total = u32::try_from(members.len()).unwrap();
                    Answer::Usable { epoch, total, members }.encode()
                }
                Request::Frauds { .. } => Answer::Frauds(Vec::new()).encode(),
                other => panic!("a client asks for {other:?}"),
            };
            frames::write(&mut writer, &answer).await.unwrap();
        }
    }
}

/// A bootstrap relay that lists all of the network but `removed`, and the relay of the record that it alone shows.
fn play(network: &SimNetwork, removed: Option<RelayId>, shown: &Record) -> RelayEntry {
    let mut rng = StdRng::seed_from_u64(999); // none of the network's
    let liar = RelaySecret::generate(&mut rng);
    let params = network.params().clone();
    let started = tokio::time::Instant::now();
    let mut view = View::new(&params, START);
    view.offer(shown.clone().check(&params, START).unwrap(), START);
    let all: BTreeSet<_> = network.entries().iter().map(|entry| entry.id).chain([shown.relay()]).collect();
    let listed = all.into_iter().filter(|relay| Some(*relay) != removed).collect();
    let entry = RelayEntry {
        id: liar.id(),
        onion_key: OnionSecret::generate(&mut rng).public(),
        addresses: RelayAddresses::new([LIAR.parse().unwrap()]).unwrap(),
        weight: Weight::One,
        exit: Default::default(),
    };
    let endpoint = network.endpoint(LIAR.parse().unwrap(), LinkIdentity::Relay(Arc::new(liar)));
    tokio::spawn(serve(endpoint, Arc::new(Lie { params, view, listed, started })));
    entry
}

async fn serve(endpoint: Endpoint, lie: Arc<Lie>) {
    while let Some(arriving) = endpoint.accept().await {
        let (link, lie) = (arriving.finish().await.unwrap(), Arc::clone(&lie));
        tokio::spawn(async move {
            while let Ok(opened) = link.accept().await {
                if let Ok(Arrival::Directory(stream)) = opened.arrive().await {
                    lie.tell(stream).await;
                }
            }
        });
    }
}

/// A client that was named the liar and two of the network's eight relays, once it uses some.
async fn lied_to(network: &SimNetwork, liar: RelayEntry) -> (Client, Status) {
    let all = numbers(1..=8);
    until(Duration::from_secs(25), "all know all", || know(network, &all, &all)).await;
    let client = network.client_of(vec![liar, network.entries()[0].clone(), network.entries()[1].clone()]);
    until(Duration::from_secs(60), "the client knows relays", || client.status().usable > 0).await;
    let status = client.status();
    (client, status)
}

#[tokio::test(start_paused = true)]
async fn a_source_that_lies_among_five_neither_plants_a_relay_nor_removes_one() {
    let network = plan(1, 8).start();
    let (params, planted) = (network.params(), RelaySecret::generate(&mut StdRng::seed_from_u64(998)));
    let shown = describe(params, &planted, PLANTED).sign(&params.id(), &planted);
    let liar = play(&network, Some(network.entries()[6].id), &shown); // its record is as old as the network
    let (client, status) = lied_to(&network, liar).await;
    assert_eq!((status.usable, status.sources, status.agreeing), (8, 5, 4), "{status}");
    assert_eq!(status.known, 9, "the planted relay is known, and not used");
    echo(&mut open(&client, &isolation(0), super::outside::ECHO).await, b"hello").await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_one_source_shows_to_a_client_alone_is_not_used() {
    let network = plan(2, 8).start();
    let (params, marked) = (network.params(), network.entries()[6].id);
    // The relay takes part: the record is newer than its others, and has an onion key by which it would know the client.
    let (identity, _) = secrets(7);
    let mut descriptor = describe(params, &identity, &relay_address(7).to_string());
    descriptor.issued = descriptor.issued.plus(30);
    let shown = descriptor.sign(&params.id(), &identity);
    let liar = play(&network, None, &shown);
    let (client, status) = lied_to(&network, liar).await;
    assert_eq!((status.usable, status.known, status.unknown), (7, 8, 1), "{status}");
    for number in 0..20 {
        echo(&mut open(&client, &isolation(number), super::outside::ECHO).await, b"hello").await;
        let paths = client.paths(&isolation(number));
        assert!(paths.iter().flatten().all(|hop| hop.relay.id != marked), "the marked relay is on a path");
    }
}
