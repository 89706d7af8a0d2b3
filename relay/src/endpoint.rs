//! One UDP socket's links: dialling, and accepting what others dial.
//!
//! Specification: docs/protocol.md, "Links". A relay dials from the socket on which it listens; a client has a
//! socket per guard, which never accepts. Nothing here outlives a link that could tie it to the next one: no session
//! tickets, no early data, no address tokens, no server name, no spin bit.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    AsyncUdpSocket, ConnectError, ConnectionError, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, Runtime,
    TokioRuntime, TransportConfig, TransportErrorCode, ValidationTokenConfig, VarInt, congestion,
};
use quinn_proto::{NoneTokenLog, NoneTokenStore};
use serde::Deserialize;
use tokio::time::timeout;
use trefoil_protocol::{
    identity::{RelayId, RelaySecret},
    limits::{
        HANDSHAKE_TIMEOUT, INCOMING_BUFFER, INCOMING_BUFFER_TOTAL, INCOMING_MAX, LINK_IDLE_TIMEOUT, LINK_KEEP_ALIVE,
        MTU_MAX, MTU_MIN, MTU_STEP, SEND_WINDOW_MIN, STREAM_WINDOW, STREAMS_RELAY, STREAMS_UNAUTHENTICATED,
    },
    params::NetworkId,
};

use crate::{
    congestion::TolerantConfig,
    link::{Dialler, Link},
    looks::Looks,
    reason::CloseReason,
    socket::{self, BindError, Load},
    sources::{Address, Loopback, Place, Sources, Verdict},
    tls::{self, Tls},
};

/// Makes an anonymous socket from which this address can be dialled.
pub type Sockets = Arc<dyn Fn(SocketAddr) -> Result<Endpoint, BindError> + Send + Sync>;

/// Who a node is on its links.
#[derive(Clone, Debug)]
pub enum LinkIdentity {
    /// A relay: it shows its key both ways and accepts links.
    Relay(Arc<RelaySecret>),
    /// A client: it shows no key, and accepts neither links nor circuits.
    Anonymous,
}

/// The congestion control of a node's links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// Cubic that keeps its window at losses which neither a queue explains nor a smaller window ends.
    #[default]
    Tolerant,
    /// Fair to others on every line (RFC 9438); slow where packets are lost.
    Cubic,
    /// Fast where packets are lost; experimental, and takes the share of everything beside it.
    Bbr,
}

/// What an endpoint is made with.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Who it is.
    pub identity: LinkIdentity,
    /// The network's id; relays of other networks refuse the handshake.
    pub network: [u8; 32],
    /// Its congestion control.
    pub congestion: Congestion,
    /// Whether peers on this machine have a limit.
    pub loopback: Loopback,
}

/// One UDP socket and its links. A clone is the same endpoint.
#[derive(Clone)]
pub struct Endpoint {
    quinn: quinn::Endpoint,
    shared: Arc<Shared>,
}

/// How much is done to find out whether a relay is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// It is asked.
    Ask,
    /// It is asked, and if it does not answer, dialled.
    Dial,
}

/// Everything about an endpoint but its socket.
struct Shared {
    own: Option<RelayId>,
    tls: Tls,
    dialling: Arc<TransportConfig>,
    looking: Arc<TransportConfig>,
    looks: Option<Arc<Looks>>,
    sources: Arc<Sources>,
}

/// A link that a stranger wants; its handshake has not begun.
pub struct Arriving {
    incoming: quinn::Incoming,
    place: Place,
}

/// Why a dial gave no link.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing answered in time.
    #[error("the relay did not answer")]
    Timeout,
    /// The address cannot be dialled from this socket.
    #[error("the relay's address cannot be dialled: {0}")]
    Address(#[source] ConnectError),
    /// Somebody else is at this address.
    #[error("the relay at this address has another key")]
    WrongKey,
    /// This very node is at this address.
    #[error("this node itself is at this address")]
    Itself,
    /// The relay belongs to another network.
    #[error("the relay belongs to another network")]
    WrongNetwork,
    /// The relay turned us away.
    #[error("the relay refused the link")]
    Refused,
    /// Too many links here, or too many relays that failed.
    #[error("this node has as many links as it may")]
    Limit,
    /// The endpoint is closed.
    #[error("this node is shutting down")]
    Closed,
    /// Anything else.
    #[error("the link's handshake failed: {0}")]
    Failed(#[source] ConnectionError),
}

/// Why an arriving link did not come to be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AcceptError {
    /// The handshake took too long.
    #[error("the link's handshake took too long")]
    Timeout,
    /// Too many links from the peer's network.
    #[error("too many links from the peer's network")]
    Limit,
    /// The peer failed the handshake, or is of another network.
    #[error("the link's handshake failed: {0}")]
    Failed(#[source] ConnectionError),
}

/// QUIC wants a name to be dialled; nobody sees it.
const NO_NAME: &str = "0.0.0.0";

impl Endpoint {
    /// Opens a UDP socket at this address; port 0 takes any free one. Must be called within a runtime.
    ///
    /// # Errors
    /// [`BindError`] when the address cannot be had.
    pub fn bind(address: SocketAddr, options: &LinkOptions) -> Result<Self, BindError> {
        let load = match options.identity {
            LinkIdentity::Relay(_) => Load::Relay,
            LinkIdentity::Anonymous => Load::Client,
        };
        let socket = socket::bind(address, load)?;
        let wrapped = TokioRuntime.wrap_udp_socket(socket).map_err(|source| BindError::new(address, source))?;
        Self::over(wrapped, options, None)
    }

    /// Uses any socket, such as one of a simulated network; there a seed makes packets' sizes and times repeatable.
    ///
    /// # Errors
    /// [`BindError`] when the socket has no address.
    pub fn over(
        socket: Arc<dyn AsyncUdpSocket>,
        options: &LinkOptions,
        seed: Option<[u8; 32]>,
    ) -> Result<Self, BindError> {
        let (own, secret) = match &options.identity {
            LinkIdentity::Relay(secret) => (Some(secret.id()), Some(&**secret)),
            LinkIdentity::Anonymous => (None, None),
        };
        let tls = Tls::new(secret, &options.network);
        let server = tls.server().map(|tls| server_config(tls, options.congestion));
        let mut config = EndpointConfig::default();
        config.rng_seed(seed);
        let address = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let (socket, looks) = with_looks(socket, options);
        let quinn = quinn::Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
            .map_err(|source| BindError::new(address, source))?;
        let dialling = Arc::new(dialling_transport(options.congestion));
        let looking = Arc::new(looking_transport(options.congestion));
        let sources = Sources::new(options.loopback);
        Ok(Self { quinn, shared: Arc::new(Shared { own, tls, dialling, looking, looks, sources }) })
    }

    /// The relay that this endpoint is; `None` if it is anonymous.
    pub fn own_id(&self) -> Option<RelayId> {
        self.shared.own
    }

    /// The address of its socket.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.quinn.local_addr()
    }

    /// Dials this relay at this address, for at most [`HANDSHAKE_TIMEOUT`]. The link is to that relay or not at all.
    ///
    /// # Errors
    /// [`DialError`]; nothing is remembered of a failure.
    pub async fn dial(&self, relay: RelayId, address: SocketAddr) -> Result<Link, DialError> {
        let connection = self.connect(self.shared.tls.client(relay), address, &self.shared.dialling).await?;
        Ok(Link::new(connection, Some(relay), Dialler::Us, None))
    }

    /// Looks whether this relay is at this address. Anonymous endpoints cannot ask, and only dial.
    ///
    /// # Errors
    /// [`DialError`]; [`DialError::Timeout`] where it was only asked, and did not answer.
    pub async fn look(&self, relay: RelayId, address: SocketAddr, effort: Effort) -> Result<(), DialError> {
        match &self.shared.looks {
            Some(looks) if looks.look(relay, address).await => return Ok(()),
            Some(_) if effort == Effort::Ask => return Err(DialError::Timeout),
            _ => {}
        }
        let connection = self.connect(self.shared.tls.client(relay), address, &self.shared.looking).await?;
        connection.close(CloseReason::Unspecified.code(), b"");
        Ok(())
    }

    /// Dials whichever relay of this network is at this address, for at most [`HANDSHAKE_TIMEOUT`], and says which.
    ///
    /// The relay has proved its key; that it is one that anybody should use is for its record to prove.
    ///
    /// # Errors
    /// [`DialError`]; most of all [`DialError::Itself`].
    pub async fn meet(&self, address: SocketAddr) -> Result<(RelayId, Link), DialError> {
        let connection = self.connect(self.shared.tls.client_of_any(), address, &self.shared.dialling).await?;
        let relay = tls::peer(&connection).ok_or(DialError::WrongKey)?;
        if self.shared.own == Some(relay) {
            connection.close(CloseReason::Unspecified.code(), b"");
            return Err(DialError::Itself);
        }
        Ok((relay, Link::new(connection, Some(relay), Dialler::Us, None)))
    }

    async fn connect(
        &self,
        tls: Arc<quinn::crypto::rustls::QuicClientConfig>,
        address: SocketAddr,
        transport: &Arc<TransportConfig>,
    ) -> Result<quinn::Connection, DialError> {
        let mut config = quinn::ClientConfig::new(tls);
        config.transport_config(Arc::clone(transport)).token_store(Arc::new(NoneTokenStore));
        let connecting = self.quinn.connect_with(config, address, NO_NAME).map_err(DialError::from_connect)?;
        let connection = timeout(HANDSHAKE_TIMEOUT, connecting).await.map_err(|_| DialError::Timeout)?;
        let connection = connection.map_err(DialError::from_connection)?;
        if self.shared.own.is_some() {
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_RELAY));
        }
        Ok(connection)
    }

    /// The next link that a stranger wants; `None` when the endpoint is closed. An anonymous endpoint waits for that.
    ///
    /// Cancel-safe. Those who are over a limit are turned away here, before they cost a handshake.
    pub async fn accept(&self) -> Option<Arriving> {
        loop {
            let incoming = self.quinn.accept().await?;
            let address = if incoming.remote_address_validated() { Address::Proved } else { Address::Claimed };
            match self.shared.sources.judge(incoming.remote_address().ip(), address) {
                Verdict::Welcome(place) => return Some(Arriving { incoming, place }),
                Verdict::Prove => drop(incoming.retry()), // on failure the attempt is refused when dropped
                Verdict::Refuse => incoming.refuse(),
            }
        }
    }

    /// Closes all links and accepts no more.
    pub fn close(&self, reason: CloseReason) {
        self.quinn.close(reason.code(), b"");
    }

    /// Waits until all links are gone, so that peers have heard of the close.
    pub async fn wait_idle(&self) {
        self.quinn.wait_idle().await;
    }
}

impl Arriving {
    /// The address that the stranger comes from.
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.incoming.remote_address())
    }

    /// Does the handshake, for at most [`HANDSHAKE_TIMEOUT`]; belongs in a task of its own.
    ///
    /// # Errors
    /// [`AcceptError`] when the peer failed it.
    pub async fn finish(self) -> Result<Link, AcceptError> {
        let connecting = self.incoming.accept().map_err(AcceptError::Failed)?;
        let connection = timeout(HANDSHAKE_TIMEOUT, connecting).await.map_err(|_| AcceptError::Timeout)?;
        let connection = connection.map_err(AcceptError::Failed)?;
        let Ok(place) = self.place.open() else {
            connection.close(CloseReason::Limit.code(), b"");
            return Err(AcceptError::Limit);
        };
        let peer = tls::peer(&connection);
        Ok(Link::new(connection, peer, Dialler::Peer, Some(place)))
    }
}

impl DialError {
    fn from_connect(error: ConnectError) -> Self {
        match error {
            ConnectError::EndpointStopping => Self::Closed,
            other => Self::Address(other),
        }
    }

    fn from_connection(error: ConnectionError) -> Self {
        let wrong_key = TransportErrorCode::crypto(tls::ALERT_WRONG_KEY);
        let wrong_network = TransportErrorCode::crypto(tls::ALERT_WRONG_NETWORK);
        match error {
            ConnectionError::TimedOut => Self::Timeout,
            ConnectionError::LocallyClosed => Self::Closed,
            ConnectionError::TransportError(error) if error.code == wrong_key => Self::WrongKey,
            ConnectionError::ConnectionClosed(close) if close.error_code == wrong_network => Self::WrongNetwork,
            ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
                Self::Refused
            }
            ConnectionError::ApplicationClosed(_) => Self::Refused,
            other => Self::Failed(other),
        }
    }
}

/// An address as people write it: IPv4 where a dual-stack socket says IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The socket as QUIC gets it: a relay's without looks.
fn with_looks(socket: Arc<dyn AsyncUdpSocket>, options: &LinkOptions) -> (Arc<dyn AsyncUdpSocket>, Option<Arc<Looks>>) {
    let LinkIdentity::Relay(secret) = &options.identity else { return (socket, None) };
    let looks = Arc::new(Looks::new(socket, NetworkId::from_bytes(options.network), Arc::clone(secret)));
    (Arc::clone(&looks) as Arc<dyn AsyncUdpSocket>, Some(looks))
}

fn server_config(tls: Arc<quinn::crypto::rustls::QuicServerConfig>, congestion: Congestion) -> quinn::ServerConfig {
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).log(Arc::new(NoneTokenLog));
    let mut transport = transport(congestion);
    transport.max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_UNAUTHENTICATED));
    let mut config = quinn::ServerConfig::with_crypto(tls);
    config
        .transport_config(Arc::new(transport))
        .validation_token_config(tokens)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
    config
}

/// The same for relays and anonymous clients: all of it can be read in the ClientHello. A relay takes circuits from the
/// relay that it dialled once the handshake is done, an anonymous dialler never.
fn dialling_transport(congestion: Congestion) -> TransportConfig {
    let mut transport = transport(congestion);
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0)).keep_alive_interval(Some(LINK_KEEP_ALIVE));
    transport
}

/// As [`dialling_transport`], of a link that ends when it is made: nobody needs to know what fits on its path.
fn looking_transport(congestion: Congestion) -> TransportConfig {
    let mut transport = dialling_transport(congestion);
    transport.mtu_discovery_config(None);
    transport
}

/// `pad_to_mtu` stays off: in quinn-proto 0.11.19 a pure receiver's padded ACKs fill its own congestion window.
fn transport(congestion: Congestion) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MTU_MAX).minimum_change(MTU_STEP); // few probes: each link pays for its own
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::MAX) // a finite one lets stalled circuits hang the link
        .send_window(SEND_WINDOW_MIN)
        .max_idle_timeout(Some(idle_timeout(LINK_IDLE_TIMEOUT)))
        .datagram_receive_buffer_size(None)
        .allow_spin(false)
        .initial_mtu(MTU_MIN)
        .mtu_discovery_config(Some(discovery));
    match congestion {
        Congestion::Cubic => transport.congestion_controller_factory(Arc::new(congestion::CubicConfig::default())),
        Congestion::Tolerant => transport.congestion_controller_factory(Arc::new(TolerantConfig)),
        Congestion::Bbr => transport.congestion_controller_factory(Arc::new(congestion::BbrConfig::default())),
    };
    transport
}

fn idle_timeout(time: Duration) -> IdleTimeout {
    time.try_into().expect("a minute is within QUIC's range")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bytes::Bytes;
    use trefoil_protocol::limits::CELL;
    use zeroize::Zeroizing;

    use super::*;
    use crate::opened::Arrival;

    fn options(identity: LinkIdentity) -> LinkOptions {
        LinkOptions { identity, network: [3; 32], congestion: Congestion::Cubic, loopback: Loopback::Exempt }
    }

    fn relay(seed: u8) -> Endpoint {
        let secret = Arc::new(RelaySecret::from_bytes(&Zeroizing::new([seed; 32])));
        Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), &options(LinkIdentity::Relay(secret))).unwrap()
    }

    #[tokio::test]
    async fn two_relays_on_real_sockets_know_each_other() {
        let (a, b) = (relay(1), relay(2));
        let (dialled, accepted) = tokio::join!(a.dial(b.own_id().unwrap(), b.local_address().unwrap()), async {
            b.accept().await.unwrap().finish().await
        });
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!(dialled.peer(), b.own_id());
        assert_eq!(accepted.peer(), a.own_id());
        assert_eq!(accepted.remote_address(), a.local_address().unwrap());

        let mut ours = dialled.open_circuit().await.unwrap();
        ours.writer.write(Bytes::from(vec![1; CELL])).await.unwrap();
        let opened = accepted.accept().await.unwrap();
        let Arrival::Circuit(mut theirs, cell) = opened.arrive().await.unwrap() else { panic!("a circuit arrives") };
        theirs.writer.write(cell.freeze()).await.unwrap();
        assert_eq!(ours.reader.cells().await.unwrap(), vec![1; CELL]);

        a.close(CloseReason::Shutdown);
        assert!(matches!(accepted.closed().await, crate::link::LinkError::Closed(CloseReason::Shutdown)));
    }

    #[tokio::test]
    async fn whoever_is_at_an_address_is_met_by_the_key_that_it_proves() {
        let (a, b) = (relay(1), relay(2));
        let accepting = b.clone();
        let accepted = tokio::spawn(async move { accepting.accept().await.unwrap().finish().await });
        let (met, link) = a.meet(b.local_address().unwrap()).await.unwrap();
        assert_eq!((Some(met), link.peer()), (b.own_id(), b.own_id()));
        assert_eq!(accepted.await.unwrap().unwrap().peer(), a.own_id());

        let accepting = a.clone();
        tokio::spawn(async move { accepting.accept().await.unwrap().finish().await });
        assert!(matches!(a.meet(a.local_address().unwrap()).await.err(), Some(DialError::Itself)));
    }

    #[tokio::test]
    async fn nobody_of_another_network_is_met() {
        let secret = Arc::new(RelaySecret::from_bytes(&Zeroizing::new([9; 32])));
        let options = LinkOptions { network: [4; 32], ..options(LinkIdentity::Relay(secret)) };
        let other = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), &options).unwrap();
        let address = other.local_address().unwrap();
        tokio::spawn(async move { other.accept().await.unwrap().finish().await });
        assert!(matches!(relay(1).meet(address).await.err(), Some(DialError::WrongNetwork)));
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_says_so() {
        let taken = relay(1);
        let address = taken.local_address().unwrap();
        let second = Endpoint::bind(address, &options(LinkIdentity::Anonymous));
        assert!(matches!(second.err(), Some(BindError::InUse(port)) if port == address));
    }

    #[tokio::test]
    async fn a_closed_endpoint_accepts_and_dials_no_more() {
        let endpoint = relay(1);
        endpoint.close(CloseReason::Shutdown);
        assert!(endpoint.accept().await.is_none());
        let dialled = endpoint.dial(relay(2).own_id().unwrap(), (Ipv4Addr::LOCALHOST, 9).into()).await;
        assert!(matches!(dialled.err(), Some(DialError::Closed)));
    }
}
