mod crash;
pub(super) mod faulty;
mod presence;
mod refusals;
mod repair;
mod room;
mod shares;
mod ways;

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock},
};

use trefoil_protocol::{
    address::AddressSecret,
    inbox::{Claim, Inbox, Whereabouts},
    limits::MAILBOX_SIZE,
    mailbox::Listed,
    period::{Day, Week},
    stamp::{Minting, Stamped},
    ticket::{ListOf, TicketKey, TicketList},
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
    Terms { network: NETWORK, identity: RelaySecret::from_bytes(&Zeroizing::new([3; 32])), size, rebate: 0 }
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

/// A stamp for a letter after so many others of the day.
fn mint(inbox: &Placement, letter: LetterId, deposits: u32, day: Day) -> Stamp {
    mint_bits(inbox, letter, stamp::price(deposits), day)
}

/// A stamp of just so many bits, which is made but once.
fn mint_bits(inbox: &Placement, letter: LetterId, bits: u8, day: Day) -> Stamp {
    type Minted = HashMap<(Placement, LetterId, u8, Day), Stamp>;
    static MINTED: OnceLock<Mutex<Minted>> = OnceLock::new();
    let mut minted = MINTED.get_or_init(Mutex::default).lock().unwrap();
    *minted.entry((*inbox, letter, bits, day)).or_insert_with(|| {
        let stamped = Stamped { network: &NETWORK, inbox, letter: &letter };
        let mut minting = Minting::new(stamped, bits, day);
        loop {
            let stamp = minting.step(u32::MAX).unwrap();
            if stamp.worth(&stamped) == u32::from(bits) {
                break stamp;
            }
        }
    })
}

/// The owner's tickets by their numbers, below 2,000.
fn ticket(inbox: &Inbox, number: u16) -> Postage {
    Postage::Ticket(TicketKey::from_bytes(&[5; 32]).ticket(&inbox.placement(), number, &here()))
}

fn here() -> RelayId {
    terms(0).identity.id()
}

/// Another mailbox of the inbox.
fn replica(number: u8) -> RelayId {
    RelaySecret::from_bytes(&Zeroizing::new([100 + number; 32])).id()
}

fn tickets(inbox: &Inbox) -> TicketList {
    tickets_of(inbox, 0, 2000)
}

fn tickets_of(inbox: &Inbox, list: u8, numbers: u16) -> TicketList {
    let (key, fill) = (TicketKey::from_bytes(&[5; 32]), TicketKey::from_bytes(&[6; 32]));
    let of = ListOf { inbox: &inbox.placement(), mailbox: &here(), list };
    TicketList::new([(&key, 0..numbers)], &of, &fill).unwrap()
}

fn owned(inbox: &Inbox, ask: Ask) -> Request<'static> {
    let mailbox = terms(0).identity.id();
    let channel = Channel { network: &NETWORK, mailbox: &mailbox, binding: &BINDING };
    Request::Owned(Owned::sign(inbox.placement(), ask, &channel, &inbox.secret(&owner())))
}

/// For so much that 4 MiB of letters come with these tickets.
fn registering(inbox: &Inbox, list: u8, tickets: &TicketList) -> Request<'static> {
    registering_for(inbox, list, tickets, 22)
}

fn registering_for(inbox: &Inbox, list: u8, tickets: &TicketList, bits: u8) -> Request<'static> {
    let letter = stamp::left(&here(), list, &tickets.encode());
    let stamp = mint_bits(&inbox.placement(), letter, bits, today());
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
        mailbox.must(registering(&inbox, 0, &tickets(&inbox))).await;
        (mailbox, inbox)
    }

    /// One in memory, with a letter that was left for an hour, and when that was.
    pub(crate) async fn with_a_letter_for_an_hour() -> (Self, UnixSeconds) {
        let (mailbox, inbox) = Self::new(MAILBOX_SIZE).await;
        mailbox.must(Request::Deposit(Deposit { hours: 1, ..deposit(&inbox, ticket(&inbox, 1), &short(1)) })).await;
        (mailbox, NOW)
    }

    /// As when what keeps the file has panicked.
    pub(crate) fn break_down(&self) {
        self.disk.break_down();
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
        let frame = self.answer(Request::Deposit(deposit(inbox, ticket(inbox, number), &envelope)), HERE, now).await;
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

    /// Of a whole letter that came by repair, for 100 hours.
    async fn repaired(&self, inbox: &Inbox, number: u64, postage: Postage) -> Result<(), Refusal> {
        self.repaired_from(replica(1), inbox, number, postage).await
    }

    async fn repaired_from(&self, from: RelayId, inbox: &Inbox, number: u64, postage: Postage) -> Result<(), Refusal> {
        let (expiry, envelope) = (expiry_of(100, NOW), short(number));
        self.repair(Repair { from, inbox: inbox.placement(), expiry, postage, envelope: &envelope }, NOW).await
    }
}
