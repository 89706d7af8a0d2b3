//! Every message in every state of a stream.

use super::*;

/// A state, how an end gets there, and the messages that it allows: Open, oPened, Data, Credit, done (F), Ended, Reset.
type State = (&'static str, End, fn(&mut Pair, StreamId), &'static str);

const STATES: [State; 19] = [
    ("asking", End::Origin, |_, _| (), ""),
    ("asked", End::Origin, |pair, _| drop(pair.settle()), "PR"),
    ("asked and finished", End::Origin, |pair, id| finished(pair, End::Origin, id), "PR"),
    ("asked and aborted", End::Origin, |pair, id| aborted(pair, End::Origin, id), "PER"),
    ("open origin", End::Origin, |pair, id| accepted(pair, id), "DCFR"),
    ("finished origin", End::Origin, |pair, id| then(pair, id, |p, id| finished(p, End::Origin, id)), "DCFER"),
    ("origin of a finished hop", End::Origin, |pair, id| then(pair, id, |p, id| finished(p, End::Hop, id)), "CR"),
    ("aborted origin", End::Origin, |pair, id| then(pair, id, |p, id| aborted(p, End::Origin, id)), "DCFER"),
    ("origin after a reset", End::Origin, |pair, id| then(pair, id, |p, id| reset(p, End::Origin, id)), ""),
    ("both finished, bytes wait", End::Origin, |pair, id| then(pair, id, |p, id| both(p, End::Origin, id)), "CER"),
    ("gone origin", End::Origin, |pair, id| then(pair, id, gone), ""),
    ("deciding", End::Hop, |pair, _| drop(pair.settle()), "DFR"),
    ("refused", End::Hop, |pair, id| then_only(pair, id, |p, id| aborted(p, End::Hop, id)), "DFER"),
    ("open hop", End::Hop, |pair, id| accepted(pair, id), "DCFR"),
    ("finished hop", End::Hop, |pair, id| then(pair, id, |p, id| finished(p, End::Hop, id)), "DCFER"),
    ("hop of a finished origin", End::Hop, |pair, id| then(pair, id, |p, id| finished(p, End::Origin, id)), "CR"),
    ("aborted hop", End::Hop, |pair, id| then(pair, id, |p, id| aborted(p, End::Hop, id)), "DCFER"),
    ("hop after a reset", End::Hop, |pair, id| then(pair, id, |p, id| reset(p, End::Hop, id)), ""),
    ("gone hop", End::Hop, |pair, id| then(pair, id, gone), "O"),
];

fn accepted(pair: &mut Pair, id: StreamId) {
    pair.settle();
    pair.hop.accept(id);
    pair.settle();
}

fn then(pair: &mut Pair, id: StreamId, act: fn(&mut Pair, StreamId)) {
    accepted(pair, id);
    act(pair, id);
}

fn then_only(pair: &mut Pair, id: StreamId, act: fn(&mut Pair, StreamId)) {
    pair.settle();
    act(pair, id);
}

fn finished(pair: &mut Pair, end: End, id: StreamId) {
    pair.settle();
    pair.side(end).finish(id);
    pair.settle();
}

/// `end` has said its last word, and the other's is not there yet.
fn aborted(pair: &mut Pair, end: End, id: StreamId) {
    while pair.poll(End::Origin).is_some() {}
    pair.side(end).abort(id, Reason::Reset);
    while pair.poll(end).is_some() {}
}

/// `end` has heard a reset, and not answered it.
fn reset(pair: &mut Pair, end: End, id: StreamId) {
    let message = Message::Close { stream: id, reason: Reason::Reset };
    let now = pair.now;
    pair.side(end).handle_message(if end == End::Origin { HOP } else { 0 }, &message, now).unwrap();
}

/// Both have said `Done`, and bytes wait at `end`.
fn both(pair: &mut Pair, end: End, id: StreamId) {
    pair.side(other(end)).write(id, b"wait");
    pair.origin.finish(id);
    pair.hop.finish(id);
    while pair.poll(End::Origin).is_some() {}
    while pair.poll(End::Hop).is_some() {}
    while pair.deliver(end).is_some() {}
}

fn gone(pair: &mut Pair, id: StreamId) {
    pair.origin.abort(id, Reason::Reset);
    pair.settle();
}

#[test]
fn every_state_refuses_every_message_that_it_does_not_allow() {
    for (name, end, build, allowed) in STATES {
        for kind in "OPDCFER".chars() {
            let mut pair = Pair::new();
            let stream = pair.origin.open(HOP, Target::Directory).unwrap();
            build(&mut pair, stream);
            let message = match kind {
                'O' => Message::Open { stream, target: Target::Directory },
                'P' => Message::Opened { stream },
                'D' => Message::Data { stream, bytes: b"x" },
                'C' => Message::Credit { stream, bytes: 1 },
                'F' => Message::Close { stream, reason: Reason::Done },
                'E' => Message::Close { stream, reason: Reason::Ended },
                _ => Message::Close { stream, reason: Reason::Reset },
            };
            let (hop, now) = (if end == End::Origin { HOP } else { 0 }, pair.now);
            let result = pair.side(end).handle_message(hop, &message, now);
            assert_eq!(result.is_ok(), allowed.contains(kind), "{name}: {message:?} gave {result:?}");
        }
    }
}
