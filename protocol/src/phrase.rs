//! Phrase: the 24 words that a person writes down, and all that is made from them.
//!
//! Specification: docs/protocol.md, "Phrases". The words are those of BIP-39, and stand for 32 bytes of entropy. They
//! bring back who a person is, and what the person kept in the own inbox; never the state of a conversation's ratchet,
//! which is not made from them. This file never stores or shows a phrase.

use std::fmt;

use bip39::{Language, Mnemonic};
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    address::AddressSecret,
    crypto::{KeySchedule, Secret},
    limits::PHRASE_NEAR,
};

/// The entropy that 24 words stand for.
pub struct Phrase(Secret);

/// Why words are no phrase, for the person who has written them, and for no log: it tells of the words.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Not 24 words.
    #[error("a phrase has {WORDS} words, not {0}")]
    Count(usize),
    /// A word that is not in the list.
    #[error("word {place} is not in the list that phrases are made from{}", in_words(near))]
    Word {
        /// Which one, from 1.
        place: usize,
        /// Words of the list that differ from it by least; at most [`PHRASE_NEAR`], and none where all are far.
        near: Vec<&'static str>,
    },
    /// Words of the list that are no phrase together.
    #[error("the words are all in the list, but the checksum does not fit: one is another word, or two changed places")]
    Checksum,
}

impl Phrase {
    /// A new one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut entropy = Secret::default();
        rng.fill_bytes(&mut *entropy);
        Self(entropy)
    }

    /// The phrase of this entropy.
    pub fn from_entropy(entropy: Secret) -> Self {
        Self(entropy)
    }

    /// Its entropy: whoever has it is the person.
    pub fn entropy(&self) -> &Secret {
        &self.0
    }

    /// Reads words, in either case, with any white space between them.
    ///
    /// # Errors
    /// [`PhraseError`] of the first word that is none, or of all together.
    pub fn parse(text: &str) -> Result<Self, PhraseError> {
        let text = Zeroizing::new(text.to_lowercase());
        let count = text.split_whitespace().count();
        if count != WORDS {
            return Err(PhraseError::Count(count));
        }
        let known = |word: &str| Language::English.find_word(word).is_some();
        if let Some((at, word)) = text.split_whitespace().enumerate().find(|(_, word)| !known(word)) {
            return Err(PhraseError::Word { place: at + 1, near: near(word) });
        }
        let words = Mnemonic::parse_in_normalized(Language::English, &text).map_err(|_| PhraseError::Checksum)?;
        let (entropy, _) = words.to_entropy_array();
        let entropy = Zeroizing::new(entropy);
        Ok(Self(Zeroizing::new(*entropy.first_chunk().expect("24 words stand for 32 bytes"))))
    }

    /// Its words, with one space between them.
    pub fn words(&self) -> Zeroizing<String> {
        let words = Mnemonic::from_entropy_in(Language::English, &*self.0).expect("32 bytes have their 24 words");
        let mut text = Zeroizing::new(String::with_capacity(WORDS * (LONGEST + 1))); // it never moves as it grows
        for word in words.words() {
            let space = if text.is_empty() { "" } else { " " };
            text.push_str(space);
            text.push_str(word);
        }
        text
    }

    /// The person's own key.
    pub fn address_secret(&self) -> AddressSecret {
        AddressSecret::from_bytes(&self.derive(IDENTITY))
    }

    /// The key of the inbox in which the person keeps what only the person reads: an address that nobody is told.
    pub fn self_inbox_secret(&self) -> AddressSecret {
        AddressSecret::from_bytes(&self.derive(SELF_INBOX))
    }

    /// What backups are sealed with.
    pub fn backup_key(&self) -> Secret {
        self.derive(BACKUP)
    }

    fn derive(&self, what: &[u8]) -> Secret {
        let [key] = KeySchedule::extract(LABEL, &[&*self.0]).expand(&[what]);
        key
    }
}

/// The words of the list with the fewest characters to change, leave out or add, if these are at most [`FAR`].
fn near(word: &str) -> Vec<&'static str> {
    if word.len() > LONGEST {
        return vec![];
    }
    let all = Language::English.word_list();
    let distances = all.iter().map(|known| (distance(word, known), *known)).filter(|(changes, _)| *changes <= FAR);
    let mut words: Vec<_> = distances.collect();
    words.sort_unstable();
    let least = words.first().map(|(changes, _)| *changes);
    words
        .into_iter()
        .take_while(|(changes, _)| Some(*changes) == least)
        .map(|(_, word)| word)
        .take(PHRASE_NEAR)
        .collect()
}

/// The distance of Levenshtein, row by row: `row` holds how far the characters of `a` so far are from each beginning of
/// `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (read, a) in (1..).zip(a.chars()) {
        let mut next = vec![read];
        for (b, pair) in b.chars().zip(row.windows(2)) {
            let [corner, above] = *pair else { continue };
            let left = next.last().copied().unwrap_or(read);
            next.push((corner + usize::from(a != b)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

fn in_words(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!("; near it are: {}", near.join(", ")) }
}

impl fmt::Debug for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phrase(..)")
    }
}

impl fmt::Debug for PhraseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "Count({count})"),
            Self::Word { place, .. } => write!(f, "Word({place}, ..)"),
            Self::Checksum => f.write_str("Checksum"),
        }
    }
}

const LABEL: &[u8] = b"trefoil/1 phrase";
const IDENTITY: &[u8] = b"identity";
const SELF_INBOX: &[u8] = b"self inbox";
const BACKUP: &[u8] = b"backup";
const WORDS: usize = 24;
/// Most changes that make a word near.
const FAR: usize = 2;
/// No word of the list has more than 8 characters; what has more than these is near none.
const LONGEST: usize = 8 + FAR;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn phrase(byte: u8) -> Phrase {
        Phrase::from_entropy(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn the_words_are_those_of_bip_39() {
        let vectors = [
            ([0; 32], "abandon ".repeat(23) + "art"),
            ([0xff; 32], "zoo ".repeat(23) + "vote"),
            (
                *b"\x68\xa7\x9e\xac\xa2\x32\x48\x73\xea\xcc\x50\xcb\x9c\x6e\xca\x8c\xc6\x8e\xa5\xd9\x36\xf9\x87\x87\xc6\x0c\x7e\xbc\x74\xe6\xce\x7c",
                "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis \
                 maple dilemma loan word shrug inflict delay length"
                    .to_owned(),
            ),
        ];
        for (entropy, words) in vectors {
            assert_eq!(*Phrase::from_entropy(Zeroizing::new(entropy)).words(), words);
            assert_eq!(*Phrase::parse(&words).unwrap().0, entropy);
        }
    }

    #[test]
    fn case_and_white_space_do_not_matter() {
        let words = phrase(7).words().to_uppercase().replace(' ', "\n\t ");
        assert_eq!(*Phrase::parse(&format!("  {words}\r\n")).unwrap().0, [7; 32]);
    }

    #[test]
    fn a_phrase_has_24_words() {
        assert_eq!(Phrase::parse("").unwrap_err(), PhraseError::Count(0));
        for count in (1..30).filter(|count| *count != 24) {
            assert_eq!(Phrase::parse(&"abandon ".repeat(count)).unwrap_err(), PhraseError::Count(count));
        }
    }

    #[test]
    fn a_word_with_a_typing_error_is_named_by_its_place_with_the_words_that_are_near() {
        let with = |word: &str| "abandon ".repeat(5) + word + &" abandon".repeat(18);
        let cases: [(&str, &[&str]); 7] = [
            ("abandn", &["abandon"]),
            ("xabandon", &["abandon"]),
            ("womam", &["woman"]),
            ("bal", &["ball"]),
            ("bat", &["bag", "bar"]), // not in the list, and all with one change
            ("qqqqqqq", &[]),
            ("é", &[]),
        ];
        for (word, near) in cases {
            let error = Phrase::parse(&with(word)).unwrap_err();
            let PhraseError::Word { place, near: found } = &error else { panic!("{error:?}") };
            assert_eq!((*place, found.is_empty()), (6, near.is_empty()), "{word}: {found:?}");
            assert!(near.iter().all(|near| found.contains(near)), "{word}: {found:?}");
            assert!(found.len() <= PHRASE_NEAR);
            assert_eq!(format!("{error:?}"), "Word(6, ..)");
        }
        let error = Phrase::parse(&with("abandn")).unwrap_err();
        let said = "word 6 is not in the list that phrases are made from; near it are: abandon";
        assert_eq!(error.to_string(), said);
        assert!(near(&"a".repeat(1 << 20)).is_empty());
    }

    #[test]
    fn words_that_are_no_phrase_together_are_refused_for_the_checksum() {
        let right = phrase(9).words();
        let mut words: Vec<_> = right.split(' ').collect();
        words.swap(0, 1);
        assert_ne!(words[0], words[1]);
        assert_eq!(Phrase::parse(&words.join(" ")).unwrap_err(), PhraseError::Checksum);
        assert_eq!(Phrase::parse(&"abandon ".repeat(24)).unwrap_err(), PhraseError::Checksum);
    }

    #[test]
    fn what_is_made_from_a_phrase_is_as_the_specification_says_and_no_two_are_the_same() {
        let phrase = phrase(3);
        let expand = |what: &[u8]| {
            let [key] = KeySchedule::extract(b"trefoil/1 phrase", &[&[3; 32]]).expand(&[what]);
            key
        };
        let address = |seed: &Secret| AddressSecret::from_bytes(seed).address();
        assert_eq!(phrase.address_secret().address(), address(&expand(b"identity")));
        assert_eq!(phrase.self_inbox_secret().address(), address(&expand(b"self inbox")));
        assert_eq!(phrase.backup_key(), expand(b"backup"));
        assert_eq!(self::phrase(0).address_secret().address().to_string(), EXAMPLE);
        assert_ne!(phrase.address_secret().address(), phrase.self_inbox_secret().address());
        assert_ne!(phrase.backup_key(), self::phrase(4).backup_key());
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, changes) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("a", "a", 0)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (changes, changes));
        }
    }

    #[test]
    fn a_phrase_does_not_print_itself() {
        let phrase = Phrase::generate(&mut StdRng::seed_from_u64(1));
        assert_eq!(format!("{phrase:?}"), "Phrase(..)");
        assert_ne!(*phrase.words(), *Phrase::generate(&mut StdRng::seed_from_u64(2)).words());
    }

    proptest! {
        #[test]
        fn every_entropy_survives_its_words(entropy: [u8; 32]) {
            let words = Phrase::from_entropy(Zeroizing::new(entropy)).words();
            prop_assert_eq!(*Phrase::parse(&words).unwrap().0, entropy);
        }

        #[test]
        fn no_text_is_too_strange(text in "(\\PC{0,9} ){20,26}") {
            prop_assert!(Phrase::parse(&text).is_err());
        }
    }

    const EXAMPLE: &str = "aeze7tbvhxappooghtozxyor5y6m5ahhu6fwi4obtvw447ljt3sorjuy.trefoil";
}
