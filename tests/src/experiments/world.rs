//! World: the relays of a simulated network, where they are, and the records that they sign.
//!
//! Records are the production ones, signed and checked, with the public network's parameters but for the proof of
//! work, which here takes 0 bits: what it costs is a figure of its own.

use std::net::Ipv4Addr;

use rand::{Rng, RngExt, rngs::StdRng};
use trefoil_protocol::{
    descriptor::{Checked, Descriptor, Record},
    entry::{RelayAddresses, Weight},
    epoch::{Epoch, UnixSeconds},
    identity::{OnionKey, OnionSecret, RelayId, RelaySecret},
    ip,
    params::{NetworkId, NetworkParams},
    work::Work,
};

use super::queue::{Millis, SECOND};
pub use crate::records::params;

/// The first epoch of a simulation; it starts at 0 milliseconds.
pub const FIRST: Epoch = Epoch(83_000);

/// A simulation's time as nodes tell it.
pub fn unix(params: &NetworkParams, at: Millis) -> UnixSeconds {
    FIRST.start(&params.directory).plus(at / SECOND)
}

/// The network: its rules, and whose relays there can be.
pub struct World {
    /// The rules.
    pub params: NetworkParams,
    network: NetworkId,
    netgroups: Netgroups,
    onion_key: OnionKey, // nobody opens circuits here: one serves all
}

/// A relay: its identity and its place in the world.
pub struct Relay {
    /// What it signs with.
    pub secret: RelaySecret,
    /// Its name.
    pub id: RelayId,
    /// Where it listens; of IPv4 only.
    pub address: Ipv4Addr,
    /// Where it is, for latencies.
    pub place: Place,
}

/// A point on a square of which opposite sides touch.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    x: f32,
    y: f32,
}

/// The /16 networks in which relays are: half of them in a few hundred of large hosting companies.
struct Netgroups {
    public: Vec<u16>,
    popular: Vec<u16>,
}

impl World {
    /// A world in which nobody is yet.
    pub fn new(rng: &mut StdRng) -> Self {
        let params = params();
        let onion_key = OnionSecret::generate(rng).public();
        Self { network: params.id(), params, netgroups: Netgroups::new(rng), onion_key }
    }

    /// A new relay, somewhere.
    pub fn relay(&self, rng: &mut StdRng) -> Relay {
        let popular = rng.random_bool(0.5);
        let netgroup = if popular { pick(&self.netgroups.popular, rng) } else { pick(&self.netgroups.public, rng) };
        self.relay_in(netgroup, rng)
    }

    /// A new relay of somebody who can choose any network, and spreads.
    pub fn spread_relay(&self, rng: &mut StdRng) -> Relay {
        self.relay_in(pick(&self.netgroups.public, rng), rng)
    }

    fn relay_in(&self, netgroup: u16, rng: &mut StdRng) -> Relay {
        let secret = RelaySecret::generate(rng);
        let address = Ipv4Addr::from_bits(u32::from(netgroup) << 16 | u32::from(rng.random::<u16>()));
        Relay { id: secret.id(), secret, address, place: Place { x: rng.random(), y: rng.random() } }
    }

    /// What the relay says of itself, with the longest lifetime that there is.
    pub fn describe(&self, relay: &Relay, issued: Epoch) -> Descriptor {
        let addresses = RelayAddresses::new([(relay.address, 9001).into()]).expect("an address that can be dialled");
        Descriptor {
            relay: relay.id,
            onion_key: self.onion_key,
            addresses,
            weight: Weight::One,
            exit: None,
            mailbox: false,
            leaving: false,
            family: None,
            issued,
            lifetime: self.params.directory.lifetime,
            work: Work::default(),
        }
    }

    /// The record of this, signed by the relay and checked as by anybody who gets it.
    pub fn record(&self, relay: &Relay, descriptor: &Descriptor) -> Checked {
        self.check(self.sign(relay, descriptor))
    }

    /// The record of this, signed by the relay.
    pub fn sign(&self, relay: &Relay, descriptor: &Descriptor) -> Record {
        descriptor.sign(&self.network, &relay.secret)
    }

    /// The record, checked as by anybody who gets it in the epoch in which it counts first.
    pub fn check(&self, record: Record) -> Checked {
        let now = record.issued().start(&self.params.directory);
        record.check(&self.params, now).expect("an honest record")
    }
}

impl Netgroups {
    fn new(rng: &mut StdRng) -> Self {
        let is_public = |group: &u16| ip::is_public(Ipv4Addr::from_bits(u32::from(*group) << 16 | 0x0101).into());
        let public: Vec<_> = (0..=u16::MAX).filter(is_public).collect();
        let popular = (0..300).map(|_| pick(&public, rng)).collect();
        Self { public, popular }
    }
}

/// One of them; all are as likely.
pub fn pick<T: Copy>(all: &[T], rng: &mut impl Rng) -> T {
    all[rng.random_range(0..all.len())]
}

impl Place {
    /// Milliseconds that a packet takes from here to there: 5 and up to 100 for the way, and a random rest.
    pub fn latency(self, other: Self, rng: &mut impl Rng) -> Millis {
        let apart = |a: f32, b: f32| (a - b).abs().min(1.0 - (a - b).abs());
        let distance = apart(self.x, other.x).hypot(apart(self.y, other.y)) / 0.5f32.hypot(0.5);
        5 + (100.0 * distance) as Millis + rng.random_range(0..10)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_names_a_world() {
        let relays = |seed| {
            let rng = &mut StdRng::seed_from_u64(seed);
            let world = World::new(rng);
            let relay = world.relay(rng);
            world.record(&relay, &world.describe(&relay, FIRST)).record().digest()
        };
        assert_eq!(relays(1), relays(1));
        assert_ne!(relays(1), relays(2));
    }

    #[test]
    fn latencies_are_those_of_one_planet() {
        let rng = &mut StdRng::seed_from_u64(3);
        let world = World::new(rng);
        let places: Vec<_> = (0..200).map(|_| world.relay(rng).place).collect();
        let latencies: Vec<_> = places.iter().map(|place| places[0].latency(*place, rng)).collect();
        assert!(latencies.iter().all(|millis| (5..115).contains(millis)), "{latencies:?}");
        assert!(latencies.iter().max().unwrap() - latencies.iter().min().unwrap() > 50);
    }
}
