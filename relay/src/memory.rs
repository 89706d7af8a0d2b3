//! What circuits hold in this relay's memory, and which of them dies when it becomes too much.
//!
//! Specification: docs/protocol.md, "Limits". A circuit that cannot write stops reading, so its neighbours'
//! flow control bounds what it can make this relay hold: one stream window for each direction that is stuck, and
//! what its streams buffer. Above the budget the circuit whose data has waited longest is closed. Nobody else's is.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trefoil_protocol::limits::STREAM_WINDOW;

use crate::pump::CircuitStreams;

/// A write that takes longer than this is stuck: its circuit's stream window counts as full.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// Between two looks at all circuits.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// The accounts of all circuits.
pub(crate) struct Memory {
    budget: u64,
    started: Instant,
    accounts: Mutex<HashMap<u64, Arc<Account>>>,
    next: AtomicU64,
}

/// One circuit's account; closed when dropped.
pub(crate) struct OpenAccount {
    memory: Arc<Memory>,
    number: u64,
    account: Arc<Account>,
}

struct Account {
    /// Since when a write waits, in milliseconds after the start plus one; 0 = it does not.
    forward: AtomicU64,
    backward: AtomicU64,
    streams: CircuitStreams,
    kill: CancellationToken,
}

/// Which way a circuit's cells go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    /// From the origin.
    Forward,
    /// To the origin.
    Backward,
}

impl Memory {
    /// `budget` in bytes.
    pub(crate) fn new(budget: u64) -> Arc<Self> {
        Arc::new(Self { budget, started: Instant::now(), accounts: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// Opens an account; `kill` is cancelled if this circuit has to die.
    pub(crate) fn open(self: &Arc<Self>, streams: CircuitStreams, kill: CancellationToken) -> OpenAccount {
        let account = Arc::new(Account { forward: AtomicU64::new(0), backward: AtomicU64::new(0), streams, kill });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, Arc::clone(&account));
        OpenAccount { memory: Arc::clone(self), number, account }
    }

    /// Circuits with an account.
    pub(crate) fn circuits(&self) -> usize {
        self.lock().len()
    }

    /// Closes circuits, those whose data has waited longest first, until the rest is within the budget. Gives how many.
    pub(crate) fn sweep(&self) -> usize {
        let now = self.clock(Instant::now());
        let accounts = self.lock();
        let mut held: Vec<_> =
            accounts.values().map(|account| (account.waiting_since(), account.bytes(now), account)).collect();
        let mut total: u64 = held.iter().map(|(_, bytes, _)| bytes).sum();
        if total <= self.budget {
            return 0;
        }
        held.retain(|(_, bytes, _)| *bytes > 0);
        held.sort_unstable_by_key(|(since, bytes, _)| (*since, u64::MAX - bytes));
        let mut killed = 0;
        for (_, bytes, account) in held {
            if total <= self.budget {
                break;
            }
            account.kill.cancel();
            total -= bytes;
            killed += 1;
        }
        killed
    }

    fn clock(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner) // each change is whole
    }
}

impl Account {
    fn bytes(&self, now: u64) -> u64 {
        let stuck_after = u64::try_from(STUCK_AFTER.as_millis()).unwrap_or(u64::MAX);
        let stuck = [&self.forward, &self.backward]
            .into_iter()
            .map(|since| since.load(Ordering::Relaxed))
            .filter(|since| *since != 0 && now.saturating_sub(*since) >= stuck_after)
            .count();
        stuck as u64 * u64::from(STREAM_WINDOW) + self.streams.buffered() as u64
    }

    fn waiting_since(&self) -> u64 {
        [&self.forward, &self.backward]
            .into_iter()
            .map(|since| since.load(Ordering::Relaxed))
            .filter(|since| *since != 0)
            .min()
            .unwrap_or(u64::MAX)
    }
}

impl OpenAccount {
    /// Runs a write, which counts as waiting until it is done.
    pub(crate) async fn waiting<T>(&self, direction: Direction, write: impl Future<Output = T>) -> T {
        let since = match direction {
            Direction::Forward => &self.account.forward,
            Direction::Backward => &self.account.backward,
        };
        since.store(self.memory.clock(Instant::now()), Ordering::Relaxed);
        let done = write.await;
        since.store(0, Ordering::Relaxed);
        done
    }
}

impl Drop for OpenAccount {
    fn drop(&mut self) {
        self.memory.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use trefoil_protocol::streams::End;

    use super::*;

    fn open(memory: &Arc<Memory>) -> (Arc<OpenAccount>, CancellationToken) {
        let kill = CancellationToken::new();
        (Arc::new(memory.open(CircuitStreams::new(End::Hop), kill.clone())), kill)
    }

    /// A write on this account that never ends.
    fn stick(account: &Arc<OpenAccount>) {
        let account = Arc::clone(account);
        tokio::spawn(async move { account.waiting(Direction::Backward, std::future::pending::<()>()).await });
    }

    #[tokio::test(start_paused = true)]
    async fn above_the_budget_the_circuit_that_waited_longest_dies_and_no_other() {
        let memory = Memory::new(2 * u64::from(STREAM_WINDOW));
        let circuits: Vec<_> = (0..4).map(|_| open(&memory)).collect();
        for at in [2, 0, 3] {
            stick(&circuits[at].0);
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        assert_eq!(memory.sweep(), 0, "the third is not stuck yet, and two fit");
        tokio::time::advance(STUCK_AFTER).await;
        assert_eq!(memory.sweep(), 1);
        let dead: Vec<bool> = circuits.iter().map(|(_, kill)| kill.is_cancelled()).collect();
        assert_eq!(dead, [false, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_ended_and_a_circuit_that_closed_count_no_more() {
        let memory = Memory::new(0);
        let (account, kill) = open(&memory);
        account.waiting(Direction::Forward, tokio::time::sleep(STUCK_AFTER * 2)).await;
        assert_eq!(memory.sweep(), 0);
        assert_eq!(memory.circuits(), 1);
        drop(account);
        assert_eq!(memory.circuits(), 0);
        assert!(!kill.is_cancelled());
    }
}
