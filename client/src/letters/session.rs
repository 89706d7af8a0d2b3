//! Sessions: Olm's double ratchets with one contact.
//!
//! Specification: docs/protocol.md, "Letters". By `vodozemac`, with MACs that are not cut. A session that has changed must
//! be on disk before what it made goes out. Olm keeps the keys of 40 letters that have not come: before one comes that is
//! further ahead, the session as it was is kept for a day, so that whoever brings the last letter first makes none of those
//! before it unreadable. This file never looks into letters.

use serde::{Deserialize, Serialize};
use trefoil_protocol::{
    letter::{Dispatch, Form},
    limits::{OLM_AHEAD, OLM_CHAINS, OLM_KEYS, SESSION_PAST, SESSION_PASTS, SESSIONS},
};
use vodozemac::{
    Curve25519PublicKey,
    olm::{Account, AccountPickle, Message, OlmMessage, Session, SessionConfig, SessionPickle},
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
    /// What has come, by the keys of their ratchet, the newest last: Olm knows as many.
    chains: Vec<Chain>,
    /// The session as it was before Olm forgot keys, the newest last.
    pasts: Vec<Past>,
}

/// What has come with one key of their ratchet.
#[derive(Serialize, Deserialize)]
struct Chain {
    key: [u8; 32],
    /// The number after the highest that has come.
    next: u64,
    /// Of those before it that have not come, how many Olm has keys of.
    missing: u64,
}

#[derive(Serialize, Deserialize)]
struct Past {
    pickle: Hidden,
    /// When it is forgotten.
    until: u64,
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
    /// Seals to the device with this identity key; `None` where another session with it has to be begun.
    pub(crate) fn seal(&mut self, identity: &[u8; 32], text: &[u8]) -> Option<(Form, Vec<u8>)> {
        let mut of_device: Vec<_> = self.0.iter_mut().filter(|row| row.identity == *identity).collect();
        of_device.sort_by_key(|row| (row.heard, row.begun));
        of_device.into_iter().rev().find_map(|row| row.seal(text))
    }

    /// Begins one with a device, by its prekeys.
    pub(crate) fn begin(&mut self, account: &Hidden, identity: [u8; 32], fallback: [u8; 32], now: u64) -> Option<()> {
        let keys = [identity, fallback].map(Curve25519PublicKey::from_bytes);
        let session =
            account_of(account)?.create_outbound_session(SessionConfig::version_2(), keys[0], keys[1]).ok()?;
        self.put(&session, identity, (0, now));
        Some(())
    }

    /// Opens a message. `at` counts up with everything that comes, `now` are seconds.
    pub(crate) fn open(
        &mut self,
        account: &Hidden,
        dispatch: &Dispatch,
        (at, now): (u64, u64),
    ) -> Result<Opened, NotOpened> {
        self.forget(now);
        let kind = usize::from(dispatch.form == Form::Going);
        let message = OlmMessage::from_parts(kind, &dispatch.message).map_err(|_| NotOpened)?;
        let wanted = match &message {
            OlmMessage::PreKey(message) => Some(message.session_id()),
            OlmMessage::Normal(_) => None,
        };
        for row in self.0.iter_mut().filter(|row| wanted.as_ref().is_none_or(|id| *id == row.id)) {
            if let Some(text) = row.open(&message, at, now) {
                return Ok(Opened { text: Zeroizing::new(text), identity: row.identity, is_new: false });
            }
        }
        let OlmMessage::PreKey(beginning) = message else { return Err(NotOpened) };
        let mut account = account_of(account).ok_or(NotOpened)?; // fallback keys stay: it is not changed
        let key = beginning.identity_key();
        let made = account.create_inbound_session(SessionConfig::version_2(), key, &beginning);
        let made = made.map_err(|_| NotOpened)?;
        // One that is there has no key of it any more: it is too far back, or has come before, and its place will tell.
        let is_new = self.0.iter().all(|row| Some(&row.id) != wanted.as_ref());
        if is_new {
            self.put(&made.session, key.to_bytes(), (at, at));
            self.0.last_mut().map(|row| row.note(beginning.message()));
        }
        Ok(Opened { text: Zeroizing::new(made.plaintext), identity: key.to_bytes(), is_new })
    }

    /// Forgets sessions as they were, when it is time; whether there were any.
    pub(crate) fn forget(&mut self, now: u64) -> bool {
        let pasts = |rows: &[SessionRow]| rows.iter().map(|row| row.pasts.len()).sum::<usize>();
        let before = pasts(&self.0);
        self.0.iter_mut().for_each(|row| row.pasts.retain(|past| now < past.until));
        pasts(&self.0) < before
    }

    fn put(&mut self, session: &Session, identity: [u8; 32], (heard, begun): (u64, u64)) {
        let (id, pickle, chains, pasts) = (session.session_id(), pickled(session), vec![], vec![]);
        self.0.push(SessionRow { id, pickle, identity, heard, begun, chains, pasts });
        if self.0.len() > SESSIONS {
            let oldest = (0..self.0.len() - 1).min_by_key(|at| (self.0[*at].heard, self.0[*at].begun));
            oldest.map(|at| self.0.remove(at));
        }
    }
}

impl SessionRow {
    /// `None` where so many letters have had no answer that their reader, who may lack the first, could not count so far.
    fn seal(&mut self, text: &[u8]) -> Option<(Form, Vec<u8>)> {
        let mut session = session_of(&self.pickle)?;
        let message = session.encrypt(text).ok()?;
        let (form, inner, bytes) = match &message {
            OlmMessage::PreKey(message) => (Form::Beginning, message.message(), message.to_bytes()),
            OlmMessage::Normal(message) => (Form::Going, message, message.to_bytes()),
        };
        if inner.chain_index() >= OLM_AHEAD {
            return None;
        }
        self.pickle = pickled(&session);
        Some((form, bytes))
    }

    fn open(&mut self, message: &OlmMessage, at: u64, now: u64) -> Option<Vec<u8>> {
        let mut session = session_of(&self.pickle)?;
        let Ok(text) = session.decrypt(message) else {
            return self.pasts.iter().rev().find_map(|past| past.open(message));
        };
        let before = std::mem::replace(&mut self.pickle, pickled(&session));
        self.heard = at;
        let (inner, is_going) = match message {
            OlmMessage::PreKey(message) => (message.message(), false), // the account's key opens all of these
            OlmMessage::Normal(message) => (message, true),
        };
        if self.note(inner) && is_going {
            self.remember(before, message, now + SESSION_PAST);
        }
        Some(text)
    }

    /// Counts a message that was opened. Whether Olm forgot a key of one that has not come.
    fn note(&mut self, message: &Message) -> bool {
        let (key, index) = (message.ratchet_key().to_bytes(), message.chain_index());
        let mut has_gone = false;
        if self.chains.iter().all(|chain| chain.key != key) {
            self.chains.push(Chain { key, next: 0, missing: 0 });
            let extra = self.chains.len().saturating_sub(OLM_CHAINS);
            has_gone = self.chains.drain(..extra).any(|chain| chain.missing > 0);
        }
        let Some(chain) = self.chains.iter_mut().find(|chain| chain.key == key) else { return false };
        if index < chain.next {
            chain.missing = chain.missing.saturating_sub(1);
            return false;
        }
        let missing = chain.missing + (index - chain.next);
        (chain.next, chain.missing) = (index.saturating_add(1), missing.min(OLM_KEYS));
        has_gone || missing > OLM_KEYS
    }

    /// Keeps the session as it was; one from before that opens this message, too, does as well.
    fn remember(&mut self, before: Hidden, message: &OlmMessage, until: u64) {
        if let Some(past) = self.pasts.iter_mut().find(|past| past.open(message).is_some()) {
            past.until = until;
            return;
        }
        if self.pasts.len() >= SESSION_PASTS {
            self.pasts.remove(0);
        }
        self.pasts.push(Past { pickle: before, until });
    }
}

impl Past {
    /// It stays as it is: whether a letter came before is for the conversation to tell.
    fn open(&self, message: &OlmMessage) -> Option<Vec<u8>> {
        session_of(&self.pickle)?.decrypt(message).ok()
    }
}

fn session_of(pickle: &Hidden) -> Option<Session> {
    let pickle: SessionPickle = serde_json::from_slice(&pickle.0).ok()?;
    Some(Session::from_pickle(pickle))
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

#[cfg(test)]
mod tests {
    use trefoil_protocol::address::{Address, AddressSecret};

    use super::*;

    /// Somebody who writes, and somebody who reads.
    struct Pair {
        accounts: [Hidden; 2],
        sessions: [Sessions; 2],
        fallback: [u8; 32],
        at: u64,
    }

    impl Pair {
        fn new() -> Self {
            let [(writer, _), (reader, fallback)] = [new_account(), new_account()];
            let mut pair = Self { accounts: [writer, reader], sessions: Default::default(), fallback, at: 0 };
            pair.begin();
            pair
        }

        fn begin(&mut self) {
            let identity = identity(&self.accounts[1]).unwrap();
            self.at += 1;
            self.sessions[0].begin(&self.accounts[0], identity, self.fallback, self.at).unwrap();
        }

        fn seal(&mut self, by: usize, text: u32) -> Option<Dispatch> {
            let identity = identity(&self.accounts[1 - by]).unwrap();
            let (form, message) = self.sessions[by].seal(&identity, &text.to_le_bytes())?;
            Some(Dispatch { writer: address(), form, message })
        }

        fn opens(&mut self, by: usize, dispatch: &Dispatch, text: u32, now: u64) -> bool {
            self.at += 1;
            let opened = self.sessions[by].open(&self.accounts[by], dispatch, (self.at, now));
            opened.is_ok_and(|opened| *opened.text == text.to_le_bytes())
        }

        /// Both have heard of each other.
        fn meet(&mut self) {
            for by in [0, 1, 0] {
                let dispatch = self.seal(by, 0).unwrap();
                assert!(self.opens(1 - by, &dispatch, 0, 0));
            }
        }

        fn write(&mut self, count: u32) -> Vec<(u32, Dispatch)> {
            (1..=count).map(|text| (text, self.seal(0, text).unwrap())).collect()
        }

        fn pasts(&self) -> usize {
            self.sessions[1].0.iter().map(|row| row.pasts.len()).sum()
        }
    }

    fn address() -> Address {
        AddressSecret::from_bytes(&Zeroizing::new([1; 32])).address()
    }

    #[test]
    fn letters_open_in_whatever_order_they_come() {
        for has_met in [false, true] {
            for step in [1, 7, 41, 89, 199] {
                let mut pair = Pair::new();
                if has_met {
                    pair.meet();
                }
                let letters = pair.write(200);
                for at in 1..=200 {
                    let (text, dispatch) = &letters[(200 - at) * step % 200];
                    assert!(pair.opens(1, dispatch, *text, 0), "{text} after {at}, {step} apart; met: {has_met}");
                }
                let (answer, next) = (pair.seal(1, 7).unwrap(), pair.seal(0, 8).unwrap());
                assert!(pair.opens(0, &answer, 7, 0) && pair.opens(1, &next, 8, 0));
            }
        }
    }

    #[test]
    fn a_session_as_it_was_is_kept_for_a_day_and_only_where_keys_were_forgotten() {
        let mut pair = Pair::new();
        pair.meet();
        let letters = pair.write(120);
        let [first, near, last] = [&letters[0], &letters[40], &letters[119]];
        assert!(pair.opens(1, &near.1, near.0, 0) && pair.pasts() == 0, "forty were skipped, and are remembered");
        assert!(pair.opens(1, &last.1, last.0, 0) && pair.pasts() == 1);
        assert!(pair.opens(1, &first.1, first.0, SESSION_PAST - 1));
        assert!(!pair.opens(1, &letters[50].1, letters[50].0, SESSION_PAST) && pair.pasts() == 0);
        assert!(pair.opens(1, &letters[118].1, letters[118].0, SESSION_PAST));
    }

    #[test]
    fn whoever_has_no_answer_for_long_begins_another_session_and_all_letters_open() {
        let mut pair = Pair::new();
        pair.meet();
        let mut letters = vec![];
        for text in 1..=2 * u32::try_from(OLM_AHEAD).unwrap() + 10 {
            let dispatch = match pair.seal(0, text) {
                Some(dispatch) => dispatch,
                None => {
                    pair.begin();
                    pair.seal(0, text).unwrap()
                }
            };
            letters.push((text, dispatch));
        }
        for (text, dispatch) in letters.iter().rev().step_by(97) {
            assert!(pair.opens(1, dispatch, *text, 0), "{text}");
        }
    }
}
