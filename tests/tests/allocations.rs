//! No allocation per cell: what a relay does to a cell, and what both ends do to a stream's bytes, allocates nothing
//! once it is under way.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Instant;

use allocation_counter::measure;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    crypto::Secret,
    host::Host,
    limits::CELL,
    message::{Message, StreamId, Target},
    onion::{self, BackwardLayer, BackwardLayers, Cell, ForwardLayer, ForwardLayers},
    streams::{End, Event, Streams},
};

const HOPS: usize = 3;
const CELLS: usize = 1000;

struct Circuit {
    rng: StdRng,
    to_hops: ForwardLayers,
    from_hops: BackwardLayers,
    forward: Vec<ForwardLayer>,
    backward: Vec<BackwardLayer>,
}

fn circuit() -> Circuit {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut to_hops, mut from_hops) = (ForwardLayers::default(), BackwardLayers::default());
    let (mut forward, mut backward) = (vec![], vec![]);
    for _ in 0..HOPS {
        let (f, b) = (Secret::new(rng.random()), Secret::new(rng.random()));
        to_hops.push(f.clone());
        from_hops.push(b.clone());
        forward.push(ForwardLayer::new(f));
        backward.push(BackwardLayer::new(b));
    }
    Circuit { rng, to_hops, from_hops, forward, backward }
}

#[test]
fn layers_allocate_nothing_in_either_direction() {
    let mut circuit = circuit();
    let mut cell: Cell = [0; CELL];
    let made = measure(|| {
        for _ in 0..CELLS {
            circuit.to_hops.seal(HOPS - 1, &mut cell, &mut circuit.rng);
            assert!(circuit.forward.iter_mut().all(|layer| layer.open(&mut cell).is_ok()));
            let (last, others) = circuit.backward.split_last_mut().unwrap();
            last.speak(&mut cell);
            others.iter_mut().rev().for_each(|layer| layer.pass_on(&mut cell));
            assert_eq!(circuit.from_hops.open(&mut cell), Ok(HOPS - 1));
        }
    });
    assert_eq!(made.count_total, 0);
}

/// Carries all messages of `from` to `to`; gives how many.
fn carry(from: &mut Streams, to: &mut Streams, space: &mut [u8]) -> usize {
    let mut carried = 0;
    while from.poll_message(space).is_some() {
        let message = Message::decode(space).unwrap();
        if let Some(Event::Opening { stream, .. }) = to.handle_message(0, &message, Instant::now()).unwrap() {
            to.accept(stream);
        }
        carried += 1;
    }
    carried
}

#[test]
fn a_streams_bytes_make_their_way_without_allocations() {
    let (mut origin, mut hop) = (Streams::new(End::Origin), Streams::new(End::Hop));
    let stream: StreamId = origin.open(0, Target::Exit { host: Host::parse("192.0.2.1").unwrap(), port: 80 }).unwrap();
    let mut cell: Cell = [0; CELL];
    let space = onion::message_mut(&mut cell);
    carry(&mut origin, &mut hop, space);
    let mut taken = Vec::new();
    let piece = vec![7; 32 * 1024];
    let mut turn = || {
        assert_eq!(hop.write(stream, &piece), piece.len());
        let carried = carry(&mut hop, &mut origin, space);
        origin.take_received(stream, &mut taken);
        origin.consumed(stream, taken.len(), Instant::now());
        carry(&mut origin, &mut hop, space);
        carried
    };
    for _ in 0..100 {
        turn(); // buffers and windows find their size
    }
    let mut carried = 0;
    let made = measure(|| {
        for _ in 0..100 {
            carried += turn();
        }
    });
    assert!(carried > 1700, "{carried} messages");
    // A ring that has run empty is let go, so that idle streams hold nothing: once a turn, not once a cell.
    assert!(made.count_total <= 200, "{} allocations for {carried} messages", made.count_total);
}
