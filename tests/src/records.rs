//! Records of many relays, cheap to make: their network asks for no work.

use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    descriptor::{Checked, Descriptor},
    entry::Weight,
    epoch::{Epoch, UnixSeconds},
    identity::{OnionSecret, RelaySecret},
    params::NetworkParams,
    work::Work,
};

/// When the records are new.
pub const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

/// The public network but for the work.
pub fn params() -> NetworkParams {
    let mut params = NetworkParams::main();
    (params.directory.hashcash_bits, params.directory.argon2_bits) = (0, 0);
    params
}

/// The identity and the plainest descriptor of the relay with this number. 256 in a row are in as many netgroups.
pub fn relay(number: u16) -> (RelaySecret, Descriptor) {
    let mut rng = StdRng::seed_from_u64(number.into());
    let secret = RelaySecret::generate(&mut rng);
    let [low, high] = number.to_le_bytes();
    let descriptor = Descriptor {
        relay: secret.id(),
        onion_key: OnionSecret::generate(&mut rng).public(),
        addresses: format!("{}.{low}.{high}.1:9001", 11 + high / 16).parse().expect("a relay's address"),
        weight: Weight::One,
        exit: None,
        mailbox: false,
        leaving: false,
        family: None,
        issued: Epoch::of(NOW, &params().directory),
        lifetime: 8,
        work: Work { hashcash: 0, argon2: 0 },
    };
    (secret, descriptor)
}

/// The relay's record for this descriptor, checked.
///
/// # Panics
/// If the descriptor is not the relay's, or could not pass.
pub fn sign(secret: &RelaySecret, descriptor: &Descriptor) -> Checked {
    let record = descriptor.sign(&params().id(), secret);
    record.check(&params(), NOW).expect("a good record")
}

/// The plainest record of the relay with this number.
pub fn record(number: u16) -> Checked {
    let (secret, descriptor) = relay(number);
    sign(&secret, &descriptor)
}
