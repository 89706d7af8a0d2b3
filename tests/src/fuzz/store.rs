//! A relay's mailboxes, driven by a script of what owners, strangers, contacts and replicas ask.

use std::{collections::BTreeMap, sync::OnceLock};

use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    address::AddressSecret,
    crypto::XWingSecret,
    envelope::{LetterId, SizeClass},
    epoch::UnixSeconds,
    identity::{RelayId, RelaySecret},
    inbox::{Channel, Inbox, Whereabouts},
    limits::{LETTER_HOURS, TICKET_LISTS, TICKETS_LISTED},
    mailbox::{Answer, Ask, Deposit, FRAME_HEADER, Owned, Postage, Refusal, Request},
    params::NetworkId,
    period::{Day, Week},
    prekeys::{Prekeys, PrekeysOf},
    puzzle::Hour,
    stamp::Stamp,
    ticket::{ListOf, TicketKey, TicketList},
    tombstone::Tombstone,
};
use trefoil_relay::mailbox::{Asker, Mailbox, Repair, Terms};

use super::Verdict;

const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
const BINDING: [u8; 32] = [7; 32];
const REPLICA: RelayId = RelayId::from_bytes([9; 32]);
const START: UnixSeconds = UnixSeconds(1_750_000_000);
/// Room for a few lists of tickets and some dozens of letters.
const SIZE: u64 = 512 << 10;

/// Whatever is asked of a mailbox in whatever order, it answers what it was asked or refuses, keeps to its room, gives
/// out no letter but the one that was asked for, and none that its owner has deleted. Four bytes a step: a deed, an inbox,
/// a letter, and an amount.
pub fn mailbox(data: &[u8]) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime with one thread").block_on(async {
        let mut store = Store::new();
        for step in data.as_chunks::<4>().0 {
            store.act(*step).await;
            let totals = store.mailbox.totals().expect("it is not broken");
            assert!(totals.deposited + totals.repaired + totals.tombstones <= SIZE, "{totals:?}");
        }
        if store.refused { Verdict::Refused } else { Verdict::Accepted }
    })
}

struct Store {
    mailbox: Mailbox,
    now: UnixSeconds,
    /// Which letters of which inboxes are to be gone, until when.
    buried: BTreeMap<(usize, LetterId), Hour>,
    refused: bool,
}

/// What was said, without the bytes that it was read from.
enum Said {
    Refused,
    Done,
    /// Letters that are there.
    Listed(Vec<LetterId>),
    Envelope(LetterId),
}

impl Store {
    fn new() -> Self {
        let terms = Terms { network: NETWORK, identity: identity(), size: SIZE, rebate: u8::MAX };
        let mailbox = Mailbox::in_memory(terms).expect("memory can be written");
        Self { mailbox, now: START, buried: BTreeMap::new(), refused: false }
    }

    async fn act(&mut self, [deed, inbox, number, amount]: [u8; 4]) {
        let at = usize::from(inbox) % inboxes().len();
        let envelope = envelope(number);
        let letter = LetterId::of(&envelope);
        let (inbox, hours) = (&inboxes()[at], u16::from(amount) * 2);
        let owned = |ask| Request::Owned(sign(inbox, ask));
        let placement = inbox.placement();
        let until = Hour(Hour::of_unix(self.now.0).0 + u32::from(hours));
        let request = match deed % 13 {
            0 => {
                let (hours, postage) = (hours.clamp(1, LETTER_HOURS), postage(inbox, number, amount));
                Request::Deposit(Deposit { inbox: placement, hours, postage, envelope: &envelope })
            }
            1 => {
                owned(Ask::Register { list: number % TICKET_LISTS, tickets: tickets(at).clone(), stamp: self.stamp() })
            }
            2 => owned(Ask::List { after: (number / 8).into(), patience: 0 }),
            3 => owned(Ask::Fetch(letter)),
            4 => {
                let tombstone = Tombstone::sign(&inbox.secret(&owner()), &NETWORK, &placement, letter, until);
                Request::Delete { inbox: placement, tombstones: vec![tombstone] }
            }
            5 => Request::Pull { inbox: placement, after: (number / 8).into() },
            6 => Request::Take { inbox: placement, letter },
            7 => self.publishing(amount),
            8 => Request::Look { placement: prekeys().placement() },
            9 => return self.check_kept(number.into()),
            10 => return self.repair(at, &envelope, (number, until)).await,
            11 => {
                self.refused |= self.mailbox.sweep(self.now).await.is_err();
                return;
            }
            _ => {
                self.now = self.now.plus(u64::from(amount) * 900);
                return;
            }
        };
        let is_deleted = matches!(request, Request::Delete { .. });
        match self.ask(request, deed).await {
            Said::Refused => self.refused = true,
            Said::Done if is_deleted => drop(self.buried.insert((at, letter), until)),
            Said::Done => {}
            Said::Envelope(given) => {
                assert_eq!(given, letter);
                self.check_there(at, letter);
            }
            Said::Listed(letters) => letters.into_iter().for_each(|letter| self.check_there(at, letter)),
        }
    }

    /// A replica is answered what only replicas may ask, and nobody else is.
    async fn ask(&self, request: Request<'_>, deed: u8) -> Said {
        let is_for_replicas = matches!(request, Request::Pull { .. } | Request::Take { .. });
        let circuit = Asker::Circuit(&BINDING);
        if is_for_replicas {
            let frame = self.mailbox.answer(request.clone(), circuit, self.now).await;
            assert_eq!(Answer::decode(&frame[FRAME_HEADER..]), Ok(Answer::Refused(Refusal::NotForYou)));
        }
        let kind = request.encode()[FRAME_HEADER];
        let asker = if is_for_replicas { Asker::Replica } else { circuit };
        let frame = self.mailbox.answer(request, asker, self.now).await;
        let body = &frame[FRAME_HEADER..];
        assert!(body[0] == 0 || body[0] == kind, "deed {deed} is answered by {}", body[0]);
        let answer = Answer::decode(body).expect("a mailbox says only what can be read");
        assert_eq!(answer.encode(), frame);
        match answer {
            Answer::Refused(_) => Said::Refused,
            Answer::Letters { letters, .. } | Answer::Pulled { letters, .. } => {
                Said::Listed(letters.iter().map(|listed| listed.letter).collect())
            }
            Answer::Letter(envelope) | Answer::Taken { envelope, .. } => Said::Envelope(LetterId::of(envelope)),
            _ => Said::Done,
        }
    }

    /// A letter that is given out was not deleted, or so long ago that nobody remembers.
    fn check_there(&self, inbox: usize, letter: LetterId) {
        let until = self.buried.get(&(inbox, letter));
        assert!(until.is_none_or(|until| *until <= Hour::of_unix(self.now.0)), "{letter:?} came back");
    }

    fn check_kept(&self, after: u64) {
        let (next, placements) = self.mailbox.kept(after, self.now).expect("it is not broken");
        assert!(next >= after);
        assert!(placements.iter().all(|placement| inboxes().iter().any(|inbox| inbox.placement() == *placement)));
    }

    async fn repair(&mut self, at: usize, envelope: &[u8], (number, expiry): (u8, Hour)) {
        let inbox = &inboxes()[at];
        let repair =
            Repair { from: REPLICA, inbox: inbox.placement(), expiry, postage: postage(inbox, number, 0), envelope };
        self.refused |= self.mailbox.repair(repair, self.now).await.is_err();
    }

    fn publishing(&self, revision: u8) -> Request<'static> {
        let xwing = XWingSecret::from_bytes(&[3; 32].into()).public();
        let keys = Prekeys { xwing, identity: [4; 32], device: 2, fallback: vec![[5; 32]] };
        let record = prekeys().seal(&keys, revision.into(), &owner(), &mut StdRng::seed_from_u64(1));
        Request::Publish { placement: prekeys().placement(), stamp: self.stamp(), record }
    }

    fn stamp(&self) -> Stamp {
        Stamp { day: Day::of(self.now), nonce: 0 }
    }
}

fn identity() -> RelaySecret {
    RelaySecret::from_bytes(&[3; 32].into())
}

fn owner() -> AddressSecret {
    AddressSecret::from_bytes(&[1; 32].into())
}

fn prekeys() -> PrekeysOf<'static> {
    PrekeysOf::new(&NETWORK, owner().address(), Week::of(START, Default::default()))
}

/// Two of strangers and two of contacts.
fn inboxes() -> &'static [Inbox; 4] {
    static INBOXES: OnceLock<[Inbox; 4]> = OnceLock::new();
    INBOXES.get_or_init(|| {
        let (owner, at, today) = (owner().address(), Whereabouts::decode(&[7; 36]), Day::of(START));
        let week = Week::of(START, at.offset());
        let request = |day| Inbox::request(&NETWORK, owner, day);
        let private = |week| Inbox::private(&NETWORK, owner, &at, week, &[1; 16]);
        [request(today), request(Day(today.0 + 1)), private(week), private(week.plus(1))]
    })
}

/// A list of all tickets of one contact for this inbox.
fn tickets(inbox: usize) -> &'static TicketList {
    static LISTS: OnceLock<Vec<TicketList>> = OnceLock::new();
    let all = LISTS.get_or_init(|| {
        let count = u16::try_from(TICKETS_LISTED).expect("4,096");
        let (mailbox, fill) = (identity().id(), TicketKey::from_bytes(&[6; 32]));
        let list = |inbox: &Inbox| {
            let of = ListOf { inbox: &inbox.placement(), mailbox: &mailbox, list: 0 };
            TicketList::new([(&contact(), 0..count)], &of, &fill).expect("as many as there is room for")
        };
        inboxes().iter().map(list).collect()
    });
    &all[inbox]
}

fn contact() -> TicketKey {
    TicketKey::from_bytes(&[5; 32])
}

fn postage(inbox: &Inbox, number: u8, nonce: u8) -> Postage {
    let placement = inbox.placement();
    let ticket = Postage::Ticket(contact().ticket(&placement, number.into(), &identity().id()));
    if ticket.of() == placement.of {
        ticket
    } else {
        Postage::Stamp(Stamp { day: Day(placement.period), nonce: nonce.into() })
    }
}

fn envelope(number: u8) -> Vec<u8> {
    let class = if number < 192 { SizeClass::Short } else { SizeClass::Middle };
    vec![number; class.bytes()]
}

fn sign(inbox: &Inbox, ask: Ask) -> Owned {
    let mailbox = identity().id();
    let channel = Channel { network: &NETWORK, mailbox: &mailbox, binding: &BINDING };
    Owned::sign(inbox.placement(), ask, &channel, &inbox.secret(&owner()))
}
