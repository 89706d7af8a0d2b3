//! `trefoil inbox`: the letters that the person has not seen.
//!
//! A letter counts as seen only when it was written out, and the program of `--notify` had its turn.

use std::{collections::BTreeSet, process::Stdio};

use anyhow::Context;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};
use trefoil_protocol::limits::NOTIFY_TIMEOUT;

use super::{
    Ended, Output, ask,
    history::{in_words, letters},
    output::line,
};
use crate::{
    cli,
    control::{Answer, Event, Letter, Request, caller::Caller},
};

pub(super) async fn run(arguments: &cli::Inbox, caller: &mut Caller, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    if arguments.follow {
        caller.call(Request::Follow).await?; // first: what comes between this and the question comes twice, not never
    }
    let mut inbox = Inbox { arguments, caller, out, seen: BTreeSet::new() };
    let unread = inbox.unread().await?;
    if unread.is_empty() && !arguments.follow {
        inbox.out.answer(&Answer::Letters(Vec::new()), |_| "no new letters".to_owned())?;
    }
    inbox.show_all(unread).await?;
    if arguments.follow {
        inbox.follow().await?;
    }
    Ok(Ended::Done)
}

struct Inbox<'a, 'b> {
    arguments: &'a cli::Inbox,
    caller: &'a mut Caller,
    out: &'a mut Output<'b>,
    /// Those that were shown by this command: one that is kept unseen would come again.
    seen: BTreeSet<(String, String)>,
}

impl Inbox<'_, '_> {
    /// Until the connection ends, or nobody looks any more.
    async fn follow(&mut self) -> anyhow::Result<()> {
        loop {
            let letters = match self.caller.event().await? {
                Event::Letter(letter) => vec![letter],
                Event::Missed(_) => self.unread().await?,
                Event::Contact(_) | Event::File(_) => continue,
            };
            self.show_all(letters).await?;
        }
    }

    async fn unread(&mut self) -> anyhow::Result<Vec<Letter>> {
        let request = Request::History { contact: None, since: None, search: None, unread: true, most: None };
        Ok(ask(self.caller, request, letters).await?)
    }

    async fn show_all(&mut self, letters: Vec<Letter>) -> anyhow::Result<()> {
        for letter in letters.into_iter().filter(|letter| !letter.mine && !letter.shown) {
            if self.seen.insert((letter.contact.clone(), letter.id.clone())) {
                self.show(letter).await?;
            }
        }
        Ok(())
    }

    async fn show(&mut self, letter: Letter) -> anyhow::Result<()> {
        self.out.answer(&Answer::Letter(letter.clone()), |zone| in_words(&letter, zone))?;
        if let Some((program, arguments)) = self.arguments.notify.split_first()
            && let Err(error) = notify(program, arguments, &letter).await
        {
            eprintln!("trefoil: {error:#}");
        }
        if !self.arguments.keep {
            let shown = Request::Shown { contact: letter.contact, letters: vec![letter.id] };
            self.caller.call(shown).await?;
        }
        Ok(())
    }
}

/// Runs a program that reads the letter from its standard input. No shell is in between: nothing that a letter says is
/// ever part of a command.
async fn notify(program: &str, arguments: &[String], letter: &Letter) -> anyhow::Result<()> {
    let json = line(&Answer::Letter(letter.clone()))? + "\n";
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let ended = async {
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(json.as_bytes()).await; // a program need not read it
        }
        child.wait().await
    };
    let ended = timeout(NOTIFY_TIMEOUT, ended).await;
    let ended = ended.with_context(|| format!("{program} did not end in {} s", NOTIFY_TIMEOUT.as_secs()))?;
    let status = ended.with_context(|| format!("cannot wait for {program}"))?;
    anyhow::ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use trefoil_relay::status_socket::Form;

    use super::super::played::{Played, Reply, letter, output, sent, text};
    use super::*;
    use crate::{cli::Whose, control::Delivery};

    fn arguments(follow: bool, keep: bool, notify: &[&str]) -> cli::Inbox {
        let notify = notify.iter().map(|word| (*word).to_owned()).collect();
        cli::Inbox { follow, keep, notify, whose: Whose::default() }
    }

    /// Has these unread letters, sends these events after `Follow`, and goes away when the last letter was shown.
    fn played(unread: Vec<Letter>, events: fn() -> Vec<Event>) -> Played {
        Played::start(move |request| match request {
            Request::Follow => {
                let events = events().into_iter().map(Reply::Event);
                [Reply::Answer(Answer::Nothing {})].into_iter().chain(events).collect()
            }
            Request::History { .. } => vec![Reply::Answer(Answer::Letters(unread.clone()))],
            _ => vec![Reply::Answer(Answer::Nothing {})],
        })
    }

    fn shown(number: u8) -> Request {
        Request::Shown { contact: "alice".to_owned(), letters: vec![letter(number, "").id] }
    }

    #[tokio::test]
    async fn what_was_written_out_is_seen_and_what_is_kept_is_not() {
        for (keep, seen) in [(false, vec![shown(1), shown(2)]), (true, vec![])] {
            let mut played = played(vec![letter(1, "one"), letter(2, "two")], Vec::new);
            let mut bytes = Vec::new();
            let arguments = arguments(false, keep, &[]);
            run(&arguments, &mut played.caller, &mut output(&mut bytes, Form::Words)).await.unwrap();
            assert_eq!(text(&bytes), "2027-01-15 10:01 *alice: one\n2027-01-15 10:02 *alice: two\n");
            assert_eq!(played.asked()[1..], seen);
        }
    }

    #[tokio::test]
    async fn where_there_is_nothing_it_is_said_so() {
        for (form, words) in [(Form::Words, "no new letters\n"), (Form::Json, "{\"version\":1,\"letters\":[]}\n")] {
            let mut bytes = Vec::new();
            let mut played = played(vec![], Vec::new);
            run(&arguments(false, false, &[]), &mut played.caller, &mut output(&mut bytes, form)).await.unwrap();
            assert_eq!(text(&bytes), words);
        }
    }

    /// A terminal that is gone.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_could_not_be_written_out_stays_unseen() {
        let mut played = played(vec![letter(1, "one")], Vec::new);
        let mut gone = Gone;
        let mut out = Output::new(&mut gone, Form::Words, false);
        run(&arguments(false, false, &[]), &mut played.caller, &mut out).await.unwrap_err();
        assert_eq!(played.asked().len(), 1, "nothing was marked");
    }

    #[tokio::test(start_paused = true)]
    async fn following_shows_each_letter_once_and_none_of_the_persons_own() {
        let events = || {
            let seen = Letter { shown: true, ..letter(5, "seen elsewhere") };
            vec![
                Event::Letter(letter(1, "one")), // came between the two questions
                Event::Letter(sent(3, Delivery::Delivered)),
                Event::Letter(seen),
                Event::Letter(letter(4, "four")),
                Event::Missed(2), // asks again what is unread
                Event::Letter(letter(6, "six")),
            ]
        };
        let mut played = played(vec![letter(1, "one")], events);
        let mut bytes = Vec::new();
        let arguments = arguments(true, false, &[]);
        let mut out = output(&mut bytes, Form::Words);
        let following = run(&arguments, &mut played.caller, &mut out);
        timeout(NOTIFY_TIMEOUT, following).await.expect_err("it goes on");
        let words = text(&bytes);
        let numbers: Vec<_> = words.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(numbers, ["one", "four", "six"]);
        let seen: Vec<_> = played.asked().into_iter().filter(|asked| matches!(asked, Request::Shown { .. })).collect();
        assert_eq!(seen, [shown(1), shown(4), shown(6)]);
    }

    #[tokio::test]
    async fn the_program_of_notify_reads_the_letter_and_no_shell_sees_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("got; touch x");
        let file = file.to_str().unwrap();
        let evil = "$(touch /tmp/x) `id` '; \"";
        let mut played = played(vec![letter(1, evil), letter(2, "two")], Vec::new);
        let mut bytes = Vec::new();
        let arguments = arguments(false, false, &["tee", "-a", file]);
        run(&arguments, &mut played.caller, &mut output(&mut bytes, Form::Words)).await.unwrap();
        let got = std::fs::read_to_string(file).unwrap();
        let letters: Vec<serde_json::Value> = got.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&letters[0]["letter"]["text"], &letters[0]["version"]), (&evil.into(), &1.into()));
        assert_eq!(letters.len(), 2, "one run for each");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_program_that_fails_or_is_not_there_ends_nothing() {
        let failing = notify("false", &[], &letter(1, "x")).await.unwrap_err();
        assert!(failing.to_string().starts_with("false failed"), "{failing}");
        let missing = notify("/nowhere/at-all", &[], &letter(1, "x")).await.unwrap_err();
        assert!(missing.to_string().contains("cannot run /nowhere/at-all"), "{missing}");
        let mut played = played(vec![letter(1, "one"), letter(2, "two")], Vec::new);
        let mut bytes = Vec::new();
        let arguments = arguments(false, false, &["false"]);
        run(&arguments, &mut played.caller, &mut output(&mut bytes, Form::Words)).await.unwrap();
        assert_eq!(played.asked()[1..], [shown(1), shown(2)]);
    }
}
