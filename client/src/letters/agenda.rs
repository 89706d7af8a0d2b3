//! Agenda: what is to be done when. It is in memory only, and made anew from the vault at the start.

use std::collections::{BTreeMap, BTreeSet};

/// Something to look at: whoever does finds in the vault what is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Job {
    /// Which inboxes, prekeys and tickets there have to be.
    Plan,
    /// A letter on its way.
    Deliver(u64),
    /// Prekeys of a contact, of a week.
    Look(u32, u32),
    /// Receipts that are owed.
    Confirm(u32),
    /// What goes away.
    Tidy,
    /// What is to be in the backup.
    BackUp,
    /// What came of an earlier device's.
    Restore,
    /// What was taken away is to be gone from the disk, too: the vault's own affair.
    Renew,
}

/// See the file's head. A job is in it once, when it is due first: whoever does it finds what is due later.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    order: BTreeSet<(u64, Job)>,
    due: BTreeMap<Job, u64>,
}

impl Agenda {
    pub(super) fn add(&mut self, jobs: impl IntoIterator<Item = (u64, Job)>) {
        for (due, job) in jobs {
            let before = self.due.get(&job).copied();
            if before.is_some_and(|before| before <= due) {
                continue;
            }
            before.map(|before| self.order.remove(&(before, job)));
            self.order.insert((due, job));
            self.due.insert(job, due);
        }
    }

    /// The next job that is due.
    pub(super) fn take(&mut self, now: u64) -> Option<Job> {
        let (_, job) = self.order.first().filter(|(due, _)| *due <= now).copied()?;
        self.order.pop_first();
        self.due.remove(&job);
        Some(job)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.order.first().map(|(due, _)| *due)
    }
}
