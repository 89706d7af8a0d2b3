//! A person's program that is restored from the phrase, and finds a sheet in its own inbox.

use rand::{SeedableRng, rngs::StdRng};
use trefoil_client::letters::{
    Letters, Settings, Sheet,
    vault::{Memory, Place, Unlock},
};
use trefoil_protocol::{
    backup::SelfInbox,
    crypto::PassphraseCost,
    envelope::{LetterId, SizeClass},
    epoch::UnixSeconds,
    identity::RelayId,
    limits::PASSPHRASE_KIB,
    mailbox::{Answer, Ask, FRAME_HEADER, Listed, Owned, Request},
    params::NetworkId,
    phrase::Phrase,
    puzzle::Hour,
    ring::Placement,
};

use super::Verdict;

const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
const START: UnixSeconds = UnixSeconds(1_750_000_000);

/// Whatever a sheet says, a program that brings it back goes on afterwards, and can be started again.
pub fn restored(data: &[u8]) -> Verdict {
    if Sheet::decode(data).is_none() {
        return Verdict::Refused;
    }
    let phrase = Phrase::from_entropy([9; 32].into());
    let own = SelfInbox::new(&NETWORK, &phrase);
    let week = own.week(START);
    let Ok(envelope) = own.seal(week, data, &mut StdRng::seed_from_u64(1)) else { return Verdict::Refused };
    let mailbox = Mailbox { placement: own.placement(week), envelope };
    let place = Place::Memory(Memory::default());
    let whose = (phrase.entropy(), "");
    let mut letters = Letters::create(&place, &UNLOCK, whose, network(), (START, &[1; 32].into())).expect("a profile");
    letters.look_for_backup(START).expect("it can be looked for");
    mailbox.carry(&mut letters, START);
    let known = letters.contacts().expect("they can be read");
    drop(letters);
    let later = START.plus(86_400);
    let mut letters = Letters::open(&place, &UNLOCK, network(), (later, &[2; 32].into())).expect("the same profile");
    assert_eq!(letters.contacts().expect("they can be read"), known);
    for contact in known {
        letters.conversation(contact.id).expect("it can be read");
        letters.gaps(contact.id).expect("they can be told");
    }
    mailbox.carry(&mut letters, later);
    Verdict::Accepted
}

const UNLOCK: Unlock<'static> = Unlock::Passphrase("words", PassphraseCost { kib: *PASSPHRASE_KIB.start(), passes: 1 });

fn network() -> (NetworkId, Settings) {
    (NETWORK, Settings { spread: 0, receipt: 0, stamps: 0, lists: 0, ..Settings::default() })
}

/// All mailboxes there are: it has the sheet, and else nothing.
struct Mailbox {
    placement: Placement,
    envelope: Vec<u8>,
}

impl Mailbox {
    /// Some minutes of errands.
    fn carry(&self, letters: &mut Letters, start: UnixSeconds) {
        let ring = |_: &Placement| vec![RelayId::from_bytes([2; 32])];
        for minute in 0..6 {
            let now = start.plus(minute * 60);
            let (errands, _) = letters.errands(now, &ring).expect("nothing is lost");
            for errand in errands {
                let frame = errand.request(&[7; 32]);
                let request = Request::decode(&frame[FRAME_HEADER..]).expect("what is asked can be read");
                let answer = self.answer(&request, now);
                letters.done(&errand, answer.as_ref(), now, &ring).expect("what is answered can be taken");
            }
        }
    }

    fn answer(&self, request: &Request<'_>, now: UnixSeconds) -> Option<Answer<'_>> {
        let Request::Owned(Owned { inbox, ask, .. }) = request else { return None };
        match ask {
            Ask::List { .. } if *inbox == self.placement => {
                let (letter, class) = (LetterId::of(&self.envelope), SizeClass::of(self.envelope.len())?);
                let expiry = Hour(Hour::of_unix(now.0).0 + 300);
                Some(Answer::Letters { next: 1, letters: vec![Listed { letter, class, expiry }] })
            }
            Ask::List { after, .. } => Some(Answer::Letters { next: *after, letters: vec![] }),
            Ask::Fetch(_) => Some(Answer::Letter(&self.envelope)),
            Ask::Register { .. } => None,
        }
    }
}
