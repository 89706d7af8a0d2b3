//! Fraud proof: two different records that one relay signed for one epoch.
//!
//! Specification: docs/protocol.md, "Fraud proofs". A relay that tells different people different things about itself
//! gives each of them the proof; whoever sees both tells everyone, and the relay is used by nobody for a week.

use crate::{
    descriptor::{DescriptorError, Record},
    epoch::{Epoch, UnixSeconds},
    identity::RelayId,
    limits::FRAUD_EPOCHS,
    params::NetworkParams,
    wire::Reader,
};

/// Two records of one relay and one epoch, the one with the smaller digest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FraudProof {
    first: Record,
    second: Record,
}

impl FraudProof {
    /// The proof that two records make; `None` if they contradict nothing: of two relays, or epochs, or the same one.
    ///
    /// It proves nothing before [`Self::check`] unless both records were checked.
    pub fn of(a: &Record, b: &Record) -> Option<Self> {
        let (first, second) = if a.digest() <= b.digest() { (a, b) } else { (b, a) };
        let contradict = a.relay() == b.relay() && a.issued() == b.issued() && a != b;
        contradict.then(|| Self { first: first.clone(), second: second.clone() })
    }

    /// Whose fraud it is.
    pub fn relay(&self) -> RelayId {
        self.first.relay()
    }

    /// The epoch that both records were issued for.
    pub fn issued(&self) -> Epoch {
        self.first.issued()
    }

    /// The first epoch in which the relay may be used again.
    pub fn barred_until(&self) -> Epoch {
        self.issued().plus(FRAUD_EPOCHS)
    }

    /// The two records.
    pub fn records(&self) -> [&Record; 2] {
        [&self.first, &self.second]
    }

    /// `length of the first 2 ‖ first ‖ second`.
    pub fn encode(&self) -> Vec<u8> {
        let length = u16::try_from(self.first.bytes().len()).expect("a record has at most 320 bytes");
        [&length.to_le_bytes(), self.first.bytes(), self.second.bytes()].concat()
    }

    /// Takes what [`Self::encode`] made.
    ///
    /// # Errors
    /// [`DescriptorError::Form`] for all else, or what is wrong with a record's form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DescriptorError> {
        let mut reader = Reader::new(bytes);
        let length = reader.u16().ok_or(DescriptorError::Form)?;
        let first = Record::decode(reader.take(length.into()).ok_or(DescriptorError::Form)?)?;
        let second = Record::decode(reader.rest())?;
        let proof = Self::of(&first, &second).filter(|proof| proof.first == first);
        proof.ok_or(DescriptorError::Form)
    }

    /// Whether it proves a fraud in this network that still counts, the cheapest check first.
    ///
    /// # Errors
    /// [`DescriptorError`] of the first check that fails; the records' lifetimes and addresses are no matter.
    pub fn check(&self, params: &NetworkParams, now: UnixSeconds) -> Result<(), DescriptorError> {
        let network = params.id();
        if self.records().iter().any(|record| !record.is_of(&network)) {
            return Err(DescriptorError::Network);
        }
        if self.issued() > Epoch::latest(now, &params.directory) {
            return Err(DescriptorError::Future);
        }
        if self.barred_until() <= Epoch::of(now, &params.directory) {
            return Err(DescriptorError::Expired);
        }
        self.records().iter().try_for_each(|record| record.check_hashcash(params))?;
        let signed = self.records().iter().all(|record| record.is_signed(&network));
        if signed { Ok(()) } else { Err(DescriptorError::Signature) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        descriptor::{Descriptor, tests::*},
        limits::CLOCK_TOLERANCE,
        params::NetworkId,
    };

    fn two() -> [Record; 2] {
        let other = Descriptor { mailbox: true, ..small() };
        [small().sign(&params().id(), &relay()), other.sign(&params().id(), &relay())]
    }

    fn proof() -> FraudProof {
        let [a, b] = two();
        FraudProof::of(&a, &b).unwrap()
    }

    #[test]
    fn two_records_of_one_epoch_are_a_proof_in_one_form() {
        let [a, b] = two();
        let proof = proof();
        assert_eq!(FraudProof::of(&b, &a), Some(proof.clone()));
        assert_eq!(FraudProof::decode(&proof.encode()), Ok(proof.clone()));
        assert_eq!(proof.check(&params(), NOW), Ok(()));
        let turned = [&a, &b].map(Record::bytes);
        let turned = if proof.records()[0] == &a { [turned[1], turned[0]] } else { turned };
        let length = u16::try_from(turned[0].len()).unwrap().to_le_bytes();
        let bytes = [&length, turned[0], turned[1]].concat();
        assert_eq!(FraudProof::decode(&bytes), Err(DescriptorError::Form));
    }

    #[test]
    fn what_contradicts_nothing_is_no_proof() {
        let [a, _] = two();
        let later = Descriptor { issued: small().issued.next(), ..small() }.sign(&params().id(), &relay());
        let other = Descriptor { relay: RelayId::from_bytes([7; 32]), ..small() }.sign(&params().id(), &relay());
        [&a, &later, &other].iter().for_each(|record| assert_eq!(FraudProof::of(&a, record), None));
        let length = u16::try_from(a.bytes().len()).unwrap().to_le_bytes();
        let bytes = [&length, a.bytes(), a.bytes()].concat();
        assert_eq!(FraudProof::decode(&bytes), Err(DescriptorError::Form));
    }

    #[test]
    fn a_proof_cut_or_changed_anywhere_proves_nothing() {
        let bytes = proof().encode();
        for length in 0..bytes.len() {
            assert!(FraudProof::decode(&bytes[..length]).is_err(), "{length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let checked = FraudProof::decode(&changed).and_then(|proof| proof.check(&params(), NOW));
            assert!(checked.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_proof_counts_in_its_network_and_for_its_time() {
        let (proof, params) = (proof(), params());
        let at = |epoch: Epoch| proof.check(&params, epoch.start(&params.directory));
        assert_eq!(proof.barred_until(), proof.issued().plus(28));
        assert_eq!(at(proof.issued().plus(27)), Ok(()));
        assert_eq!(at(proof.barred_until()), Err(DescriptorError::Expired));
        let early = proof.issued().start(&params.directory).0 - CLOCK_TOLERANCE - 1;
        assert_eq!(proof.check(&params, UnixSeconds(early)), Err(DescriptorError::Future));
        let foreign = NetworkId::from_bytes([9; 32]);
        let [a, b] = [small(), full()].map(|descriptor| descriptor.sign(&foreign, &relay()));
        assert_eq!(FraudProof::of(&a, &b).unwrap().check(&params, NOW), Err(DescriptorError::Network));
    }

    #[test]
    fn nobody_can_be_accused_by_others() {
        let stranger = crate::identity::RelaySecret::from_bytes(&[9; 32].into());
        let [a, _] = two();
        let forged = Descriptor { mailbox: true, ..small() }.sign(&params().id(), &stranger);
        let proof = FraudProof::of(&a, &forged).unwrap();
        assert_eq!(proof.check(&params(), NOW), Err(DescriptorError::Signature));
    }

    #[test]
    fn an_identity_without_work_is_not_worth_a_proof() {
        let [a, b] = [small(), full()].map(|mut descriptor| {
            while descriptor.work.has_hashcash(&params(), &descriptor.relay) {
                descriptor.work.hashcash += 1;
            }
            descriptor.sign(&params().id(), &relay())
        });
        assert_eq!(FraudProof::of(&a, &b).unwrap().check(&params(), NOW), Err(DescriptorError::Hashcash));
    }
}
