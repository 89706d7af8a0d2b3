//! Scenarios of outages: many relays vanish at the same moment, and nobody has noticed.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};
use trefoil_client::tunnel::Client;

use super::{
    nodes::{Plan, relay_address},
    outside::ECHO,
    transfer_tests::{echo, isolation, open},
    udp::LinkModel,
};

/// The next request after a failure works within this long.
const RECOVERY: Duration = Duration::from_secs(5);

/// How long the next request of each client takes, all at once.
async fn recover(clients: &[Client], user: u8) -> Vec<Duration> {
    let mut recovering = JoinSet::new();
    for client in clients {
        let client = client.clone();
        recovering.spawn(async move {
            let start = Instant::now();
            echo(&mut open(&client, &isolation(user), ECHO).await, b"hello").await;
            start.elapsed()
        });
    }
    recovering.join_all().await
}

/// Ten of thirty relays vanish, and five clients use the network on: their longest waits, on circuits that they had and
/// on new ones.
async fn outage(seed: u64) -> [Duration; 2] {
    let network = Plan::new(seed, 30, LinkModel::with_delay(Duration::from_millis(2))).start();
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(network.client().await);
    }
    recover(&clients, 0).await;
    (21..=30).for_each(|number| network.net.cut(relay_address(number)));
    let new = recover(&clients, 1).await;
    let old = recover(&clients, 0).await;
    println!("seed {seed}: new circuits {new:?}, old ones {old:?}");
    [new, old].map(|all| all.into_iter().max().unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn when_a_third_of_the_relays_vanishes_each_clients_next_request_works_in_time() {
    for seed in 1..=3 {
        for took in outage(seed).await {
            assert!(took < RECOVERY, "{took:?}");
        }
    }
}
