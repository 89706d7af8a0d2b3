//! Scenarios of repair with relays that a test plays: who is answered on a link, and what one that lies brings about.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use trefoil_protocol::{
    envelope::{LetterId, SizeClass},
    identity::{RelayId, RelaySecret},
    limits::{MAILBOX_FRAME, REPAIR_RANKS, REPAIR_TALK},
    mailbox::{Answer, Listed, Postage, Refusal, Request},
    puzzle::Hour,
    ring::{self, Candidate, Placement},
    stamp,
};
use trefoil_relay::{
    endpoint::{Endpoint, LinkIdentity},
    frames,
    link::Link,
    opened::{Arrival, RequestStream},
};

use super::{
    bad_gossip_tests::describe,
    mailbox_tests::{Person, REPAIR_ROUNDS, envelope, id, network},
    nodes::{START, SimNetwork, relay_address, secrets},
};

/// Relay N, which has stopped, as a test plays it.
fn played(network: &SimNetwork, number: u8) -> Endpoint {
    network.endpoint(relay_address(number), LinkIdentity::Relay(Arc::new(secrets(number).0)))
}

/// The answer's frame; `None` where the stream ends instead.
async fn ask(stream: &mut RequestStream, request: &Request<'_>) -> Option<Vec<u8>> {
    let (mut reader, mut writer) = stream.halves();
    frames::write(&mut writer, &request.encode()).await.ok()?;
    frames::read(&mut reader, MAILBOX_FRAME).await.ok().flatten()
}

/// Whether a question is answered on a new stream of this link, which is kept.
async fn is_answered(link: &Link) -> Option<RequestStream> {
    let mut stream = link.open_mailbox().await.ok()?;
    ask(&mut stream, &Request::Kept { after: 0 }).await.map(|_| stream)
}

/// Whether both relays are at ranks up to 10 for this placement, as the specification has it.
fn is_shared(network: &SimNetwork, placement: &Placement, relays: [u8; 2]) -> bool {
    let usable = network.relay(relays[0]).directory().usable();
    let candidates = (1..).zip(network.entries()).filter_map(|(number, entry)| {
        let mut said = describe(network.params(), &secrets(number).0, &relay_address(number).to_string());
        said.mailbox = true;
        Some(Candidate::new(&said, usable.class(&entry.id)?))
    });
    let ring = ring::ring(placement, network.params(), candidates);
    relays.iter().all(|number| ring[..REPAIR_RANKS].contains(&id(network, *number)))
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_told_of_inboxes_only_that_both_it_and_who_is_asked_repair() {
    let mut network = network(12, 17).await;
    network.stop(5).await;
    let endpoint = played(&network, 5);
    let link = endpoint.dial(id(&network, 1), relay_address(1)).await.unwrap();
    let mut stream = link.open_mailbox().await.unwrap();
    let mut told = [0, 0];
    for number in 1..=20 {
        let inbox = Person::new(&network, number).requests.placement();
        let pull = ask(&mut stream, &Request::Pull { inbox, after: 0 }).await.unwrap();
        let take = ask(&mut stream, &Request::Take { inbox, letter: LetterId::of(b"no letter") }).await.unwrap();
        let answers = [Answer::decode(&pull).unwrap(), Answer::decode(&take).unwrap()];
        let is_shared = is_shared(&network, &inbox, [1, 5]);
        told[usize::from(is_shared)] += 1;
        if is_shared {
            let nothing = Answer::Pulled { next: 0, letters: vec![], tombstones: vec![] };
            assert_eq!(answers, [nothing, Answer::Refused(Refusal::Gone)], "{number}");
        } else {
            assert_eq!(answers, [Answer::Refused(Refusal::NotForYou), Answer::Refused(Refusal::NotForYou)], "{number}");
        }
    }
    assert!(told.iter().all(|count| *count > 3), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_no_usable_relay_is_not_answered_and_one_that_is_has_one_stream_for_a_while() {
    let mut network = network(13, 8).await;
    network.stop(5).await;
    let (asked, address) = (id(&network, 1), relay_address(1));
    let stranger = Arc::new(RelaySecret::generate(&mut StdRng::seed_from_u64(99)));
    for (host, identity) in [(1, LinkIdentity::Anonymous), (2, LinkIdentity::Relay(stranger))] {
        let endpoint = network.endpoint(([10, 99, host, 1], 9001).into(), identity);
        let link = endpoint.dial(asked, address).await.unwrap();
        assert!(is_answered(&link).await.is_none(), "stranger {host}");
    }
    let endpoint = played(&network, 5);
    let link = endpoint.dial(asked, address).await.unwrap();
    let first = is_answered(&link).await.expect("a usable relay is answered");
    assert!(is_answered(&link).await.is_none(), "on one stream at once");
    first.finish();
    sleep(Duration::from_secs(1)).await;
    let mut held = is_answered(&link).await.expect("and on another one after it");
    sleep(REPAIR_TALK - Duration::from_secs(5)).await;
    assert!(ask(&mut held, &Request::Kept { after: 0 }).await.is_some());
    sleep(Duration::from_secs(10)).await;
    assert!(ask(&mut held, &Request::Kept { after: 0 }).await.is_none(), "nobody holds a place for good");
}

/// A replica that names one letter and gives another, which would be taken if it had been named.
struct Liar {
    inbox: Placement,
    named: LetterId,
    postage: Postage,
    given: Vec<u8>,
    /// How often it was asked for the letter, by whom.
    asked: Mutex<HashMap<RelayId, usize>>,
}

impl Liar {
    async fn serve(self: Arc<Self>, endpoint: Endpoint) {
        while let Some(arriving) = endpoint.accept().await {
            let liar = Arc::clone(&self);
            tokio::spawn(async move {
                let Ok(link) = arriving.finish().await else { return };
                while let Ok(opened) = link.accept().await {
                    if let (Ok(Arrival::Mailbox(stream)), Some(peer)) = (opened.arrive().await, link.peer()) {
                        liar.tell(stream, peer).await;
                    }
                }
            });
        }
    }

    async fn tell(&self, mut stream: RequestStream, peer: RelayId) {
        let (mut reader, mut writer) = stream.halves();
        while let Ok(Some(frame)) = frames::read(&mut reader, MAILBOX_FRAME).await {
            let answer = match Request::decode(&frame).unwrap() {
                Request::Kept { after: 0 } => Answer::Kept { next: 1, placements: vec![self.inbox] },
                Request::Kept { after } => Answer::Kept { next: after, placements: vec![] },
                Request::Pull { after: 0, .. } => {
                    let expiry = Hour::of_unix(START.plus(300 * 3600).0);
                    let letters = vec![Listed { letter: self.named, class: SizeClass::Short, expiry }];
                    Answer::Pulled { next: 1, letters, tombstones: vec![] }
                }
                Request::Pull { after, .. } => Answer::Pulled { next: after, letters: vec![], tombstones: vec![] },
                Request::Take { .. } => {
                    *self.asked.lock().unwrap().entry(peer).or_default() += 1;
                    Answer::Taken { postage: self.postage, envelope: &self.given }
                }
                other => panic!("a replica asks for {other:?}"),
            };
            if frames::write(&mut writer, &answer.encode()).await.is_err() {
                return;
            }
        }
    }
}

/// What the others have taken from relay 8, which tells of a letter by this name, and how often each has asked for it.
async fn told(seed: u64, name: impl FnOnce(&[u8]) -> LetterId) -> (u64, HashMap<RelayId, usize>) {
    let mut network = network(seed, 8).await;
    let (person, given) = (Person::new(&network, 1), envelope(2, SizeClass::Short));
    let postage = Postage::Stamp(person.stamp(&person.requests, LetterId::of(&given), stamp::price(0)));
    network.stop(8).await;
    let (inbox, named) = (person.requests.placement(), name(&given));
    let liar = Arc::new(Liar { inbox, named, postage, given, asked: Mutex::default() });
    tokio::spawn(Arc::clone(&liar).serve(played(&network, 8)));
    sleep(REPAIR_ROUNDS).await;
    let taken = (1..=7).map(|number| network.relay(number).status().mailboxes.map_or(0, |of| of.repaired)).sum();
    let asked = liar.asked.lock().unwrap().clone();
    (taken, asked)
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_gives_another_letter_than_it_named_fills_nothing_and_is_left_alone() {
    let (taken, asked) = told(14, |_| LetterId::of(&envelope(1, SizeClass::Short))).await;
    assert_eq!(taken, 0);
    assert!(asked.len() >= 5 && asked.values().all(|times| *times == 1), "{asked:?}");
    let (taken, _) = told(14, LetterId::of).await;
    assert_eq!(taken, 7, "what is as it was named is taken");
}
