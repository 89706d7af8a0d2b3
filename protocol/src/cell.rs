//! The two cells that stand before a circuit has keys: `Create` and `Created`.
//!
//! Specification: docs/protocol.md, "Create and Created". The same fields travel inside `Extend` and `Extended`. This
//! file is bytes only: `handshake.rs` does what they are for.

use crate::{
    identity::OnionKeyId,
    limits::{CELL, MAX_EXTENSIONS, MLKEM_CIPHERTEXT, MLKEM_KEY, X25519_KEY},
    onion::Cell,
    wire::{Reader, Writer},
};

/// The first byte of a `Create`, and so of every circuit's QUIC stream.
pub const CREATE: u8 = 0x01;
/// The first byte of a `Created`.
pub const CREATED: u8 = 0x02;
/// The handshake's version.
pub const VERSION: u8 = 1;
/// Bytes of a `Create`'s fields, version through the extensions' length.
pub const CREATE_FIELDS: usize = 1 + 8 + X25519_KEY + MLKEM_KEY + 1 + 8 + 2;
/// Bytes of a `Created`'s fields, status through the extensions' length.
pub const CREATED_FIELDS: usize = 1 + X25519_KEY + MLKEM_CIPHERTEXT + 2;
/// Bytes of a `Created`'s auth.
pub const AUTH: usize = 32;

const STATUS_OK: u8 = 0;
const STATUS_BUSY: u8 = 1;
const STATUS_REFUSED: u8 = 2;
const STATUS_LIMIT: u8 = 3;
/// From here on an unknown extension is fatal.
const FATAL_EXTENSION: u8 = 128;

/// A `Create`'s fields, borrowed. `bytes` is all of them, version through extensions, as the transcript has it.
#[derive(Clone, Copy, Debug)]
pub struct Create<'a> {
    /// Version through extensions.
    pub bytes: &'a [u8],
    /// Which of the relay's onion keys.
    pub onion_key: OnionKeyId,
    /// The origin's X25519 key of this handshake.
    pub x: &'a [u8; X25519_KEY],
    /// The origin's ML-KEM-768 key of this handshake.
    pub ek: &'a [u8; MLKEM_KEY],
    /// How many zero bits the puzzle's hash has; 0 when none was asked for.
    pub effort: u8,
    /// The puzzle's solution.
    pub solution: [u8; 8],
}

/// A `Created` that a relay agreed to, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Created<'a> {
    /// Status through extensions, as the transcript has it.
    pub bytes: &'a [u8],
    /// The relay's X25519 key of this handshake.
    pub y: &'a [u8; X25519_KEY],
    /// The ML-KEM-768 ciphertext.
    pub ct: &'a [u8; MLKEM_CIPHERTEXT],
    /// Proof that the relay holds its onion key and has the same transcript.
    pub auth: &'a [u8; AUTH],
}

/// A relay's answer that is not an agreement. Nothing vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Solve a puzzle of this many bits and ask again.
    #[error("the relay is busy and asks for a puzzle of {0} bits")]
    Busy(u8),
    /// The relay does not have that onion key, or found the handshake malformed.
    #[error("the relay refused the handshake")]
    Refused,
    /// The relay has no room for more circuits.
    #[error("the relay has no room for more circuits")]
    Limit,
}

/// Bytes that are not the cell they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed handshake cell")]
pub struct Malformed;

impl<'a> Create<'a> {
    /// Reads the fields, version through extensions, and nothing behind them.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(bytes).ok_or(Malformed)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Reader::new(bytes);
        let VERSION = fields.byte()? else { return None };
        let create = Self {
            bytes,
            onion_key: OnionKeyId(fields.array()?),
            x: fields.take_array()?,
            ek: fields.take_array()?,
            effort: fields.byte()?,
            solution: fields.array()?,
        };
        read_extensions(&mut fields)?;
        Some(create)
    }

    /// Reads a whole `Create` cell.
    pub fn from_cell(cell: &'a Cell) -> Result<Self, Malformed> {
        Self::decode(fields_of(cell, CREATE, CREATE_FIELDS, 0)?)
    }
}

impl<'a> Created<'a> {
    /// Reads the fields, status through auth, and nothing behind them.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(bytes).ok_or(Malformed)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (bytes, auth) = bytes.split_last_chunk()?;
        let mut fields = Reader::new(bytes);
        let STATUS_OK = fields.byte()? else { return None };
        let created = Self { bytes, y: fields.take_array()?, ct: fields.take_array()?, auth };
        read_extensions(&mut fields)?;
        Some(created)
    }
}

/// Puts a `Create`'s fields into a cell.
pub fn create_cell(create: &[u8]) -> Cell {
    cell_of(CREATE, create)
}

/// Puts a `Created`'s fields, status through auth, into a cell.
pub fn created_cell(created: &[u8]) -> Cell {
    cell_of(CREATED, created)
}

/// A `Created` cell that refuses.
pub fn refusal_cell(refusal: Refusal) -> Cell {
    cell_of(
        CREATED,
        &match refusal {
            Refusal::Busy(effort) => [STATUS_BUSY, effort],
            Refusal::Refused => [STATUS_REFUSED, 0],
            Refusal::Limit => [STATUS_LIMIT, 0],
        },
    )
}

/// Reads a `Created` cell: its fields, status through auth, or the relay's refusal.
///
/// The fields are those of a [`Created`] that decodes, so they fit an `Extended`.
pub fn read_created(cell: &Cell) -> Result<Result<&[u8], Refusal>, Malformed> {
    Ok(match cell {
        [CREATED, STATUS_OK, ..] => {
            let fields = fields_of(cell, CREATED, CREATED_FIELDS, AUTH)?;
            Created::decode(fields)?;
            Ok(fields)
        }
        [CREATED, STATUS_BUSY, effort, ..] => Err(Refusal::Busy(*effort)),
        [CREATED, STATUS_REFUSED, ..] => Err(Refusal::Refused),
        [CREATED, STATUS_LIMIT, ..] => Err(Refusal::Limit),
        _ => return Err(Malformed),
    })
}

fn cell_of(kind: u8, fields: &[u8]) -> Cell {
    let mut cell = [0; CELL];
    Writer::new(&mut cell, 0).put(&[kind]).put(fields);
    cell
}

/// The fields behind a cell's first byte: `fixed` bytes whose last two are the extensions' length, the extensions, and
/// `trailer` bytes. All else must be zero.
fn fields_of(cell: &Cell, kind: u8, fixed: usize, trailer: usize) -> Result<&[u8], Malformed> {
    let [first, rest @ ..] = cell.as_slice() else { return Err(Malformed) };
    let length = rest.get(fixed - 2..fixed).and_then(|bytes| bytes.try_into().ok()).ok_or(Malformed)?;
    let end = fixed + usize::from(u16::from_le_bytes(length)) + trailer;
    let (fields, zeros) = rest.split_at_checked(end).ok_or(Malformed)?;
    if *first != kind || zeros.iter().any(|byte| *byte != 0) { Err(Malformed) } else { Ok(fields) }
}

/// Reads `length 2 ‖ (type 1 ‖ length 1 ‖ body)…` to its end. None is known yet: those below 128 are ignored.
fn read_extensions(fields: &mut Reader<'_>) -> Option<()> {
    let length = usize::from(fields.u16()?);
    let extensions = fields.rest();
    if length != extensions.len() || length > MAX_EXTENSIONS {
        return None;
    }
    let mut extensions = Reader::new(extensions);
    while !extensions.is_empty() {
        let [kind, length] = extensions.array()?;
        extensions.take(usize::from(length))?;
        if kind >= FATAL_EXTENSION {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create() -> Vec<u8> {
        let mut create = vec![7; CREATE_FIELDS];
        create[0] = VERSION;
        create[CREATE_FIELDS - 2..].copy_from_slice(&4u16.to_le_bytes());
        create.extend([1, 2, 0xaa, 0xbb]);
        create
    }

    fn created() -> Vec<u8> {
        let mut created = vec![7; CREATED_FIELDS];
        created[0] = STATUS_OK;
        created[CREATED_FIELDS - 2..].copy_from_slice(&[0, 0]);
        created.extend([9; AUTH]);
        created
    }

    #[test]
    fn create_survives_its_cell() {
        let create = create();
        let cell = create_cell(&create);
        let read = Create::from_cell(&cell).unwrap();
        assert_eq!((read.bytes, read.effort, read.solution), (&create[..], 7, [7; 8]));
    }

    #[test]
    fn created_survives_its_cell() {
        let created = created();
        let cell = created_cell(&created);
        let fields = read_created(&cell).unwrap().unwrap();
        assert_eq!(fields, created);
        assert_eq!(Created::decode(fields).unwrap().auth, &[9; AUTH]);
    }

    #[test]
    fn refusals_survive_their_cells() {
        for refusal in [Refusal::Busy(12), Refusal::Refused, Refusal::Limit] {
            assert_eq!(read_created(&refusal_cell(refusal)), Ok(Err(refusal)));
        }
    }

    #[test]
    fn truncation_at_every_length_is_refused() {
        let (create, created) = (create(), created());
        assert!((0..create.len()).all(|length| Create::decode(&create[..length]).is_err()));
        assert!((0..created.len()).all(|length| Created::decode(&created[..length]).is_err()));
    }

    #[test]
    fn something_behind_the_fields_is_refused() {
        let mut cell = create_cell(&create());
        cell[CELL - 1] = 1;
        assert!(Create::from_cell(&cell).is_err());
        assert!(Create::decode(&[create(), vec![0]].concat()).is_err());
    }

    #[test]
    fn an_unknown_extension_is_ignored_below_128_and_fatal_from_there() {
        for (kind, ok) in [(0, true), (127, true), (128, false), (255, false)] {
            let mut create = create();
            create[CREATE_FIELDS] = kind;
            assert_eq!(Create::decode(&create).is_ok(), ok);
        }
    }

    #[test]
    fn extensions_that_no_message_could_carry_on_are_refused() {
        for (length, ok) in [(MAX_EXTENSIONS, true), (MAX_EXTENSIONS + 2, false), (890, false)] {
            let mut created = created();
            let extensions = [[1, 0]].repeat(length / 2).concat();
            created[CREATED_FIELDS - 2..CREATED_FIELDS].copy_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
            created.splice(CREATED_FIELDS..CREATED_FIELDS, extensions);
            assert_eq!(read_created(&created_cell(&created)).is_ok(), ok, "{length}");
        }
    }

    #[test]
    fn other_versions_statuses_and_kinds_are_refused() {
        let mut other = create();
        other[0] = VERSION + 1;
        assert!(Create::decode(&other).is_err());
        let mut cell = created_cell(&created());
        cell[1] = 99;
        assert!(read_created(&cell).is_err());
        cell[0] = CREATE;
        assert!(read_created(&cell).is_err());
    }
}
