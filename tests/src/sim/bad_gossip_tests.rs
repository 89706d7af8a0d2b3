//! Scenarios of the directory with nodes that lie, steal, send garbage, or have a wrong clock.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{io::AsyncWriteExt, task::JoinSet, time::sleep};
use trefoil_protocol::{
    descriptor::{Descriptor, Record},
    directory::{Answer, Reach, Refusal, Request},
    entry::Weight,
    epoch::Epoch,
    identity::{OnionSecret, RelaySecret},
    limits::{GARBAGE_MAX, REACH_RUNNING},
    params::{NetworkId, NetworkParams},
    reconcile::Salt,
    work::{Search, Work},
};
use trefoil_relay::{
    counters::Cause,
    endpoint::{Endpoint, LinkIdentity},
    link::{Link, LinkError},
    questions::{QuestionError, Questions},
    reason::CloseReason,
};

use super::{
    gossip_tests::{know, numbers, plan, settled, until},
    nodes::{Plan, START, SimNetwork, relay_address},
    udp::LinkModel,
};

/// A relay that a test plays, with a link to relay 1.
struct Played {
    secret: RelaySecret,
    link: Link,
    endpoint: Endpoint,
}

impl Played {
    async fn at(network: &SimNetwork, address: &str) -> Self {
        Self::with(network, address, RelaySecret::generate(&mut StdRng::seed_from_u64(99))).await
    }

    async fn with(network: &SimNetwork, address: &str, secret: RelaySecret) -> Self {
        let identity = LinkIdentity::Relay(Arc::new(RelaySecret::from_bytes(&secret.to_bytes())));
        let endpoint = network.endpoint(address.parse().unwrap(), identity);
        let link = endpoint.dial(network.entries()[0].id, relay_address(1)).await.unwrap();
        Self { secret, link, endpoint }
    }

    /// What it would say of itself at this address.
    fn descriptor(&self, params: &NetworkParams, address: &str) -> Descriptor {
        describe(params, &self.secret, address)
    }

    /// Has itself dialled at this address.
    async fn reach(&self, address: &str) -> Reach {
        let mut questions = Questions::on(&self.link).await.unwrap();
        let answered = questions.ask(&Request::Reach(address.parse().unwrap())).await.unwrap();
        let outcomes = answered.read(|answer| if let Answer::Reach(outcomes) = answer { Some(outcomes) } else { None });
        let [outcome] = outcomes.unwrap()[..] else { panic!("one outcome for one address") };
        outcome
    }

    async fn push(&self, records: &[&Record]) -> Result<u16, QuestionError> {
        let mut questions = Questions::on(&self.link).await?;
        let records = records.iter().map(|record| record.bytes()).collect();
        let answered = questions.ask(&Request::Push { records, frauds: vec![] }).await?;
        answered.read(|answer| if let Answer::Taken(count) = answer { Some(count) } else { None })
    }
}

pub(super) fn describe(params: &NetworkParams, secret: &RelaySecret, address: &str) -> Descriptor {
    Descriptor {
        relay: secret.id(),
        onion_key: OnionSecret::generate(&mut StdRng::seed_from_u64(5)).public(),
        addresses: address.parse().unwrap(),
        weight: Weight::One,
        exit: None,
        mailbox: false,
        leaving: false,
        family: None,
        issued: Epoch::of(START, &params.directory),
        lifetime: params.directory.lifetime,
        work: Search::new(params, secret.id()).step(u32::MAX).unwrap(),
    }
}

fn count(network: &SimNetwork, cause: Cause) -> u64 {
    network.relay(1).directory().counters().of(cause)
}

const PLAYED: &str = "10.99.0.1:9001";

#[tokio::test(start_paused = true)]
async fn every_kind_of_bad_record_is_turned_away_for_its_cause_and_nothing_is_lost() {
    let network = settled(1, 3).await;
    let params = network.params().clone();
    let (id, played) = (params.id(), Played::at(&network, PLAYED).await);
    let good = played.descriptor(&params, PLAYED);
    let now = Epoch::of(START, &params.directory);
    let sign = |descriptor: Descriptor| descriptor.sign(&id, &played.secret);
    let bad = [
        (Cause::Network, good.sign(&NetworkId::from_bytes([7; 32]), &played.secret)),
        (Cause::Address, sign(Descriptor { addresses: "192.0.2.1:9".parse().unwrap(), ..good.clone() })),
        (Cause::Lifetime, sign(Descriptor { lifetime: 9, ..good.clone() })),
        (Cause::Future, sign(Descriptor { issued: now.plus(1000), ..good.clone() })),
        (Cause::Expired, sign(Descriptor { issued: Epoch(now.0 - 100), ..good.clone() })),
        (Cause::Hashcash, sign(Descriptor { work: Work { hashcash: !0, ..good.work }, ..good.clone() })),
        (Cause::Signature, good.sign(&id, &RelaySecret::generate(&mut StdRng::seed_from_u64(1)))),
    ];
    for (cause, record) in &bad {
        assert_eq!(played.push(&[record]).await.unwrap(), 0, "{cause:?}");
        assert_eq!(count(&network, *cause), 1, "{cause:?}");
    }
    let weak = (0..).map(|argon2| Work { argon2, ..good.work });
    let weak = weak.into_iter().find(|work| !work.has_memory_hard(&params, &good.relay)).unwrap();
    assert_eq!(played.push(&[&sign(Descriptor { work: weak, ..good.clone() })]).await.unwrap(), 0);
    assert_eq!(count(&network, Cause::MemoryHard), 1);

    assert_eq!(network.relay(1).directory().len(), 3, "nothing was lost");
    assert_eq!(played.push(&[&sign(good.clone())]).await.unwrap(), 1, "a good one is taken");
    assert_eq!(played.push(&[&sign(good)]).await.unwrap(), 0);
    assert_eq!(count(&network, Cause::Stale), 1, "and no second time");
}

#[tokio::test(start_paused = true)]
async fn a_stranger_pushes_its_own_record_and_no_other_and_a_client_none() {
    let network = settled(2, 3).await;
    let params = network.params().clone();
    let played = Played::at(&network, PLAYED).await;
    let other = RelaySecret::generate(&mut StdRng::seed_from_u64(100));
    let others = describe(&params, &other, "10.98.0.1:9001").sign(&params.id(), &other);
    assert_eq!(played.push(&[&others]).await.unwrap(), 0);
    assert_eq!(count(&network, Cause::Stranger), 1);
    let own = played.descriptor(&params, PLAYED).sign(&params.id(), &played.secret);
    assert_eq!(played.push(&[&own, &others]).await.unwrap(), 2, "now it is known");

    let endpoint = network.endpoint("192.168.250.1:1".parse().unwrap(), LinkIdentity::Anonymous);
    let link = endpoint.dial(network.entries()[0].id, relay_address(1)).await.unwrap();
    let mut questions = Questions::on(&link).await.unwrap();
    for request in [Request::Push { records: vec![], frauds: vec![] }, Request::Reach(PLAYED.parse().unwrap())] {
        let refused = questions.ask(&request).await.unwrap().read(Some).map(|_| ());
        assert!(matches!(refused, Err(QuestionError::Refused(Refusal::NotForYou))), "{refused:?}");
    }
    let greeted = questions.ask(&Request::Hello).await.unwrap();
    let greeting = greeted.read(|answer| if let Answer::Hello(hello) = answer { Some(hello) } else { None }).unwrap();
    assert_eq!((greeting.network, greeting.records), (params.id(), 5), "a client may read");
}

#[tokio::test(start_paused = true)]
async fn who_sends_garbage_loses_the_stream_then_the_link_and_gets_no_answers_for_a_while() {
    let network = settled(3, 3).await;
    let played = Played::at(&network, PLAYED).await;
    let mut sent = 0;
    while !played.link.is_closed() {
        let Ok(mut stream) = played.link.open_directory().await else { break };
        let frame = if sent % 2 == 0 { vec![0xff; 100] } else { vec![1, 0, 0, 0, 99] };
        let _ = stream.halves().1.write_all(&frame).await;
        sent += 1;
        sleep(Duration::from_secs(1)).await;
    }
    assert!((GARBAGE_MAX..20.0).contains(&f64::from(sent)), "{sent}");
    assert!(matches!(played.link.closed().await, LinkError::Closed(CloseReason::Protocol)));
    let again = Played::with(&network, "10.99.0.1:9002", RelaySecret::generate(&mut StdRng::seed_from_u64(98))).await;
    let mut questions = Questions::on(&again.link).await.unwrap();
    assert!(questions.ask(&Request::Hello).await.is_err());
    assert!(count(&network, Cause::Dropped) > 0);
    assert_eq!(network.relay(1).directory().len(), 3, "nothing was lost");
}

#[tokio::test(start_paused = true)]
async fn a_reconciliation_that_lies_or_never_ends_is_cut_off() {
    let network = settled(4, 3).await;
    let played = Played::at(&network, PLAYED).await;
    for message in [&[0xff; 100][..], &[0x61, 0, 0, 9], &[0x60]] {
        let mut questions = Questions::on(&played.link).await.unwrap();
        let ask = Request::Reconcile { begin: Some(Salt([1; 16])), message };
        let answered = questions.ask(&ask).await;
        assert!(answered.is_err() || message == [0x60], "{message:?}");
    }
    let mut questions = Questions::on(&played.link).await.unwrap();
    let (mut rounds, mut begin) = (0, Some(Salt([2; 16])));
    while questions.ask(&Request::Reconcile { begin: begin.take(), message: &[0x61] }).await.is_ok() {
        rounds += 1;
    }
    assert!(rounds <= trefoil_protocol::limits::RECONCILE_ROUNDS, "{rounds}");
    let mut questions = Questions::on(&played.link).await.unwrap();
    let lone =
        questions.ask(&Request::Reconcile { begin: None, message: &[0x61] }).await.unwrap().read(Some).map(|_| ());
    assert!(matches!(lone, Err(QuestionError::Refused(Refusal::NoSession))), "{lone:?}");
    assert!(count(&network, Cause::Reconcile) >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_new_relays_from_one_netgroup_is_bounded() {
    let network = settled(5, 3).await;
    sleep(Duration::from_secs(30)).await; // then no view is young
    let params = network.params().clone();
    let played = Played::at(&network, PLAYED).await;
    let issued = network.relay(1).directory().usable().epoch();
    let own = Descriptor { issued, ..played.descriptor(&params, PLAYED) }.sign(&params.id(), &played.secret);
    played.push(&[&own]).await.unwrap();
    let mut rng = StdRng::seed_from_u64(6);
    for third in 1..=60 {
        let secret = RelaySecret::generate(&mut rng);
        let address = format!("10.77.{third}.1:9001");
        let fake = Descriptor { issued, ..describe(&params, &secret, &address) }.sign(&params.id(), &secret);
        played.push(&[&fake]).await.unwrap();
    }
    let known = network.relay(1).directory().len();
    assert!(known <= 4 + trefoil_protocol::limits::PENDING_PER_NETGROUP, "{known}");
    assert!(count(&network, Cause::NoRoom) > 0);
    let all = numbers(1..=3);
    assert!(know(&network, &all, &all), "those that were known still are");
}

#[tokio::test(start_paused = true)]
async fn a_stolen_identity_is_found_out_and_both_are_left_out() {
    let network = plan(6, 6).start();
    let all = numbers(1..=6);
    until(Duration::from_secs(30), "all know all", || know(&network, &all, &all)).await;
    let victim = network.entries()[5].id;
    let thief = network.start_thief(6, "10.66.0.1:9001".parse::<SocketAddr>().unwrap(), &[1]);
    let out = || {
        all.iter().all(|number| {
            let directory = network.relay(*number).directory();
            directory.is_barred(&victim) && directory.usable().class(&victim).is_none()
        })
    };
    let took = until(Duration::from_secs(60), "all have left it out", out).await;
    println!("a stolen identity was out everywhere after {took:?}");
    let rest = numbers(1..=5);
    assert!(know(&network, &rest, &rest), "nobody else is affected");
    let status = network.relay(6).status();
    assert!(status.trouble["twice"].contains("uses this relay's identity") && !status.in_use, "{status}");
    thief.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_with_a_wrong_clock_says_so_and_publishes_nothing() {
    let network = Plan { bootstrap: 6, ahead: Some((7, 2 * 3600)), ..plan(7, 7) }.start();
    let (right, wrong) = (numbers(1..=6), network.entries()[6].id);
    until(Duration::from_secs(30), "it notices", || network.relay(7).directory().is_clock_off()).await;
    sleep(Duration::from_secs(30)).await;
    let status = network.relay(7).status();
    assert!(status.trouble["clock"].contains("120 minutes ahead of"), "{status}");
    assert_eq!((status.listed_until, status.trouble.len()), (None, 1), "{status}");
    assert!(know(&network, &right, &right), "the others are not affected");
    for number in right {
        let directory = network.relay(number).directory();
        assert!(directory.find(&wrong).is_none() && !directory.is_clock_off());
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_cannot_be_dialled_from_outside_does_not_list_itself_until_it_can() {
    let mut network = plan(8, 6).late(1).start();
    let old = numbers(1..=5);
    until(Duration::from_secs(30), "the first five know each other", || know(&network, &old, &old)).await;
    // As a firewall does: only who was spoken to may answer, and a dial back comes from a fresh port.
    let set = |network: &SimNetwork, loss: f64| {
        for number in &old {
            for port in 10_000..10_100 {
                let fresh = SocketAddr::new(relay_address(*number).ip(), port);
                network.net.set_link(
                    relay_address(6),
                    fresh,
                    LinkModel { loss, ..LinkModel::with_delay(Duration::ZERO) },
                );
            }
        }
    };
    set(&network, 1.0);
    network.start_again(6, &[1, 2]);
    sleep(Duration::from_secs(60)).await;
    let is_listed = |network: &SimNetwork| network.relay(1).directory().find(&network.entries()[5].id).is_some();
    assert!(!is_listed(&network));
    let status = network.relay(6).status();
    assert!(status.trouble["unreachable"].contains("UDP port 9001 is not reachable"), "{status}");
    assert_eq!((status.listed_until, status.trouble.len()), (None, 1), "{status}");
    set(&network, 0.0);
    until(Duration::from_secs(900), "it lists itself", || is_listed(&network)).await;
    assert!(network.relay(6).status().trouble.is_empty(), "{}", network.relay(6).status());
}

#[tokio::test(start_paused = true)]
async fn relays_that_have_nobody_dialled_hold_a_few_places_and_keep_none_out_that_is_there() {
    let network = settled(9, 3).await;
    let mut asking = JoinSet::new();
    for number in (0..=u8::MAX).take(REACH_RUNNING + 1) {
        let address = move |port| format!("10.{}.0.1:{port}", 100 + number);
        let secret = RelaySecret::generate(&mut StdRng::seed_from_u64(number.into()));
        let played = Played::with(&network, &address(9001), secret).await;
        asking.spawn(async move { played.reach(&address(9002)).await });
    }
    sleep(Duration::from_secs(1)).await; // all are being dialled, for some seconds more
    let there = Played::at(&network, PLAYED).await;
    let (outcome, _link) =
        tokio::join!(there.reach(PLAYED), async { there.endpoint.accept().await?.finish().await.ok() });
    assert_eq!(outcome, Reach::Reached);
    let outcomes = asking.join_all().await;
    let of = |outcome| outcomes.iter().filter(|other| **other == outcome).count();
    assert_eq!((of(Reach::Silent), of(Reach::TooSoon)), (REACH_RUNNING - 1, 2), "the oldest gave way: {outcomes:?}");
}
