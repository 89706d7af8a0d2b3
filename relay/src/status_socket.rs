//! Status socket: where a running process tells how it is, and how it is asked.
//!
//! Specification: docs/operator.md, "Watching it", and docs/user-guide.md, "status". It is a Unix socket in the data
//! directory, for its user alone. Whoever connects is told one line of JSON; nothing is ever read from them.

use std::{
    fmt::Display,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};
use tracing::{debug, warn};
use trefoil_protocol::limits::{ACCEPT_PAUSE, STATUS_EVERY, STATUS_MAX, STATUS_TIMEOUT};

/// The socket's name in the data directory.
pub const SOCKET: &str = "status.sock";

/// Why there is no status to show. `who` is the program that was to tell it.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody serves the socket.
    #[error("no {who} is running with this data directory: nobody answers at {}", path.display())]
    NotRunning {
        /// Who.
        who: &'static str,
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be reached.
    #[error("cannot ask at {}: {cause}; ask as the user that runs the {who}", path.display())]
    Unreachable {
        /// Who.
        who: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Somebody serves it, but not well.
    #[error("the running {who} did not tell its status: {cause}")]
    Silent {
        /// Who.
        who: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// It told something else.
    #[error("the running {who} is of another version than this program: {cause}")]
    Form {
        /// Who.
        who: &'static str,
        /// What is not understood.
        cause: serde_json::Error,
    },
}

/// How a program shows a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Words,
    /// For programs: a line of JSON.
    Json,
}

/// A socket that is served; gone when dropped.
struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// A status as one line of JSON.
pub fn to_json(status: &impl Serialize) -> String {
    serde_json::to_string(status).expect("texts, numbers and tables of them have a JSON form")
}

/// Tells `status` to whoever asks at `path`, for as long as it is polled. The caller holds the data directory's lock: a
/// socket that is there already is one of a process that is gone.
pub async fn serve<S: Serialize>(path: PathBuf, status: impl Fn() -> S) {
    match StatusSocket::bind(path.clone()) {
        Ok(socket) => socket.accept(status).await,
        Err(error) => warn!(%error, "nobody can ask for the status: the socket {} cannot be made", path.display()),
    }
}

/// Asks `who` holds this data directory for its status.
///
/// # Errors
/// [`AskError`].
pub async fn ask<S: DeserializeOwned>(directory: &Path, who: &'static str) -> Result<S, AskError> {
    let path = directory.join(SOCKET);
    let socket = match UnixStream::connect(&path).await {
        Ok(socket) => socket,
        Err(cause) if is_nobody(&cause) => return Err(AskError::NotRunning { who, path }),
        Err(cause) => return Err(AskError::Unreachable { who, path, cause }),
    };
    let mut text = String::new();
    let read = timeout(STATUS_TIMEOUT, socket.take(STATUS_MAX).read_to_string(&mut text)).await;
    let read = read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    read.map_err(|cause| AskError::Silent { who, cause })?;
    serde_json::from_str(&text).map_err(|cause| AskError::Form { who, cause })
}

/// Prints the status of `who` holds this data directory.
///
/// # Errors
/// [`AskError`].
pub async fn show<S: DeserializeOwned + Serialize + Display>(
    directory: &Path,
    who: &'static str,
    form: Form,
) -> Result<(), AskError> {
    let status = ask::<S>(directory, who).await?;
    let _ = print(&status, form); // an error means that nobody looks
    Ok(())
}

/// Prints the status of `who` holds this data directory every [`STATUS_EVERY`]; see [`follow_by`].
pub async fn follow<S: DeserializeOwned + Serialize + Display>(directory: &Path, who: &'static str, form: Form) {
    follow_by(async || ask::<S>(directory, who).await, |status| print(status, form)).await;
}

/// Asks every [`STATUS_EVERY`] and shows what is told, until showing fails, since nobody looks any more. While nobody
/// answers it waits, and says so once.
pub async fn follow_by<S, E>(
    mut ask: impl AsyncFnMut() -> Result<S, AskError>,
    mut show: impl FnMut(&S) -> Result<(), E>,
) {
    let mut is_answered = true;
    loop {
        match ask().await {
            Ok(status) if show(&status).is_err() => return,
            Ok(_) => is_answered = true,
            Err(error) if is_answered => {
                let _ = writeln!(io::stderr(), "{error}");
                is_answered = false;
            }
            Err(_) => {}
        }
        sleep(STATUS_EVERY).await;
    }
}

fn print(status: &(impl Serialize + Display), form: Form) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match form {
        Form::Words => write!(out, "{status}")?,
        Form::Json => writeln!(out, "{}", to_json(status))?,
    }
    out.flush()
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

impl StatusSocket {
    /// Its directory is private already; the mode is for systems that look at the socket's.
    fn bind(path: PathBuf) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Self { listener: UnixListener::bind(&path)?, path };
        fs::set_permissions(&socket.path, fs::Permissions::from_mode(0o600))?;
        Ok(socket)
    }

    async fn accept<S: Serialize>(&self, status: impl Fn() -> S) {
        loop {
            match self.listener.accept().await {
                Ok((mut asker, _)) => {
                    let line = to_json(&status()) + "\n";
                    let told = timeout(STATUS_TIMEOUT, asker.write_all(line.as_bytes())).await;
                    debug!(?told, "told the status");
                }
                Err(error) => {
                    warn!(%error, "cannot tell the status");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // the next start removes what is left
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;
    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    const WHO: &str = "test";

    async fn number(directory: &TempDir) -> Result<u32, AskError> {
        ask(directory.path(), WHO).await
    }

    /// Serves a number from now on.
    async fn serve_number(directory: &TempDir, number: u32) -> JoinHandle<()> {
        let path = directory.path().join(SOCKET);
        let serving = tokio::spawn(serve(path.clone(), move || number));
        yield_now().await;
        assert!(path.exists());
        serving
    }

    #[tokio::test]
    async fn who_asks_is_told_each_time_anew_and_nobody_else_can_ask() {
        let directory = tempfile::tempdir().unwrap();
        let serving = serve_number(&directory, 7).await;
        assert_eq!(number(&directory).await.unwrap(), 7);
        assert_eq!(number(&directory).await.unwrap(), 7);
        let mode = fs::metadata(directory.path().join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        serving.abort();
    }

    #[tokio::test]
    async fn where_nobody_serves_it_is_said_so() {
        let directory = tempfile::tempdir().unwrap();
        let words = |error: AskError| error.to_string();
        let said = words(number(&directory).await.unwrap_err());
        assert!(said.contains("no test is running") && said.contains(SOCKET), "{said}");
        let serving = serve_number(&directory, 7).await;
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        assert!(!directory.path().join(SOCKET).exists(), "it cleans up behind itself");
        assert!(matches!(number(&directory).await, Err(AskError::NotRunning { .. })));
    }

    #[tokio::test]
    async fn the_socket_of_a_process_that_is_gone_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(directory.path().join(SOCKET)).unwrap());
        assert!(matches!(number(&directory).await, Err(AskError::NotRunning { .. })));
        let serving = serve_number(&directory, 8).await;
        assert_eq!(number(&directory).await.unwrap(), 8);
        serving.abort();
    }

    #[tokio::test]
    async fn a_status_of_another_form_is_an_error_that_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let serving = serve_number(&directory, 7).await;
        let error = ask::<String>(directory.path(), WHO).await.unwrap_err();
        assert!(matches!(error, AskError::Form { .. }) && error.to_string().contains("another version"), "{error}");
        serving.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_says_nothing_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let _silent = UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        assert!(matches!(number(&directory).await, Err(AskError::Silent { .. })));
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_no_reason_to_end_anything() {
        let directory = tempfile::tempdir().unwrap();
        serve(directory.path().join("nowhere").join(SOCKET), || 7).await;
    }
}
