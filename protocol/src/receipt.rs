//! Receipts: a mailbox's signature that it has a letter on disk.
//!
//! Specification: docs/protocol.md, "Mailbox streams". A sender counts a letter as accepted only by these, and can show
//! one of a mailbox that lost the letter. This file never says when to sign.

use std::fmt;

use crate::{
    crypto,
    envelope::LetterId,
    epoch::UnixSeconds,
    identity::{RelayId, RelaySecret},
    limits::CLOCK_TOLERANCE,
    params::NetworkId,
    puzzle::Hour,
    ring::Placement,
};

/// What a mailbox answers to a deposit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Until when it keeps the letter, if nobody deletes it.
    pub expiry: Hour,
    /// Over `"trefoil/1 receipt" ‖ network id ‖ inbox ‖ letter id ‖ expiry`.
    pub signature: [u8; 64],
}

impl Receipt {
    /// Signs that this letter is kept in this inbox until then.
    pub fn sign(
        mailbox: &RelaySecret,
        network: &NetworkId,
        inbox: &Placement,
        letter: &LetterId,
        expiry: Hour,
    ) -> Self {
        Self { expiry, signature: mailbox.sign(LABEL, &message(network, inbox, letter, expiry)) }
    }

    /// Whether the letter is kept for as long as its sender asked for, by a clock that may be wrong. If not, somebody asked
    /// for less first, or the mailbox has no such time: it does not count as accepted there.
    pub fn keeps(&self, hours: u16, now: UnixSeconds) -> bool {
        let asked = now.plus(u64::from(hours) * 3600).0.saturating_sub(CLOCK_TOLERANCE);
        self.expiry >= Hour::of_unix(asked.saturating_add(3599))
    }

    /// Whether this mailbox signed it, for this letter and inbox.
    pub fn is_of(&self, mailbox: &RelayId, network: &NetworkId, inbox: &Placement, letter: &LetterId) -> bool {
        let message = message(network, inbox, letter, self.expiry);
        crypto::verify(mailbox.as_bytes(), LABEL, &message, &self.signature)
    }
}

fn message(network: &NetworkId, inbox: &Placement, letter: &LetterId, expiry: Hour) -> Vec<u8> {
    [&network.as_bytes()[..], &inbox.encode(), letter.as_bytes(), &expiry.0.to_le_bytes()].concat()
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt(until {:?})", self.expiry)
    }
}

const LABEL: &[u8] = b"trefoil/1 receipt";

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::ring::tests::PLACEMENT;

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
    const LETTER: LetterId = LetterId::from_bytes([2; 32]);

    #[test]
    fn a_receipt_is_of_its_mailbox_network_inbox_letter_and_time_only() {
        let secret = RelaySecret::from_bytes(&Zeroizing::new([3; 32]));
        let receipt = Receipt::sign(&secret, &NETWORK, &PLACEMENT, &LETTER, Hour(500_000));
        assert!(receipt.is_of(&secret.id(), &NETWORK, &PLACEMENT, &LETTER));
        let other = RelaySecret::from_bytes(&Zeroizing::new([4; 32])).id();
        assert!(!receipt.is_of(&other, &NETWORK, &PLACEMENT, &LETTER));
        assert!(!receipt.is_of(&secret.id(), &NetworkId::from_bytes([9; 32]), &PLACEMENT, &LETTER));
        assert!(!receipt.is_of(&secret.id(), &NETWORK, &Placement { period: 1, ..PLACEMENT }, &LETTER));
        assert!(!receipt.is_of(&secret.id(), &NETWORK, &PLACEMENT, &LetterId::from_bytes([9; 32])));
        let later = Receipt { expiry: Hour(500_001), ..receipt };
        assert!(!later.is_of(&secret.id(), &NETWORK, &PLACEMENT, &LETTER));
    }

    #[test]
    fn a_receipt_signs_the_bytes_of_the_specification() {
        let secret = RelaySecret::from_bytes(&Zeroizing::new([3; 32]));
        let receipt = Receipt::sign(&secret, &NETWORK, &PLACEMENT, &LETTER, Hour(0x0007_a120));
        let message = [&[1; 32][..], &[2, 0x54, 0x0b, 0, 0], &[7; 32], &[2; 32], &[0x20, 0xa1, 7, 0]].concat();
        assert!(crypto::verify(secret.id().as_bytes(), b"trefoil/1 receipt", &message, &receipt.signature));
    }

    #[test]
    fn a_receipt_keeps_a_letter_for_what_was_asked_give_or_take_the_clocks() {
        let receipt = |expiry| Receipt { expiry: Hour(expiry), signature: [0; 64] };
        let now = UnixSeconds(500_000 * 3600 + 1800);
        for (expiry, keeps) in [(500_336, true), (500_337, true), (500_335, false), (500_001, false)] {
            assert_eq!(receipt(expiry).keeps(336, now), keeps, "{expiry}");
        }
        assert!(!receipt(500_336).keeps(336, now.plus(1)), "it is kept until the hour after");
    }
}
