//! `HOST:PORT` as a person or an HTTP CONNECT writes it.
//!
//! This file never looks a name up: it stays a name until it reaches the exit.

use trefoil_protocol::{host::Host, message::Target};

/// Why a text is not `HOST:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No `:PORT` at the end.
    #[error("expected HOST:PORT, and there is no port")]
    NoPort,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// An IPv6 address whose end cannot be told from the port.
    #[error("an IPv6 address must be in brackets, as in [2001:db8::1]:80")]
    Brackets,
    /// Neither a DNS name nor an address.
    #[error("the host is neither a DNS name nor an address")]
    Host,
}

/// Reads `HOST:PORT`, where HOST is a DNS name, an IPv4 address, or an IPv6 address in brackets.
pub fn parse(text: &str) -> Result<Target, TargetError> {
    let (host, port) = text.rsplit_once(':').ok_or(TargetError::NoPort)?;
    if host.contains(':') && !host.starts_with('[') {
        return Err(TargetError::Brackets);
    }
    if port.is_empty() || host.starts_with('[') && !host.ends_with(']') {
        return Err(TargetError::NoPort);
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TargetError::Port);
    }
    let port = port.parse().ok().filter(|port| *port != 0).ok_or(TargetError::Port)?;
    let host = Host::parse(host).ok_or(TargetError::Host)?;
    Ok(Target::Exit { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(host: &str, port: u16) -> Result<Target, TargetError> {
        Ok(Target::Exit { host: Host::parse(host).unwrap(), port })
    }

    #[test]
    fn names_and_addresses_with_a_port_are_targets() {
        assert_eq!(parse("Example.COM:80"), exit("example.com", 80));
        assert_eq!(parse("192.0.2.1:65535"), exit("192.0.2.1", 65535));
        assert_eq!(parse("[2001:db8::1]:443"), exit("2001:db8::1", 443));
    }

    #[test]
    fn what_is_wrong_is_said_precisely() {
        for (text, error) in [
            ("", TargetError::NoPort),
            ("example.com", TargetError::NoPort),
            ("example.com:", TargetError::NoPort),
            ("[2001:db8::1]", TargetError::NoPort),
            ("example.com:0", TargetError::Port),
            ("example.com:65536", TargetError::Port),
            ("example.com:+80", TargetError::Port),
            ("example.com:http", TargetError::Port),
            ("2001:db8::1:80", TargetError::Brackets),
            (":80", TargetError::Host),
            ("user@example.com:80", TargetError::Host),
            ("[example]:80", TargetError::Host),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }
}
