//! What must hold for any bytes at all, one function for each kind of bytes that strangers send or people type.
//!
//! The same functions run in two places: under a fuzzer (`tests/fuzz`), and over the saved inputs of
//! `tests/fuzz/corpus` as an ordinary test. A function panics if a rule does not hold; it never reads anything else.

mod directory;
mod letters;
mod machines;
mod mailbox;
mod people;
mod restore;
mod store;

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use trefoil_protocol::{
    beacon::Beacon,
    cell::{self, Create, Created},
    descriptor::Record,
    fraud::FraudProof,
    identity::{OnionKey, RelayId, RelaySecret},
    invite::Invite,
    limits::{CELL, MESSAGE},
    look::{ANSWER, AnswerTag, Look, QUESTION},
    message::{Message, StreamId},
    params::{NetworkId, NetworkParams},
    policy::ExitPolicy,
    resolve,
    sighting::Sighting,
    uri::RelayUri,
};
use trefoil_relay::{config::Settings, network::NetworkFile};

pub use self::{
    directory::{directory_answer, directory_request, reconcile, saved_view},
    letters::{conversation, dispatch, envelope, heard, letter, prekeys},
    machines::{http, onion_hop, rules, socks, streams},
    mailbox::{mailbox_answer, mailbox_request},
    people::{address, control_call, control_line, invite_link, phrase, sheet},
    restore::restored,
    store::mailbox,
};

/// Whether the code under test took the bytes for what they claim to be. Either is right; a corpus should have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They were read, and every rule held.
    Accepted,
    /// They were refused with an error.
    Refused,
}

/// A fuzz target's function.
pub type Target = fn(&[u8]) -> Verdict;

/// Every target under the name of its corpus and of its binary in `tests/fuzz`.
pub const TARGETS: [(&str, Target); 42] = [
    ("address", address),
    ("beacon", beacon),
    ("control_call", control_call),
    ("control_line", control_line),
    ("conversation", conversation),
    ("create", create),
    ("created", created),
    ("directory_answer", directory_answer),
    ("directory_request", directory_request),
    ("dispatch", dispatch),
    ("envelope", envelope),
    ("exit_policy", exit_policy),
    ("fraud_proof", fraud_proof),
    ("heard", heard),
    ("http", http),
    ("invite", invite),
    ("invite_link", invite_link),
    ("letter", letter),
    ("look", look),
    ("mailbox", mailbox),
    ("mailbox_answer", mailbox_answer),
    ("mailbox_request", mailbox_request),
    ("message", message),
    ("network_file", network_file),
    ("onion_hop", onion_hop),
    ("onion_key", onion_key),
    ("phrase", phrase),
    ("prekeys", prekeys),
    ("reconcile", reconcile),
    ("record", record),
    ("relay_config", relay_config),
    ("relay_id", relay_id),
    ("relay_uri", relay_uri),
    ("resolved", resolved),
    ("restored", restored),
    ("rules", rules),
    ("saved_view", saved_view),
    ("sheet", sheet),
    ("sighting", sighting),
    ("socks", socks),
    ("streams", streams),
    ("target", target),
];

/// A beacon that is read is written as the same bytes; to another network it is none.
pub fn beacon(data: &[u8]) -> Verdict {
    let network = NetworkId::from_bytes([7; 32]);
    let Some(beacon) = Beacon::decode(data, &network) else { return Verdict::Refused };
    assert_eq!(beacon.encode(&network), *data);
    assert_eq!(Beacon::decode(data, &NetworkParams::main().id()), None);
    Verdict::Accepted
}

/// A packet that asks whether a relay is there asks no other relay and in no other network. The answer is shorter, and only
/// the relay can have given it: bytes behind the question change it.
pub fn look(data: &[u8]) -> Verdict {
    let (network, secret) = (NetworkParams::main().id(), RelaySecret::from_bytes(&[7; 32].into()));
    let (question, change) = data.split_at_checked(QUESTION).unwrap_or((data, &[]));
    let Some(look) = Look::asked(question, &network, &secret.id()) else { return Verdict::Refused };
    let other = RelaySecret::from_bytes(&[8; 32].into());
    assert_eq!(Look::asked(question, &network, &other.id()), None);
    assert_eq!(Look::asked(question, &testnet().id(), &secret.id()), None);
    let mut answer = look.answer(&secret);
    assert!(answer.len() < question.len() && look.is_answered_by(&answer));
    assert!(!look.is_answered_by(&look.answer(&other)));
    answer.iter_mut().zip(change).for_each(|(byte, change)| *byte ^= change);
    let is_changed = change.iter().take(ANSWER).any(|byte| *byte != 0);
    assert_eq!(look.is_answered_by(&answer), !is_changed);
    assert!(is_changed || AnswerTag::of(&answer) == look.answer_tag());
    Verdict::Accepted
}

/// The fields of a `Create` cell make the same cell again, and are read alike inside an `Extend`.
pub fn create(data: &[u8]) -> Verdict {
    let cell = padded(data);
    let Ok(create) = Create::from_cell(&cell) else { return Verdict::Refused };
    assert_eq!(cell::create_cell(create.bytes), cell);
    let extend = Create::decode(create.bytes).expect("the same fields without their cell");
    assert_eq!((extend.x, extend.ek, extend.solution), (create.x, create.ek, create.solution));
    Verdict::Accepted
}

/// The fields of a `Created` cell that agrees make the same cell again; one that refuses says so again.
pub fn created(data: &[u8]) -> Verdict {
    let cell = padded(data);
    match cell::read_created(&cell) {
        Ok(Ok(fields)) => {
            assert_eq!(cell::created_cell(fields), cell);
            Created::decode(fields).map_or(Verdict::Refused, |_| Verdict::Accepted)
        }
        Ok(Err(refusal)) => {
            assert_eq!(cell::read_created(&cell::refusal_cell(refusal)), Ok(Err(refusal)));
            Verdict::Accepted
        }
        Err(_) => Verdict::Refused,
    }
}

/// A message that decodes is written again as the same bytes: there is one way to say a thing.
pub fn message(data: &[u8]) -> Verdict {
    let Ok(message) = Message::decode(data) else { return Verdict::Refused };
    let mut again = vec![0xff; data.len()];
    message.encode(&mut again);
    assert_eq!(again, data, "{message:?}");
    Verdict::Accepted
}

/// What a record says is written again as the same bytes, but for the signature; it can be checked and used.
pub fn record(data: &[u8]) -> Verdict {
    let Ok(record) = Record::decode(data) else { return Verdict::Refused };
    let mut network = [0; 32];
    network[..8].copy_from_slice(&data[1..9]);
    let secret = RelaySecret::from_bytes(&[1; 32].into());
    let again = record.descriptor().sign(&NetworkId::from_bytes(network), &secret);
    let signed = data.len() - 64;
    assert_eq!((record.bytes(), &again.bytes()[..signed]), (data, &data[..signed]));
    let entry = record.entry();
    assert_eq!((entry.id, entry.exit.is_exit()), (record.relay(), record.descriptor().exit.is_some()));
    let params = testnet();
    let _ = record.clone().check(&params, record.issued().start(&params.directory)); // most are not even signed
    Verdict::Accepted
}

/// A fraud proof is written again as the same bytes, and can be checked.
pub fn fraud_proof(data: &[u8]) -> Verdict {
    let Ok(proof) = FraudProof::decode(data) else { return Verdict::Refused };
    assert_eq!(proof.encode(), data);
    let params = testnet();
    let _ = proof.check(&params, proof.issued().start(&params.directory)); // most are not even signed
    Verdict::Accepted
}

/// A sighting is written again as the same bytes, and can be checked.
pub fn sighting(data: &[u8]) -> Verdict {
    let Ok(sighting) = Sighting::decode(data) else { return Verdict::Refused };
    assert_eq!(sighting.encode(), data);
    let _ = sighting.check(&testnet().id()); // most are not even signed
    Verdict::Accepted
}

fn testnet() -> NetworkParams {
    NetworkParams::testnet("test".parse().expect("a good name"))
}

/// Addresses that decode are written again as the same bytes.
pub fn resolved(data: &[u8]) -> Verdict {
    let Ok(addresses) = resolve::decode(data) else { return Verdict::Refused };
    assert_eq!(resolve::encode(&addresses), data);
    Verdict::Accepted
}

/// A relay id survives its text form, and that form is the text but for the case of its letters.
pub fn relay_id(data: &[u8]) -> Verdict {
    let Some((text, again)) = text_again::<RelayId>(data) else { return Verdict::Refused };
    assert_eq!(again, text.to_ascii_lowercase());
    Verdict::Accepted
}

/// An onion key survives its text form, and that form is the text but for the case of its letters.
pub fn onion_key(data: &[u8]) -> Verdict {
    let Some((text, again)) = text_again::<OnionKey>(data) else { return Verdict::Refused };
    assert_eq!(again, text.to_ascii_lowercase());
    Verdict::Accepted
}

/// A relay URI survives its text form.
pub fn relay_uri(data: &[u8]) -> Verdict {
    text_again::<RelayUri>(data).map_or(Verdict::Refused, |_| Verdict::Accepted)
}

/// An invite survives its text form, whatever comments it had; whom it is for can be checked.
pub fn invite(data: &[u8]) -> Verdict {
    let Some(invite) = str::from_utf8(data).ok().and_then(|text| text.parse::<Invite>().ok()) else {
        return Verdict::Refused;
    };
    let text = invite.to_string();
    let again: Invite = text.parse().expect("what is written can be read");
    assert_eq!(again.to_string(), text);
    assert!(again.relays().eq(invite.relays()) && again.network() == invite.network());
    assert_eq!(invite.check(&testnet()).is_ok(), again.check(&testnet()).is_ok());
    Verdict::Accepted
}

/// An exit policy survives its text form.
pub fn exit_policy(data: &[u8]) -> Verdict {
    text_again::<ExitPolicy>(data).map_or(Verdict::Refused, |_| Verdict::Accepted)
}

/// What stands in a network file survives being written.
pub fn network_file(data: &[u8]) -> Verdict {
    let Some(file) = str::from_utf8(data).ok().and_then(|text| toml::from_str::<NetworkFile>(text).ok()) else {
        return Verdict::Refused;
    };
    assert_eq!(toml::from_str(&file.to_toml()).ok(), Some(file.clone()));
    file.check().map_or(Verdict::Refused, |()| Verdict::Accepted)
}

/// A relay's configuration is read or refused, and never more than that.
pub fn relay_config(data: &[u8]) -> Verdict {
    let settings = str::from_utf8(data).ok().and_then(|text| toml::from_str::<Settings>(text).ok());
    settings.map_or(Verdict::Refused, |_| Verdict::Accepted)
}

/// `HOST:PORT` that is read can be asked of an exit: the message survives.
pub fn target(data: &[u8]) -> Verdict {
    let Some(target) = str::from_utf8(data).ok().and_then(|text| trefoil_client::target::parse(text).ok()) else {
        return Verdict::Refused;
    };
    let (message, mut space) = (Message::Open { stream: StreamId(1), target }, [0; MESSAGE]);
    message.encode(&mut space);
    assert_eq!(Message::decode(&space), Ok(message));
    Verdict::Accepted
}

/// A text that can be read, and what is written for it; that is read as the same value.
fn text_again<T: FromStr + Display + Debug + PartialEq>(data: &[u8]) -> Option<(&str, String)> {
    let text = str::from_utf8(data).ok()?;
    let value = text.parse::<T>().ok()?;
    let again = value.to_string();
    assert_eq!(again.parse().ok(), Some(value), "{again}");
    Some((text, again))
}

/// The start of a cell, and zeros; what is too long for a cell is cut.
fn padded(data: &[u8]) -> [u8; CELL] {
    std::array::from_fn(|at| data.get(at).copied().unwrap_or(0))
}
