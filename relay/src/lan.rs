//! LAN: beacons on the local network, by which nodes of one network find each other without anybody's help.
//!
//! Specification: docs/protocol.md, "Beacons". Relays send them, clients only listen. What is heard are hints
//! (`hints.rs`), of addresses on the local network and no others: a beacon makes nobody dial anywhere else.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use rand::{Rng, RngExt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, time::sleep};
use tracing::debug;
use trefoil_protocol::{
    beacon::{BEACON, Beacon, NONCE},
    ip,
    limits::{BEACON_EVERY, BEACON_PAUSE},
    params::{NetworkId, NetworkParams},
};

use crate::hints::{Hints, Kind};

/// The sockets for beacons.
#[derive(Debug)]
pub struct Lan {
    v4: Option<Ear>,
    v6: Option<Ear>,
    /// Of this node's own last beacon, which it hears, too.
    own: Mutex<Option<[u8; NONCE]>>,
}

/// One family's socket, and where it sends to.
#[derive(Debug)]
struct Ear {
    socket: UdpSocket,
    group: SocketAddr,
}

/// Neither family has a socket for beacons.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for beacons on the local network (UDP port {PORT}): {0}")]
pub struct LanError(#[source] io::Error);

/// Beacons' UDP port.
const PORT: u16 = 21_732;
/// Their IPv4 group, of those that are for local use (RFC 2365).
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 116, 114);
/// Their IPv6 group, for one link (RFC 4291).
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x7472, 0x6566);

impl Lan {
    /// Opens the sockets, on the interfaces that the system chooses. Must be called within a runtime.
    ///
    /// # Errors
    /// [`LanError`] if neither IPv4 nor IPv6 can be listened on.
    pub fn open() -> Result<Self, LanError> {
        let (v4, v6) = (Ear::v4(Ipv4Addr::UNSPECIFIED, PORT), Ear::v6(PORT));
        match (v4, v6) {
            (Err(error), Err(_)) => Err(LanError(error)),
            (v4, v6) => Ok(Self { v4: v4.ok(), v6: v6.ok(), own: Mutex::default() }),
        }
    }

    /// Listens for beacons of this network, for as long as it is polled.
    pub async fn listen(&self, hints: &Hints, params: &NetworkParams) {
        hints.search();
        let [v4, v6] = [&self.v4, &self.v6].map(|ear| self.hear(ear.as_ref(), hints, params));
        tokio::join!(v4, v6);
    }

    /// Tells others, for as long as it is polled, that a relay of this network accepts links at this port.
    pub async fn tell(&self, network: NetworkId, port: u16, mut rng: impl Rng) {
        loop {
            let beacon = Beacon { nonce: rng.random(), port };
            *self.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(beacon.nonce);
            for ear in [&self.v4, &self.v6].into_iter().flatten() {
                if let Err(error) = ear.socket.send_to(&beacon.encode(&network), ear.group).await {
                    debug!(%error, "a beacon was not sent");
                }
            }
            sleep(BEACON_EVERY.mul_f64(rng.random_range(1.0..2.0))).await;
        }
    }

    async fn hear(&self, ear: Option<&Ear>, hints: &Hints, params: &NetworkParams) {
        let Some(ear) = ear else { return };
        let network = params.id();
        let mut packet = [0; BEACON + 1]; // a longer one is none
        loop {
            match ear.socket.recv_from(&mut packet).await {
                Ok((length, from)) => {
                    let beacon = packet.get(..length).and_then(|packet| Beacon::decode(packet, &network));
                    let others = beacon.filter(|beacon| !self.is_own(beacon) && is_near(from.ip(), params));
                    others.inspect(|beacon| hints.note(Kind::Lan, at_port(from, beacon.port)));
                }
                Err(error) => debug!(%error, "no beacon was heard"),
            }
            sleep(BEACON_PAUSE).await;
        }
    }

    fn is_own(&self, beacon: &Beacon) -> bool {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) == Some(beacon.nonce)
    }
}

impl Ear {
    fn v4(interface: Ipv4Addr, port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?; // several nodes of one machine listen
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        socket.join_multicast_v4(&GROUP_V4, &interface)?;
        if !interface.is_unspecified() {
            socket.set_multicast_if_v4(&interface)?;
        }
        socket.set_multicast_ttl_v4(1)?;
        Self::over(socket, GROUP_V4.into())
    }

    fn v6(port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        socket.join_multicast_v6(&GROUP_V6, 0)?;
        socket.set_multicast_hops_v6(1)?;
        Self::over(socket, GROUP_V6.into())
    }

    fn over(socket: Socket, group: IpAddr) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket.into())?;
        let group = SocketAddr::new(group, socket.local_addr()?.port());
        Ok(Self { socket, group })
    }
}

/// Whether packets to this address stay on the local network, or on this machine where that is a network.
fn is_near(address: IpAddr, params: &NetworkParams) -> bool {
    ip::is_local(address) && (params.allow_loopback || !address.is_loopback())
}

/// The address with another port. A link-local one keeps the interface that it is on.
fn at_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};
    use tokio::time::{Duration, timeout};

    use super::*;

    /// One on this machine's own interface, beside the other.
    fn lan(beside: Option<&Lan>) -> Lan {
        let port = beside.and_then(|lan| lan.v4.as_ref()).map_or(0, |ear| ear.group.port());
        Lan { v4: Some(Ear::v4(Ipv4Addr::LOCALHOST, port).unwrap()), v6: None, own: Mutex::default() }
    }

    fn params(name: &str) -> NetworkParams {
        NetworkParams::testnet(name.parse().unwrap())
    }

    fn due(hints: &Hints) -> Vec<SocketAddr> {
        hints.due(9, || StdRng::seed_from_u64(1), |_| true).into_iter().map(|hint| hint.address).collect()
    }

    #[tokio::test]
    async fn a_beacon_is_heard_by_others_of_its_network_and_by_nobody_else() {
        let relay = lan(None);
        let (friend, stranger) = (lan(Some(&relay)), lan(Some(&relay)));
        let (ours, theirs) = (params("ours"), params("theirs"));
        let [at_relay, at_friend, at_stranger] = [Hints::default(), Hints::default(), Hints::default()];
        let heard = async {
            tokio::select! {
                () = relay.tell(ours.id(), 9001, StdRng::seed_from_u64(1)) => {}
                () = relay.listen(&at_relay, &ours) => {}
                () = friend.listen(&at_friend, &ours) => {}
                () = stranger.listen(&at_stranger, &theirs) => {}
                () = at_friend.wait() => {}
            }
        };
        timeout(Duration::from_secs(10), heard).await.expect("a beacon on this machine's own interface is heard");
        assert_eq!(due(&at_friend), [SocketAddr::from((Ipv4Addr::LOCALHOST, 9001))]);
        assert!(due(&at_stranger).is_empty() && due(&at_relay).is_empty());
    }

    #[test]
    fn only_addresses_of_the_local_network_are_near() {
        let main = NetworkParams::main();
        for near in ["10.1.2.3", "192.168.0.1", "169.254.1.1", "fe80::1", "fd00::1"] {
            assert!(is_near(near.parse().unwrap(), &main), "{near}");
        }
        for far in ["8.8.8.8", "2600::1", "224.0.0.1", "0.0.0.0", "127.0.0.1", "::1", "::ffff:8.8.8.8"] {
            assert!(!is_near(far.parse().unwrap(), &main), "{far}");
        }
        assert!(is_near("127.0.0.1".parse().unwrap(), &params("test")));
    }

    #[test]
    fn a_link_local_address_keeps_its_interface() {
        let from = "[fe80::1%3]:21732".parse().unwrap();
        assert_eq!(at_port(from, 9001), "[fe80::1%3]:9001".parse().unwrap());
    }
}
