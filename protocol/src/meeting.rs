//! Meeting points: under which keys of the Mainline DHT the relays of a network announce themselves.
//!
//! Specification: docs/protocol.md, "The DHT". A key is for one day, so that nobody can sit beside it for long, and is
//! the hash of what all nodes of the network know: it is no secret.

use crate::{
    crypto,
    epoch::UnixSeconds,
    limits::{CLOCK_TOLERANCE, DHT_ANNOUNCE_AHEAD},
    params::NetworkId,
};

/// Bytes of a key: an infohash of BitTorrent (BEP 5).
pub const MEETING_POINT: usize = 20;

/// A key of the DHT.
pub type MeetingPoint = [u8; MEETING_POINT];

/// The key under which relays are looked for now.
pub fn to_look(network: &NetworkId, now: UnixSeconds) -> MeetingPoint {
    of_day(network, day(now))
}

/// The keys under which a relay announces itself now, so that whoever looks until it does so again finds it: its clock
/// and theirs may differ. One, or around midnight two.
pub fn to_announce(network: &NetworkId, now: UnixSeconds) -> Vec<MeetingPoint> {
    let first = day(UnixSeconds(now.0.saturating_sub(CLOCK_TOLERANCE)));
    let last = day(now.plus(CLOCK_TOLERANCE + DHT_ANNOUNCE_AHEAD));
    (first..=last).map(|day| of_day(network, day)).collect()
}

fn day(time: UnixSeconds) -> u32 {
    u32::try_from(time.0 / DAY).unwrap_or(u32::MAX)
}

fn of_day(network: &NetworkId, day: u32) -> MeetingPoint {
    let hash = crypto::blake3(&[LABEL, network.as_bytes(), &day.to_le_bytes()]);
    let mut point = [0; MEETING_POINT];
    point.iter_mut().zip(hash).for_each(|(byte, hash)| *byte = hash);
    point
}

const LABEL: &[u8] = b"trefoil/1 meeting point";
const DAY: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::NetworkParams;

    fn network() -> NetworkId {
        NetworkParams::main().id()
    }

    #[test]
    fn a_key_is_of_its_network_and_its_day() {
        let at = |day: u64| to_look(&network(), UnixSeconds(day * DAY + 100));
        assert_eq!(at(20_000), to_look(&network(), UnixSeconds(20_001 * DAY - 1)));
        assert_ne!(at(20_000), at(20_001));
        let other = NetworkParams::testnet("other".parse().unwrap()).id();
        assert_ne!(at(20_000), to_look(&other, UnixSeconds(20_000 * DAY)));
        let hash = crypto::blake3(&[b"trefoil/1 meeting point", network().as_bytes(), &[0x20, 0x4e, 0, 0]]);
        assert_eq!(at(20_000), hash[..20]);
        assert_eq!(data_encoding::HEXLOWER.encode(&at(20_000)), "3feb26aac7c2a4ec82d37567ab1dfe831b21af6a");
    }

    #[test]
    fn whoever_looks_with_a_tolerable_clock_before_the_next_announcement_finds_what_was_announced() {
        for second in (0..DAY).step_by(60) {
            let now = UnixSeconds(20_000 * DAY + second);
            let announced = to_announce(&network(), now);
            assert!(announced.len() <= 2);
            for (early, late) in [(CLOCK_TOLERANCE, 0), (0, 0), (0, CLOCK_TOLERANCE + DHT_ANNOUNCE_AHEAD)] {
                let looks = UnixSeconds(now.0 - early + late);
                assert!(announced.contains(&to_look(&network(), looks)), "{second}");
            }
        }
        assert_eq!(to_announce(&network(), UnixSeconds(20_000 * DAY + DAY / 2)).len(), 1);
    }
}
