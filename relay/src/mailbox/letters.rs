//! Letters: what a mailbox writes of each, and when nobody wants it any more.
//!
//! Specification: docs/protocol.md, "Mailbox streams". A letter is here for who deposited it, for a replica, or for both;
//! each of the two ends by itself. All that is written of a letter is written by [`Ledger::settle`].

use redb::ReadableTable;
use trefoil_protocol::{
    envelope::SizeClass, identity::RelayId, mailbox::Listed, puzzle::Hour, ring::Placement, tombstone::Tombstone,
};

use super::{
    changes::Parcel,
    ledger::{Ledger, Stop},
    rows::{self, Fate, LetterKey, PIECE, Row, listed, of_letter_key, of_repaired, place_key, repaired, tombstone},
};

impl Ledger<'_> {
    /// What is known of a letter.
    pub(super) fn letter(&self, key: &LetterKey) -> Result<Option<Row>, Stop> {
        Ok(self.letters.get(key)?.map(|row| Row::decode(row.value())))
    }

    /// What is known of a letter by this hour, when what has passed was cleared away.
    pub(super) fn lapse(&mut self, key: &LetterKey, hour: Hour) -> Result<Option<Row>, Stop> {
        let (Some((inbox, _)), Some(before)) = (of_letter_key(key), self.letter(key)?) else { return Ok(None) };
        let row = self.passed(&inbox, before, hour)?;
        if row == before { Ok(Some(row)) } else { self.settle(key, row) }
    }

    /// A letter without what has passed of it by this hour; to be settled.
    pub(super) fn passed(&mut self, inbox: &Placement, row: Row, hour: Hour) -> Result<Row, Stop> {
        let has_passed = |until: Hour| until > Hour(0) && until <= hour;
        let mut row = row;
        if has_passed(row.deposited) {
            self.release(inbox, &row)?;
            row = Row { deposited: Hour(0), room: 0, ..row };
        }
        if has_passed(row.repaired) {
            row = self.let_go(inbox, row)?;
        }
        Ok(row)
    }

    /// Writes what is known of a letter, or removes it where nobody wants it any more.
    pub(super) fn settle(&mut self, key: &LetterKey, row: Row) -> Result<Option<Row>, Stop> {
        let Some((inbox, letter)) = of_letter_key(key) else { return Ok(None) };
        self.touch();
        let (next, mut row) = (row.passes(), row);
        match (row.fate, row.class) {
            (Fate::Here, Some(class)) if next > Hour(0) => {
                let entry = Listed { letter, class, expiry: row.expiry() };
                self.order.insert(&place_key(&inbox, row.place), &listed(&entry))?;
            }
            (Fate::Buried, _) => {}
            (Fate::Gone, _) if next > Hour(0) => {}
            _ => {
                self.discard(&inbox, &row)?;
                self.letters.remove(key)?;
                return Ok(None);
            }
        }
        if next > Hour(0) && (row.due == Hour(0) || next < row.due) {
            row.due = next;
            self.look_again(next, key)?;
        }
        self.letters.insert(key, &row.encode())?;
        Ok(Some(row))
    }

    /// One that is new, with its envelope; to be settled.
    pub(super) fn unpack(&mut self, parcel: &Parcel) -> Result<Row, Stop> {
        let (place, serial) = (self.next_place(&parcel.inbox)?, self.serial());
        for (number, piece) in (0..).zip(parcel.envelope.chunks(PIECE)) {
            self.envelopes.insert(envelope_key(serial, number), piece)?;
        }
        Ok(Row { class: Some(parcel.class), place, serial, postage: parcel.postage, ..Row::NEW })
    }

    /// Has a letter for a replica, too, which told it.
    pub(super) fn hold(&mut self, key: &LetterKey, inbox: &Placement, row: &Row, source: &RelayId) -> Result<(), Stop> {
        self.repaired.insert(row.serial, &repaired(key, source))?;
        self.reckon_repaired(inbox, source, row.class.map_or(0, SizeClass::reckoned))
    }

    /// A letter that no replica has it here for any more; to be settled.
    pub(super) fn let_go(&mut self, inbox: &Placement, row: Row) -> Result<Row, Stop> {
        let held = self.repaired.remove(row.serial)?.map(|held| of_repaired(held.value()));
        if let Some((_, source)) = held {
            self.release_repaired(inbox, &source, row.class.map_or(0, SizeClass::reckoned))?;
        }
        Ok(Row { repaired: Hour(0), ..row })
    }

    /// Lets go of what came by repair, the oldest first, until there is no more than there is room for.
    pub(super) fn make_way(&mut self) -> Result<(), Stop> {
        while self.is_over() {
            let first = self.repaired.first()?.map(|(serial, held)| (serial.value(), of_repaired(held.value())));
            let Some((serial, (key, _))) = first else { return Ok(()) };
            match (of_letter_key(&key), self.letter(&key)?) {
                (Some((inbox, _)), Some(row)) if row.serial == serial => {
                    let row = self.let_go(&inbox, row)?;
                    self.settle(&key, row)?;
                }
                _ => drop(self.repaired.remove(serial)?), // nothing is known of it: it would be found again and again
            }
        }
        Ok(())
    }

    /// Removes a letter that its owner deletes, and leaves a tombstone where there is room for one.
    pub(super) fn bury(&mut self, key: &LetterKey, stone: &Tombstone, row: Row) -> Result<(), Stop> {
        let Some((inbox, _)) = of_letter_key(key) else { return Ok(()) };
        let mut row = row;
        if row.repaired > Hour(0) {
            row = self.let_go(&inbox, row)?;
        }
        if row.fate == Fate::Here {
            self.discard(&inbox, &row)?;
        }
        row.fate = Fate::Gone;
        if self.check_stones(&inbox, 1).is_ok() {
            row = Row { fate: Fate::Buried, place: self.next_place(&inbox)?, ..row };
            self.reckon_stone(&inbox)?;
            self.tombstones.insert(&place_key(&inbox, row.place), &tombstone(stone))?;
        }
        self.settle(key, row).map(|_| ())
    }

    /// Removes all of a letter; what it is reckoned at, its inbox gives back.
    pub(super) fn erase(&mut self, inbox: &Placement, key: &LetterKey) -> Result<(), Stop> {
        let Some(row) = self.letter(key)? else { return Ok(()) };
        self.touch();
        let row = if row.repaired > Hour(0) { self.let_go(inbox, row)? } else { row };
        match row.fate {
            Fate::Here => self.discard(inbox, &row)?,
            Fate::Gone => {}
            Fate::Buried => drop(self.tombstones.remove(&place_key(inbox, row.place))?),
        }
        self.letters.remove(key)?;
        Ok(())
    }

    /// Removes the envelope of a letter, and its place.
    fn discard(&mut self, inbox: &Placement, row: &Row) -> Result<(), Stop> {
        if row.fate == Fate::Here {
            self.order.remove(&place_key(inbox, row.place))?;
            let pieces = row.class.map_or(0, |class| class.bytes().div_ceil(PIECE)) as u64;
            for piece in 0..pieces {
                self.envelopes.remove(envelope_key(row.serial, piece))?;
            }
        }
        Ok(())
    }

    /// The letters of an inbox that are known, up to so many.
    pub(super) fn letters_of(&self, inbox: &Placement, most: usize) -> Result<Vec<LetterKey>, Stop> {
        let (from, to) = rows::letters_of(inbox);
        let found = self.letters.range::<&LetterKey>(&from..=&to)?.take(most);
        found.map(|entry| entry.map(|(key, _)| *key.value()).map_err(Stop::from)).collect()
    }
}

/// The key of a piece of an envelope.
pub(super) fn envelope_key(serial: u64, piece: u64) -> u64 {
    serial.saturating_mul(PIECES).saturating_add(piece)
}

/// More than an envelope has.
const PIECES: u64 = 32;
