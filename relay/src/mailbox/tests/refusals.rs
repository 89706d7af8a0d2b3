//! What is refused, and that it changes nothing.

use std::pin::pin;

use trefoil_protocol::{
    limits::{INBOX_WATCHERS, PLACEMENT_AHEAD},
    prekeys::PrekeysRecord,
};

use super::*;

const DAY: u64 = 24 * HOUR;

/// One of each that changes or tells something, to this inbox, as its owner or a replica would ask.
fn all(inbox: &Inbox) -> Vec<(Request<'static>, Asker<'static>)> {
    let (placement, letter) = (inbox.placement(), id(1));
    let envelope: &[u8] = short(1).leak();
    vec![
        (Request::Deposit(deposit(inbox, ticket(inbox, 1), envelope)), HERE),
        (owned(inbox, Ask::List { after: 0, patience: 0 }), HERE),
        (owned(inbox, Ask::Fetch(letter)), HERE),
        (registering(inbox, 0, &tickets(inbox)), HERE),
        (deletion(inbox, [1]), HERE),
        (Request::Pull { inbox: placement, after: 0 }, Asker::Replica),
        (Request::Take { inbox: placement, letter }, Asker::Replica),
        (Request::Look { placement: Placement { of: BlindUse::Prekeys, ..placement } }, HERE),
    ]
}

#[tokio::test]
async fn nothing_is_answered_for_an_inbox_of_another_time() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    for at in [NOW.plus(40 * DAY), UnixSeconds(NOW.0 - PLACEMENT_AHEAD - 15 * DAY)] {
        for (request, asker) in all(&inbox) {
            let refusal = mailbox.refusal_at(request.clone(), asker, at).await;
            assert_eq!(refusal, Some(Refusal::Period), "{request:?} at {at:?}");
        }
    }
}

#[tokio::test]
async fn letters_come_in_the_inboxs_period_and_its_owner_may_ask_before_and_after_it() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    for at in [NOW.plus(15 * DAY), UnixSeconds(NOW.0 - 15 * DAY)] {
        for (request, asker) in all(&inbox) {
            let refused = mailbox.refusal_at(request.clone(), asker, at).await;
            let is_deposit = matches!(request, Request::Deposit(_));
            assert_eq!(refused == Some(Refusal::Period), is_deposit, "{request:?} at {at:?}");
        }
    }
}

#[tokio::test]
async fn only_the_owner_on_the_circuit_of_the_claim_and_only_replicas_are_heard() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    for (request, asker) in all(&inbox) {
        let expected = |refusal: Refusal| match (&request, refusal) {
            (Request::Owned(_), refusal) => (refusal == Refusal::BadClaim).then_some(refusal),
            (Request::Pull { .. } | Request::Take { .. }, refusal) => {
                (refusal == Refusal::NotForYou).then_some(refusal)
            }
            _ => None,
        };
        let other = match asker {
            Asker::Circuit(_) => [Asker::Circuit(&[8; 32]), Asker::Replica],
            Asker::Replica => [HERE, HERE],
        };
        for other in other {
            let refusal =
                mailbox.refusal_at(request.clone(), other, NOW).await.filter(|refusal| *refusal != Refusal::Gone);
            let wanted = [Refusal::BadClaim, Refusal::NotForYou].into_iter().find_map(expected);
            assert_eq!(refusal, wanted, "{request:?} from {other:?}");
        }
    }
}

#[tokio::test]
async fn what_the_owner_has_not_signed_deletes_nothing() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    let whole = tombstone(&inbox, id(1), Hour(u32::MAX));
    let others = [
        Tombstone { letter: id(2), ..whole },
        Tombstone { until: Hour(5), ..whole },
        tombstone(&private(2), id(1), Hour(u32::MAX)),
    ];
    for other in others {
        let tombstones = vec![whole, other];
        let refusal = mailbox.refusal(Request::Delete { inbox: inbox.placement(), tombstones }).await;
        assert_eq!(refusal, Some(Refusal::BadClaim));
    }
    assert_eq!(mailbox.letters(&inbox).await, [id(1)]);
}

#[tokio::test]
async fn an_inbox_that_nobody_paid_for_takes_no_tombstones() {
    let (mailbox, _) = Mailbox::new(MAILBOX_SIZE).await;
    assert_eq!(mailbox.refusal(deletion(&private(2), [1])).await, Some(Refusal::Gone));
}

#[tokio::test]
async fn a_stamp_counts_for_its_letter_inbox_and_day() {
    let (mailbox, inbox) = (Mailbox::new(MAILBOX_SIZE).await.0, request(today()));
    let (here, envelope) = (inbox.placement(), short(1));
    let stamped = |stamp| Request::Deposit(deposit(&inbox, Postage::Stamp(stamp), &envelope));
    let old = mint(&here, id(1), 0, Day(today().0 - 2));
    assert_eq!(mailbox.refusal(stamped(old)).await, Some(Refusal::BadStamp));
    for other in [mint(&here, id(2), 0, today()), mint(&private(1).placement(), id(1), 0, today())] {
        assert_eq!(mailbox.refusal(stamped(other)).await, Some(Refusal::Price(16)));
    }
    assert_eq!(mailbox.letters(&inbox).await, []);
    assert_eq!(mailbox.refusal(stamped(mint(&here, id(1), 0, today()))).await, None);
    let weak = Stamp { day: today(), nonce: 0 };
    let list = tickets(&private(2));
    let register = owned(&private(2), Ask::Register { list: 0, tickets: list.clone(), stamp: weak });
    assert_eq!(mailbox.refusal(register).await, Some(Refusal::Price(18)));
    let refusal = mailbox.refusal(registering(&inbox, 0, &list)).await;
    assert_eq!(refusal, Some(Refusal::BadTicket), "a request inbox has no tickets");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_at_an_inbox_that_nobody_paid_for_has_no_place_and_the_oldest_gives_way() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let patient = |inbox: &Inbox| owned(inbox, Ask::List { after: 0, patience: 600 });
    mailbox.repaired(&private(2), 1, ticket(&private(2), 1)).await.unwrap();
    let patient_after = owned(&private(2), Ask::List { after: 9, patience: 600 });
    assert_eq!(mailbox.refusal(patient_after).await, Some(Refusal::Gone), "repair pays for nothing");
    let start = Instant::now();
    mailbox.must(patient(&request(today()))).await;
    assert_eq!(start.elapsed().as_secs(), 0, "nobody waits at a request inbox");
    let held: Vec<_> = (0..INBOX_WATCHERS).map(|_| mailbox.watchers.watch(inbox.placement())).collect();
    let mut waiting = pin!(mailbox.ask(patient(&inbox)));
    assert!(timeout_at(start + Duration::from_secs(1), &mut waiting).await.is_err());
    let others: Vec<_> = (0..INBOX_WATCHERS).map(|_| mailbox.watchers.watch(inbox.placement())).collect();
    assert_eq!(read(&waiting.await), Answer::Letters { next: 0, letters: vec![] });
    assert_eq!(start.elapsed().as_secs(), 1);
    drop((held, others));
}

#[tokio::test]
async fn prekeys_that_nobody_signed_or_stamped_are_not_kept() {
    let mailbox = Mailbox::new(MAILBOX_SIZE).await.0;
    let placement = Placement { of: BlindUse::Prekeys, ..private(1).placement() };
    let record = PrekeysRecord::from_bytes(&[1; PrekeysRecord::LENGTH]);
    let weak = Stamp { day: today(), nonce: 0 };
    let refusal = mailbox.refusal(Request::Publish { placement, stamp: weak, record: record.clone() }).await;
    assert_eq!(refusal, Some(Refusal::Price(16)), "what is cheap is checked first");
    let stamp = mint(&placement, stamp::left(&here(), 0, record.as_bytes()), 0, today());
    let refusal = mailbox.refusal(Request::Publish { placement, stamp, record }).await;
    assert_eq!(refusal, Some(Refusal::BadClaim));
    assert_eq!(mailbox.refusal(Request::Look { placement }).await, Some(Refusal::Gone));
}
