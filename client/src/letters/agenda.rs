//! Agenda: what is to be done when. It is in memory only, and made anew from the vault at the start.

use std::collections::BTreeSet;

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
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Agenda(BTreeSet<(u64, Job)>);

impl Agenda {
    pub(super) fn add(&mut self, jobs: impl IntoIterator<Item = (u64, Job)>) {
        self.0.extend(jobs);
    }

    /// The next job that is due.
    pub(super) fn take(&mut self, now: u64) -> Option<Job> {
        let (due, _) = self.0.first()?;
        (*due <= now).then(|| self.0.pop_first()).flatten().map(|(_, job)| job)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.0.first().map(|(due, _)| *due)
    }
}
