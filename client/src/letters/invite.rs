//! Invite links: an address, a token and a few relays, as text that people pass on.
//!
//! Specification: docs/protocol.md, "Invites of people". The relays are for finding the network only; the token makes
//! whoever has it a contact at once. This file keeps nothing.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use trefoil_protocol::{
    address::Address,
    crypto,
    epoch::UnixSeconds,
    letter::InviteToken,
    limits::{INVITE_DOORS, INVITE_TEXT},
    params::NetworkId,
    puzzle::Hour,
    uri::RelayUri,
};

/// See the file's head.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteLink {
    /// Of which network.
    pub network: NetworkId,
    /// Who invites.
    pub address: Address,
    /// What the person who invites knows it by; zeros for none: then it is an address, and relays.
    pub token: InviteToken,
    /// Until when it counts.
    pub expires: Hour,
    /// Where to find the network: at most [`INVITE_DOORS`].
    pub relays: Vec<RelayUri>,
}

/// Why a text is no invite, or none that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteLinkError {
    /// Not the form.
    #[error("an invite begins with {SCHEME} and goes on with letters and digits: something is missing, or too much")]
    Form,
    /// The checksum does not fit.
    #[error("a character of the invite is wrong, or some are missing: its checksum does not fit")]
    Checksum,
    /// Of a newer program.
    #[error("an invite of version {0}: this program knows version {VERSION}, and a newer one may know more")]
    Version(u8),
    /// Too late.
    #[error("the invite has expired: ask for another one")]
    Expired,
    /// To another network.
    #[error("the invite is to the network {}, and this program is set to {}", .theirs.short(), .ours.short())]
    OtherNetwork {
        /// The invite's.
        theirs: NetworkId,
        /// The reader's.
        ours: NetworkId,
    },
}

impl InviteLink {
    /// Whether it counts here and now.
    ///
    /// # Errors
    /// [`InviteLinkError::Expired`] or [`InviteLinkError::OtherNetwork`].
    pub fn check(&self, network: &NetworkId, now: UnixSeconds) -> Result<(), InviteLinkError> {
        if self.network != *network {
            return Err(InviteLinkError::OtherNetwork { theirs: self.network, ours: *network });
        }
        if Hour::of_unix(now.0) >= self.expires { Err(InviteLinkError::Expired) } else { Ok(()) }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.network.as_bytes());
        bytes.extend(self.address.as_bytes());
        bytes.extend(self.token);
        bytes.extend(self.expires.0.to_le_bytes());
        for relay in self.relays.iter().take(INVITE_DOORS) {
            let text = relay.to_string();
            bytes.push(u8::try_from(text.len()).expect("a relay's URI is short"));
            bytes.extend_from_slice(text.as_bytes());
        }
        let sum = checksum(&bytes);
        bytes.extend(sum);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, InviteLinkError> {
        let (bytes, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(InviteLinkError::Form)?;
        match bytes.first() {
            Some(&VERSION) => {}
            Some(other) => return Err(InviteLinkError::Version(*other)),
            None => return Err(InviteLinkError::Form),
        }
        if *sum != checksum(bytes) {
            return Err(InviteLinkError::Checksum);
        }
        Self::read(&bytes[1..]).ok_or(InviteLinkError::Form)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (network, bytes) = bytes.split_first_chunk::<32>()?;
        let (address, bytes) = bytes.split_first_chunk::<32>()?;
        let (token, bytes) = bytes.split_first_chunk::<16>()?;
        let (expires, mut bytes) = bytes.split_first_chunk::<4>()?;
        let mut relays = vec![];
        while let Some((length, rest)) = bytes.split_first() {
            let (relay, rest) = rest.split_at_checked((*length).into())?;
            relays.push(str::from_utf8(relay).ok()?.parse().ok()?);
            bytes = rest;
        }
        let network = NetworkId::from_bytes(*network);
        let (address, expires) = (Address::from_bytes(*address).ok()?, Hour(u32::from_le_bytes(*expires)));
        (relays.len() <= INVITE_DOORS).then_some(Self { network, address, token: *token, expires, relays })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    *crypto::blake3(&[LABEL, bytes]).first_chunk().expect("32 bytes have 4")
}

impl fmt::Display for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", BASE32_NOPAD.encode(&self.encode()).to_ascii_lowercase())
    }
}

impl FromStr for InviteLink {
    type Err = InviteLinkError;

    fn from_str(text: &str) -> Result<Self, InviteLinkError> {
        let text = text.trim();
        if text.len() > INVITE_TEXT {
            return Err(InviteLinkError::Form);
        }
        let text = text.to_ascii_lowercase();
        let code = text.strip_prefix(SCHEME).ok_or(InviteLinkError::Form)?.to_ascii_uppercase();
        let bytes = BASE32_NOPAD.decode(code.as_bytes()).map_err(|_| InviteLinkError::Form)?;
        Self::decode(&bytes)
    }
}

impl fmt::Debug for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InviteLink({:?}, {} relays)", self.address, self.relays.len())
    }
}

/// How an invite begins.
pub(super) const SCHEME: &str = "trefoil:";
const VERSION: u8 = 1;
const CHECKSUM: usize = 4;
const LABEL: &[u8] = b"trefoil/1 invite";

#[cfg(test)]
mod tests {
    use trefoil_protocol::{
        address::AddressSecret,
        entry::Weight,
        identity::{OnionSecret, RelaySecret},
    };
    use zeroize::Zeroizing;

    use super::*;

    const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);

    fn link() -> InviteLink {
        let secret = Zeroizing::new([1; 32]);
        let relays = vec![RelayUri {
            id: RelaySecret::from_bytes(&secret).id(),
            addresses: "192.0.2.1:443".parse().unwrap(),
            onion_key: OnionSecret::from_bytes(&secret).public(),
            weight: Weight::One,
        }];
        let address = AddressSecret::from_bytes(&Zeroizing::new([1; 32])).address();
        InviteLink { network: NETWORK, address, token: [7; 16], expires: Hour(500_000), relays }
    }

    #[test]
    fn an_invite_survives_its_text_form_in_either_case() {
        let link = link();
        assert_eq!(link.relays.len(), 1, "the relay of the test is one");
        let text = link.to_string();
        assert!(text.starts_with("trefoil:"));
        for text in [text.clone(), text.to_ascii_uppercase(), format!(" {text}\n")] {
            assert_eq!(text.parse(), Ok(link.clone()));
        }
    }

    #[test]
    fn every_wrong_character_and_every_cut_is_noticed() {
        let text = link().to_string();
        for at in 0..text.len() {
            assert!(text[..at].parse::<InviteLink>().is_err(), "{at}");
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
            assert!(String::from_utf8(wrong).unwrap().parse::<InviteLink>().is_err(), "{at}");
        }
    }

    #[test]
    fn an_invite_counts_until_it_expires_and_in_its_network() {
        let link = link();
        let before = UnixSeconds(500_000 * 3600 - 1);
        assert_eq!(link.check(&NETWORK, before), Ok(()));
        assert_eq!(link.check(&NETWORK, before.plus(1)), Err(InviteLinkError::Expired));
        let other = NetworkId::from_bytes([2; 32]);
        assert!(matches!(link.check(&other, before), Err(InviteLinkError::OtherNetwork { .. })));
    }
}
