//! Look: whether a relay is at an address, asked and answered with one small packet each.
//!
//! Specification: docs/protocol.md, "Looks". The packets are random bytes to whoever does not know the network's id and
//! the relay's. The answer is shorter than the question, so nobody is flooded by asking in another's name. This file
//! never sends anything, and never says when to ask.

use rand::{CryptoRng, RngExt};

use crate::{
    crypto,
    identity::{RelayId, RelaySecret},
    params::NetworkId,
    wire::{Reader, Writer},
};

/// Bytes of a question: nonce 16 ‖ tag 16 ‖ random 64.
pub const QUESTION: usize = NONCE + TAG + SIGNATURE;
/// Bytes of an answer: tag 16 ‖ masked Ed25519 signature 64.
pub const ANSWER: usize = TAG + SIGNATURE;

/// A question whether this relay is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    network: NetworkId,
    relay: RelayId,
    nonce: [u8; NONCE],
}

/// By which an answer is found to belong to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswerTag([u8; TAG]);

const NONCE: usize = 16;
const TAG: usize = 16;
const SIGNATURE: usize = 64;
const LABEL: &[u8] = b"trefoil/1 look";

/// What a hash of a look is for.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Mark {
    Question = 0,
    Answer = 1,
    FirstMask = 2,
    SecondMask = 3,
}

impl Look {
    /// A new one, for this relay.
    pub fn new(network: NetworkId, relay: RelayId, rng: &mut impl CryptoRng) -> Self {
        Self { network, relay, nonce: rng.random() }
    }

    /// The packet that asks. It may be sent several times.
    pub fn question(&self, rng: &mut impl CryptoRng) -> [u8; QUESTION] {
        let mut packet = [0; QUESTION];
        let mut space = Writer::new(&mut packet, 0);
        space.put(&self.nonce).put(&self.tag(Mark::Question)).put(&rng.random::<[u8; SIGNATURE]>());
        packet
    }

    /// The tag that the answer will have.
    pub fn answer_tag(&self) -> AnswerTag {
        AnswerTag(self.tag(Mark::Answer))
    }

    /// Whether nobody but the relay can have given this answer.
    pub fn is_answered_by(&self, answer: &[u8; ANSWER]) -> bool {
        let mut fields = Reader::new(answer);
        let (tag, signature) = (fields.array(), fields.array());
        tag == Some(self.tag(Mark::Answer))
            && signature
                .is_some_and(|masked| crypto::verify(self.relay.as_bytes(), LABEL, &self.signed(), &self.mask(masked)))
    }

    /// The look that this packet asks for, if it asks this relay of this network.
    pub fn asked(packet: &[u8], network: &NetworkId, relay: &RelayId) -> Option<Self> {
        let packet: &[u8; QUESTION] = packet.try_into().ok()?;
        let mut fields = Reader::new(packet);
        let look = Self { network: *network, relay: *relay, nonce: fields.array()? };
        (fields.array()? == look.tag(Mark::Question)).then_some(look)
    }

    /// The packet that answers, by the relay that was asked.
    pub fn answer(&self, secret: &RelaySecret) -> [u8; ANSWER] {
        let mut packet = [0; ANSWER];
        let signature = self.mask(secret.sign(LABEL, &self.signed()));
        Writer::new(&mut packet, 0).put(&self.tag(Mark::Answer)).put(&signature);
        packet
    }

    fn signed(&self) -> Vec<u8> {
        [&self.network.as_bytes()[..], &self.nonce].concat()
    }

    fn tag(&self, mark: Mark) -> [u8; TAG] {
        *self.hash(mark).first_chunk().expect("32 bytes have 16")
    }

    /// Hides what a signature looks like, and shows it again.
    fn mask(&self, mut signature: [u8; SIGNATURE]) -> [u8; SIGNATURE] {
        let mask = [Mark::FirstMask, Mark::SecondMask].map(|mark| self.hash(mark));
        signature.iter_mut().zip(mask.as_flattened()).for_each(|(byte, mask)| *byte ^= mask);
        signature
    }

    fn hash(&self, mark: Mark) -> [u8; 32] {
        crypto::blake3(&[LABEL, &[mark as u8], self.network.as_bytes(), self.relay.as_bytes(), &self.nonce])
    }
}

impl AnswerTag {
    /// The tag of what may be an answer.
    pub fn of(answer: &[u8; ANSWER]) -> Self {
        Self(*answer.first_chunk().expect("80 bytes have 16"))
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::params::NetworkParams;

    const QUESTION_EXAMPLE: &str = "000102030405060708090a0b0c0d0e0ff074861a76aa8a5bff21c45fe1acb4ad";
    const ANSWER_EXAMPLE: &str = "30c8666941c52c34d8ff151a155de8cd28575626f56093ba344c9f20b917f21c082aa8fd4bd1a2eb8cc990a2bbb7d7e18d7f8bcbe49cb094f1594e81a56c3492462307d4f7843bb1dd8aabf05bb05fa7";

    fn network(name: &str) -> NetworkId {
        NetworkParams::testnet(name.parse().unwrap()).id()
    }

    fn secret(seed: u64) -> RelaySecret {
        RelaySecret::generate(&mut StdRng::seed_from_u64(seed))
    }

    fn look() -> Look {
        let nonce = (0..16).collect::<Vec<_>>().try_into().unwrap();
        Look { network: NetworkParams::main().id(), relay: RelaySecret::from_bytes(&[7; 32].into()).id(), nonce }
    }

    #[test]
    fn a_question_and_its_answer_have_their_documented_bytes() {
        let (look, secret) = (look(), RelaySecret::from_bytes(&[7; 32].into()));
        let relay = secret.id();
        let hash = |mark: u8| {
            let parts = [&b"trefoil/1 look"[..], &[mark], look.network.as_bytes(), relay.as_bytes(), &look.nonce];
            crypto::blake3(&[&parts.concat()])
        };
        let question = look.question(&mut StdRng::seed_from_u64(1));
        assert_eq!(question[..32], *[&look.nonce, &hash(0)[..16]].concat());
        let signature = secret.sign(b"trefoil/1 look", &[&look.network.as_bytes()[..], &look.nonce].concat());
        let mask = [hash(2), hash(3)].concat();
        let masked: Vec<_> = signature.iter().zip(&mask).map(|(byte, mask)| byte ^ mask).collect();
        let answer = look.answer(&secret);
        assert_eq!(answer, *[&hash(1)[..16], &masked].concat());
        assert_eq!(data_encoding::HEXLOWER.encode(&question[..32]), QUESTION_EXAMPLE);
        assert_eq!(data_encoding::HEXLOWER.encode(&answer), ANSWER_EXAMPLE);
    }

    #[test]
    fn who_is_asked_answers_and_nobody_else_can() {
        let (network, mut rng) = (network("a"), StdRng::seed_from_u64(1));
        let look = Look::new(network, secret(1).id(), &mut rng);
        let question = look.question(&mut rng);
        let asked = Look::asked(&question, &network, &secret(1).id()).unwrap();
        let answer = asked.answer(&secret(1));
        assert!(look.is_answered_by(&answer));
        assert_eq!(AnswerTag::of(&answer), look.answer_tag());
        assert!(!look.is_answered_by(&asked.answer(&secret(2))));
        let again = Look::new(network, secret(1).id(), &mut rng);
        assert!(!again.is_answered_by(&answer), "an answer is good for one question");
        for at in 0..ANSWER {
            let mut changed = answer;
            changed[at] ^= 1;
            assert!(!look.is_answered_by(&changed), "{at}");
        }
    }

    #[test]
    fn what_asks_another_relay_or_in_another_network_or_was_changed_is_no_question() {
        let (network_, mut rng) = (network("a"), StdRng::seed_from_u64(1));
        let relay = secret(1).id();
        let question = Look::new(network_, relay, &mut rng).question(&mut rng);
        assert_eq!(Look::asked(&question, &network("b"), &relay), None);
        assert_eq!(Look::asked(&question, &network_, &secret(2).id()), None);
        (0..QUESTION).for_each(|length| assert_eq!(Look::asked(&question[..length], &network_, &relay), None));
        assert_eq!(Look::asked(&[&question[..], &[0]].concat(), &network_, &relay), None);
        for at in 0..NONCE + TAG {
            let mut changed = question;
            changed[at] ^= 1;
            assert_eq!(Look::asked(&changed, &network_, &relay), None, "{at}");
        }
    }

    #[test]
    fn two_questions_for_one_relay_have_nothing_in_common() {
        let (network, mut rng) = (network("a"), StdRng::seed_from_u64(1));
        let [one, other] = [(); 2].map(|()| Look::new(network, secret(1).id(), &mut rng).question(&mut rng));
        let alike = one.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!(alike < 5, "{alike}");
    }
}
