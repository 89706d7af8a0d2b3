//! Hosts as programs name them, and DNS names in their one form.
//!
//! Specification: docs/protocol.md, "Messages". Nothing is resolved here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    limits::MAX_HOST,
    wire::{Reader, Writer},
};

/// A host as a program named it. Names are resolved at the exit, never locally.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name: see [`HostName`].
    Name(HostName),
    /// An address.
    Address(IpAddr),
}

/// A DNS name of 1 to 253 bytes: letters, digits, `-`, `_` and dots between labels of 1 to 63 bytes; lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostName(String);

impl Host {
    /// Reads a host as people write it: an IPv4 or IPv6 address (brackets allowed), or a DNS name.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        match bare.parse() {
            Ok(address) => Some(Self::Address(address)),
            Err(_) => HostName::parse(text).map(Self::Name),
        }
    }

    pub(crate) fn encode(&self, out: &mut Writer<'_>) {
        match self {
            Self::Name(HostName(name)) => {
                let length = u8::try_from(name.len()).expect("a host name has at most 253 bytes");
                out.put(&[1, length]).put(name.as_bytes());
            }
            Self::Address(IpAddr::V4(address)) => {
                out.put(&[4]).put(&address.octets());
            }
            Self::Address(IpAddr::V6(address)) => {
                out.put(&[6]).put(&address.octets());
            }
        }
    }

    pub(crate) fn decode(body: &mut Reader<'_>) -> Option<Self> {
        Some(match body.byte()? {
            1 => {
                let length = usize::from(body.byte()?);
                let name = str::from_utf8(body.take(length)?).ok()?;
                let parsed = HostName::parse(name)?;
                Self::Name((parsed.0 == name).then_some(parsed)?)
            }
            4 => Self::Address(Ipv4Addr::from(body.array::<4>()?).into()),
            6 => Self::Address(Ipv6Addr::from(body.array::<16>()?).into()),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.as_str()),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl HostName {
    /// Reads a DNS name and makes it lower case; a final dot is dropped. `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        (name.len() <= MAX_HOST && name.split('.').all(label) && !numeric).then(|| Self(name.to_ascii_lowercase()))
    }

    /// The name, without a final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_have_one_form() {
        for (text, name) in
            [("a", "a"), ("A.b-c._d.E.", "a.b-c._d.e"), ("xn--bcher-kva.example", "xn--bcher-kva.example")]
        {
            assert_eq!(HostName::parse(text).map(|name| name.0), Some(name.to_string()));
        }
        let long = "a".repeat(64);
        let longer = ["a"; 128].join(".");
        for text in ["", ".", "a..b", "-\u{e9}", "a b", "a\0", "1.2.3", "999.1.1.1", &long, &longer] {
            assert_eq!(HostName::parse(text), None, "{text}");
        }
    }
}
