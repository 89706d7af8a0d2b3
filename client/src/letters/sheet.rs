//! Sheets: the parts that a backup is made of, as bytes.
//!
//! Specification: docs/protocol.md, "Backups". The form is that of `postcard`, field after field. This file says nothing of
//! when a sheet is written, and what becomes of what it says.

use serde::{Deserialize, Serialize};
use trefoil_protocol::limits::SHEET;
use zeroize::Zeroizing;

use super::rows::{ContactRow, EntryRow, Hidden, HomeRow};

/// A part of a backup, of use without the others.
#[derive(Serialize, Deserialize)]
pub struct Sheet {
    /// Which device wrote it, and when.
    pub(super) device: u32,
    pub(super) at: u64,
    pub(super) said: Page,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Page {
    People(People),
    Said(Vec<SaidRow>),
}

/// Whom the person knows; all sheets of one time have the same but for their contacts.
#[derive(Serialize, Deserialize)]
pub(super) struct People {
    pub(super) name: String,
    pub(super) tells_read: bool,
    /// Earlier devices whose backups are in this one.
    pub(super) covers: Vec<u32>,
    pub(super) homes: Vec<HomeRow>,
    pub(super) filling: Hidden,
    /// The addresses of all contacts: whoever is not among them was removed.
    pub(super) roster: Vec<[u8; 32]>,
    pub(super) contacts: Vec<ContactRow>,
}

/// Something in a conversation.
#[derive(Serialize, Deserialize)]
pub(super) struct SaidRow {
    pub(super) with: [u8; 32],
    /// Decides the order.
    pub(super) serial: u64,
    pub(super) entry: EntryRow,
}

impl Sheet {
    /// `version 1 ‖ sheet`.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![VERSION]);
        bytes.extend_from_slice(&encoded(self));
        bytes
    }

    /// Takes what [`Self::encode`] made.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, bytes) = bytes.split_first()?;
        (*version == VERSION).then(|| postcard::from_bytes(bytes).ok())?
    }
}

/// As few pages as hold these rows, in order.
pub(super) fn pages<T: Serialize>(rows: Vec<T>) -> Vec<Vec<T>> {
    let (mut pages, mut room): (Vec<Vec<T>>, _) = (vec![], 0);
    for row in rows {
        let size = size(&row);
        match pages.last_mut().filter(|_| size <= room) {
            Some(page) => page.push(row),
            None => {
                pages.push(vec![row]);
                room = SHEET;
            }
        }
        room = room.saturating_sub(size);
    }
    pages
}

/// Bytes of a row in a sheet.
pub(super) fn size<T: Serialize>(row: &T) -> usize {
    encoded(row).len()
}

/// A row as it stands in a sheet.
pub(super) fn encoded<T: Serialize>(row: &T) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(postcard::to_stdvec(row).expect("rows have their bytes"))
}

const VERSION: u8 = 1;
