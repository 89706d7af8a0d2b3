//! Caller: a program's side of the control socket.
//!
//! Specification: docs/control.md. One call at a time; events that come meanwhile wait.

use std::{collections::VecDeque, io, path::Path};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use trefoil_protocol::limits::CONTROL_LINE;

use super::{Answer, Call, Event, Line, Problem, Request};

/// See the file's head.
pub struct Caller {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    calls: u64,
    events: VecDeque<Event>,
    /// What has come of a line.
    partial: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It was not done.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The connection broke.
    #[error("the running trefoil went away")]
    Gone(#[from] io::Error),
    /// It says something that this program does not understand.
    #[error("the running trefoil is of another version than this program")]
    Words(#[from] serde_json::Error),
    /// It answered something else.
    #[error("the running trefoil is of another version than this program")]
    Unexpected,
}

impl Caller {
    /// Of the program that serves this socket.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::NotFound`] or [`io::ErrorKind::ConnectionRefused`] where nobody does.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self::on(UnixStream::connect(path).await?))
    }

    /// Over this connection.
    pub fn on(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer, calls: 0, events: VecDeque::new(), partial: Vec::new() }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&mut self, request: Request) -> Result<Answer, CallError> {
        self.calls += 1;
        let mut line = serde_json::to_vec(&Call { id: self.calls, request })?;
        line.push(b'\n');
        self.writer.write_all(&line).await?;
        loop {
            match self.line().await? {
                Line::Done { id, ok } if id == self.calls => return Ok(ok),
                Line::Failed { id, error } if id == self.calls || id == 0 => return Err(error.into()),
                Line::Event { event } => self.events.push_back(event),
                Line::Done { .. } | Line::Failed { .. } => return Err(CallError::Unexpected),
            }
        }
    }

    /// The next event, after [`Request::Follow`]. Nothing is lost when this is cancelled.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn event(&mut self) -> Result<Event, CallError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        match self.line().await? {
            Line::Event { event } => Ok(event),
            Line::Done { .. } | Line::Failed { .. } => Err(CallError::Unexpected),
        }
    }

    async fn line(&mut self) -> Result<Line, CallError> {
        let room = CONTROL_LINE.saturating_sub(self.partial.len()) as u64;
        (&mut self.reader).take(room).read_until(b'\n', &mut self.partial).await?; // what was cancelled goes on
        let line = std::mem::take(&mut self.partial);
        if line.last() != Some(&b'\n') {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_event_of_which_half_has_come_is_not_lost_when_nobody_waits_any_more() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut caller = Caller::on(ours);
        theirs.write_all(b"{\"event\":{\"mis").await.unwrap();
        timeout(Duration::from_secs(1), caller.event()).await.unwrap_err();
        theirs.write_all(b"sed\":7}}\n").await.unwrap();
        assert_eq!(caller.event().await.unwrap(), Event::Missed(7));
    }

    #[tokio::test]
    async fn one_that_goes_away_in_the_middle_of_a_line_is_gone() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{\"event\":{\"missed\":7}}").await.unwrap();
        drop(theirs);
        assert!(matches!(Caller::on(ours).event().await, Err(CallError::Gone(_))));
    }
}
