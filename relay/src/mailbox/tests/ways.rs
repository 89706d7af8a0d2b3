//! What becomes of letters, tickets, tombstones and prekeys when all is well.

use std::collections::BTreeSet;

use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    limits::{MAILBOX_LIST, MAILBOX_PATIENCE},
    prekeys::{Prekeys, PrekeysOf, PrekeysRecord},
};

use super::*;

#[tokio::test]
async fn a_letter_of_each_size_is_listed_fetched_and_deleted() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    for (number, class) in (0..).zip(SizeClass::ALL) {
        let envelope = envelope(77, class);
        let letter = LetterId::of(&envelope);
        mailbox.must(Request::Deposit(deposit(&inbox, ticket(&inbox, number), &envelope))).await;
        let (_, listed) = mailbox.page(&inbox, 0, NOW).await;
        assert_eq!(listed, [Listed { letter, class, expiry: expiry_of(336, NOW) }]);
        let frame = mailbox.ask(owned(&inbox, Ask::Fetch(letter))).await;
        assert_eq!(read(&frame), Answer::Letter(&envelope));
        let tombstones = vec![tombstone(&inbox, letter, expiry_of(336, NOW))];
        mailbox.must(Request::Delete { inbox: inbox.placement(), tombstones }).await;
        assert_eq!(mailbox.letters(&inbox).await, []);
        assert_eq!(mailbox.refusal(owned(&inbox, Ask::Fetch(letter))).await, Some(Refusal::Gone));
    }
}

#[tokio::test]
async fn letters_are_listed_in_the_order_in_which_they_came_page_by_page_and_each_inbox_by_itself() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let other = private(2);
    mailbox.must(registering(&other, 0, &tickets(&other))).await;
    let numbers: Vec<u64> = (0..300).map(|number| number * 7919 % 300).collect();
    for number in &numbers {
        let ticket = u16::try_from(*number).unwrap();
        assert!(mailbox.keep(&inbox, *number, ticket).await.is_ok());
        if number % 100 == 0 {
            assert!(mailbox.keep(&other, *number, ticket).await.is_ok());
        }
    }
    let (next, first) = mailbox.page(&inbox, 0, NOW).await;
    let (last, second) = mailbox.page(&inbox, next, NOW).await;
    assert_eq!((first.len(), second.len()), (MAILBOX_LIST, 300 - MAILBOX_LIST));
    let listed: Vec<_> = first.iter().chain(&second).map(|listed| listed.letter).collect();
    assert_eq!(listed, numbers.iter().copied().map(id).collect::<Vec<_>>());
    assert_eq!(mailbox.page(&inbox, last, NOW).await, (last, vec![]));
    assert_eq!(mailbox.page(&inbox, u64::MAX, NOW).await, (u64::MAX, vec![]));
    assert_eq!(mailbox.letters(&other).await.len(), 3);
}

#[tokio::test]
async fn a_letter_that_is_there_or_was_deleted_is_acknowledged_in_the_same_way_and_spends_no_ticket() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let expiry = mailbox.keep(&inbox, 1, 1).await;
    for (number, ticket) in [(1, 2), (1, 9999)] {
        assert_eq!(mailbox.keep(&inbox, number, ticket).await, expiry);
    }
    mailbox.must(deletion(&inbox, [1])).await;
    for (number, ticket) in [(1, 2), (1, 9999)] {
        assert_eq!(mailbox.keep(&inbox, number, ticket).await, expiry, "with whatever ticket");
    }
    assert_eq!(mailbox.letters(&inbox).await, []);
    assert!(mailbox.keep(&inbox, 2, 2).await.is_ok(), "the ticket is still good");
}

#[tokio::test]
async fn whoever_deposits_again_can_keep_a_letter_longer_and_never_less_long_whatever_has_become_of_it() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let asks = [(100, 1u16, 100), (1, 9999, 100), (300, 9999, 300), (1, 1, 300)];
    let envelopes = [1, 2].map(short);
    for (hours, number, kept) in asks {
        for (envelope, stranger) in envelopes.iter().zip([number, number + 1]) {
            let deposit = Deposit { hours, ..deposit(&inbox, ticket(&inbox, stranger), envelope) };
            let frame = mailbox.ask(Request::Deposit(deposit)).await;
            let Answer::Accepted(receipt) = read(&frame) else { panic!("{:?}", read(&frame)) };
            assert_eq!(receipt.expiry, expiry_of(kept, NOW), "{hours}");
        }
        mailbox.must(deletion(&inbox, [2])).await;
    }
    let late = NOW.plus(299 * HOUR);
    mailbox.sweep_all(late).await;
    assert_eq!(mailbox.letters_at(&inbox, late).await, [id(1)]);
    mailbox.sweep_all(NOW.plus(302 * HOUR)).await;
    assert_eq!(mailbox.letters_at(&inbox, NOW).await, []);
}

#[tokio::test]
async fn a_letter_that_was_deleted_before_it_came_costs_what_others_cost_and_is_not_there() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    mailbox.must(deletion(&inbox, [1])).await;
    assert_eq!(mailbox.keep(&inbox, 1, 9999).await, Err(Refusal::BadTicket));
    assert_eq!(mailbox.keep(&inbox, 1, 1).await, Ok(expiry_of(336, NOW)));
    assert_eq!(mailbox.keep_at(&inbox, 1, 1, NOW.plus(HOUR)).await, Ok(expiry_of(337, NOW)));
    assert_eq!(mailbox.letters(&inbox).await, []);
    assert_eq!(mailbox.keep(&inbox, 2, 1).await, Err(Refusal::BadTicket), "it was spent");
}

#[tokio::test]
async fn a_ticket_counts_once_if_it_is_registered_and_a_list_takes_the_place_of_the_one_before() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    assert!(mailbox.keep(&inbox, 1, 0).await.is_ok());
    assert_eq!(mailbox.keep(&inbox, 2, 0).await, Err(Refusal::BadTicket));
    assert_eq!(mailbox.keep(&inbox, 2, 2000).await, Err(Refusal::BadTicket));
    for number in [1, 1000, 1999] {
        assert!(mailbox.keep(&inbox, number.into(), number).await.is_ok(), "{number}");
    }
    let none = tickets_of(&inbox, 0, 0);
    mailbox.must(registering(&inbox, 7, &tickets(&inbox))).await;
    mailbox.must(registering(&inbox, 0, &none)).await;
    assert!(mailbox.keep(&inbox, 5, 5).await.is_ok(), "list 7 has it, too");
    assert_eq!(mailbox.keep(&inbox, 6, 0).await, Err(Refusal::BadTicket), "what was spent stays so");
    mailbox.must(registering(&inbox, 7, &none)).await;
    assert_eq!(mailbox.keep(&inbox, 6, 6).await, Err(Refusal::BadTicket));
}

#[tokio::test]
async fn strangers_stamps_get_dearer_with_what_came_that_day_whatever_has_become_of_it() {
    let (mailbox, inbox) =
        (Mailbox::open_at(Place::Faulty(Faulty::default()), terms(MAILBOX_SIZE)).unwrap(), request(today()));
    let stamped = |number, deposits| Postage::Stamp(mint(&inbox.placement(), id(number), deposits, today()));
    let cheap = (1000..).find(|number| {
        let letter = id(*number);
        let stamped = Stamped { network: &NETWORK, inbox: &inbox.placement(), letter: &letter };
        mint(&inbox.placement(), letter, 0, today()).check(&stamped, stamp::price(64), today()).is_err()
    });
    for number in 0..64 {
        mailbox.must(Request::Deposit(deposit(&inbox, stamped(number, 0), &short(number)))).await;
    }
    mailbox.must(deletion(&inbox, 0..64)).await;
    let cheap = cheap.unwrap();
    let again = mailbox.refusal(Request::Deposit(deposit(&inbox, stamped(cheap, 0), &short(cheap)))).await;
    assert_eq!(again, Some(Refusal::Price(17)));
    mailbox.must(Request::Deposit(deposit(&inbox, stamped(cheap, 64), &short(cheap)))).await;
}

#[tokio::test]
async fn whoever_waits_hears_of_a_letter_when_it_comes() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let patient = owned(&inbox, Ask::List { after: 0, patience: MAILBOX_PATIENCE });
    let (frame, kept) = tokio::join!(mailbox.ask(patient), mailbox.keep(&inbox, 1, 1));
    assert!(kept.is_ok());
    assert!(matches!(read(&frame), Answer::Letters { letters, .. } if letters.len() == 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_in_vain_is_told_so_in_time() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let start = Instant::now();
    let frame = mailbox.ask(owned(&inbox, Ask::List { after: 9, patience: 77 })).await;
    assert_eq!(read(&frame), Answer::Letters { next: 9, letters: vec![] });
    assert_eq!(start.elapsed().as_secs(), 77);
}

#[tokio::test(start_paused = true)]
async fn in_a_simulation_no_time_passes_while_a_letter_is_written() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let start = Instant::now();
    for number in 0..100 {
        let kept = timeout_at(start + Duration::from_millis(1), mailbox.keep(&inbox, number.into(), number)).await;
        assert!(matches!(kept, Ok(Ok(_))), "{number}");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_replica_pulls_letters_and_tombstones_and_takes_what_it_lacks() {
    let ((mailbox, inbox), (other, _)) = (Mailbox::new(MAILBOX_SIZE).await, Mailbox::new(MAILBOX_SIZE).await);
    for number in 0..4 {
        mailbox.keep(&inbox, number, u16::try_from(number).unwrap()).await.unwrap();
    }
    mailbox.must(deletion(&inbox, [1])).await;
    other.keep(&inbox, 1, 1).await.unwrap();
    let frame = mailbox.answer(Request::Pull { inbox: inbox.placement(), after: 0 }, Asker::Replica, NOW).await;
    let Answer::Pulled { next, letters, tombstones } = read(&frame) else { panic!("{:?}", read(&frame)) };
    assert_eq!((letters.len(), tombstones.len()), (3, 1));
    other.must(Request::Delete { inbox: inbox.placement(), tombstones }).await;
    for Listed { letter, expiry, .. } in letters {
        let frame = mailbox.answer(Request::Take { inbox: inbox.placement(), letter }, Asker::Replica, NOW).await;
        let Answer::Taken { postage, envelope } = read(&frame) else { panic!("{:?}", read(&frame)) };
        other
            .repair(Repair { from: replica(1), inbox: inbox.placement(), expiry, postage, envelope }, NOW)
            .await
            .unwrap();
    }
    assert_eq!(other.letters(&inbox).await, [0, 2, 3].map(id), "and the deleted one is gone");
    let frame = mailbox.answer(Request::Pull { inbox: inbox.placement(), after: next }, Asker::Replica, NOW).await;
    assert_eq!(read(&frame), Answer::Pulled { next, letters: vec![], tombstones: vec![] });
}

#[tokio::test]
async fn all_that_was_deleted_is_pulled_page_by_page_and_nothing_is_left_out() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    for number in 0..700 {
        mailbox.keep(&inbox, number, u16::try_from(number).unwrap()).await.unwrap();
    }
    for first in [0, 200, 400] {
        mailbox.must(deletion(&inbox, first..first + 150)).await;
    }
    let (mut after, mut here, mut gone) = (0, vec![], vec![]);
    loop {
        let frame = mailbox.answer(Request::Pull { inbox: inbox.placement(), after }, Asker::Replica, NOW).await;
        let Answer::Pulled { next, letters, tombstones } = read(&frame) else { panic!("{:?}", read(&frame)) };
        here.extend(letters.iter().map(|listed| listed.letter));
        gone.extend(tombstones.iter().map(|tombstone| tombstone.letter));
        if next == after {
            break;
        }
        after = next;
    }
    let distinct = |all: Vec<LetterId>| all.into_iter().collect::<BTreeSet<_>>().len();
    assert_eq!((distinct(here), distinct(gone)), (250, 450));
}

#[tokio::test]
async fn the_prekeys_with_the_highest_revision_are_kept() {
    let mailbox = Mailbox::open_at(Place::Faulty(Faulty::default()), terms(MAILBOX_SIZE)).unwrap();
    let (week, address) = (Week::of(NOW, trefoil_protocol::prekeys::offset(&owner().address())), owner().address());
    let of = PrekeysOf::new(&NETWORK, address, week);
    let placement = of.placement();
    let record = |revision, seed| -> PrekeysRecord {
        let keys = Prekeys { xwing: [0; 1216], identity: [4; 32], device: 0, fallback: vec![[5; 32]] };
        of.seal(&keys, revision, &owner(), &mut StdRng::seed_from_u64(seed))
    };
    let publish = |record: PrekeysRecord| {
        let stamp = mint(&placement, stamp::left(&here(), 0, record.as_bytes()), 0, today());
        Request::Publish { placement, stamp, record }
    };
    assert_eq!(mailbox.refusal(Request::Look { placement }).await, Some(Refusal::Gone));
    for (revision, seed, refused) in
        [(2, 1, None), (2, 1, None), (2, 2, Some(Refusal::Stale)), (1, 1, Some(Refusal::Stale)), (3, 1, None)]
    {
        assert_eq!(mailbox.refusal(publish(record(revision, seed))).await, refused, "{revision} {seed}");
    }
    assert_eq!(read(&mailbox.ask(Request::Look { placement }).await), Answer::Prekeys(record(3, 1)));
    let mut forged = *record(4, 1).as_bytes();
    forged[100] ^= 1;
    assert_eq!(mailbox.refusal(publish(PrekeysRecord::from_bytes(&forged))).await, Some(Refusal::BadClaim));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_show_one_ticket_at_once_one_is_heard_and_of_two_with_one_letter_both_are() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    for round in 0..20 {
        let (one, other) = (u64::from(round) * 2, u64::from(round) * 2 + 1);
        let (a, b) = tokio::join!(mailbox.keep(&inbox, one, round), mailbox.keep(&inbox, other, round));
        assert!(a.is_ok() != b.is_ok());
    }
    assert_eq!(mailbox.letters(&inbox).await.len(), 20);
    let (a, b) = tokio::join!(mailbox.keep(&inbox, 100, 100), mailbox.keep(&inbox, 100, 101));
    assert!(a.is_ok() && a == b);
    assert_eq!(mailbox.letters(&inbox).await.len(), 21);
}
