use std::time::Duration;

use super::*;
use crate::limits::{INITIAL_CREDIT, MAX_CREDIT, MAX_DATA, MESSAGE, SEND_BUFFER};

mod interleavings;
mod states;

const HOP: u8 = 2;
const RENDEZVOUS: usize = 1910;

/// A circuit of two ends, and the messages on their way.
struct Pair {
    origin: Streams,
    hop: Streams,
    to_origin: VecDeque<Vec<u8>>,
    to_hop: VecDeque<Vec<u8>>,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        Self {
            origin: Streams::new(End::Origin),
            hop: Streams::new(End::Hop),
            to_origin: VecDeque::new(),
            to_hop: VecDeque::new(),
            now: Instant::now(),
        }
    }

    /// A pair with one stream that the hop accepted.
    fn connected() -> (Self, StreamId) {
        let mut pair = Self::new();
        let id = pair.origin.open(HOP, Target::Directory).unwrap();
        pair.settle();
        pair.hop.accept(id);
        pair.settle();
        (pair, id)
    }

    fn side(&mut self, end: End) -> &mut Streams {
        if end == End::Origin { &mut self.origin } else { &mut self.hop }
    }

    /// Moves one message of `end` into the circuit, and gives it.
    fn poll(&mut self, end: End) -> Option<Vec<u8>> {
        let mut space = vec![0xaa; MESSAGE];
        let hop = self.side(end).poll_message(&mut space)?;
        assert_eq!(hop, if end == End::Origin { HOP } else { 0 });
        let queue = if end == End::Origin { &mut self.to_hop } else { &mut self.to_origin };
        queue.push_back(space.clone());
        Some(space)
    }

    /// Brings the next message to `end`.
    fn deliver(&mut self, end: End) -> Option<Result<Option<Event>, Violation>> {
        let now = self.now;
        let (queue, hop) = if end == End::Origin { (&mut self.to_origin, HOP) } else { (&mut self.to_hop, 0) };
        let space = queue.pop_front()?;
        Some(self.side(end).handle_message(hop, &Message::decode(&space).unwrap(), now))
    }

    /// Moves messages until there are none; gives what they meant.
    fn settle(&mut self) -> Vec<(End, Event)> {
        let mut events = Vec::new();
        loop {
            let mut moved = false;
            for end in [End::Origin, End::Hop] {
                moved |= self.poll(end).is_some();
                while let Some(result) = self.deliver(end) {
                    moved = true;
                    events.extend(result.unwrap().map(|event| (end, event)));
                }
            }
            if !moved {
                return events;
            }
        }
    }

    fn drain(&mut self, end: End, id: StreamId) -> Vec<u8> {
        let (mut bytes, now) = (Vec::new(), self.now);
        self.side(end).take_received(id, &mut bytes);
        self.side(end).consumed(id, bytes.len(), now);
        bytes
    }

    fn is_empty(&self) -> bool {
        self.origin.is_empty() && self.hop.is_empty() && self.origin.buffered() + self.hop.buffered() == 0
    }
}

fn other(end: End) -> End {
    if end == End::Origin { End::Hop } else { End::Origin }
}

fn data(space: &[u8]) -> Option<(StreamId, usize)> {
    match Message::decode(space).unwrap() {
        Message::Data { stream, bytes } => Some((stream, bytes.len())),
        _ => None,
    }
}

#[test]
fn bytes_written_right_after_open_arrive_after_it() {
    let mut pair = Pair::new();
    let id = pair.origin.open(HOP, Target::Mailbox).unwrap();
    assert_eq!(pair.origin.write(id, b"early"), 5);
    let events = pair.settle();
    let opening = Event::Opening { stream: id, target: Target::Mailbox };
    assert_eq!(events, [(End::Hop, opening), (End::Hop, Event::Received { stream: id })]);
    assert_eq!(pair.drain(End::Hop, id), b"early");
}

#[test]
fn a_hop_sends_nothing_before_it_has_accepted() {
    let mut pair = Pair::new();
    let id = pair.origin.open(HOP, Target::Mailbox).unwrap();
    pair.settle();
    pair.hop.write(id, b"answer");
    pair.hop.finish(id);
    assert_eq!(pair.settle(), []);
    pair.hop.accept(id);
    let events: Vec<_> = pair.settle().into_iter().map(|(_, event)| event).collect();
    let stream = id;
    assert_eq!(events, [Event::Opened { stream }, Event::Received { stream }, Event::Finished { stream }]);
}

#[test]
fn a_half_close_leaves_the_other_direction_open_until_both_are_over() {
    for first in [End::Origin, End::Hop] {
        let (mut pair, id) = Pair::connected();
        pair.side(first).write(id, b"question");
        pair.side(first).finish(id);
        assert_eq!(pair.side(first).write(id, b"more"), 0);
        assert!(pair.settle().contains(&(other(first), Event::Finished { stream: id })));
        assert_eq!(pair.drain(other(first), id), b"question");
        let mut answer = 0;
        for _ in 0..40 {
            pair.side(other(first)).write(id, &[7; SEND_BUFFER]);
            pair.settle();
            answer += pair.drain(first, id).len();
        }
        assert!(answer > INITIAL_CREDIT as usize, "credit must flow after the half-close");
        pair.side(other(first)).finish(id);
        pair.settle();
        pair.drain(first, id);
        pair.settle();
        assert!(pair.is_empty());
    }
}

#[test]
fn both_ends_may_finish_at_once() {
    let (mut pair, id) = Pair::connected();
    pair.origin.finish(id);
    pair.hop.finish(id);
    while pair.poll(End::Origin).is_some() {}
    while pair.poll(End::Hop).is_some() {}
    let finished = Event::Finished { stream: id };
    assert_eq!(pair.settle(), [(End::Origin, finished.clone()), (End::Hop, finished)]);
    assert!(pair.is_empty());
}

#[test]
fn a_stream_is_kept_until_what_it_received_is_drained() {
    let (mut pair, id) = Pair::connected();
    pair.origin.write(id, b"last");
    pair.origin.finish(id);
    pair.hop.finish(id);
    pair.settle();
    assert_eq!((pair.origin.len(), pair.hop.len()), (1, 1));
    assert!(!pair.hop.is_drained(id));
    assert_eq!(pair.drain(End::Hop, id), b"last");
    assert!(pair.hop.is_drained(id));
    pair.settle();
    assert!(pair.is_empty());
}

#[test]
fn an_abort_drops_everything_on_both_sides() {
    for aborting in [End::Origin, End::Hop] {
        let (mut pair, id) = Pair::connected();
        for end in [End::Origin, End::Hop] {
            pair.side(end).write(id, &[1; 5000]);
            pair.poll(end);
        }
        pair.side(aborting).abort(id, Reason::Timeout);
        assert_eq!(pair.side(aborting).buffered(), 0);
        let aborted = (other(aborting), Event::Aborted { stream: id, reason: Reason::Timeout });
        let events = pair.settle();
        assert!(events.contains(&aborted));
        assert!(events.iter().all(|(end, _)| *end != aborting), "nothing more is told where the abort began");
        assert!(pair.is_empty());
    }
}

#[test]
fn an_abort_may_follow_a_half_close() {
    let (mut pair, id) = Pair::connected();
    pair.origin.finish(id);
    pair.settle();
    pair.hop.write(id, &[1; SEND_BUFFER]);
    pair.poll(End::Hop);
    pair.origin.abort(id, Reason::Reset);
    assert!(pair.settle().contains(&(End::Hop, Event::Aborted { stream: id, reason: Reason::Reset })));
    assert!(pair.is_empty());
}

#[test]
fn a_program_that_reads_no_more_still_gets_its_last_bytes_out() {
    let (mut pair, id) = Pair::connected();
    pair.origin.write(id, &[1; SEND_BUFFER]);
    pair.settle();
    pair.hop.write(id, b"that is all");
    pair.hop.finish(id);
    let now = pair.now;
    pair.hop.discard_received(id, now);
    assert_eq!(pair.hop.buffered(), 11);
    for _ in 0..8 {
        assert_eq!(pair.origin.write(id, &[1; SEND_BUFFER]), SEND_BUFFER);
        assert!(pair.settle().iter().all(|(end, _)| *end == End::Origin));
        assert_eq!(pair.hop.buffered(), 0);
    }
    assert_eq!(pair.drain(End::Origin, id), b"that is all");
    pair.origin.finish(id);
    pair.settle();
    assert!(pair.is_empty());
}

#[test]
fn both_ends_may_abort_at_once() {
    let (mut pair, id) = Pair::connected();
    pair.origin.abort(id, Reason::Reset);
    pair.hop.abort(id, Reason::Timeout);
    while pair.poll(End::Origin).is_some() {}
    while pair.poll(End::Hop).is_some() {}
    assert_eq!(pair.settle(), []);
    assert!(pair.is_empty());
}

#[test]
fn what_comes_for_a_refused_stream_does_not_pile_up() {
    let mut pair = Pair::new();
    let id = pair.origin.open(HOP, Target::Directory).unwrap();
    pair.origin.write(id, &[3; SEND_BUFFER]);
    while pair.poll(End::Origin).is_some() {}
    pair.deliver(End::Hop);
    pair.hop.abort(id, Reason::Policy);
    while let Some(result) = pair.deliver(End::Hop) {
        assert_eq!((result, pair.hop.buffered()), (Ok(None), 0));
    }
    assert_eq!(pair.settle(), [(End::Origin, Event::Aborted { stream: id, reason: Reason::Policy })]);
    assert!(pair.is_empty());
}

#[test]
fn a_stream_that_was_refused_is_not_accepted_any_more() {
    let mut pair = Pair::new();
    let id = pair.origin.open(HOP, Target::Directory).unwrap();
    pair.settle();
    pair.hop.abort(id, Reason::NotOffered);
    pair.poll(End::Hop);
    pair.hop.accept(id);
    assert_eq!(pair.settle(), [(End::Origin, Event::Aborted { stream: id, reason: Reason::NotOffered })]);
    assert!(pair.is_empty());
}

#[test]
fn a_stream_aborted_before_its_open_was_said_leaves_no_trace() {
    let mut pair = Pair::new();
    let id = pair.origin.open(HOP, Target::Directory).unwrap();
    pair.origin.abort(id, Reason::Reset);
    assert!(pair.is_empty() && !pair.origin.has_message());
    assert_eq!(pair.poll(End::Origin), None);
}

#[test]
fn an_id_is_used_again_only_after_both_last_words() {
    let (mut pair, id) = Pair::connected();
    let rest: Vec<_> = (1..MAX_STREAMS).map(|_| pair.origin.open(HOP, Target::Directory).unwrap()).collect();
    assert!(!rest.contains(&id));
    assert_eq!(pair.origin.open(HOP, Target::Directory), Err(TooManyStreams));
    pair.settle();
    pair.origin.abort(id, Reason::Reset);
    while pair.poll(End::Origin).is_some() {}
    assert_eq!(pair.origin.open(HOP, Target::Directory), Err(TooManyStreams));
    pair.settle();
    pair.origin.next = id;
    assert_eq!(pair.origin.open(HOP, Target::Mailbox), Ok(id));
    assert_eq!(pair.settle(), [(End::Hop, Event::Opening { stream: id, target: Target::Mailbox })]);
}

#[test]
fn every_message_fills_its_space() {
    let (mut pair, id) = Pair::connected();
    for (space, most) in [(MESSAGE, MAX_DATA), (RENDEZVOUS, RENDEZVOUS - 5)] {
        // three times around the ring of the send buffer
        for _ in 0..3 {
            let mut space = vec![0; space];
            let written = pair.origin.write(id, &[5; 40_000]);
            for left in (1..=written).rev().step_by(most) {
                assert_eq!(pair.origin.poll_message(&mut space), Some(HOP));
                assert_eq!(data(&space), Some((id, left.min(most))));
            }
            assert_eq!(pair.origin.poll_message(&mut space), None);
        }
    }
}

#[test]
fn streams_take_turns_and_a_message_that_is_not_data_goes_first() {
    let (mut pair, first) = Pair::connected();
    let second = pair.origin.open(HOP, Target::Directory).unwrap();
    pair.settle();
    pair.hop.accept(second);
    pair.settle();
    for id in [first, second] {
        pair.origin.write(id, &[1; 20_000]);
    }
    let mut turns = Vec::new();
    for _ in 0..8 {
        turns.push(data(&pair.poll(End::Origin).unwrap()).unwrap().0);
    }
    assert_eq!(turns, [first, second].repeat(4));
    let third = pair.origin.open(HOP, Target::Directory).unwrap();
    let next = pair.poll(End::Origin).unwrap();
    assert!(matches!(Message::decode(&next).unwrap(), Message::Open { stream, .. } if stream == third));
}

#[test]
fn a_stream_without_credit_does_not_stall_another() {
    let (mut pair, stalled) = Pair::connected();
    let other = pair.origin.open(HOP, Target::Directory).unwrap();
    pair.settle();
    while pair.origin.write(stalled, &[1; 8192]) > 0 {
        pair.settle();
    }
    assert_eq!(pair.hop.buffered(), INITIAL_CREDIT as usize);
    assert!(!pair.origin.has_message());
    pair.origin.write(other, b"still flowing");
    pair.settle();
    assert_eq!(pair.drain(End::Hop, other), b"still flowing");
}

#[test]
fn a_writer_is_told_of_room_once_and_not_for_every_message() {
    let (mut pair, id) = Pair::connected();
    assert_eq!(pair.origin.write(id, &[0; SEND_BUFFER + 1]), SEND_BUFFER);
    assert_eq!(pair.origin.poll_writable(), None);
    let mut polled = 0;
    while pair.origin.poll_writable().is_none() {
        pair.poll(End::Origin).unwrap();
        polled += 1;
    }
    assert_eq!(polled, (SEND_BUFFER / 2).div_ceil(MAX_DATA));
    while pair.poll(End::Origin).is_some() {}
    assert_eq!(pair.origin.poll_writable(), None);
}

#[test]
fn sixteen_mebibytes_ramp_up_over_a_long_round_trip_with_few_messages_of_credit() {
    let (mut pair, id) = Pair::connected();
    let (trip, total, start) = (Duration::from_millis(75), 16 << 20, pair.now);
    let mut wires = [VecDeque::new(), VecDeque::new()];
    let (mut written, mut drained, mut credits) = (0, 0, 0);
    while drained < total {
        pair.now += Duration::from_millis(1);
        let now = pair.now;
        for (end, wire) in [End::Origin, End::Hop].into_iter().zip(&mut wires) {
            while wire.front().is_some_and(|(due, _)| *due <= pair.now) {
                let (_, space): (_, Vec<u8>) = wire.pop_front().unwrap();
                let hop = if end == End::Origin { HOP } else { 0 };
                pair.side(end).handle_message(hop, &Message::decode(&space).unwrap(), now).unwrap();
            }
        }
        drained += pair.drain(End::Origin, id).len();
        written += pair.hop.write(id, &vec![0; SEND_BUFFER.min(total - written)]);
        while let Some(space) = pair.poll(End::Hop) {
            wires[0].push_back((pair.now + trip, space));
            written += pair.hop.write(id, &vec![0; 4096.min(total - written)]);
        }
        while let Some(space) = pair.poll(End::Origin) {
            wires[1].push_back((pair.now + trip, space));
            credits += 1;
        }
    }
    let elapsed = pair.now - start;
    assert!(elapsed < 9 * 2 * trip, "16 MiB took {elapsed:?}");
    assert!(credits < 60, "{credits} messages of credit");
}

#[test]
fn streams_end_only_in_violations_when_limits_are_passed() {
    let (mut pair, id) = Pair::connected();
    let now = pair.now;
    let wrong_hop = pair.origin.handle_message(HOP + 1, &Message::Credit { stream: id, bytes: 1 }, now);
    assert_eq!(wrong_hop, Err(Violation::NotOpen));
    assert_eq!(pair.origin.handle_message(HOP, &Message::Padding, now), Err(Violation::Foreign));
    let most = MAX_CREDIT - INITIAL_CREDIT;
    assert_eq!(pair.hop.handle_message(0, &Message::Credit { stream: id, bytes: most }, now), Ok(None));
    assert_eq!(pair.hop.handle_message(0, &Message::Credit { stream: id, bytes: 1 }, now), Err(Violation::Credit));
    let bytes = vec![0; INITIAL_CREDIT as usize];
    assert!(pair.hop.handle_message(0, &Message::Data { stream: id, bytes: &bytes }, now).is_ok());
    assert_eq!(pair.hop.handle_message(0, &Message::Data { stream: id, bytes: &[0] }, now), Err(Violation::Overrun));
    let open = |stream| Message::Open { stream, target: Target::Directory };
    for extra in 1..MAX_STREAMS {
        let stream = StreamId(id.0 + u16::try_from(extra).unwrap());
        assert!(pair.hop.handle_message(0, &open(stream), now).is_ok());
    }
    assert_eq!(pair.hop.handle_message(0, &open(id), now), Err(Violation::Open));
    assert_eq!(pair.hop.handle_message(0, &open(StreamId(u16::MAX)), now), Err(Violation::Limit));
}

#[test]
fn aborted_streams_still_hold_their_peer_to_its_credit() {
    let (mut pair, id) = Pair::connected();
    pair.hop.abort(id, Reason::Reset);
    let (bytes, now) = (vec![0; INITIAL_CREDIT as usize], pair.now);
    assert_eq!(pair.hop.handle_message(0, &Message::Data { stream: id, bytes: &bytes }, now), Ok(None));
    let more = pair.hop.handle_message(0, &Message::Data { stream: id, bytes: &[0] }, now);
    assert_eq!(more, Err(Violation::Overrun));
}
