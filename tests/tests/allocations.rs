//! No allocation per cell: what a relay does to a cell, and what both ends do to a stream's bytes, allocates nothing
//! once it is under way. And what a view takes for a relay has a bound.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Instant;

use allocation_counter::measure;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    crypto::Secret,
    descriptor::{Checked, Record},
    exit_summary::ExitSummary,
    family::FamilySecret,
    host::Host,
    limits::CELL,
    message::{Message, StreamId, Target},
    onion::{self, BackwardLayer, BackwardLayers, Cell, ForwardLayer, ForwardLayers},
    streams::{End, Event, Streams},
    view::View,
};
use trefoil_tests::records::{NOW, params, relay, sign};

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

/// A record as they come: of four relays, two have an IPv6 address too, one is an exit, and one is in a family.
fn record(number: u16) -> Vec<u8> {
    let (secret, mut descriptor) = relay(number);
    if number.is_multiple_of(2) {
        let both = format!("{},[2001:4860:{number:x}::1]:9001", descriptor.addresses);
        descriptor.addresses = both.parse().unwrap();
    }
    match number % 4 {
        0 => descriptor.exit = ExitSummary::of(&"accept *:80,443".parse().unwrap()),
        1 => {
            let family = FamilySecret::generate(&mut StdRng::seed_from_u64(number.into()));
            descriptor.family = Some(family.take_in(&params().id(), &descriptor.relay));
        }
        _ => {}
    }
    sign(&secret, &descriptor).record().bytes().to_vec()
}

#[test]
fn a_relay_takes_no_more_than_400_bytes_of_a_view() {
    let records: Vec<_> = (0..4000).map(record).collect();
    let mut view = View::new(&params(), NOW);
    let take = |view: &mut View| {
        for bytes in &records {
            let checked = Checked::trust_saved(Record::decode(bytes).unwrap(), &params(), NOW).unwrap();
            view.offer(checked, NOW);
        }
    };
    let pending = measure(|| take(&mut view));
    assert_eq!(view.len(), records.len());
    let each = |bytes: i64| bytes / i64::try_from(records.len()).unwrap();
    assert!(each(pending.bytes_current) <= 400, "{} bytes", each(pending.bytes_current));
    let established = measure(|| view.establish(|_| true));
    let both = pending.bytes_current + established.bytes_current;
    assert!(each(both) <= 350, "{} bytes", each(both));
    let again = measure(|| take(&mut view));
    assert_eq!(again.bytes_current, 0, "what is known takes nothing more");
}
