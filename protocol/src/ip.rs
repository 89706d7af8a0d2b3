//! IP networks: their text form, which addresses are special, and which netgroup an address is in.
//!
//! Specification: docs/protocol.md, "Addresses and exit policies". What an exit connects to and what a relay dials
//! both start from [`is_public`]. This file never resolves names.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::limits::{NETGROUP_V4, NETGROUP_V6};

/// An IPv4 or IPv6 network, or a single address as the network that holds only it.
///
/// As text: `192.0.2.0/24`, `192.0.2.7`, `[2001:db8::]/32`, `[2001:db8::7]`. There are no set bits behind the
/// prefix, and no IPv6 network stands for IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpNet {
    base: IpAddr,
    length: u8,
}

/// Why a text is not an IP network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpNetError {
    /// Neither an IPv4 address nor an IPv6 address in brackets.
    #[error("expected an IPv4 address, or an IPv6 address in brackets, with or without /LENGTH")]
    Address,
    /// The prefix length is not a number, or too large.
    #[error("the prefix length must be a number from 0 to {0}")]
    Length(u8),
    /// There are set bits behind the prefix.
    #[error("the address has bits set behind its prefix; the network is {0}")]
    HostBits(IpNet),
    /// An IPv4-mapped or NAT64 network.
    #[error("write it as the IPv4 network that it stands for")]
    Embedded,
}

impl IpNet {
    /// All of IPv4.
    pub(crate) const ALL_V4: Self = Self::v4(Ipv4Addr::UNSPECIFIED, 0);
    /// All of IPv6.
    pub(crate) const ALL_V6: Self = Self::v6(Ipv6Addr::UNSPECIFIED, 0);

    /// The network of the first `length` bits of `address`; `length` above the family's maximum means that.
    pub fn around(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(address) => Self::v4(address, length),
            IpAddr::V6(address) => Self::v6(address, length),
        }
    }

    /// Whether `address` is in this network. An IPv4-mapped or NAT64 address counts as its IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::around(canonical(address), self.length) == *self
    }

    /// Whether all of `other` lies in this network.
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && Self::around(other.base, self.length) == *self
    }

    const fn v4(address: Ipv4Addr, length: u8) -> Self {
        let length = if length > 32 { 32 } else { length };
        let mask = if length == 0 { 0 } else { u32::MAX << (32 - length) };
        Self { base: IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask)), length }
    }

    const fn v6(address: Ipv6Addr, length: u8) -> Self {
        let length = if length > 128 { 128 } else { length };
        let mask = if length == 0 { 0 } else { u128::MAX << (128 - length) };
        Self { base: IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask)), length }
    }

    const fn max_length(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }
}

/// The netgroup of an address: its /16 (IPv4) or /32 (IPv6).
pub fn netgroup(address: IpAddr) -> IpNet {
    match canonical(address) {
        IpAddr::V4(address) => IpNet::v4(address, NETGROUP_V4),
        IpAddr::V6(address) => IpNet::v6(address, NETGROUP_V6),
    }
}

/// Whether the address is one that the whole Internet can mean by it: in none of the special blocks.
pub fn is_public(address: IpAddr) -> bool {
    special_block(address).is_none()
}

/// Whether the address is a host's own or in a private network: what a network on one machine or in one room uses.
pub fn is_local(address: IpAddr) -> bool {
    LOCAL.iter().any(|block| block.contains(address))
}

/// The special block that the address is in: private, loopback, link-local, multicast, documentation, reserved, ...
///
/// The sources are IANA's special-purpose registries (RFC 6890 and later). Of IPv6, all that is not global unicast
/// (2000::/3) is special, and in it the tunnels 6to4 and Teredo as a whole: what their addresses embed may be
/// anything. An IPv4-mapped (`::ffff:0:0/96`) or NAT64 (`64:ff9b::/96`) address is judged as its IPv4 address.
pub fn special_block(address: IpAddr) -> Option<IpNet> {
    SPECIAL.iter().find(|block| block.contains(address)).copied()
}

/// The address that a connection really goes to: of an IPv4-mapped or NAT64 address the IPv4 address in it.
pub fn canonical(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6.to_bits() >> 32 == NAT64 >> 32 => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        address => address,
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            IpAddr::V4(base) => write!(f, "{base}")?,
            IpAddr::V6(base) => write!(f, "[{base}]")?,
        }
        if self.length < Self::max_length(self.base) { write!(f, "/{}", self.length) } else { Ok(()) }
    }
}

impl FromStr for IpNet {
    type Err = IpNetError;

    fn from_str(text: &str) -> Result<Self, IpNetError> {
        let (base, length) = text.split_once('/').map_or((text, None), |(base, length)| (base, Some(length)));
        let base = parse_address(base).ok_or(IpNetError::Address)?;
        let length = parse_length(length, IpNet::max_length(base))?;
        let net = Self::around(base, length);
        if EMBEDDING.iter().any(|block| block.covers(&net)) {
            return Err(IpNetError::Embedded);
        }
        if net.base == base { Ok(net) } else { Err(IpNetError::HostBits(net)) }
    }
}

fn parse_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

fn parse_length(text: Option<&str>, max: u8) -> Result<u8, IpNetError> {
    let Some(text) = text else { return Ok(max) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|length| digits && *length <= max);
    length.ok_or(IpNetError::Length(max))
}

const fn v4(a: u8, b: u8, c: u8, length: u8) -> IpNet {
    IpNet::v4(Ipv4Addr::new(a, b, c, 0), length)
}

const fn v6(a: u16, b: u16, length: u8) -> IpNet {
    IpNet::v6(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length)
}

const NAT64: u128 = 0x0064_ff9b << 96;
const EMBEDDING: [IpNet; 2] =
    [IpNet::v6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), IpNet::v6(Ipv6Addr::from_bits(NAT64), 96)];

/// Loopback, private, link-local.
pub(crate) const LOCAL: [IpNet; 8] = [
    v4(127, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(172, 16, 0, 12),
    v4(192, 168, 0, 16),
    v4(169, 254, 0, 16),
    IpNet::v6(Ipv6Addr::LOCALHOST, 128),
    v6(0xfc00, 0, 7),
    v6(0xfe80, 0, 10),
];

/// Disjoint, so that "the special block of an address" is one.
const SPECIAL: [IpNet; 36] = [
    v4(0, 0, 0, 8),         // this network
    v4(10, 0, 0, 8),        // private
    v4(100, 64, 0, 10),     // carrier-grade NAT
    v4(127, 0, 0, 8),       // loopback
    v4(169, 254, 0, 16),    // link-local
    v4(172, 16, 0, 12),     // private
    v4(192, 0, 0, 24),      // IETF protocols
    v4(192, 0, 2, 24),      // documentation
    v4(192, 88, 99, 24),    // 6to4 relays
    v4(192, 168, 0, 16),    // private
    v4(198, 18, 0, 15),     // benchmarks
    v4(198, 51, 100, 24),   // documentation
    v4(203, 0, 113, 24),    // documentation
    v4(224, 0, 0, 4),       // multicast
    v4(240, 0, 0, 4),       // reserved, and broadcast
    v6(0, 0, 8),            // unspecified, loopback, IPv4-compatible, NAT64 for local use
    v6(0x0100, 0, 8),       // discard
    v6(0x0200, 0, 7),       // not allocated
    v6(0x0400, 0, 6),       // not allocated
    v6(0x0800, 0, 5),       // not allocated
    v6(0x1000, 0, 4),       // not allocated
    v6(0x2001, 0, 23),      // IETF protocols: Teredo, benchmarks, ORCHID
    v6(0x2001, 0x0db8, 32), // documentation
    v6(0x2002, 0, 16),      // 6to4
    v6(0x3fff, 0, 20),      // documentation
    v6(0x4000, 0, 2),       // segment routing, not allocated
    v6(0x8000, 0, 2),       // not allocated
    v6(0xc000, 0, 3),       // not allocated
    v6(0xe000, 0, 4),       // not allocated
    v6(0xf000, 0, 5),       // not allocated
    v6(0xf800, 0, 6),       // not allocated
    v6(0xfc00, 0, 7),       // private
    v6(0xfe00, 0, 9),       // not allocated
    v6(0xfe80, 0, 10),      // link-local
    v6(0xfec0, 0, 10),      // site-local
    v6(0xff00, 0, 8),       // multicast
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn special_addresses_are_told_from_public_ones() {
        let special = [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.19.1.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:7f00:1::",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2a00::1",
            "3ffe::1",
        ];
        special.iter().for_each(|text| assert!(!is_public(ip(text)), "{text}"));
        public.iter().for_each(|text| assert!(is_public(ip(text)), "{text}"));
    }

    #[test]
    fn special_blocks_are_disjoint_and_hold_every_local_one() {
        for (i, a) in SPECIAL.iter().enumerate() {
            assert!(SPECIAL.iter().skip(i + 1).all(|b| !a.covers(b) && !b.covers(a)), "{a}");
        }
        LOCAL.iter().for_each(|local| assert!(SPECIAL.iter().any(|block| block.covers(local)), "{local}"));
    }

    #[test]
    fn texts_that_are_not_networks_are_refused_with_their_reason() {
        for text in ["", "x", "1.2.3", "1.2.3.4.5", "2001:db8::", "[1.2.3.4]", "[::", "::1]", "[fe80::1%1]", " 1.2.3.4"]
        {
            assert_eq!(text.parse::<IpNet>(), Err(IpNetError::Address), "{text}");
        }
        for text in ["1.0.0.0/33", "1.0.0.0/", "1.0.0.0/+8", "1.0.0.0/-1", "1.0.0.0/8/8", "1.0.0.0/ 8"] {
            assert_eq!(text.parse::<IpNet>(), Err(IpNetError::Length(32)), "{text}");
        }
        assert_eq!("[::]/129".parse::<IpNet>(), Err(IpNetError::Length(128)));
        assert_eq!("10.0.0.1/8".parse::<IpNet>(), Err(IpNetError::HostBits(net("10.0.0.0/8"))));
        for text in ["[::ffff:10.0.0.0]/104", "[::ffff:0:0]/96", "[64:ff9b::]/96", "[64:ff9b::7f00:1]"] {
            assert_eq!(text.parse::<IpNet>(), Err(IpNetError::Embedded), "{text}");
        }
    }

    #[test]
    fn a_netgroup_is_a_16_or_a_32() {
        assert_eq!(netgroup(ip("127.3.0.1")), net("127.3.0.0/16"));
        assert_eq!(netgroup(ip("::ffff:127.3.0.1")), net("127.3.0.0/16"));
        assert_eq!(netgroup(ip("2001:4860:4860::8888")), net("[2001:4860::]/32"));
    }

    proptest! {
        #[test]
        fn a_network_survives_its_text_form(bits: u32, long: u128, length in 0u8..=128) {
            for net in [IpNet::v4(bits.into(), length), IpNet::v6((long | 1 << 127).into(), length.max(1))] {
                prop_assert_eq!(net.to_string().parse(), Ok(net));
                prop_assert!(net.contains(net.base));
            }
        }

        #[test]
        fn only_global_unicast_ipv6_is_public(bits: u128) {
            let address = IpAddr::V6(bits.into());
            prop_assume!(canonical(address) == address);
            prop_assert!(bits >> 125 == 1 || !is_public(address));
        }

        #[test]
        fn two_networks_are_apart_or_one_covers_the_other(a: u32, b: u32, m in 0u8..=32, n in 0u8..=32) {
            let (one, other) = (IpNet::v4(a.into(), m), IpNet::v4(b.into(), n));
            let meet = one.contains(other.base) || other.contains(one.base);
            prop_assert_eq!(meet, one.covers(&other) || other.covers(&one));
        }
    }
}
