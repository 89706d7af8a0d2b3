//! What circuits hold in this relay's memory, and which of them dies when it becomes too much.
//!
//! Specification: docs/protocol.md, "Limits". A circuit that cannot write stops reading, so its neighbours'
//! flow control bounds what it can make this relay hold: one stream window for each direction that is stuck, and
//! what its streams buffer. Above the budget the circuit whose data has waited longest is closed: in a write
//! that is stuck, or in its streams. Nobody else's is. A circuit that holds nothing costs something too: how many there
//! may be follows from the budget, and none is closed to make room for another.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trefoil_protocol::limits::{CIRCUIT_MEMORY, CIRCUITS_SHARE, STREAM_WINDOW};

use crate::pump::{CircuitStreams, Held};

/// A write that takes longer than this is stuck: its circuit's stream window counts as full.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// Between two looks at all circuits.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// The accounts of all circuits.
pub(crate) struct Memory {
    budget: u64,
    /// Bytes that circuits held when they were last looked at, without those that were closed then.
    held: AtomicU64,
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
    /// The sweep's alone.
    mark: Mutex<Mark>,
    kill: CancellationToken,
}

/// What streams held at some time, to know how old the oldest of what they hold now may be.
#[derive(Default)]
struct Mark {
    held: Held,
    at: u64,
}

/// What one circuit holds, and since when.
struct Holding<'a> {
    since: u64,
    bytes: u64,
    account: &'a Account,
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
        let (held, next) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { budget, held, started: Instant::now(), accounts: Mutex::default(), next })
    }

    /// Opens an account; `kill` is cancelled if this circuit has to die. `None` if there are as many as fit.
    pub(crate) fn open(self: &Arc<Self>, streams: CircuitStreams, kill: CancellationToken) -> Option<OpenAccount> {
        let (forward, backward) = (AtomicU64::new(0), AtomicU64::new(0));
        let account = Arc::new(Account { forward, backward, streams, mark: Mutex::default(), kill });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut accounts = self.lock();
        if accounts.len() as u64 >= self.room() {
            return None;
        }
        accounts.insert(number, Arc::clone(&account));
        drop(accounts);
        Some(OpenAccount { memory: Arc::clone(self), number, account })
    }

    /// Circuits with an account.
    pub(crate) fn circuits(&self) -> usize {
        self.lock().len()
    }

    /// Circuits that there may be at once.
    pub(crate) fn room(&self) -> u64 {
        self.budget / CIRCUITS_SHARE / CIRCUIT_MEMORY
    }

    /// Bytes that circuits may hold together.
    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    /// Bytes that circuits held at the last [`sweep`](Self::sweep).
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Closes circuits, those whose data has waited longest first, until the rest is within the budget. Gives how many.
    pub(crate) fn sweep(&self) -> usize {
        let now = self.clock(Instant::now());
        let accounts = self.lock();
        let mut holdings: Vec<_> = accounts.values().filter_map(|account| account.holding(now)).collect();
        let mut total: u64 = holdings.iter().map(|holding| holding.bytes).sum();
        self.held.store(total, Ordering::Relaxed);
        if total <= self.budget {
            return 0;
        }
        holdings.sort_unstable_by_key(|holding| (holding.since, Reverse(holding.bytes)));
        let mut killed = 0;
        for holding in holdings {
            if total <= self.budget {
                break;
            }
            holding.account.kill.cancel();
            total -= holding.bytes;
            killed += 1;
        }
        self.held.store(total, Ordering::Relaxed);
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
    /// `None` if this circuit holds nothing. A write that moves is nothing.
    fn holding(&self, now: u64) -> Option<Holding<'_>> {
        let stuck_after = u64::try_from(STUCK_AFTER.as_millis()).unwrap_or(u64::MAX);
        let stuck: Vec<u64> = [&self.forward, &self.backward]
            .into_iter()
            .map(|since| since.load(Ordering::Relaxed))
            .filter(|since| *since != 0 && now.saturating_sub(*since) >= stuck_after)
            .collect();
        let held = self.streams.held();
        let buffered_since = self.mark.lock().unwrap_or_else(PoisonError::into_inner).renew(held, now);
        let bytes = stuck.len() as u64 * u64::from(STREAM_WINDOW) + held.bytes;
        let since = stuck.into_iter().chain((held.bytes > 0).then_some(buffered_since)).min()?;
        Some(Holding { since, bytes, account: self })
    }
}

impl Mark {
    /// Since when the oldest bytes may have been here: as many as were here at the last mark must leave before it is
    /// put anew.
    fn renew(&mut self, held: Held, now: u64) -> u64 {
        if held.left - self.held.left >= self.held.bytes {
            *self = Self { held, at: now };
        }
        self.at
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
    use trefoil_protocol::{
        limits::{INITIAL_CREDIT, MESSAGE},
        message::{Message, Reason, StreamId, Target},
        streams::End,
    };

    use super::*;

    fn open(memory: &Arc<Memory>) -> (Arc<OpenAccount>, CancellationToken) {
        let kill = CancellationToken::new();
        (Arc::new(memory.open(CircuitStreams::new(End::Hop), kill.clone()).unwrap()), kill)
    }

    fn say(account: &OpenAccount, message: Message<'_>) -> Option<crate::pump::Incoming> {
        account.account.streams.handle_message(0, &message, Instant::now().into_std()).unwrap()
    }

    /// A stream on this account that got this many bytes, which nobody takes while it is held.
    fn hoard(account: &OpenAccount, stream: u16, mut bytes: usize) -> crate::pump::Stream {
        let stream = StreamId(stream);
        let incoming = say(account, Message::Open { stream, target: Target::Directory }).unwrap();
        while bytes > 0 {
            let piece = vec![0; bytes.min(1000)];
            say(account, Message::Data { stream, bytes: &piece });
            bytes -= piece.len();
        }
        incoming.stream
    }

    fn hoard_window(account: &OpenAccount) -> Vec<crate::pump::Stream> {
        let streams = u16::try_from(STREAM_WINDOW / INITIAL_CREDIT).unwrap();
        (0..streams).map(|stream| hoard(account, stream, INITIAL_CREDIT as usize)).collect()
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
        assert_eq!(memory.held(), memory.budget(), "two of three are left");
        let dead: Vec<bool> = circuits.iter().map(|(_, kill)| kill.is_cancelled()).collect();
        assert_eq!(dead, [false, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_ended_and_a_circuit_that_closed_count_no_more() {
        let memory = Memory::new(CIRCUITS_SHARE * CIRCUIT_MEMORY);
        let (account, kill) = open(&memory);
        account.waiting(Direction::Forward, tokio::time::sleep(STUCK_AFTER * 2)).await;
        assert_eq!(memory.sweep(), 0);
        assert_eq!(memory.circuits(), 1);
        drop(account);
        assert_eq!(memory.circuits(), 0);
        assert!(!kill.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn what_streams_hold_ages_like_a_write_that_is_stuck() {
        let memory = Memory::new(u64::from(STREAM_WINDOW));
        let ((hoarder, hoarder_dies), (later, later_dies)) = (open(&memory), open(&memory));
        let _streams = hoard_window(&hoarder);
        assert_eq!(memory.sweep(), 0);
        tokio::time::advance(STUCK_AFTER).await;
        stick(&later);
        tokio::time::sleep(STUCK_AFTER).await;
        assert_eq!(memory.sweep(), 1);
        assert!(hoarder_dies.is_cancelled() && !later_dies.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_circuit_whose_data_moves_outlives_one_whose_data_does_not() {
        let memory = Memory::new(u64::from(STREAM_WINDOW));
        let ((moving, moving_dies), (hoarder, hoarder_dies)) = (open(&memory), open(&memory));
        stick(&moving); // for some milliseconds
        let mut stream = hoard(&moving, 0, 1000);
        assert_eq!(memory.sweep(), 0);
        let _streams = hoard_window(&hoarder);
        tokio::time::advance(SWEEP_EVERY).await;
        stream.receive(&mut Vec::new()).await.unwrap();
        say(&moving, Message::Data { stream: StreamId(0), bytes: &[0; 1000] });
        assert_eq!(memory.sweep(), 1);
        assert!(hoarder_dies.is_cancelled() && !moving_dies.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_are_equally_old_the_larger_dies() {
        let memory = Memory::new(u64::from(STREAM_WINDOW));
        let ((small, small_dies), (large, large_dies)) = (open(&memory), open(&memory));
        let _held = (hoard(&small, 0, 1000), hoard_window(&large));
        assert_eq!(memory.sweep(), 1);
        assert!(large_dies.is_cancelled() && !small_dies.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_have_left_when_they_went_out_or_their_stream_or_circuit_died() {
        let streams = CircuitStreams::new(End::Hop);
        let account = Memory::new(1 << 20).open(streams.clone(), CancellationToken::new()).unwrap();
        let mut stream = hoard(&account, 0, 500);
        stream.accept();
        stream.send(&[0; 300]).await.unwrap();
        while streams.poll_message(&mut [0; MESSAGE]).is_some() {}
        let held = streams.held();
        assert_eq!((held.bytes, held.left), (500, 300));
        say(&account, Message::Close { stream: StreamId(0), reason: Reason::Reset });
        let _other = hoard(&account, 1, 200);
        streams.fail(Reason::Reset);
        let held = streams.held();
        assert_eq!((held.bytes, held.left), (0, 1000));
    }

    #[tokio::test]
    async fn there_are_as_many_circuits_as_fit_and_none_dies_for_another() {
        let memory = Memory::new(CIRCUITS_SHARE * 3 * CIRCUIT_MEMORY);
        assert_eq!(memory.room(), 3);
        let mut circuits: Vec<_> = (0..3).map(|_| open(&memory)).collect();
        let another = || memory.open(CircuitStreams::new(End::Hop), CancellationToken::new());
        assert!(another().is_none());
        assert_eq!(memory.sweep(), 0);
        circuits.pop();
        assert!(another().is_some());
    }
}
