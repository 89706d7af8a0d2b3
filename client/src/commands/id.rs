//! `trefoil id`: who the person is.
//!
//! `show`, `phrase` and `tell-read` ask the running trefoil. `new`, `restore`, `export` and `import` work on the
//! profile's directory while nobody runs with it.

use std::path::PathBuf;

use trefoil_relay::network::NetworkFile;
use zeroize::Zeroizing;

use super::{Ended, Output, Usage, ask, place::Place, unlock::ask_hidden, visible};
use crate::{
    cli::{IdWhat, Tell, Whose},
    control::{Answer, Me, Request, caller::Caller},
    home::{self, Home},
};

/// What is done on a profile's directory while nobody runs with it.
pub enum Job {
    /// A new person. [`Key::choose`](super::unlock::Key::choose) says how it is opened from then on.
    Create,
    /// The person of these words, on a new device.
    Restore {
        /// 24 words, as they were typed.
        phrase: Zeroizing<String>,
    },
    /// Writes the profile as it is.
    Export {
        /// Where to; `-` for standard output.
        to: PathBuf,
    },
    /// Makes a profile of one that was written.
    Import {
        /// Where from; `-` for standard input.
        from: PathBuf,
    },
}

impl IdWhat {
    /// Whether it needs nobody who runs.
    pub(super) fn is_offline(&self) -> bool {
        matches!(self, Self::New | Self::Restore | Self::Export { .. } | Self::Import { .. })
    }
}

pub(super) async fn run(what: IdWhat, caller: &mut Caller, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    match what {
        IdWhat::Phrase => {
            let phrase = ask(caller, Request::Phrase, |answer| match answer {
                Answer::Phrase(phrase) => Some(Zeroizing::new(phrase)),
                _ => None,
            });
            let phrase = phrase.await?;
            out.answer(&Answer::Phrase(phrase.to_string()), |_| phrase_in_words(&phrase))?;
        }
        IdWhat::TellRead { tell } => {
            let answer = caller.call(Request::TellRead { tell: tell == Tell::On }).await?;
            let words = match tell {
                Tell::On => "contacts are told what you have read, if they tell you, too",
                Tell::Off => "nobody is told what you have read",
            };
            out.answer(&answer, |_| words.to_owned())?;
        }
        IdWhat::Show | IdWhat::New | IdWhat::Restore | IdWhat::Export { .. } | IdWhat::Import { .. } => {
            let me = ask(caller, Request::Me, |answer| if let Answer::Me(me) = answer { Some(me) } else { None });
            let me = me.await?;
            out.answer(&Answer::Me(me.clone()), |_| me_in_words(&me))?;
        }
    }
    Ok(Ended::Done)
}

pub(super) fn offline(what: IdWhat, whose: &Whose, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    let place = Place::of(whose)?;
    let job = match what {
        IdWhat::Restore => Job::Restore { phrase: ask_phrase()? },
        IdWhat::Export { to } => Job::Export { to },
        IdWhat::Import { from } => Job::Import { from },
        _ => Job::Create,
    };
    let next = match job {
        Job::Create => "\nwrite down the 24 words that `trefoil id phrase` shows: only they bring you back",
        Job::Restore { .. } => "\n`trefoil up` looks for your contacts and letters in your own mailboxes from now on",
        Job::Export { .. } | Job::Import { .. } => "",
    };
    if let Some(me) = work(&place, job)? {
        out.answer(&Answer::Me(me.clone()), |_| me_in_words(&me) + next)?;
    }
    Ok(Ended::Done)
}

/// Does it, and says who the person is; `None` where the output is the profile itself.
fn work(place: &Place, job: Job) -> anyhow::Result<Option<Me>> {
    let (profile, key) = (&place.profile, &place.key);
    if let Job::Export { to } = job {
        home::export(profile, &to)?;
        return Ok(None);
    }
    let network = place.network.as_deref().ok_or_else(|| Usage("which network? pass --network".to_owned()))?;
    let params = NetworkFile::load(network)?.params;
    match job {
        Job::Restore { phrase } => Home::make(profile, key, &params, Some(&phrase)),
        Job::Import { from } => home::import(profile, key, &params, &from),
        Job::Create | Job::Export { .. } => Home::make(profile, key, &params, None),
    }
    .map(Some)
}

/// From the terminal unseen, or what is piped in.
fn ask_phrase() -> anyhow::Result<Zeroizing<String>> {
    use std::io::{IsTerminal, Read, stdin};
    if stdin().is_terminal() {
        return ask_hidden("the 24 words, with spaces between (nothing is shown): ");
    }
    let mut text = Zeroizing::new(String::with_capacity(PHRASE));
    stdin().lock().take(PHRASE as u64).read_to_string(&mut text)?;
    Ok(text)
}

fn me_in_words(me: &Me) -> String {
    format!("profile  {}\nnetwork  {}\naddress  {}", visible(&me.profile), visible(&me.network), visible(&me.address))
}

fn phrase_in_words(phrase: &str) -> String {
    let words: Vec<_> =
        phrase.split_whitespace().enumerate().map(|(at, word)| format!("{:2} {word:10}", at + 1)).collect();
    let rows: Vec<_> = words.chunks(4).map(|row| row.join("  ").trim_end().to_owned()).collect();
    format!("{}\n\nWhoever has these words is you. Write them on paper, and keep no photograph.", rows.join("\n"))
}

/// Bytes that are read where a phrase should be.
const PHRASE: usize = 1024;

#[cfg(test)]
mod tests {
    use trefoil_relay::status_socket::Form;

    use super::super::played::{Played, output, text};
    use super::*;

    fn me() -> Me {
        Me { version: 1, profile: "default".to_owned(), network: "main".to_owned(), address: "abc".to_owned() }
    }

    async fn shown(what: IdWhat, form: Form, answer: Answer) -> (String, Vec<Request>) {
        let (mut played, mut bytes) = (Played::always(answer), Vec::new());
        run(what, &mut played.caller, &mut output(&mut bytes, form)).await.unwrap();
        (text(&bytes).to_owned(), played.asked())
    }

    #[tokio::test]
    async fn who_the_person_is_is_shown_as_words_and_as_json() {
        let (words, asked) = shown(IdWhat::Show, Form::Words, Answer::Me(me())).await;
        assert_eq!((words.as_str(), asked), ("profile  default\nnetwork  main\naddress  abc\n", vec![Request::Me]));
        let (json, _) = shown(IdWhat::Show, Form::Json, Answer::Me(me())).await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["version"], &json["me"]["address"]), (&1.into(), &"abc".into()));
    }

    #[tokio::test]
    async fn the_words_of_the_phrase_have_their_numbers() {
        let phrase = (1..=24).map(|word| format!("word{word}")).collect::<Vec<_>>().join(" ");
        let (words, asked) = shown(IdWhat::Phrase, Form::Words, Answer::Phrase(phrase)).await;
        assert!(words.starts_with(" 1 word1        2 word2"), "{words}");
        assert!(words.contains("24 word24\n\nWhoever has these words is you"), "{words}");
        assert_eq!(asked, [Request::Phrase]);
    }

    #[tokio::test]
    async fn whether_reading_is_told_can_be_said() {
        for (tell, is) in [(Tell::On, true), (Tell::Off, false)] {
            let (_, asked) = shown(IdWhat::TellRead { tell }, Form::Words, Answer::Nothing {}).await;
            assert_eq!(asked, [Request::TellRead { tell: is }]);
        }
    }
}
