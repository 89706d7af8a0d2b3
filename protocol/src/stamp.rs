//! Stamps: the work that a stranger's letter costs.
//!
//! Specification: docs/protocol.md, "Stamps and tickets". A hashcash that is good for one letter, one inbox and one day.
//! What it must cost follows from how many strangers wrote that day, and never from what still waits: that would tell
//! when the owner reads. This file never reads a clock and counts nothing.

use crate::{
    crypto,
    envelope::{LetterId, SizeClass},
    identity::RelayId,
    limits::{LIST_ROOM, STAMP_BITS, STAMP_MIDDLE, STAMPS_CHEAP, TICKETS_BITS, TICKETS_BOUGHT},
    params::NetworkId,
    period::Day,
    ring::Placement,
};

/// A stamp: when it was made, and the nonce that makes the hash begin with zeros. 12 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// In which day it counts.
    pub day: Day,
    /// Found by trying.
    pub nonce: u64,
}

/// What a stamp is for.
#[derive(Clone, Copy, Debug)]
pub struct Stamped<'a> {
    /// In which network.
    pub network: &'a NetworkId,
    /// For which inbox.
    pub inbox: &'a Placement,
    /// For which letter, or what else is [`left`] there.
    pub letter: &'a LetterId,
}

/// A stamp in the making: hashes are tried in steps, so that a caller can stop between them.
#[derive(Clone, Debug)]
pub struct Minting<'a> {
    stamped: Stamped<'a>,
    bits: u8,
    next: Stamp,
}

/// Why a stamp does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// Of another day.
    #[error("the stamp is of another day")]
    Day,
    /// Worth less than the price.
    #[error("the stamp is worth {0} bits, which is too little")]
    Bits(u32),
}

/// How much of a mailbox's room for deposits is taken, in steps: what one letter takes does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fullness(u8);

impl Fullness {
    /// Less than five eighths are taken.
    pub const LOW: Self = Self(0);

    /// So many bytes of so many.
    pub fn of(taken: u64, size: u64) -> Self {
        let eighths = taken.saturating_mul(8) / size.max(1);
        Self(match eighths {
            0..=4 => 0,
            5 => 1,
            6 => 2,
            _ => 4,
        })
    }
}

/// What a stamp for an inbox costs, in zero bits, after so many letters with stamps have come for it that day, where
/// there is room.
///
/// The least price for the first [`STAMPS_CHEAP`], one bit more with each doubling, and never above the highest price.
pub fn price(deposits: u32) -> u8 {
    let doublings = (deposits / STAMPS_CHEAP).checked_ilog2().map_or(0, |doublings| doublings + 1);
    let above = u8::try_from(doublings).unwrap_or(u8::MAX);
    bounded(STAMP_BITS.start().saturating_add(above))
}

/// What a stranger's letter of this class costs, by [`price`] and by how full the mailbox is. `None`: strangers do not send
/// such letters.
pub fn letter_price(class: SizeClass, deposits: u32, fullness: Fullness) -> Option<u8> {
    let above = match class {
        SizeClass::Short => 0,
        SizeClass::Middle => STAMP_MIDDLE,
        SizeClass::Long => return None,
    };
    Some(bounded(price(deposits).saturating_add(above).saturating_add(fullness.0)))
}

/// What a list of tickets costs at least.
pub fn list_price(fullness: Fullness) -> u8 {
    bounded(TICKETS_BITS.saturating_add(fullness.0))
}

/// How many bytes of disk letters have whose tickets are in a list that was paid with so many bits: none below the price,
/// [`TICKETS_BOUGHT`] for it, twice as many for each bit more, and never above [`LIST_ROOM`].
pub fn bought(bits: u32, fullness: Fullness) -> u64 {
    let above = bits.checked_sub(list_price(fullness).into());
    above.map_or(0, |above| TICKETS_BOUGHT.saturating_mul(1 << above.min(32)).min(LIST_ROOM))
}

/// What stands in the place of the letter in the stamp for a list of tickets, or for prekeys: they are left at one mailbox,
/// and the work is of no use at another. `BLAKE3("trefoil/1 left" ‖ RelayId 32 ‖ list 1 ‖ hashes or record)`, with list 0
/// for prekeys.
pub fn left(mailbox: &RelayId, list: u8, what: &[u8]) -> LetterId {
    LetterId::from_bytes(crypto::blake3(&[LEFT_LABEL, mailbox.as_bytes(), &[list], what]))
}

fn bounded(bits: u8) -> u8 {
    bits.min(*STAMP_BITS.end())
}

impl Stamp {
    /// Bytes of its form.
    pub const LENGTH: usize = 4 + 8;

    /// `day 4 ‖ nonce 8`.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let (day, nonce) = bytes.split_at_mut(4);
        day.copy_from_slice(&self.day.0.to_le_bytes());
        nonce.copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }

    /// Takes what [`Self::encode`] made.
    pub fn decode(bytes: &[u8; Self::LENGTH]) -> Self {
        let [d0, d1, d2, d3, nonce @ ..] = *bytes;
        Self { day: Day(u32::from_le_bytes([d0, d1, d2, d3])), nonce: u64::from_le_bytes(nonce) }
    }

    /// Checks it against a price, on this day. One of the day before or after counts too: clocks differ, and letters are
    /// under way at midnight.
    ///
    /// # Errors
    /// [`StampError`].
    pub fn check(&self, stamped: &Stamped<'_>, price: u8, today: Day) -> Result<(), StampError> {
        if self.day.0.abs_diff(today.0) > 1 {
            return Err(StampError::Day);
        }
        let bits = self.worth(stamped);
        if bits >= price.into() { Ok(()) } else { Err(StampError::Bits(bits)) }
    }

    /// How many bits it is worth, whatever its day.
    pub fn worth(&self, stamped: &Stamped<'_>) -> u32 {
        let Stamped { network, inbox, letter } = stamped;
        let hash = crypto::blake3(&[LABEL, network.as_bytes(), &inbox.encode(), letter.as_bytes(), &self.encode()]);
        crypto::leading_zeros(&hash)
    }
}

impl<'a> Minting<'a> {
    /// Begins at nonce 0; about 2^bits hashes are to be tried.
    pub fn new(stamped: Stamped<'a>, bits: u8, day: Day) -> Self {
        Self { stamped, bits, next: Stamp { day, nonce: 0 } }
    }

    /// Goes on for at most so many hashes; `None` if there is no stamp by then.
    pub fn step(&mut self, hashes: u32) -> Option<Stamp> {
        (0..hashes).find_map(|_| {
            let stamp = self.next;
            self.next.nonce = stamp.nonce.wrapping_add(1);
            (stamp.worth(&self.stamped) >= self.bits.into()).then_some(stamp)
        })
    }
}

const LABEL: &[u8] = b"trefoil/1 stamp";
const LEFT_LABEL: &[u8] = b"trefoil/1 left";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{blind::BlindUse, ring::tests::PLACEMENT};

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
    const LETTER: LetterId = LetterId::from_bytes([2; 32]);
    const STAMPED: Stamped<'static> = Stamped { network: &NETWORK, inbox: &PLACEMENT, letter: &LETTER };
    const DAY: Day = Day(20_000);

    fn minted() -> Stamp {
        Minting::new(STAMPED, 10, DAY).step(u32::MAX).unwrap()
    }

    #[test]
    fn a_stamp_counts_for_its_network_inbox_and_letter_only() {
        let stamp = minted();
        assert_eq!(stamp.check(&STAMPED, 10, DAY), Ok(()));
        let inbox = Placement { of: BlindUse::RequestInbox, ..PLACEMENT };
        let others = [
            Stamped { network: &NetworkId::from_bytes([9; 32]), ..STAMPED },
            Stamped { inbox: &inbox, ..STAMPED },
            Stamped { letter: &LetterId::from_bytes([9; 32]), ..STAMPED },
        ];
        for other in others {
            assert!(matches!(stamp.check(&other, 10, DAY), Err(StampError::Bits(bits)) if bits < 10));
        }
    }

    #[test]
    fn a_stamp_counts_for_its_day_and_the_days_next_to_it() {
        for (today, counts) in [(19_998, false), (19_999, true), (20_000, true), (20_001, true), (20_002, false)] {
            let checked = minted().check(&STAMPED, 10, Day(today));
            assert_eq!(checked, if counts { Ok(()) } else { Err(StampError::Day) }, "{today}");
        }
        let moved = Stamp { day: Day(20_001), ..minted() };
        assert!(moved.check(&STAMPED, 10, DAY).is_err(), "the day is in the hash");
    }

    #[test]
    fn minting_can_stop_and_go_on() {
        let whole = minted();
        let mut minting = Minting::new(STAMPED, 10, DAY);
        let steps = (1..).find(|_| minting.step(7).is_some_and(|stamp| stamp == whole)).unwrap();
        assert_eq!(steps, whole.nonce / 7 + 1);
        assert_eq!(Minting::new(STAMPED, 10, DAY).step(0), None);
        assert_eq!(Minting::new(STAMPED, 0, DAY).step(1), Some(Stamp { day: DAY, nonce: 0 }));
    }

    #[test]
    fn the_hash_is_that_of_the_specification() {
        let stamp = minted();
        let bytes = [&[2, 0x54, 0x0b, 0, 0][..], &[7; 32], &[2; 32], &[0x20, 0x4e, 0, 0], &stamp.nonce.to_le_bytes()];
        let hash = crypto::blake3(&[b"trefoil/1 stamp", &[1; 32], &bytes.concat()]);
        assert!(crypto::leading_zeros(&hash) >= 10);
    }

    #[test]
    fn a_stamp_survives_its_bytes() {
        let stamp = Stamp { day: Day(0x0403_0201), nonce: 0x0c0b_0a09_0807_0605 };
        assert_eq!(stamp.encode(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(Stamp::decode(&stamp.encode()), stamp);
    }

    #[test]
    fn the_price_rises_by_a_bit_with_each_doubling_and_has_bounds() {
        let (least, most) = (*STAMP_BITS.start(), *STAMP_BITS.end());
        for (deposits, above) in [(0, 0), (63, 0), (64, 1), (127, 1), (128, 2), (255, 2), (256, 3), (64 << 6, 7)] {
            assert_eq!(price(deposits), least + above, "{deposits}");
        }
        assert_eq!(price(u32::MAX), most);
        assert!((0..=1_000_000).is_sorted_by_key(price));
    }

    #[test]
    fn a_longer_letter_and_a_full_mailbox_cost_more_and_strangers_do_not_send_the_longest() {
        let [low, some, more, full] = [0, 5, 6, 7].map(|eighths| Fullness::of(eighths, 8));
        assert_eq!((low, Fullness::of(8, 8), Fullness::of(1, 0)), (Fullness::LOW, full, full));
        let prices = [low, some, more, full].map(|fullness| letter_price(SizeClass::Short, 64, fullness).unwrap());
        assert_eq!(prices, [17, 18, 19, 21]);
        assert_eq!(letter_price(SizeClass::Middle, 0, low), Some(18));
        assert_eq!(letter_price(SizeClass::Middle, u32::MAX, full), Some(26));
        assert_eq!(letter_price(SizeClass::Long, 0, low), None);
        assert_eq!([low, some, more, full].map(list_price), [18, 19, 20, 22]);
    }

    #[test]
    fn no_letter_shows_in_the_price_but_at_the_steps() {
        let steps = (0..1 << 12).map(|taken| Fullness::of(taken, 1 << 12)).collect::<Vec<_>>();
        assert_eq!(steps.windows(2).filter(|pair| pair[0] != pair[1]).count(), 3);
    }

    #[test]
    fn room_is_bought_in_proportion_to_the_work_and_has_an_end() {
        let bought = |bits| bought(bits, Fullness::LOW);
        assert_eq!(
            [17, 18, 19, 23, 24, 25, 255].map(bought),
            [0, 256 << 10, 512 << 10, 8 << 20, 16 << 20, 16 << 20, 16 << 20]
        );
        let full = super::bought(22, Fullness::of(1, 1));
        assert_eq!((full, super::bought(21, Fullness::of(1, 1))), (256 << 10, 0), "dearer where room is rare");
    }

    #[test]
    fn what_is_left_at_one_mailbox_has_another_name_at_another_and_in_another_list() {
        let mailbox = RelayId::from_bytes([3; 32]);
        let bytes = [&b"trefoil/1 left"[..], &[3; 32], &[5], b"hashes"].concat();
        assert_eq!(*left(&mailbox, 5, b"hashes").as_bytes(), crypto::blake3(&[&bytes]));
        let others = [left(&RelayId::from_bytes([4; 32]), 5, b"hashes"), left(&mailbox, 6, b"hashes")];
        assert!(!others.contains(&left(&mailbox, 5, b"hashes")));
    }
}
