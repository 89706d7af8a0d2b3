//! Sheets: the parts that a backup is made of, as bytes.
//!
//! Specification: docs/protocol.md, "Backups". The form is that of `postcard`, field after field. This file says nothing of
//! when a sheet is written, and what becomes of what it says.

use serde::{Deserialize, Serialize};
use trefoil_protocol::{conversation::Heard, inbox::Whereabouts, limits::SHEET};
use zeroize::Zeroizing;

use super::{
    contacts::check_own_name,
    rows::{ContactRow, EntryRow, Hidden, HomeRow, PassRow},
};

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

    /// Takes what [`Self::encode`] made of rows that the rest of this program can go on with; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, sheet) = bytes.split_first()?;
        let sheet: Self = postcard::from_bytes(sheet).ok().filter(|_| *version == VERSION)?;
        // postcard takes numbers that are longer than need be, and leaves what comes behind
        let is_whole = *sheet.encode() == *bytes;
        (is_whole && sheet.said.is_sound()).then_some(sheet)
    }
}

impl Page {
    fn is_sound(&self) -> bool {
        match self {
            Self::People(people) => people.is_sound(),
            Self::Said(_) => true,
        }
    }
}

impl People {
    /// Whether the person has a name that others can be told and lives somewhere, and all that has to be a key or a place
    /// is as long as one.
    fn is_sound(&self) -> bool {
        let is_housed = !self.homes.is_empty() && self.homes.iter().all(|home| is_place(&home.whereabouts));
        let is_person = is_housed && check_own_name(&self.name).is_ok();
        is_person && is_key(&self.filling) && self.contacts.iter().all(is_contact)
    }
}

fn is_contact(contact: &ContactRow) -> bool {
    let is_pass = |pass: &PassRow| is_place(&pass.whereabouts) && is_key(&pass.tickets);
    let is_writable = contact.pass.as_ref().is_none_or(is_pass);
    is_writable && is_key(&contact.tickets) && Heard::decode(&contact.heard).is_ok()
}

fn is_place(whereabouts: &Hidden) -> bool {
    whereabouts.0.len() == Whereabouts::LENGTH
}

fn is_key(key: &Hidden) -> bool {
    key.0.len() == 32
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// People without contacts: the person is found there.
    fn people(homes: &[&[u8]]) -> People {
        let home = |at: &&[u8]| HomeRow { whereabouts: Hidden::new(at), left: None, salts: [].into() };
        People {
            name: "Erika".into(),
            tells_read: false,
            covers: vec![],
            homes: homes.iter().map(home).collect(),
            filling: Hidden::new(&[1; 32]),
            roster: vec![],
            contacts: vec![],
        }
    }

    fn is_read(people: People) -> bool {
        Sheet::decode(&Sheet { device: 1, at: 2, said: Page::People(people) }.encode()).is_some()
    }

    #[test]
    fn a_sheet_has_one_form_and_nothing_behind_it() {
        let said = Sheet { device: 1, at: 2, said: Page::Said(vec![]) }.encode();
        assert_eq!(*said, [1, 1, 2, 1, 0]);
        assert_eq!(*Sheet::decode(&said).unwrap().encode(), *said);
        for other in [&[1, 1, 2, 1, 0, 0][..], &[1, 0x81, 0, 2, 1, 0], &[1, 1, 2, 1], &[2, 1, 2, 1, 0], &[1], &[]] {
            assert!(Sheet::decode(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn people_whom_the_program_could_not_go_on_with_are_refused() {
        assert!(is_read(people(&[&[2; 36]])));
        assert!(!is_read(people(&[])), "a person lives somewhere");
        assert!(!is_read(people(&[&[2; 36], &[2; 35]])));
        assert!(!is_read(People { filling: Hidden::new(&[1; 31]), ..people(&[&[2; 36]]) }));
        assert!(!is_read(People { name: "a\u{14}".into(), ..people(&[&[2; 36]]) }), "nobody can be told such a name");
    }

    /// Numbers that stand for bytes, as the vectors have them.
    fn hexadecimal(value: &mut Value) {
        match value {
            Value::Array(items) => {
                let bytes: Option<Vec<u8>> =
                    items.iter().map(|item| item.as_u64().and_then(|byte| byte.try_into().ok())).collect();
                match bytes.filter(|bytes| bytes.len() >= 16) {
                    Some(bytes) => *value = data_encoding::HEXLOWER.encode(&bytes).into(),
                    None => items.iter_mut().for_each(hexadecimal),
                }
            }
            Value::Object(fields) => {
                if fields.get("heard") == Some(&Value::Array(vec![])) {
                    fields["heard"] = "".into();
                }
                fields.values_mut().for_each(hexadecimal);
            }
            _ => {}
        }
    }

    #[test]
    fn another_implementation_writes_and_reads_the_same() {
        let vector: Value = serde_json::from_str(include_str!("../../../protocol/vectors/backup.json")).unwrap();
        for vector in vector["sheets"].as_array().unwrap() {
            let bytes = data_encoding::HEXLOWER.decode(vector["bytes"].as_str().unwrap().as_bytes()).unwrap();
            let sheet = Sheet::decode(&bytes).unwrap();
            let mut says = serde_json::to_value(&sheet).unwrap();
            hexadecimal(&mut says);
            assert_eq!(says, vector["says"]);
            assert_eq!(*sheet.encode(), bytes);
        }
    }

    #[test]
    fn a_contact_with_a_conversation_that_cannot_go_on_is_refused() {
        let vector: Value = serde_json::from_str(include_str!("../../../protocol/vectors/backup.json")).unwrap();
        let bytes = data_encoding::HEXLOWER.decode(vector["sheets"][0]["bytes"].as_str().unwrap().as_bytes()).unwrap();
        let Some(Sheet { said: Page::People(mut people), .. }) = Sheet::decode(&bytes) else { panic!("of people") };
        people.contacts[0].heard.pop();
        assert!(!is_read(people));
    }
}
