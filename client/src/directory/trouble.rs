//! What is wrong with a client's directory, in words for a person.

use trefoil_protocol::{
    guard::NoGuard,
    limits::{PATH_HOPS, SOURCES_MIN},
};

/// Why the network's relays are not known, or not as they are now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// There is nobody to ask.
    #[error(
        "no relay is known to begin with: use a network file that names one, or name one with --bootstrap \
         trefoil-relay:..."
    )]
    NoBootstrap,
    /// There is nobody to ask yet.
    #[error("no relay is known to begin with, and neither the local network nor the DHT has shown one yet")]
    Searching,
    /// Nobody answers.
    #[error(
        "none of the {tried} relays that were asked answers (the last: {last}): they may be down, or your network may \
         be, or it blocks UDP"
    )]
    Silent { tried: usize, last: String },
    /// Others have another time.
    #[error("{}", clock(*.ahead))]
    Clock { ahead: i64 },
    /// No circuit can be built.
    #[error("the network is too small: {known} of its relays are known, and a circuit needs {PATH_HOPS}")]
    TooSmall { known: usize },
    /// One or two could lie.
    #[error(
        "{answered} relays said which relays are usable now, and at least {SOURCES_MIN} must: the network is just \
         starting, or too many of its relays are down"
    )]
    FewSources { answered: usize },
    /// There is nobody to begin circuits at.
    #[error("{0}")]
    Guard(#[from] NoGuard),
}

fn clock(ahead: i64) -> String {
    let minutes = ahead.unsigned_abs();
    let (hours, rest) = (minutes / 60, minutes % 60);
    let length = if hours == 0 { format!("{rest} min") } else { format!("{hours} h {rest} min") };
    let which = if ahead > 0 { "behind" } else { "ahead of" };
    format!("this machine's clock is {length} {which} the clocks of the relays that were asked: set it right")
}

/// The middle one; of two, the lower.
pub(super) fn median(values: &mut [i64]) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much_and_which_way() {
        assert!(Trouble::Clock { ahead: 45 }.to_string().contains("is 45 min behind"));
        assert!(Trouble::Clock { ahead: -185 }.to_string().contains("is 3 h 5 min ahead of"));
    }

    #[test]
    fn one_liar_among_three_does_not_move_the_median() {
        assert_eq!(median(&mut [0, 1, 9000]), Some(1));
        assert_eq!(median(&mut [5, -9000]), Some(-9000));
        assert_eq!(median(&mut []), None);
    }
}
