//! Messages, and the stream multiplexer: what an end of a circuit does besides its layers.

use std::time::{Duration, Instant};

use trefoil_protocol::{
    limits::{MAX_DATA, MESSAGE, SEND_BUFFER},
    message::{Message, StreamId, Target},
    streams::{End, Event, Streams},
};

use crate::{Operation, Per, Timed, layers::BATCHES, time_each};

const BATCH: usize = 16;

/// A full `Data`'s bytes, and the whole way of bytes from one program to the other.
pub(crate) fn operations() -> Vec<Operation> {
    vec![encode(), decode(), pass()]
}

fn encode() -> Operation {
    let (bytes, mut spaces) = ([7; MAX_DATA], [[0; MESSAGE]; BATCH]);
    Operation::new("message: encode a full Data", Per::Data, move || {
        let message = Message::Data { stream: StreamId(1), bytes: &bytes };
        time_each(BATCHES, &mut spaces, |_| (), |space| message.encode(space))
    })
}

fn decode() -> Operation {
    let mut spaces = [[0; MESSAGE]; BATCH];
    for space in &mut spaces {
        Message::Data { stream: StreamId(1), bytes: &[7; MAX_DATA] }.encode(space);
    }
    Operation::new("message: decode a full Data", Per::Data, move || {
        time_each(
            BATCHES,
            &mut spaces,
            |_| (),
            |space| {
                std::hint::black_box(Message::decode(space).expect("it was encoded"));
            },
        )
    })
}

/// Bytes written at the hop, sent, received at the origin, taken, and credited back: all of both ends' work.
fn pass() -> Operation {
    let now = Instant::now();
    let (mut pair, mut clock) = (Pair::open(now), now);
    Operation::new("streams: both ends, a full Data", Per::Data, move || {
        let mut timed = Timed { count: 0, time: Duration::ZERO };
        for _ in 0..BATCHES {
            clock += Duration::from_millis(1);
            let start = Instant::now();
            timed.count += pair.carry(clock);
            timed.time += start.elapsed();
        }
        timed
    })
}

/// A circuit's two ends with one stream between them.
struct Pair {
    origin: Streams,
    hop: Streams,
    stream: StreamId,
    written: Vec<u8>,
    taken: Vec<u8>,
}

impl Pair {
    fn open(now: Instant) -> Self {
        let mut origin = Streams::new(End::Origin);
        let stream = origin.open(0, Target::Directory).expect("the first stream");
        let mut pair =
            Self { origin, hop: Streams::new(End::Hop), stream, written: vec![7; BATCH * MAX_DATA], taken: Vec::new() };
        assert!(pair.written.len() <= SEND_BUFFER, "a batch is written at once");
        deliver(&mut pair.origin, &mut pair.hop, now, |_| ());
        pair.hop.accept(stream);
        deliver(&mut pair.hop, &mut pair.origin, now, |_| ());
        pair
    }

    /// Carries one batch; gives how many messages that took in its direction.
    fn carry(&mut self, now: Instant) -> u32 {
        assert_eq!(self.hop.write(self.stream, &self.written), self.written.len(), "the buffer was empty");
        let mut received = 0;
        let messages = deliver(&mut self.hop, &mut self.origin, now, |event| {
            received += u32::from(matches!(event, Event::Received { .. }));
        });
        assert!(received > 0, "nothing has arrived");
        self.origin.take_received(self.stream, &mut self.taken);
        assert_eq!(self.taken.len(), self.written.len(), "all has arrived");
        self.origin.consumed(self.stream, self.taken.len(), now);
        deliver(&mut self.origin, &mut self.hop, now, |_| ());
        messages
    }
}

/// Hands over all that one end has to say; gives how many messages that were.
fn deliver(from: &mut Streams, to: &mut Streams, now: Instant, mut happened: impl FnMut(Event)) -> u32 {
    let (mut space, mut messages) = ([0; MESSAGE], 0);
    while from.poll_message(&mut space).is_some() {
        let message = Message::decode(&space).expect("our own message");
        let event = to.handle_message(0, &message, now).expect("our own message is allowed");
        event.into_iter().for_each(&mut happened);
        messages += 1;
    }
    messages
}
