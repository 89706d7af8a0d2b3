use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::timeout,
};
use trefoil_protocol::limits::{INITIAL_CREDIT, MAX_STREAMS, MESSAGE, SEND_BUFFER};

use super::*;
use crate::splice::Transferred;

const HOP: u8 = 2;

/// Two ends of a circuit, and what the hop was asked for.
struct Circuit {
    origin: CircuitStreams,
    hop: CircuitStreams,
    incoming: tokio::sync::mpsc::UnboundedReceiver<Incoming>,
}

impl Circuit {
    /// Starts the tasks that carry messages both ways.
    fn new() -> Self {
        let (origin, hop) = (CircuitStreams::new(End::Origin), CircuitStreams::new(End::Hop));
        let (asked, incoming) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(carry(origin.clone(), hop.clone(), 0, Some(asked)));
        tokio::spawn(carry(hop.clone(), origin.clone(), HOP, None));
        Self { origin, hop, incoming }
    }

    /// A stream, accepted; its halves at the origin and at the hop.
    async fn stream(&mut self) -> (Stream, Stream) {
        let mut ours = self.origin.open(HOP, Target::Directory).unwrap();
        let mut theirs = self.incoming.recv().await.unwrap().stream;
        theirs.accept();
        ours.opened().await.unwrap();
        (ours, theirs)
    }

    /// Waits until both ends have forgotten all streams.
    async fn emptied(&self) {
        let empty = |streams: &CircuitStreams| {
            let state = streams.lock();
            state.streams.is_empty() && state.locals.is_empty() && state.streams.buffered() == 0
        };
        let both = async {
            while !(empty(&self.origin) && empty(&self.hop)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), both).await.expect("both ends forget streams that ended");
    }
}

async fn carry(
    from: CircuitStreams,
    to: CircuitStreams,
    hop: u8,
    asked: Option<tokio::sync::mpsc::UnboundedSender<Incoming>>,
) {
    let mut space = [0; MESSAGE];
    loop {
        from.ready().await;
        while from.poll_message(&mut space).is_some() {
            let now = tokio::time::Instant::now().into_std();
            let incoming = to.handle_message(hop, &Message::decode(&space).unwrap(), now).unwrap();
            if let (Some(incoming), Some(asked)) = (incoming, &asked) {
                _ = asked.send(incoming);
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

type Spliced = JoinHandle<Result<Transferred, StreamError>>;

/// Joins a stream to a pipe, and gives the pipe's other end.
fn splice(stream: Stream, prefix: &'static [u8]) -> (DuplexStream, Spliced) {
    let (program, local) = duplex(16 * 1024);
    let task = tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(local);
        stream.splice(prefix, &mut reader, &mut writer).await
    });
    (program, task)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from(place % 251).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn mebibytes_go_both_ways_at_once_between_two_pipes() {
    let mut circuit = Circuit::new();
    let (ours, theirs) = circuit.stream().await;
    let (client, client_task) = splice(ours, b"");
    let (server, server_task) = splice(theirs, b"");
    let bytes = pattern(3 << 20);
    let program = |pipe: DuplexStream| {
        let bytes = bytes.clone();
        async move {
            let (mut reader, mut writer) = tokio::io::split(pipe);
            let mut read = Vec::new();
            let write = async {
                writer.write_all(&bytes).await?;
                writer.shutdown().await
            };
            let (written, _) = tokio::join!(write, reader.read_to_end(&mut read));
            written.unwrap();
            assert!(read == bytes, "the bytes arrive whole and in order");
        }
    };
    tokio::join!(program(client), program(server));
    let all = Transferred { sent: 3 << 20, received: 3 << 20 };
    assert_eq!(client_task.await.unwrap().unwrap(), all);
    assert_eq!(server_task.await.unwrap().unwrap(), all);
    circuit.emptied().await;
}

#[tokio::test(start_paused = true)]
async fn a_half_close_reaches_the_other_program_and_its_answer_comes_back() {
    let mut circuit = Circuit::new();
    let (ours, theirs) = circuit.stream().await;
    let (mut client, client_task) = splice(ours, b"GET ");
    let (mut server, server_task) = splice(theirs, b"");
    client.write_all(b"it").await.unwrap();
    client.shutdown().await.unwrap();
    let mut request = String::new();
    server.read_to_string(&mut request).await.unwrap();
    assert_eq!(request, "GET it");
    server.write_all(b"here").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "here");
    assert_eq!(client_task.await.unwrap().unwrap(), Transferred { sent: 6, received: 4 });
    assert_eq!(server_task.await.unwrap().unwrap(), Transferred { sent: 4, received: 6 });
    circuit.emptied().await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_goes_away_resets_the_other_end() {
    let mut circuit = Circuit::new();
    let (ours, theirs) = circuit.stream().await;
    let (client, client_task) = splice(ours, b"");
    let (mut server, server_task) = splice(theirs, b"");
    drop(client); // reads end in order, writes fail: what an aborted download looks like
    while server.write_all(&[1; 1000]).await.is_ok() {}
    assert!(matches!(client_task.await.unwrap(), Err(StreamError::Local(_))));
    assert!(matches!(server_task.await.unwrap(), Err(StreamError::Closed(Reason::Reset))));
    circuit.emptied().await;
}

#[tokio::test(start_paused = true)]
async fn a_splice_that_is_cancelled_after_a_half_close_resets_the_other_end() {
    let mut circuit = Circuit::new();
    let (ours, mut theirs) = circuit.stream().await;
    let (mut client, task) = splice(ours, b"");
    client.shutdown().await.unwrap();
    assert_eq!(theirs.receive(&mut Vec::new()).await.unwrap(), 0);
    task.abort();
    while theirs.send(&[1; 1000]).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(theirs.send(b"more").await, Err(StreamError::Closed(Reason::Reset))));
    drop(theirs);
    circuit.emptied().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_dropped_or_refused_is_closed_at_the_other_end() {
    let mut circuit = Circuit::new();
    let mut ours = circuit.origin.open(HOP, Target::Mailbox).unwrap();
    let incoming = circuit.incoming.recv().await.unwrap();
    assert_eq!(incoming.target, Target::Mailbox);
    incoming.stream.refuse(Reason::NotOffered);
    assert!(matches!(ours.opened().await, Err(StreamError::Closed(Reason::NotOffered))));
    let (ours, mut theirs) = circuit.stream().await;
    drop(ours);
    assert!(matches!(theirs.receive(&mut Vec::new()).await, Err(StreamError::Closed(Reason::Reset))));
    drop(theirs);
    circuit.emptied().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_and_its_answer_need_no_pipe() {
    let mut circuit = Circuit::new();
    let (mut ours, mut theirs) = circuit.stream().await;
    let (request, mut buffer) = (pattern(1 << 20), Vec::new());
    let ask = async {
        ours.send(&request).await.unwrap();
        ours.finish().unwrap();
    };
    let answer = async {
        let mut received = Vec::new();
        while theirs.receive(&mut buffer).await.unwrap() > 0 {
            received.extend_from_slice(&buffer);
        }
        assert_eq!(theirs.receive(&mut buffer).await.unwrap(), 0);
        received
    };
    let ((), received) = tokio::join!(ask, answer);
    assert!(received == request);
    theirs.finish().unwrap();
    assert_eq!(ours.receive(&mut Vec::new()).await.unwrap(), 0);
    drop((ours, theirs));
    circuit.emptied().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_goes_out_after_its_sender_has_closed() {
    let mut circuit = Circuit::new();
    let (mut ours, mut theirs) = circuit.stream().await;
    ours.send(b"question").await.unwrap();
    theirs.send(&pattern(50_000)).await.unwrap();
    theirs.finish().unwrap();
    assert!(matches!(theirs.send(b"more").await, Err(StreamError::Closed(Reason::Done))));
    theirs.close();
    let (mut answer, mut buffer) = (Vec::new(), Vec::new());
    while ours.receive(&mut buffer).await.unwrap() > 0 {
        answer.extend_from_slice(&buffer);
    }
    assert!(answer == pattern(50_000));
    ours.finish().unwrap();
    drop(ours);
    circuit.emptied().await;
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_dies_resets_its_streams_and_opens_no_more() {
    let mut circuit = Circuit::new();
    let (ours, mut theirs) = circuit.stream().await;
    let (mut client, task) = splice(ours, b"");
    client.write_all(b"unsent").await.unwrap();
    circuit.origin.fail(Reason::Internal);
    assert!(matches!(task.await.unwrap(), Err(StreamError::Closed(Reason::Internal))));
    let refused = circuit.origin.open(HOP, Target::Directory);
    assert!(matches!(refused, Err(StreamError::Closed(Reason::Internal))));
    assert_eq!(circuit.origin.buffered(), 0);
    circuit.hop.fail(Reason::Shutdown);
    let mut buffer = Vec::new();
    let error = loop {
        match theirs.receive(&mut buffer).await {
            Ok(length) => assert!(length > 0, "never an orderly end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StreamError::Closed(Reason::Shutdown)));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_stops_reading_stalls_only_its_own_stream() {
    let mut circuit = Circuit::new();
    let (stalled, unread) = circuit.stream().await;
    let (mut client, _task) = splice(stalled, b"");
    let (_server, _server_task) = splice(unread, b"");
    let writing = async { while client.write_all(&[1; 8192]).await.is_ok() {} };
    assert!(timeout(Duration::from_secs(60), writing).await.is_err(), "the writer waits");
    assert!(circuit.origin.buffered() <= SEND_BUFFER);
    assert!(circuit.hop.buffered() <= INITIAL_CREDIT as usize);

    let (mut ours, mut theirs) = circuit.stream().await;
    ours.send(b"flows").await.unwrap();
    let mut buffer = Vec::new();
    assert_eq!(timeout(Duration::from_secs(1), theirs.receive(&mut buffer)).await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_old_local_half_never_touches_a_newer_stream_of_its_id() {
    let hop = CircuitStreams::new(End::Hop);
    let (stream, now) = (StreamId(9), tokio::time::Instant::now().into_std());
    let open = Message::Open { stream, target: Target::Directory };
    let mut old = hop.handle_message(0, &open, now).unwrap().unwrap().stream;
    hop.handle_message(0, &Message::Close { stream, reason: Reason::Reset }, now).unwrap();
    assert_eq!(hop.poll_message(&mut [0; MESSAGE]), Some(0));
    let mut new = hop.handle_message(0, &open, now).unwrap().unwrap().stream;
    hop.handle_message(0, &Message::Data { stream, bytes: b"new" }, now).unwrap();
    assert!(old.receive(&mut Vec::new()).await.is_err());
    assert!(old.finish().is_err());
    old.abort(Reason::Timeout);
    drop(old);
    let mut buffer = Vec::new();
    assert_eq!(new.receive(&mut buffer).await.unwrap(), 3);
    assert_eq!(hop.lock().locals.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_has_a_limit_of_streams() {
    let circuit = CircuitStreams::new(End::Origin);
    let streams: Vec<_> = (0..MAX_STREAMS).map(|_| circuit.open(HOP, Target::Directory).unwrap()).collect();
    assert!(matches!(circuit.open(HOP, Target::Directory), Err(StreamError::TooMany(_))));
    drop(streams);
    assert!(circuit.open(HOP, Target::Directory).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_task_waiting_for_messages_is_woken_even_when_it_gave_up_once() {
    let circuit = CircuitStreams::new(End::Origin);
    assert!(timeout(Duration::from_secs(1), circuit.ready()).await.is_err());
    let _stream = circuit.open(HOP, Target::Directory).unwrap();
    timeout(Duration::from_secs(1), circuit.ready()).await.expect("there is a message");
    assert_eq!(circuit.poll_message(&mut [0; MESSAGE]), Some(HOP));
    assert!(timeout(Duration::from_secs(1), circuit.ready()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_splice_ends_with_its_stream_even_while_the_program_neither_reads_nor_writes() {
    let mut circuit = Circuit::new();
    let (mut ours, theirs) = circuit.stream().await;
    let (_program, spliced) = splice(theirs, b"");
    ours.send(&[1; 64 * 1024]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(ours);
    let ended = timeout(Duration::from_secs(1), spliced).await.expect("nothing holds a stream that was aborted");
    assert!(matches!(ended.unwrap(), Err(StreamError::Closed(Reason::Reset))));

    let (ours, theirs) = circuit.stream().await;
    let (_program, spliced) = splice(ours, b"");
    let (_other, _busy) = splice(theirs, &[2; 64 * 1024]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    circuit.origin.fail(Reason::Reset);
    timeout(Duration::from_secs(1), spliced)
        .await
        .expect("nothing holds a stream of a dead circuit")
        .unwrap()
        .unwrap_err();
}
