//! Room: how many letters contacts can leave in a week, and what the person's program pays for that.
//!
//! Specification: docs/protocol.md, "Stamps and tickets" and "Delivery". Contacts are in lists of tickets, as few in each as
//! can be; the first in a list have the most tickets. Mailboxes give a list as much room as its stamp has cost: it is
//! bought anew when half of it has come, and when a file is wanted.

use trefoil_protocol::{
    limits::{LIST_ROOM, TICKET_LISTS, TICKET_SLOTS, TICKETS_BOUGHT},
    period::Week,
};

use super::{
    LettersError,
    agenda::Job,
    rows::{ContactRow, RoomRow},
    work::Work,
};

/// The list and the place in it for somebody new: the one with the most tickets; `None` where all are taken.
fn free_slot(others: &[ContactRow]) -> Option<(u8, u8)> {
    let slots = 0..u8::try_from(TICKET_SLOTS.len()).unwrap_or(u8::MAX);
    let mut all = slots.flat_map(|slot| (0..TICKET_LISTS).map(move |list| (list, slot)));
    let is_free = |(list, slot): &(u8, u8)| others.iter().all(|other| (other.list, other.slot) != (*list, *slot));
    all.find(is_free)
}

/// How many tickets somebody at this place has at each mailbox in a week.
pub(super) fn tickets_of(slot: u8) -> u16 {
    TICKET_SLOTS.get(usize::from(slot)).copied().unwrap_or(0)
}

/// The place of whoever has none: no tickets are made for strangers, who would else see mailboxes be told of it.
pub(super) const NO_SLOT: u8 = u8::MAX;

impl Work<'_> {
    /// Gives somebody a place in a list, and so tickets.
    pub(super) fn give_slot(&mut self, contact: &mut ContactRow) -> Result<(), LettersError> {
        let (list, slot) = free_slot(&self.contacts()?).ok_or(LettersError::TooMany)?;
        (contact.list, contact.slot) = (list, slot);
        self.tickets_changed(contact);
        Ok(())
    }

    /// Whether this contact has a place, or can have one.
    pub(super) fn has_room(&self, contact: &ContactRow) -> Result<bool, LettersError> {
        Ok(contact.slot != NO_SLOT || free_slot(&self.contacts()?).is_some())
    }

    /// Other people than before have tickets of this contact's list.
    pub(super) fn tickets_changed(&mut self, contact: &ContactRow) {
        if contact.slot != NO_SLOT {
            *self.person.tickets.entry(contact.list).or_default() += 1;
            self.wake(0, Job::Plan);
        }
        self.wake(self.settings.backup, Job::BackUp);
    }

    /// Letters of the contacts of a list come this week, or are to: so many bytes, as mailboxes reckon them.
    pub(super) fn need_room(&mut self, list: u8, bytes: u64) {
        let week = Week::of(self.now, self.home().offset()).0;
        let before = self.extra_bits(list, week);
        let room = self.person.rooms.entry(list).or_default();
        if room.week != week {
            *room = RoomRow { week, bytes: 0 };
        }
        room.bytes = room.bytes.saturating_add(bytes);
        if self.extra_bits(list, week) > before {
            self.wake(0, Job::Plan);
        }
    }

    /// Bits that the stamp of a list costs above the price, so that in this week there is room for twice what has come.
    pub(super) fn extra_bits(&self, list: u8, week: u32) -> u8 {
        let came = self.person.rooms.get(&list).filter(|room| room.week == week).map_or(0, |room| room.bytes);
        let wanted = came.saturating_mul(2).max(self.settings.room).min(LIST_ROOM);
        let doublings = wanted.div_ceil(TICKETS_BOUGHT).max(1).next_power_of_two().ilog2();
        u8::try_from(doublings).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use trefoil_protocol::limits::{CONTACTS, TICKETS_LISTED};

    use super::*;

    #[test]
    fn all_contacts_have_tickets_and_each_list_holds_them() {
        assert_eq!(TICKET_SLOTS.len() * usize::from(TICKET_LISTS), CONTACTS);
        assert!(TICKET_SLOTS.iter().copied().map(usize::from).sum::<usize>() <= TICKETS_LISTED);
        assert!(
            TICKET_SLOTS.is_sorted_by(|before, after| before >= after) && TICKET_SLOTS.iter().all(|count| *count > 0)
        );
        assert_eq!(tickets_of(NO_SLOT), 0);
    }
}
