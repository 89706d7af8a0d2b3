//! Sessions: Olm's double ratchets with one contact.
//!
//! Specification: docs/protocol.md, "Letters". By `vodozemac`, with MACs that are not cut. A session that has changed must
//! be on disk before what it made goes out. This file never looks into letters.

use serde::{Deserialize, Serialize};
use trefoil_protocol::{
    letter::{Dispatch, Form},
    limits::SESSIONS,
};
use vodozemac::{
    Curve25519PublicKey,
    olm::{Account, AccountPickle, OlmMessage, Session, SessionConfig, SessionPickle},
};
use zeroize::Zeroizing;

use super::rows::Hidden;

/// All sessions with one contact.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Sessions(Vec<SessionRow>);

#[derive(Serialize, Deserialize)]
struct SessionRow {
    id: String,
    pickle: Hidden,
    /// Their device's Olm identity key.
    identity: [u8; 32],
    /// When it was used last, counted: one on which they have written counts more than one that was only begun.
    heard: u64,
    begun: u64,
}

/// A message that was opened.
pub(crate) struct Opened {
    pub(crate) text: Zeroizing<Vec<u8>>,
    /// The Olm identity key of whoever wrote it.
    pub(crate) identity: [u8; 32],
    /// Whether it began a session that was not there before.
    pub(crate) is_new: bool,
}

/// A message does not open: it is not from them, or came before, or its key is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no session opens the message")]
pub(crate) struct NotOpened;

impl Sessions {
    /// Seals to the device with this identity key; `None` where there is no session with it yet.
    pub(crate) fn seal(&mut self, identity: &[u8; 32], text: &[u8]) -> Option<(Form, Vec<u8>)> {
        let of_device = self.0.iter_mut().filter(|row| row.identity == *identity);
        let row = of_device.max_by_key(|row| (row.heard, row.begun))?;
        let mut session = row.session()?;
        let message = session.encrypt(text).ok()?;
        row.pickle = pickled(&session);
        Some(match message {
            OlmMessage::PreKey(message) => (Form::Beginning, message.to_bytes()),
            OlmMessage::Normal(message) => (Form::Going, message.to_bytes()),
        })
    }

    /// Begins one with a device, by its prekeys.
    pub(crate) fn begin(&mut self, account: &Hidden, identity: [u8; 32], fallback: [u8; 32], now: u64) -> Option<()> {
        let keys = [identity, fallback].map(Curve25519PublicKey::from_bytes);
        let session =
            account_of(account)?.create_outbound_session(SessionConfig::version_2(), keys[0], keys[1]).ok()?;
        self.put(&session, identity, (0, now));
        Some(())
    }

    /// Opens a message. `at` counts up with everything that comes.
    pub(crate) fn open(&mut self, account: &Hidden, dispatch: &Dispatch, at: u64) -> Result<Opened, NotOpened> {
        let kind = usize::from(dispatch.form == Form::Going);
        let message = OlmMessage::from_parts(kind, &dispatch.message).map_err(|_| NotOpened)?;
        let wanted = match &message {
            OlmMessage::PreKey(message) => Some(message.session_id()),
            OlmMessage::Normal(_) => None,
        };
        for row in self.0.iter_mut().filter(|row| wanted.as_ref().is_none_or(|id| *id == row.id)) {
            let mut session = row.session().ok_or(NotOpened)?;
            if let Ok(text) = session.decrypt(&message) {
                (row.pickle, row.heard) = (pickled(&session), at);
                return Ok(Opened { text: Zeroizing::new(text), identity: row.identity, is_new: false });
            }
        }
        let OlmMessage::PreKey(beginning) = message else { return Err(NotOpened) };
        if self.0.iter().any(|row| Some(&row.id) == wanted.as_ref()) {
            return Err(NotOpened); // it is of a session that is there, and has come before
        }
        let mut account = account_of(account).ok_or(NotOpened)?; // fallback keys stay: it is not changed
        let key = beginning.identity_key();
        let made = account.create_inbound_session(SessionConfig::version_2(), key, &beginning);
        let made = made.map_err(|_| NotOpened)?;
        self.put(&made.session, key.to_bytes(), (at, at));
        Ok(Opened { text: Zeroizing::new(made.plaintext), identity: key.to_bytes(), is_new: true })
    }

    fn put(&mut self, session: &Session, identity: [u8; 32], (heard, begun): (u64, u64)) {
        let row = SessionRow { id: session.session_id(), pickle: pickled(session), identity, heard, begun };
        self.0.push(row);
        if self.0.len() > SESSIONS {
            let oldest = (0..self.0.len() - 1).min_by_key(|at| (self.0[*at].heard, self.0[*at].begun));
            oldest.map(|at| self.0.remove(at));
        }
    }
}

impl SessionRow {
    fn session(&self) -> Option<Session> {
        let pickle: SessionPickle = serde_json::from_slice(&self.pickle.0).ok()?;
        Some(Session::from_pickle(pickle))
    }
}

fn pickled(session: &Session) -> Hidden {
    Hidden(Zeroizing::new(serde_json::to_vec(&session.pickle()).expect("a session has its form")))
}

/// A new account, with a fallback key: pickled, its identity key, and that key.
pub(crate) fn new_account() -> (Hidden, [u8; 32]) {
    rotated(Account::new())
}

/// The account with a new fallback key, and that key. It keeps the one before.
pub(crate) fn next_fallback(account: &Hidden) -> Option<(Hidden, [u8; 32])> {
    account_of(account).map(rotated)
}

/// Its Olm identity key.
pub(crate) fn identity(account: &Hidden) -> Option<[u8; 32]> {
    Some(account_of(account)?.curve25519_key().to_bytes())
}

fn rotated(mut account: Account) -> (Hidden, [u8; 32]) {
    account.generate_fallback_key();
    let key = account.fallback_key().into_values().next().expect("it was made just now");
    account.mark_keys_as_published();
    let pickle = serde_json::to_vec(&account.pickle()).expect("an account has its form");
    (Hidden(Zeroizing::new(pickle)), key.to_bytes())
}

fn account_of(pickle: &Hidden) -> Option<Account> {
    let pickle: AccountPickle = serde_json::from_slice(&pickle.0).ok()?;
    Some(Account::from_pickle(pickle))
}
