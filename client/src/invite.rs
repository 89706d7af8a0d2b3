//! Inviting: which relays a client names to a friend.
//!
//! Specification: docs/user-guide.md, "invite". They are drawn from what all clients have in common, never from the
//! guards: an invite must not say where its maker's circuits begin.

use rand::{Rng, seq::SliceRandom};
use trefoil_protocol::{entry::RelayEntry, epoch::UnixSeconds, invite::Invite, uri::RelayUri};
use trefoil_relay::{data_dir::DataDirError, network::NetworkFile};

use crate::state::{Saved, State};

/// An invite with at most this many relays: usable ones that the client has saved, first such in different netgroups;
/// and where these are too few, those of the network file. `None` where there is none at all.
///
/// # Errors
/// [`DataDirError`] when what is saved cannot be read.
pub fn draw(
    network: &NetworkFile,
    state: &State,
    relays: usize,
    now: UnixSeconds,
    mut rng: impl Rng,
) -> Result<Option<Invite>, DataDirError> {
    let known = usable(&state.load(&network.params, now)?);
    Ok(Invite::new(network.params.id(), choose(known, &network.relays, relays, &mut rng)))
}

/// At most this many of the relays that are known, first such in different netgroups; and of those that are named, where
/// these are too few.
pub(crate) fn choose(
    mut known: Vec<RelayEntry>,
    named: &[RelayEntry],
    relays: usize,
    rng: &mut impl Rng,
) -> Vec<RelayUri> {
    known.shuffle(rng);
    let (mut apart, mut near): (Vec<RelayEntry>, Vec<RelayEntry>) = Default::default();
    for relay in known {
        let group = if apart.iter().any(|other| is_near(&relay, other)) { &mut near } else { &mut apart };
        group.push(relay);
    }
    let all = apart.into_iter().chain(near).chain(named.iter().cloned());
    let mut drawn: Vec<RelayUri> = Vec::new();
    for relay in all {
        if drawn.len() < relays && drawn.iter().all(|other| other.id != relay.id) {
            drawn.push(RelayUri::from(&relay));
        }
    }
    drawn
}

fn usable(saved: &Saved) -> Vec<RelayEntry> {
    let relays = saved.usable.iter().flat_map(|usable| usable.iter());
    relays.filter_map(|(relay, _)| saved.view.get(&relay)).map(|known| known.record.record().entry()).collect()
}

fn is_near(one: &RelayEntry, other: &RelayEntry) -> bool {
    let groups = other.addresses.netgroups();
    one.addresses.netgroups().iter().flatten().any(|group| groups.contains(&Some(*group)))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};
    use trefoil_protocol::{
        descriptor::{Checked, Descriptor},
        entry::Weight,
        epoch::Epoch,
        identity::{OnionSecret, RelayId, RelaySecret},
        params::NetworkParams,
        usable::{Seen, UsableSet},
        view::View,
        work::Work,
    };

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn params() -> NetworkParams {
        let mut params = NetworkParams::testnet("test".parse().unwrap());
        (params.directory.hashcash_bits, params.directory.argon2_bits) = (0, 0);
        params
    }

    /// The record of a relay at this address.
    fn record(number: u64, address: &str) -> Checked {
        let mut rng = StdRng::seed_from_u64(number);
        let secret = RelaySecret::generate(&mut rng);
        let descriptor = Descriptor {
            relay: secret.id(),
            onion_key: OnionSecret::generate(&mut rng).public(),
            addresses: address.parse().unwrap(),
            weight: Weight::One,
            exit: None,
            mailbox: false,
            leaving: false,
            family: None,
            issued: Epoch::of(NOW, &params().directory),
            lifetime: 3,
            work: Work { hashcash: 0, argon2: 0 },
        };
        Checked::trust_saved(descriptor.sign(&params().id(), &secret), &params(), NOW).unwrap()
    }

    /// A view of these, saved with a usable set of all but the last.
    fn saved(records: &[Checked]) -> (tempfile::TempDir, State) {
        let mut view = View::new(&params(), NOW);
        records.iter().for_each(|record| drop(view.offer(record.clone(), NOW)));
        let seen = records[..records.len() - 1].iter().map(|record| Seen {
            relay: record.record().relay(),
            first_seen: UnixSeconds(NOW.0 - 1000),
            reached: true,
            withdrawn: false,
            settled: true,
        });
        let usable = UsableSet::freeze(Epoch::of(NOW, &params().directory), seen, &params().directory);
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("client")).unwrap();
        state.save_view(&view.encode(), &usable);
        (dir, state)
    }

    fn file(relays: Vec<RelayEntry>) -> NetworkFile {
        NetworkFile { params: params(), relays }
    }

    fn ids(invite: &Invite) -> Vec<RelayId> {
        invite.relays().map(|relay| relay.id).collect()
    }

    fn drawn(file: &NetworkFile, state: &State, relays: usize) -> Invite {
        draw(file, state, relays, NOW, StdRng::seed_from_u64(7)).unwrap().unwrap()
    }

    #[test]
    fn relays_are_drawn_from_the_usable_ones_in_different_netgroups_first() {
        let addresses = ["10.1.0.1:1", "10.1.0.2:1", "10.1.0.3:1", "10.2.0.1:1", "10.3.0.1:1", "10.4.0.1:1"];
        let records: Vec<_> = (0..).zip(addresses).map(|(number, address)| record(number, address)).collect();
        let (_dir, state) = saved(&records);
        let id = |at: usize| records[at].record().relay();
        let three = ids(&drawn(&file(vec![]), &state, 3));
        assert!(three.contains(&id(3)) && three.contains(&id(4)), "one of each netgroup");
        let all = ids(&drawn(&file(vec![]), &state, 9));
        assert_eq!(all.len(), 5, "those that are usable");
        assert!(!all.contains(&id(5)));
    }

    #[test]
    fn where_nothing_is_known_the_network_file_speaks() {
        let named = record(1, "10.1.0.1:1").record().entry();
        let invite = drawn(&file(vec![named.clone()]), &State::none(), 5);
        assert_eq!((ids(&invite), invite.network()), (vec![named.id], Some(params().id())));
        assert!(draw(&file(vec![]), &State::none(), 5, NOW, StdRng::seed_from_u64(7)).unwrap().is_none());
    }
}
