//! Knowledge: which records each node of a simulated network has.
//!
//! Ten thousand production views of ten thousand records each do not fit into memory, and need not: what a view does
//! with a record is the same in every node. So all nodes hold a set of record numbers, under the view's rule that of one
//! relay's records the newest stays, and some of them, *witnesses*, hold a production [`View`] beside it, which gets the
//! same records at the same times. Whenever a witness takes or refuses a record, both must have done the same.

use trefoil_protocol::{
    descriptor::Checked,
    epoch::{Epoch, UnixSeconds},
    view::{Offer, View},
};

use super::bits::Bits;

/// All records that were ever signed, by number.
#[derive(Default)]
pub struct Facts {
    facts: Vec<Fact>,
    /// The numbers of each relay's records, the newest last.
    of_relay: Vec<Vec<usize>>,
}

/// A signed record.
pub struct Fact {
    /// The record.
    pub checked: Checked,
    /// Whose, by its number.
    pub relay: usize,
}

/// What one node has.
pub struct Knowledge {
    /// The numbers of its records.
    pub has: Bits,
    /// The same, as production code holds it.
    pub witness: Option<Box<View>>,
}

impl Facts {
    /// Adds a record of this relay, unless it is there, and gives its number.
    pub fn add(&mut self, relay: usize, checked: Checked) -> usize {
        let number = self.facts.len();
        if self.of_relay.len() <= relay {
            self.of_relay.resize(relay + 1, vec![]);
        }
        if let Some(same) = self.of_relay[relay].iter().find(|other| self.facts[**other].checked == checked) {
            return *same;
        }
        self.facts.push(Fact { checked, relay });
        let facts = &self.facts;
        let age = |number: &usize| {
            let record = facts[*number].checked.record();
            (record.issued(), record.digest())
        };
        let versions = &mut self.of_relay[relay];
        let at = versions.partition_point(|other| age(other) < age(&number));
        versions.insert(at, number);
        number
    }

    /// The record of this number.
    pub fn fact(&self, number: usize) -> &Fact {
        &self.facts[number]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.facts.len()
    }

    /// The newest record of a relay.
    pub fn newest(&self, relay: usize) -> Option<usize> {
        self.of_relay.get(relay)?.last().copied()
    }

    /// Whether the node knows any record of this relay.
    pub fn knows(&self, knowledge: &Knowledge, relay: usize) -> bool {
        self.of_relay.get(relay).is_some_and(|all| all.iter().rev().any(|number| knowledge.has.has(*number)))
    }

    /// The records that no longer count from this epoch on, and did before.
    pub fn expiring(&self, epoch: Epoch) -> Vec<usize> {
        (0..self.count()).filter(|number| self.facts[*number].checked.record().expires() == epoch).collect()
    }

    /// Offers a record to a node. What a set of numbers cannot tell, like fraud, only a witness says.
    ///
    /// # Panics
    /// If the node is a witness, and its view and its numbers disagree.
    pub fn offer(&self, knowledge: &mut Knowledge, number: usize, now: UnixSeconds, epoch: Epoch) -> Offer {
        let expected = self.offer_number(&mut knowledge.has, number, epoch);
        let Some(view) = &mut knowledge.witness else { return expected };
        let offered = view.offer(self.facts[number].checked.clone(), now);
        let agree = match offered {
            Offer::Fraud(_) | Offer::Barred => expected != Offer::Known,
            Offer::NoRoom => {
                knowledge.has.remove(number);
                expected == Offer::New
            }
            _ => offered == expected,
        };
        assert!(agree, "the view says {offered:?}, the numbers {expected:?}");
        offered
    }

    fn offer_number(&self, has: &mut Bits, number: usize, epoch: Epoch) -> Offer {
        if has.has(number) {
            return Offer::Known;
        }
        let versions = &self.of_relay[self.facts[number].relay];
        if let Some(held) = versions.iter().position(|version| has.has(*version)) {
            if versions[held + 1..].iter().all(|version| *version != number) {
                return Offer::Older;
            }
            has.remove(versions[held]);
            has.insert(number);
            let [new, old] = [number, versions[held]].map(|number| self.facts[number].checked.record());
            return if new.only_renews(old, epoch) { Offer::Renewed } else { Offer::Changed };
        }
        has.insert(number);
        Offer::New
    }
}
