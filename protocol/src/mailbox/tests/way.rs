//! The whole way of a stranger's letter, but for the ratchet: all that is pure, put together.

use rand::{SeedableRng, rngs::StdRng};
use zeroize::Zeroizing;

use super::*;
use crate::{
    crypto::XWingSecret,
    envelope::Recipient,
    epoch::UnixSeconds,
    identity::RelaySecret,
    letter::{Between, Content, Dispatch, Form, Letter, MessageId},
    period::Week,
    prekeys::{Prekeys, PrekeysOf},
    stamp::{self, Minting, Stamped},
};

const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
const NOW: UnixSeconds = UnixSeconds(1_750_000_000);

/// What crosses the stream, as the other side reads it.
fn across(request: &Request<'_>) -> Vec<u8> {
    body(&request.encode()).to_vec()
}

#[test]
fn a_strangers_letter_comes_from_an_address_alone_to_its_owner_alone() {
    let rng = &mut StdRng::seed_from_u64(1);
    let (alice, bob) = (person(1), person(2));
    let mailbox = RelaySecret::from_bytes(&Zeroizing::new([3; 32]));
    let (today, week) = (Day::of(NOW), Week::of(NOW, prekeys::offset(&bob.address())));

    // Bob publishes prekeys and goes away. A mailbox sees that whoever has the key of the placement signed them.
    let secret = XWingSecret::generate(rng);
    let keys = Prekeys { xwing: secret.public(), identity: [4; 32], device: 0, fallback: vec![[5; 32]] };
    let published = PrekeysOf::new(&NETWORK, bob.address(), week).seal(&keys, 0, &bob, rng);
    let placement = PrekeysOf::new(&NETWORK, bob.address(), week).placement();
    let frame = across(&Request::Publish { placement, stamp: STAMP, record: published });
    let Ok(Request::Publish { placement, record, .. }) = Request::decode(&frame) else { panic!("it was said so") };
    assert!(record.check(&NETWORK, &placement).is_ok() && placement.is_kept(NOW));

    // Alice, who knows Bob's address, opens them and writes. (In place of Olm: the letter as it is.)
    let found = PrekeysOf::new(&NETWORK, bob.address(), week).open(&record).unwrap();
    let letter = Letter {
        id: MessageId([6; 16]),
        place: crate::conversation::Said::nothing(0).next(),
        written: Hour::of_unix(NOW.0),
        content: Content::Text("Hello, Bob".into()),
    };
    let between = Between { network: &NETWORK, writer: &alice.address(), reader: &bob.address() };
    let dispatch = Dispatch { writer: alice.address(), form: Form::Beginning, message: between.say(&letter) };
    let to = bob.address();
    let inbox = Inbox::request(&NETWORK, bob.address(), today).placement();
    let recipient = Recipient { network: &NETWORK, address: &to, inbox: &inbox, week };
    let envelope = recipient.seal(&found.xwing, &dispatch.encode(), rng).unwrap();
    let id = LetterId::of(&envelope);
    let stamped = Stamped { network: &NETWORK, inbox: &inbox, letter: &id };
    let stamp = Minting::new(stamped, stamp::price(0), today).step(u32::MAX).unwrap();
    let deposit = Deposit { inbox, hours: LETTER_HOURS, postage: Postage::Stamp(stamp), envelope: &envelope };
    let frame = across(&Request::Deposit(deposit));
    assert!(frame.len() + FRAME_HEADER <= MAX_DATA);

    // The mailbox checks the stamp, and signs for the letter.
    let Ok(Request::Deposit(kept)) = Request::decode(&frame) else { panic!("it was said so") };
    let Postage::Stamp(stamp) = kept.postage else { panic!("a stranger has stamps") };
    assert!(stamp.check(&stamped, stamp::price(0), today).is_ok() && kept.inbox.is_current(NOW));
    let receipt = Receipt::sign(&mailbox, &NETWORK, &kept.inbox, &LetterId::of(kept.envelope), Hour(500_000));
    assert!(receipt.is_of(&mailbox.id(), &NETWORK, &inbox, &id));

    // Bob comes back, proves to be the owner, and reads.
    let (own, address) = (Inbox::request(&NETWORK, bob.address(), today), mailbox.id());
    let channel = Channel { network: &NETWORK, mailbox: &address, binding: &[7; 32] };
    let fetch = Owned::sign(own.placement(), Ask::Fetch(id), &channel, &own.secret(&bob));
    let frame = across(&Request::Owned(fetch));
    let Ok(Request::Owned(asked)) = Request::decode(&frame) else { panic!("it was said so") };
    assert!(asked.inbox == kept.inbox && asked.is_claimed(&channel));
    let opened = recipient.open(&secret, kept.envelope).unwrap();
    let dispatch = Dispatch::decode(&opened).unwrap();
    let read = Between { writer: &dispatch.writer, ..between }.hear(&dispatch.message).unwrap();
    assert!(dispatch.writer == alice.address() && matches!(read.content, Content::Text(text) if text == "Hello, Bob"));

    // Nothing that the mailbox had names either of them.
    let had = [&across(&Request::Look { placement })[..], record.as_bytes(), &frame, &envelope].concat();
    for person in [alice, bob] {
        let address = *person.address().as_bytes();
        assert!(!had.windows(8).any(|window| window == &address[..8]));
    }
}
