//! What the experiment *cost* reckons with, measured on production code: dials, and pushes with their answers.

use std::{sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use trefoil_protocol::{directory::Request, identity::RelaySecret};
use trefoil_relay::{
    endpoint::{Effort, LinkIdentity},
    links::Links,
    questions::Questions,
};

use super::{
    bad_gossip_tests::describe,
    gossip_tests::plan,
    link_tests::{address, linked, net, relay, relay_id},
    nodes::relay_address,
    udp::SimNet,
};
use crate::experiments::cost;

/// Headers of IPv4 and UDP.
const HEADERS: usize = 28;

/// Bytes of all packets since the last look, headers included.
fn passed(net: &SimNet) -> f64 {
    net.watch().iter().map(|packet| packet.contents.len() + HEADERS).sum::<usize>() as f64
}

#[track_caller]
fn assert_reckoned(what: &str, reckoned: f64, measured: f64, most: f64) {
    println!("{what}: {measured} bytes, reckoned {reckoned}");
    assert!((reckoned / measured - 1.0).abs() <= most, "{what}: {measured} bytes, reckoned {reckoned}");
}

#[tokio::test(start_paused = true)]
async fn a_look_costs_what_is_reckoned_whether_the_relay_is_there_or_not() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let links = Links::new(a);
    net.watch();
    assert!(links.look(relay_id(2), address(2), Effort::Dial).await.is_ok());
    sleep(Duration::from_secs(30)).await;
    assert_reckoned("a look at a relay that is there", cost::LOOK, passed(&net), 0.0);
    assert!(links.look(relay_id(3), address(3), Effort::Ask).await.is_err());
    sleep(Duration::from_secs(30)).await;
    assert_reckoned("a look where nobody is", cost::LOOK_FAILED, passed(&net), 0.0);
    assert!(links.look(relay_id(3), address(3), Effort::Dial).await.is_err());
    sleep(Duration::from_secs(30)).await;
    assert_reckoned("the same with a dial", cost::LOOK_FAILED + cost::DIAL_FAILED, passed(&net), 0.03);
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn a_link_costs_what_is_reckoned_to_make() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    net.watch();
    let _link = linked(&a, &b, 2).await;
    sleep(Duration::from_secs(10)).await;
    assert_reckoned("a link", cost::LINK, passed(&net), 0.03);
}

#[tokio::test(start_paused = true)]
async fn a_push_costs_what_is_reckoned() {
    let network = plan(1, 1).start();
    let params = network.params().clone();
    sleep(Duration::from_secs(10)).await;
    let [own, other] = [99, 98].map(|seed| RelaySecret::generate(&mut StdRng::seed_from_u64(seed)));
    let record = describe(&params, &other, "10.98.0.1:9001").sign(&params.id(), &other);
    let endpoint = network.endpoint("10.99.0.1:9001".parse().unwrap(), LinkIdentity::Relay(Arc::new(own)));
    let link = endpoint.dial(network.entries()[0].id, relay_address(1)).await.unwrap();
    for (count, is_first) in [(1, true), (1, false), (4, false), (40, false)] {
        sleep(Duration::from_secs(5)).await;
        passed(&network.net);
        let questions = Questions::on(&link).await.unwrap();
        let records = vec![record.bytes(); count];
        questions.ask_last(&Request::Push { records, frauds: vec![] }).await.unwrap();
        sleep(Duration::from_secs(2)).await;
        if !is_first {
            assert_reckoned(&format!("a push of {count}"), cost::push(count).packets, passed(&network.net), 0.05);
        }
    }
}
