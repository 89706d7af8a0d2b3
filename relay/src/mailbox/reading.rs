//! Reading: what a mailbox answers to those who ask what is there.
//!
//! Specification: docs/protocol.md, "Mailbox streams". Whoever may ask was checked before. Each question sees the file as
//! one commit left it, while the next one is written. What has expired is not there, whether or not it was cleared away.

use redb::{Database, ReadTransaction, ReadableDatabase, TransactionError};
use trefoil_protocol::{
    envelope::LetterId,
    epoch::UnixSeconds,
    limits::MAILBOX_LIST,
    mailbox::{Listed, Postage, Refusal},
    prekeys::PrekeysRecord,
    puzzle::Hour,
    ring::Placement,
    tombstone::Tombstone,
};

use super::{
    Terms, Totals,
    changes::Parcel,
    counter::Counter,
    ledger::Stop,
    letters::envelope_key,
    rows::{
        self, ARRIVED, BY_REPAIR, DEPOSITED, ENVELOPES, Fate, INBOXES, InboxRow, LETTERS, ORDER, PIECE, PREKEYS,
        PlaceKey, Row, SPENT, STONES, TICKETS, TOMBSTONES, TOTALS, letter_key, place_key,
    },
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
    let here = row.filter(|row| row.fate == Fate::Here && row.expiry() > hour);
    let Some((row, class)) = here.and_then(|row| Some((row, row.class?))) else { return Err(Refusal::Gone.into()) };
    let table = reading.open_table(ENVELOPES)?;
    let mut envelope = Vec::with_capacity(class.bytes());
    for number in 0..class.bytes().div_ceil(PIECE) as u64 {
        let piece = table.get_owned(envelope_key(row.serial, number))?;
        envelope.extend_from_slice(piece.ok_or(Refusal::Gone)?.value());
    }
    Ok(Found { postage: row.postage, envelope })
}

/// Until when a letter is kept that needs no writing, since it was deposited for as long before; or why it is not taken.
pub(super) fn deposited(
    database: &Database,
    terms: &Terms,
    parcel: &Parcel,
    now: UnixSeconds,
) -> Result<Option<Hour>, Stop> {
    let reading = database.begin_read()?;
    let key = letter_key(&parcel.inbox, &parcel.letter);
    let row = reading.open_table(LETTERS)?.get_owned(&key)?.map(|row| Row::decode(row.value()));
    let known = row.map(|row| row.deposited).filter(|deposited| *deposited > Hour::of_unix(now.0));
    if let Some(deposited) = known {
        return Ok(Some(deposited).filter(|deposited| *deposited >= parcel.expiry));
    }
    let (inboxes, spent) = (reading.open_table(INBOXES)?, reading.open_table(SPENT)?);
    let (tickets, totals) = (reading.open_table(TICKETS)?, reading.open_table(TOTALS)?);
    let deposited = totals.get(DEPOSITED)?.map_or(0, |total| total.value());
    let counter = Counter { terms, inboxes: &inboxes, spent: &spent, tickets: &tickets, deposited };
    counter.check(parcel, now).map(|_| None)
}

/// Those tombstones of an inbox that are not there yet.
pub(super) fn unknown(database: &Database, inbox: &Placement, stones: &[Tombstone]) -> Result<Vec<Tombstone>, Stop> {
    let reading = database.begin_read()?;
    reading.open_table(INBOXES)?.get(&inbox.encode())?.ok_or(Refusal::Gone)?;
    let letters = reading.open_table(LETTERS)?;
    let mut unknown = vec![];
    for stone in stones {
        let row = letters.get(&letter_key(inbox, &stone.letter))?.map(|row| Row::decode(row.value()));
        unknown.extend(Some(*stone).filter(|_| row.is_none_or(|row| row.fate != Fate::Buried)));
    }
    Ok(unknown)
}

/// Those of a replica's letters that are to be taken from it: they were not deleted here, and are not kept as long.
pub(super) fn lacking(database: &Database, inbox: &Placement, letters: &[Listed]) -> Result<Vec<Listed>, Stop> {
    let table = database.begin_read()?.open_table(LETTERS)?;
    let mut lacking = vec![];
    for listed in letters {
        let row = table.get(&letter_key(inbox, &listed.letter))?.map(|row| Row::decode(row.value()));
        let lacks = row.is_none_or(|row| row.fate == Fate::Here && row.expiry() < listed.expiry);
        lacking.extend(Some(*listed).filter(|_| lacks));
    }
    Ok(lacking)
}

/// What came after this number, as far as it is wanted, and where the next page begins.
pub(super) fn kept(
    database: &Database,
    after: u64,
    is_wanted: impl Fn(&Placement) -> bool,
) -> Result<(u64, Vec<Placement>), Stop> {
    let table = database.begin_read()?.open_table(ARRIVED)?;
    let (mut next, mut placements) = (after, vec![]);
    for entry in table.range(after.saturating_add(1)..)?.take(MAILBOX_LIST) {
        let (arrived, placement) = entry?;
        next = arrived.value();
        placements.extend(Placement::decode(placement.value()).filter(&is_wanted));
    }
    Ok((next, placements))
}

/// How much is here.
pub(super) fn totals(database: &Database) -> Result<Totals, Stop> {
    let table = database.begin_read()?.open_table(TOTALS)?;
    let total = |of| Ok::<_, Stop>(table.get(of)?.map_or(0, |total| total.value()));
    Ok(Totals { deposited: total(DEPOSITED)?, repaired: total(BY_REPAIR)?, tombstones: total(STONES)? })
}

/// Whether there is anything of this placement.
pub(super) fn has(database: &Database, placement: &Placement) -> Result<bool, Stop> {
    let (reading, key) = (database.begin_read()?, placement.encode());
    Ok(reading.open_table(INBOXES)?.get(&key)?.is_some() || reading.open_table(PREKEYS)?.get(&key)?.is_some())
}

/// Whether tickets were registered for this inbox.
pub(super) fn is_paid(database: &Database, inbox: &Placement) -> Result<bool, Stop> {
    let table = database.begin_read()?.open_table(INBOXES)?;
    let row = table.get(&inbox.encode())?.map(|row| InboxRow::decode(row.value()));
    Ok(row.is_some_and(|row| row.lists.iter().any(|list| list.paid > 0)))
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
