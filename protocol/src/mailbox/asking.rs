//! What only the owner of an inbox may ask of a mailbox, and the claim that comes with it.
//!
//! Specification: docs/protocol.md, "Mailbox streams" and "Inboxes". The claim is over all of the request before it.

use super::{FETCH, LIST, REGISTER};
use crate::{
    blind::BlindedSecret,
    envelope::LetterId,
    inbox::{Channel, Claim, Claimed},
    limits::{MAILBOX_FRAME, MAILBOX_PATIENCE, TICKET_LISTS},
    ring::Placement,
    stamp::Stamp,
    ticket::TicketList,
    wire::Reader,
};

/// A question of an inbox's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Whose inbox.
    pub inbox: Placement,
    /// The question.
    pub ask: Ask,
    /// The owner's signature; whether it is one, [`Self::is_claimed`] tells.
    pub claim: Claim,
}

/// What only the owner may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Which letters are there that came after this place?
    List {
        /// Where the answer before ended; 0 at first.
        after: u64,
        /// If there are none, wait for one for so many seconds: at most [`MAILBOX_PATIENCE`], and 0 not to.
        patience: u16,
    },
    /// This letter.
    Fetch(LetterId),
    /// These tickets count from now on, in the place of those that this list held before.
    Register {
        /// Which list: below [`TICKET_LISTS`].
        list: u8,
        /// The hashes.
        tickets: TicketList,
        /// For the inbox and what is [`left`](crate::stamp::left) there: else anyone could fill a mailbox with lists. The
        /// more it is worth, the more room letters have that come with these tickets ([`bought`](crate::stamp::bought)).
        stamp: Stamp,
    },
}

/// The longest request that an owner makes is one frame.
const _: () = assert!(1 + Placement::LENGTH + 1 + TicketList::LENGTH + Stamp::LENGTH + 64 <= MAILBOX_FRAME);

impl Owned {
    /// Asks as the owner, on this circuit.
    pub fn sign(inbox: Placement, ask: Ask, channel: &Channel<'_>, owner: &BlindedSecret) -> Self {
        let request = said(&inbox, &ask);
        let claim = Claimed { channel: *channel, operation: ask.operation(), request: &request }.sign(owner);
        Self { inbox, ask, claim }
    }

    /// Whether the inbox's owner asks this, on this circuit.
    pub fn is_claimed(&self, channel: &Channel<'_>) -> bool {
        let request = said(&self.inbox, &self.ask);
        let claimed = Claimed { channel: *channel, operation: self.ask.operation(), request: &request };
        self.claim.is_of(&self.inbox.key, &claimed)
    }

    pub(super) fn put(&self, frame: &mut Vec<u8>) {
        frame.extend(said(&self.inbox, &self.ask));
        frame.extend(self.claim.0);
    }
}

/// The body of the request without its claim.
///
/// # Panics
/// If it breaks the bounds that its parts are documented with.
fn said(inbox: &Placement, ask: &Ask) -> Vec<u8> {
    let mut body = inbox.encode().to_vec();
    match ask {
        Ask::List { after, patience } => {
            assert!(*patience <= MAILBOX_PATIENCE, "a patience of {patience} s");
            body.extend(after.to_le_bytes());
            body.extend(patience.to_le_bytes());
        }
        Ask::Fetch(letter) => body.extend(letter.as_bytes()),
        Ask::Register { list, tickets, stamp } => {
            assert!(*list < TICKET_LISTS, "a list {list} of tickets");
            body.push(*list);
            body.extend(tickets.encode());
            body.extend(stamp.encode());
        }
    }
    body
}

impl Ask {
    /// The type of the request.
    pub(super) fn operation(&self) -> u8 {
        match self {
            Self::List { .. } => LIST,
            Self::Fetch(_) => FETCH,
            Self::Register { .. } => REGISTER,
        }
    }

    pub(super) fn read(kind: u8, body: &mut Reader<'_>) -> Option<Self> {
        Some(match kind {
            LIST => Self::List {
                after: body.u64()?,
                patience: body.u16().filter(|patience| *patience <= MAILBOX_PATIENCE)?,
            },
            FETCH => Self::Fetch(LetterId::from_bytes(body.array()?)),
            REGISTER => Self::Register {
                list: body.byte().filter(|list| *list < TICKET_LISTS)?,
                tickets: TicketList::decode(body.take(TicketList::LENGTH)?)?,
                stamp: Stamp::decode(body.take_array()?),
            },
            _ => return None,
        })
    }
}
