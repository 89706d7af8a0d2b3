//! Looks: asks relays whether they are where they say, and answers those who ask, on the socket of the links.
//!
//! Specification: docs/protocol.md, "Looks". A look is two small packets beside QUIC's, which never sees them. An answer
//! is shorter than its question, and their rate has a bound: a flood of questions costs a tenth of a core, and makes
//! others dial instead. Nothing is believed that the relay has not signed.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use trefoil_protocol::{
    identity::{RelayId, RelaySecret},
    limits::{LOOK_PATIENCE, LOOKS_ANSWERED, LOOKS_WAITING},
    look::{ANSWER, AnswerTag, Look, QUESTION},
    params::NetworkId,
};

use crate::{endpoint::canonical, seed};

/// A relay's socket, which takes looks out of what it receives.
pub(crate) struct Looks {
    socket: Arc<dyn AsyncUdpSocket>,
    network: NetworkId,
    secret: Arc<RelaySecret>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Who waits for an answer from where.
    waiting: BTreeMap<Awaited, oneshot::Sender<[u8; ANSWER]>>,
    /// When this second began, and how many questions were answered in it.
    answered: Option<(Instant, u32)>,
}

/// The answer that is waited for.
type Awaited = (SocketAddr, AnswerTag);

/// A place among those who wait.
struct Place<'a> {
    looks: &'a Looks,
    awaited: Awaited,
}

impl Looks {
    /// Looks for others, and answers as this relay, on this socket.
    pub(crate) fn new(socket: Arc<dyn AsyncUdpSocket>, network: NetworkId, secret: Arc<RelaySecret>) -> Self {
        Self { socket, network, secret, inner: Mutex::default() }
    }

    /// Whether this relay said that it is at this address; `false` also where too many looks are under way. A packet
    /// may be lost, and a relay that is asked too much does not answer, so this is no proof that it is not there.
    pub(crate) async fn look(&self, relay: RelayId, address: SocketAddr) -> bool {
        let mut rng = StdRng::from_seed(seed::seed());
        let look = Look::new(self.network, relay, &mut rng);
        let awaited = (canonical(address), look.answer_tag());
        let Some((_place, mut answer)) = self.wait(awaited) else { return false };
        let question = look.question(&mut rng);
        for patience in LOOK_PATIENCE {
            self.send(address, &question);
            if let Ok(Ok(answer)) = timeout(patience, &mut answer).await {
                return look.is_answered_by(&answer);
            }
        }
        false
    }

    fn wait(&self, awaited: Awaited) -> Option<(Place<'_>, oneshot::Receiver<[u8; ANSWER]>)> {
        let (sender, answer) = oneshot::channel();
        let mut inner = self.lock();
        if inner.waiting.len() >= LOOKS_WAITING {
            return None;
        }
        inner.waiting.insert(awaited, sender);
        Some((Place { looks: self, awaited }, answer))
    }

    /// What cannot be sent now is lost, as it could be on its way.
    fn send(&self, to: SocketAddr, packet: &[u8]) {
        let Some(destination) = self.destination(to) else { return };
        let transmit = Transmit { destination, ecn: None, contents: packet, segment_size: None, src_ip: None };
        let _lost = self.socket.try_send(&transmit);
    }

    /// The address as this socket writes it; `None` if it reaches none of that kind.
    fn destination(&self, address: SocketAddr) -> Option<SocketAddr> {
        let is_v6 = self.socket.local_addr().is_ok_and(|local| local.is_ipv6());
        match address.ip() {
            IpAddr::V4(ip) if is_v6 => Some(SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())),
            IpAddr::V6(_) if !is_v6 => None,
            _ => Some(address),
        }
    }

    /// Cuts what belongs to looks off the end of what came in one piece.
    fn take(&self, buffer: &[u8], meta: &mut RecvMeta) {
        while let Some(last) = last_packet(buffer, meta)
            && self.handle(last, meta.addr)
        {
            meta.len -= last.len();
        }
    }

    /// Whether this packet is one of a look.
    fn handle(&self, packet: &[u8], from: SocketAddr) -> bool {
        match packet.len() {
            QUESTION => self.handle_question(packet, from),
            ANSWER => packet.try_into().is_ok_and(|answer| self.handle_answer(answer, from)),
            _ => false,
        }
    }

    fn handle_question(&self, packet: &[u8], from: SocketAddr) -> bool {
        let Some(look) = Look::asked(packet, &self.network, &self.secret.id()) else { return false };
        if self.lock().may_answer(Instant::now()) {
            self.send(from, &look.answer(&self.secret));
        }
        true
    }

    fn handle_answer(&self, answer: &[u8; ANSWER], from: SocketAddr) -> bool {
        let awaited = (canonical(from), AnswerTag::of(answer));
        let Some(waiting) = self.lock().waiting.remove(&awaited) else { return false };
        let _nobody_waits_any_more = waiting.send(*answer);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner) // each change is one call
    }
}

impl Inner {
    fn may_answer(&mut self, now: Instant) -> bool {
        let (_, count) = match &mut self.answered {
            Some(window) if now < window.0 + Duration::from_secs(1) => window,
            other => other.insert((now, 0)),
        };
        *count += 1;
        *count <= LOOKS_ANSWERED
    }
}

/// Of packets that the system put together all but the last are of one size.
fn last_packet<'a>(buffer: &'a [u8], meta: &RecvMeta) -> Option<&'a [u8]> {
    let length = meta.len.checked_sub(1)? % meta.stride.max(1) + 1;
    buffer.get(meta.len - length..meta.len)
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.looks.lock().waiting.remove(&self.awaited);
    }
}

impl AsyncUdpSocket for Looks {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.socket.poll_recv(cx, buffers, meta))?;
        for (buffer, meta) in buffers.iter().zip(meta).take(received) {
            self.take(buffer, meta);
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl fmt::Debug for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Looks on {:?}", self.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(length: usize, stride: usize) -> Option<usize> {
        let mut meta = RecvMeta::default();
        (meta.len, meta.stride) = (length, stride);
        last_packet(&[0; 3000], &meta).map(<[u8]>::len)
    }

    #[test]
    fn of_packets_that_came_in_one_piece_the_last_is_found() {
        let pieces = [(96, 96), (192, 96), (1200 + 96, 1200), (100, 96), (1, 1), (0, 96), (0, 0), (5, 0), (4000, 96)];
        let found = pieces.map(|(length, stride)| last(length, stride));
        let expected = [Some(96), Some(96), Some(96), Some(4), Some(1), None, None, Some(1), None];
        assert_eq!(found, expected);
    }
}
