//! The circuit handshake's three steps.

use rand::rngs::StdRng;
use trefoil_protocol::{
    cell::Create,
    handshake::{OriginHandshake, Peer, respond},
    identity::{OnionSecret, RelaySecret},
    params::NetworkParams,
    puzzle::Puzzle,
};

use crate::{Operation, Per, seeded, time_each};

const TIMES: u32 = 8;

/// `Create` at the origin, the relay's answer, and what the origin does with that.
pub(crate) fn operations() -> Vec<Operation> {
    vec![origin_starts(), relay_responds(), origin_finishes()]
}

fn origin_starts() -> Operation {
    let (peer, _, mut rng) = ends();
    let mut slot = [None];
    Operation::new("handshake: origin starts", Per::Handshake, move || {
        time_each(TIMES, &mut slot, |_| (), |slot| *slot = Some(start(peer, &mut rng)))
    })
}

fn relay_responds() -> Operation {
    let (peer, onion, mut rng) = ends();
    let create = start(peer, &mut rng).create().to_vec();
    Operation::new("handshake: relay responds", Per::Handshake, move || {
        time_each(TIMES, &mut [Vec::new()], |_| (), |created| *created = answer(&peer, &onion, &create, &mut rng))
    })
}

fn origin_finishes() -> Operation {
    let (peer, onion, mut rng) = ends();
    let mut slot = [None];
    Operation::new("handshake: origin finishes", Per::Handshake, move || {
        let meet = |slot: &mut Option<(OriginHandshake, Vec<u8>)>| {
            let origin = start(peer, &mut rng);
            let created = answer(&peer, &onion, origin.create(), &mut rng);
            *slot = Some((origin, created));
        };
        let finish = |slot: &mut Option<(OriginHandshake, Vec<u8>)>| {
            let (origin, created) = slot.take().expect("one has been prepared");
            origin.finish(&created).expect("the relay is the one that was meant");
        };
        time_each(TIMES, &mut slot, meet, finish)
    })
}

fn start(peer: Peer, rng: &mut StdRng) -> OriginHandshake {
    OriginHandshake::start(peer, Puzzle::NONE, rng)
}

fn answer(peer: &Peer, onion: &OnionSecret, create: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let create = Create::decode(create).expect("the origin has written it");
    respond(peer, onion, &create, rng).expect("the origin's keys are sound").0
}

fn ends() -> (Peer, OnionSecret, StdRng) {
    let mut rng = seeded();
    let onion = OnionSecret::generate(&mut rng);
    let relay = RelaySecret::generate(&mut rng).id();
    (Peer { network: NetworkParams::main().id(), relay, onion: onion.public() }, onion, rng)
}
