//! Bits: a set of small numbers, so that ten thousand nodes can each hold which of twenty thousand records they have.

/// A set of numbers; it takes a bit for each number up to the largest.
#[derive(Clone, Debug, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// The numbers below `end`.
    pub fn below(end: usize) -> Self {
        let mut bits = Self(vec![u64::MAX; end.div_ceil(64)]);
        (end..end.next_multiple_of(64)).for_each(|number| bits.remove(number));
        bits
    }

    /// Whether it has this number.
    pub fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & mask(number) != 0)
    }

    /// Adds a number.
    pub fn insert(&mut self, number: usize) {
        if self.0.len() <= number / 64 {
            self.0.resize(number / 64 + 1, 0);
        }
        self.0[number / 64] |= mask(number);
    }

    /// Removes a number.
    pub fn remove(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !mask(number);
        }
    }

    /// How many numbers it has.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The numbers, in their order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| ones(at, *word))
    }

    /// The numbers that this has and `other` has not.
    pub fn without(&self, other: &Self) -> Vec<usize> {
        let theirs = other.0.iter().copied().chain(std::iter::repeat(0));
        self.0.iter().zip(theirs).enumerate().flat_map(|(at, (ours, theirs))| ones(at, ours & !theirs)).collect()
    }
}

fn mask(number: usize) -> u64 {
    1 << (number % 64)
}

fn ones(at: usize, word: u64) -> impl Iterator<Item = usize> {
    let rest =
        std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1))).take_while(|rest| *rest != 0);
    rest.map(move |rest| at * 64 + rest.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_a_set(
            changes in prop::collection::vec((0usize..300, any::<bool>()), 0..200),
            end in 0usize..300,
        ) {
            let (mut bits, mut set) = (Bits::below(end), BTreeSet::from_iter(0..end));
            for (number, insert) in changes {
                if insert { bits.insert(number) } else { bits.remove(number) }
                if insert { set.insert(number) } else { set.remove(&number) };
                prop_assert_eq!(bits.has(number), insert);
            }
            prop_assert!(bits.iter().eq(set.iter().copied()));
            prop_assert_eq!(bits.count(), set.len());
            let all = Bits::below(150);
            prop_assert!(bits.without(&all).into_iter().eq(set.iter().copied().filter(|number| *number >= 150)));
            prop_assert!(all.without(&bits).into_iter().eq((0..150).filter(|number| !set.contains(number))));
        }
    }
}
