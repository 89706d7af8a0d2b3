//! How much is kept, and for how long.

use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTableMetadata, TableHandle};
use tokio::task::JoinSet;
use trefoil_protocol::limits::{DEPOSITS_EIGHTHS, MAILBOX_SWEEP};

use super::*;
use crate::mailbox::rows::{DEPOSITED, SPENT_ROOM, TICKETS_ROOM, TOTALS};

/// Room for a private inbox's tickets, some of which are spent, and so many short letters.
pub(super) fn room_for(letters: u32) -> u64 {
    let deposits = u64::from(TICKETS_ROOM + 16 * SPENT_ROOM + letters * SizeClass::Short.reckoned());
    deposits.div_ceil(DEPOSITS_EIGHTHS) * 8
}

impl Mailbox {
    pub(super) fn reckoned(&self) -> u64 {
        let reading = self.disk.database().unwrap().begin_read().unwrap();
        reading.open_table(TOTALS).unwrap().get(DEPOSITED).unwrap().map_or(0, |total| total.value())
    }

    /// Rows of all tables but the totals.
    pub(super) fn rows(&self) -> u64 {
        let reading = self.disk.database().unwrap().begin_read().unwrap();
        let tables = reading.list_tables().unwrap().filter(|table| table.name() != TOTALS.name());
        tables.map(|table| reading.open_untyped_table(table).unwrap().len().unwrap()).sum()
    }

    pub(super) async fn sweep_all(&self, now: UnixSeconds) {
        while self.sweep(now).await.unwrap() {}
    }
}

#[tokio::test]
async fn the_room_of_a_deleted_letter_is_free_when_it_would_have_expired_and_not_before() {
    let (mailbox, inbox) = Mailbox::new(room_for(2)).await;
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    let brief = Request::Deposit(Deposit { hours: 10, ..deposit(&inbox, ticket(&inbox, 2), short(2).leak()) });
    mailbox.must(brief).await;
    mailbox.must(deletion(&inbox, [1, 2])).await;
    assert_eq!(mailbox.keep(&inbox, 3, 3).await, Err(Refusal::Full));
    for (hours, free) in [(9, false), (11, true)] {
        let later = NOW.plus(hours * HOUR);
        mailbox.sweep_all(later).await;
        assert_eq!(mailbox.keep_at(&inbox, 3, 3, later).await.is_ok(), free, "{hours}");
    }
}

#[tokio::test]
async fn an_expired_letter_is_not_there_whether_or_not_it_was_cleared_away() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    let (last, over) = (NOW.plus(336 * HOUR - 1), NOW.plus(337 * HOUR));
    assert_eq!(mailbox.letters_at(&inbox, last).await, [id(1)]);
    assert_eq!(mailbox.letters_at(&inbox, over).await, []);
    assert_eq!(mailbox.refusal_at(owned(&inbox, Ask::Fetch(id(1))), HERE, over).await, Some(Refusal::Gone));
    let take = Request::Take { inbox: inbox.placement(), letter: id(1) };
    assert_eq!(mailbox.refusal_at(take, Asker::Replica, over).await, Some(Refusal::Gone));
}

#[tokio::test]
async fn nothing_at_all_is_left_when_all_has_expired() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    for number in 0..600 {
        mailbox.keep(&inbox, number, u16::try_from(number).unwrap()).await.unwrap();
    }
    for number in 600..610 {
        mailbox.repaired(&inbox, number, ticket(&inbox, 0)).await.unwrap();
    }
    mailbox.must(deletion(&inbox, 500..620)).await;
    mailbox.keep(&inbox, 615, 615).await.unwrap();
    mailbox.sweep_all(NOW).await;
    assert_eq!(mailbox.letters(&inbox).await.len(), 256, "nothing is due yet");
    let expired = NOW.plus(338 * HOUR);
    mailbox.sweep_all(expired).await;
    assert_eq!(mailbox.reckoned(), u64::from(TICKETS_ROOM + 601 * SPENT_ROOM));
    mailbox.sweep_all(inbox.placement().kept_until().plus(3 * HOUR)).await;
    assert_eq!((mailbox.rows(), mailbox.totals()), (0, Ok(Totals::default())));
}

#[tokio::test]
async fn an_inbox_with_much_in_it_is_cleared_away_in_steps() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    for number in 0..600 {
        mailbox.keep(&inbox, number, u16::try_from(number).unwrap()).await.unwrap();
    }
    for first in [0, 200, 400] {
        mailbox.must(deletion(&inbox, first..first + 200)).await;
    }
    let over = inbox.placement().kept_until().plus(3 * HOUR);
    let (mut steps, mut before) = (0, mailbox.rows());
    while mailbox.sweep(over).await.unwrap() {
        let rows = mailbox.rows();
        // each step removes of a letter up to three rows, and as many of each other kind
        assert!(before - rows <= 5 * MAILBOX_SWEEP as u64, "{before} {rows}");
        (steps, before) = (steps + 1, rows);
    }
    assert!(steps > 3, "{steps}");
    assert_eq!((mailbox.rows(), mailbox.totals()), (0, Ok(Totals::default())));
}

#[tokio::test]
async fn a_sweep_is_done_in_steps() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    for number in 0..300 {
        mailbox.keep(&inbox, number, u16::try_from(number).unwrap()).await.unwrap();
    }
    let over = NOW.plus(337 * HOUR);
    assert_eq!((mailbox.sweep(over).await, mailbox.sweep(over).await), (Ok(true), Ok(false)));
}

#[tokio::test]
async fn a_deleted_letter_stays_deleted_until_it_would_have_expired() {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    let tombstones = vec![tombstone(&inbox, id(1), Hour::of_unix(NOW.0))]; // less than the letter has
    mailbox.must(Request::Delete { inbox: inbox.placement(), tombstones }).await;
    mailbox.sweep_all(NOW.plus(335 * HOUR)).await;
    assert_eq!(mailbox.repaired(&inbox, 1, ticket(&inbox, 1)).await, Ok(()));
    assert_eq!(mailbox.letters(&inbox).await, []);
}

#[tokio::test]
async fn a_full_mailbox_refuses_all_that_needs_room_and_still_acknowledges_deletes_and_lists() {
    let (mailbox, inbox) = Mailbox::new(room_for(1)).await;
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    assert_eq!(mailbox.keep(&inbox, 2, 2).await, Err(Refusal::Full));
    assert_eq!(mailbox.refusal(registering(&inbox, 1, &tickets(&inbox))).await, Some(Refusal::Full));
    assert_eq!(mailbox.refusal(deletion(&inbox, 9..60)).await, Some(Refusal::Full));
    assert_eq!(mailbox.refusal(registering(&inbox, 0, &tickets(&inbox))).await, None, "in the place of the one before");
    assert!(mailbox.keep(&inbox, 1, 2).await.is_ok());
    assert_eq!(mailbox.letters(&inbox).await, [id(1)]);
    mailbox.must(deletion(&inbox, [1])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_bomb_fills_its_inbox_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let mailbox = Arc::new(Mailbox::open(&directory.path().join(MAILBOX_FILE), terms(MAILBOX_SIZE)).unwrap());
    let (inbox, other) = (private(1), private(2));
    mailbox.must(registering(&inbox, 0, &tickets(&inbox))).await;
    mailbox.must(registering(&other, 0, &tickets(&other))).await;
    let mut bomb = JoinSet::new();
    for number in 0..100u16 {
        let (mailbox, placement, postage) = (Arc::clone(&mailbox), inbox.placement(), ticket(&inbox, number));
        bomb.spawn(async move {
            let envelope = envelope(number.into(), SizeClass::Long);
            let deposit = Deposit { inbox: placement, hours: 336, postage, envelope: &envelope };
            mailbox.refusal(Request::Deposit(deposit)).await
        });
    }
    let refusals = bomb.join_all().await;
    let most = (4 << 20) / u64::from(SizeClass::Long.reckoned());
    assert_eq!(refusals.iter().filter(|refusal| refusal.is_none()).count() as u64, most);
    assert!(refusals.iter().flatten().all(|refusal| *refusal == Refusal::Quota));
    assert!(mailbox.keep(&other, 1, 1).await.is_ok());
}

#[tokio::test]
async fn a_letter_is_reckoned_at_no_less_than_it_takes_on_disk() {
    for (class, count) in [(SizeClass::Short, 1200), (SizeClass::Middle, 200), (SizeClass::Long, 55)] {
        let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
        let used = || {
            let transaction = mailbox.disk.database().unwrap().begin_write().unwrap();
            let stats = transaction.stats().unwrap();
            let used = stats.allocated_pages() * stats.page_size() as u64;
            transaction.abort().unwrap();
            used
        };
        let before = used();
        for number in 0..count {
            let envelope = envelope(number.into(), class);
            mailbox.must(Request::Deposit(deposit(&inbox, ticket(&inbox, number), &envelope))).await;
        }
        let (each, reckoned) = ((used() - before) / u64::from(count), class.reckoned() + SPENT_ROOM);
        assert!(each <= reckoned.into(), "{class:?}: {each} bytes, reckoned at {reckoned}");
        assert!(each * 2 > reckoned.into(), "{class:?}: {each} bytes, reckoned at {reckoned}");
    }
}
