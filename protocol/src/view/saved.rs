//! A view as bytes for the disk, and back, whatever has become of them there.
//!
//! Specification: none, since nobody else reads it. Entries, each `kind 1 ‖ length 2 ‖ content ‖ checksum 8`; the
//! last says how many there were. An entry is found by its checksum, so that what is whole is read, whatever is not.

use super::{Known, View};
use crate::{
    crypto,
    descriptor::{Checked, DescriptorError, Record},
    entry::RelayEntry,
    epoch::{Epoch, UnixSeconds},
    fraud::FraudProof,
    limits::{MAX_FRAUD, MAX_RECORD},
    params::NetworkParams,
    wire::Reader,
};

/// A view that was saved.
#[derive(Debug)]
pub struct Loaded {
    /// What was whole and still counts.
    pub view: View,
    /// How many entries were not whole, as far as it can be told: at least 1 if any was.
    pub damaged: usize,
    /// How many records were whole and do not count now: a few after a pause, all of them if the clock is wrong.
    pub stale: usize,
    /// Relays that were reached once and whose records have expired: they may still be where they were, and be asked.
    pub expired: Vec<RelayEntry>,
    /// The same of relays that were not reached: a client reaches hardly any itself, and knows them all the same.
    pub expired_unreached: Vec<RelayEntry>,
}

const HEADER: u8 = 1;
const RECORD: u8 = 2;
const FRAUD: u8 = 3;
const END: u8 = 4;

const LABEL: &[u8] = b"trefoil/1 saved view";
const CHECKSUM: usize = 8;
const REACHED: u8 = 1;
const ESTABLISHED: u8 = 1 << 1;
const AT_V6: u8 = 1 << 2;
const LONGEST: usize = if MAX_FRAUD > 9 + MAX_RECORD { MAX_FRAUD } else { 9 + MAX_RECORD };

impl View {
    /// All that the view holds.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![];
        put(&mut bytes, HEADER, &self.begun.0.to_le_bytes());
        for known in self.known.values() {
            let mut content = known.first_seen.0.to_le_bytes().to_vec();
            let flags = [(REACHED, known.reached), (ESTABLISHED, known.established), (AT_V6, known.at_v6)];
            content.push(flags.iter().filter(|(_, set)| *set).fold(0, |flags, (bit, _)| flags | bit));
            content.extend(known.record.record().bytes());
            put(&mut bytes, RECORD, &content);
        }
        self.frauds.values().for_each(|proof| put(&mut bytes, FRAUD, &proof.encode()));
        let count = u32::try_from(self.known.len() + self.frauds.len()).expect("a view is bounded");
        put(&mut bytes, END, &count.to_le_bytes());
        bytes
    }

    /// Reads what was saved, as far as it is whole. Signatures are checked again; memory-hard work is not.
    pub fn decode(bytes: &[u8], params: &NetworkParams, now: UnixSeconds) -> Loaded {
        let mut loaded =
            Loaded { view: Self::new(params, now), damaged: 0, stale: 0, expired: vec![], expired_unreached: vec![] };
        let (mut taken, mut count) = (0, None);
        let (mut rest, mut in_gap) = (bytes, false);
        while let Some((_, after)) = rest.split_first() {
            let Some((kind, content, after)) = entry(rest) else {
                loaded.damaged += usize::from(!in_gap);
                (rest, in_gap) = (after, true);
                continue;
            };
            (rest, in_gap) = (after, false);
            match kind {
                HEADER => loaded.begin(content),
                END => count = Reader::new(content).u32().and_then(|count| usize::try_from(count).ok()),
                _ => {
                    taken += 1;
                    loaded.take(kind, content, params, now);
                }
            }
        }
        match count {
            Some(count) => loaded.damaged = loaded.damaged.max(count.saturating_sub(taken)),
            None => loaded.damaged = loaded.damaged.max(1),
        }
        loaded.view.place_again();
        loaded
    }
}

impl Loaded {
    fn begin(&mut self, content: &[u8]) {
        let begun = Reader::new(content).u32().map(Epoch);
        self.view.begun = begun.unwrap_or(self.view.begun).min(self.view.begun);
    }

    fn take(&mut self, kind: u8, content: &[u8], params: &NetworkParams, now: UnixSeconds) {
        let taken =
            if kind == RECORD { self.take_record(content, params, now) } else { self.take_fraud(content, params, now) };
        if taken.is_none() {
            self.damaged += 1;
        }
    }

    fn take_record(&mut self, content: &[u8], params: &NetworkParams, now: UnixSeconds) -> Option<()> {
        let mut fields = Reader::new(content);
        let (first_seen, flags) = (UnixSeconds(fields.u64()?), fields.byte()?);
        let record = Record::decode(fields.rest()).ok()?;
        let entry = record.entry();
        let record = match Checked::trust_saved(record, params, now) {
            Ok(record) => record,
            Err(error @ (DescriptorError::Expired | DescriptorError::Future)) => {
                self.stale += 1;
                let was_reached = flags & REACHED != 0;
                let kept = if was_reached { &mut self.expired } else { &mut self.expired_unreached };
                kept.extend((error == DescriptorError::Expired).then_some(entry));
                return Some(());
            }
            Err(_) => return None,
        };
        let relay = record.record().relay();
        let known = Known {
            record,
            first_seen: first_seen.min(now),
            reached: flags & REACHED != 0,
            at_v6: flags & AT_V6 != 0,
            established: flags & ESTABLISHED != 0,
        };
        self.view.known.insert(relay, known).is_none().then_some(())
    }

    fn take_fraud(&mut self, content: &[u8], params: &NetworkParams, now: UnixSeconds) -> Option<()> {
        let proof = FraudProof::decode(content).ok()?;
        match proof.check(params, now) {
            Ok(()) => drop(self.view.keep_fraud(proof)),
            Err(DescriptorError::Expired | DescriptorError::Future) => {}
            Err(_) => return None,
        }
        Some(())
    }
}

fn put(bytes: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let length = u16::try_from(content.len()).expect("records and fraud proofs are short");
    bytes.push(kind);
    bytes.extend(length.to_le_bytes());
    bytes.extend(content);
    bytes.extend(checksum(kind, content));
}

/// The entry at the beginning of these bytes, if there is a whole one, and what comes after it.
fn entry(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let mut fields = Reader::new(bytes);
    let (kind, length) = (fields.byte()?, usize::from(fields.u16()?));
    if !(HEADER..=END).contains(&kind) || length > LONGEST {
        return None;
    }
    let content = fields.take(length)?;
    let whole = *fields.take_array::<CHECKSUM>()? == checksum(kind, content);
    whole.then(|| (kind, content, fields.rest()))
}

fn checksum(kind: u8, content: &[u8]) -> [u8; CHECKSUM] {
    let [a, b, c, d, e, f, g, h, ..] = crypto::blake3(&[LABEL, &[kind], content]);
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests;
