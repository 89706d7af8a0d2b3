use std::{net::Ipv4Addr, time::Instant};

use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    handshake::{OriginHandshake, Peer},
    identity::{OnionSecret, RelaySecret},
    params::NetworkParams,
};

use super::*;
use crate::{
    endpoint::{Congestion, Endpoint, LinkIdentity, LinkOptions},
    node::View,
    outside::Internet,
    relay::{Relay, Setup},
    sources::Loopback,
};

/// Handshakes waiting at which a relay asks for puzzles.
const MANY: usize = 64;

/// A relay at work, and somebody who has a link to it.
struct Scene {
    relay: Relay,
    peer: Peer,
    link: Link,
    rng: StdRng,
    _endpoint: Endpoint,
}

impl Scene {
    async fn new(memory: u64, view: View) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let params = NetworkParams::testnet("test".parse().unwrap());
        let onion = OnionSecret::generate(&mut rng);
        let identity = Arc::new(RelaySecret::generate(&mut rng));
        let peer = Peer { network: params.id(), relay: identity.id(), onion: onion.public() };
        let options = LinkOptions {
            identity: LinkIdentity::Anonymous,
            network: *params.id().as_bytes(),
            congestion: Congestion::Cubic,
            loopback: Loopback::Exempt,
        };
        let setup = Setup {
            params,
            identity,
            onion,
            exit: "accept *:*".parse().unwrap(),
            outside: Arc::new(Internet::new(&[]).unwrap()),
            memory,
            congestion: Congestion::Cubic,
            seed: [1; 32],
        };
        let bound = setup.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = bound.local_address().unwrap();
        let relay = bound.start(view);
        let endpoint = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), &options).unwrap();
        let link = endpoint.dial(peer.relay, address).await.unwrap();
        Self { relay, peer, link, rng, _endpoint: endpoint }
    }

    fn handshake(&mut self, effort: u8) -> OriginHandshake {
        let hour = self.relay.node().hour();
        OriginHandshake::start(self.peer, Puzzle { effort, hour }, &mut self.rng)
    }

    /// Sends `Create` on a new circuit, which is open while it is held.
    async fn ask(&self, create: &[u8]) -> (Result<Vec<u8>, Refusal>, cells::Circuit) {
        let mut circuit = self.link.open_circuit().await.unwrap();
        circuit.writer.write(one(&cell::create_cell(create))).await.unwrap();
        let mut answer = circuit.reader.cells().await.unwrap();
        let answer = cell::read_created(as_cell(&mut answer)).unwrap().map(<[u8]>::to_vec);
        (answer, circuit)
    }
}

#[tokio::test]
async fn a_solved_puzzle_buys_one_handshake() {
    let mut scene = Scene::new(1 << 30, View::new()).await;
    let effort = scene.relay.node().effort.lock().unwrap().asked(MANY, Instant::now());
    assert!(effort > 0);
    let (first, second) = (scene.handshake(effort), scene.handshake(effort));
    assert!(scene.ask(first.create()).await.0.is_ok());
    assert_eq!(scene.ask(first.create()).await.0, Err(Refusal::Busy(effort)));
    assert!(scene.ask(second.create()).await.0.is_ok());
}
