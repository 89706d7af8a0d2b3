//! A relay made by hand: each circuit that reaches it gets what a test wants.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use trefoil_protocol::{
    cell::{self, Create, Refusal},
    handshake::{self, Peer},
    limits::CELL,
    message::Message,
    onion::{self, Addressee, BackwardLayer, Cell, ForwardLayer},
    params::NetworkId,
};
use trefoil_relay::{cells::Circuit, endpoint::LinkIdentity, link::Link, opened::Arrival, reason::CloseReason};

use super::{
    nodes::{SimNetwork, relay_address, secrets},
    origin::one,
};

/// What becomes of one circuit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// It is refused.
    Refuse(Refusal),
    /// It is refused, but not at once.
    RefuseAfter(Refusal, Duration),
    /// A cell comes that is no `Created`.
    Garbage,
    /// It is reset.
    Reset,
    /// It ends in order, without an answer.
    Finish,
    /// Nothing comes.
    Silence,
    /// It is made, and all that comes is answered with padding.
    Serve,
}

/// See the file's head.
struct Hop {
    network: NetworkId,
    number: u8,
    acts: Box<dyn Fn() -> Act + Send + Sync>,
}

/// Plays the relay of this number; the next circuit gets the next act.
pub(super) fn play(network: &SimNetwork, number: u8, acts: impl Fn() -> Act + Send + Sync + 'static) {
    let identity = LinkIdentity::Relay(Arc::new(secrets(number).0));
    let endpoint = network.endpoint(relay_address(number), identity);
    let hop = Arc::new(Hop { network: network.params().id(), number, acts: Box::new(acts) });
    tokio::spawn(async move {
        while let Some(arriving) = endpoint.accept().await {
            let link = arriving.finish().await.unwrap();
            link.trust();
            tokio::spawn(Arc::clone(&hop).serve_link(link));
        }
    });
}

impl Hop {
    async fn serve_link(self: Arc<Self>, link: Link) {
        while let Ok(opened) = link.accept().await {
            if let Ok(Arrival::Circuit(circuit, first)) = opened.arrive().await {
                tokio::spawn(Arc::clone(&self).serve(circuit, first));
            }
        }
    }

    async fn serve(self: Arc<Self>, mut circuit: Circuit, first: BytesMut) {
        match (self.acts)() {
            Act::Refuse(refusal) => refuse(circuit, refusal).await,
            Act::RefuseAfter(refusal, time) => {
                sleep(time).await;
                refuse(circuit, refusal).await;
            }
            Act::Garbage => {
                circuit.writer.write(one(&[0x55; CELL])).await.unwrap();
                circuit.reader.closed().await;
            }
            Act::Reset => circuit.close(CloseReason::Internal),
            Act::Finish => circuit.writer.finish().await.unwrap(),
            Act::Silence => drop(circuit.reader.closed().await),
            Act::Serve => self.be_a_hop(circuit, &first.as_ref().try_into().unwrap()).await,
        }
    }

    async fn be_a_hop(&self, mut circuit: Circuit, first: &Cell) {
        let (identity, onion) = secrets(self.number);
        let peer = Peer { network: self.network, relay: identity.id(), onion: onion.public() };
        let create = Create::from_cell(first).unwrap();
        let (created, keys) = handshake::respond(&peer, &onion, &create, &mut StdRng::seed_from_u64(1)).unwrap();
        circuit.writer.write(one(&cell::created_cell(&created))).await.unwrap();
        let (mut forward, mut backward) = (ForwardLayer::new(keys.forward), BackwardLayer::new(keys.backward));
        while let Ok(mut cells) = circuit.reader.cells().await {
            for cell in cells.as_chunks_mut::<CELL>().0 {
                assert_eq!(forward.open(cell), Ok(Addressee::ThisHop));
                Message::Padding.encode(onion::message_mut(cell));
                backward.speak(cell);
                circuit.writer.write(one(cell)).await.unwrap();
            }
        }
    }
}

/// That the peer has gone by then is no harm.
async fn refuse(mut circuit: Circuit, refusal: Refusal) {
    if circuit.writer.write(one(&cell::refusal_cell(refusal))).await.is_ok() {
        let _ = circuit.writer.finish().await;
    }
}
