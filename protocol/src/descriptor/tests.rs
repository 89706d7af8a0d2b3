//! Tests of `descriptor.rs`, and the descriptors that other files' tests start from.

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::{family::FamilySecret, identity::OnionSecret, policy::ExitPolicy, work::Search};

/// In epoch 180,000,000 of a testnet, 3 seconds after its start.
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_800_000_003);

pub(crate) fn params() -> NetworkParams {
    NetworkParams::testnet("test".parse().unwrap())
}

pub(crate) fn relay() -> RelaySecret {
    RelaySecret::from_bytes(&Zeroizing::new([1; 32]))
}

/// A relay with one address, and nothing else to say.
pub(crate) fn small() -> Descriptor {
    Descriptor {
        relay: relay().id(),
        onion_key: OnionSecret::from_bytes(&Zeroizing::new([2; 32])).public(),
        addresses: "127.3.0.1:9001".parse().unwrap(),
        weight: Weight::One,
        exit: None,
        mailbox: false,
        leaving: false,
        family: None,
        issued: Epoch::of(NOW, &params().directory),
        lifetime: 3,
        work: work(&params(), relay().id()),
    }
}

/// A relay with all that a descriptor can say.
pub(crate) fn full() -> Descriptor {
    let policy: ExitPolicy = "accept *:22,53,80,110,443,993,5222,8000-8999".parse().unwrap();
    Descriptor {
        addresses: "127.3.0.1:9001,[fd00::1]:9001".parse().unwrap(),
        weight: Weight::Two,
        exit: ExitSummary::of(&policy),
        mailbox: true,
        leaving: true,
        family: Some(family().take_in(&params().id(), &relay().id())),
        ..small()
    }
}

fn family() -> FamilySecret {
    FamilySecret::from_bytes(&Zeroizing::new([3; 32]))
}

fn work(params: &NetworkParams, relay: RelayId) -> Work {
    Search::new(params, relay).step(u32::MAX).unwrap()
}

fn sign(descriptor: &Descriptor) -> Record {
    descriptor.sign(&params().id(), &relay())
}

fn check(descriptor: &Descriptor) -> Result<Checked, DescriptorError> {
    sign(descriptor).check(&params(), NOW)
}

#[test]
fn a_record_says_what_was_signed() {
    for descriptor in [small(), full()] {
        let record = sign(&descriptor);
        assert_eq!(Record::decode(record.bytes()), Ok(record.clone()));
        assert_eq!(record.descriptor(), descriptor);
        assert_eq!((record.relay(), record.issued()), (descriptor.relay, descriptor.issued));
        assert_eq!(record.expires(), descriptor.issued.plus(3));
        assert_eq!(record.is_leaving(), descriptor.leaving);
        assert_eq!(record.digest(), crypto::blake3(&[record.bytes()]));
        assert_eq!(record.clone().check(&params(), NOW).map(|checked| checked.record().clone()), Ok(record));
    }
}

#[test]
fn the_largest_record_fits_its_bound_and_the_smallest_is_much_smaller() {
    assert_eq!(sign(&full()).bytes().len(), 313);
    assert_eq!(sign(&small()).bytes().len(), 165);
    let padded = [sign(&full()).bytes(), &[0; 10]].concat();
    assert_eq!(Record::decode(&padded), Err(DescriptorError::Form));
}

#[test]
fn a_record_cut_anywhere_or_with_more_behind_it_is_refused() {
    for record in [sign(&small()), sign(&full())] {
        for length in 0..record.bytes().len() {
            assert_eq!(Record::decode(&record.bytes()[..length]), Err(DescriptorError::Form), "{length}");
        }
        assert_eq!(Record::decode(&[record.bytes(), &[0]].concat()), Err(DescriptorError::Form));
    }
}

#[test]
fn a_record_with_any_bit_changed_is_refused() {
    for record in [sign(&small()), sign(&full())] {
        for bit in 0..record.bytes().len() * 8 {
            let mut changed = record.bytes().to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            let checked = Record::decode(&changed).and_then(|record| record.check(&params(), NOW));
            assert!(checked.is_err(), "bit {bit}");
        }
    }
}

#[test]
fn another_version_is_named() {
    let mut bytes = sign(&small()).bytes().to_vec();
    bytes[0] = 2;
    assert_eq!(Record::decode(&bytes), Err(DescriptorError::Version(2)));
}

#[test]
fn what_has_another_form_is_refused() {
    let (small, full) = (sign(&small()).bytes().to_vec(), sign(&full()).bytes().to_vec());
    let changes: [(&[u8], usize, u8); 6] = [
        (&small, AT_FLAGS, V4 | UNKNOWN),         // an unknown flag
        (&small, AT_FLAGS, 0),                    // no address
        (&small, AT_LIFETIME, 0),                 // never valid
        (&full, AT_LIFETIME + 7 + 16, 0),         // of the IPv6 port: stays good, for comparison
        (&full, AT_LIFETIME + 1 + 6 + 18, 0),     // an exit to nothing
        (&full, AT_LIFETIME + 1 + 6 + 18 + 1, 9), // too many ranges
    ];
    for (bytes, at, value) in changes {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        let is_good = at == AT_LIFETIME + 7 + 16;
        assert_eq!(Record::decode(&bytes).is_ok(), is_good, "{at}");
    }
    let mut portless = small;
    portless[AT_LIFETIME + 5..AT_LIFETIME + 7].fill(0);
    assert_eq!(Record::decode(&portless), Err(DescriptorError::Form));
}

#[test]
fn an_ipv4_address_in_ipv6_form_is_refused() {
    let mut bytes = sign(&full()).bytes().to_vec();
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 3, 0, 1];
    bytes[AT_LIFETIME + 7..AT_LIFETIME + 7 + 16].copy_from_slice(&mapped);
    assert_eq!(Record::decode(&bytes), Err(DescriptorError::Form));
}

#[test]
fn a_record_of_another_network_is_refused_even_with_the_same_prefix() {
    let mut other = params().id().as_bytes().to_owned();
    let foreign = full().sign(&NetworkId::from_bytes([9; 32]), &relay());
    assert_eq!(foreign.check(&params(), NOW), Err(DescriptorError::Network));
    other[31] ^= 1;
    let twin = small().sign(&NetworkId::from_bytes(other), &relay());
    assert_eq!(twin.check(&params(), NOW), Err(DescriptorError::Signature));
}

#[test]
fn an_address_that_the_network_does_not_allow_is_refused() {
    let main = NetworkParams { allow_loopback: false, ..params() };
    let record = small().sign(&main.id(), &relay());
    assert_eq!(record.check_cheap(&main, NOW), Err(DescriptorError::Address));
}

#[test]
fn a_record_counts_from_its_first_epoch_to_its_last() {
    let (record, directory) = (sign(&small()), params().directory);
    let at = |now: UnixSeconds| record.check_cheap(&params(), now);
    let (start, end) = (record.issued().start(&directory), record.expires().start(&directory));
    assert_eq!(at(UnixSeconds(start.0 - CLOCK_TOLERANCE - 1)), Err(DescriptorError::Future));
    assert_eq!(at(UnixSeconds(start.0 - CLOCK_TOLERANCE)), Ok(()));
    assert_eq!(at(UnixSeconds(end.0 - 1)), Ok(()));
    assert_eq!(at(end), Err(DescriptorError::Expired));
    let lasting = Descriptor { lifetime: 4, ..small() };
    assert_eq!(check(&lasting), Err(DescriptorError::Lifetime));
    let last = Descriptor { issued: Epoch(u32::MAX), ..small() };
    assert_eq!(check(&last), Err(DescriptorError::Future));
}

#[test]
fn a_relay_may_say_one_epoch_ahead_that_it_leaves() {
    let mut params = params();
    params.directory = NetworkParams::main().directory;
    let issued = Epoch::of(NOW, &params.directory).next();
    let at_start = Epoch::of(NOW, &params.directory).start(&params.directory);
    let check = |leaving, issued| {
        let descriptor = Descriptor { leaving, issued, ..small() };
        descriptor.sign(&params.id(), &relay()).check_cheap(&params, at_start)
    };
    assert_eq!(check(true, issued), Ok(()));
    assert_eq!(check(false, issued), Err(DescriptorError::Future));
    assert_eq!(check(true, issued.next()), Err(DescriptorError::Future));
}

#[test]
fn a_record_signed_by_another_is_refused() {
    let stranger = RelaySecret::from_bytes(&Zeroizing::new([9; 32]));
    let record = small().sign(&params().id(), &stranger);
    assert_eq!(record.check(&params(), NOW), Err(DescriptorError::Signature));
}

#[test]
fn a_family_that_did_not_sign_for_this_relay_is_refused() {
    let other = family().take_in(&params().id(), &RelayId::from_bytes([7; 32]));
    assert_eq!(check(&Descriptor { family: Some(other), ..full() }), Err(DescriptorError::Family));
}

#[test]
fn work_of_another_key_is_refused() {
    let stranger = RelaySecret::from_bytes(&Zeroizing::new([9; 32]));
    let stolen = Descriptor { relay: stranger.id(), ..small() };
    let record = stolen.sign(&params().id(), &stranger);
    assert_eq!(record.check(&params(), NOW), Err(DescriptorError::Hashcash));
    let mut half = small();
    while half.work.has_memory_hard(&params(), &half.relay) {
        half.work.argon2 += 1;
    }
    assert_eq!(check(&half), Err(DescriptorError::MemoryHard));
    let saved = Checked::trust_saved(sign(&half), &params(), NOW);
    assert_eq!(saved.map(|checked| checked.record().clone()), Ok(sign(&half)));
}

#[test]
fn keys_of_small_order_are_refused() {
    let weak_onion = Descriptor { onion_key: OnionKey::from_bytes([0; 32]), ..small() };
    assert_eq!(check(&weak_onion), Err(DescriptorError::OnionKey));
    let mut point = [0; 32];
    point[0] = 1; // the identity point: with s = 0 and R the same, the plain equation holds for any message
    let weak = RelayId::from_bytes(point);
    let descriptor = Descriptor { relay: weak, work: work(&params(), weak), ..small() };
    let mut bytes = sign(&descriptor).bytes().to_vec();
    let at = bytes.len() - SIGNATURE;
    bytes[at..].fill(0);
    bytes[at] = 1;
    let forged = Record::decode(&bytes).unwrap();
    assert_eq!(forged.check(&params(), NOW), Err(DescriptorError::Signature));
}

#[test]
fn an_entry_is_what_paths_need() {
    let entry = sign(&full()).entry();
    assert_eq!((entry.id, entry.onion_key), (full().relay, full().onion_key));
    assert_eq!((entry.addresses, entry.weight), (full().addresses, Weight::Two));
    assert!(entry.exit.may_allow_port(8500) && !entry.exit.may_allow_port(25));
    assert!(sign(&small()).entry().exit.is_empty());
}

/// The example of docs/protocol.md: a relay of the public network with the secrets 00 01 02 .. 1f.
fn example() -> (Descriptor, RelaySecret) {
    let secret = Zeroizing::new(std::array::from_fn(|at| u8::try_from(at).unwrap()));
    let relay = RelaySecret::from_bytes(&secret);
    let descriptor = Descriptor {
        relay: relay.id(),
        onion_key: OnionSecret::from_bytes(&secret).public(),
        addresses: "1.2.3.4:9001,[2600::1]:9001".parse().unwrap(),
        weight: Weight::Two,
        exit: ExitSummary::of(&"accept *:80,443".parse().unwrap()),
        mailbox: false,
        leaving: false,
        family: Some(FamilySecret::from_bytes(&secret).take_in(&NetworkParams::main().id(), &relay.id())),
        issued: Epoch(83_000),
        lifetime: 8,
        work: Work { hashcash: 6_527_184, argon2: 193 }, // checked with an independent implementation
    };
    (descriptor, relay)
}

#[test]
fn the_documented_example_is_what_is_signed() {
    let (descriptor, secret) = example();
    let params = NetworkParams::main();
    let record = descriptor.sign(&params.id(), &secret);
    let documentation = include_str!("../../../docs/protocol.md");
    let hex = data_encoding::HEXLOWER.encode(record.bytes());
    let lines: Vec<_> = hex.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    assert!(documentation.contains(&lines.join("\n")), "{hex}");
    assert!(documentation.contains(&data_encoding::HEXLOWER.encode(&record.digest())));
    let now = record.issued().start(&params.directory);
    assert_eq!(record.clone().check(&params, now).map(|checked| checked.0), Ok(record));
}

fn descriptors() -> impl Strategy<Value = Descriptor> {
    let addresses = (any::<(u32, u16)>(), any::<(u128, u16)>(), 0..3usize);
    let ports = prop::collection::vec(1..=u16::MAX, 0..20);
    (addresses, ports, any::<[bool; 4]>(), any::<(u32, u64, u64)>(), 1..=u8::MAX, any::<[u8; 32]>()).prop_map(
        |(((v4, port4), (v6, port6), kinds), ports, [heavy, mailbox, leaving, family], numbers, lifetime, key)| {
            let v4 = SocketAddr::from((v4.to_be_bytes(), port4.max(1)));
            let v6 = SocketAddr::from(((v6 | 1 << 125).to_be_bytes(), port6.max(1)));
            let addresses = [vec![v4], vec![v6], vec![v4, v6]][kinds].clone();
            let rules: Vec<_> = ports.iter().map(|port| format!("accept *:{port}")).collect();
            let membership = self::family().take_in(&params().id(), &relay().id());
            let (issued, hashcash, argon2) = numbers;
            Descriptor {
                onion_key: OnionKey::from_bytes(key),
                addresses: RelayAddresses::new(addresses).unwrap(),
                weight: if heavy { Weight::Two } else { Weight::One },
                exit: ExitSummary::of(&rules.join(";").parse().unwrap()),
                mailbox,
                leaving,
                family: family.then_some(membership),
                issued: Epoch(issued),
                lifetime,
                work: Work { hashcash, argon2 },
                ..small()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_descriptor_survives_its_record(descriptor in descriptors()) {
        let record = sign(&descriptor);
        prop_assert!(record.bytes().len() <= MAX_RECORD);
        prop_assert_eq!(Record::decode(record.bytes()), Ok(record.clone()));
        prop_assert_eq!(record.descriptor(), descriptor);
    }

    #[test]
    fn bytes_that_decode_are_the_one_form(mut bytes in prop::collection::vec(any::<u8>(), 0..330), flags: u8) {
        if let Some(version) = bytes.first_mut() {
            *version = VERSION;
        }
        if let Some(byte) = bytes.get_mut(AT_FLAGS) {
            *byte = flags & !UNKNOWN;
        }
        if let Ok(record) = Record::decode(&bytes) {
            let again = record.descriptor().encode(&params().id());
            prop_assert_eq!(&again[AT_RELAY..], &bytes[AT_RELAY..bytes.len() - SIGNATURE]);
        }
    }
}
