//! Records for tests: cheap to make, since their network asks for no work.

use std::net::{IpAddr, Ipv4Addr};

use rand::{SeedableRng, rngs::StdRng};

use super::View;
use crate::{
    crypto,
    descriptor::{Checked, Descriptor},
    entry::Weight,
    epoch::{Epoch, UnixSeconds},
    identity::{OnionSecret, RelaySecret},
    params::NetworkParams,
    work::Work,
};

/// The epoch in which tests begin.
pub(crate) const TODAY: Epoch = Epoch(80_000);
/// Where relays are reached.
pub(crate) const AT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A network without work, with the public network's epochs.
pub(crate) fn params() -> NetworkParams {
    let mut params = NetworkParams::main();
    (params.directory.hashcash_bits, params.directory.argon2_bits) = (0, 0);
    params
}

/// A moment in this epoch.
pub(crate) fn during(epoch: Epoch) -> UnixSeconds {
    epoch.start(&params().directory).plus(1000)
}

/// An empty view in [`TODAY`].
pub(crate) fn view() -> View {
    View::new(&params(), during(TODAY))
}

/// A view of these.
pub(crate) fn view_of<'a>(records: impl IntoIterator<Item = &'a Checked>) -> View {
    let mut view = view();
    for record in records {
        view.offer(record.clone(), during(TODAY));
    }
    view
}

pub(crate) fn secret(relay: u16) -> RelaySecret {
    RelaySecret::from_bytes(&crypto::blake3(&[&relay.to_le_bytes()]).into())
}

/// A descriptor of the relay with this number. 256 in a row are in as many netgroups; every 256th of 4,096 is in one.
pub(crate) fn descriptor(relay: u16, issued: Epoch) -> Descriptor {
    let [low, high] = relay.to_le_bytes();
    Descriptor {
        relay: secret(relay).id(),
        onion_key: OnionSecret::generate(&mut StdRng::seed_from_u64(1)).public(),
        addresses: format!("{}.{low}.{high}.1:9001", 11 + high / 16).parse().unwrap(),
        weight: Weight::One,
        exit: None,
        mailbox: false,
        leaving: false,
        family: None,
        issued,
        lifetime: 8,
        work: Work { hashcash: 0, argon2: 0 },
    }
}

/// The record of that descriptor, checked.
pub(crate) fn sign(descriptor: &Descriptor, relay: u16) -> Checked {
    let record = descriptor.sign(&params().id(), &secret(relay));
    record.check(&params(), during(descriptor.issued)).unwrap()
}

pub(crate) fn record(relay: u16, issued: Epoch) -> Checked {
    sign(&descriptor(relay, issued), relay)
}

/// Another record of the same relay and epoch.
pub(crate) fn variant(relay: u16, issued: Epoch, variant: u64) -> Checked {
    let work = Work { hashcash: variant, argon2: 0 };
    sign(&Descriptor { work, ..descriptor(relay, issued) }, relay)
}
