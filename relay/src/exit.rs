//! What a relay does with a stream that is opened at it: connects it to the outside, if its policy allows.
//!
//! Specification: docs/protocol.md, "Streams" and "Resolve". Names are resolved here, never by the client. Nothing
//! about targets is logged above `debug`, and nothing is remembered.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::time::timeout;
use tracing::debug;
use trefoil_protocol::{
    host::Host,
    ip,
    limits::{CONNECT_TIMEOUT, LOOKUP_SOCKETS, RESOLVE_TIMEOUT},
    message::{Reason, Target},
    policy::ExitPolicy,
    resolve,
};

use crate::{
    outlets::{CircuitOutlets, Outlet, Outlets},
    outside::{Connection, Outside},
    pump::{Stream, StreamError},
};

/// Addresses of one name that are tried before giving up.
const TRIED_ADDRESSES: usize = 4;

/// A relay's exit role.
pub(crate) struct Exit {
    policy: ExitPolicy,
    outside: Arc<dyn Outside>,
    outlets: Outlets,
    /// Its own public addresses.
    own: Vec<IpAddr>,
}

impl Exit {
    /// The exit of a relay that has these addresses. An empty policy refuses everything.
    pub(crate) fn new(policy: ExitPolicy, outside: Arc<dyn Outside>, outlets: Outlets, own: Vec<IpAddr>) -> Self {
        let own = own.into_iter().map(ip::canonical).filter(|address| ip::is_public(*address)).collect();
        Self { policy, outside, outlets, own }
    }

    /// The policy's word; but what listens at this machine's public addresses may take it for one that is trusted, so
    /// these need a rule of their own. Special addresses need one in any case.
    fn allows(&self, address: IpAddr, port: u16) -> bool {
        if self.own.contains(&ip::canonical(address)) {
            self.policy.allows_by_name(address, port)
        } else {
            self.policy.allows(address, port)
        }
    }

    /// What one new circuit may have open at once.
    pub(crate) fn circuit_outlets(&self) -> CircuitOutlets {
        self.outlets.circuit()
    }

    /// Serves a stream of the circuit that has these outlets, until it ends.
    pub(crate) async fn serve(&self, stream: Stream, target: Target, outlets: &CircuitOutlets) {
        let served = match target {
            Target::Exit { host, port } => self.connect(stream, &host, port, outlets).await,
            Target::Resolve { host } => self.resolve(stream, &host, outlets).await,
            // The directory and the mailbox are no parts of an exit: `forward.rs`.
            Target::Directory | Target::Mailbox | Target::Service { .. } => {
                stream.refuse(Reason::NotOffered);
                Ok(())
            }
        };
        if let Err(error) = served {
            debug!(%error, "a stream ended early");
        }
    }

    async fn connect(
        &self,
        mut stream: Stream,
        host: &Host,
        port: u16,
        outlets: &CircuitOutlets,
    ) -> Result<(), StreamError> {
        let (connection, _outlet) = match unless_broken(&stream, self.reach(host, port, outlets)).await? {
            Ok(reached) => reached,
            Err(reason) => {
                stream.refuse(reason);
                return Ok(());
            }
        };
        stream.accept();
        splice(stream, connection).await
    }

    /// A connection to the first address of `host` that is allowed and answers.
    async fn reach(
        &self,
        host: &Host,
        port: u16,
        outlets: &CircuitOutlets,
    ) -> Result<(Box<dyn Connection>, Outlet), Reason> {
        if !self.policy.may_allow_port(port) {
            return Err(Reason::Policy); // before a name server hears of it
        }
        let addresses = self.addresses(host, outlets).await?;
        let allowed: Vec<_> = addresses.into_iter().filter(|address| self.allows(*address, port)).collect();
        if allowed.is_empty() {
            return Err(Reason::Policy);
        }
        let outlet = outlets.take(1).ok_or(Reason::Limit)?;
        let tries = allowed.len().min(TRIED_ADDRESSES);
        let mut last = Reason::Unreachable;
        for address in &allowed[..tries] {
            let connect = self.outside.connect(SocketAddr::new(*address, port));
            match timeout(CONNECT_TIMEOUT / u32::try_from(tries).unwrap_or(1), connect).await {
                Ok(Ok(connection)) => return Ok((connection, outlet)),
                Ok(Err(error)) => last = reason_of(&error),
                Err(_) => last = Reason::Timeout,
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &Host, outlets: &CircuitOutlets) -> Result<Vec<IpAddr>, Reason> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let _outlet = outlets.take(LOOKUP_SOCKETS).ok_or(Reason::Limit)?;
        match timeout(RESOLVE_TIMEOUT, self.outside.resolve(name)).await {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Ok(_) => Err(Reason::NameNotFound),
            Err(_) => Err(Reason::Timeout),
        }
    }

    async fn resolve(&self, mut stream: Stream, host: &Host, outlets: &CircuitOutlets) -> Result<(), StreamError> {
        if !self.policy.is_exit() {
            stream.refuse(Reason::Policy);
            return Ok(());
        }
        match unless_broken(&stream, self.tellable(host, outlets)).await? {
            Ok(addresses) => {
                stream.accept();
                stream.send(&resolve::encode(&addresses)).await?;
                stream.close();
            }
            Err(reason) => stream.refuse(reason),
        }
        Ok(())
    }

    /// The addresses that an origin may hear of. This machine's hosts file and name servers know private ones that are
    /// nobody's business, and where a name has no others, so is the name.
    async fn tellable(&self, host: &Host, outlets: &CircuitOutlets) -> Result<Vec<IpAddr>, Reason> {
        let mut addresses = self.addresses(host, outlets).await?;
        addresses.retain(|address| ip::is_public(*address) || self.policy.may_allow_address(*address));
        if addresses.is_empty() { Err(Reason::NameNotFound) } else { Ok(addresses) }
    }
}

/// Does `work` for a stream; gives it up when nobody waits for it any more, so that no socket outlives its stream.
async fn unless_broken<T>(stream: &Stream, work: impl Future<Output = T>) -> Result<T, StreamError> {
    tokio::select! {
        done = work => Ok(done),
        error = stream.broken() => Err(error),
    }
}

/// Carries bytes both ways. A stream that broke breaks the connection too, never ends it in order.
async fn splice(stream: Stream, connection: Box<dyn Connection>) -> Result<(), StreamError> {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let spliced = stream.splice(&[], &mut reader, &mut writer).await;
    if spliced.is_err() {
        reader.unsplit(writer).reset();
    }
    spliced.map(|_| ())
}

fn reason_of(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::Refused,
        io::ErrorKind::TimedOut => Reason::Timeout,
        io::ErrorKind::ConnectionReset => Reason::Reset,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
            Reason::Unreachable
        }
        _ => Reason::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use trefoil_protocol::{
        host::HostName,
        limits::MESSAGE,
        message::{Message, StreamId},
        streams::End,
    };

    use super::*;
    use crate::{outside::Boxed, pump::CircuitStreams};

    /// Neither names nor targets ever answer.
    struct Silence;

    impl Outside for Silence {
        fn resolve<'a>(&'a self, _: &'a HostName) -> Boxed<'a, io::Result<Vec<IpAddr>>> {
            Box::pin(std::future::pending())
        }

        fn connect(&self, _: SocketAddr) -> Boxed<'_, io::Result<Box<dyn Connection>>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_looked_up_or_dialled_for_a_stream_that_is_gone() {
        let exit = Arc::new(Exit::new("accept *:*".parse().unwrap(), Arc::new(Silence), Outlets::new(1024), vec![]));
        let streams = CircuitStreams::new(End::Hop);
        let (stream, name) = (StreamId(1), Host::parse("example.com").unwrap());
        let address = Host::parse("203.0.114.1").unwrap();
        let targets = [
            Target::Exit { host: address, port: 80 },
            Target::Exit { host: name.clone(), port: 80 },
            Target::Resolve { host: name },
        ];
        for target in targets {
            let say = |message| streams.handle_message(0, &message, Instant::now().into_std()).unwrap();
            let incoming = say(Message::Open { stream, target }).unwrap();
            let (exit, outlets) = (Arc::clone(&exit), exit.circuit_outlets());
            let serving = tokio::spawn(async move { exit.serve(incoming.stream, incoming.target, &outlets).await });
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!serving.is_finished());

            say(Message::Close { stream, reason: Reason::Reset });
            timeout(Duration::from_millis(1), serving).await.expect("its task ends with it").unwrap();
            while streams.poll_message(&mut [0; MESSAGE]).is_some() {} // its id is free again
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_circuit_that_has_its_share_of_sockets_gets_no_more_until_one_is_free() {
        let exit = Exit::new("accept *:*".parse().unwrap(), Arc::new(Silence), Outlets::new(0), vec![]);
        let outlets = exit.circuit_outlets();
        let address = Host::parse("203.0.114.1").unwrap();
        {
            let mut first = std::pin::pin!(exit.reach(&address, 80, &outlets));
            tokio::select! {
                biased;
                _ = &mut first => panic!("its target never answers"),
                second = exit.reach(&address, 80, &outlets) => assert_eq!(second.err(), Some(Reason::Limit)),
            }
        }
        let name = Host::parse("example.com").unwrap();
        assert_eq!(exit.addresses(&name, &outlets).await, Err(Reason::Limit), "a lookup takes several");
        assert!(timeout(Duration::from_secs(1), exit.reach(&address, 80, &outlets)).await.is_err(), "one is free");
    }

    #[tokio::test(start_paused = true)]
    async fn an_exit_reaches_its_own_public_address_only_by_a_rule_for_it() {
        let own = ["203.0.114.1", "::ffff:203.0.114.2", "127.0.0.1"].map(|address| address.parse().unwrap());
        let refuses = async |policy: &str, address: &str| {
            let outlets = Outlets::new(1024);
            let exit = Exit::new(policy.parse().unwrap(), Arc::new(Silence), outlets, own.to_vec());
            let (host, outlets) = (Host::parse(address).unwrap(), exit.circuit_outlets());
            let reached = timeout(Duration::from_secs(1), exit.reach(&host, 80, &outlets)).await;
            reached.is_ok_and(|refused| refused.err() == Some(Reason::Policy))
        };
        for address in ["203.0.114.1", "203.0.114.2", "64:ff9b::cb00:7201"] {
            assert!(refuses("accept 203.0.114.0/24:*; accept *:*", address).await, "{address}");
        }
        assert!(!refuses("accept *:*", "203.0.114.3").await);
        assert!(!refuses("accept 203.0.114.1:80", "203.0.114.1").await);
        assert!(!refuses("accept 127.0.0.0/8:*", "127.0.0.1").await, "no public address");
    }

    /// Every name has these addresses.
    struct Hosts(Vec<IpAddr>);

    impl Outside for Hosts {
        fn resolve<'a>(&'a self, _: &'a HostName) -> Boxed<'a, io::Result<Vec<IpAddr>>> {
            Box::pin(async { Ok(self.0.clone()) })
        }

        fn connect(&self, _: SocketAddr) -> Boxed<'_, io::Result<Box<dyn Connection>>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn private_addresses_are_told_only_where_the_policy_allows_them() {
        let tells = async |policy: &str, addresses: &[&str]| {
            let hosts = Hosts(addresses.iter().map(|address| address.parse().unwrap()).collect());
            let exit = Exit::new(policy.parse().unwrap(), Arc::new(hosts), Outlets::new(1024), vec![]);
            let told = exit.tellable(&Host::parse("example.com").unwrap(), &exit.circuit_outlets()).await;
            told.map(|addresses| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(tells("accept *:80", &["10.0.0.1", "203.0.114.1", "::1"]).await, Ok("203.0.114.1".to_owned()));
        assert_eq!(tells("accept *:80", &["10.0.0.1"]).await, Err(Reason::NameNotFound));
        assert_eq!(tells("accept 127.0.0.0/8:*", &["127.0.0.1", "::1"]).await, Ok("127.0.0.1".to_owned()));
    }
}
