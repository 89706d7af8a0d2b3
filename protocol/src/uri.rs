//! Relay URIs: a relay entry as one line that people can pass on.
//!
//! Specification: docs/protocol.md, "Relay URIs":
//! `trefoil-relay:<relay id>@<ip:port>[,<[v6]:port>]?onion=<onion key>[&weight=2]`. Nothing else is read, and
//! nothing is guessed. A URI never carries an exit policy.

use std::{fmt, str::FromStr};

use crate::{
    entry::{AddressError, BadWeight, RelayAddresses, RelayEntry, Weight},
    identity::{KeyTextError, OnionKey, RelayId},
    policy::ExitPolicy,
};

/// A relay's URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayUri {
    /// The relay's name.
    pub id: RelayId,
    /// Where it listens.
    pub addresses: RelayAddresses,
    /// Its key for circuit handshakes.
    pub onion_key: OnionKey,
    /// Its weight; 1 when the URI does not say.
    pub weight: Weight,
}

/// Why a text is not a relay's URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// It does not have the form at all.
    #[error("expected trefoil-relay:RELAY-ID@IP:PORT?onion=KEY")]
    Form,
    /// The relay id is not one.
    #[error("relay id: {0}")]
    Id(KeyTextError),
    /// The addresses are not.
    #[error("address: {0}")]
    Addresses(#[from] AddressError),
    /// The onion key is not one.
    #[error("onion key: {0}")]
    Onion(KeyTextError),
    /// The weight is neither 1 nor 2.
    #[error("weight: {0}")]
    Weight(#[from] BadWeight),
    /// A parameter is unknown, or there twice.
    #[error("{0:?} is unknown here, or given twice; known are onion and weight")]
    Parameter(String),
    /// There is no onion key.
    #[error("the onion key is missing: ?onion=KEY")]
    NoOnion,
}

impl From<RelayUri> for RelayEntry {
    /// The entry of a relay that is taken for no exit.
    fn from(uri: RelayUri) -> Self {
        let RelayUri { id, addresses, onion_key, weight } = uri;
        Self { id, onion_key, addresses, weight, exit: ExitPolicy::default() }
    }
}

impl From<&RelayEntry> for RelayUri {
    fn from(entry: &RelayEntry) -> Self {
        Self { id: entry.id, addresses: entry.addresses, onion_key: entry.onion_key, weight: entry.weight }
    }
}

impl fmt::Display for RelayUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}@{}?onion={}", self.id, self.addresses, self.onion_key)?;
        if self.weight == Weight::One { Ok(()) } else { write!(f, "&weight={}", u8::from(self.weight)) }
    }
}

impl FromStr for RelayUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest = text.strip_prefix(SCHEME).ok_or(UriError::Form)?;
        let (relay, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (id, addresses) = relay.split_once('@').ok_or(UriError::Form)?;
        let (id, addresses) = (id.parse().map_err(UriError::Id)?, addresses.parse()?);
        let (onion_key, weight) = parse_parameters(parameters)?;
        Ok(Self { id, addresses, onion_key: onion_key.ok_or(UriError::NoOnion)?, weight: weight.unwrap_or_default() })
    }
}

fn parse_parameters(text: &str) -> Result<(Option<OnionKey>, Option<Weight>), UriError> {
    let (mut onion_key, mut weight) = (None, None);
    for parameter in text.split('&').filter(|_| !text.is_empty()) {
        match parameter.split_once('=') {
            Some(("onion", key)) if onion_key.is_none() => onion_key = Some(key.parse().map_err(UriError::Onion)?),
            Some(("weight", class)) if weight.is_none() => weight = Some(class.parse()?),
            _ => return Err(UriError::Parameter(parameter.to_owned())),
        }
    }
    Ok((onion_key, weight))
}

const SCHEME: &str = "trefoil-relay:";

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::identity::{OnionSecret, RelaySecret};

    fn uri() -> RelayUri {
        let mut rng = StdRng::seed_from_u64(1);
        RelayUri {
            id: RelaySecret::generate(&mut rng).id(),
            addresses: "192.0.2.7:9001,[2001:db8::7]:9001".parse().unwrap(),
            onion_key: OnionSecret::generate(&mut rng).public(),
            weight: Weight::Two,
        }
    }

    #[test]
    fn a_uri_has_its_documented_form_and_survives_it() {
        let uri = uri();
        let text = uri.to_string();
        let (id, key) = (uri.id, uri.onion_key);
        assert_eq!(text, format!("trefoil-relay:{id}@192.0.2.7:9001,[2001:db8::7]:9001?onion={key}&weight=2"));
        assert_eq!(text.parse(), Ok(uri));
        let plain = RelayUri { weight: Weight::One, ..uri };
        assert_eq!(plain.to_string(), text.replace("&weight=2", ""));
        assert_eq!(plain.to_string().parse(), Ok(plain));
    }

    #[test]
    fn an_entry_and_its_uri_agree() {
        let uri = uri();
        assert_eq!(RelayUri::from(&RelayEntry::from(uri)), uri);
    }

    #[test]
    fn every_truncated_uri_is_refused() {
        let text = RelayUri { weight: Weight::One, ..uri() }.to_string();
        (0..text.len()).for_each(|length| assert!(text[..length].parse::<RelayUri>().is_err(), "{length}"));
    }

    #[test]
    fn a_bad_uri_is_refused_with_what_is_wrong() {
        let text = uri().to_string();
        let id = uri().id.to_string();
        let cases = [
            (text.replace("trefoil-relay", "trefoil"), UriError::Form),
            (text.replace('@', "/"), UriError::Form),
            (text.replace(&id, &id[1..]), UriError::Id(KeyTextError::Form)),
            (text.replace("onion=", "onion=a"), UriError::Onion(KeyTextError::Form)),
            (text.replace("192.0.2.7:", ""), UriError::Addresses(AddressError::Form("9001".to_owned()))),
            (text.replace("weight=2", "weight=3"), UriError::Weight(BadWeight)),
            (text.replace("weight=2", "weight=02"), UriError::Weight(BadWeight)),
            (format!("{text}&weight=2"), UriError::Parameter("weight=2".to_owned())),
            (format!("{text}&"), UriError::Parameter(String::new())),
            (format!("{text}&exit=all"), UriError::Parameter("exit=all".to_owned())),
            (text.replace("?onion", "?x"), UriError::Parameter(format!("x={}", uri().onion_key))),
            (text.split('?').next().unwrap().to_owned(), UriError::NoOnion),
        ];
        for (bad, error) in cases {
            assert_eq!(bad.parse::<RelayUri>(), Err(error), "{bad}");
        }
    }
}
