//! Links that send all they can over one line: what each gets, and what they do to the line.
//!
//! Every flow is a link of its own from a host of its own, with the production code on both ends. They share the
//! bottleneck before the receiver.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};
use trefoil_protocol::{identity::RelaySecret, limits::CELL};
use trefoil_relay::{
    cells::Circuit,
    endpoint::{Congestion, Endpoint, LinkIdentity, LinkOptions},
    link::Link,
    opened::Arrival,
    sources::Loopback,
};

use super::udp::{Bottleneck, LinkModel, Passed, SimNet};

/// A line: its bottleneck, time and losses.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Bytes per second.
    pub rate: u64,
    /// The queue before the bottleneck: how long a packet waits that finds it nearly full.
    pub queue: Duration,
    /// Time one way.
    pub delay: Duration,
    /// The most that it varies.
    pub jitter: Duration,
    /// Probability of losing a packet on its way, both ways.
    pub loss: f64,
}

/// When flows begin, and when they are measured.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the beginning of one flow to that of the next.
    pub apart: Duration,
    /// From the beginning of the last to that of the measurement.
    pub settle: Duration,
    /// How long is measured.
    pub measured: Duration,
}

/// What happened while it was measured.
#[derive(Clone, Debug)]
pub struct Shares {
    /// What each flow got, in bytes per second, in the order in which they began.
    pub rates: Vec<f64>,
    /// Mean time in the queue.
    pub wait: Duration,
    /// Which part of all packets that came to the queue found it full.
    pub dropped: f64,
}

/// One end of a flow.
struct Flow {
    received: Arc<AtomicU64>,
    _link: Link,
}

/// Circuits of a flow: enough that their windows never bound it.
const CIRCUITS: usize = 6;
/// Cells written at once.
const PIECE: usize = 16;
const RECEIVER: u8 = 1;

/// Starts these flows one after the other, and measures them.
pub fn share(seed: u64, line: Line, flows: &[Congestion], times: Times) -> Shares {
    run(async {
        let (net, receiver) = start(seed, line);
        let mut running = Vec::new();
        for (number, congestion) in flows.iter().enumerate() {
            if number > 0 {
                sleep(times.apart).await;
            }
            running.push(flow(&net, &receiver, number, *congestion).await);
        }
        sleep(times.settle).await;
        let (before, passed) = (received(&running), net.passed(address(RECEIVER)));
        sleep(times.measured).await;
        let after = received(&running);
        let rates =
            before.iter().zip(after).map(|(before, after)| (after - before) as f64 / times.measured.as_secs_f64());
        Shares { rates: rates.collect(), ..Shares::between(passed, net.passed(address(RECEIVER))) }
    })
}

/// How long one new link takes for so many bytes, its handshake not counted.
pub fn transfer(seed: u64, line: Line, congestion: Congestion, bytes: u64) -> Duration {
    run(async {
        let (net, receiver) = start(seed, line);
        let began = Instant::now() + line.delay * 2;
        let flow = flow(&net, &receiver, 0, congestion).await;
        while flow.received.load(Relaxed) < bytes {
            sleep(Duration::from_millis(1)).await;
        }
        began.elapsed()
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime of one thread needs nothing").block_on(future)
}

fn start(seed: u64, line: Line) -> (SimNet, Endpoint) {
    let model = LinkModel { jitter: line.jitter, loss: line.loss, ..LinkModel::with_delay(line.delay) };
    let net = SimNet::new(seed, model);
    let queue = line.rate * u64::from(line.queue.subsec_micros()) / 1_000_000;
    net.narrow(address(RECEIVER), Bottleneck { rate: line.rate, queue });
    let receiver = endpoint(&net, RECEIVER, Congestion::Cubic);
    (net, receiver)
}

async fn flow(net: &SimNet, receiver: &Endpoint, number: usize, congestion: Congestion) -> Flow {
    let node = u8::try_from(number).expect("a few flows") + RECEIVER + 1;
    let sender = endpoint(net, node, congestion);
    let accept = async { receiver.accept().await.expect("it is open").finish().await };
    let (dialled, accepted) = tokio::join!(sender.dial(secret(RECEIVER).id(), address(RECEIVER)), accept);
    let (dialled, accepted) = (dialled.expect("somebody listens"), accepted.expect("they are of one network"));
    let received = Arc::<AtomicU64>::default();
    for _ in 0..CIRCUITS {
        tokio::spawn(send(dialled.open_circuit().await.expect("a relay may open some")));
    }
    tokio::spawn(receive(accepted, Arc::clone(&received)));
    Flow { received, _link: dialled }
}

async fn send(mut circuit: Circuit) {
    loop {
        let piece = Bytes::from(vec![1; PIECE * CELL]);
        if circuit.writer.write(piece).await.is_err() {
            return;
        }
    }
}

async fn receive(link: Link, received: Arc<AtomicU64>) {
    while let Ok(opened) = link.accept().await {
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            let Ok(Arrival::Circuit(mut circuit, _)) = opened.arrive().await else { return };
            while let Ok(cells) = circuit.reader.cells().await {
                received.fetch_add(cells.len() as u64, Relaxed);
            }
        });
    }
}

fn received(flows: &[Flow]) -> Vec<u64> {
    flows.iter().map(|flow| flow.received.load(Relaxed)).collect()
}

fn endpoint(net: &SimNet, node: u8, congestion: Congestion) -> Endpoint {
    let identity = LinkIdentity::Relay(Arc::new(secret(node)));
    let options = LinkOptions { identity, network: [1; 32], congestion, loopback: Loopback::Exempt };
    Endpoint::over(net.socket(address(node)), &options, Some([node; 32])).expect("a simulated socket has an address")
}

fn address(node: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node], 9000))
}

fn secret(node: u8) -> RelaySecret {
    RelaySecret::generate(&mut StdRng::seed_from_u64(node.into()))
}

impl Shares {
    fn between(before: Passed, after: Passed) -> Self {
        let packets = after.packets - before.packets;
        let dropped = after.dropped - before.dropped;
        Self {
            rates: Vec::new(),
            wait: (after.waited - before.waited).div_f64(packets.max(1) as f64),
            dropped: dropped as f64 / (packets + dropped).max(1) as f64,
        }
    }
}
