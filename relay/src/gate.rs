//! A gate that lets a bounded number of jobs run and serves those who wait round-robin by the link they came over, so
//! that a flood over one link spoils that link's share only. Nor can one link hold the gate with jobs that do not end.
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
pub(crate) struct Pass(Option<Turn>);

/// Whose job runs, and where.
struct Turn {
    gate: Arc<Inner>,
    link: LinkId,
}

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
    /// At once, of one link.
    pub(crate) running_per_link: usize,
    /// Waiting, of one link.
    pub(crate) waiting_per_link: usize,
    /// Waiting, in all.
    pub(crate) waiting: usize,
}

#[derive(Default)]
struct State {
    running: usize,
    running_by_link: HashMap<LinkId, usize>, // no zeros
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
            if state.may_run(link, self.0.limits) {
                state.run(link);
                return Ok(Pass(Some(Turn { gate: Arc::clone(&self.0), link })));
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

    fn may_run(&self, link: LinkId, limits: GateLimits) -> bool {
        let own = self.running_by_link.get(&link).copied().unwrap_or_default();
        own < limits.running_per_link && self.running < limits.running
    }

    fn run(&mut self, link: LinkId) {
        self.running += 1;
        *self.running_by_link.entry(link).or_default() += 1;
    }

    /// Whose turn it is: the first in the queue of the link that has waited longest, of those that may run.
    fn next(&mut self, limits: GateLimits) -> Option<(LinkId, oneshot::Sender<Pass>)> {
        let at = self.turns.iter().position(|link| self.may_run(*link, limits))?;
        let link = self.turns.remove(at)?;
        let queue = self.queues.get_mut(&link)?;
        let next = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&link);
        } else {
            self.turns.push_back(link);
        }
        self.waiting -= 1;
        self.run(link);
        Some((link, next))
    }

    fn done(&mut self, link: LinkId) {
        self.running -= 1;
        if let Some(own) = self.running_by_link.get_mut(&link) {
            *own -= 1;
            if *own == 0 {
                self.running_by_link.remove(&link);
            }
        }
    }
}

impl Drop for Pass {
    /// Lets the next one in. One whose turn it is and who has gone gives the pass back, and it goes to the one after.
    fn drop(&mut self) {
        let mut turn = self.0.take();
        while let Some(Turn { gate, link }) = turn.take() {
            let next = {
                let mut state = gate.lock();
                state.done(link);
                state.next(gate.limits)
            };
            if let Some((link, next)) = next {
                let refused = next.send(Self(Some(Turn { gate, link })));
                turn = refused.err().and_then(|mut pass| pass.0.take());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GateLimits = GateLimits { running: 1, running_per_link: 1, waiting_per_link: 4, waiting: 6 };

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
    async fn the_jobs_of_one_link_are_served_in_the_order_in_which_they_came() {
        let gate = Gate::new(LIMITS);
        let first = gate.enter(LinkId::for_tests(0)).await.unwrap();
        let mut state = gate.0.lock();
        let mut waiting: Vec<_> = (0..3).map(|_| state.wait(LinkId::for_tests(1), LIMITS).unwrap()).collect();
        drop(state);
        drop(first);
        for _ in 0..3 {
            let passes: Vec<_> = waiting.iter_mut().map(|turn| turn.try_recv().ok()).collect();
            assert!(passes[0].is_some() && passes[1..].iter().all(Option::is_none));
            waiting.remove(0);
        }
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

    #[tokio::test]
    async fn one_links_jobs_that_never_end_leave_room_for_those_of_others() {
        let limits = GateLimits { running: 3, running_per_link: 2, ..LIMITS };
        let (gate, order) = (Arc::new(Gate::new(limits)), Arc::default());
        let held = [gate.enter(LinkId::for_tests(1)).await.unwrap(), gate.enter(LinkId::for_tests(1)).await.unwrap()];
        let waits = wait(&gate, 1, &order);
        tokio::task::yield_now().await;
        for _ in 0..3 {
            wait(&gate, 2, &order).await.unwrap().unwrap();
        }
        assert_eq!(gate.waiting(), 1);
        drop(held);
        waits.await.unwrap().unwrap();
        assert_eq!(*order.lock().unwrap(), [2, 2, 2, 1]);
        assert!(gate.0.lock().running_by_link.is_empty());
    }

    #[tokio::test]
    async fn thousands_who_gave_up_are_passed_over_without_running_out_of_stack() {
        let limits = GateLimits { waiting_per_link: 100_000, waiting: 100_000, ..LIMITS };
        let gate = Gate::new(limits);
        let first = gate.enter(LinkId::for_tests(0)).await.unwrap();
        for _ in 0..limits.waiting {
            drop(gate.0.lock().wait(LinkId::for_tests(1), limits).unwrap());
        }
        drop(first);
        assert_eq!(gate.waiting(), 0);
    }
}
