//! What comes by repair: whoever deposits hears nothing of it, and no replica can do much with it.

use trefoil_protocol::limits::SOURCE_ROOM;

use super::{room::room_for, *};

const SHORT: u64 = 3 << 10;

#[tokio::test]
async fn whoever_deposits_cannot_tell_whether_one_that_came_by_repair_was_read() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    for number in [1, 2] {
        mailbox.repaired(&inbox, number, ticket(&inbox, 100)).await.unwrap();
    }
    mailbox.must(deletion(&inbox, [1])).await;
    for number in [1, 2, 3] {
        assert_eq!(mailbox.keep(&inbox, number, 9999).await, Err(Refusal::BadTicket), "read, waiting, or never here");
    }
    assert_eq!(mailbox.repaired(&inbox, 1, ticket(&inbox, 100)).await, Ok(()));
    assert_eq!(mailbox.letters(&inbox).await, [id(2)], "what was deleted does not come back");
}

#[tokio::test]
async fn a_letter_that_comes_by_repair_is_kept_no_longer_than_its_inbox() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let last = Hour::of_unix(inbox.placement().kept_until().0);
    let late = UnixSeconds(inbox.placement().kept_until().0 - 10 * HOUR);
    let (postage, envelope) = (ticket(&inbox, 100), short(1));
    let letter =
        Repair { from: replica(1), inbox: inbox.placement(), expiry: Hour(last.0 + 300), postage, envelope: &envelope };
    mailbox.repair(letter, late).await.unwrap();
    let (_, listed) = mailbox.page(&inbox, 0, late).await;
    assert_eq!(listed.iter().map(|listed| listed.expiry).collect::<Vec<_>>(), [last]);
}

#[tokio::test]
async fn a_letter_that_came_by_repair_is_to_whoever_deposits_it_as_if_it_was_not_here() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let day = request(today());
    let stamped = |number| Postage::Stamp(mint(&day.placement(), id(number), 0, today()));
    for number in [1, 2] {
        let long = Repair {
            from: replica(1),
            inbox: inbox.placement(),
            expiry: expiry_of(336, NOW),
            postage: ticket(&inbox, 9),
            envelope: &short(number),
        };
        mailbox.repair(long, NOW).await.unwrap();
        mailbox.repaired(&day, number, stamped(number)).await.unwrap();
    }
    mailbox.must(deletion(&inbox, [2])).await;
    mailbox.must(deletion(&day, [2])).await;
    for (inbox, postage) in [(&inbox, [1, 2, 3].map(|number| ticket(&inbox, number))), (&day, [1, 2, 3].map(stamped))] {
        for (number, postage) in (1..).zip(postage) {
            let envelope = short(number);
            let bad = match postage {
                Postage::Stamp(stamp) => {
                    (Postage::Stamp(Stamp { nonce: stamp.nonce + 1, ..stamp }), Refusal::Price(16))
                }
                Postage::Ticket(_) => (Postage::Ticket(trefoil_protocol::ticket::Ticket([0; 16])), Refusal::BadTicket),
            };
            let unpaid = Deposit { hours: 50, ..deposit(inbox, bad.0, &envelope) };
            assert_eq!(mailbox.refusal(Request::Deposit(unpaid)).await, Some(bad.1), "{number}");
            let frame = mailbox.ask(Request::Deposit(Deposit { postage, ..unpaid })).await;
            let Answer::Accepted(receipt) = read(&frame) else { panic!("{:?}", read(&frame)) };
            assert_eq!(receipt.expiry, expiry_of(50, NOW), "{number}");
        }
        assert_eq!(mailbox.letters(inbox).await, [1, 3].map(id));
    }
    assert_eq!(mailbox.keep(&inbox, 4, 1).await, Err(Refusal::BadTicket), "it was spent");
    let late = NOW.plus(200 * HOUR);
    mailbox.sweep_all(late).await;
    assert_eq!(mailbox.letters_at(&inbox, late).await, [id(1)], "who deposits for less time cuts it not short");
}

#[tokio::test]
async fn the_room_of_what_came_by_repair_does_not_count_for_whoever_deposits() {
    let (mailbox, inbox) = Mailbox::new(room_for(2)).await;
    for (source, number) in (0..40).map(|number| (replica(u8::try_from(number / 5).unwrap()), number)) {
        let _ = mailbox.repaired_from(source, &inbox, 100 + number, ticket(&inbox, 0)).await;
    }
    let before = mailbox.letters(&inbox).await;
    assert_eq!(mailbox.keep(&inbox, 1, 1).await, Ok(expiry_of(336, NOW)));
    assert_eq!(mailbox.keep(&inbox, 2, 2).await, Ok(expiry_of(336, NOW)));
    let there = mailbox.letters(&inbox).await;
    assert_eq!(mailbox.keep(&inbox, 3, 3).await, Err(Refusal::Full));
    assert_eq!(mailbox.letters(&inbox).await, there, "a deposit that is refused drives nothing out");
    assert!(there.len() > 10, "and those that are taken leave a share");
    let gone = before.iter().filter(|letter| !there.contains(letter)).count();
    assert_eq!(there[..there.len() - 2], before[gone..], "the oldest have given way");
}

#[tokio::test]
async fn one_replica_fills_neither_an_inbox_nor_the_mailbox_and_what_it_told_is_reckoned_until_it_expires() {
    let size = room_for(400);
    let (mailbox, inbox) = Mailbox::new(size).await;
    let most = size / 8 / SHORT;
    for number in 0..most {
        assert_eq!(mailbox.repaired_from(replica(1), &inbox, number, ticket(&inbox, 0)).await, Ok(()), "{number}");
    }
    assert_eq!(mailbox.repaired_from(replica(1), &inbox, 1000, ticket(&inbox, 0)).await, Err(Refusal::Full));
    assert_eq!(mailbox.repaired_from(replica(2), &inbox, 1000, ticket(&inbox, 0)).await, Ok(()));
    mailbox.must(deletion(&inbox, [0])).await;
    assert_eq!(mailbox.repaired_from(replica(1), &inbox, 1001, ticket(&inbox, 0)).await, Ok(()));
    mailbox.sweep_all(NOW.plus(102 * HOUR)).await;
    assert_eq!(mailbox.totals().unwrap().repaired, 0);
    let (large, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let mut told = 0;
    while large.repair(long(&inbox, told), NOW).await.is_ok() {
        told += 1;
    }
    assert_eq!(told, SOURCE_ROOM / u64::from(SizeClass::Long.reckoned()));
    assert_eq!(large.repair(long(&inbox, told), NOW).await, Err(Refusal::Quota));
}

fn long(inbox: &Inbox, number: u64) -> Repair<'static> {
    let envelope = envelope(number, SizeClass::Long).leak();
    Repair {
        from: replica(1),
        inbox: inbox.placement(),
        expiry: expiry_of(100, NOW),
        postage: ticket(inbox, 0),
        envelope,
    }
}

#[tokio::test]
async fn a_strangers_letter_by_repair_costs_the_least_and_makes_nothing_dearer() {
    let inbox = request(today());
    let mailbox = Mailbox::open_at(Place::Faulty(Faulty::default()), terms(MAILBOX_SIZE)).unwrap();
    let stamped = |number, deposits| Postage::Stamp(mint(&inbox.placement(), id(number), deposits, today()));
    assert_eq!(mailbox.repaired(&inbox, 1, stamped(2, 0)).await, Err(Refusal::Price(16)));
    assert_eq!(mailbox.repaired(&inbox, 1, ticket(&private(1), 1)).await, Err(Refusal::NotForYou));
    for number in 0..70 {
        assert_eq!(mailbox.repaired(&inbox, number, stamped(number, 0)).await, Ok(()));
    }
    mailbox.must(Request::Deposit(deposit(&inbox, stamped(100, 0), &short(100)))).await;
    for number in 101..164 {
        mailbox.must(Request::Deposit(deposit(&inbox, stamped(number, 0), &short(number)))).await;
    }
    let cheap = (1000..).find(|number| {
        let letter = id(*number);
        let stamped = Stamped { network: &NETWORK, inbox: &inbox.placement(), letter: &letter };
        mint(&inbox.placement(), letter, 0, today()).worth(&stamped) == 16
    });
    let cheap = cheap.unwrap();
    let refusal = mailbox.refusal(Request::Deposit(deposit(&inbox, stamped(cheap, 0), &short(cheap)))).await;
    assert_eq!(refusal, Some(Refusal::Price(17)));
    assert_eq!(mailbox.repaired(&inbox, cheap, stamped(cheap, 0)).await, Ok(()), "whatever the price of today");
}

#[tokio::test]
async fn all_that_is_kept_is_told_and_what_is_lacking_is_known() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let others: Vec<_> = (2..5).map(private).collect();
    for other in &others {
        let list = tickets_of(other, 0, 0);
        mailbox.must(registering_for(other, 0, &list, 18)).await;
    }
    let all: Vec<_> = [&inbox].into_iter().chain(&others).map(|inbox| inbox.placement()).collect();
    let (next, placements) = mailbox.kept(0, NOW).unwrap();
    assert_eq!(placements, all);
    assert_eq!(mailbox.kept(next, NOW), Ok((next, vec![])));
    let over = inbox.placement().kept_until().plus(1);
    assert!(matches!(mailbox.kept(0, over), Ok((_, placements)) if placements.is_empty()));
    let refusal = mailbox.refusal_at(Request::Kept { after: 0 }, Asker::Replica, NOW).await;
    assert_eq!(refusal, Some(Refusal::NotForYou), "only its caller knows whom an inbox concerns");
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    mailbox.keep(&inbox, 2, 2).await.unwrap();
    mailbox.must(deletion(&inbox, [2])).await;
    let listed = |number, hours| Listed { letter: id(number), class: SizeClass::Short, expiry: expiry_of(hours, NOW) };
    let asked = [listed(1, 336), listed(2, 337), listed(3, 10), listed(1, 337)];
    assert_eq!(mailbox.lacking(&inbox.placement(), &asked, NOW), Ok(vec![listed(3, 10), listed(1, 337)]));
}

#[tokio::test]
async fn all_inboxes_are_told_page_by_page() {
    let mailbox = Mailbox::new(MAILBOX_SIZE).await.0;
    for number in 0..300u32 {
        let placement = Placement { period: request(today()).placement().period, ..request(Day(number)).placement() };
        let (envelope, postage) = (short(1), Postage::Stamp(mint(&placement, id(1), 0, today())));
        let letter =
            Repair { from: replica(1), inbox: placement, expiry: expiry_of(9, NOW), postage, envelope: &envelope };
        mailbox.repair(letter, NOW).await.unwrap();
    }
    let (mut after, mut told) = (0, vec![]);
    loop {
        let (next, placements) = mailbox.kept(after, NOW).unwrap();
        if next == after {
            break;
        }
        (after, told) = (next, [told, placements].concat());
    }
    let count = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!((count, told.len()), (301, 301));
}
