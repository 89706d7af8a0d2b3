//! Commands: what a person asks of the running `trefoil up`, or of one that the command runs for itself.
//!
//! Specification: docs/user-guide.md, "Letters", and docs/control.md. Each command has a file; all of them talk through a
//! [`Caller`], and show what they learn through an [`Output`].

mod chat;
mod contact;
mod doctor;
#[cfg(test)]
mod documented;
mod file;
mod history;
pub mod id;
mod inbox;
mod invite;
mod output;
mod pages;
pub mod place;
#[cfg(test)]
mod played;
mod send;
mod status;
pub mod unlock;
mod words;

use std::io::{self, IsTerminal, Read};

use anyhow::Context;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use trefoil_relay::status_socket::Form;

use self::place::Place;
pub use self::{output::Output, words::visible};
use crate::{
    cli::{InviteWhat, Letters, Whose},
    control::{Answer, Problem, Request, caller::CallError, caller::Caller},
};

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was done, or the state was reached.
    Done,
    /// What was waited for has not come in time; it goes on.
    Queued,
    /// It was done, and what it found is not well.
    Unwell,
}

/// The command line asks for what cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl Ended {
    /// For the shell.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unwell => FAILED,
            Self::Queued => 3,
        }
    }
}

/// For the shell, of a command that failed.
pub fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() { 2 } else { FAILED }
}

/// Does what was asked; `shutdown` ends it early.
///
/// # Errors
/// What happened, and what to do. With `--json` it was printed already, for programs.
pub async fn run(command: Letters, shutdown: &CancellationToken) -> anyhow::Result<Ended> {
    let whose = command.whose().cloned().unwrap_or_default();
    let mut stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let form = if whose.json { Form::Json } else { Form::Words };
    let mut out = Output::new(&mut stdout, form, is_terminal);
    let goes_on = command.goes_on();
    let done = match shutdown.run_until_cancelled(dispatch(command, &whose, &mut out)).await {
        Some(Err(error)) if is_unread(&error) => Ok(Ended::Done),
        Some(done) => done,
        None if goes_on => Ok(Ended::Done),
        None => Err(anyhow::anyhow!("interrupted")),
    };
    if let (Err(error), Form::Json) = (&done, form) {
        let _ = out.json(&Failure::of(error)); // the error itself is told, too
    }
    done
}

/// Whether nobody reads the output any more, as after `| head`: no reason to complain.
fn is_unread(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn dispatch(command: Letters, whose: &Whose, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    match command {
        Letters::Completions(arguments) => pages::completions(&arguments, out),
        Letters::Man(arguments) => pages::man(&arguments, out),
        Letters::Invite(arguments) if let InviteWhat::Relays { relays } = arguments.what => {
            invite::relays(whose, relays, out)
        }
        Letters::Status(arguments) => status::run(&arguments, out).await,
        Letters::Doctor(_) => doctor::run(whose, out).await,
        Letters::Id(arguments) if arguments.what.is_offline() => id::offline(arguments.what, whose, out),
        command => with_caller(command, whose, out).await,
    }
}

async fn with_caller(command: Letters, whose: &Whose, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    let place = Place::of(whose)?;
    let mut reached = place::caller(&place).await?;
    let caller = &mut reached.caller;
    match command {
        Letters::Id(arguments) => id::run(arguments.what, caller, out).await,
        Letters::Invite(arguments) => invite::run(arguments.what, caller, out).await,
        Letters::Contact(arguments) => contact::run(arguments.what, caller, out).await,
        Letters::Send(arguments) => send::run(arguments, &mut reached, out).await,
        Letters::Inbox(arguments) => inbox::run(&arguments, caller, out).await,
        Letters::History(arguments) => history::run(arguments, caller, out).await,
        Letters::Chat(arguments) => chat::run(&arguments.name, caller).await,
        Letters::File(arguments) => file::run(arguments.what, caller, out).await,
        Letters::Status(_) | Letters::Doctor(_) | Letters::Completions(_) | Letters::Man(_) => {
            unreachable!("these need nobody who runs")
        }
    }
}

impl Letters {
    fn whose(&self) -> Option<&Whose> {
        Some(match self {
            Self::Id(arguments) => &arguments.whose,
            Self::Invite(arguments) => &arguments.whose,
            Self::Contact(arguments) => &arguments.whose,
            Self::Send(arguments) => &arguments.whose,
            Self::Inbox(arguments) => &arguments.whose,
            Self::History(arguments) => &arguments.whose,
            Self::Chat(arguments) => &arguments.whose,
            Self::File(arguments) => &arguments.whose,
            Self::Status(arguments) => &arguments.whose,
            Self::Doctor(arguments) => &arguments.whose,
            Self::Completions(_) | Self::Man(_) => return None,
        })
    }

    /// Whether it goes on until it is ended, so that this is how it should end.
    fn goes_on(&self) -> bool {
        match self {
            Self::Inbox(arguments) => arguments.follow,
            Self::Status(arguments) => arguments.follow,
            Self::Chat(_) => true,
            _ => false,
        }
    }
}

/// An error, for programs.
#[derive(Serialize)]
struct Failure {
    error: FailureWords,
}

#[derive(Serialize)]
struct FailureWords {
    code: serde_json::Value,
    text: String,
}

impl Failure {
    fn of(error: &anyhow::Error) -> Self {
        let problem = error.downcast_ref::<CallError>().and_then(|error| match error {
            CallError::Problem(problem) => Some(problem),
            _ => None,
        });
        let problem = problem.or_else(|| error.downcast_ref::<Problem>());
        let code = problem.and_then(|problem| serde_json::to_value(problem.code).ok());
        let code = code.unwrap_or_else(|| if error.is::<Usage>() { "usage" } else { "failed" }.into());
        Self { error: FailureWords { code, text: format!("{error:#}") } }
    }
}

/// Asks, and takes what `pick` takes of the answer: anything else is no answer to this.
async fn ask<T>(caller: &mut Caller, request: Request, pick: fn(Answer) -> Option<T>) -> Result<T, CallError> {
    pick(caller.call(request).await?).ok_or(CallError::Unexpected)
}

/// A text of the command line, or what standard input has where it is `-`; at most so many bytes.
fn text_or_stdin(text: String, most: usize) -> anyhow::Result<String> {
    if text == "-" { read_text(io::stdin().lock(), most) } else { Ok(text) }
}

/// All of a text, without the line's end behind it.
fn read_text(input: impl Read, most: usize) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = input.take(most as u64 + 1).read_to_string(&mut text).context("cannot read the text: is it UTF-8?")?;
    anyhow::ensure!(read <= most, "the text is too long: at most {most} bytes go into one letter; send it as a file");
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    Ok(text)
}

const FAILED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Code;

    #[test]
    fn a_text_is_read_whole_without_its_last_line_ends_or_not_at_all() {
        assert_eq!(read_text(&b"one\ntwo\r\n\n"[..], 100).unwrap(), "one\ntwo");
        assert_eq!(read_text(&b"12345"[..], 5).unwrap(), "12345");
        assert!(read_text(&b"123456"[..], 5).unwrap_err().to_string().contains("at most 5 bytes"));
        assert!(read_text(&[0xff][..], 5).unwrap_err().to_string().contains("UTF-8"));
    }

    #[test]
    fn programs_learn_what_kind_of_failure_it_was() {
        let json = |error: anyhow::Error| serde_json::to_value(Failure::of(&error)).unwrap();
        let problem = Problem::new(Code::UnknownContact, "nobody is called bob");
        let told = json(CallError::Problem(problem).into());
        assert_eq!(told, serde_json::json!({"error": {"code": "unknown_contact", "text": "nobody is called bob"}}));
        assert_eq!(json(Usage("no".into()).into())["error"]["code"], "usage");
        assert_eq!(json(anyhow::anyhow!("no"))["error"]["code"], "failed");
    }

    #[test]
    fn an_output_that_nobody_reads_is_no_failure_and_a_socket_that_breaks_is_one() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_unread(&broken().into()) && !is_unread(&CallError::Gone(broken()).into()));
        assert!(!is_unread(&io::Error::from(io::ErrorKind::StorageFull).into()));
    }

    #[test]
    fn the_shell_learns_how_it_ended() {
        assert_eq!([Ended::Done.code(), Ended::Unwell.code(), Ended::Queued.code()], [0, 1, 3]);
        assert_eq!([code_of(&anyhow::anyhow!("no")), code_of(&Usage("no".into()).into())], [1, 2]);
    }
}
