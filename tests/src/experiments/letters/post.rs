//! Post: the relays of a group, their mailboxes, and what is asked of them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
};

use rand::{RngExt, rngs::StdRng};
use tokio::runtime::{Builder, Runtime};
use trefoil_client::letters::Errand;
use trefoil_protocol::{
    epoch::UnixSeconds,
    identity::RelayId,
    mailbox::{Answer, Ask, Owned, Request},
    params::NetworkParams,
    ring::{self, Candidate, Placement},
    usable::AgeClass,
};
use trefoil_relay::mailbox::{Asker, Mailbox, Terms};

use super::REBATE;
use crate::records;

/// See the file's head.
pub(super) struct Post {
    params: NetworkParams,
    /// Its clock stands still, so that a mailbox which waits for letters says at once that there are none.
    runtime: Runtime,
    mailboxes: BTreeMap<RelayId, Mailbox>,
    candidates: Vec<(RelayId, Candidate)>,
    rings: RefCell<HashMap<Placement, Vec<RelayId>>>,
    born: u16,
    pub(super) traffic: Traffic,
}

/// What was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) deposits: u64,
    pub(super) lists: u64,
    pub(super) bytes: u64,
}

/// A place at a mailbox where an owner waits for letters.
pub(super) type Watched = (RelayId, Placement);

/// What a mailbox says.
pub(super) enum Said {
    /// The relay is gone.
    Nothing,
    /// It answers at once.
    Answer(Vec<u8>),
    /// A letter has come here.
    Accepted(Vec<u8>, Watched),
    /// There is nothing here: this is what it answers when its patience ends.
    Empty(Vec<u8>, Watched),
}

impl Post {
    pub(super) fn new(relays: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let mut post = Self {
            params: records::params(),
            runtime: runtime.expect("a runtime without sockets"),
            mailboxes: BTreeMap::new(),
            candidates: vec![],
            rings: RefCell::default(),
            born: 0,
            traffic: Traffic::default(),
        };
        (0..relays).for_each(|_| post.open());
        post
    }

    /// A new relay, with empty mailboxes.
    fn open(&mut self) {
        let (identity, mut descriptor) = records::relay(self.born);
        self.born += 1;
        descriptor.mailbox = true;
        let relay = descriptor.relay;
        self.candidates.push((relay, Candidate::new(&descriptor, AgeClass::Old)));
        let terms = Terms { network: self.params.id(), identity, size: ROOM, rebate: REBATE };
        self.mailboxes.insert(relay, Mailbox::in_memory(terms).expect("memory can be written"));
    }

    /// So many relays leave with all that they have, and others come.
    pub(super) fn churn(&mut self, count: usize, rng: &mut StdRng) {
        for _ in 0..count {
            let (relay, _) = self.candidates.swap_remove(rng.random_range(0..self.candidates.len()));
            self.mailboxes.remove(&relay);
        }
        (0..count).for_each(|_| self.open());
        self.rings.get_mut().clear();
    }

    pub(super) fn relays(&self) -> usize {
        self.candidates.len()
    }

    pub(super) fn is_there(&self, relay: &RelayId) -> bool {
        self.mailboxes.contains_key(relay)
    }

    /// The ring of a placement, as everyone finds it.
    pub(super) fn ring(&self, placement: &Placement) -> Vec<RelayId> {
        let find =
            || ring::ring(placement, &self.params, self.candidates.iter().map(|(_, candidate)| candidate.clone()));
        self.rings.borrow_mut().entry(*placement).or_insert_with(find).clone()
    }

    /// Has a mailbox do an errand, and says what it answers.
    pub(super) fn ask(&mut self, errand: &Errand, now: UnixSeconds) -> Said {
        let Some(mailbox) = self.mailboxes.get(&errand.mailbox) else { return Said::Nothing };
        let binding = errand.circuit();
        let frame = errand.request(&binding);
        let Some(Ok(request)) = frame.get(LENGTH..).map(Request::decode) else { return Said::Nothing };
        let watched = match &request {
            Request::Owned(Owned { inbox, ask: Ask::List { patience: 1.., .. }, .. }) => Some(*inbox),
            _ => None,
        };
        let deposit = match &request {
            Request::Deposit(deposit) => Some(deposit.inbox),
            _ => None,
        };
        self.traffic.deposits += u64::from(deposit.is_some());
        self.traffic.lists += u64::from(matches!(&request, Request::Owned(Owned { ask: Ask::Register { .. }, .. })));
        let answer = self.runtime.block_on(mailbox.answer(request, Asker::Circuit(&binding), now));
        self.traffic.bytes += (frame.len() + answer.len()) as u64;
        let decoded = answer.get(LENGTH..).map(Answer::decode);
        match (decoded, watched, deposit) {
            (Some(Ok(Answer::Letters { letters, .. })), Some(inbox), _) if letters.is_empty() => {
                Said::Empty(answer, (errand.mailbox, inbox))
            }
            (Some(Ok(Answer::Accepted(_))), _, Some(inbox)) => Said::Accepted(answer, (errand.mailbox, inbox)),
            _ => Said::Answer(answer),
        }
    }
}

/// Bytes before a frame's body.
pub(super) const LENGTH: usize = 4;
/// Of each relay's mailboxes.
const ROOM: u64 = 8 << 30;
