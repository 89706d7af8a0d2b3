//! The answer to a `Resolve`: the addresses of a name, as the bytes of a stream.
//!
//! Specification: docs/protocol.md, "Resolve". `4 ‖ address 4` or `6 ‖ address 16` for each, then the stream ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{limits::MAX_RESOLVED, wire::Reader};

/// Bytes that are not such an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed answer to a name resolution")]
pub struct Malformed;

/// Writes the first [`MAX_RESOLVED`] addresses.
pub fn encode(addresses: &[IpAddr]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in addresses.iter().take(MAX_RESOLVED) {
        match address {
            IpAddr::V4(address) => {
                bytes.push(4);
                bytes.extend(address.octets());
            }
            IpAddr::V6(address) => {
                bytes.push(6);
                bytes.extend(address.octets());
            }
        }
    }
    bytes
}

/// Reads them.
pub fn decode(bytes: &[u8]) -> Result<Vec<IpAddr>, Malformed> {
    let mut fields = Reader::new(bytes);
    let mut addresses = Vec::new();
    while !fields.is_empty() {
        addresses.push(read_address(&mut fields).ok_or(Malformed)?);
        if addresses.len() > MAX_RESOLVED {
            return Err(Malformed);
        }
    }
    Ok(addresses)
}

fn read_address(fields: &mut Reader<'_>) -> Option<IpAddr> {
    Some(match fields.byte()? {
        4 => Ipv4Addr::from(fields.array::<4>()?).into(),
        6 => Ipv6Addr::from(fields.array::<16>()?).into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_and_cut_ones_do_not() {
        let addresses: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let bytes = encode(&addresses);
        assert_eq!(decode(&bytes), Ok(addresses));
        assert_eq!(decode(&[]), Ok(vec![]));
        for length in (1..bytes.len()).filter(|length| *length != 5) {
            assert_eq!(decode(&bytes[..length]), Err(Malformed));
        }
        assert_eq!(decode(&[5, 0, 0, 0, 0]), Err(Malformed));
    }

    #[test]
    fn no_more_than_the_limit_is_sent_or_taken() {
        let many = vec!["192.0.2.7".parse().unwrap(); MAX_RESOLVED + 1];
        let bytes = encode(&many);
        assert_eq!(decode(&bytes).unwrap().len(), MAX_RESOLVED);
        assert_eq!(decode(&[bytes, encode(&many[..1])].concat()), Err(Malformed));
    }
}
