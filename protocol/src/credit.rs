//! The receive window of one stream: how much its peer may send, and when it may send more.
//!
//! Specification: docs/protocol.md, "Credit". A window starts at [`INITIAL_CREDIT`] and grows with the rate at which
//! the local program drains the stream, up to [`MAX_CREDIT`]. It never shrinks, and it never holds bytes.

use std::{mem, time::Instant};

use crate::{
    limits::{INITIAL_CREDIT, MAX_CREDIT, WINDOW_SAMPLE, WINDOW_SPAN},
    streams::Violation,
};

/// All counts are bytes; `outstanding + waiting` never exceeds `size`.
#[derive(Debug)]
pub(crate) struct Window {
    /// What the peer could have sent at most, had the local program drained nothing.
    size: u32,
    /// What the peer may still send.
    outstanding: u32,
    /// Received, and not yet drained.
    waiting: u32,
    /// Drained since `since`.
    drained: u64,
    /// When the running measurement began; the first one begins with the first byte.
    since: Option<Instant>,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { size: INITIAL_CREDIT, outstanding: INITIAL_CREDIT, waiting: 0, drained: 0, since: None }
    }

    /// Bytes that were received and not yet drained.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Counts bytes that arrived and wait.
    pub(crate) fn receive(&mut self, length: usize, now: Instant) -> Result<(), Violation> {
        self.waiting += self.spend(length)?;
        self.since.get_or_insert(now);
        Ok(())
    }

    /// Counts bytes that arrived and were thrown away.
    pub(crate) fn discard(&mut self, length: usize) -> Result<(), Violation> {
        self.spend(length).map(drop)
    }

    /// Counts bytes that the local program took; more than wait count as all.
    pub(crate) fn consume(&mut self, length: usize, now: Instant) {
        let length = u32::try_from(length).unwrap_or(u32::MAX).min(self.waiting);
        self.waiting -= length;
        self.drained += u64::from(length);
        self.measure(now);
    }

    /// Forgets what waits, without giving credit for it.
    pub(crate) fn clear(&mut self) {
        self.waiting = 0;
    }

    /// Whether enough was drained to be worth a `Credit`: a quarter of the window.
    pub(crate) fn grant_due(&self) -> bool {
        self.grantable() >= self.size / 4
    }

    /// What to grant now; from then on the peer may send it.
    pub(crate) fn grant(&mut self) -> u32 {
        let bytes = self.grantable();
        self.outstanding += bytes;
        bytes
    }

    fn grantable(&self) -> u32 {
        self.size - self.outstanding - self.waiting
    }

    fn spend(&mut self, length: usize) -> Result<u32, Violation> {
        let length = u32::try_from(length).map_err(|_| Violation::Overrun)?;
        self.outstanding = self.outstanding.checked_sub(length).ok_or(Violation::Overrun)?;
        Ok(length)
    }

    /// Ends a measurement when it is long enough, and grows the window by what it says: at most to the double.
    fn measure(&mut self, now: Instant) {
        let Some(since) = self.since else { return };
        let elapsed = now.saturating_duration_since(since);
        if elapsed < WINDOW_SAMPLE && self.drained < u64::from(self.size) {
            return;
        }
        let drained = u128::from(mem::take(&mut self.drained));
        let wanted = drained * WINDOW_SPAN.as_micros() / elapsed.as_micros().max(1);
        let largest = self.size.saturating_mul(2).min(MAX_CREDIT);
        self.size = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(self.size, largest);
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests;
