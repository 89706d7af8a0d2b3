//! Usable sets: the relays that paths are drawn from, the same for everyone in an epoch.
//!
//! Specification: docs/protocol.md, "Usable sets". A set that only one person has would tell who that person is, so a
//! relay freezes its own at the start of each epoch, and a client takes what most of its sources say (`majority.rs`).
//! This file never looks at records: it is told what was seen.

use crate::{
    crypto,
    epoch::{Epoch, UnixSeconds},
    identity::RelayId,
    limits::MAX_USABLE,
    params::DirectoryParams,
};

/// How long a relay is known. Its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AgeClass {
    /// Not for as long as the network's `grown`.
    New = 0,
    /// For `grown`, and not for `old`.
    Grown = 1,
    /// For `old`.
    Old = 2,
}

/// The number is not an age class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an age class is 0, 1 or 2")]
pub struct BadClass;

/// What a relay itself knows of a relay, when an epoch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub relay: RelayId,
    /// When this node had its first record; never what a record says.
    pub first_seen: UnixSeconds,
    /// Whether this node completed a link handshake with it, or is it.
    pub reached: bool,
    /// Whether it says that it leaves, or is barred by a fraud proof.
    pub withdrawn: bool,
    /// Whether it was in time for this epoch: [`crate::settling::Settling::is_settled`].
    pub settled: bool,
}

/// The usable relays of an epoch with their classes, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableSet {
    epoch: Epoch,
    members: Vec<(RelayId, AgeClass)>,
}

/// The salt of one question for a usable set; fresh for each, so that two answers, or two questions, cannot be compared.
pub type Salt = [u8; 16];

/// A name for what a relay says of itself: [`crate::descriptor::Record::statement`].
pub type Statement = [u8; 32];

/// A member of a usable set in an answer, under the salt that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Who: its [`short_hash`].
    pub name: [u8; 8],
    /// How long it is known.
    pub class: AgeClass,
    /// What the answerer's record of it says, by its [`short_statement`]; zeros, which no record is likely to have, where
    /// it has none any more.
    pub said: [u8; 4],
}

/// The bytes are not a saved usable set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a usable set: wrong length, a class that does not exist, or relays out of order")]
pub struct BadUsableSet;

impl AgeClass {
    /// The class of a relay that has been known for so many seconds.
    pub fn of(age: u64, params: &DirectoryParams) -> Self {
        if age >= params.old.into() {
            Self::Old
        } else if age >= params.grown.into() {
            Self::Grown
        } else {
            Self::New
        }
    }
}

impl UsableSet {
    /// The set of the relay that has seen these, at the start of `epoch`.
    ///
    /// Usable is what was reached, and was in time (`settling.rs`), so that all relays had the time to agree on it: who
    /// withdraws later stays for this epoch. Where these are fewer than `min_usable` the network is young, and usable is
    /// what was reached and has not withdrawn.
    pub fn freeze(epoch: Epoch, seen: impl IntoIterator<Item = Seen>, params: &DirectoryParams) -> Self {
        let start = epoch.start(params);
        let mut all: Vec<_> = seen.into_iter().filter(|seen| seen.reached).collect();
        if all.iter().filter(|seen| seen.settled).count() >= params.min_usable.into() {
            all.retain(|seen| seen.settled);
        } else {
            all.retain(|seen| !seen.withdrawn);
        }
        let class = |seen: &Seen| AgeClass::of(start.since(seen.first_seen), params);
        Self::new(epoch, all.iter().map(|seen| (seen.relay, class(seen))))
    }

    /// The set of these members, in any order; of one that is told twice, the lower class.
    pub(crate) fn new(epoch: Epoch, members: impl IntoIterator<Item = (RelayId, AgeClass)>) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_unstable();
        members.dedup_by_key(|(relay, _)| *relay);
        Self { epoch, members }
    }

    /// The epoch that it is for.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members, in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (RelayId, AgeClass)> {
        self.members.iter().copied()
    }

    /// The class of this relay, if it is a member.
    pub fn class(&self, relay: &RelayId) -> Option<AgeClass> {
        let at = self.members.binary_search_by_key(relay, |(member, _)| *member).ok()?;
        self.members.get(at).map(|(_, class)| *class)
    }

    /// A name for the set: equal sets of one epoch have equal digests.
    pub fn digest(&self) -> [u8; 32] {
        crypto::blake3(&[DIGEST_LABEL, &self.encode()])
    }

    /// The set as bytes: `epoch 4`, then `RelayId 32 ‖ class 1` for each member in the order of their ids.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.epoch.0.to_le_bytes().to_vec();
        bytes.reserve(self.members.len() * MEMBER);
        for (relay, class) in &self.members {
            bytes.extend_from_slice(relay.as_bytes());
            bytes.push((*class).into());
        }
        bytes
    }

    /// The set of these bytes.
    ///
    /// # Errors
    /// [`BadUsableSet`] for anything that [`UsableSet::encode`] does not give, and above [`MAX_USABLE`] members.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadUsableSet> {
        let (epoch, rest) = bytes.split_first_chunk::<4>().ok_or(BadUsableSet)?;
        let (members, []) = rest.as_chunks::<MEMBER>() else { return Err(BadUsableSet) };
        let members: Vec<_> = members.iter().map(decode_member).collect::<Result<_, _>>()?;
        if members.len() > MAX_USABLE || !members.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(BadUsableSet);
        }
        Ok(Self { epoch: Epoch(u32::from_le_bytes(*epoch)), members })
    }

    /// The members from `offset` on as an answer has them, `room` at most. `said` knows what each says of itself.
    pub fn short_members(
        &self,
        salt: &Salt,
        offset: usize,
        room: usize,
        said: impl Fn(&RelayId) -> Option<Statement>,
    ) -> impl Iterator<Item = Member> {
        self.members.iter().skip(offset).take(room).map(move |(relay, class)| Member {
            name: short_hash(salt, relay),
            class: *class,
            said: said(relay).map_or([0; 4], |said| short_statement(salt, &said)),
        })
    }
}

/// What a relay says of itself, in an answer under this salt: `BLAKE3("trefoil/1 said" ‖ salt ‖ statement)[..4]`. The
/// salt is not known beforehand, so nobody can make records that look alike.
pub fn short_statement(salt: &Salt, said: &Statement) -> [u8; 4] {
    let [a, b, c, d, ..] = crypto::blake3(&[SAID_LABEL, salt, said]);
    [a, b, c, d]
}

impl Member {
    /// Its bytes in an answer.
    pub const LENGTH: usize = 13;
}

/// A relay's name in an answer under this salt: `BLAKE3("trefoil/1 usable" ‖ salt ‖ RelayId)[..8]`.
pub fn short_hash(salt: &Salt, relay: &RelayId) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = crypto::blake3(&[SHORT_LABEL, salt, relay.as_bytes()]);
    [a, b, c, d, e, f, g, h]
}

fn decode_member(bytes: &[u8; MEMBER]) -> Result<(RelayId, AgeClass), BadUsableSet> {
    let (relay, class) = bytes.split_first_chunk::<32>().ok_or(BadUsableSet)?;
    let [class] = class else { return Err(BadUsableSet) };
    Ok((RelayId::from_bytes(*relay), AgeClass::try_from(*class).map_err(|_| BadUsableSet)?))
}

impl TryFrom<u8> for AgeClass {
    type Error = BadClass;

    fn try_from(class: u8) -> Result<Self, BadClass> {
        match class {
            0 => Ok(Self::New),
            1 => Ok(Self::Grown),
            2 => Ok(Self::Old),
            _ => Err(BadClass),
        }
    }
}

impl From<AgeClass> for u8 {
    fn from(class: AgeClass) -> Self {
        class as u8
    }
}

const SHORT_LABEL: &[u8] = b"trefoil/1 usable";
const SAID_LABEL: &[u8] = b"trefoil/1 said";
const DIGEST_LABEL: &[u8] = b"trefoil/1 usable set";
const MEMBER: usize = 33;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::params::NetworkParams;

    const EPOCH: Epoch = Epoch(80_000);

    fn params() -> DirectoryParams {
        NetworkParams::main().directory
    }

    fn id(number: u32) -> RelayId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        RelayId::from_bytes(bytes)
    }

    /// Seen so many seconds before the epoch began.
    fn seen(number: u32, before: u64) -> Seen {
        let first_seen = UnixSeconds(EPOCH.start(&params()).0 - before);
        let settled = before >= params().settle.into();
        Seen { relay: id(number), first_seen, reached: true, withdrawn: false, settled }
    }

    fn settled(count: u32) -> Vec<Seen> {
        (0..count).map(|number| seen(number, 7200)).collect()
    }

    #[test]
    fn a_relay_is_usable_if_it_was_in_time_and_reached() {
        let others = settled(50);
        for (settled, reached) in [(false, true), (true, true), (true, false), (false, false)] {
            let all = others.iter().copied().chain([Seen { settled, reached, ..seen(1000, 0) }]);
            let set = UsableSet::freeze(EPOCH, all, &params());
            let usable = settled && reached;
            assert_eq!(set.class(&id(1000)).is_some(), usable, "{settled} {reached}");
            assert_eq!((set.len(), set.epoch()), (50 + usize::from(usable), EPOCH));
        }
    }

    #[test]
    fn classes_follow_the_own_first_sight() {
        let day = 86_400;
        let ages = [(7 * day - 1, AgeClass::New), (7 * day, AgeClass::Grown), (30 * day - 1, AgeClass::Grown)];
        for (age, class) in ages.into_iter().chain([(30 * day, AgeClass::Old)]) {
            let set = UsableSet::freeze(EPOCH, settled(50).into_iter().chain([seen(1000, age)]), &params());
            assert_eq!(set.class(&id(1000)), Some(class));
        }
    }

    #[test]
    fn who_withdraws_is_out_at_once_in_a_young_network_and_else_where_it_was_in_time() {
        for (count, usable) in [(10, 10), (60, 61)] {
            let out = [Seen { reached: false, ..seen(1000, 9000) }, Seen { withdrawn: true, ..seen(1001, 9000) }];
            let set = UsableSet::freeze(EPOCH, settled(count).into_iter().chain(out), &params());
            assert_eq!(set.len(), usable);
        }
    }

    #[test]
    fn a_young_network_takes_whoever_was_reached() {
        let just_come = (100..200).map(|number| seen(number, 1));
        let young = UsableSet::freeze(EPOCH, settled(49).into_iter().chain(just_come.clone()), &params());
        assert_eq!(young.len(), 149);
        let grown = UsableSet::freeze(EPOCH, settled(50).into_iter().chain(just_come), &params());
        assert_eq!(grown.len(), 50);
        // First seen after the epoch began: by a clock that went back, or a relay that starts.
        let late = Seen { first_seen: UnixSeconds(u64::MAX), ..seen(1, 0) };
        let set = UsableSet::freeze(EPOCH, [late], &params());
        assert_eq!(set.class(&id(1)), Some(AgeClass::New));
    }

    #[test]
    fn an_answer_names_no_member_and_has_pages() {
        let set = UsableSet::freeze(EPOCH, settled(60), &params());
        let salt = [7; 16];
        let said = |relay: &RelayId| (*relay != id(1)).then_some([5; 32]);
        let all: Vec<_> = set.short_members(&salt, 0, 100, said).collect();
        assert_eq!(all.len(), 60);
        let paged: Vec<_> = (0..7).flat_map(|page| set.short_members(&salt, page * 10, 10, said)).collect();
        assert_eq!(paged, all);
        let expected = crypto::blake3(&[b"trefoil/1 usable", &salt, id(0).as_bytes()]);
        assert!(all[0].name == expected[..8] && all[0].class == AgeClass::New);
        let expected = crypto::blake3(&[b"trefoil/1 said", &salt, &[5; 32]]);
        assert!(all[0].said == expected[..4] && all[1].said == [0; 4]);
        let other_salt: Vec<_> = set.short_members(&[8; 16], 0, 100, said).collect();
        assert!(all.iter().all(|member| !other_salt.iter().any(|other| other.name == member.name)));
        assert!(all[2].said != other_salt[2].said);
        assert_eq!(set.short_members(&salt, usize::MAX, usize::MAX, said).count(), 0);
    }

    #[test]
    fn a_saved_set_is_whole_or_refused() {
        let set = UsableSet::freeze(EPOCH, settled(3), &params());
        let bytes = set.encode();
        assert_eq!(UsableSet::decode(&bytes), Ok(set.clone()));
        for length in (0..bytes.len()).filter(|length| length % MEMBER != 4) {
            assert_eq!(UsableSet::decode(&bytes[..length]), Err(BadUsableSet));
        }
        let mut class = bytes.clone();
        *class.last_mut().unwrap() = 3;
        let mut order = bytes.clone();
        order[4..].rotate_left(MEMBER);
        let twice = [&bytes[..], &bytes[bytes.len() - MEMBER..]].concat();
        [class, order, twice].iter().for_each(|bytes| assert_eq!(UsableSet::decode(bytes), Err(BadUsableSet)));
    }

    #[test]
    fn a_digest_names_epoch_members_and_classes() {
        let all = settled(60);
        let base = UsableSet::freeze(EPOCH, all.clone(), &params());
        assert_eq!(UsableSet::freeze(EPOCH, all.iter().rev().copied(), &params()).digest(), base.digest());
        let older = all.iter().map(|seen| Seen { first_seen: UnixSeconds(0), ..*seen });
        let others = [
            UsableSet::freeze(EPOCH, all[1..].to_vec(), &params()),
            UsableSet::freeze(EPOCH.next(), all.clone(), &params()),
            UsableSet::freeze(EPOCH, older, &params()),
        ];
        others.iter().for_each(|other| assert_ne!(other.digest(), base.digest()));
    }

    proptest! {
        #[test]
        fn bytes_are_a_set_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..140)) {
            if let Ok(set) = UsableSet::decode(&bytes) {
                prop_assert_eq!(set.encode(), bytes);
            }
        }
    }
}
