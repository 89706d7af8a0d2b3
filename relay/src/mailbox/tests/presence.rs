//! Whether an inbox's owner is there, as who writes to it tries to find out: by all that a mailbox answers, byte by byte.
//! Two mailboxes are alike but for what the owner does at one of them.

use super::*;

/// What the owner does after each letter that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Away,
    /// Lists and fetches.
    Reading,
    /// And deletes all.
    Emptying,
    /// Registers other tickets, as after a contact was blocked.
    Blocking,
}

impl Owner {
    async fn acts(self, mailbox: &Mailbox, inbox: &Inbox, newest: u64) {
        match self {
            Self::Away => return,
            Self::Blocking => {
                if newest == 10 {
                    mailbox.must(registering_for(inbox, 0, &tickets_of(inbox, 0, 5), 18)).await;
                }
                return;
            }
            Self::Reading | Self::Emptying => {}
        }
        assert_eq!(mailbox.page(inbox, 0, NOW).await.1.last().map(|listed| listed.letter), Some(id(newest)));
        mailbox.must(owned(inbox, Ask::Fetch(id(newest)))).await;
        if self == Self::Emptying {
            mailbox.must(deletion(inbox, [newest])).await;
            assert_eq!(mailbox.letters(inbox).await, []);
        }
    }
}

/// All that a stranger is answered who leaves letters, pays too little, leaves them again and for longer, looks for
/// prekeys, and asks for what only the owner may see.
async fn answers_to_a_stranger(owner: Owner) -> Vec<Vec<u8>> {
    let (mailbox, _) = Mailbox::new(MAILBOX_SIZE).await;
    let (inbox, mut answers) = (request(today()), vec![]);
    for number in 0..70 {
        let envelope = short(number);
        let price = stamp::price(u32::try_from(number).unwrap());
        for bits in [price - 1, price] {
            let stamp = Postage::Stamp(mint_bits(&inbox.placement(), id(number), bits, today()));
            answers.push(mailbox.ask(Request::Deposit(deposit(&inbox, stamp, &envelope))).await);
        }
        owner.acts(&mailbox, &inbox, number).await;
        let (earlier, nothing) = (short(number / 2), Postage::Stamp(Stamp { day: today(), nonce: 0 }));
        for hours in [1, 336] {
            let again = Request::Deposit(Deposit { hours, ..deposit(&inbox, nothing, &earlier) });
            answers.push(mailbox.answer(again, HERE, NOW.plus(number * 60)).await);
        }
        let claimed = Owned { claim: Claim([0; 64]), ..listing(&inbox) };
        answers.push(mailbox.ask(Request::Owned(claimed)).await);
    }
    answers
}

/// The same of a contact, who has tickets.
async fn answers_to_a_contact(owner: Owner) -> Vec<Vec<u8>> {
    let (mailbox, inbox) = Mailbox::new(MAILBOX_SIZE).await;
    let mut answers = vec![];
    for number in 0..70u16 {
        let (envelope, earlier, other) = (short(number.into()), short(u64::from(number / 2)), short(10_000));
        answers.push(mailbox.ask(Request::Deposit(deposit(&inbox, ticket(&inbox, number), &envelope))).await);
        owner.acts(&mailbox, &inbox, number.into()).await;
        answers.push(mailbox.ask(Request::Deposit(deposit(&inbox, ticket(&inbox, 3000), &earlier))).await);
        answers.push(mailbox.ask(Request::Deposit(deposit(&inbox, ticket(&inbox, number / 2), &other))).await);
        let claimed = Owned { claim: Claim([0; 64]), ..listing(&inbox) };
        answers.push(mailbox.ask(Request::Owned(claimed)).await);
    }
    answers
}

fn listing(inbox: &Inbox) -> Owned {
    match owned(inbox, Ask::List { after: 0, patience: 0 }) {
        Request::Owned(owned) => owned,
        other => unreachable!("{other:?}"),
    }
}

/// How many of the answers are of this kind.
fn count(answers: &[Vec<u8>], is: impl Fn(&Answer<'_>) -> bool) -> usize {
    answers.iter().filter(|frame| is(&read(frame))).count()
}

#[tokio::test]
async fn no_answer_and_no_price_tells_a_stranger_whether_the_owner_was_there() {
    let away = answers_to_a_stranger(Owner::Away).await;
    for owner in [Owner::Reading, Owner::Emptying] {
        assert!(answers_to_a_stranger(owner).await == away, "{owner:?}");
    }
    // What a stranger sees: that letters are kept, what they cost, and by that how many came today.
    assert_eq!(count(&away, |answer| matches!(answer, Answer::Accepted(_))), 3 * 70);
    assert_eq!(count(&away, |answer| matches!(answer, Answer::Refused(Refusal::Price(16)))), 64);
    assert_eq!(count(&away, |answer| matches!(answer, Answer::Refused(Refusal::Price(17)))), 6);
    assert_eq!(count(&away, |answer| matches!(answer, Answer::Refused(Refusal::BadClaim))), 70);
}

#[tokio::test]
async fn no_answer_tells_a_contact_whether_the_owner_was_there_but_one_that_is_blocked_sees_it() {
    let away = answers_to_a_contact(Owner::Away).await;
    for owner in [Owner::Reading, Owner::Emptying] {
        assert!(answers_to_a_contact(owner).await == away, "{owner:?}");
    }
    let no_ticket = |answer: &Answer<'_>| matches!(answer, Answer::Refused(Refusal::BadTicket));
    assert_eq!(count(&away, |answer| matches!(answer, Answer::Accepted(_))), 2 * 70);
    assert_eq!(count(&away, no_ticket), 70, "a ticket that was spent");
    let blocked = answers_to_a_contact(Owner::Blocking).await;
    assert!(count(&blocked, no_ticket) > 70 + 50, "since its tickets are registered no more");
}
