use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::{
    descriptor::{Checked, Descriptor},
    entry::Weight,
    identity::{OnionSecret, RelaySecret},
    work::Work,
};

use super::*;

#[test]
fn a_relay_that_leaves_or_contradicts_itself_is_not_drawn_though_the_set_has_it() {
    let now = UnixSeconds(1_800_000_000);
    let mut params = NetworkParams::testnet("test".parse().unwrap());
    (params.directory.hashcash_bits, params.directory.argon2_bits) = (0, 0);
    let mut view = View::new(&params, now);
    let mut say = |number: u64, change: fn(&mut Descriptor)| {
        let mut rng = StdRng::seed_from_u64(number);
        let secret = RelaySecret::generate(&mut rng);
        let mut descriptor = Descriptor {
            relay: secret.id(),
            onion_key: OnionSecret::generate(&mut rng).public(),
            addresses: format!("10.{number}.0.1:9001").parse().unwrap(),
            weight: Weight::One,
            exit: None,
            mailbox: false,
            leaving: false,
            family: None,
            issued: Epoch::of(now, &params.directory),
            lifetime: 3,
            work: Work { hashcash: 0, argon2: 0 },
        };
        change(&mut descriptor);
        let record = descriptor.sign(&params.id(), &secret);
        drop(view.offer(Checked::trust_saved(record, &params, now).unwrap(), now));
        secret.id()
    };
    let stays = say(1, |_| {});
    let all = [stays, say(2, |relay| relay.leaving = true), say(3, |_| {}), say(3, |relay| relay.mailbox = true)];
    let epoch = Epoch::of(now, &params.directory);
    let drawn = resolve(&view, now, epoch, all[..3].iter().map(|relay| (*relay, AgeClass::Old)));
    assert_eq!(drawn.iter().map(|relay| relay.entry.id).collect::<Vec<_>>(), [stays]);
}
