//! `trefoil send`: a letter, and what becomes of it.

use std::io::{self, IsTerminal};

use tokio::time::{Instant, timeout_at};
use trefoil_protocol::limits::LETTER_TEXT;

use super::{Ended, Output, Usage, ask, history::state, place::Reached, read_text, text_or_stdin, visible};
use crate::{
    cli::{self, Wait},
    control::{Answer, Delivery, Event, Letter, Request, caller::CallError, caller::Caller},
};

pub(super) async fn run(arguments: cli::Send, reached: &mut Reached, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    let text = match arguments.text {
        Some(text) => text_or_stdin(text, LETTER_TEXT)?,
        None if io::stdin().is_terminal() => {
            return Err(Usage("what should it say? give a text, or - for standard input".to_owned()).into());
        }
        None => read_text(io::stdin().lock(), LETTER_TEXT)?,
    };
    anyhow::ensure!(!text.is_empty(), "there is nothing to send: the text is empty");
    let wait = arguments.wait.or(reached.is_own.then_some(Wait::Accepted)); // when the command ends, nobody sends it
    let end = Instant::now() + arguments.timeout.0;
    let mut sending = Sending { caller: &mut reached.caller, out, wait, end };
    sending.run(arguments.name, text).await
}

/// A letter on its way.
struct Sending<'a, 'b> {
    caller: &'a mut Caller,
    out: &'a mut Output<'b>,
    /// For what; nothing more than that it is kept without.
    wait: Option<Wait>,
    end: Instant,
}

impl Sending<'_, '_> {
    async fn run(&mut self, name: String, text: String) -> anyhow::Result<Ended> {
        if self.wait.is_some() {
            self.caller.call(Request::Follow).await?;
        }
        let mut now = ask(self.caller, Request::Send { contact: name, text }, letter).await?;
        let ended = loop {
            self.show_change(&now)?;
            match reached(&now, self.wait) {
                Some(ended) => break ended,
                None => match timeout_at(self.end, self.change(&now)).await {
                    Ok(changed) => now = changed?,
                    Err(_) => break Ok(Ended::Queued),
                },
            }
        };
        self.show_end(&now)?;
        ended
    }

    /// The letter, once it is another than this.
    async fn change(&mut self, before: &Letter) -> Result<Letter, CallError> {
        loop {
            let now = match self.caller.event().await? {
                Event::Letter(now) if now.id == before.id && now.mine => now,
                Event::Missed(_) => {
                    let request = Request::Letter { contact: before.contact.clone(), letter: before.id.clone() };
                    ask(self.caller, request, letter).await?
                }
                _ => continue,
            };
            if now != *before {
                return Ok(now);
            }
        }
    }

    /// A person who waits sees each state.
    fn show_change(&mut self, now: &Letter) -> io::Result<()> {
        match self.out.is_terminal && !self.out.is_json() && self.wait.is_some() {
            true => self.out.print(&line(now)),
            false => Ok(()),
        }
    }

    fn show_end(&mut self, now: &Letter) -> io::Result<()> {
        let was_shown = self.out.is_terminal && self.wait.is_some();
        self.out.answer(&Answer::Letter(now.clone()), |_| if was_shown { String::new() } else { line(now) })
    }
}

fn line(now: &Letter) -> String {
    format!("{}: {}", visible(&now.contact), state(now).unwrap_or_default())
}

/// Whether it is where it is to be; `None` while it may still come there.
fn reached(now: &Letter, wait: Option<Wait>) -> Option<anyhow::Result<Ended>> {
    let delivery = now.delivery.unwrap_or(Delivery::Queued);
    let is_there = match delivery {
        Delivery::Failed | Delivery::Expired => {
            let state = state(now).unwrap_or_default();
            return Some(Err(anyhow::anyhow!("the letter to {} {state}", visible(&now.contact))));
        }
        Delivery::Queued => wait.is_none(),
        Delivery::Accepted => wait != Some(Wait::Delivered),
        Delivery::Delivered | Delivery::Read => true,
    };
    is_there.then_some(Ok(Ended::Done))
}

fn letter(answer: Answer) -> Option<Letter> {
    if let Answer::Letter(letter) = answer { Some(letter) } else { None }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trefoil_relay::status_socket::Form;

    use super::super::played::{Played, Reply, letter as of_alice, output, sent, text};
    use super::*;
    use crate::{
        cli::{Span, Whose},
        control::Code,
    };

    fn arguments(wait: Option<Wait>) -> cli::Send {
        let timeout = Span(Duration::from_secs(30));
        cli::Send { name: "alice".to_owned(), text: Some("hi".to_owned()), wait, timeout, whose: Whose::default() }
    }

    /// What `send` shows, and how it ends, where this comes after the letter is queued.
    async fn after(
        wait: Option<Wait>,
        is_own: bool,
        events: impl Fn() -> Vec<Reply> + Send + 'static,
    ) -> (anyhow::Result<Ended>, String, Vec<Request>) {
        let played = Played::start(move |request| match request {
            Request::Follow => vec![Reply::Answer(Answer::Nothing {})],
            Request::Letter { .. } => vec![Reply::Answer(Answer::Letter(sent(1, Delivery::Delivered)))],
            _ => {
                let mut replies = vec![Reply::Answer(Answer::Letter(sent(1, Delivery::Queued)))];
                replies.extend(events());
                replies
            }
        });
        let asked = |played: &Played| played.asked();
        let mut bytes = Vec::new();
        let (mut out, mut played) = (output(&mut bytes, Form::Words), played);
        out.is_terminal = true;
        let caller = std::mem::replace(&mut played.caller, Played::always(Answer::Nothing {}).caller);
        let ended = run(arguments(wait), &mut Reached { caller, is_own }, &mut out).await;
        (ended, text(&bytes).to_owned(), asked(&played))
    }

    fn event(number: u8, delivery: Delivery) -> Reply {
        Reply::Event(Event::Letter(sent(number, delivery)))
    }

    #[tokio::test(start_paused = true)]
    async fn without_waiting_it_is_done_when_the_letter_is_kept() {
        let (ended, words, asked) = after(None, false, Vec::new).await;
        assert_eq!((ended.unwrap(), words.as_str()), (Ended::Done, "alice: queued, at 3 mailboxes\n"));
        assert_eq!(asked, [Request::Send { contact: "alice".to_owned(), text: "hi".to_owned() }]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_state_is_shown_until_the_one_that_is_waited_for() {
        let events = || {
            let accepted = Letter { mailboxes: Some(4), ..sent(1, Delivery::Accepted) };
            vec![
                event(2, Delivery::Delivered), // another letter's
                Reply::Event(Event::Letter(of_alice(1, "no state"))),
                event(1, Delivery::Queued), // no change
                Reply::Pause(Duration::from_secs(2)),
                event(1, Delivery::Accepted),
                Reply::Event(Event::Letter(accepted)),
                Reply::Pause(Duration::from_secs(20)),
                event(1, Delivery::Delivered),
            ]
        };
        let (ended, words, asked) = after(Some(Wait::Delivered), false, events).await;
        let expected = "alice: queued, at 3 mailboxes\nalice: accepted by 3 mailboxes\n\
                        alice: accepted by 4 mailboxes\nalice: delivered\n";
        assert_eq!((ended.unwrap(), words.as_str()), (Ended::Done, expected));
        assert_eq!(asked[0], Request::Follow, "no event is missed");
        let (ended, words, _) = after(Some(Wait::Accepted), false, events).await;
        assert_eq!(ended.unwrap(), Ended::Done);
        assert!(words.ends_with("accepted by 3 mailboxes\n"), "{words}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_or_never_is_still_queued() {
        let late = || vec![Reply::Pause(Duration::from_secs(31)), event(1, Delivery::Accepted)];
        let start = Instant::now();
        let (ended, words, _) = after(Some(Wait::Accepted), false, late).await;
        assert_eq!((ended.unwrap(), words.as_str()), (Ended::Queued, "alice: queued, at 3 mailboxes\n"));
        assert_eq!(start.elapsed().as_secs(), 30);
        let (ended, _, _) = after(Some(Wait::Delivered), false, || vec![event(1, Delivery::Accepted)]).await;
        assert_eq!(ended.unwrap(), Ended::Queued, "accepted is not delivered");
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_or_expired_is_an_error_with_its_reason() {
        let failed = || {
            let letter = Letter { reason: Some("they blocked you".to_owned()), ..sent(1, Delivery::Failed) };
            vec![Reply::Event(Event::Letter(letter))]
        };
        let (ended, _, _) = after(Some(Wait::Delivered), false, failed).await;
        assert_eq!(ended.unwrap_err().to_string(), "the letter to alice failed: they blocked you");
        let (ended, _, _) = after(Some(Wait::Accepted), false, || vec![event(1, Delivery::Expired)]).await;
        assert_eq!(ended.unwrap_err().to_string(), "the letter to alice expired");
    }

    #[tokio::test(start_paused = true)]
    async fn where_events_were_missed_the_letter_is_asked_for() {
        let (ended, _, asked) = after(Some(Wait::Delivered), false, || vec![Reply::Event(Event::Missed(9))]).await;
        assert_eq!(ended.unwrap(), Ended::Done);
        let letter = Request::Letter { contact: "alice".to_owned(), letter: sent(1, Delivery::Queued).id };
        assert_eq!(asked.last(), Some(&letter));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_runs_for_this_command_alone_ends_only_when_mailboxes_have_it() {
        let (ended, words, _) = after(None, true, || vec![event(1, Delivery::Accepted)]).await;
        assert_eq!(ended.unwrap(), Ended::Done);
        assert!(words.ends_with("accepted by 3 mailboxes\n"), "{words}");
        assert_eq!(after(None, true, Vec::new).await.0.unwrap(), Ended::Queued);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_contact_is_an_error_and_programs_get_the_letter_once() {
        let mut played = Played::start(|_| vec![Reply::Problem(Code::UnknownContact, "nobody is called alice")]);
        let caller = std::mem::replace(&mut played.caller, Played::always(Answer::Nothing {}).caller);
        let mut bytes = Vec::new();
        let mut out = output(&mut bytes, Form::Json);
        let error = run(arguments(None), &mut Reached { caller, is_own: false }, &mut out).await.unwrap_err();
        assert_eq!(error.to_string(), "nobody is called alice");
        let caller = Played::always(Answer::Letter(sent(1, Delivery::Accepted))).caller;
        run(arguments(None), &mut Reached { caller, is_own: false }, &mut out).await.unwrap();
        let json: serde_json::Value = serde_json::from_str(text(&bytes)).unwrap();
        assert_eq!((&json["version"], &json["letter"]["delivery"]), (&1.into(), &"accepted".into()));
    }
}
