//! Address: a person's or a service's public name, and the key behind it.
//!
//! Specification: docs/protocol.md, "Addresses of people". Whoever has the secret is the person. An [`Address`] has
//! passed its checks: all else that is derived from it relies on its key. This file never touches key files.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;

use crate::crypto::{self, Secret, SigningSecret};

/// A person's name: an Ed25519 public key of prime order, in canonical form.
///
/// 56 base32 characters and `.trefoil` as text: version 1 ‖ key 32 ‖ checksum 2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address([u8; 32]);

/// What makes a person the one who has the address.
pub struct AddressSecret(SigningSecret);

/// Why a text, or bytes, are not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not 56 base32 characters and the ending.
    #[error("an address is 56 characters from a-z and 2-7, and then {ENDING}: something is missing, or too much")]
    Form,
    /// The checksum does not fit: probably a typing error.
    #[error("a character of the address is wrong: its checksum does not fit")]
    Checksum,
    /// Of a version that this program does not know.
    #[error("an address of version {0}: this program knows version {VERSION}, and a newer one may know more")]
    Version(u8),
    /// A key that nobody can have.
    #[error("nobody can have this address: its key is not usable")]
    Key,
}

impl Address {
    /// How each ends, as text.
    pub const ENDING: &str = ".trefoil";

    /// The address whose key this is.
    ///
    /// # Errors
    /// [`AddressError::Key`] for a key of another than prime order, or in another than its one form.
    pub fn from_bytes(key: [u8; 32]) -> Result<Self, AddressError> {
        if crypto::is_prime_order_key(&key) { Ok(Self(key)) } else { Err(AddressError::Key) }
    }

    /// Its key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 characters of its text form: enough for a person to tell two apart, never for a program.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl AddressSecret {
    /// The secret of this seed.
    pub fn from_bytes(seed: &Secret) -> Self {
        Self(SigningSecret::from_bytes(seed))
    }

    /// Its public name.
    pub fn address(&self) -> Address {
        Address(self.0.public()) // made by multiplying the base point: of prime order, and canonical
    }

    /// The secret, for blinding. Nothing is signed by it as it is.
    pub(crate) fn secret(&self) -> &SigningSecret {
        &self.0
    }
}

fn checksum(key: &[u8; 32]) -> [u8; CHECKSUM] {
    let [a, b, ..] = crypto::blake3(&[LABEL, &[VERSION], key]);
    [a, b]
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[VERSION], &self.0[..], &checksum(&self.0)].concat();
        write!(f, "{}{ENDING}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.to_ascii_lowercase();
        let name = text.strip_suffix(ENDING).ok_or(AddressError::Form)?.to_ascii_uppercase();
        let bytes = BASE32_NOPAD.decode(name.as_bytes()).map_err(|_| AddressError::Form)?;
        let (version, rest) = bytes.split_first().ok_or(AddressError::Form)?;
        let (key, sum) = rest.split_first_chunk::<32>().ok_or(AddressError::Form)?;
        let sum: [u8; CHECKSUM] = sum.try_into().map_err(|_| AddressError::Form)?;
        if *version != VERSION {
            return Err(AddressError::Version(*version));
        }
        if sum == checksum(key) { Self::from_bytes(*key) } else { Err(AddressError::Checksum) }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.short())
    }
}

impl fmt::Debug for AddressSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressSecret of {:?}", self.address())
    }
}

const LABEL: &[u8] = b"trefoil/1 address";
const VERSION: u8 = 1;
const CHECKSUM: usize = 2;
const ENDING: &str = Address::ENDING;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;

    /// The person of the seed that has this byte 32 times.
    pub(crate) fn person(seed: u8) -> AddressSecret {
        AddressSecret::from_bytes(&Zeroizing::new([seed; 32]))
    }

    /// As if somebody had written it, whatever its key is.
    fn text(version: u8, key: &[u8; 32]) -> String {
        let sum = &crypto::blake3(&[b"trefoil/1 address", &[version], key])[..2];
        BASE32_NOPAD.encode(&[&[version], &key[..], sum].concat()) + ".trefoil"
    }

    #[test]
    fn an_address_survives_its_text_form_in_either_case() {
        let address = person(1).address();
        let text = address.to_string();
        assert_eq!(text.len(), 56 + 8);
        assert_eq!(text.parse(), Ok(address));
        assert_eq!(text.to_ascii_uppercase().parse(), Ok(address));
        assert_eq!(Address::from_bytes(*address.as_bytes()), Ok(address));
    }

    #[test]
    fn the_example_of_the_specification_is_written_so() {
        let seed: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let address = AddressSecret::from_bytes(&Zeroizing::new(seed)).address();
        assert_eq!(address.to_string(), EXAMPLE);
    }

    #[test]
    fn every_single_wrong_character_is_noticed() {
        let text = person(2).address().to_string();
        for at in 0..text.len() {
            for wrong in (b'a'..=b'z').chain(b'0'..=b'9').filter(|wrong| *wrong != text.as_bytes()[at]) {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = wrong;
                let wrong = String::from_utf8(bytes).unwrap();
                assert!(wrong.parse::<Address>().is_err(), "{wrong}");
            }
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_refused_as_such() {
        let text = person(3).address().to_string();
        for length in 0..text.len() {
            assert_eq!(text[..length].parse::<Address>(), Err(AddressError::Form));
        }
        for wrong in [format!("{text} "), format!(" {text}"), format!("aaaaaaaa{text}"), format!("{text}.trefoil")] {
            assert_eq!(wrong.parse::<Address>(), Err(AddressError::Form), "{wrong}");
        }
        assert_eq!(text.replace(".trefoil", ".onion").parse::<Address>(), Err(AddressError::Form));
    }

    #[test]
    fn another_version_is_named() {
        for version in [0, 2, 255] {
            let text = text(version, person(4).address().as_bytes());
            assert_eq!(text.parse::<Address>(), Err(AddressError::Version(version)));
        }
    }

    #[test]
    fn a_relay_id_is_not_taken_for_an_address() {
        let id = crate::identity::RelaySecret::from_bytes(&Zeroizing::new([5; 32])).id();
        assert!(format!("{id}.trefoil").parse::<Address>().is_err());
    }

    #[test]
    fn a_key_that_is_not_of_prime_order_or_not_in_its_one_form_is_nobodys() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap();
        let keys: [[u8; 32]; 4] = [
            hex("0100000000000000000000000000000000000000000000000000000000000000"), // of order 1
            hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), // of order 8
            hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), // 1 + p, of order 1
            hex("0200000000000000000000000000000000000000000000000000000000000000"), // no point
        ];
        for key in keys.into_iter().chain([crypto::tests::with_torsion(person(6).address().as_bytes())]) {
            assert_eq!(Address::from_bytes(key), Err(AddressError::Key));
            assert_eq!(text(1, &key).parse::<Address>(), Err(AddressError::Key));
        }
        assert_eq!(text(1, person(6).address().as_bytes()).parse(), Ok(person(6).address()));
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = person(7);
        assert_eq!(format!("{secret:?}"), format!("AddressSecret of {:?}", secret.address()));
    }

    proptest! {
        #[test]
        fn a_text_is_one_address_or_refused(text in "[a-zA-Z2-7]{56}(\\.trefoil)?|\\PC{0,80}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string(), text.to_ascii_lowercase());
            }
        }
    }

    const EXAMPLE: &str = "aeb2cb576phbbpq5odorrz2lycmwpzgwgcn2kdk7dxoimzaskuy3q6yu.trefoil";
}
