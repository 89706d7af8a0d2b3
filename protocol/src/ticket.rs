//! Tickets: what a contact's letter costs, which is one of a number that the owner gave out.
//!
//! Specification: docs/protocol.md, "Stamps and tickets". The owner registers hashes, whoever knows the ticket shows it;
//! so a mailbox can neither tell two contacts apart nor make a ticket of what it holds. To block somebody is not to
//! register any more. This file never remembers what was spent.

use std::{fmt, ops::Range};

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    crypto::{self, Secret},
    identity::RelayId,
    limits::TICKETS_LISTED,
    ring::Placement,
};

/// What a person gives to one contact, who makes tickets from it.
pub struct TicketKey(Secret);

/// A ticket: what whoever deposits shows to one mailbox, once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub [u8; 16]);

/// What the owner registers for a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketHash(pub [u8; 16]);

/// What the owner registers with one mailbox: [`TICKETS_LISTED`] hashes in the order of their bytes, some of which are
/// of tickets that nobody has, so that neither their number nor their places tell how many contacts there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketList(Vec<TicketHash>);

/// Which list of tickets: of which inbox, at which mailbox, and which of the inbox's lists there.
#[derive(Clone, Copy, Debug)]
pub struct ListOf<'a> {
    /// The inbox.
    pub inbox: &'a Placement,
    /// The mailbox.
    pub mailbox: &'a RelayId,
    /// The list: below [`TICKET_LISTS`](crate::limits::TICKET_LISTS).
    pub list: u8,
}

/// There are more tickets than a list has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} tickets are more than a list has room for, which is {TICKETS_LISTED}")]
pub struct TooManyTickets(pub usize);

impl TicketKey {
    /// A new one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut key = Secret::default();
        rng.fill_bytes(&mut *key);
        Self(key)
    }

    /// The key whose bytes these are.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// Its bytes, for the letter that brings it to the contact.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The ticket of this number, for this inbox at this mailbox:
    /// `BLAKE3("trefoil/1 ticket" ‖ key 32 ‖ inbox 37 ‖ number 2 ‖ RelayId 32)[..16]`. With the inbox in it, no two inboxes
    /// of one owner have a hash in common.
    pub fn ticket(&self, inbox: &Placement, number: u16, mailbox: &RelayId) -> Ticket {
        let parts = [LABEL, &*self.0, &inbox.encode(), &number.to_le_bytes(), mailbox.as_bytes()];
        Ticket(half(crypto::blake3(&parts)))
    }
}

impl Ticket {
    /// What stands in the list for it: `BLAKE3("trefoil/1 ticket hash" ‖ ticket 16)[..16]`.
    pub fn hash(&self) -> TicketHash {
        TicketHash(half(crypto::blake3(&[HASH_LABEL, &self.0])))
    }
}

impl TicketList {
    /// Bytes of its form.
    pub const LENGTH: usize = TICKETS_LISTED * 16;

    /// The list of these contacts' tickets by their numbers, filled up with hashes of tickets that nobody has: they are made
    /// from `fill`, a key that the owner gives to nobody. So one who registers the same contacts again registers the same
    /// bytes, and two lists that are compared do not tell which hashes are real.
    ///
    /// # Errors
    /// [`TooManyTickets`] where they do not fit.
    pub fn new<'k>(
        grants: impl IntoIterator<Item = (&'k TicketKey, Range<u16>)>,
        of: &ListOf<'_>,
        fill: &TicketKey,
    ) -> Result<Self, TooManyTickets> {
        let tickets = |(key, numbers): (&'k TicketKey, Range<u16>)| {
            numbers.map(move |number| key.ticket(of.inbox, number, of.mailbox).hash())
        };
        let mut hashes: Vec<_> = grants.into_iter().flat_map(tickets).collect();
        if hashes.len() > TICKETS_LISTED {
            return Err(TooManyTickets(hashes.len()));
        }
        hashes.sort_unstable();
        hashes.dedup();
        let left = TICKETS_LISTED.saturating_sub(hashes.len());
        // each list has numbers of its own: what two lists had in common would not be real
        let numbers = (0..=u16::MAX).skip(usize::from(of.list) * TICKETS_LISTED).take(left);
        hashes.extend(numbers.map(|number| fill.ticket(of.inbox, number, of.mailbox).hash()));
        hashes.sort_unstable();
        Ok(Self(hashes))
    }

    /// Whether this ticket is one of them.
    pub fn holds(&self, ticket: &Ticket) -> bool {
        self.0.binary_search(&ticket.hash()).is_ok()
    }

    /// The hashes, in the order of their bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &TicketHash> {
        self.0.iter()
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|hash| hash.0).collect()
    }

    /// Takes what [`Self::encode`] made; `None` for another number of hashes, or another order.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (hashes, []) = bytes.as_chunks() else { return None };
        let whole = hashes.len() == TICKETS_LISTED && hashes.is_sorted();
        whole.then(|| Self(hashes.iter().map(|hash| TicketHash(*hash)).collect()))
    }
}

fn half(hash: [u8; 32]) -> [u8; 16] {
    *hash.first_chunk().expect("32 bytes have 16")
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(..)")
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

impl fmt::Debug for TicketHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "TicketHash({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

const LABEL: &[u8] = b"trefoil/1 ticket";
const HASH_LABEL: &[u8] = b"trefoil/1 ticket hash";

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{limits::TICKET_LISTS, ring::tests::PLACEMENT};

    const MAILBOX: RelayId = RelayId::from_bytes([2; 32]);
    const OTHER: Placement = Placement { period: 2901, ..PLACEMENT };
    const LIST: ListOf<'static> = ListOf { inbox: &PLACEMENT, mailbox: &MAILBOX, list: 0 };

    fn key(seed: u8) -> TicketKey {
        TicketKey::from_bytes(&[seed; 32])
    }

    fn list_of(grants: &[(&TicketKey, Range<u16>)]) -> Result<TicketList, TooManyTickets> {
        TicketList::new(grants.iter().cloned(), &LIST, &key(99))
    }

    /// A list in which the first 100 tickets of the key `[1; 32]` are.
    pub(crate) fn list() -> TicketList {
        list_of(&[(&key(1), 0..100)]).unwrap()
    }

    fn hashes(list: &TicketList) -> BTreeSet<TicketHash> {
        list.iter().copied().collect()
    }

    #[test]
    fn a_ticket_and_its_hash_are_those_of_the_specification() {
        let ticket = key(1).ticket(&PLACEMENT, 3, &MAILBOX);
        let bytes = [&b"trefoil/1 ticket"[..], &[1; 32], &PLACEMENT.encode(), &[3, 0], &[2; 32]].concat();
        assert_eq!(ticket.0, crypto::blake3(&[&bytes])[..16]);
        assert_eq!(ticket.hash().0, crypto::blake3(&[b"trefoil/1 ticket hash", &ticket.0])[..16]);
    }

    #[test]
    fn each_contact_inbox_number_and_mailbox_has_another_ticket() {
        let tickets = [
            key(1).ticket(&PLACEMENT, 3, &MAILBOX),
            key(2).ticket(&PLACEMENT, 3, &MAILBOX),
            key(1).ticket(&OTHER, 3, &MAILBOX),
            key(1).ticket(&PLACEMENT, 4, &MAILBOX),
            key(1).ticket(&PLACEMENT, 3, &RelayId::from_bytes([3; 32])),
        ];
        assert_eq!(tickets.iter().map(|ticket| ticket.0).collect::<BTreeSet<_>>().len(), 5);
    }

    #[test]
    fn a_list_holds_what_was_granted_and_nothing_else() {
        let list = list_of(&[(&key(1), 0..100), (&key(2), 50..60)]).unwrap();
        for number in 0..200 {
            let holds = |seed: u8| list.holds(&key(seed).ticket(&PLACEMENT, number, &MAILBOX));
            assert_eq!((holds(1), holds(2), holds(3)), (number < 100, (50..60).contains(&number), false));
        }
    }

    #[test]
    fn who_registers_again_registers_the_same_and_other_lists_have_nothing_in_common_with_it() {
        let made = |of: &ListOf<'_>| TicketList::new([(&key(1), 0..100)], of, &key(99)).unwrap();
        assert_eq!(made(&LIST), made(&LIST));
        let mailbox = RelayId::from_bytes([3; 32]);
        for other in [ListOf { inbox: &OTHER, ..LIST }, ListOf { mailbox: &mailbox, ..LIST }] {
            assert!(hashes(&made(&LIST)).is_disjoint(&hashes(&made(&other))), "{other:?}");
        }
        let none = |list| hashes(&TicketList::new([], &ListOf { list, ..LIST }, &key(99)).unwrap());
        let all: Vec<_> = (0..TICKET_LISTS).map(none).collect();
        assert!(all.iter().enumerate().all(|(at, one)| all[..at].iter().all(|other| one.is_disjoint(other))));
        assert!(all.iter().all(|one| one.len() == TICKETS_LISTED));
    }

    #[test]
    fn what_a_mailbox_holds_is_not_what_it_takes_to_deposit() {
        let list = list();
        assert!(list.iter().all(|hash| !list.holds(&Ticket(hash.0))));
    }

    #[test]
    fn all_lists_have_one_size_and_only_those_that_fit_are_made() {
        let all = u16::try_from(TICKETS_LISTED).unwrap();
        for grants in [vec![], vec![(&key(1), 0..1)], vec![(&key(1), 0..all - 1), (&key(2), 0..1)]] {
            assert_eq!(list_of(&grants).unwrap().encode().len(), TicketList::LENGTH);
        }
        assert_eq!(list_of(&[(&key(1), 0..all), (&key(2), 0..1)]), Err(TooManyTickets(TICKETS_LISTED + 1)));
        let twice = list_of(&[(&key(1), 0..10), (&key(1), 5..15)]).unwrap();
        assert_eq!(hashes(&twice).len(), TICKETS_LISTED);
    }

    #[test]
    fn a_list_survives_its_bytes_and_no_other_length_or_order_is_one() {
        let bytes = list().encode();
        assert_eq!(TicketList::decode(&bytes), Some(list()));
        for length in (0..bytes.len()).step_by(8).chain([1, bytes.len() - 1]) {
            assert_eq!(TicketList::decode(&bytes[..length]), None, "{length}");
        }
        assert_eq!(TicketList::decode(&[&bytes[..], &[0xff; 16]].concat()), None);
        let mut turned = bytes.clone();
        turned.rotate_left(16);
        assert_eq!(TicketList::decode(&turned), None);
    }

    #[test]
    fn keys_and_tickets_do_not_print_themselves() {
        let key = TicketKey::generate(&mut StdRng::seed_from_u64(1));
        assert_eq!(format!("{key:?} {:?}", key.ticket(&PLACEMENT, 1, &MAILBOX)), "TicketKey(..) Ticket(..)");
        assert_ne!(key.as_bytes(), TicketKey::generate(&mut StdRng::seed_from_u64(2)).as_bytes());
    }
}
