//! Scenarios of whole nodes: which streams share a circuit, as the exit sees it, and for how long a circuit is used.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use trefoil_client::tunnel::{Client, Isolation, Stream};
use trefoil_protocol::{limits::CIRCUIT_LIFETIME, message::Target};

use super::{
    hostile_relay_tests::{Player, Role, played, well_behaved},
    outside::{ECHO, SITE},
    transfer_tests::{echo, isolation, open, plan, target},
};

/// Opens a stream of this token; its port says whose it is, and which.
async fn stream(client: &Client, token: u8, number: u8) -> Stream {
    client.open(&isolation(token), target(SITE, u16::from_be_bytes([token, number]))).await.unwrap()
}

/// The numbers of the circuits on which the exit has seen streams of each token, but for those of the directory.
fn circuits(player: &Player) -> BTreeMap<u8, BTreeSet<usize>> {
    let mut circuits = BTreeMap::<_, BTreeSet<_>>::new();
    for (circuit, target) in player.opened() {
        if let Target::Exit { port, .. } = target {
            circuits.entry(port.to_be_bytes()[0]).or_default().insert(circuit);
        }
    }
    circuits
}

#[tokio::test(start_paused = true)]
async fn streams_of_one_token_share_a_circuit_and_those_of_two_never_do() {
    const TOKENS: u8 = 5;
    let (network, player, _ends) = played(Role { effort: 0, answer: well_behaved });
    let client = network.client().await;
    let mut held = Vec::new();
    for number in 1..4 {
        for token in 0..TOKENS {
            held.push(stream(&client, token, number).await); // one after the other, and in turns
        }
    }
    let mut at_once = JoinSet::new();
    for (token, number) in (4..8).flat_map(|number| (0..2 * TOKENS).map(move |token| (token, number))) {
        let client = client.clone();
        at_once.spawn(async move { stream(&client, token, number).await }); // some with new tokens
    }
    held.extend(at_once.join_all().await);
    drop(held);
    for token in 0..TOKENS {
        stream(&client, token, 9).await; // none is open, but the token is the same
    }

    let circuits = circuits(&player);
    assert_eq!(circuits.len(), 2 * usize::from(TOKENS));
    assert!(circuits.values().all(|used| used.len() == 1), "one circuit for all streams of a token: {circuits:?}");
    let distinct: BTreeSet<_> = circuits.values().flatten().collect();
    assert_eq!(distinct.len(), circuits.len(), "a circuit of its own for each token: {circuits:?}");
}

#[tokio::test(start_paused = true)]
async fn tokens_that_look_alike_are_kept_apart() {
    let (network, player, _ends) = played(Role { effort: 0, answer: well_behaved });
    let client = network.client().await;
    let tokens: [&[&str]; 7] = [&[], &[""], &["ab"], &["a", "b"], &["", "ab"], &["ab", ""], &["AB"]];
    for (number, parts) in (0..).zip(tokens) {
        let target = target(SITE, u16::from_be_bytes([number, 1]));
        let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
        client.open(&Isolation::new(&parts), target).await.unwrap();
    }
    let circuits = circuits(&player);
    let distinct: BTreeSet<_> = circuits.values().flatten().collect();
    assert_eq!((circuits.len(), distinct.len()), (tokens.len(), tokens.len()), "{circuits:?}");
}

#[tokio::test(start_paused = true)]
async fn after_ten_minutes_a_new_stream_has_a_new_circuit_and_the_old_stream_goes_on() {
    assert_eq!(CIRCUIT_LIFETIME, Duration::from_secs(600));
    let network = plan(1, 5).start();
    let client = network.client().await;
    let start = Instant::now();
    let mut old = open(&client, &isolation(0), ECHO).await;
    let circuits = || client.paths(&isolation(0)).len();
    for _ in 0..9 {
        sleep(Duration::from_secs(60)).await;
        echo(&mut open(&client, &isolation(0), ECHO).await, b"young").await;
        assert_eq!(circuits(), 1, "after {:?}", start.elapsed());
    }
    sleep(CIRCUIT_LIFETIME - start.elapsed() + Duration::from_secs(1)).await;
    let mut new = open(&client, &isolation(0), ECHO).await;
    assert_eq!(circuits(), 2, "the old one is too old for it");
    for _ in 0..3 {
        echo(&mut old, b"and the old stream goes on").await;
        echo(&mut new, b"beside the new").await;
        sleep(Duration::from_secs(120)).await;
        assert_eq!(circuits(), 2);
    }
    drop(old);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(circuits(), 1, "it went with its last stream");
    echo(&mut new, b"and the new one stays").await;
}
