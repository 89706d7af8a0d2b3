mod crash;
pub(super) mod faulty;
mod refusals;
mod room;
mod ways;

use std::sync::OnceLock;

use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    address::AddressSecret,
    inbox::{Inbox, Whereabouts},
    limits::MAILBOX_SIZE,
    mailbox::Listed,
    period::{Day, Week},
    stamp::{self, Minting, Stamp, Stamped},
    ticket::{TicketKey, TicketList},
    tombstone::Tombstone,
};
use zeroize::Zeroizing;

use self::faulty::Faulty;
use super::*;

const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
const NOW: UnixSeconds = UnixSeconds(1_750_000_000);
const BINDING: [u8; 32] = [7; 32];
const HERE: Asker<'static> = Asker::Circuit(&BINDING);
const HOUR: u64 = 3600;

fn terms(size: u64) -> Terms {
    Terms { network: NETWORK, identity: RelaySecret::from_bytes(&Zeroizing::new([3; 32])), size }
}

fn owner() -> AddressSecret {
    AddressSecret::from_bytes(&Zeroizing::new([1; 32]))
}

fn private(salt: u8) -> Inbox {
    let at = Whereabouts::decode(&[[9, 0, 0, 0].as_slice(), &[7; 32]].concat().try_into().unwrap());
    Inbox::private(&NETWORK, owner().address(), &at, Week::of(NOW, at.offset()), &[salt; 16])
}

fn request(day: Day) -> Inbox {
    Inbox::request(&NETWORK, owner().address(), day)
}

fn today() -> Day {
    Day::of(NOW)
}

fn envelope(number: u64, class: SizeClass) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(class.bytes()).collect()
}

fn short(number: u64) -> Vec<u8> {
    envelope(number, SizeClass::Short)
}

fn id(number: u64) -> LetterId {
    LetterId::of(&short(number))
}

fn mint(inbox: &Placement, letter: LetterId, deposits: u32, day: Day) -> Stamp {
    let stamped = Stamped { network: &NETWORK, inbox, letter: &letter };
    Minting::new(stamped, stamp::price(deposits), day).step(u32::MAX).unwrap()
}

/// The owner's tickets by their numbers, below 2,000.
fn ticket(number: u16) -> Postage {
    Postage::Ticket(TicketKey::from_bytes(&[5; 32]).ticket(Week(1), number, &terms(0).identity.id()))
}

fn tickets() -> &'static TicketList {
    static LIST: OnceLock<TicketList> = OnceLock::new();
    LIST.get_or_init(|| {
        let key = TicketKey::from_bytes(&[5; 32]);
        TicketList::new([(&key, 0..2000)], Week(1), &terms(0).identity.id(), &mut StdRng::seed_from_u64(1)).unwrap()
    })
}

fn owned(inbox: &Inbox, ask: Ask) -> Request<'static> {
    let mailbox = terms(0).identity.id();
    let channel = Channel { network: &NETWORK, mailbox: &mailbox, binding: &BINDING };
    Request::Owned(Owned::sign(inbox.placement(), ask, &channel, &inbox.secret(&owner())))
}

fn registering(inbox: &Inbox, list: u8, tickets: &TicketList) -> Request<'static> {
    let stamp = mint(&inbox.placement(), LetterId::of(&tickets.encode()), 0, today());
    owned(inbox, Ask::Register { list, tickets: tickets.clone(), stamp })
}

fn tombstone(inbox: &Inbox, letter: LetterId, until: Hour) -> Tombstone {
    Tombstone::sign(&inbox.secret(&owner()), &NETWORK, &inbox.placement(), letter, until)
}

fn deletion(inbox: &Inbox, letters: impl IntoIterator<Item = u64>) -> Request<'static> {
    let tombstones = letters.into_iter().map(|number| tombstone(inbox, id(number), Hour(u32::MAX))).collect();
    Request::Delete { inbox: inbox.placement(), tombstones }
}

/// A letter of 336 hours.
fn deposit<'a>(inbox: &Inbox, postage: Postage, envelope: &'a [u8]) -> Deposit<'a> {
    Deposit { inbox: inbox.placement(), hours: 336, postage, envelope }
}

/// What a frame says.
fn read(frame: &[u8]) -> Answer<'_> {
    Answer::decode(&frame[4..]).unwrap()
}

impl Mailbox {
    /// One in memory, with a private inbox and its tickets.
    async fn new(size: u64) -> (Self, Inbox) {
        let mailbox = Self::open_at(Place::Faulty(Faulty::default()), terms(size)).unwrap();
        let inbox = private(1);
        mailbox.must(registering(&inbox, 0, tickets())).await;
        (mailbox, inbox)
    }

    async fn ask(&self, request: Request<'_>) -> Vec<u8> {
        self.answer(request, HERE, NOW).await
    }

    async fn must(&self, request: Request<'_>) {
        let frame = self.ask(request).await;
        assert!(!matches!(read(&frame), Answer::Refused(_)), "{:?}", read(&frame));
    }

    async fn refusal_at(&self, request: Request<'_>, asker: Asker<'_>, now: UnixSeconds) -> Option<Refusal> {
        match read(&self.answer(request, asker, now).await) {
            Answer::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    async fn refusal(&self, request: Request<'_>) -> Option<Refusal> {
        self.refusal_at(request, HERE, NOW).await
    }

    /// Deposits the short letter of this number with the ticket of this number: until when it is kept.
    async fn keep(&self, inbox: &Inbox, letter: u64, number: u16) -> Result<Hour, Refusal> {
        self.keep_at(inbox, letter, number, NOW).await
    }

    async fn keep_at(&self, inbox: &Inbox, letter: u64, number: u16, now: UnixSeconds) -> Result<Hour, Refusal> {
        let envelope = short(letter);
        let frame = self.answer(Request::Deposit(deposit(inbox, ticket(number), &envelope)), HERE, now).await;
        match read(&frame) {
            Answer::Accepted(receipt) => {
                let mailbox = self.terms.identity.id();
                assert!(receipt.is_of(&mailbox, &NETWORK, &inbox.placement(), &LetterId::of(&envelope)));
                Ok(receipt.expiry)
            }
            Answer::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    async fn page(&self, inbox: &Inbox, after: u64, now: UnixSeconds) -> (u64, Vec<Listed>) {
        match read(&self.answer(owned(inbox, Ask::List { after, patience: 0 }), HERE, now).await) {
            Answer::Letters { next, letters } => (next, letters),
            other => panic!("{other:?}"),
        }
    }

    async fn letters_at(&self, inbox: &Inbox, now: UnixSeconds) -> Vec<LetterId> {
        self.page(inbox, 0, now).await.1.iter().map(|listed| listed.letter).collect()
    }

    async fn letters(&self, inbox: &Inbox) -> Vec<LetterId> {
        self.letters_at(inbox, NOW).await
    }

    /// Of a whole letter that came by repair.
    async fn repaired(&self, inbox: &Inbox, number: u64, postage: Postage) -> Result<(), Refusal> {
        let (expiry, envelope) = (expiry_of(100, NOW), short(number));
        self.repair(Repair { inbox: inbox.placement(), expiry, postage, envelope: &envelope }, NOW).await
    }
}
