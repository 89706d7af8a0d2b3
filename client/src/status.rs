//! Status: what a running client tells about itself, on a Unix socket in its data directory.
//!
//! Specification: docs/user-guide.md, "status". Whoever may open the socket, which is its user alone, gets one line of
//! JSON. It names no target and no path; guards only by the beginning of their ids.

use std::{fmt, io, path::Path};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use trefoil_protocol::limits::{ACCEPT_PAUSE, CLOCK_TOLERANCE, PATH_HOPS, STATUS_MAX, STATUS_TIMEOUT};

use crate::tunnel::Client;

/// The socket's name in the data directory.
pub const SOCKET: &str = "status.sock";

/// How a client is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The network's name.
    pub network: String,
    /// Relays whose records are known.
    pub known: usize,
    /// Relays that circuits are drawn from.
    pub usable: usize,
    /// Relays that told which are usable, for the set that is used.
    pub sources: usize,
    /// Of these, how many told just that set.
    pub agreeing: usize,
    /// Relays that sources list and whose records nobody has shown.
    pub unknown: usize,
    /// The epoch now.
    pub epoch: u32,
    /// The epoch of the set that is used.
    pub usable_epoch: Option<u32>,
    /// The guards in use: the beginnings of their ids.
    pub guards: Vec<String>,
    /// Guards that were dialled within 30 days.
    pub guards_dialled: usize,
    /// Circuits that are built and wait to be used.
    pub circuits: usize,
    /// How many minutes this machine's clock is behind those of others, by their median.
    pub clock_behind_minutes: Option<i64>,
    /// Whether this process keeps what it knows for the next run.
    pub kept: bool,
    /// What is wrong, if anything is.
    pub trouble: Option<String>,
}

/// Why there is no status to show.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody serves the socket.
    #[error("no trefoil is running with this data directory: there is nothing at {0}")]
    NotRunning(String),
    /// Somebody does, but not well.
    #[error("the running trefoil did not tell its status: {0}")]
    Io(#[from] io::Error),
    /// It told something else.
    #[error("the running trefoil is of another version")]
    Form(#[from] serde_json::Error),
}

impl Status {
    /// As one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers have a JSON form")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "network    {}", self.network)?;
        writeln!(f, "relays     {} known, {} usable", self.known, self.usable)?;
        writeln!(f, "sources    {}", self.sources_in_words())?;
        let guards = if self.guards.is_empty() { "none yet".to_owned() } else { self.guards.join(", ") };
        writeln!(f, "guards     {guards} ({} tried within 30 days)", self.guards_dialled)?;
        writeln!(f, "circuits   {} ready", self.circuits)?;
        writeln!(f, "clock      {}", self.clock_in_words())?;
        if !self.kept {
            writeln!(f, "kept       nothing: this process writes nothing to disk")?;
        }
        match &self.trouble {
            Some(trouble) if self.usable >= PATH_HOPS => writeln!(f, "trouble    {trouble} (the last set is used on)"),
            Some(trouble) => writeln!(f, "trouble    {trouble}"),
            None if self.usable >= PATH_HOPS => writeln!(f, "all is well"),
            None => writeln!(f, "trouble    the network's relays are not known yet"),
        }
    }
}

impl Status {
    fn sources_in_words(&self) -> String {
        let age = match self.usable_epoch {
            None => return "none has answered yet".to_owned(),
            Some(_) if self.sources == 0 => {
                return "none asked yet in this run; the set is that of the last".to_owned();
            }
            Some(epoch) if epoch < self.epoch => format!(", {} epochs ago", self.epoch - epoch),
            Some(_) => String::new(),
        };
        let unknown = match self.unknown {
            0 => String::new(),
            unknown => format!("; they list {unknown} relays that nobody has shown"),
        };
        format!("{} answered{age}, {} of them agree on every relay{unknown}", self.sources, self.agreeing)
    }

    fn clock_in_words(&self) -> String {
        let tolerated = i64::try_from(CLOCK_TOLERANCE / 60).unwrap_or(i64::MAX);
        match self.clock_behind_minutes {
            None => "not compared yet".to_owned(),
            Some(behind) if behind > tolerated => format!("{behind} min behind others: set it right"),
            Some(behind) if behind < -tolerated => format!("{} min ahead of others: set it right", -behind),
            Some(_) => "right, by those of others".to_owned(),
        }
    }
}

/// Serves the client's status at its data directory, if it holds one, until `shutdown`.
pub async fn serve(client: Client, shutdown: CancellationToken) {
    let Some(path) = client.state().own_file(SOCKET) else { return };
    match bind(&path) {
        Ok(socket) => {
            shutdown.run_until_cancelled(accept(&client, socket)).await;
            let _ = std::fs::remove_file(&path); // the next start removes what is left
        }
        Err(error) => warn!(%error, "`trefoil status` will not work: the socket {} cannot be made", path.display()),
    }
}

/// Asks the client that holds this data directory.
///
/// # Errors
/// [`StatusError`].
pub async fn ask(directory: &Path) -> Result<Status, StatusError> {
    let path = directory.join(SOCKET);
    let connected = UnixStream::connect(&path).await;
    let socket = connected.map_err(|_| StatusError::NotRunning(path.display().to_string()))?;
    let mut text = String::new();
    let read = timeout(STATUS_TIMEOUT, socket.take(STATUS_MAX).read_to_string(&mut text)).await;
    read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(serde_json::from_str(&text)?)
}

/// Its directory is private already; the mode is for systems that look at the socket's.
fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // there was none, or one of a process that is gone: this one holds the lock
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

async fn accept(client: &Client, socket: UnixListener) {
    loop {
        match socket.accept().await {
            Ok((mut asker, _)) => {
                let line = client.status().to_json() + "\n";
                let told = timeout(STATUS_TIMEOUT, asker.write_all(line.as_bytes())).await;
                debug!(?told, "told the status");
            }
            Err(error) => {
                warn!(%error, "cannot tell the status");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            network: "test".to_owned(),
            known: 8,
            usable: 8,
            sources: 5,
            agreeing: 4,
            unknown: 0,
            epoch: 7,
            usable_epoch: Some(7),
            guards: vec!["abcdefgh".to_owned()],
            guards_dialled: 2,
            circuits: 2,
            clock_behind_minutes: Some(0),
            kept: true,
            trouble: None,
        }
    }

    #[test]
    fn a_status_survives_its_json() {
        assert_eq!(serde_json::from_str::<Status>(&status().to_json()).unwrap(), status());
    }

    #[test]
    fn words_say_what_is_well_and_what_is_not() {
        let words = status().to_string();
        assert!(words.contains("8 known, 8 usable") && words.contains("all is well"), "{words}");
        assert!(words.contains("5 answered, 4 of them agree"), "{words}");
        let off = Status { clock_behind_minutes: Some(-95), usable_epoch: Some(4), unknown: 3, ..status() };
        let words = off.to_string();
        assert!(words.contains("95 min ahead") && words.contains("3 epochs ago"), "{words}");
        assert!(words.contains("3 relays that nobody has shown"), "{words}");
        let nothing = Status { usable: 0, usable_epoch: None, trouble: Some("no".to_owned()), ..status() };
        let words = nothing.to_string();
        assert!(words.contains("none has answered yet") && words.contains("trouble    no\n"), "{words}");
        assert!(!words.contains("all is well"), "{words}");
    }
}
