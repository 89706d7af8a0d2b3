//! Onion layers on a circuit of three hops: at its origin, and at one relay.

use trefoil_protocol::{
    crypto::Secret,
    limits::{CELL, CELL_BATCH},
    onion::{BackwardLayer, BackwardLayers, Cell, ForwardLayer, ForwardLayers},
};

use crate::{Operation, Per, seeded, time_each};

/// Batches of [`CELL_BATCH`] cells in one round: as a relay's task works on them, they stay in the cache.
pub(crate) const BATCHES: u32 = 64;
const HOPS: usize = 3;
const LAST: usize = HOPS - 1;

/// What origins and relays do with each cell.
pub(crate) fn operations() -> Vec<Operation> {
    vec![
        origin_seals(),
        relay_passes_forward(),
        last_hop_opens(),
        last_hop_speaks(),
        relay_passes_backward(),
        origin_opens(),
    ]
}

fn origin_seals() -> Operation {
    let (mut layers, mut rng, mut cells) = (forward_layers(HOPS), seeded(), batch());
    Operation::new("origin seals, 3 hops", Per::Sealed(3), move || {
        time_each(BATCHES, &mut cells, |_| (), |cell| layers.seal(LAST, cell, &mut rng))
    })
}

fn relay_passes_forward() -> Operation {
    let (mut origin, mut rng, mut cells) = (forward_layers(HOPS), seeded(), batch());
    let mut relay = ForwardLayer::new(key(0));
    Operation::new("relay passes on, forward", Per::Opened(1), move || {
        time_each(BATCHES, &mut cells, |cell| origin.seal(LAST, cell, &mut rng), |cell| open(&mut relay, cell))
    })
}

fn last_hop_opens() -> Operation {
    let (mut origin, mut rng, mut cells) = (forward_layers(1), seeded(), batch());
    let mut relay = ForwardLayer::new(key(0));
    Operation::new("last hop opens", Per::Opened(1), move || {
        time_each(BATCHES, &mut cells, |cell| origin.seal(0, cell, &mut rng), |cell| open(&mut relay, cell))
    })
}

fn last_hop_speaks() -> Operation {
    let (mut relay, mut cells) = (BackwardLayer::new(key(0)), batch());
    Operation::new("last hop seals", Per::Sealed(1), move || {
        time_each(BATCHES, &mut cells, |_| (), |cell| relay.speak(cell))
    })
}

fn relay_passes_backward() -> Operation {
    let (mut relay, mut cells) = (BackwardLayer::new(key(0)), batch());
    Operation::new("relay passes on, backward", Per::Sealed(1), move || {
        time_each(BATCHES, &mut cells, |_| (), |cell| relay.pass_on(cell))
    })
}

fn origin_opens() -> Operation {
    let (mut origin, mut cells) = (BackwardLayers::default(), batch());
    (0..HOPS).for_each(|hop| origin.push(key(hop)));
    let [mut guard, mut middle, mut last] = [0, 1, LAST].map(|hop| BackwardLayer::new(key(hop)));
    Operation::new("origin opens, 3 hops", Per::Opened(3), move || {
        let arrive = |cell: &mut Cell| {
            last.speak(cell);
            middle.pass_on(cell);
            guard.pass_on(cell);
        };
        let open = |cell: &mut Cell| assert_eq!(origin.open(cell), Ok(LAST));
        time_each(BATCHES, &mut cells, arrive, open)
    })
}

fn open(relay: &mut ForwardLayer, cell: &mut Cell) {
    relay.open(cell).expect("the origin has sealed it for this relay");
}

fn forward_layers(hops: usize) -> ForwardLayers {
    let mut layers = ForwardLayers::default();
    (0..hops).for_each(|hop| layers.push(key(hop)));
    layers
}

fn key(hop: usize) -> Secret {
    let byte = u8::try_from(hop + 1).expect("a circuit has few hops");
    Secret::new([byte; 32])
}

fn batch() -> [Cell; CELL_BATCH] {
    [[0; CELL]; CELL_BATCH]
}
