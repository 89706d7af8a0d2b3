//! The backward task of a circuit: seals this relay's layer around what comes back and around what this hop says.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::mpsc;
use trefoil_protocol::{
    limits::CELL,
    message::Message,
    onion::{self, BackwardLayer},
};

use crate::{
    cells::{CellReader, CellWriter},
    circuit::{CircuitError, Say, Shared, as_cell},
    memory::Direction,
};

/// See the file's head.
pub(crate) struct Backward {
    shared: Arc<Shared>,
    writer: CellWriter,
    layer: BackwardLayer,
    said: mpsc::Receiver<Box<Say>>,
    next: Option<CellReader>,
}

/// What there is to do.
enum Turn {
    PassOn(BytesMut),
    Streams,
    Say(Box<Say>),
}

impl Backward {
    pub(crate) fn new(
        shared: Arc<Shared>,
        writer: CellWriter,
        layer: BackwardLayer,
        said: mpsc::Receiver<Box<Say>>,
    ) -> Self {
        Self { shared, writer, layer, said, next: None }
    }

    /// Runs until the circuit ends; ends it if this direction does.
    pub(crate) async fn run(mut self) {
        let closed = self.shared.closed.clone();
        let _guard = closed.clone().drop_guard(); // a panic in one half ends the other
        let error = tokio::select! {
            error = self.carry() => error,
            () = closed.cancelled() => CircuitError::Closed,
        };
        tracing::debug!(%error, "a circuit's backward direction ended");
        self.writer.set_reason(self.shared.reason_for_peer(&error));
        self.shared.close();
    }

    async fn carry(&mut self) -> CircuitError {
        loop {
            let done = match self.turn().await {
                Ok(Turn::PassOn(cells)) => self.pass_on(cells).await,
                Ok(Turn::Streams) => self.speak_for_streams().await,
                Ok(Turn::Say(say)) => self.say(*say).await,
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn, CircuitError> {
        tokio::select! {
            cells = cells_of(&mut self.next) => Ok(Turn::PassOn(cells?)),
            () = self.shared.streams.ready() => Ok(Turn::Streams),
            Some(say) = self.said.recv() => Ok(Turn::Say(say)),
        }
    }

    async fn pass_on(&mut self, mut cells: BytesMut) -> Result<(), CircuitError> {
        for cell in cells.chunks_exact_mut(CELL) {
            self.layer.pass_on(as_cell(cell));
        }
        self.write(cells).await
    }

    /// Says what the streams have to say, one batch at most.
    async fn speak_for_streams(&mut self) -> Result<(), CircuitError> {
        let layer = &mut self.layer;
        let cells = self.shared.streams.pack(|_origin, cell| layer.speak(cell));
        if cells.is_empty() { Ok(()) } else { self.write(cells).await }
    }

    async fn say(&mut self, say: Say) -> Result<(), CircuitError> {
        match say {
            Say::Extended(created, reader) => {
                self.next = Some(reader);
                self.speak(&Message::Extended { created: &created }, 1).await
            }
            Say::NotExtended(error) => self.speak(&Message::ExtendFailed(error), 1).await,
            Say::Padding(cells) => self.speak(&Message::Padding, cells).await,
        }
    }

    async fn speak(&mut self, message: &Message<'_>, times: u16) -> Result<(), CircuitError> {
        for _ in 0..times {
            let mut cell = BytesMut::zeroed(CELL);
            message.encode(onion::message_mut(as_cell(&mut cell)));
            self.layer.speak(as_cell(&mut cell));
            self.write(cell).await?;
        }
        Ok(())
    }

    async fn write(&mut self, cells: BytesMut) -> Result<(), CircuitError> {
        let write = self.writer.write(cells.freeze());
        Ok(self.shared.account.waiting(Direction::Backward, write).await?)
    }
}

/// Cells from the next hop, when there is one.
async fn cells_of(next: &mut Option<CellReader>) -> Result<BytesMut, CircuitError> {
    match next {
        Some(reader) => Ok(reader.cells().await?),
        None => std::future::pending().await,
    }
}
