//! Server: the running program's side of the control socket.
//!
//! Specification: docs/control.md. Each connection is answered in the order of its calls. One that follows and reads too
//! slowly misses events, and is told how many; nobody else waits for it.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::broadcast::{self, error::RecvError},
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, warn};
use trefoil_protocol::limits::{ACCEPT_PAUSE, CONTROL_CALLERS, CONTROL_LINE};

use super::{Call, Code, Event, Line, Problem, Request};
use crate::desk::Desk;

/// The socket; gone when dropped.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Makes the socket, for its user alone. The caller holds the profile's lock: one that is there already is of a
    /// process that is gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The directory is its user's alone, so nobody else reaches it before it is.
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers all who connect, for as long as it is polled.
    pub async fn run(self, desk: Arc<Desk>) {
        let mut callers = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if callers.len() < CONTROL_CALLERS => match accepted {
                    Ok((stream, _)) => drop(callers.spawn(answer(stream, Arc::clone(&desk)))),
                    Err(error) => {
                        warn!(%error, "the control socket takes nobody for now");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = callers.join_next() => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // whoever comes next removes it, too
    }
}

/// Answers one program until it goes away.
pub async fn answer(stream: UnixStream, desk: Arc<Desk>) {
    let (reader, writer) = stream.into_split();
    let mut connection = Connection { reader: BufReader::new(reader), writer, events: None };
    if let Err(error) = connection.run(&desk).await {
        debug!(%error, "a program at the control socket went away");
    }
}

struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    events: Option<broadcast::Receiver<Event>>,
}

impl Connection {
    async fn run(&mut self, desk: &Arc<Desk>) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            tokio::select! {
                read = read_line(&mut self.reader, &mut line) => {
                    if !read? {
                        return Ok(());
                    }
                    let answer = self.handle(&line, desk).await;
                    line.clear();
                    self.say(&answer).await?;
                }
                event = next(&mut self.events) => self.say(&Line::Event { event }).await?,
            }
        }
    }

    async fn handle(&mut self, line: &[u8], desk: &Arc<Desk>) -> Line {
        let call: Call = match serde_json::from_slice(line) {
            Ok(call) => call,
            Err(error) => {
                let id = serde_json::from_slice::<Numbered>(line).map_or(0, |call| call.id);
                return Line::Failed { id, error: Problem::new(Code::BadCall, format!("this is no call: {error}")) };
            }
        };
        if call.request == Request::Follow {
            self.events = Some(desk.events());
        }
        match desk.handle(call.request).await {
            Ok(ok) => Line::Done { id: call.id, ok },
            Err(error) => Line::Failed { id: call.id, error },
        }
    }

    async fn say(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.writer.write_all(&bytes).await
    }
}

#[derive(serde::Deserialize)]
struct Numbered {
    id: u64,
}

/// Goes on with a line; whether it is whole. What has come of it stays in `line` when this is dropped.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>, line: &mut Vec<u8>) -> io::Result<bool> {
    let room = CONTROL_LINE.saturating_sub(line.len());
    reader.take(room as u64).read_until(b'\n', line).await?;
    match line.last() {
        Some(b'\n') => Ok(true),
        _ if line.len() >= CONTROL_LINE => Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end")),
        _ => Ok(false),
    }
}

async fn next(events: &mut Option<broadcast::Receiver<Event>>) -> Event {
    let Some(receiver) = events else { return std::future::pending().await };
    match receiver.recv().await {
        Ok(event) => event,
        Err(RecvError::Lagged(missed)) => Event::Missed(missed),
        Err(RecvError::Closed) => {
            *events = None;
            std::future::pending().await
        }
    }
}
