//! Reconciliation: two nodes find out which records one has and the other has not, for little more than the difference.
//!
//! Specification: docs/protocol.md, "Reconciliation". Range-based set reconciliation by the crate `negentropy`, over
//! names of records that only this session knows. A peer can lie about what it has, which costs both a bounded number
//! of bytes and gains it nothing: records are checked when they come. This file never sees a record's bytes.

use std::collections::BTreeSet;

use negentropy::{Id, Negentropy, NegentropyStorageVector};

use crate::{
    crypto,
    descriptor::Record,
    identity::RelayId,
    limits::{RECONCILE_FRAME, RECONCILE_ROUNDS, RECONCILE_WANTS},
    view::View,
};

/// What names depend on: in a session drawn by its asking side, so that nobody can prepare records whose names suit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

/// A record's name in a session: `BLAKE3(salt ‖ digest)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SaltedId(pub [u8; 32]);

/// The records that a view held at one moment: what a session is made of, while the view goes on.
pub struct Held(Vec<Record>);

/// The side of a session that asks: it alone learns what differs.
pub struct Reconciler {
    negentropy: Negentropy<'static, NegentropyStorageVector>,
    names: Names,
    rounds: usize,
    wants: BTreeSet<SaltedId>,
    haves: BTreeSet<SaltedId>,
}

/// The side of a session that answers.
pub struct Responder {
    negentropy: Negentropy<'static, NegentropyStorageVector>,
    names: Names,
    rounds: usize,
}

/// Why a session ended early. What it found until then is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReconcileError {
    /// More than [`RECONCILE_FRAME`] bytes.
    #[error("a message of {0} bytes")]
    Length(usize),
    /// Not a message of a reconciliation.
    #[error("a malformed message")]
    Malformed,
    /// The peer names a record that both have as one that only it has.
    #[error("the peer contradicts itself")]
    Contradiction,
    /// It has not ended after [`RECONCILE_ROUNDS`].
    #[error("no end after {RECONCILE_ROUNDS} messages")]
    Rounds,
}

impl Held {
    /// What this view holds now.
    pub fn of(view: &View) -> Self {
        Self(view.iter().map(|(_, known)| known.record.record().clone()).collect())
    }
}

impl Reconciler {
    /// A session over these records, and its first message.
    pub fn start(held: &Held, salt: Salt) -> (Self, Vec<u8>) {
        let (mut negentropy, names) = session(held, salt);
        let first = negentropy.initiate().expect("it was not started before, and its records are sorted");
        (Self { negentropy, names, rounds: 1, wants: BTreeSet::new(), haves: BTreeSet::new() }, first)
    }

    /// Takes an answer; gives the next message, or `None` when the session is over: all differences are found, or
    /// [`RECONCILE_WANTS`] records that only the peer has.
    pub fn handle_answer(&mut self, answer: &[u8]) -> Result<Option<Vec<u8>>, ReconcileError> {
        let (mut haves, mut wants) = (vec![], vec![]);
        let next = self.negentropy.reconcile_with_ids(checked(answer)?, &mut haves, &mut wants);
        let next = next.map_err(|_| ReconcileError::Malformed)?;
        note(haves, &mut self.haves);
        if wants.iter().any(|id| self.names.find(&SaltedId(id.to_bytes())).is_some()) {
            return Err(ReconcileError::Contradiction);
        }
        note(wants, &mut self.wants);
        if next.is_none() || self.wants.len() == RECONCILE_WANTS {
            return Ok(None);
        }
        self.rounds = another(self.rounds)?;
        Ok(next)
    }

    /// The records that only the peer has, as far as it is known: at most [`RECONCILE_WANTS`].
    pub fn wants(&self) -> impl Iterator<Item = SaltedId> {
        self.wants.iter().copied()
    }

    /// The relays whose records the peer has not, as far as it is known: at most [`RECONCILE_WANTS`].
    pub fn haves(&self) -> impl Iterator<Item = RelayId> {
        self.haves.iter().filter_map(|name| self.names.find(name))
    }
}

impl Responder {
    /// A session over these records, under the asker's salt.
    pub fn new(held: &Held, salt: Salt) -> Self {
        let (negentropy, names) = session(held, salt);
        Self { negentropy, names, rounds: 0 }
    }

    /// The answer to a message, at most [`RECONCILE_FRAME`] bytes.
    pub fn respond(&mut self, message: &[u8]) -> Result<Vec<u8>, ReconcileError> {
        self.rounds = another(self.rounds)?;
        self.negentropy.reconcile(checked(message)?).map_err(|_| ReconcileError::Malformed)
    }

    /// Whose record had this name when the session began.
    pub fn find(&self, name: &SaltedId) -> Option<RelayId> {
        self.names.find(name)
    }
}

/// Whose record has which name, by name.
struct Names(Vec<(SaltedId, RelayId)>);

impl Names {
    fn find(&self, name: &SaltedId) -> Option<RelayId> {
        let at = self.0.binary_search_by(|(other, _)| other.cmp(name)).ok()?;
        self.0.get(at).map(|(_, relay)| *relay)
    }
}

/// Records are in the order of their epochs, so that what is new to a peer is mostly in one range.
fn session(Held(held): &Held, salt: Salt) -> (Negentropy<'static, NegentropyStorageVector>, Names) {
    let mut storage = NegentropyStorageVector::with_capacity(held.len());
    let mut names = Vec::with_capacity(held.len());
    for record in held {
        let name = crypto::blake3(&[&salt.0, &record.digest()]);
        let inserted = storage.insert(record.issued().0.into(), Id::from_byte_array(name));
        inserted.expect("it is not sealed yet");
        names.push((SaltedId(name), record.relay()));
    }
    storage.seal().expect("it is not sealed yet");
    names.sort_unstable();
    let limit = u64::try_from(RECONCILE_FRAME).expect("a frame is bounded");
    (Negentropy::owned(storage, limit).expect("the limit is above the crate's least, 4,096"), Names(names))
}

/// Adds what was found, as long as there is room. A name may come again: where a message was cut at its bound, the
/// next one compares some ranges once more.
fn note(found: Vec<Id>, all: &mut BTreeSet<SaltedId>) {
    for id in found {
        if all.len() < RECONCILE_WANTS {
            all.insert(SaltedId(id.to_bytes()));
        }
    }
}

fn checked(message: &[u8]) -> Result<&[u8], ReconcileError> {
    if message.len() <= RECONCILE_FRAME { Ok(message) } else { Err(ReconcileError::Length(message.len())) }
}

fn another(rounds: usize) -> Result<usize, ReconcileError> {
    if rounds < RECONCILE_ROUNDS { Ok(rounds + 1) } else { Err(ReconcileError::Rounds) }
}

#[cfg(test)]
mod tests;
