//! Passes: what a person gives to one contact, who needs it to write.
//!
//! Specification: docs/protocol.md, "Letters". Where the private inbox is, the salts of the weeks that come, and the
//! key of the contact's own tickets. A contact that gets no more passes loses the inbox in time.

use std::fmt;

use crate::{
    inbox::{WeekSalt, Whereabouts},
    limits::{PASS_WEEKS, TICKETS_LISTED},
    period::Week,
    ticket::TicketKey,
    wire::Reader,
};

/// What a contact needs to write to somebody's private inbox.
pub struct Pass {
    /// How the inbox is found.
    pub whereabouts: Whereabouts,
    /// What the contact's tickets are made from.
    pub tickets: TicketKey,
    /// How many tickets each mailbox takes in a week: those with numbers below this, at most [`TICKETS_LISTED`].
    pub count: u16,
    /// The week of the first salt.
    pub first: Week,
    /// The salts of this week and of those that follow; 1 to [`PASS_WEEKS`].
    pub salts: Vec<WeekSalt>,
}

impl Pass {
    /// The salt of this week, if the pass is good for it.
    pub fn salt(&self, week: Week) -> Option<&WeekSalt> {
        self.salts.get(usize::try_from(week.0.checked_sub(self.first.0)?).ok()?)
    }

    /// `whereabouts 36 ‖ ticket key 32 ‖ count 2 ‖ first 4 ‖ n 1 ‖ n × salt 16`.
    ///
    /// # Panics
    /// If it breaks the bounds that its parts are documented with.
    pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
        assert!((1..=PASS_WEEKS).contains(&self.salts.len()), "{} salts", self.salts.len());
        assert!(usize::from(self.count) <= TICKETS_LISTED, "{} tickets", self.count);
        bytes.extend_from_slice(&*self.whereabouts.encode());
        bytes.extend_from_slice(self.tickets.as_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.first.0.to_le_bytes());
        bytes.push(u8::try_from(self.salts.len()).expect("a few salts"));
        bytes.extend_from_slice(self.salts.as_flattened());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (whereabouts, tickets) = (Whereabouts::decode(reader.take_array()?), reader.take_array()?);
        let count = reader.u16().filter(|count| usize::from(*count) <= TICKETS_LISTED)?;
        let first = Week(reader.u32()?);
        let weeks = reader.byte().map(usize::from).filter(|weeks| (1..=PASS_WEEKS).contains(weeks))?;
        let salts = (0..weeks).map(|_| reader.array()).collect::<Option<_>>()?;
        Some(Self { whereabouts, tickets: TicketKey::from_bytes(tickets), count, first, salts })
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pass({:?}, {} weeks from {:?})", self.whereabouts, self.salts.len(), self.first)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A pass for three weeks.
    pub(crate) fn pass() -> Pass {
        Pass {
            whereabouts: Whereabouts::decode(&[7; 36]),
            tickets: TicketKey::from_bytes(&[8; 32]),
            count: 128,
            first: Week(2900),
            salts: vec![[1; 16], [2; 16], [3; 16]],
        }
    }

    #[test]
    fn a_pass_has_the_bytes_of_the_specification_and_no_part_of_them_is_one() {
        let mut bytes = vec![];
        pass().put(&mut bytes);
        let salts = [[1; 16], [2; 16], [3; 16]];
        let expected = [&[7; 36][..], &[8; 32], &[128, 0], &[0x54, 0x0b, 0, 0], &[3], salts.as_flattened()].concat();
        assert_eq!(bytes, expected);
        let mut again = vec![];
        Pass::read(&mut Reader::new(&bytes)).unwrap().put(&mut again);
        assert_eq!(again, bytes);
        (0..bytes.len()).for_each(|length| assert!(Pass::read(&mut Reader::new(&bytes[..length])).is_none()));
        let with = |at: usize, byte: u8| {
            let mut changed = [&bytes[..], &[0; 200]].concat();
            changed[at] = byte;
            Pass::read(&mut Reader::new(&changed)).is_some()
        };
        assert!(with(74, 4) && !with(74, 5) && !with(74, 0), "1 to 4 weeks");
        assert!(with(69, 0x0f) && !with(69, 0x11), "4,096 tickets and no more");
    }

    #[test]
    fn a_pass_is_good_for_its_weeks() {
        for (week, salt) in [(2899, None), (2900, Some(&[1; 16])), (2902, Some(&[3; 16])), (2903, None), (0, None)] {
            assert_eq!(pass().salt(Week(week)), salt, "{week}");
        }
    }

    #[test]
    fn a_pass_does_not_print_its_keys() {
        let printed = format!("{:?}", pass());
        assert_eq!(printed, "Pass(Whereabouts(generation 117901063), 3 weeks from Week(2900))");
    }
}
