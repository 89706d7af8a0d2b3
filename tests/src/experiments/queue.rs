//! Event queue: what happens next in a simulation, and when.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

/// Milliseconds since the simulation's start.
pub type Millis = u64;

/// A second.
pub const SECOND: Millis = 1000;
/// A minute.
pub const MINUTE: Millis = 60 * SECOND;
/// An hour.
pub const HOUR: Millis = 60 * MINUTE;
/// A day.
pub const DAY: Millis = 24 * HOUR;

/// Events in the order of their times; of two at one time, the one that was put in first comes first.
pub struct Queue<E> {
    events: BinaryHeap<Reverse<Timed<E>>>,
    put: u64,
}

struct Timed<E> {
    at: Millis,
    number: u64,
    event: E,
}

impl<E> Queue<E> {
    /// Lets `event` happen at `at`.
    pub fn put(&mut self, at: Millis, event: E) {
        self.events.push(Reverse(Timed { at, number: self.put, event }));
        self.put += 1;
    }

    /// The next event that happens before `end`, and its time.
    pub fn take_before(&mut self, end: Millis) -> Option<(Millis, E)> {
        if self.events.peek()?.0.at >= end {
            return None;
        }
        self.events.pop().map(|Reverse(next)| (next.at, next.event))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { events: BinaryHeap::new(), put: 0 }
    }
}

impl<E> Ord for Timed<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> PartialOrd for Timed<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Timed<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Timed<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_in_which_they_were_put() {
        let mut queue = Queue::default();
        for (at, event) in [(7, 'c'), (3, 'a'), (7, 'd'), (3, 'b'), (9, 'e')] {
            queue.put(at, event);
        }
        let mut before = |end| std::iter::from_fn(|| queue.take_before(end)).collect::<Vec<_>>();
        assert_eq!(before(9), [(3, 'a'), (3, 'b'), (7, 'c'), (7, 'd')]);
        assert_eq!(before(10), [(9, 'e')]);
        assert_eq!(before(u64::MAX), []);
    }
}
