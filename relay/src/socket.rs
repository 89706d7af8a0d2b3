//! The UDP socket under a node's links.
//!
//! One socket per endpoint, dual-stack on IPv6, with large kernel buffers. It never speaks QUIC: `endpoint.rs` does.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Once,
};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, warn};
use trefoil_protocol::limits::{UDP_BUFFER, UDP_BUFFER_LOW};

/// Why a UDP address could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program, or another Trefoil, has the port.
    #[error("UDP port {} is in use: stop the program that has it, or choose another port", .0.port())]
    InUse(SocketAddr),
    /// The system does not allow it.
    #[error("no permission to use UDP port {}: choose a port above 1023", .0.port())]
    Permission(SocketAddr),
    /// The address is not one of this machine's.
    #[error("{} is not an address of this machine", .0.ip())]
    NotLocal(SocketAddr),
    /// Anything else.
    #[error("cannot use UDP address {address}: {source}")]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    pub(crate) fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::PermissionDenied => Self::Permission(address),
            io::ErrorKind::AddrNotAvailable => Self::NotLocal(address),
            _ => Self::Other { address, source },
        }
    }
}

/// Whether the kernel's limits on buffers are worth a word to the person who runs this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// A relay's: lost packets cost other people's circuits.
    Relay,
    /// A client's own.
    Client,
}

/// Binds a socket to this address; port 0 takes any free one.
///
/// # Errors
/// [`BindError`] when the address cannot be had.
pub(crate) fn bind(address: SocketAddr, load: Load) -> Result<UdpSocket, BindError> {
    let socket = open(address).map_err(|source| BindError::new(address, source))?;
    enlarge_buffers(&socket, load);
    Ok(socket.into())
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn enlarge_buffers(socket: &Socket, load: Load) {
    let asked = socket.set_recv_buffer_size(UDP_BUFFER).and_then(|()| socket.set_send_buffer_size(UDP_BUFFER));
    if let Err(error) = asked {
        debug!(%error, "the UDP buffers keep the system's size");
    }
    let granted = socket.recv_buffer_size().map_or(0, usable_buffer);
    if granted < UDP_BUFFER_LOW && load == Load::Relay {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            warn!(
                bytes = granted,
                "the system limits UDP buffers and packets will be lost under load: \
                 run `sysctl -w net.core.rmem_max={UDP_BUFFER} net.core.wmem_max={UDP_BUFFER}`"
            );
        });
    } else if granted < UDP_BUFFER {
        debug!(bytes = granted, "the system limits UDP buffers");
    }
}

/// Linux reports twice the size that it was asked for, to count its own bookkeeping.
fn usable_buffer(reported: usize) -> usize {
    if cfg!(target_os = "linux") { reported / 2 } else { reported }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let first = bind((Ipv4Addr::LOCALHOST, 0).into(), Load::Client).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address, Load::Client).unwrap_err();
        assert!(matches!(error, BindError::InUse(taken) if taken == address));
        assert!(error.to_string().contains(&address.port().to_string()));
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let error = bind("192.0.2.1:0".parse().unwrap(), Load::Client).unwrap_err();
        assert!(matches!(error, BindError::NotLocal(_)), "{error:?}");
    }
}
