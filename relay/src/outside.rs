//! The world outside the network, as an exit reaches it: names and TCP connections.
//!
//! A trait, because whole nodes also run on simulated networks, where the outside is simulated too. Names are looked up
//! anew for each stream: a cache would tell one circuit what another has asked for.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tracing::warn;
use trefoil_protocol::{host::HostName, limits::MAX_RESOLVED};

/// A future behind a pointer, so that [`Outside`] can be one too.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where an exit's streams go.
pub trait Outside: Send + Sync {
    /// The addresses of a name; empty if there is no such name.
    fn resolve<'a>(&'a self, name: &'a HostName) -> Boxed<'a, io::Result<Vec<IpAddr>>>;

    /// A TCP connection.
    fn connect(&self, target: SocketAddr) -> Boxed<'_, io::Result<Box<dyn Connection>>>;
}

/// A connection that can end in disorder.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {
    /// Ends it so that the other side sees an error, not an end.
    fn reset(self: Box<Self>);
}

impl Connection for TcpStream {
    fn reset(self: Box<Self>) {
        let _ = self.set_zero_linger(); // then dropping sends RST; if it fails the socket is broken anyway
    }
}

/// The real one: this machine's network and resolver.
pub struct Internet {
    resolver: TokioResolver,
}

impl Internet {
    /// Asks these name servers, or those of the system if there are none. A system without any leaves names to its
    /// hosts file.
    ///
    /// # Errors
    /// If a resolver cannot be made at all.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, NetError> {
        let asking = |servers| {
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let mut builder = match servers {
            [] => TokioResolver::builder_tokio().unwrap_or_else(|error| {
                warn!(%error, "this system names no name servers, so names cannot be resolved: set `resolver`");
                asking(Vec::new())
            }),
            servers => asking(servers.iter().map(name_server).collect()),
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        Ok(Self { resolver: builder.build()? })
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

impl Outside for Internet {
    fn resolve<'a>(&'a self, name: &'a HostName) -> Boxed<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            // The final dot: never complete a name with this machine's search domains.
            match self.resolver.lookup_ip(format!("{}.", name.as_str())).await {
                Ok(found) => Ok(found.iter().take(MAX_RESOLVED).collect()),
                Err(error) if error.is_no_records_found() => Ok(Vec::new()),
                Err(error) => Err(io::Error::other(error)),
            }
        })
    }

    fn connect(&self, target: SocketAddr) -> Boxed<'_, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(target).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }
}
