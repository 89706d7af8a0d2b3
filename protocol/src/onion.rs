//! Onion layers: how one message crosses up to six relays so that each sees only its own layer.
//!
//! Specification: docs/protocol.md, "Onion layers". A cell is `tag 16 ‖ sealed(kind 1 ‖ inner 2031)`; each hop's
//! ChaCha20-Poly1305 covers all of it. `kind` says for whom: 0 = pass `inner` on, 1 = `inner` begins with a message.
//!
//! ```text
//! forward    origin seals for hop k, then k-1 … 0     a hop opens;  0: drops 17 in front, adds 17 zeros behind
//! backward   the speaker seals its message            a hop seals:  drops 17 behind, puts 17 in front
//! ```
//!
//! A hop that passes a cell on would lengthen or shorten it by a layer; what it adds (forward) or drops (backward) is
//! foreseen by the origin, because it is keystream over zeros: the *zero fill*, as in Sphinx headers. So every byte is
//! authenticated at every hop. This file never looks into messages, and never closes anything: it returns errors.

#![expect(clippy::indexing_slicing, reason = "a cell has one size, and hops are counted by us: no index is a peer's")]

use rand::CryptoRng;

use crate::{
    crypto::{Forged, LayerKey, Secret},
    limits::{CELL, LAYER, MAX_HOPS, MESSAGE, TAG},
};

/// A cell's bytes.
pub type Cell = [u8; CELL];

/// Where the kind byte stands in an opened cell.
const KIND: usize = TAG;
/// Where the message stands in an opened cell.
const SPACE: std::ops::Range<usize> = LAYER..LAYER + MESSAGE;
/// What is behind the message: random bytes and zero fill forward, zeros backward.
const FILL: std::ops::Range<usize> = SPACE.end..CELL;

const PASS_ON: u8 = 0;
const MESSAGE_HERE: u8 = 1;

/// The message's place in a cell that is about to be sealed, or has been opened here.
pub fn message(cell: &Cell) -> &[u8] {
    &cell[SPACE]
}

/// [`message`], to write into.
pub fn message_mut(cell: &mut Cell) -> &mut [u8] {
    &mut cell[SPACE]
}

/// Why a hop or the origin cannot go on with a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// A layer's tag does not fit. `hop` counts from 0 at the guard; a hop always says 0 of itself.
    ///
    /// At the origin it says of where the cell was changed only that it was beyond hop `hop` - 1, and not how far.
    #[error("a cell was changed on its way: layer {hop} does not open")]
    Forged {
        /// The hop whose layer did not open.
        hop: usize,
    },
    /// The kind byte is neither 0 nor 1, or nobody on the circuit says that it spoke.
    #[error("a cell of unknown kind")]
    Kind,
    /// A speaker put something else than zeros behind its message.
    #[error("a cell's fill is not zero")]
    Fill,
}

/// For whom a cell is that a hop has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// For this hop: [`message`] holds the message.
    ThisHop,
    /// For one further on: the cell is ready to be sent there.
    NextHop,
}

/// A hop's layer from the origin: opens.
pub struct ForwardLayer(LayerKey);

impl ForwardLayer {
    /// The layer of a new circuit's `forward` key.
    pub fn new(key: Secret) -> Self {
        Self(LayerKey::new(key))
    }

    /// Opens this hop's layer, in place.
    ///
    /// # Errors
    /// [`LayerError::Forged`] or [`LayerError::Kind`]: the circuit must close.
    pub fn open(&mut self, cell: &mut Cell) -> Result<Addressee, LayerError> {
        self.0.open(cell).map_err(|Forged| LayerError::Forged { hop: 0 })?;
        match cell[KIND] {
            MESSAGE_HERE => Ok(Addressee::ThisHop),
            PASS_ON => {
                strip_layer(cell, &[0; LAYER]);
                Ok(Addressee::NextHop)
            }
            _ => Err(LayerError::Kind),
        }
    }
}

/// A hop's layer towards the origin: seals.
pub struct BackwardLayer(LayerKey);

impl BackwardLayer {
    /// The layer of a new circuit's `backward` key.
    pub fn new(key: Secret) -> Self {
        Self(LayerKey::new(key))
    }

    /// Seals this hop's own message, which stands in [`message_mut`].
    pub fn speak(&mut self, cell: &mut Cell) {
        cell[KIND] = MESSAGE_HERE;
        cell[FILL].fill(0);
        self.0.seal(cell);
    }

    /// Seals a cell that came from further on.
    pub fn pass_on(&mut self, cell: &mut Cell) {
        add_layer(cell, &mut self.0);
    }
}

/// The origin's layers towards the hops: seals.
#[derive(Default)]
pub struct ForwardLayers(Vec<LayerKey>);

impl ForwardLayers {
    /// Adds the next hop's `forward` key. A circuit has at most [`MAX_HOPS`].
    pub fn push(&mut self, key: Secret) {
        assert!(self.0.len() < MAX_HOPS, "the caller counts hops");
        self.0.push(LayerKey::new(key));
    }

    /// Seals the message in [`message_mut`] for `hop`, 0 being the guard.
    ///
    /// # Panics
    /// If there is no such hop.
    pub fn seal(&mut self, hop: usize, cell: &mut Cell, rng: &mut impl CryptoRng) {
        let layers = &mut self.0[..=hop];
        let fill = zero_fill(layers);
        let fill = &fill[..LAYER * layers.len()];
        let random = FILL.start..CELL - fill.len();
        rng.fill_bytes(&mut cell[random.clone()]); // else a later hop would see zeros and know its position
        cell[random.end..].copy_from_slice(fill);

        cell[KIND] = MESSAGE_HERE;
        layers[hop].seal(cell);
        for layer in layers[..hop].iter_mut().rev() {
            add_layer(cell, layer);
        }
    }
}

/// What the last 17·n bytes of the plaintext must be at the last of n hops, so that the cell that each hop receives
/// ends in the 17 zeros that the hop before it adds (the first receives them from the origin).
fn zero_fill(layers: &[LayerKey]) -> [u8; LAYER * MAX_HOPS] {
    let mut fill = [0; LAYER * MAX_HOPS];
    for (index, layer) in layers.iter().enumerate() {
        let length = LAYER * (index + 1);
        layer.keystream(CELL - length, &mut fill[..length]);
    }
    fill
}

/// The origin's layers from the hops: opens.
#[derive(Default)]
pub struct BackwardLayers(Vec<LayerKey>);

impl BackwardLayers {
    /// Adds the next hop's `backward` key. A circuit has at most [`MAX_HOPS`].
    pub fn push(&mut self, key: Secret) {
        assert!(self.0.len() < MAX_HOPS, "the caller counts hops");
        self.0.push(LayerKey::new(key));
    }

    /// Opens all layers, in place, and says which hop spoke; [`message`] then holds what it said.
    ///
    /// # Errors
    /// Any: the circuit must close. None proves which relay did harm.
    pub fn open(&mut self, cell: &mut Cell) -> Result<usize, LayerError> {
        let speaker = self.find_speaker(cell)?;
        let dropped = self.dropped_bytes(speaker);
        for (hop, layer) in self.0[..=speaker].iter_mut().enumerate() {
            if hop > 0 {
                strip_layer(cell, &dropped[hop]);
            }
            layer.open(cell).map_err(|Forged| LayerError::Forged { hop })?;
        }
        if cell[FILL].iter().any(|byte| *byte != 0) {
            return Err(LayerError::Fill);
        }
        Ok(speaker)
    }

    /// Deciphers the kind bytes alone. They are not authentic yet; opening the layers makes them so.
    fn find_speaker(&self, cell: &Cell) -> Result<usize, LayerError> {
        let mut kinds = [0; LAYER * MAX_HOPS];
        kinds.copy_from_slice(&cell[KIND..KIND + LAYER * MAX_HOPS]);
        for (hop, layer) in self.0.iter().enumerate() {
            let inner = &mut kinds[LAYER * hop..LAYER * self.0.len()];
            layer.keystream(KIND, inner);
            match inner[0] {
                MESSAGE_HERE => return Ok(hop),
                PASS_ON => {}
                _ => break,
            }
        }
        Err(LayerError::Kind)
    }

    /// For each hop up to the speaker, the last bytes of the cell that it sent, which the hop before it dropped: what
    /// became of the speaker's zeros.
    fn dropped_bytes(&self, speaker: usize) -> [[u8; LAYER]; MAX_HOPS] {
        let mut dropped = [[0; LAYER]; MAX_HOPS];
        let mut tail = [0; LAYER * MAX_HOPS];
        for hop in (1..=speaker).rev() {
            let (kept, last) = (LAYER * (hop - 1), LAYER * hop);
            self.0[hop].keystream(CELL - last, &mut tail[..last]);
            dropped[hop].copy_from_slice(&tail[kept..last]);
        }
        dropped
    }
}

/// Takes the tag and kind off the front of an opened cell and makes it whole again with `behind`.
fn strip_layer(cell: &mut Cell, behind: &[u8; LAYER]) {
    cell.copy_within(LAYER.., 0);
    cell[CELL - LAYER..].copy_from_slice(behind);
}

/// Makes room in front by dropping what is behind, and seals.
fn add_layer(cell: &mut Cell, layer: &mut LayerKey) {
    cell.copy_within(..CELL - LAYER, LAYER);
    cell[KIND] = PASS_ON;
    layer.seal(cell);
}

#[cfg(test)]
mod tests;
