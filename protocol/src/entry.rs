//! Relay entry: what a node needs to know of a relay to dial it and to draw it for a path.
//!
//! Specification: docs/protocol.md, "Relay entries". Entries come from a network file, or as URIs (`uri.rs`) from a
//! person; whether an address may be dialled at all is for [`crate::params::NetworkParams::allows_relay_at`].

use std::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    identity::{OnionKey, RelayId},
    ip::{self, IpNet},
    policy::ExitPolicy,
};

/// A relay as others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayEntry {
    /// Its name.
    pub id: RelayId,
    /// Its key for circuit handshakes.
    pub onion_key: OnionKey,
    /// Where it listens.
    #[serde(rename = "address")]
    pub addresses: RelayAddresses,
    /// How likely it is drawn.
    #[serde(default, skip_serializing_if = "Weight::is_default")]
    pub weight: Weight,
    /// What it connects to; empty when it is no exit.
    #[serde(default, skip_serializing_if = "ExitPolicy::is_empty")]
    pub exit: ExitPolicy,
}

/// A relay's capacity class, and the weight with which it is drawn. 1 or 2 as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Weight {
    /// Drawn like most.
    #[default]
    One = 1,
    /// Drawn twice as often.
    Two = 2,
}

/// At most one IPv4 and one IPv6 address, and at least one of them; no port is 0.
///
/// As text, with a comma between: `192.0.2.7:9001,[2001:db8::7]:9001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RelayAddresses {
    v4: Option<SocketAddrV4>,
    v6: Option<SocketAddrV6>,
}

/// Why something is not a relay's addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an address with a port.
    #[error("{0:?} is not an address with a port, like 192.0.2.7:9001 or [2001:db8::7]:9001")]
    Form(String),
    /// Port 0, an IPv4 address in IPv6 form, or an IPv6 scope.
    #[error("{0} cannot be dialled: it has port 0, a scope, or is an IPv4 address in IPv6 form")]
    Unusable(SocketAddr),
    /// Two of one family.
    #[error("a relay has at most one IPv4 and one IPv6 address")]
    Twice,
    /// None at all.
    #[error("a relay has at least one address")]
    None,
}

/// The number is not a relay's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a relay's weight is 1 or 2")]
pub struct BadWeight;

impl RelayAddresses {
    /// These addresses, in any order.
    ///
    /// # Errors
    /// [`AddressError`] for none, for two of one family, and for one that nobody could dial.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Result<Self, AddressError> {
        let mut all = Self { v4: None, v6: None };
        for address in addresses {
            let before = match usable(address)? {
                SocketAddr::V4(v4) => all.v4.replace(v4).is_some(),
                SocketAddr::V6(v6) => all.v6.replace(v6).is_some(),
            };
            if before {
                return Err(AddressError::Twice);
            }
        }
        if all.iter().next().is_some() { Ok(all) } else { Err(AddressError::None) }
    }

    /// The addresses, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        self.v4.map(SocketAddr::V4).into_iter().chain(self.v6.map(SocketAddr::V6))
    }

    /// The IPv4 address.
    pub fn v4(&self) -> Option<SocketAddrV4> {
        self.v4
    }

    /// The IPv6 address.
    pub fn v6(&self) -> Option<SocketAddrV6> {
        self.v6
    }

    /// The netgroups of the IPv4 and of the IPv6 address.
    pub fn netgroups(&self) -> [Option<IpNet>; 2] {
        let group = |address: IpAddr| ip::netgroup(address);
        [self.v4.map(|v4| group((*v4.ip()).into())), self.v6.map(|v6| group((*v6.ip()).into()))]
    }
}

fn usable(address: SocketAddr) -> Result<SocketAddr, AddressError> {
    let scoped = matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0 || v6.flowinfo() != 0);
    let embedded = ip::canonical(address.ip()) != address.ip();
    if scoped || embedded || address.port() == 0 { Err(AddressError::Unusable(address)) } else { Ok(address) }
}

impl Weight {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<u8> for Weight {
    type Error = BadWeight;

    fn try_from(weight: u8) -> Result<Self, BadWeight> {
        match weight {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            _ => Err(BadWeight),
        }
    }
}

impl FromStr for Weight {
    type Err = BadWeight;

    fn from_str(text: &str) -> Result<Self, BadWeight> {
        match text {
            "1" => Ok(Self::One),
            "2" => Ok(Self::Two),
            _ => Err(BadWeight),
        }
    }
}

impl From<Weight> for u8 {
    fn from(weight: Weight) -> Self {
        weight as u8
    }
}

impl fmt::Display for RelayAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().enumerate().try_for_each(|(at, address)| write!(f, "{}{address}", if at == 0 { "" } else { "," }))
    }
}

impl FromStr for RelayAddresses {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parse = |text: &str| text.parse().map_err(|_| AddressError::Form(text.to_owned()));
        Self::new(text.split(',').map(parse).collect::<Result<Vec<_>, _>>()?)
    }
}

impl Serialize for RelayAddresses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RelayAddresses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> RelayAddresses {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_survive_their_text_form_in_one_order() {
        let both = addresses("[2001:db8::7]:9001,192.0.2.7:9000");
        assert_eq!(both.to_string(), "192.0.2.7:9000,[2001:db8::7]:9001");
        assert_eq!(addresses(&both.to_string()), both);
        assert_eq!(addresses("127.3.0.1:1").iter().collect::<Vec<_>>(), ["127.3.0.1:1".parse().unwrap()]);
    }

    #[test]
    fn addresses_that_nobody_could_dial_are_refused() {
        for text in ["192.0.2.7:0", "[::ffff:192.0.2.7]:1", "[fe80::1%3]:1", "[64:ff9b::808:808]:1"] {
            assert!(matches!(text.parse::<RelayAddresses>(), Err(AddressError::Unusable(_))), "{text}");
        }
        for text in
            ["", "192.0.2.7", "192.0.2.7:1,", "example.org:1", "2001:db8::7:1", " 192.0.2.7:1", "192.0.2.7:65536"]
        {
            assert!(matches!(text.parse::<RelayAddresses>(), Err(AddressError::Form(_))), "{text}");
        }
        assert_eq!("192.0.2.7:1,192.0.2.8:1".parse::<RelayAddresses>(), Err(AddressError::Twice));
        assert_eq!(RelayAddresses::new([]), Err(AddressError::None));
    }

    #[test]
    fn a_netgroup_is_known_for_each_family() {
        let groups = addresses("127.3.0.1:1,[2001:db8::7]:1").netgroups().map(|group| group.unwrap().to_string());
        assert_eq!(groups, ["127.3.0.0/16", "[2001:db8::]/32"]);
        assert_eq!(addresses("127.3.0.1:1").netgroups()[1], None);
    }

    #[test]
    fn a_weight_is_one_or_two() {
        assert_eq!([1, 2].map(Weight::try_from), [Ok(Weight::One), Ok(Weight::Two)]);
        assert_eq!([0, 3].map(Weight::try_from), [Err(BadWeight); 2]);
        assert_eq!(u8::from(Weight::Two), 2);
    }
}
