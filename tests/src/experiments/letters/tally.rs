//! Tally: what became of all letters, by what both sides' programs say at the end.

use std::collections::HashMap;

use trefoil_client::letters::{Delivery, Line};
use trefoil_protocol::{epoch::UnixSeconds, letter::MessageId};

use super::super::{
    queue::{HOUR, Millis},
    trace::Trace,
};

/// A letter, as the simulation knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) written: UnixSeconds,
    /// When it was shown first.
    pub(super) shown: Option<UnixSeconds>,
    /// When its writer was told that nothing more is done for it.
    pub(super) over: Option<UnixSeconds>,
    /// Between whom it is.
    pub(super) between: [usize; 2],
    /// For how long both had been there at once when it was written; once its time is over, for how long meanwhile.
    pub(super) together: Millis,
}

/// All letters of a group.
pub(super) type Fates = HashMap<MessageId, Fate>;

/// What the histories say of one letter.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    said: Option<Delivery>,
    shown: usize,
}

/// What the histories say, letter by letter.
#[derive(Default)]
pub(super) struct Records(HashMap<MessageId, Record>);

/// See the file's head.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) letters: usize,
    pub(super) delivered: usize,
    pub(super) expired: usize,
    pub(super) failed: usize,
    /// Neither of these, or in nobody's history.
    pub(super) silent: usize,
    /// Shown more than once.
    pub(super) twice: usize,
    /// Reported as delivered, and not shown.
    pub(super) unshown: usize,
    /// Reported as expired, and shown.
    pub(super) expired_shown: usize,
    /// Reported as expired before its time was over.
    pub(super) hasty: usize,
    /// Expired, not shown, though both were there at once for hours.
    pub(super) missed: usize,
    pub(super) deposits: u64,
    pub(super) lists: u64,
    pub(super) bytes: u64,
    pub(super) replaced: usize,
    pub(super) restarts: usize,
    /// Seconds until each was shown.
    times: Vec<u64>,
}

impl Records {
    /// Takes note of a line of a conversation.
    pub(super) fn note(&mut self, line: &Line) {
        let record = self.0.entry(line.id).or_default();
        if line.is_ours {
            record.said = line.delivery;
        } else {
            record.shown += 1;
        }
    }
}

impl Tally {
    /// Counts the letters of a group that are delivered for so many seconds.
    pub(super) fn of(fates: &Fates, records: &Records, delivery: u64) -> Self {
        let mut tally = Self { letters: fates.len(), ..Self::default() };
        for (id, fate) in fates {
            let record = records.0.get(id).copied().unwrap_or_default();
            tally.count(*fate, record, delivery);
        }
        tally.times.sort_unstable();
        tally
    }

    fn count(&mut self, fate: Fate, record: Record, delivery: u64) {
        let is_shown = record.shown > 0;
        match record.said {
            Some(Delivery::Delivered | Delivery::Read) => {
                self.delivered += 1;
                self.unshown += usize::from(!is_shown);
            }
            Some(Delivery::Expired) => {
                self.expired += 1;
                self.expired_shown += usize::from(is_shown);
                self.missed += usize::from(!is_shown && fate.together >= READING);
                self.hasty += usize::from(fate.over.is_some_and(|over| over.since(fate.written) < delivery));
            }
            Some(Delivery::Failed(_)) => self.failed += 1,
            Some(Delivery::Queued(_) | Delivery::Accepted(_)) | None => self.silent += 1,
        }
        self.twice += usize::from(record.shown > 1);
        self.times.extend(fate.shown.map(|shown| shown.since(fate.written)));
    }

    /// Adds those of another group.
    pub(super) fn add(&mut self, other: Self) {
        let counts = [
            (&mut self.letters, other.letters),
            (&mut self.delivered, other.delivered),
            (&mut self.expired, other.expired),
            (&mut self.failed, other.failed),
            (&mut self.silent, other.silent),
            (&mut self.twice, other.twice),
            (&mut self.unshown, other.unshown),
            (&mut self.expired_shown, other.expired_shown),
            (&mut self.hasty, other.hasty),
            (&mut self.missed, other.missed),
            (&mut self.replaced, other.replaced),
            (&mut self.restarts, other.restarts),
        ];
        counts.into_iter().for_each(|(sum, count)| *sum += count);
        let traffic =
            [(&mut self.deposits, other.deposits), (&mut self.lists, other.lists), (&mut self.bytes, other.bytes)];
        traffic.into_iter().for_each(|(sum, count)| *sum += count);
        self.times.extend(other.times);
        self.times.sort_unstable();
    }

    /// Seconds within which this share of the letters that were shown was.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        let at = (self.times.len().saturating_sub(1) as f64 * share) as usize;
        self.times.get(at).copied().unwrap_or(0)
    }

    /// What names the run.
    pub(super) fn enter(&self, trace: &mut Trace) {
        self.times.iter().for_each(|time| trace.add([*time, 0, 0, 0]));
        trace.add([self.delivered as u64, self.expired as u64, self.deposits, self.bytes]);
    }
}

/// Where both are there for so long at once while a letter is on its way, it comes, whatever became of its mailboxes.
const READING: Millis = 2 * HOUR;
