//! Refusals: why a mailbox says no.
//!
//! Specification: docs/protocol.md, "Mailbox streams". Three bytes: whoever asked can do something about most of them.

use crate::wire::Reader;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only relays may ask this, and only replicas of the inbox.
    #[error("only another mailbox of this inbox may ask this")]
    NotForYou,
    /// Too much was asked, or too often.
    #[error("a limit was reached")]
    Limit,
    /// The mailbox has not heard enough of the network yet to know what it keeps.
    #[error("the mailbox is not ready yet")]
    NotReady,
    /// This relay is not among those that keep the inbox.
    #[error("this mailbox does not keep the inbox")]
    NotHere,
    /// The inbox's day or week is over, or has not come.
    #[error("the inbox is of another time")]
    Period,
    /// The mailbox has no room.
    #[error("the mailbox is full")]
    Full,
    /// The inbox has no room: for what came, not for what still waits, which would tell when the owner reads.
    #[error("the inbox is full")]
    Quota,
    /// It keeps letters for less time.
    #[error("letters are kept for {0} hours at most")]
    TooLong(u16),
    /// The stamp is worth less than the price.
    #[error("a stamp of {0} bits is asked for")]
    Price(u8),
    /// The stamp is of another day.
    #[error("the stamp does not count")]
    BadStamp,
    /// The ticket is not registered, or was spent.
    #[error("the ticket does not count")]
    BadTicket,
    /// Not signed by the owner.
    #[error("the owner has not signed this")]
    BadClaim,
    /// There is no such letter, or no such prekeys.
    #[error("it is not there")]
    Gone,
    /// Other prekeys with as high a revision are there.
    #[error("newer prekeys are there")]
    Stale,
}

const NOT_FOR_YOU: u8 = 1;
const LIMIT: u8 = 2;
const NOT_READY: u8 = 3;
const NOT_HERE: u8 = 4;
const PERIOD: u8 = 5;
const FULL: u8 = 6;
const QUOTA: u8 = 7;
const TOO_LONG: u8 = 8;
const PRICE: u8 = 9;
const BAD_STAMP: u8 = 10;
const BAD_TICKET: u8 = 11;
const BAD_CLAIM: u8 = 12;
const GONE: u8 = 13;
const STALE: u8 = 14;

impl Refusal {
    /// `reason 1 ‖ value 2`; the value is 0 where the reason needs none.
    pub(super) fn encode(self) -> [u8; 3] {
        let (reason, value) = match self {
            Self::NotForYou => (NOT_FOR_YOU, 0),
            Self::Limit => (LIMIT, 0),
            Self::NotReady => (NOT_READY, 0),
            Self::NotHere => (NOT_HERE, 0),
            Self::Period => (PERIOD, 0),
            Self::Full => (FULL, 0),
            Self::Quota => (QUOTA, 0),
            Self::TooLong(hours) => (TOO_LONG, hours),
            Self::Price(bits) => (PRICE, bits.into()),
            Self::BadStamp => (BAD_STAMP, 0),
            Self::BadTicket => (BAD_TICKET, 0),
            Self::BadClaim => (BAD_CLAIM, 0),
            Self::Gone => (GONE, 0),
            Self::Stale => (STALE, 0),
        };
        let [low, high] = value.to_le_bytes();
        [reason, low, high]
    }

    pub(super) fn read(body: &mut Reader<'_>) -> Option<Self> {
        Some(match (body.byte()?, body.u16()?) {
            (TOO_LONG, hours) => Self::TooLong(hours),
            (PRICE, bits) => Self::Price(u8::try_from(bits).ok()?),
            (NOT_FOR_YOU, 0) => Self::NotForYou,
            (LIMIT, 0) => Self::Limit,
            (NOT_READY, 0) => Self::NotReady,
            (NOT_HERE, 0) => Self::NotHere,
            (PERIOD, 0) => Self::Period,
            (FULL, 0) => Self::Full,
            (QUOTA, 0) => Self::Quota,
            (BAD_STAMP, 0) => Self::BadStamp,
            (BAD_TICKET, 0) => Self::BadTicket,
            (BAD_CLAIM, 0) => Self::BadClaim,
            (GONE, 0) => Self::Gone,
            (STALE, 0) => Self::Stale,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one_form() {
        let mut known = 0;
        for reason in 0..=255 {
            for value in [0u16, 1, 255, 256, 65_535] {
                let [low, high] = value.to_le_bytes();
                let bytes = [reason, low, high];
                if let Some(refusal) = Refusal::read(&mut Reader::new(&bytes)) {
                    assert_eq!(refusal.encode(), bytes, "{refusal:?}");
                    known += 1;
                }
            }
        }
        assert_eq!(known, 12 + 5 + 3, "twelve without a value, hours of any value, bits of one byte");
    }

    #[test]
    fn a_cut_reason_is_none() {
        let bytes = Refusal::Price(20).encode();
        assert_eq!(bytes, [9, 20, 0]);
        (0..3).for_each(|length| assert_eq!(Refusal::read(&mut Reader::new(&bytes[..length])), None));
    }
}
