//! Boxes with a key of their own: what is sealed once and for all, with a key that seals nothing else.
//!
//! Specification: docs/protocol.md, "Prekeys". ChaCha20-Poly1305 (RFC 8439) with a nonce of zeros and no associated
//! data. Whoever makes the key sees to it that it is fresh.

use aws_lc_rs::aead::{Aad, Nonce};
use zeroize::Zeroizing;

use super::{Forged, Secret, layer_aead};

/// Seals `text`, which becomes longer by a tag of 16 bytes. The key must never seal anything else.
pub fn seal_once(key: &Secret, text: &[u8]) -> Vec<u8> {
    let mut sealed = text.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    layer_aead(key).seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).expect("far below the cipher's limit");
    sealed
}

/// Opens what [`seal_once`] made.
///
/// # Errors
/// [`Forged`] for anything else.
pub fn open_once(key: &Secret, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Forged> {
    let mut text = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let length = layer_aead(key).open_in_place(nonce, Aad::empty(), &mut text).map_err(|_| Forged)?.len();
    text.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::Aead};

    use super::*;

    #[test]
    fn a_box_is_that_of_the_other_implementation() {
        let key = Zeroizing::new([7; 32]);
        let theirs = ChaCha20Poly1305::new(&(*key).into()).encrypt(&[0; 12].into(), b"text".as_slice()).unwrap();
        assert_eq!(seal_once(&key, b"text"), theirs);
    }

    #[test]
    fn a_box_opens_whole_and_with_its_key_only() {
        let key = Zeroizing::new([7; 32]);
        let sealed = seal_once(&key, b"text");
        assert_eq!(*open_once(&key, &sealed).unwrap(), b"text");
        assert_eq!(open_once(&Zeroizing::new([8; 32]), &sealed), Err(Forged));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open_once(&key, &changed), Err(Forged));
            assert_eq!(open_once(&key, &sealed[..at]), Err(Forged));
        }
    }
}
