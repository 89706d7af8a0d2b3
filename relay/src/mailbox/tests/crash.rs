//! Faults of the disk: what was acknowledged is there, and the mailbox opens again.

use std::fs;

use super::{
    faulty::{Fault, Left},
    *,
};

/// What was acknowledged in a run, in the end.
#[derive(Debug, Default)]
struct Acknowledged {
    registered: bool,
    kept: Vec<u64>,
    deleted: Vec<u64>,
}

/// Registers tickets, deposits letters, deletes one, and clears away one that has expired; some of it may be refused.
async fn run(mailbox: &Mailbox, inbox: &Inbox, register: &Request<'static>) -> Acknowledged {
    let registered = mailbox.refusal(register.clone()).await.is_none();
    let mut done = Acknowledged { registered, ..Acknowledged::default() };
    for number in 1..=3 {
        if mailbox.keep(inbox, number, u16::try_from(number).unwrap()).await.is_ok() {
            done.kept.push(number);
        }
    }
    if mailbox.refusal(deletion(inbox, [2])).await.is_none() {
        done.deleted.push(2);
    }
    let envelope = short(7);
    let brief = Deposit { hours: 1, ..deposit(inbox, ticket(inbox, 7), &envelope) };
    let _ = mailbox.refusal(Request::Deposit(brief)).await;
    let _ = mailbox.sweep(NOW.plus(3 * HOUR)).await;
    if mailbox.keep(inbox, 4, 4).await.is_ok() {
        done.kept.push(4);
    }
    done
}

async fn check(mailbox: &Mailbox, inbox: &Inbox, done: &Acknowledged, case: &str) {
    let listed = mailbox.letters(inbox).await;
    for number in &done.kept {
        let there = listed.contains(&id(*number));
        if done.deleted.contains(number) {
            assert!(!there, "{number} came back: {case}");
        } else {
            assert!(there || *number == 2, "{number} is lost: {case}"); // it may be deleted, and nobody was told
        }
        let envelope = short(*number);
        if there {
            let frame = mailbox.ask(owned(inbox, Ask::Fetch(id(*number)))).await;
            assert_eq!(read(&frame), Answer::Letter(&envelope), "{case}");
        }
        assert!(mailbox.keep(inbox, *number, 9999).await.is_ok(), "{case}");
        if *number != 2 {
            let reused = mailbox.keep(inbox, 1000 + number, u16::try_from(*number).unwrap()).await;
            assert_eq!(reused, Err(Refusal::BadTicket), "{case}");
        }
    }
    if done.registered {
        assert!(mailbox.keep(inbox, 50, 50).await.is_ok(), "{case}");
    }
    mailbox.sweep_all(NOW.plus(338 * HOUR)).await;
    mailbox.sweep_all(inbox.placement().kept_until().plus(3 * HOUR)).await;
    assert_eq!((mailbox.rows(), mailbox.reckoned()), (0, 0), "something is left for ever: {case}");
}

#[tokio::test]
async fn after_a_fault_at_any_change_of_the_disk_it_opens_again_and_nothing_acknowledged_is_lost() {
    let inbox = private(1);
    let register = registering(&inbox, 0, &tickets(&inbox));
    let whole = Faulty::default();
    let done = {
        let mailbox = Mailbox::open_at(Place::Faulty(whole.clone()), terms(MAILBOX_SIZE)).unwrap();
        run(&mailbox, &inbox, &register).await
    };
    assert_eq!((done.registered, &done.kept[..], &done.deleted[..]), (true, &[1, 2, 3, 4][..], &[2][..]));
    let changes = whole.changes();
    assert!(changes > 50, "{changes}");
    for at in 0..changes {
        for fault in [Fault::Before, Fault::Within, Fault::After] {
            for left in [Left::Written, Left::Synced, Left::SyncedAndSome] {
                let case = format!("{fault:?} change {at} of {changes}, what was {left:?} is left");
                let disk = Faulty::default();
                disk.fail_at(at, fault);
                let done = match Mailbox::open_at(Place::Faulty(disk.clone()), terms(MAILBOX_SIZE)) {
                    Ok(mailbox) => run(&mailbox, &inbox, &register).await,
                    Err(_) => Acknowledged::default(),
                };
                disk.restart(left);
                let mailbox = Mailbox::open_at(Place::Faulty(disk.clone()), terms(MAILBOX_SIZE))
                    .unwrap_or_else(|error| panic!("{error}: {case}"));
                assert!(disk.times_set_aside() == 0 || done.kept.is_empty(), "{case}");
                check(&mailbox, &inbox, &done, &case).await;
            }
        }
    }
}

#[tokio::test]
async fn a_disk_that_comes_back_is_used_again_without_a_restart() {
    let disk = Faulty::default();
    let inbox = private(1);
    let mailbox = Mailbox::open_at(Place::Faulty(disk.clone()), terms(MAILBOX_SIZE)).unwrap();
    mailbox.must(registering(&inbox, 0, &tickets(&inbox))).await;
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    disk.fail_at(disk.changes(), Fault::Before);
    for number in 2..5 {
        assert_eq!(mailbox.keep(&inbox, number, 2).await, Err(Refusal::Full));
    }
    assert_eq!(mailbox.refusal(owned(&inbox, Ask::Fetch(id(1)))).await, Some(Refusal::NotReady));
    disk.restart(Left::Written);
    assert!(mailbox.keep(&inbox, 2, 2).await.is_ok());
    assert_eq!(mailbox.letters(&inbox).await, [1, 2].map(id));
}

#[tokio::test]
async fn a_panic_in_what_keeps_the_file_ends_the_mailboxes_and_not_their_thread() {
    let disk = Faulty::default();
    let inbox = private(1);
    let mailbox = Mailbox::open_at(Place::Faulty(disk.clone()), terms(MAILBOX_SIZE)).unwrap();
    mailbox.must(registering(&inbox, 0, &tickets(&inbox))).await;
    mailbox.keep(&inbox, 1, 1).await.unwrap();
    disk.fail_at(disk.changes(), Fault::Panic);
    assert_eq!(mailbox.keep(&inbox, 2, 2).await, Err(Refusal::NotReady));
    assert!(mailbox.is_broken());
    assert_eq!(mailbox.refusal(owned(&inbox, Ask::Fetch(id(1)))).await, Some(Refusal::NotReady));
    assert_eq!(mailbox.keep(&inbox, 3, 3).await, Err(Refusal::Full), "and nothing is written to what is left of it");
    disk.restart(Left::Written);
    assert_eq!(mailbox.sweep(NOW).await, Err(Refusal::Full));
    drop(mailbox);
    let mailbox = Mailbox::open_at(Place::Faulty(disk), terms(MAILBOX_SIZE)).unwrap();
    assert_eq!(mailbox.letters(&inbox).await, [id(1)]);
    assert!(!mailbox.is_broken());
}

#[tokio::test]
async fn a_full_disk_is_a_refusal_and_letters_are_taken_again_when_there_is_room() {
    let disk = Faulty::default();
    let inbox = private(1);
    let mailbox = Mailbox::open_at(Place::Faulty(disk.clone()), terms(MAILBOX_SIZE)).unwrap();
    mailbox.must(registering(&inbox, 0, &tickets(&inbox))).await;
    disk.fill_up(Some(disk.length()));
    let mut kept = vec![];
    let mut number = 0;
    loop {
        let outcome = mailbox.keep(&inbox, number, u16::try_from(number).unwrap()).await;
        if outcome.is_err() {
            assert_eq!(outcome, Err(Refusal::Full));
            break;
        }
        kept.push(id(number));
        number += 1;
    }
    for again in 0..3 {
        assert_eq!(mailbox.keep(&inbox, number, u16::try_from(number).unwrap()).await, Err(Refusal::Full), "{again}");
    }
    disk.fill_up(None);
    assert!(mailbox.keep(&inbox, number, u16::try_from(number).unwrap()).await.is_ok());
    kept.push(id(number));
    assert_eq!(mailbox.letters(&inbox).await, kept);
    drop(mailbox);
    let mailbox = Mailbox::open_at(Place::Faulty(disk), terms(MAILBOX_SIZE)).unwrap();
    assert_eq!(mailbox.letters(&inbox).await, kept);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_as_it_is_and_another_one_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(MAILBOX_FILE);
    let aside = directory.path().join("mailbox.redb.damaged");
    let inbox = private(1);
    {
        let mailbox = Mailbox::open(&path, terms(MAILBOX_SIZE)).unwrap();
        mailbox.must(registering(&inbox, 0, &tickets(&inbox))).await;
        mailbox.keep(&inbox, 1, 1).await.unwrap();
    }
    let whole = fs::read(&path).unwrap();
    for (at, length) in [(0, whole.len()), (whole.len() / 2, 0), (0, 100), (0, whole.len() / 2)] {
        let mut damaged = whole.clone();
        match length {
            0 => damaged[at..].iter_mut().for_each(|byte| *byte ^= 0x55),
            length => damaged.truncate(length),
        }
        if length == whole.len() {
            damaged[..16].fill(7);
        }
        fs::write(&path, &damaged).unwrap();
        let mailbox = Mailbox::open(&path, terms(MAILBOX_SIZE)).unwrap();
        assert_eq!(fs::read(&aside).unwrap(), damaged, "{at} {length}");
        assert_eq!(mailbox.letters(&inbox).await, []);
        mailbox.must(registering(&inbox, 0, &tickets(&inbox))).await;
        assert!(mailbox.keep(&inbox, 2, 2).await.is_ok());
    }
    fs::write(&path, &whole).unwrap();
    let mailbox = Mailbox::open(&path, terms(MAILBOX_SIZE)).unwrap();
    assert_eq!(mailbox.letters(&inbox).await, [id(1)], "and the whole one is used");
}

#[tokio::test]
async fn a_changed_byte_is_noticed_or_does_no_harm() {
    let disk = Faulty::default();
    let inbox = private(1);
    let open = || Mailbox::open_at(Place::Faulty(disk.clone()), terms(MAILBOX_SIZE));
    {
        let mailbox = open().unwrap();
        mailbox.must(registering(&inbox, 0, &tickets(&inbox))).await;
        mailbox.keep(&inbox, 1, 1).await.unwrap();
    }
    for at in (0..disk.length()).step_by(997) {
        let at = usize::try_from(at % disk.length()).unwrap(); // one that was made anew may be shorter
        disk.change_byte(at);
        let before = disk.times_set_aside();
        let mailbox = open().unwrap();
        if disk.times_set_aside() == before {
            assert_eq!(mailbox.letters(&inbox).await, [id(1)], "{at}");
            let frame = mailbox.ask(owned(&inbox, Ask::Fetch(id(1)))).await;
            assert_eq!(read(&frame), Answer::Letter(&short(1)), "{at}");
            drop(mailbox);
            if (at as u64) < disk.length() {
                disk.change_byte(at); // else it was cut off meanwhile
            }
        } else {
            mailbox.must(registering(&inbox, 0, &tickets(&inbox))).await;
            mailbox.keep(&inbox, 1, 1).await.unwrap();
        }
    }
    assert!(disk.times_set_aside() > 5, "{}", disk.times_set_aside());
}

#[test]
fn a_file_that_is_in_use_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(MAILBOX_FILE);
    let _held = Mailbox::open(&path, terms(MAILBOX_SIZE)).unwrap();
    assert!(matches!(Mailbox::open(&path, terms(MAILBOX_SIZE)), Err(MailboxOpenError::InUse(_))));
    assert!(!directory.path().join("mailbox.redb.damaged").exists());
}

#[cfg(unix)]
#[test]
fn the_file_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(MAILBOX_FILE);
    let _mailbox = Mailbox::open(&path, terms(MAILBOX_SIZE)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
