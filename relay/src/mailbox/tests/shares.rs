//! What room costs, and whose it is.

use trefoil_protocol::limits::{MAILBOX_LIST, TICKETS_BOUGHT};

use super::{room::room_for, *};
use crate::mailbox::rows::{TICKETS_ROOM, TOMBSTONE_ROOM};

#[tokio::test]
async fn work_that_was_done_for_one_mailbox_or_list_is_of_no_use_at_another() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let list = tickets(&inbox);
    for letter in [
        stamp::left(&replica(1), 1, &list.encode()),
        stamp::left(&here(), 0, &list.encode()),
        LetterId::of(&list.encode()),
    ] {
        let stamp = mint_bits(&inbox.placement(), letter, 20, today());
        let register = owned(&inbox, Ask::Register { list: 1, tickets: list.clone(), stamp });
        assert_eq!(mailbox.refusal(register).await, Some(Refusal::Price(18)));
    }
}

#[tokio::test]
async fn the_room_of_a_list_is_what_was_paid_for_it_and_no_stamp_pays_twice() {
    let mailbox = Mailbox::open_at(Place::Faulty(Faulty::default()), terms(MAILBOX_SIZE)).unwrap();
    let inbox = private(1);
    let (one, other) = (tickets_of(&inbox, 0, 1000), tickets_of(&inbox, 1, 2000));
    let most = u16::try_from(TICKETS_BOUGHT / u64::from(SizeClass::Short.reckoned())).unwrap();
    for _ in 0..3 {
        mailbox.must(registering_for(&inbox, 0, &one, 18)).await;
    }
    for number in 0..most {
        assert!(mailbox.keep(&inbox, number.into(), number).await.is_ok(), "{number}");
    }
    assert_eq!(mailbox.keep(&inbox, 500, 500).await, Err(Refusal::Quota));
    mailbox.must(registering_for(&inbox, 1, &other, 18)).await;
    assert_eq!(mailbox.keep(&inbox, 500, 500).await, Err(Refusal::Quota), "it is in list 0, too, which is full");
    assert!(mailbox.keep(&inbox, 1500, 1500).await.is_ok(), "whose tickets are in another list has room");
    mailbox.must(registering_for(&inbox, 0, &one, 20)).await;
    assert!(mailbox.keep(&inbox, 500, 500).await.is_ok(), "more was paid");
}

#[tokio::test]
async fn a_gibibyte_costs_minutes_of_work() {
    let hashes = ((1 << 30) / TICKETS_BOUGHT) << 18;
    assert!(hashes / 6_000_000 > 120, "at six million hashes a second");
    let (mailbox, _) = Mailbox::new(MAILBOX_SIZE).await;
    let [a, b] = [2, 3].map(private);
    mailbox.must(registering_for(&a, 0, &tickets(&a), 18)).await;
    let before = mailbox.reckoned();
    mailbox.must(registering_for(&b, 0, &tickets(&b), 18)).await;
    assert_eq!(mailbox.reckoned() - before, u64::from(TICKETS_ROOM));
}

#[tokio::test]
async fn where_room_is_rare_it_is_dearer_by_what_was_deposited_and_not_by_what_waits() {
    let (mailbox, inbox) = Mailbox::new(room_for(320)).await;
    let other = private(2);
    let list = tickets_of(&other, 0, 10);
    let weak = |bits| registering_for(&other, 0, &list, bits);
    let mut prices = vec![];
    for number in 0..300 {
        mailbox.keep(&inbox, number, u16::try_from(number).unwrap()).await.unwrap();
        if number % 20 == 19 {
            let weak = Stamp { day: today(), nonce: 0 };
            let day = request(today());
            let envelope = short(9999);
            let refusal = mailbox.refusal(Request::Deposit(deposit(&day, Postage::Stamp(weak), &envelope))).await;
            let Some(Refusal::Price(price)) = refusal else { panic!("{refusal:?}") };
            prices.push(price);
        }
        if number == 280 {
            let refusal = mailbox.refusal(weak(19)).await;
            assert_eq!(refusal, Some(Refusal::Price(22)));
            mailbox.must(deletion(&inbox, 0..200)).await;
            assert_eq!(mailbox.refusal(weak(19)).await, Some(Refusal::Price(22)));
        }
    }
    prices.dedup();
    assert_eq!(prices, [16, 17, 18, 20]);
}

#[tokio::test]
async fn tombstones_take_no_room_of_deposits_and_have_a_share_that_grows_with_what_was_paid() {
    let (mailbox, inbox) = Mailbox::new(room_for(2)).await;
    mailbox.must(deletion(&inbox, 100..130)).await;
    assert!(mailbox.keep(&inbox, 1, 1).await.is_ok() && mailbox.keep(&inbox, 2, 2).await.is_ok());
    assert_eq!(mailbox.keep(&inbox, 3, 3).await, Err(Refusal::Full));
    let mailbox = Mailbox::open_at(Place::Faulty(Faulty::default()), terms(MAILBOX_SIZE)).unwrap();
    let inbox = private(1);
    mailbox.must(registering_for(&inbox, 0, &tickets(&inbox), 18)).await;
    let most = (16 << 10) + TICKETS_BOUGHT / 4;
    assert!(most / u64::from(TOMBSTONE_ROOM) < MAILBOX_LIST as u64);
    assert_eq!(mailbox.refusal(deletion(&inbox, 0..256)).await, Some(Refusal::Quota));
    assert_eq!(mailbox.totals().unwrap().tombstones, 0, "what is refused changes nothing");
    mailbox.must(deletion(&inbox, 0..most / u64::from(TOMBSTONE_ROOM))).await;
    assert_eq!(mailbox.refusal(deletion(&inbox, [999])).await, Some(Refusal::Quota));
}

#[tokio::test]
async fn what_is_here_can_be_deleted_though_there_is_no_room_for_tombstones() {
    let (mailbox, inbox) = Mailbox::new(room_for(2)).await;
    let expiry = mailbox.keep(&inbox, 1, 1).await;
    mailbox.repaired(&inbox, 2, ticket(&inbox, 0)).await.unwrap();
    let mut number = 100;
    while mailbox.refusal(deletion(&inbox, [number])).await.is_none() {
        number += 1;
    }
    assert_eq!(mailbox.refusal(deletion(&inbox, [1, 2, 5000])).await, Some(Refusal::Full));
    assert_eq!(mailbox.letters(&inbox).await, [1, 2].map(id), "all of a request, or nothing");
    mailbox.must(deletion(&inbox, [1, 2])).await;
    assert_eq!(mailbox.letters(&inbox).await, []);
    assert_eq!(mailbox.keep(&inbox, 1, 9999).await, expiry, "whoever deposits it hears the same");
    assert_eq!(mailbox.repaired(&inbox, 1, ticket(&inbox, 0)).await, Ok(()));
    assert_eq!(mailbox.letters(&inbox).await, [], "and it stays deleted for as long as it was to be kept");
    mailbox.sweep_all(inbox.placement().kept_until().plus(3 * HOUR)).await;
    assert_eq!((mailbox.rows(), mailbox.totals()), (0, Ok(Totals::default())));
}

#[tokio::test]
async fn a_tombstone_counts_for_as_long_as_its_inbox_whatever_others_say_of_the_letter() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    let tombstones = vec![tombstone(&inbox, id(1), expiry_of(336, NOW))];
    mailbox.must(Request::Delete { inbox: inbox.placement(), tombstones }).await;
    let late = UnixSeconds(inbox.placement().kept_until().0 - 10 * HOUR);
    mailbox.sweep_all(late).await;
    let (from, envelope) = (replica(1), short(1));
    let expiry = Hour::of_unix(late.0 + 9 * HOUR);
    let letter = Repair { from, inbox: inbox.placement(), expiry, postage: ticket(&inbox, 1), envelope: &envelope };
    mailbox.repair(letter, late).await.unwrap();
    assert_eq!(mailbox.letters_at(&inbox, late).await, []);
}

#[tokio::test]
async fn what_is_refused_or_known_writes_nothing_to_the_disk() {
    let disk = Faulty::default();
    let mailbox = Mailbox::open_at(Place::Faulty(disk.clone()), terms(MAILBOX_SIZE)).unwrap();
    let inbox = private(1);
    mailbox.must(registering(&inbox, 0, &tickets(&inbox))).await;
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    mailbox.must(deletion(&inbox, [1])).await;
    let changes = disk.changes();
    assert_eq!(mailbox.keep(&inbox, 2, 9999).await, Err(Refusal::BadTicket));
    assert!(mailbox.keep(&inbox, 1, 1).await.is_ok());
    mailbox.must(deletion(&inbox, [1])).await;
    assert_eq!(mailbox.sweep(NOW).await, Ok(false));
    let envelope = short(3);
    let weak = Postage::Stamp(Stamp { day: today(), nonce: 0 });
    assert!(mailbox.refusal(Request::Deposit(deposit(&request(today()), weak, &envelope))).await.is_some());
    assert_eq!(disk.changes(), changes);
}
