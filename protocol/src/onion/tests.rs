use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;

use super::*;
use crate::{
    limits::REKEY_CELLS,
    message::{Message, MessageError},
    vectors,
};

/// A circuit's origin and all its hops, with keys of their own.
struct Circuit {
    to_hops: ForwardLayers,
    from_hops: BackwardLayers,
    forward: Vec<ForwardLayer>,
    backward: Vec<BackwardLayer>,
    rng: StdRng,
}

impl Circuit {
    fn new(hops: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut circuit = Self {
            to_hops: ForwardLayers::default(),
            from_hops: BackwardLayers::default(),
            forward: Vec::new(),
            backward: Vec::new(),
            rng: StdRng::seed_from_u64(seed + 1),
        };
        for _ in 0..hops {
            let (forward, backward) = (Secret::new(rng.random()), Secret::new(rng.random()));
            circuit.to_hops.push(forward.clone());
            circuit.from_hops.push(backward.clone());
            circuit.forward.push(ForwardLayer::new(forward));
            circuit.backward.push(BackwardLayer::new(backward));
        }
        circuit
    }

    fn seal(&mut self, hop: usize, text: &[u8]) -> Cell {
        let mut cell = [0xee; CELL]; // what was in the buffer before must not matter
        message_mut(&mut cell).copy_from_slice(text);
        self.to_hops.seal(hop, &mut cell, &mut self.rng);
        cell
    }

    fn speak(&mut self, hop: usize, text: &[u8]) -> Cell {
        let mut cell = [0xee; CELL];
        message_mut(&mut cell).copy_from_slice(text);
        self.backward[hop].speak(&mut cell);
        cell
    }
}

fn text(seed: u64) -> Vec<u8> {
    let mut text = vec![0; MESSAGE];
    StdRng::seed_from_u64(seed).fill_bytes(&mut text);
    text
}

#[test]
fn any_hop_can_be_addressed() {
    for (hops, hop) in (1..=MAX_HOPS).flat_map(|hops| (0..hops).map(move |hop| (hops, hop))) {
        let mut circuit = Circuit::new(hops, 1);
        let text = text(2);
        let mut cell = circuit.seal(hop, &text);
        for before in 0..hop {
            assert_eq!(circuit.forward[before].open(&mut cell), Ok(Addressee::NextHop));
        }
        assert_eq!(circuit.forward[hop].open(&mut cell), Ok(Addressee::ThisHop));
        assert_eq!(message(&cell), text);
    }
}

#[test]
fn any_hop_can_speak() {
    for (hops, hop) in (1..=MAX_HOPS).flat_map(|hops| (0..hops).map(move |hop| (hops, hop))) {
        let mut circuit = Circuit::new(hops, 3);
        let text = text(4);
        let mut cell = circuit.speak(hop, &text);
        circuit.backward[..hop].iter_mut().rev().for_each(|layer| layer.pass_on(&mut cell));
        assert_eq!(circuit.from_hops.open(&mut cell), Ok(hop));
        assert_eq!(message(&cell), text);
    }
}

proptest! {
    #[test]
    fn cells_to_and_from_changing_hops_all_arrive(turns in prop::collection::vec((any::<bool>(), 0..MAX_HOPS), 1..40)) {
        let mut circuit = Circuit::new(MAX_HOPS, 5);
        for (number, (forward, hop)) in turns.into_iter().enumerate() {
            let text = text(number as u64);
            if forward {
                let mut cell = circuit.seal(hop, &text);
                for before in 0..hop {
                    prop_assert_eq!(circuit.forward[before].open(&mut cell), Ok(Addressee::NextHop));
                }
                prop_assert_eq!(circuit.forward[hop].open(&mut cell), Ok(Addressee::ThisHop));
                prop_assert_eq!(message(&cell), text);
            } else {
                let mut cell = circuit.speak(hop, &text);
                circuit.backward[..hop].iter_mut().rev().for_each(|layer| layer.pass_on(&mut cell));
                prop_assert_eq!(circuit.from_hops.open(&mut cell), Ok(hop));
                prop_assert_eq!(message(&cell), text);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_caught_at_the_next_honest_hop(hops in 1..=MAX_HOPS, at in 0..CELL * 8, crossed in 0..MAX_HOPS) {
        let crossed = crossed % hops; // hops before the flip
        let mut circuit = Circuit::new(hops, 6);
        let mut cell = circuit.seal(hops - 1, &text(7));
        for before in 0..crossed {
            circuit.forward[before].open(&mut cell).unwrap();
        }
        cell[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(circuit.forward[crossed].open(&mut cell), Err(LayerError::Forged { hop: 0 }));
    }

    #[test]
    fn a_flipped_bit_is_caught_at_the_origin_unless_a_hop_drops_it(
        hops in 1..=MAX_HOPS, at in 0..CELL * 8, flipper in 0..MAX_HOPS,
    ) {
        let flipper = flipper % hops; // the flip is between this hop and the one nearer to the origin
        let mut circuit = Circuit::new(hops, 8);
        let text = text(9);
        let mut cell = circuit.speak(hops - 1, &text);
        for hop in (0..hops).rev() {
            if hop < hops - 1 {
                circuit.backward[hop].pass_on(&mut cell);
            }
            if hop == flipper {
                cell[at / 8] ^= 1 << (at % 8);
            }
        }
        let dropped = flipper > 0 && at / 8 >= CELL - LAYER;
        let opened = circuit.from_hops.open(&mut cell);
        if dropped {
            prop_assert_eq!(opened, Ok(hops - 1));
            prop_assert_eq!(message(&cell), text);
        } else {
            prop_assert!(opened.is_err(), "{:?}", opened);
        }
    }
}

/// The most hops of a circuit of which every bit is flipped: a client's.
const USUAL_HOPS: usize = 3;

/// A cell that differs from this one in each bit in turn, and which.
fn flipped(cell: &Cell) -> impl Iterator<Item = (usize, Cell)> {
    (0..CELL * 8).map(|bit| {
        let mut changed = *cell;
        changed[bit / 8] ^= 1 << (bit % 8);
        (bit, changed)
    })
}

#[test]
fn every_single_bit_that_is_flipped_forward_is_caught_at_the_next_hop() {
    for (hops, crossed) in (1..=USUAL_HOPS).flat_map(|hops| (0..hops).map(move |crossed| (hops, crossed))) {
        let mut circuit = Circuit::new(hops, 20);
        let text = text(21);
        let mut cell = circuit.seal(hops - 1, &text);
        for before in 0..crossed {
            circuit.forward[before].open(&mut cell).unwrap();
        }
        let next = &mut circuit.forward[crossed];
        for (bit, mut changed) in flipped(&cell) {
            let opened = next.open(&mut changed);
            assert_eq!(opened, Err(LayerError::Forged { hop: 0 }), "bit {bit} before hop {crossed} of {hops}");
        }
        for layer in &mut circuit.forward[crossed..] {
            layer.open(&mut cell).unwrap();
        }
        assert_eq!(message(&cell), text, "unchanged it is opened, so it was the flip that was caught");
    }
}

/// What `speaker` of a circuit said, as it is on the link from hop `from` towards the origin; and the circuit's seed.
fn on_its_way_back(hops: usize, speaker: usize, from: usize, said: &[u8]) -> (Cell, u64) {
    let seed = 22;
    let mut circuit = Circuit::new(hops, seed);
    let mut cell = circuit.speak(speaker, said);
    circuit.backward[from..speaker].iter_mut().rev().for_each(|layer| layer.pass_on(&mut cell));
    (cell, seed)
}

#[test]
fn every_single_bit_that_is_flipped_backward_is_caught_at_the_origin_but_for_17_bytes_that_a_hop_drops() {
    let said = text(23);
    let places = (1..=USUAL_HOPS).flat_map(|hops| (0..hops).map(move |speaker| (hops, speaker)));
    for (hops, speaker, from) in places.flat_map(|(h, speaker)| (0..=speaker).map(move |from| (h, speaker, from))) {
        let (cell, seed) = on_its_way_back(hops, speaker, from, &said);
        for (bit, mut changed) in flipped(&cell) {
            let mut circuit = Circuit::new(hops, seed);
            circuit.backward[..from].iter_mut().rev().for_each(|layer| layer.pass_on(&mut changed));
            let opened = circuit.from_hops.open(&mut changed);
            let place = format!("bit {bit} behind hop {from}, said by hop {speaker} of {hops}: {opened:?}");
            let kind = (bit / 8).checked_sub(KIND).is_some_and(|at| at % LAYER == 0 && at / LAYER < hops - from);
            // The hop before `from` drops the last 17 bytes, for good. The one before that drops the next 17, when they
            // have been sealed again: the origin takes them for what they should be, and that layer does not fit.
            let block = (CELL - 1 - bit / 8) / LAYER;
            let dropped = from > 0 && block == 0;
            let blamed = if block < from { from - block } else { from };
            match opened {
                Ok(hop) => assert!(dropped && hop == speaker && message(&changed) == said, "{place}"),
                Err(LayerError::Forged { hop }) if kind => assert!(hop <= from, "{place}"),
                Err(LayerError::Forged { hop }) => assert!(!dropped && hop == blamed, "{place}"),
                Err(error) => assert!(kind && error == LayerError::Kind, "{place}"),
            }
        }
    }
}

/// Seals `text` for the last of these layers as [`ForwardLayers::seal`] does, but with no bound on their number.
fn seal_without_bound(layers: &mut [LayerKey], text: &[u8]) -> Cell {
    let mut fill = vec![];
    for (index, layer) in layers.iter().enumerate() {
        fill.resize(LAYER * (index + 1), 0);
        layer.keystream(CELL - fill.len(), &mut fill);
    }
    let mut cell = [0; CELL];
    message_mut(&mut cell).copy_from_slice(text);
    cell[CELL - fill.len()..].copy_from_slice(&fill);
    cell[KIND] = MESSAGE_HERE;
    let (last, before) = layers.split_last_mut().unwrap();
    last.seal(&mut cell);
    before.iter_mut().rev().for_each(|layer| add_layer(&mut cell, layer));
    cell
}

#[test]
fn a_seventh_hop_never_gets_a_message() {
    // The fill of seven layers reaches 17 bytes into the message's space, where a short message must have zeros.
    let mut padding = vec![0; MESSAGE];
    Message::Padding.encode(&mut padding);
    for hops in [MAX_HOPS, MAX_HOPS + 1] {
        let mut rng = StdRng::seed_from_u64(10);
        let keys: Vec<[u8; 32]> = (0..hops).map(|_| rng.random()).collect();
        let layers = || keys.iter().map(|key| LayerKey::new(Secret::new(*key)));
        let mut cell = seal_without_bound(&mut layers().collect::<Vec<_>>(), &padding);
        let opened: Vec<_> = layers().map(|layer| ForwardLayer(layer).open(&mut cell)).collect();
        assert_eq!(opened.last(), Some(&Ok(Addressee::ThisHop)));
        let expected = if hops > MAX_HOPS { Err(MessageError::Padding) } else { Ok(Message::Padding) };
        assert_eq!(Message::decode(message(&cell)), expected, "{hops} hops");
    }
}

#[test]
fn more_than_six_hops_cannot_be_pushed() {
    let mut layers = ForwardLayers::default();
    (0..MAX_HOPS).for_each(|_| layers.push(Secret::default()));
    assert!(std::panic::catch_unwind(move || layers.push(Secret::default())).is_err());
}

#[test]
fn every_hop_receives_a_cell_that_ends_in_17_zeros() {
    for hops in 1..=MAX_HOPS {
        let mut circuit = Circuit::new(hops, 11);
        let mut cell = circuit.seal(hops - 1, &text(12));
        for layer in &mut circuit.forward {
            assert_eq!(cell[CELL - LAYER..], [0; LAYER]);
            assert!(cell[CELL - 2 * LAYER..CELL - LAYER].iter().any(|byte| *byte != 0), "a second block of zeros");
            layer.open(&mut cell).unwrap();
        }
    }
}

#[test]
fn no_hop_after_the_first_can_tell_its_position_from_what_it_opens() {
    // What a hop sees when it opens a cell for the next: kind, then bytes that must look random wherever it stands.
    // Zeros that stand at the same place in many cells would tell. Over 64 cells no byte may be constant but the kind.
    for (hops, position) in (3..=MAX_HOPS).flat_map(|hops| (1..hops).map(move |position| (hops, position))) {
        let mut circuit = Circuit::new(hops, 13);
        let mut seen = vec![std::collections::BTreeSet::new(); CELL];
        for number in 0..64 {
            let mut cell = circuit.seal(hops - 1, &text(number));
            for before in 0..position {
                circuit.forward[before].open(&mut cell).unwrap();
            }
            circuit.forward[position].0.open(&mut cell).unwrap();
            seen.iter_mut().zip(cell).for_each(|(seen, byte)| {
                seen.insert(byte);
            });
        }
        let constant: Vec<usize> = (TAG..CELL).filter(|at| seen[*at].len() == 1).collect();
        assert_eq!(constant, [KIND], "at position {position} of {hops}");
    }
}

#[test]
fn the_addressee_cannot_tell_its_position_from_the_fill() {
    for position in 1..MAX_HOPS {
        let mut circuit = Circuit::new(MAX_HOPS, 14);
        let mut cell = circuit.seal(position, &text(15));
        for layer in &mut circuit.forward[..=position] {
            layer.open(&mut cell).unwrap();
        }
        let zeros = cell[FILL].windows(3).filter(|window| window == &[0; 3]).count();
        assert_eq!(zeros, 0, "at position {position}");
    }
}

#[test]
fn a_replayed_or_reordered_cell_is_caught() {
    let mut circuit = Circuit::new(3, 16);
    let (first, second) = (circuit.seal(2, &text(1)), circuit.seal(2, &text(2)));
    let mut reordered = Circuit::new(3, 16);
    assert!(reordered.forward[0].open(&mut second.clone()).is_err());
    assert!(circuit.forward[0].open(&mut first.clone()).is_ok());
    assert!(circuit.forward[0].open(&mut first.clone()).is_err());
}

#[test]
fn a_kind_that_is_neither_0_nor_1_is_refused() {
    let mut circuit = Circuit::new(1, 17);
    let mut cell = [2; CELL];
    circuit.to_hops.0[0].seal(&mut cell);
    assert_eq!(circuit.forward[0].open(&mut cell), Err(LayerError::Kind));

    let mut cell = [2; CELL];
    circuit.backward[0].0.seal(&mut cell);
    assert_eq!(circuit.from_hops.open(&mut cell), Err(LayerError::Kind));
}

#[test]
fn a_speaker_that_fills_with_anything_but_zeros_is_caught() {
    for hops in 1..=MAX_HOPS {
        let mut circuit = Circuit::new(hops, 18);
        let mut cell = [0; CELL];
        cell[KIND] = MESSAGE_HERE;
        cell[CELL - LAYER * MAX_HOPS] = 1;
        circuit.backward[hops - 1].0.seal(&mut cell);
        circuit.backward[..hops - 1].iter_mut().rev().for_each(|layer| layer.pass_on(&mut cell));
        assert!(circuit.from_hops.open(&mut cell).is_err(), "{hops} hops");
    }
}

#[test]
fn counters_never_repeat_and_count_only_hops_that_took_part() {
    let mut circuit = Circuit::new(3, 19);
    for (number, hop) in [2, 0, 1, 2, 0].into_iter().enumerate() {
        circuit.seal(hop, &text(number as u64));
    }
    let counters: Vec<u64> = circuit.to_hops.0.iter().map(LayerKey::counter).collect();
    assert_eq!(counters, [5, 3, 2]);
}

/// How many cells three layers have seen shortly before their keys change: each will at another cell.
const NEARLY: [u64; USUAL_HOPS] = [REKEY_CELLS - 5, REKEY_CELLS - 3, REKEY_CELLS - 1];
/// To whom cells go, or from whom they come, so that no two layers count alike and all pass the boundary.
const TURNS: [usize; 12] = [2, 0, 1, 2, 0, 2, 1, 0, 2, 2, 1, 2];

/// Layers that have never counted up to where they are: their keys were replaced as often as these counts say.
fn made_anew(counters: &[u64]) -> Vec<LayerKey> {
    (1..).zip(counters).map(|(byte, counter)| LayerKey::at([byte; 32], *counter)).collect()
}

fn counted<'a>(layers: impl IntoIterator<Item = &'a LayerKey>) -> Vec<u64> {
    layers.into_iter().map(LayerKey::counter).collect()
}

#[test]
fn the_origin_and_each_hop_replace_a_forward_key_before_cell_65536_and_count_on() {
    let mut counters = NEARLY;
    let mut origin = ForwardLayers(made_anew(&counters));
    let mut hops: Vec<_> = made_anew(&counters).into_iter().map(ForwardLayer).collect();
    for (number, to) in TURNS.into_iter().enumerate() {
        let (seed, text) = (number as u64, text(number as u64));
        let mut cell = [0; CELL];
        message_mut(&mut cell).copy_from_slice(&text);
        let mut expected = cell;
        origin.seal(to, &mut cell, &mut StdRng::seed_from_u64(seed));
        ForwardLayers(made_anew(&counters)).seal(to, &mut expected, &mut StdRng::seed_from_u64(seed));
        assert!(cell == expected, "cell {number} as the origin seals it for hop {to}");

        for (hop, anew) in made_anew(&counters[..=to]).into_iter().enumerate() {
            let addressee = if hop == to { Addressee::ThisHop } else { Addressee::NextHop };
            assert_eq!(ForwardLayer(anew).open(&mut expected), Ok(addressee));
            assert_eq!(hops[hop].open(&mut cell), Ok(addressee), "cell {number} at hop {hop}");
            assert!(cell == expected, "cell {number} as hop {hop} opens it");
        }
        assert_eq!(message(&cell), text);
        counters[..=to].iter_mut().for_each(|counter| *counter += 1);
        assert_eq!(counted(&origin.0), counters);
        assert_eq!(counted(hops.iter().map(|hop| &hop.0)), counters);
    }
    assert!(counters.iter().all(|counter| *counter > REKEY_CELLS), "all have passed the boundary");
}

#[test]
fn the_origin_and_each_hop_replace_a_backward_key_before_cell_65536_and_count_on() {
    let mut counters = NEARLY;
    let mut origin = BackwardLayers(made_anew(&counters));
    let mut hops: Vec<_> = made_anew(&counters).into_iter().map(BackwardLayer).collect();
    for (number, speaker) in TURNS.into_iter().enumerate() {
        let text = text(number as u64);
        let mut cell = [0; CELL];
        message_mut(&mut cell).copy_from_slice(&text);
        let mut expected = cell;
        for (hop, anew) in made_anew(&counters[..=speaker]).into_iter().enumerate().rev() {
            if hop == speaker {
                hops[hop].speak(&mut cell);
                BackwardLayer(anew).speak(&mut expected);
            } else {
                hops[hop].pass_on(&mut cell);
                BackwardLayer(anew).pass_on(&mut expected);
            }
            assert!(cell == expected, "cell {number} of hop {speaker} as hop {hop} seals it");
        }
        assert_eq!(BackwardLayers(made_anew(&counters)).open(&mut expected), Ok(speaker));
        assert_eq!(origin.open(&mut cell), Ok(speaker), "cell {number} at the origin");
        assert_eq!(message(&cell), text);
        counters[..=speaker].iter_mut().for_each(|counter| *counter += 1);
        assert_eq!(counted(&origin.0), counters);
        assert_eq!(counted(hops.iter().map(|hop| &hop.0)), counters);
    }
    assert!(counters.iter().all(|counter| *counter > REKEY_CELLS), "all have passed the boundary");
}

fn keys(vector: &Value) -> Vec<LayerKey> {
    let keys = vectors::list(&vector["keys"]).iter();
    let counters = vectors::list(&vector["counters"]).iter();
    keys.zip(counters).map(|(key, counter)| LayerKey::at(vectors::array(key), counter.as_u64().unwrap())).collect()
}

/// Yields the bytes it was given: what the vectors' author drew.
struct Script(Vec<u8>);

impl rand::rand_core::TryRng for Script {
    type Error = std::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!("layers draw bytes")
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!("layers draw bytes")
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.copy_from_slice(&self.0.drain(..bytes.len()).collect::<Vec<_>>());
        Ok(())
    }
}

impl rand::rand_core::TryCryptoRng for Script {}

#[test]
fn the_forward_vectors_hold() {
    for vector in vectors::list(&vectors::circuit()["forward"]) {
        let cells: Vec<Cell> = vectors::list(&vector["cell_at_hop"]).iter().map(vectors::array).collect();
        let mut cell = [0; CELL];
        message_mut(&mut cell).copy_from_slice(&vectors::bytes(&vector["message"]));
        ForwardLayers(keys(vector)).seal(cells.len() - 1, &mut cell, &mut Script(vectors::bytes(&vector["fill"])));

        for (hop, (layer, expected)) in keys(vector).into_iter().zip(&cells).enumerate() {
            assert_eq!(&cell, expected, "at hop {hop}");
            let addressee = if hop + 1 == cells.len() { Addressee::ThisHop } else { Addressee::NextHop };
            assert_eq!(ForwardLayer(layer).open(&mut cell), Ok(addressee));
        }
        assert_eq!(message(&cell), vectors::bytes(&vector["message"]));
    }
}

#[test]
fn the_backward_vectors_hold() {
    for vector in vectors::list(&vectors::circuit()["backward"]) {
        let speaker = usize::try_from(vector["speaker"].as_u64().unwrap()).unwrap();
        let mut cell = [0; CELL];
        message_mut(&mut cell).copy_from_slice(&vectors::bytes(&vector["message"]));
        for (hop, layer) in keys(vector).into_iter().enumerate().take(speaker + 1).rev() {
            if hop == speaker {
                BackwardLayer(layer).speak(&mut cell);
            } else {
                BackwardLayer(layer).pass_on(&mut cell);
            }
            assert_eq!(cell.to_vec(), vectors::bytes(&vector["cell_from_hop"][hop.to_string()]), "from hop {hop}");
        }
        assert_eq!(BackwardLayers(keys(vector)).open(&mut cell), Ok(speaker));
        assert_eq!(message(&cell), vectors::bytes(&vector["message"]));
    }
}
