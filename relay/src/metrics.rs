//! Metrics: what a running relay tells a monitoring system, over HTTP.
//!
//! Specification: docs/operator.md, "Watching it". `GET /metrics` in the text format of OpenMetrics 1.0. They are the
//! numbers of the [`Status`], sums over all peers: nothing about any one peer, link, circuit or target, and no bytes
//! that were relayed, since such a series is what somebody needs who wants to find out which flows belong together.

use std::{convert::Infallible, fmt, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};
use trefoil_protocol::limits::{ACCEPT_PAUSE, MAX_HTTP_FIELDS, MAX_HTTP_HEAD, METRICS_CONNECTIONS, METRICS_TIMEOUT};

use crate::{node::Node, status::Status, trouble::Trouble};

/// A TCP socket for those who ask; see [`crate::relay::Relay::serve_metrics`].
pub struct MetricsListener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Why metrics cannot be offered there, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Another program has the port.
    #[error("TCP port {} is in use: stop the program that has it, or choose another port for `metrics`", .0.port())]
    InUse(SocketAddr),
    /// The system refused for another reason.
    #[error("cannot offer metrics at {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

type Answer = Response<Full<Bytes>>;

impl MetricsListener {
    /// Listens at this address; port 0 takes any free one.
    ///
    /// # Errors
    /// [`MetricsError`] when the address cannot be had.
    pub async fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => MetricsError::InUse(address),
            _ => MetricsError::Bind { address, source },
        };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers whoever connects, for as long as it is polled.
pub(crate) async fn serve(node: Arc<Node>, listener: MetricsListener) {
    let room = Arc::new(Semaphore::new(METRICS_CONNECTIONS));
    loop {
        let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        match listener.socket.accept().await {
            Ok((socket, _)) => {
                let answering = answer(Arc::clone(&node), socket);
                node.tracker.spawn(node.shutdown.clone().run_until_cancelled_owned(async move {
                    answering.await;
                    drop(place);
                }));
            }
            Err(error) => {
                warn!(%error, "nobody can ask for metrics for a moment");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one question.
async fn answer(node: Arc<Node>, socket: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = respond(request.method(), request.uri().path(), || Status::of(&node));
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut settings = http1::Builder::new();
    settings
        .timer(TokioTimer::new())
        .header_read_timeout(METRICS_TIMEOUT)
        .max_buf_size(MAX_HTTP_HEAD)
        .max_headers(MAX_HTTP_FIELDS)
        .keep_alive(false);
    let answered = timeout(METRICS_TIMEOUT, settings.serve_connection(TokioIo::new(socket), service)).await;
    debug!(?answered, "told the metrics");
}

fn respond(method: &Method, path: &str, status: impl FnOnce() -> Status) -> Answer {
    let (code, content, body) = match (path, method) {
        ("/metrics", &Method::GET) => (StatusCode::OK, OPEN_METRICS, encode(status())),
        ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "Only GET is answered.\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, PLAIN, "There is nothing but /metrics.\n".to_owned()),
    };
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    if code == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    }
    answer
}

/// All metrics as text.
fn encode(status: Status) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Sample(status)));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("a string takes all that is written, and our numbers have a form");
    text
}

/// What one answer holds.
#[derive(Debug)]
struct Sample(Status);

/// One number, what it means, and its unit.
type Gauge = (&'static str, Option<Unit>, &'static str, u64);

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_build(&mut encoder)?;
        for (name, unit, help, value) in self.gauges() {
            let metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        self.encode_letters(&mut encoder)?;
        self.encode_trouble(&mut encoder)?;
        self.encode_turned_away(&mut encoder)
    }
}

impl Sample {
    fn encode_build(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = [("version", self.0.version.clone()), ("network", self.0.network.clone())];
        let help = "The version of the program, and its network's name.";
        Info::new(labels).encode(encoder.encode_descriptor("build", help, None, MetricType::Info)?)
    }

    fn gauges(&self) -> Vec<Gauge> {
        let Status { listed_until, memory_bytes, memory_limit_bytes, circuits_limit, .. } = self.0;
        let (seconds, bytes) = (|| Some(Unit::Seconds), || Some(Unit::Bytes));
        let (until, listed) = (listed_until.map_or(0, u64::from), u64::from(listed_until.is_some()));
        let all = &self.0;
        let number = |number: usize| number as u64;
        let mut gauges = vec![
            ("uptime", seconds(), "For how long the relay runs.", all.uptime_seconds),
            ("epoch", None, "The network's epoch now, by this machine's clock.", all.epoch.into()),
            ("listed", None, "1 if the relay has a record that counts now, else 0.", listed),
            ("listed_until_epoch", None, "The first epoch in which its record no longer counts; 0 for none.", until),
            ("in_use", None, "1 if the relay is among the usable ones of this epoch, else 0.", all.in_use.into()),
            ("relays_known", None, "Relays whose records are known, this one included.", number(all.known)),
            ("relays_usable", None, "Relays that circuits are drawn from in this epoch.", number(all.usable)),
            ("relays_compared", None, "Relays that were compared with lately, in this epoch.", number(all.compared)),
            ("relays_agreeing", None, "Of those, how many have the same usable relays.", number(all.agreeing)),
            ("neighbours", None, "Relays that this one talks to of its own accord.", number(all.neighbours)),
            ("links", None, "Links to other relays that are open for new circuits.", number(all.links)),
            ("circuits", None, "Circuits that go through the relay.", number(all.circuits)),
            ("circuits_limit", None, "Circuits that may go through it at once.", circuits_limit),
            ("memory", bytes(), "What circuits hold because somebody does not read.", memory_bytes),
            ("memory_limit", bytes(), "What they may hold before circuits are closed.", memory_limit_bytes),
        ];
        gauges.extend(all.mailboxes.iter().flat_map(|of| {
            [
                ("mailboxes_limit", bytes(), "What mailboxes may have of the disk.", of.size_bytes),
                ("mailboxes_deposited", bytes(), "What was deposited, as it is reckoned.", of.deposited_bytes),
                ("mailboxes_repaired", bytes(), "What came from other replicas.", of.repaired_bytes),
                ("mailboxes_tombstones", bytes(), "What says that letters are deleted.", of.tombstones_bytes),
            ]
        }));
        gauges
    }

    fn encode_letters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(of) = &self.0.mailboxes else { return Ok(()) };
        let help = "Letters that came to the mailboxes, by what became of them.";
        let mut family = encoder.encode_descriptor("letters", help, None, MetricType::Counter)?;
        let ways = [("accepted", of.accepted), ("refused", of.refused), ("repaired", of.repaired)];
        ways.into_iter()
            .try_for_each(|(way, count)| ConstCounter::new(count).encode(family.encode_family(&[("way", way)])?))
    }

    fn encode_trouble(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 for each thing that is wrong, or keeps the relay from being listed, else 0.";
        let mut family = encoder.encode_descriptor("trouble", help, None, MetricType::Gauge)?;
        Trouble::NAMES.into_iter().try_for_each(|name| {
            let there = u64::from(self.0.trouble.contains_key(name));
            ConstGauge::new(there).encode(family.encode_family(&[("trouble", name)])?)
        })
    }

    fn encode_turned_away(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "What was turned away, by its cause.";
        let mut family = encoder.encode_descriptor("turned_away", help, None, MetricType::Counter)?;
        self.0.turned_away.iter().try_for_each(|(cause, times)| {
            ConstCounter::new(*times).encode(family.encode_family(&[("cause", cause.as_str())])?)
        })
    }
}

const PREFIX: &str = "trefoil";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests;
