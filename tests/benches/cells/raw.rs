//! The raw AEAD: what a layer would cost if it were nothing else.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use trefoil_protocol::{
    limits::{CELL, CELL_BATCH, TAG},
    onion::Cell,
};

use crate::{Operation, Per, layers::BATCHES, time_each};

/// The name of sealing's operation.
pub(crate) const SEAL: &str = "raw AEAD, seal";
/// The name of opening's operation.
pub(crate) const OPEN: &str = "raw AEAD, open";

/// Sealing and opening of a cell's sealed part, with one key.
pub(crate) fn operations() -> Vec<Operation> {
    let mut cells = [[0; CELL]; CELL_BATCH];
    let (sealing, opening) = (key(), key());
    let seal_all = move || time_each(BATCHES, &mut cells, |_| (), |cell| seal(&sealing, cell));
    let mut sealed = [[0; CELL]; CELL_BATCH];
    let open_all = move || time_each(BATCHES, &mut sealed, |cell| seal(&opening, cell), |cell| open(&opening, cell));
    vec![Operation::new(SEAL, Per::Sealed(1), seal_all), Operation::new(OPEN, Per::Opened(1), open_all)]
}

fn key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("the key has 32 bytes"))
}

fn seal(key: &LessSafeKey, cell: &mut Cell) {
    let (tag, text) = cell.split_at_mut(TAG);
    let sealed = key.seal_in_place_separate_tag(nonce(), Aad::empty(), text).expect("far below the cipher's limit");
    tag.copy_from_slice(sealed.as_ref());
}

fn open(key: &LessSafeKey, cell: &mut Cell) {
    let (tag, text) = cell.split_at_mut(TAG);
    key.open_in_place_separate_tag(nonce(), Aad::empty(), tag, text).expect("sealed with the same key and nonce");
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12]) // always the same one: nothing here is secret
}
