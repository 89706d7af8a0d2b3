//! A gate that lets a bounded number of jobs run and serves those who wait round-robin by the link they came over, so
//! that a flood over one link spoils that link's share only.
//!
//! Two stand in a relay: one before circuit handshakes, one before extensions (docs/protocol.md, "Busy"). It never
//! looks at a job, and never reads a clock.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::link::LinkId;

/// See the file's head.
pub(crate) struct Gate(Arc<Inner>);

/// Leave to run one job; the next in turn is let in when it is dropped.
pub(crate) struct Pass(Arc<Inner>);

/// Too many jobs of this link, or of all, wait already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

struct Inner {
    state: Mutex<State>,
    limits: GateLimits,
}

/// How many jobs may run and wait.
#[derive(Clone, Copy)]
pub(crate) struct GateLimits {
    /// At once.
    pub(crate) running: usize,
    /// Waiting, of one link.
    pub(crate) waiting_per_link: usize,
    /// Waiting, in all.
    pub(crate) waiting: usize,
}

#[derive(Default)]
struct State {
    running: usize,
    waiting: usize,
    queues: HashMap<LinkId, VecDeque<oneshot::Sender<Pass>>>,
    turns: VecDeque<LinkId>, // each link with a queue, once
}

impl Gate {
    pub(crate) fn new(limits: GateLimits) -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), limits }))
    }

    /// Jobs that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().waiting
    }

    /// Waits for this link's turn. Cancel-safe: a turn that nobody takes goes to the next.
    pub(crate) async fn enter(&self, link: LinkId) -> Result<Pass, Full> {
        let turn = {
            let mut state = self.0.lock();
            if state.running < self.0.limits.running {
                state.running += 1;
                return Ok(Pass(Arc::clone(&self.0)));
            }
            state.wait(link, self.0.limits)?
        };
        turn.await.map_err(|_| Full)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // each change is whole
    }
}

impl State {
    fn wait(&mut self, link: LinkId, limits: GateLimits) -> Result<oneshot::Receiver<Pass>, Full> {
        if self.waiting >= limits.waiting {
            return Err(Full);
        }
        let queue = self.queues.entry(link).or_default();
        if queue.len() >= limits.waiting_per_link {
            return Err(Full);
        }
        if queue.is_empty() {
            self.turns.push_back(link);
        }
        let (sender, turn) = oneshot::channel();
        queue.push_back(sender);
        self.waiting += 1;
        Ok(turn)
    }

    /// Whose turn it is: the first in the queue of the link that has waited longest.
    fn next(&mut self) -> Option<oneshot::Sender<Pass>> {
        let link = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&link)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&link);
        } else {
            self.turns.push_back(link);
        }
        self.waiting -= usize::from(next.is_some());
        next
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.lock();
            let next = state.next();
            state.running -= usize::from(next.is_none());
            next
        };
        if let Some(next) = next {
            // If the one whose turn it is has gone, the pass comes back, is dropped, and so goes to the one after.
            drop(next.send(Pass(Arc::clone(&self.0))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GateLimits = GateLimits { running: 1, waiting_per_link: 4, waiting: 6 };

    /// Lets `link` wait, and writes it down when it is let in.
    fn wait(gate: &Arc<Gate>, link: u64, order: &Arc<Mutex<Vec<u64>>>) -> tokio::task::JoinHandle<Result<(), Full>> {
        let (gate, order) = (Arc::clone(gate), Arc::clone(order));
        tokio::spawn(async move {
            let _pass = gate.enter(LinkId::for_tests(link)).await?;
            order.lock().unwrap().push(link);
            Ok(())
        })
    }

    #[tokio::test]
    async fn links_are_served_in_turns_whatever_one_of_them_piles_up() {
        let (gate, order) = (Arc::new(Gate::new(LIMITS)), Arc::default());
        let first = gate.enter(LinkId::for_tests(0)).await.unwrap();
        let mut waiting = vec![];
        for link in [1, 1, 1, 2, 3] {
            waiting.push(wait(&gate, link, &order));
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.waiting(), 5);
        drop(first);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [1, 2, 3, 1, 1]);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_its_own_link_only() {
        let (gate, order) = (Arc::new(Gate::new(LIMITS)), Arc::default());
        let first = gate.enter(LinkId::for_tests(0)).await.unwrap();
        let _waiting: Vec<_> = (0..4).map(|_| wait(&gate, 1, &order)).collect();
        tokio::task::yield_now().await;
        assert_eq!(wait(&gate, 1, &order).await.unwrap(), Err(Full));
        let other = wait(&gate, 2, &order);
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!(other.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn one_who_gave_up_waiting_is_passed_over() {
        let (gate, order) = (Arc::new(Gate::new(LIMITS)), Arc::default());
        let first = gate.enter(LinkId::for_tests(0)).await.unwrap();
        let gone = wait(&gate, 1, &order);
        let stays = wait(&gate, 2, &order);
        tokio::task::yield_now().await;
        gone.abort();
        let _ = gone.await;
        drop(first);
        assert_eq!(stays.await.unwrap(), Ok(()));
        assert!(gate.enter(LinkId::for_tests(3)).await.is_ok());
    }
}
