//! Conversations: in which order somebody wrote, what came twice, and what has not come.
//!
//! Specification: docs/protocol.md, "Conversations". Letters wait at several mailboxes and come in any order, more than
//! once or not at all. Every place is taken once; a gap is known as one, and never guessed away. This file never looks
//! into letters.

use std::ops::Range;

use crate::{
    letter::Place,
    limits::{DEVICES_KEPT, GAPS_KEPT},
    wire::Reader,
};

/// What one writer has said in a conversation, as far as it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard(Vec<Track>);

/// What one device of the writer's has said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Track {
    device: u32,
    /// The place after the last that came.
    next: u32,
    /// Those before it that have not come: in order, none of them empty, no two side by side.
    missing: Vec<Range<u32>>,
}

/// What one device of one's own has said in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The place of what is said next.
    next: Place,
}

/// How a letter came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is the one after the last.
    Next,
    /// It is further on: these before it have not come.
    Ahead(Range<u32>),
    /// It was missing.
    Late,
    /// It has come before, and is not to be shown again.
    Duplicate,
}

/// Why a letter cannot be placed. It is not taken: nothing is known of it afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConversationError {
    /// Nobody writes so many.
    #[error("a letter whose place no letter can have")]
    Place,
    /// More gaps than are kept.
    #[error("too many letters before this one are missing here and there")]
    Gaps,
    /// Of a device that wrote long ago: newer ones have taken its place.
    #[error("a letter of a device that is no longer known")]
    Device,
}

/// The bytes are not a saved conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a conversation's state: cut, or out of order")]
pub struct BadConversation;

impl Heard {
    /// Takes note of a letter at this place.
    ///
    /// # Errors
    /// [`ConversationError`]; nothing has changed then.
    pub fn hear(&mut self, place: Place) -> Result<Arrival, ConversationError> {
        if place.sequence == u32::MAX {
            return Err(ConversationError::Place);
        }
        match self.0.binary_search_by_key(&place.device, |track| track.device) {
            Ok(at) => self.0.get_mut(at).map_or(Err(ConversationError::Device), |track| track.hear(place.sequence)),
            Err(0) if self.0.len() >= DEVICES_KEPT => Err(ConversationError::Device),
            Err(at) => {
                let mut track = Track { device: place.device, next: 0, missing: vec![] };
                let arrival = track.hear(place.sequence);
                self.0.insert(at, track);
                if self.0.len() > DEVICES_KEPT {
                    self.0.remove(0);
                }
                arrival
            }
        }
    }

    /// The places that have not come, though later ones of their device have; in order.
    pub fn missing(&self) -> impl Iterator<Item = (u32, &Range<u32>)> {
        self.0.iter().flat_map(|track| track.missing.iter().map(|gap| (track.device, gap)))
    }

    /// The newest device that wrote.
    pub fn device(&self) -> Option<u32> {
        self.0.last().map(|track| track.device)
    }

    /// For the disk: for each device `device 4 ‖ next 4 ‖ n 2 ‖ n × (first missing 4 ‖ next there 4)`.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![];
        for Track { device, next, missing } in &self.0 {
            bytes.extend(device.to_le_bytes());
            bytes.extend(next.to_le_bytes());
            bytes.extend(u16::try_from(missing.len()).expect("gaps are bounded").to_le_bytes());
            for gap in missing {
                bytes.extend(gap.start.to_le_bytes());
                bytes.extend(gap.end.to_le_bytes());
            }
        }
        bytes
    }

    /// Takes what [`Self::encode`] made.
    ///
    /// # Errors
    /// [`BadConversation`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadConversation> {
        let mut reader = Reader::new(bytes);
        let mut tracks: Vec<Track> = vec![];
        while !reader.is_empty() {
            tracks.push(Track::read(&mut reader).ok_or(BadConversation)?);
        }
        let in_order = tracks.len() <= DEVICES_KEPT && tracks.is_sorted_by(|a, b| a.device < b.device);
        if in_order { Ok(Self(tracks)) } else { Err(BadConversation) }
    }
}

impl Track {
    fn hear(&mut self, sequence: u32) -> Result<Arrival, ConversationError> {
        if sequence >= self.next { self.hear_new(sequence) } else { self.hear_old(sequence) }
    }

    fn hear_new(&mut self, sequence: u32) -> Result<Arrival, ConversationError> {
        let gap = self.next..sequence;
        if !gap.is_empty() {
            self.make_room(1)?;
            self.missing.push(gap.clone());
        }
        self.next = sequence.saturating_add(1);
        Ok(if gap.is_empty() { Arrival::Next } else { Arrival::Ahead(gap) })
    }

    fn hear_old(&mut self, sequence: u32) -> Result<Arrival, ConversationError> {
        let at = self.missing.partition_point(|gap| gap.end <= sequence);
        let Some(gap) = self.missing.get(at).filter(|gap| gap.contains(&sequence)).cloned() else {
            return Ok(Arrival::Duplicate);
        };
        let left: Vec<_> = [gap.start..sequence, sequence.saturating_add(1)..gap.end]
            .into_iter()
            .filter(|gap| !gap.is_empty())
            .collect();
        self.make_room(left.len().saturating_sub(1))?;
        self.missing.splice(at..=at, left);
        Ok(Arrival::Late)
    }

    fn make_room(&self, gaps: usize) -> Result<(), ConversationError> {
        if self.missing.len() + gaps <= GAPS_KEPT { Ok(()) } else { Err(ConversationError::Gaps) }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (device, next) = (reader.u32()?, reader.u32()?);
        let gaps = reader.u16().map(usize::from).filter(|gaps| *gaps <= GAPS_KEPT)?;
        let missing = (0..gaps).map(|_| Some(reader.u32()?..reader.u32()?)).collect::<Option<Vec<_>>>()?;
        let apart = missing.is_sorted_by(|a, b| a.end < b.start);
        let whole = missing.iter().all(|gap| !gap.is_empty() && gap.end < next);
        (next > 0 && apart && whole).then_some(Self { device, next, missing })
    }
}

impl Said {
    /// Nothing yet, by this device.
    pub fn nothing(device: u32) -> Self {
        Self { next: Place { device, sequence: 0 } }
    }

    /// All before this place.
    pub fn before(next: Place) -> Self {
        Self { next }
    }

    /// The place of what is said next.
    pub fn next(&self) -> Place {
        self.next
    }

    /// Takes the place of what is said next; `None` when all are taken. The state must be on disk before the letter goes
    /// out: two letters with one place would be taken for one.
    pub fn say(&mut self) -> Option<Place> {
        let place = self.next;
        self.next.sequence = place.sequence.checked_add(1)?;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn at(device: u32, sequence: u32) -> Place {
        Place { device, sequence }
    }

    /// Hears these of device 0.
    fn heard(sequences: &[u32]) -> Heard {
        let mut heard = Heard::default();
        sequences.iter().for_each(|sequence| drop(heard.hear(at(0, *sequence))));
        heard
    }

    fn gaps(heard: &Heard) -> Vec<(u32, Range<u32>)> {
        heard.missing().map(|(device, gap)| (device, gap.clone())).collect()
    }

    #[test]
    fn letters_in_order_leave_no_gap() {
        let mut heard = Heard::default();
        for sequence in 0..100 {
            assert_eq!(heard.hear(at(0, sequence)), Ok(Arrival::Next));
            assert_eq!(heard.hear(at(0, sequence)), Ok(Arrival::Duplicate));
        }
        assert_eq!((gaps(&heard), heard.device()), (vec![], Some(0)));
    }

    #[test]
    fn each_place_before_in_and_behind_a_gap_comes_as_what_it_is() {
        // 0 1 . . . 5 . 7
        let before = heard(&[0, 1, 5, 7]);
        assert_eq!(gaps(&before), [(0, 2..5), (0, 6..7)]);
        let cases = [
            (0, Arrival::Duplicate, vec![(2, 5), (6, 7)]),
            (1, Arrival::Duplicate, vec![(2, 5), (6, 7)]),
            (2, Arrival::Late, vec![(3, 5), (6, 7)]),
            (3, Arrival::Late, vec![(2, 3), (4, 5), (6, 7)]),
            (4, Arrival::Late, vec![(2, 4), (6, 7)]),
            (5, Arrival::Duplicate, vec![(2, 5), (6, 7)]),
            (6, Arrival::Late, vec![(2, 5)]),
            (7, Arrival::Duplicate, vec![(2, 5), (6, 7)]),
            (8, Arrival::Next, vec![(2, 5), (6, 7)]),
            (9, Arrival::Ahead(8..9), vec![(2, 5), (6, 7), (8, 9)]),
        ];
        for (sequence, arrival, missing) in cases {
            let mut heard = before.clone();
            assert_eq!(heard.hear(at(0, sequence)), Ok(arrival), "{sequence}");
            assert_eq!(
                gaps(&heard),
                missing.into_iter().map(|(from, to)| (0, from..to)).collect::<Vec<_>>(),
                "{sequence}"
            );
            assert_eq!(heard.hear(at(0, sequence)), Ok(Arrival::Duplicate), "{sequence}");
        }
    }

    #[test]
    fn a_new_device_begins_anew_and_the_letters_of_the_one_before_still_come() {
        let mut heard = heard(&[0, 3]);
        assert_eq!(heard.hear(at(1, 0)), Ok(Arrival::Next));
        assert_eq!(heard.hear(at(1, 2)), Ok(Arrival::Ahead(1..2)));
        assert_eq!(heard.hear(at(0, 1)), Ok(Arrival::Late));
        assert_eq!(gaps(&heard), [(0, 2..3), (1, 1..2)]);
        assert_eq!(heard.device(), Some(1));
        assert!(at(1, 0) > at(0, 3), "the order is that of devices first");
    }

    #[test]
    fn only_the_newest_devices_are_kept() {
        let newest = u32::try_from(DEVICES_KEPT).unwrap();
        let mut heard = Heard::default();
        for device in 1..=newest {
            assert_eq!(heard.hear(at(device, 0)), Ok(Arrival::Next));
        }
        assert_eq!(heard.hear(at(0, 0)), Err(ConversationError::Device));
        assert_eq!(heard.hear(at(newest + 1, 0)), Ok(Arrival::Next));
        assert_eq!(heard.hear(at(1, 0)), Err(ConversationError::Device));
        assert_eq!(heard.hear(at(2, 0)), Ok(Arrival::Duplicate));
    }

    #[test]
    fn gaps_have_a_bound_and_what_is_above_it_is_not_taken() {
        let most = u32::try_from(GAPS_KEPT).unwrap();
        let mut heard = heard(&(0..most).map(|gap| 4 * gap + 3).collect::<Vec<_>>());
        let before = heard.clone();
        assert_eq!(gaps(&heard).len(), GAPS_KEPT);
        assert_eq!(heard.hear(at(0, 4 * most + 3)), Err(ConversationError::Gaps));
        assert_eq!(heard.hear(at(0, 1)), Err(ConversationError::Gaps), "in the middle of a gap");
        assert_eq!(heard, before);
        assert_eq!(heard.hear(at(0, 4 * most)), Ok(Arrival::Next));
        assert_eq!(heard.hear(at(0, 0)), Ok(Arrival::Late));
    }

    #[test]
    fn the_last_place_is_nobodys() {
        let mut heard = Heard::default();
        assert_eq!(heard.hear(at(0, u32::MAX)), Err(ConversationError::Place));
        assert_eq!(heard, Heard::default());
        assert_eq!(heard.hear(at(0, u32::MAX - 1)), Ok(Arrival::Ahead(0..u32::MAX - 1)));
        assert_eq!(heard.hear(at(0, u32::MAX - 1)), Ok(Arrival::Duplicate));
        let mut said = Said::before(at(0, u32::MAX - 1));
        assert_eq!((said.say(), said.say()), (Some(at(0, u32::MAX - 1)), None));
    }

    #[test]
    fn whoever_says_something_takes_one_place_after_the_other() {
        let mut said = Said::nothing(3);
        assert_eq!([said.say(), said.say(), said.say()], [0, 1, 2].map(|sequence| Some(at(3, sequence))));
        assert_eq!(said, Said::before(at(3, 3)));
        assert_eq!(said.next(), at(3, 3));
    }

    #[test]
    fn a_saved_conversation_is_whole_or_refused() {
        let mut heard = heard(&[0, 1, 5, 7]);
        heard.hear(at(4, 1)).unwrap();
        let bytes = heard.encode();
        assert_eq!(Heard::decode(&bytes), Ok(heard));
        for length in (1..bytes.len()).filter(|length| *length != 26) {
            assert_eq!(Heard::decode(&bytes[..length]), Err(BadConversation), "{length}");
        }
        let track = |device: u32, next: u32, gaps: &[[u32; 2]]| {
            let count = u16::try_from(gaps.len()).unwrap().to_le_bytes();
            let gaps = gaps.as_flattened().iter().flat_map(|place| place.to_le_bytes());
            [&device.to_le_bytes()[..], &next.to_le_bytes(), &count, &gaps.collect::<Vec<_>>()].concat()
        };
        assert!(Heard::decode(&track(0, 9, &[[1, 2], [3, 8]])).is_ok());
        let bad = [
            track(0, 0, &[]),
            track(0, 9, &[[1, 1]]),
            track(0, 9, &[[2, 1]]),
            track(0, 9, &[[1, 3], [3, 4]]),
            track(0, 9, &[[3, 4], [1, 2]]),
            track(0, 9, &[[3, 9]]),
            [track(1, 1, &[]), track(0, 1, &[])].concat(),
            [track(1, 1, &[]), track(1, 1, &[])].concat(),
        ];
        bad.iter().for_each(|bytes| assert_eq!(Heard::decode(bytes), Err(BadConversation), "{bytes:?}"));
    }

    proptest! {
        #[test]
        fn however_letters_come_each_is_taken_once_and_what_is_missing_is_known(
            places in prop::collection::vec((0u32..3, 0u32..40), 0..200),
        ) {
            let (mut heard, mut model) = (Heard::default(), BTreeMap::<u32, BTreeSet<u32>>::new());
            for (device, sequence) in places {
                let there = model.entry(device).or_default();
                let next = there.last().map_or(0, |last| last + 1);
                let expected = if there.contains(&sequence) {
                    Arrival::Duplicate
                } else if sequence < next {
                    Arrival::Late
                } else if sequence == next {
                    Arrival::Next
                } else {
                    Arrival::Ahead(next..sequence)
                };
                there.insert(sequence);
                prop_assert_eq!(heard.hear(at(device, sequence)), Ok(expected));
                heard = Heard::decode(&heard.encode()).unwrap();
            }
            let missing: Vec<_> = heard.missing().flat_map(|(device, gap)| gap.clone().map(move |at| (device, at))).collect();
            let expected: Vec<_> = model.iter().flat_map(|(device, there)| {
                let last = there.last().copied().unwrap_or(0);
                (0..last).filter(|at| !there.contains(at)).map(|at| (*device, at)).collect::<Vec<_>>()
            }).collect();
            prop_assert_eq!(missing, expected);
        }

        #[test]
        fn bytes_are_a_conversation_or_refused(bytes in prop::collection::vec(0u8..3, 0..60)) {
            if let Ok(heard) = Heard::decode(&bytes) {
                prop_assert_eq!(heard.encode(), bytes);
            }
        }
    }
}
