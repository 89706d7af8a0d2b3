//! Trace: a number that depends on every event of a run and on their order.

/// A running hash; quick, and no protection against anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace(u64);

impl Trace {
    /// Adds an event, as numbers.
    pub fn add(&mut self, numbers: [u64; 4]) {
        for number in numbers {
            self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// Of everything so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_depends_on_what_happened_and_in_which_order() {
        let of = |events: &[[u64; 4]]| {
            let mut trace = Trace::default();
            events.iter().for_each(|event| trace.add(*event));
            trace.value()
        };
        let (a, b) = ([1, 2, 3, 4], [1, 2, 3, 5]);
        assert_eq!(of(&[a, b]), of(&[a, b]));
        assert_ne!(of(&[a, b]), of(&[b, a]));
        assert_ne!(of(&[a]), of(&[b]));
    }
}
