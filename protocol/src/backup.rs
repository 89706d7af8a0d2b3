//! Backup: the inbox in which a person keeps what only that person reads, found and opened by the phrase alone.
//!
//! Specification: docs/protocol.md, "Backups". To mailboxes it is a private inbox like any other: its letters are
//! envelopes, their postage is tickets that the owner registers, and nothing ties it to the person's address. What a sheet
//! says is not decided here.

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    address::AddressSecret,
    blind::BlindedSecret,
    crypto::{self, XWingSecret},
    envelope::{Recipient, SealError},
    epoch::UnixSeconds,
    inbox::{Inbox, WeekSalt, Whereabouts},
    params::NetworkId,
    period::{Week, WeekOffset},
    phrase::Phrase,
    ring::Placement,
    ticket::TicketKey,
};

/// A person's self-inbox. Whoever has the phrase has it.
pub struct SelfInbox {
    network: NetworkId,
    owner: AddressSecret,
    sealing: XWingSecret,
    tickets: TicketKey,
    filling: TicketKey,
}

impl SelfInbox {
    /// That of the person with this phrase.
    pub fn new(network: &NetworkId, phrase: &Phrase) -> Self {
        let key = phrase.backup_key();
        let ticket_key = |label: &[u8]| TicketKey::from_bytes(&Zeroizing::new(crypto::blake3(&[label, &*key])));
        Self {
            network: *network,
            owner: phrase.self_inbox_secret(),
            sealing: XWingSecret::from_bytes(&key),
            tickets: ticket_key(TICKETS_LABEL),
            filling: ticket_key(FILLING_LABEL),
        }
    }

    /// When its weeks begin.
    pub fn offset(&self) -> WeekOffset {
        self.whereabouts().offset()
    }

    /// Its week at this time.
    pub fn week(&self, now: UnixSeconds) -> Week {
        Week::of(now, self.offset())
    }

    /// Where it is in a week.
    pub fn placement(&self, week: Week) -> Placement {
        self.inbox(week).placement()
    }

    /// What signs for it in a week.
    pub fn secret(&self, week: Week) -> BlindedSecret {
        self.inbox(week).secret(&self.owner)
    }

    /// What its tickets are made from.
    pub fn tickets(&self) -> &TicketKey {
        &self.tickets
    }

    /// What fills its list of tickets.
    pub fn filling(&self) -> &TicketKey {
        &self.filling
    }

    /// Seals a sheet for the inbox of a week.
    ///
    /// # Errors
    /// [`SealError`] where it is too long for any envelope.
    pub fn seal(&self, week: Week, sheet: &[u8], rng: &mut impl CryptoRng) -> Result<Vec<u8>, SealError> {
        let (address, placement) = (self.owner.address(), self.placement(week));
        let recipient = Recipient { network: &self.network, address: &address, inbox: &placement, week };
        recipient.seal(&self.sealing.public(), sheet, rng)
    }

    /// Opens what [`Self::seal`] made for this week; `None` for anything else. Nobody else can have made it: the key that
    /// it is sealed to is known to nobody.
    pub fn open(&self, week: Week, envelope: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (address, placement) = (self.owner.address(), self.placement(week));
        let recipient = Recipient { network: &self.network, address: &address, inbox: &placement, week };
        recipient.open(&self.sealing, envelope).ok()
    }

    fn whereabouts(&self) -> Whereabouts {
        Whereabouts::of_self(self.owner.address())
    }

    fn inbox(&self, week: Week) -> Inbox {
        Inbox::private(&self.network, self.owner.address(), &self.whereabouts(), week, &NO_SALT)
    }
}

const NO_SALT: WeekSalt = [0; 16];
const TICKETS_LABEL: &[u8] = b"trefoil/1 backup tickets";
const FILLING_LABEL: &[u8] = b"trefoil/1 backup filling";

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        blind::BlindUse,
        vectors::{self, array, bytes, list},
    };

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
    const WEEK: Week = Week(2900);

    fn of(seed: u8) -> SelfInbox {
        SelfInbox::new(&NETWORK, &Phrase::from_entropy(Zeroizing::new([seed; 32])))
    }

    #[test]
    fn the_phrase_alone_finds_and_opens_it() {
        let sealed = of(1).seal(WEEK, b"a sheet", &mut StdRng::seed_from_u64(1)).unwrap();
        let again = of(1);
        assert_eq!(*again.open(WEEK, &sealed).unwrap(), b"a sheet");
        assert_eq!(again.secret(WEEK).key(), again.placement(WEEK).key);
        assert_eq!(again.placement(WEEK).of, BlindUse::PrivateInbox);
    }

    #[test]
    fn nobody_else_and_no_other_week_finds_or_opens_it() {
        let sealed = of(1).seal(WEEK, b"a sheet", &mut StdRng::seed_from_u64(1)).unwrap();
        assert!(of(2).open(WEEK, &sealed).is_none() && of(1).open(WEEK.plus(1), &sealed).is_none());
        let keys = [of(1).placement(WEEK).key, of(2).placement(WEEK).key, of(1).placement(WEEK.plus(1)).key];
        assert!(keys[0] != keys[1] && keys[0] != keys[2]);
        assert_ne!(of(1).tickets().as_bytes(), of(1).filling().as_bytes());
        assert_ne!(of(1).tickets().as_bytes(), of(2).tickets().as_bytes());
    }

    #[test]
    fn another_implementation_finds_and_opens_the_same() {
        let vector = vectors::backup();
        let phrase = Phrase::parse(vector["words"].as_str().unwrap()).unwrap();
        let network = NetworkId::from_bytes(array(&vector["network"]));
        let (own, week) = (SelfInbox::new(&network, &phrase), Week(number(&vector["week"])));
        assert_eq!(**phrase.entropy(), array(&vector["entropy"]));
        let known = [phrase.address_secret(), phrase.self_inbox_secret()].map(|secret| secret.address().to_string());
        assert_eq!(known, ["address", "self_inbox"].map(|name| vector[name].as_str().unwrap()));
        assert_eq!(*phrase.backup_key(), array(&vector["backup_key"]));
        let keys = [own.tickets(), own.filling()].map(|key| *key.as_bytes());
        assert_eq!(keys, ["tickets", "filling"].map(|name| array(&vector[name])));
        assert_eq!(own.placement(week).encode(), array(&vector["placement"]));
        let start = UnixSeconds(u64::from(week.0) * 604_800 - u64::from(number(&vector["offset"])));
        assert_eq!((own.week(start), own.week(UnixSeconds(start.0 - 1)).plus(1)), (week, week));
        for sheet in list(&vector["sheets"]) {
            assert_eq!(*own.open(week, &bytes(&sheet["envelope"])).unwrap(), bytes(&sheet["bytes"]));
        }
    }

    fn number(value: &serde_json::Value) -> u32 {
        value.as_u64().unwrap().try_into().unwrap()
    }

    #[test]
    fn it_has_nothing_in_common_with_the_address_that_others_know() {
        let phrase = Phrase::from_entropy(Zeroizing::new([1; 32]));
        let known = phrase.address_secret().address();
        let at = Whereabouts::of_self(known);
        let findable = Inbox::private(&NETWORK, known, &at, WEEK, &NO_SALT).placement().key;
        assert_ne!(of(1).placement(WEEK).key, findable);
    }
}
