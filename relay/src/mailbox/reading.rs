//! Reading: what a mailbox answers to those who ask what is there.
//!
//! Specification: docs/protocol.md, "Mailbox streams". Whoever may ask was checked before. Each question sees the file as
//! one commit left it, while the next one is written. What has expired is not there, whether or not it was cleared away.

use redb::{Database, ReadTransaction, ReadableDatabase, TransactionError};
use trefoil_protocol::{
    envelope::LetterId,
    limits::MAILBOX_LIST,
    mailbox::{Listed, Postage, Refusal},
    prekeys::PrekeysRecord,
    puzzle::Hour,
    ring::Placement,
    tombstone::Tombstone,
};

use super::{
    ledger::{Stop, envelope_key},
    rows::{self, ENVELOPES, LETTERS, ORDER, PIECE, PREKEYS, PlaceKey, Row, State, TOMBSTONES, letter_key, place_key},
};

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Where the next one begins.
    pub(super) next: u64,
    pub(super) letters: Vec<Listed>,
    pub(super) tombstones: Vec<Tombstone>,
}

/// A letter that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) postage: Postage,
    pub(super) envelope: Vec<u8>,
}

/// The letters that came after this place.
pub(super) fn list(database: &Database, inbox: &Placement, after: u64, hour: Hour) -> Result<Page, Stop> {
    letters(&database.begin_read()?, inbox, after, hour)
}

fn letters(reading: &ReadTransaction, inbox: &Placement, after: u64, hour: Hour) -> Result<Page, Stop> {
    let order = reading.open_table(ORDER)?;
    let mut page = Page { next: after, letters: vec![], tombstones: vec![] };
    let Some(first) = after.checked_add(1) else { return Ok(page) };
    for entry in order.range::<&PlaceKey>(&place_key(inbox, first)..=&place_key(inbox, u64::MAX))? {
        let (place, letter) = entry?;
        page.next = rows::place(place.value());
        page.letters.extend(rows::of_listed(letter.value()).filter(|letter| letter.expiry > hour));
        if page.letters.len() == MAILBOX_LIST {
            break;
        }
    }
    Ok(page)
}

/// The letters and tombstones that came after this place.
pub(super) fn pull(database: &Database, inbox: &Placement, after: u64, hour: Hour) -> Result<Page, Stop> {
    let reading = database.begin_read()?; // one for both: what comes between two would never be named
    let letters = letters(&reading, inbox, after, hour)?;
    let table = reading.open_table(TOMBSTONES)?;
    let mut page = Page { next: after, ..letters.clone() };
    // where the letters go on, the tombstones that came after the last of these wait for the next page
    let last = if letters.letters.len() == MAILBOX_LIST { letters.next } else { u64::MAX };
    let Some(first) = after.checked_add(1).filter(|first| *first <= last) else { return Ok(page) };
    let mut next = letters.next;
    for entry in table.range::<&PlaceKey>(&place_key(inbox, first)..=&place_key(inbox, last))? {
        let (place, tombstone) = entry?;
        if page.tombstones.len() == MAILBOX_LIST {
            // and the letters that came after the last tombstone are named once more: to take twice does nothing
            next = next.min(rows::place(place.value()) - 1);
            break;
        }
        page.tombstones.extend(rows::of_tombstone(tombstone.value()));
        next = next.max(rows::place(place.value()));
    }
    page.next = next;
    Ok(page)
}

/// A letter, as it was deposited.
pub(super) fn find(database: &Database, inbox: &Placement, letter: &LetterId, hour: Hour) -> Result<Found, Stop> {
    let reading = database.begin_read()?;
    let row = reading.open_table(LETTERS)?.get_owned(&letter_key(inbox, letter))?.map(|row| Row::decode(row.value()));
    let here = row.filter(|row| row.state != State::Deleted && row.expiry > hour);
    let Some((row, class)) = here.and_then(|row| Some((row, row.class?))) else { return Err(Refusal::Gone.into()) };
    let table = reading.open_table(ENVELOPES)?;
    let mut envelope = Vec::with_capacity(class.bytes());
    for number in 0..class.bytes().div_ceil(PIECE) as u64 {
        let piece = table.get_owned(envelope_key(row.serial, number))?;
        envelope.extend_from_slice(piece.ok_or(Refusal::Gone)?.value());
    }
    Ok(Found { postage: row.postage, envelope })
}

/// The prekeys of this placement.
pub(super) fn look(database: &Database, placement: &Placement) -> Result<PrekeysRecord, Stop> {
    let reading = database.begin_read()?;
    let found = reading.open_table(PREKEYS)?.get_owned(&placement.encode())?;
    Ok(PrekeysRecord::from_bytes(found.ok_or(Refusal::Gone)?.value()))
}

impl From<TransactionError> for Stop {
    fn from(error: TransactionError) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}
