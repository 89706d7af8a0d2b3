//! Errands: what is to be asked of which mailbox, as plain values.
//!
//! Specification: docs/protocol.md, "Mailbox streams". Whoever carries one makes its request for the circuit that it
//! goes through, and hands the errand back with what came of it, always. An errand has all it needs: no lock is held
//! while a stamp is made. This file never decides what is done.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use trefoil_protocol::{
    blind::BlindedSecret,
    crypto,
    envelope::LetterId,
    identity::RelayId,
    inbox::Channel,
    mailbox::{Ask, Deposit, Owned, Postage, Request},
    params::NetworkId,
    period::Day,
    prekeys::PrekeysRecord,
    ring::Placement,
    stamp::{self, Minting, Stamp, Stamped},
    ticket::{Ticket, TicketList},
    tombstone::Tombstone,
};

use super::person::InboxName;

/// See the file's head.
pub struct Errand {
    /// Whom to ask.
    pub mailbox: RelayId,
    pub(super) network: NetworkId,
    /// The placement that it is about: one circuit goes to one mailbox for one placement.
    pub(super) placement: Placement,
    pub(super) day: Day,
    pub(super) what: What,
}

/// What is asked for.
pub(super) enum What {
    Deposit {
        serial: u64,
        hours: u16,
        postage: Wanted,
        envelope: Vec<u8>,
    },
    Look {
        contact: u32,
        week: u32,
    },
    List {
        inbox: InboxName,
        secret: Arc<BlindedSecret>,
        after: u64,
        patience: u16,
    },
    Fetch {
        inbox: InboxName,
        secret: Arc<BlindedSecret>,
        letter: LetterId,
    },
    Delete {
        inbox: InboxName,
        tombstones: Vec<Tombstone>,
    },
    Register {
        inbox: InboxName,
        list: u8,
        version: u32,
        extra: u8,
        secret: Arc<BlindedSecret>,
        tickets: Box<TicketList>,
        bits: u8,
    },
    Publish {
        week: u32,
        record: PrekeysRecord,
        bits: u8,
    },
}

/// What a deposit is to cost.
pub(super) enum Wanted {
    Ticket(Ticket),
    /// A stamp of so many bits, which is made once for all replicas.
    Stamp(u8, Arc<OnceLock<Stamp>>),
}

/// Which errands are not to be under way twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Busy {
    Deposit(u64, RelayId),
    Look(u32, u32, RelayId),
    Visit(InboxName, RelayId),
    Register(InboxName, u8, RelayId),
    Publish(u32, RelayId),
}

impl Errand {
    /// A name for the circuit that the errand needs: errands of one name may share one, and others must not.
    pub fn circuit(&self) -> [u8; 32] {
        // Who deposits and who reads have nothing in common, also where somebody writes to oneself.
        crypto::blake3(&[CIRCUIT_LABEL, &[self.is_ours().into()], &self.placement.encode(), self.mailbox.as_bytes()])
    }

    /// Whether it is about what is the person's own: not about a contact's inbox or prekeys.
    pub fn is_ours(&self) -> bool {
        !matches!(self.what, What::Deposit { .. } | What::Look { .. })
    }

    /// For how many seconds the mailbox may wait with its answer.
    pub fn patience(&self) -> u16 {
        if let What::List { patience, .. } = self.what { patience } else { 0 }
    }

    /// For how many hours a letter is to be kept there.
    pub(super) fn hours(&self) -> u16 {
        if let What::Deposit { hours, .. } = self.what { hours } else { 0 }
    }

    /// The frame of the request, on a circuit with this `binding`. Where a stamp is needed, it is made here: that takes
    /// a core for 10 ms to 10 s.
    pub fn request(&self, binding: &[u8; 32]) -> Vec<u8> {
        let inbox = self.placement;
        let channel = Channel { network: &self.network, mailbox: &self.mailbox, binding };
        let owned = |secret: &BlindedSecret, ask| Request::Owned(Owned::sign(inbox, ask, &channel, secret)).encode();
        match &self.what {
            What::Deposit { hours, postage, envelope, .. } => {
                let postage = match postage {
                    Wanted::Ticket(ticket) => Postage::Ticket(*ticket),
                    Wanted::Stamp(bits, made) => {
                        let letter = LetterId::of(envelope);
                        Postage::Stamp(*made.get_or_init(|| self.stamp(&letter, *bits)))
                    }
                };
                Request::Deposit(Deposit { inbox, hours: *hours, postage, envelope }).encode()
            }
            What::Look { .. } => Request::Look { placement: inbox }.encode(),
            What::List { secret, after, patience, .. } => {
                owned(secret, Ask::List { after: *after, patience: *patience })
            }
            What::Fetch { secret, letter, .. } => owned(secret, Ask::Fetch(*letter)),
            What::Delete { tombstones, .. } => Request::Delete { inbox, tombstones: tombstones.clone() }.encode(),
            What::Register { list, secret, tickets, bits, .. } => {
                let stamp = self.stamp(&stamp::left(&self.mailbox, *list, &tickets.encode()), *bits);
                owned(secret, Ask::Register { list: *list, tickets: (**tickets).clone(), stamp })
            }
            What::Publish { record, bits, .. } => {
                let stamp = self.stamp(&stamp::left(&self.mailbox, 0, record.as_bytes()), *bits);
                Request::Publish { placement: inbox, stamp, record: record.clone() }.encode()
            }
        }
    }

    fn stamp(&self, letter: &LetterId, bits: u8) -> Stamp {
        let stamped = Stamped { network: &self.network, inbox: &self.placement, letter };
        let mut minting = Minting::new(stamped, bits, self.day);
        loop {
            if let Some(stamp) = minting.step(u32::MAX) {
                return stamp;
            }
        }
    }

    pub(super) fn busy(&self) -> Busy {
        let mailbox = self.mailbox;
        match &self.what {
            What::Deposit { serial, .. } => Busy::Deposit(*serial, mailbox),
            What::Look { contact, week } => Busy::Look(*contact, *week, mailbox),
            What::List { inbox, .. } | What::Fetch { inbox, .. } | What::Delete { inbox, .. } => {
                Busy::Visit(*inbox, mailbox)
            }
            What::Register { inbox, list, .. } => Busy::Register(*inbox, *list, mailbox),
            What::Publish { week, .. } => Busy::Publish(*week, mailbox),
        }
    }
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Deposit { .. } => "deposit",
            What::Look { .. } => "look",
            What::List { .. } => "list",
            What::Fetch { .. } => "fetch",
            What::Delete { .. } => "delete",
            What::Register { .. } => "register",
            What::Publish { .. } => "publish",
        };
        write!(f, "Errand({what})")
    }
}

const CIRCUIT_LABEL: &[u8] = b"trefoil/1 errand circuit";
