//! An origin made by hand from the protocol's parts, which says whatever a test wants it to.

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    cell::{self, Refusal},
    entry::RelayEntry,
    handshake::{CircuitKeys, OriginHandshake, Peer},
    identity::RelayId,
    limits::CELL,
    message::{ExtendError, Message},
    onion::{self, BackwardLayers, Cell, ForwardLayers},
    params::NetworkId,
    puzzle::Puzzle,
};
use trefoil_relay::{
    cells::{CellError, CellReader, CellWriter},
    link::Link,
    reason::CloseReason,
};

/// See the file's head.
pub(super) struct Origin {
    pub(super) reader: CellReader,
    pub(super) writer: CellWriter,
    /// What it solves for a further hop.
    pub(super) puzzle: Puzzle,
    network: NetworkId,
    forward: ForwardLayers,
    backward: BackwardLayers,
    hops: usize,
    rng: StdRng,
}

/// A hop's message, as far as tests look into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Extended(Vec<u8>),
    NotExtended(ExtendError),
    Padding,
    Other,
}

impl Origin {
    /// A circuit of one hop.
    pub(super) async fn create(link: &Link, network: NetworkId, guard: &RelayEntry) -> Result<Self, Refusal> {
        let mut rng = StdRng::seed_from_u64(1);
        let handshake = OriginHandshake::start(peer(network, guard), Puzzle::NONE, &mut rng);
        let mut circuit = link.open_circuit().await.unwrap();
        circuit.writer.write(one(&cell::create_cell(handshake.create()))).await.unwrap();
        let answer = circuit.reader.cells().await.unwrap();
        let keys = handshake.finish(cell::read_created(&answer.as_ref().try_into().unwrap()).unwrap()?).unwrap();
        let (forward, backward) = (ForwardLayers::default(), BackwardLayers::default());
        let (reader, writer) = (circuit.reader, circuit.writer);
        let puzzle = Puzzle::NONE;
        let mut origin = Self { reader, writer, puzzle, network, forward, backward, hops: 0, rng };
        origin.push(keys);
        Ok(origin)
    }

    /// One hop more.
    pub(super) async fn extend(&mut self, relay: &RelayEntry) -> Result<(), ExtendError> {
        let handshake = self.handshake(relay);
        self.ask_for(relay.id, handshake.create()).await;
        match self.hear().await.unwrap() {
            (_, Heard::Extended(created)) => {
                self.push(handshake.finish(&created).unwrap());
                Ok(())
            }
            (_, Heard::NotExtended(error)) => Err(error),
            heard => panic!("{heard:?}"),
        }
    }

    /// The first half of a handshake with this relay.
    pub(super) fn handshake(&mut self, relay: &RelayEntry) -> OriginHandshake {
        OriginHandshake::start(peer(self.network, relay), self.puzzle, &mut self.rng)
    }

    /// Says `Extend` to the last hop.
    pub(super) async fn ask_for(&mut self, relay: RelayId, create: &[u8]) {
        self.say(&Message::Extend { relay, create }).await;
    }

    /// Says something to the last hop.
    pub(super) async fn say(&mut self, message: &Message<'_>) {
        let cell = self.seal(self.hops - 1, |space| message.encode(space));
        self.send(&cell).await;
    }

    /// A cell for this hop with whatever `write` puts into the message's space.
    pub(super) fn seal(&mut self, hop: usize, write: impl FnOnce(&mut [u8])) -> Cell {
        let mut cell = [0; CELL];
        write(onion::message_mut(&mut cell));
        self.forward.seal(hop, &mut cell, &mut self.rng);
        cell
    }

    /// Adds a layer for a hop that does not exist.
    pub(super) fn pretend_hop(&mut self) {
        let key = || zeroize::Zeroizing::new([9; 32]);
        self.forward.push(key());
        self.hops += 1;
    }

    /// Sends a cell; that the circuit was closed shows when reading.
    pub(super) async fn send(&mut self, cell: &Cell) {
        let _ = self.writer.write(one(cell)).await;
    }

    /// The next message and who said it.
    pub(super) async fn hear(&mut self) -> Result<(usize, Heard), CellError> {
        let cells = self.reader.cells().await?;
        let mut cell: Cell = cells.as_ref().try_into().expect("one message at a time");
        let hop = self.backward.open(&mut cell).expect("honest relays seal well");
        let heard = match Message::decode(onion::message(&cell)).expect("honest relays say messages") {
            Message::Extended { created } => Heard::Extended(created.to_vec()),
            Message::ExtendFailed(error) => Heard::NotExtended(error),
            Message::Padding => Heard::Padding,
            _ => Heard::Other,
        };
        Ok((hop, heard))
    }

    /// Whether the last hop still answers.
    pub(super) async fn is_alive(&mut self) -> bool {
        self.say(&Message::PadStart { budget: 1 }).await;
        matches!(self.hear().await, Ok((hop, Heard::Padding)) if hop == self.hops - 1)
    }

    /// The reason for which the relay has closed both halves.
    pub(super) async fn closed(&mut self) -> CloseReason {
        let read = loop {
            match self.reader.cells().await {
                Ok(_) => {}
                Err(CellError::Closed(reason)) => break reason,
                Err(error) => panic!("{error}"),
            }
        };
        match self.writer.write(one(&[0; CELL])).await {
            Err(CellError::Closed(written)) => assert_eq!(written, read, "both halves say the same"),
            written => panic!("{written:?}"),
        }
        read
    }

    fn push(&mut self, keys: CircuitKeys) {
        self.forward.push(keys.forward);
        self.backward.push(keys.backward);
        self.hops += 1;
    }
}

pub(super) fn one(cell: &Cell) -> Bytes {
    Bytes::copy_from_slice(cell)
}

fn peer(network: NetworkId, relay: &RelayEntry) -> Peer {
    Peer { network, relay: relay.id, onion: relay.onion_key }
}
