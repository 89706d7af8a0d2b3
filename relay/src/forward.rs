//! The forward task of a circuit: opens this relay's layer, passes cells on, and does what those for this hop say.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::{sync::mpsc, time::Instant};
use trefoil_protocol::{
    identity::RelayId,
    limits::CELL,
    message::{Message, Target},
    onion::{self, Addressee, ForwardLayer},
    rules::HopRules,
};

use crate::{
    answer,
    cells::{CellReader, CellWriter},
    circuit::{CircuitError, Say, Shared, as_cell},
    extend::{self, Extension},
    link::Link,
    memory::Direction,
    post,
    pump::Incoming,
};

/// See the file's head.
pub(crate) struct Forward {
    shared: Arc<Shared>,
    upstream: Link,
    reader: CellReader,
    layer: ForwardLayer,
    rules: HopRules,
    next: Option<Next>,
    say: mpsc::Sender<Box<Say>>,
}

/// The way to the next hop, and this circuit's place among those that the upstream link has there.
struct Next {
    writer: CellWriter,
    _share: extend::Share,
}

impl Forward {
    pub(crate) fn new(
        shared: Arc<Shared>,
        upstream: Link,
        reader: CellReader,
        layer: ForwardLayer,
        say: mpsc::Sender<Box<Say>>,
    ) -> Self {
        Self { shared, upstream, reader, layer, rules: HopRules::default(), next: None, say }
    }

    /// Runs until the circuit ends; ends it if this direction does.
    pub(crate) async fn run(mut self) {
        let closed = self.shared.closed.clone();
        let _guard = closed.clone().drop_guard(); // a panic in one half ends the other
        let error = tokio::select! {
            error = self.carry() => error,
            () = closed.cancelled() => CircuitError::Closed,
        };
        tracing::debug!(%error, "a circuit's forward direction ended");
        self.reader.set_reason(self.shared.reason_for_peer(&error));
        self.shared.close();
    }

    async fn carry(&mut self) -> CircuitError {
        loop {
            if let Err(error) = self.carry_batch().await {
                return error;
            }
        }
    }

    /// Opens what has arrived, in place; what is for the next hop goes on together.
    async fn carry_batch(&mut self) -> Result<(), CircuitError> {
        let mut cells = self.reader.cells().await?;
        let mut onward = BytesMut::new();
        while !cells.is_empty() {
            let mut bytes = cells.split_to(CELL);
            let cell = as_cell(&mut bytes);
            match self.layer.open(cell)? {
                Addressee::NextHop => onward.unsplit(bytes),
                Addressee::ThisHop => self.handle(onion::message(cell)).await?,
            }
        }
        if onward.is_empty() { Ok(()) } else { self.pass_on(onward).await }
    }

    async fn pass_on(&mut self, cells: BytesMut) -> Result<(), CircuitError> {
        let next = self.next.as_mut().ok_or(CircuitError::NoNextHop)?;
        let write = next.writer.write(cells.freeze());
        Ok(self.shared.account.waiting(Direction::Forward, write).await?)
    }

    /// Does what the origin says to this hop.
    async fn handle(&mut self, space: &[u8]) -> Result<(), CircuitError> {
        let message = Message::decode(space)?;
        self.rules.check(&message)?;
        match message {
            Message::Extend { relay, create } => Box::pin(self.extend(relay, create)).await, // large, and rare
            Message::PadStart { .. } => {
                let cells = self.rules.take_padding();
                self.say(Say::Padding(cells)).await
            }
            Message::Padding => Ok(()),
            message => self.handle_stream(&message),
        }
    }

    fn handle_stream(&mut self, message: &Message<'_>) -> Result<(), CircuitError> {
        let now = Instant::now().into_std();
        let Some(incoming) = self.shared.streams.handle_message(0, message, now)? else { return Ok(()) };
        self.shared.node.tracker.spawn(serve(Arc::clone(&self.shared), incoming));
        Ok(())
    }

    /// Adds a hop; nothing else of this circuit goes forward meanwhile.
    async fn extend(&mut self, relay: RelayId, create: &[u8]) -> Result<(), CircuitError> {
        let extended = tokio::select! {
            extended = extend::extend(&self.shared.node, &self.upstream, relay, create) => extended,
            error = self.reader.closed() => return Err(error.into()), // else it would hold its place for the timeout
        };
        match extended {
            Ok(Extension { created, reader, writer, share }) => {
                self.rules.extend_done();
                self.next = Some(Next { writer, _share: share });
                self.say(Say::Extended(created, reader)).await
            }
            Err(error) => {
                tracing::debug!(%error, "an extension failed");
                self.rules.extend_failed();
                self.say(Say::NotExtended(error)).await
            }
        }
    }

    async fn say(&self, say: Say) -> Result<(), CircuitError> {
        self.say.send(Box::new(say)).await.map_err(|_| CircuitError::Closed)
    }
}

/// Serves a stream until it ends.
async fn serve(shared: Arc<Shared>, incoming: Incoming) {
    let Incoming { stream, target } = incoming;
    match target {
        Target::Directory => answer::serve_circuit(&shared, stream).await,
        Target::Mailbox => post::serve_circuit(&shared, stream).await,
        target => shared.node.exit.serve(stream, target, &shared.outlets).await,
    }
}
