//! Scenarios of settling: relays whose sets would differ by what each saw in time have the same ones.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep_until};
use trefoil_protocol::{
    directory::{Answer, Refusal, Request},
    epoch::Epoch,
    identity::RelaySecret,
    sighting::Sighting,
};
use trefoil_relay::{
    counters::Cause,
    endpoint::LinkIdentity,
    link::Link,
    questions::{QuestionError, Questions},
};

use super::{
    gossip_tests::{know, numbers, plan},
    nodes::{START, SimNetwork, relay_address, secrets},
};

const EPOCH: u32 = 600;
const SETTLE: u32 = 300;
const STEP: u32 = SETTLE / 30;

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// A network whose epochs are long enough for steps of ten seconds, grown up, with one relay that has not come yet; and
/// when it started.
async fn grown_up(seed: u64) -> (SimNetwork, Instant) {
    let started = Instant::now();
    let mut plan = plan(seed, 15).late(1);
    let directory = &mut plan.params.directory;
    (directory.epoch, directory.settle) = (NonZeroU32::new(EPOCH).unwrap(), SETTLE);
    (directory.reconcile, directory.redraw) = (20, 300);
    let network = plan.start();
    sleep_until(started + seconds(EPOCH + 1)).await;
    let all = numbers(1..=14);
    assert!(know(&network, &all, &all));
    (network, started)
}

/// The usable sets of these relays, by their digests.
fn sets(network: &SimNetwork, relays: u8) -> BTreeSet<[u8; 32]> {
    (1..=relays).map(|number| network.relay(number).directory().usable().digest()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_comes_when_some_see_it_in_time_and_some_do_not_is_in_all_sets() {
    for early in (2..7).map(|quarters| Duration::from_millis(250) * quarters) {
        let (mut network, started) = grown_up(1).await;
        // The moment after which it takes an observer's word.
        sleep_until(started + seconds(2 * EPOCH - SETTLE - 2 * STEP) - early).await;
        network.start_again(15, &[1]);
        sleep_until(started + seconds(2 * EPOCH + 5)).await;
        let relays = sets(&network, 14);
        assert_eq!(relays.len(), 1, "{early:?} before, relays disagree");
        let newcomer = network.entries()[14].id;
        assert!(network.relay(1).directory().usable().class(&newcomer).is_some(), "observers have seen it in time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_was_off_while_the_others_settled_agrees_with_them_an_epoch_later() {
    let (mut network, started) = grown_up(2).await;
    sleep_until(started + seconds(2 * EPOCH - SETTLE - 2 * STEP)).await;
    network.stop(3).await;
    network.start_again(15, &[1]);
    sleep_until(started + seconds(2 * EPOCH - SETTLE + 3 * STEP)).await;
    network.start_again(3, &[1]);
    sleep_until(started + seconds(3 * EPOCH + 5)).await;
    assert_eq!(sets(&network, 15).len(), 1);
}

/// A link to the first relay from somebody at this address, with this identity.
async fn link(network: &SimNetwork, address: &str, identity: LinkIdentity) -> Link {
    let endpoint = network.endpoint(address.parse().unwrap(), identity);
    endpoint.dial(network.entries()[0].id, relay_address(1)).await.unwrap()
}

async fn sight(link: &Link, sightings: Vec<&[u8]>) -> Result<u16, QuestionError> {
    let mut questions = Questions::on(link).await?;
    let answered = questions.ask(&Request::Sight(sightings)).await?;
    answered.read(|answer| if let Answer::Taken(count) = answer { Some(count) } else { None })
}

/// How many sightings it has.
async fn held(link: &Link) -> usize {
    let mut questions = Questions::on(link).await.unwrap();
    let answered = questions.ask(&Request::Sightings(vec![])).await.unwrap();
    answered.read(|answer| if let Answer::Sightings(all) = answer { Some(all.len()) } else { None }).unwrap()
}

#[tokio::test(start_paused = true)]
async fn sightings_are_taken_from_relays_only_and_what_nobody_signed_is_counted() {
    let (mut network, started) = grown_up(3).await;
    network.stop(14).await; // from now on the test plays it
    let epoch = Epoch::of(START.plus(3600), &network.params().directory);
    let (newcomer, _) = secrets(77);
    let said = |network: &SimNetwork, epoch| {
        Sighting::sign(epoch, vec![newcomer.id()], &network.params().id(), &secrets(2).0).encode()
    };
    let relay = link(&network, "10.99.0.1:1", LinkIdentity::Relay(Arc::new(secrets(14).0))).await;
    let count = |network: &SimNetwork| network.relay(1).directory().counters().of(Cause::Sighting);
    assert_eq!(sight(&relay, vec![&said(&network, epoch)]).await.unwrap(), 0, "of an epoch far away");
    assert_eq!(count(&network), 0, "which may be a matter of clocks");
    let next = network.relay(1).directory().usable().epoch().next();
    let good = said(&network, next);
    let mut changed = good.clone();
    changed[40] ^= 1;
    assert_eq!(sight(&relay, vec![&changed, &good[1..], &good]).await.unwrap(), 1, "the good one is news");
    assert_eq!(count(&network), 2);
    assert_eq!(sight(&relay, vec![&good]).await.unwrap(), 0, "and no second time");

    let stranger = RelaySecret::generate(&mut StdRng::seed_from_u64(999));
    let strangers =
        [("10.99.0.1:2", LinkIdentity::Anonymous), ("10.99.0.1:3", LinkIdentity::Relay(Arc::new(stranger)))];
    for (address, identity) in strangers {
        let refused = sight(&link(&network, address, identity).await, vec![&good]).await;
        assert!(matches!(refused, Err(QuestionError::Refused(Refusal::NotForYou))), "{address}: {refused:?}");
    }
    assert_eq!(held(&relay).await, 0, "nobody is told before the deadline");
    sleep_until(started + seconds(2 * EPOCH - SETTLE + STEP)).await;
    assert_eq!(held(&relay).await, 1);
}
