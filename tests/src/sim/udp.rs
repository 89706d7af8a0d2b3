//! A UDP network in memory, with latency, jitter, loss, bottlenecks and cuts, all drawn from one seed.
//!
//! Under tokio's paused time and on one thread, the same seed gives the same packets at the same times: contents differ
//! (TLS draws its own randomness), sizes do not. Packets of one direction never overtake each other. Times are as
//! coarse as tokio's timer: 1 ms.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, Sleep, sleep_until};
use trefoil_protocol::crypto::blake3;

/// How packets fare from one address to another.
#[derive(Clone, Copy, Debug)]
pub struct LinkModel {
    /// Time that every packet takes, one way.
    pub delay: Duration,
    /// Most time that a packet takes beyond that; drawn evenly.
    pub jitter: Duration,
    /// Probability of losing a packet, 0 to 1.
    pub loss: f64,
    /// Where the rate is bounded; `None` for no bound.
    pub bottleneck: Option<Bottleneck>,
}

/// A rate, and the queue before it; packets that find it full are lost.
#[derive(Clone, Copy, Debug)]
pub struct Bottleneck {
    /// Bytes per second; not 0.
    pub rate: u64,
    /// Bytes that may wait.
    pub queue: u64,
}

impl LinkModel {
    /// Nothing lost, no bound, this time one way.
    pub fn with_delay(delay: Duration) -> Self {
        Self { delay, jitter: Duration::ZERO, loss: 0.0, bottleneck: None }
    }
}

/// What a network has carried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets sent.
    pub packets: u64,
    /// Bytes of UDP payload sent.
    pub bytes: u64,
    /// Packets lost: by chance, to full queues, to cuts, or sent to nobody.
    pub lost: u64,
}

/// What has come to a bottleneck that several senders share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// Packets that went through.
    pub packets: u64,
    /// Packets that found the queue full.
    pub dropped: u64,
    /// The time that all that went through waited in the queue.
    pub waited: Duration,
}

/// A packet as somebody on its way sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The sender.
    pub from: SocketAddr,
    /// The receiver.
    pub to: SocketAddr,
    /// The UDP payload.
    pub contents: Vec<u8>,
}

/// A network. A clone is the same network.
#[derive(Clone)]
pub struct SimNet(Arc<Mutex<State>>);

struct State {
    rng: StdRng,
    start: Instant,
    model: LinkModel,
    models: HashMap<(SocketAddr, SocketAddr), LinkModel>,
    directions: HashMap<(SocketAddr, SocketAddr), Direction>,
    narrows: HashMap<SocketAddr, Narrow>,
    sockets: HashMap<SocketAddr, Arc<Mutex<Inbox>>>,
    cut: HashSet<SocketAddr>,
    traffic: Traffic,
    digest: [u8; 32],
    seen: Option<Vec<Seen>>,
    sequence: u64,
}

/// What happened last from one address to another.
#[derive(Clone, Copy)]
struct Direction {
    /// When the bottleneck is free again.
    free: Instant,
    /// When the last packet arrives.
    last: Instant,
}

/// A bottleneck before an address, whoever sends there.
struct Narrow {
    bottleneck: Bottleneck,
    free: Instant,
    passed: Passed,
}

#[derive(Default)]
struct Inbox {
    packets: BinaryHeap<Reverse<Packet>>,
    timer: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
}

/// On its way; ordered by arrival, then by departure.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Instant,
    sequence: u64,
    from: SocketAddr,
    ecn: Option<u8>,
    contents: Vec<u8>,
}

struct SimSocket {
    net: SimNet,
    address: SocketAddr,
    inbox: Arc<Mutex<Inbox>>,
}

/// Packets above this many bytes of UDP payload are lost: Ethernet less IPv4 and UDP.
const MTU: usize = 1472;

impl SimNet {
    /// A network in which every pair of addresses has this model until told otherwise.
    pub fn new(seed: u64, model: LinkModel) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            start: Instant::now(),
            model,
            models: HashMap::new(),
            directions: HashMap::new(),
            narrows: HashMap::new(),
            sockets: HashMap::new(),
            cut: HashSet::new(),
            traffic: Traffic::default(),
            digest: [0; 32],
            seen: None,
            sequence: 0,
        })))
    }

    /// A socket at this address; one that was there before gets no more packets.
    pub fn socket(&self, address: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        let inbox = Arc::<Mutex<Inbox>>::default();
        self.state().sockets.insert(address, Arc::clone(&inbox));
        Arc::new(SimSocket { net: self.clone(), address, inbox })
    }

    /// Sets how packets fare between two addresses, both ways.
    pub fn set_link(&self, a: SocketAddr, b: SocketAddr, model: LinkModel) {
        self.state().models.extend([((a, b), model), ((b, a), model)]);
    }

    /// Puts a bottleneck before this address, which all who send there share.
    pub fn narrow(&self, address: SocketAddr, bottleneck: Bottleneck) {
        let narrow = Narrow { bottleneck, free: Instant::now(), passed: Passed::default() };
        self.state().narrows.insert(address, narrow);
    }

    /// What has come to the shared bottleneck before this address; nothing if there is none.
    pub fn passed(&self, address: SocketAddr) -> Passed {
        self.state().narrows.get(&address).map(|narrow| narrow.passed).unwrap_or_default()
    }

    /// Loses everything to and from this address, until healed. What is under way arrives.
    pub fn cut(&self, address: SocketAddr) {
        self.state().cut.insert(address);
    }

    /// Undoes a cut.
    pub fn heal(&self, address: SocketAddr) {
        self.state().cut.remove(&address);
    }

    /// What it has carried so far.
    pub fn traffic(&self) -> Traffic {
        self.state().traffic
    }

    /// A hash over time, size, sender and receiver of every packet sent so far.
    pub fn digest(&self) -> [u8; 32] {
        self.state().digest
    }

    /// All packets that were sent since the last time; from the first time on they are kept.
    pub fn watch(&self) -> Vec<Seen> {
        self.state().seen.replace(Vec::new()).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("a test that panicked is over")
    }

    fn send(&self, from: SocketAddr, transmit: &Transmit<'_>) {
        let now = Instant::now();
        let (packet, inbox) = {
            let mut state = self.state();
            state.record(now, from, transmit);
            let Some(at) = state.arrival(now, from, transmit) else {
                state.traffic.lost += 1;
                return;
            };
            let ecn = transmit.ecn.map(|ecn| ecn as u8);
            let packet = Packet { at, sequence: state.sequence, from, ecn, contents: transmit.contents.to_vec() };
            (packet, state.sockets.get(&transmit.destination).map(Arc::clone))
        };
        if let Some(inbox) = inbox {
            inbox.lock().expect("a test that panicked is over").put(packet);
        }
    }
}

impl State {
    fn record(&mut self, now: Instant, from: SocketAddr, transmit: &Transmit<'_>) {
        let size = transmit.contents.len();
        let line = format!("{} {size} {from} {}", (now - self.start).as_nanos(), transmit.destination);
        self.digest = blake3(&[&self.digest, line.as_bytes()]);
        if let Some(seen) = &mut self.seen {
            seen.push(Seen { from, to: transmit.destination, contents: transmit.contents.to_vec() });
        }
        self.traffic.packets += 1;
        self.traffic.bytes += size as u64;
        self.sequence += 1;
    }

    /// When a packet that is sent now arrives; `None` if it does not.
    fn arrival(&mut self, now: Instant, from: SocketAddr, transmit: &Transmit<'_>) -> Option<Instant> {
        let to = transmit.destination;
        let size = transmit.contents.len();
        let model = self.models.get(&(from, to)).copied().unwrap_or(self.model);
        let lost = self.rng.random_bool(model.loss);
        let jitter = model.jitter.mul_f64(self.rng.random_range(0.0..=1.0));
        let unreachable = self.cut.contains(&from) || self.cut.contains(&to) || !self.sockets.contains_key(&to);
        if lost || unreachable || size > MTU {
            return None;
        }
        let direction = self.directions.entry((from, to)).or_insert(Direction { free: now, last: now });
        let mut sent = match model.bottleneck {
            Some(bottleneck) => bottleneck.queue(&mut direction.free, now, size as u64)?,
            None => now,
        };
        if let Some(narrow) = self.narrows.get_mut(&to) {
            sent = narrow.queue(sent, size as u64)?;
        }
        direction.last = direction.last.max(sent + model.delay + jitter);
        Some(direction.last)
    }
}

impl Bottleneck {
    /// When the last bit is through, and when it is `free` again; `None` if the queue is full.
    fn queue(&self, free: &mut Instant, now: Instant, size: u64) -> Option<Instant> {
        let time = |bytes: u64| Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let start = (*free).max(now);
        if start - now > time(self.queue) {
            return None;
        }
        *free = start + time(size);
        Some(*free)
    }
}

impl Narrow {
    fn queue(&mut self, now: Instant, size: u64) -> Option<Instant> {
        let waits = self.free.saturating_duration_since(now);
        let Some(sent) = self.bottleneck.queue(&mut self.free, now, size) else {
            self.passed.dropped += 1;
            return None;
        };
        self.passed.packets += 1;
        self.passed.waited += waits;
        Some(sent)
    }
}

impl Inbox {
    fn put(&mut self, packet: Packet) {
        self.packets.push(Reverse(packet));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn take_arrived(&mut self, now: Instant) -> Option<Packet> {
        let arrived = self.packets.peek().is_some_and(|Reverse(packet)| packet.at <= now);
        arrived.then(|| self.packets.pop()).flatten().map(|Reverse(packet)| packet)
    }

    /// Whether the next packet has arrived; else the task is woken when it does, or when one is put.
    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker = Some(cx.waker().clone());
        let Some(Reverse(next)) = self.packets.peek() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next.at)));
        timer.as_mut().reset(next.at);
        timer.as_mut().poll(cx)
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.net.send(self.address, transmit);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().expect("a test that panicked is over");
        loop {
            let mut count = 0;
            for (buffer, meta) in buffers.iter_mut().zip(meta.iter_mut()) {
                let Some(packet) = inbox.take_arrived(Instant::now()) else { break };
                *meta = packet.deliver(buffer);
                count += 1;
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            std::task::ready!(inbox.poll_arrival(cx));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Packet {
    fn deliver(&self, buffer: &mut [u8]) -> RecvMeta {
        let length = self.contents.len();
        buffer[..length].copy_from_slice(&self.contents);
        let mut meta = RecvMeta::default();
        (meta.addr, meta.len, meta.stride) = (self.from, length, length);
        meta.ecn = self.ecn.and_then(EcnCodepoint::from_bits);
        meta
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket at {}", self.address)
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
