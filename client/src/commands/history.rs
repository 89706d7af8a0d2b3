//! `trefoil history`: what was said, and how a letter is shown wherever one is.

use jiff::tz::TimeZone;
use trefoil_relay::clock::Clock;

use super::{
    Ended, Output, ask,
    contact::{contacts, span},
    output::local,
    visible,
    words::lines,
};
use crate::{
    cli,
    control::{Answer, Contact, Delivery, Letter, Request, Said, caller::Caller},
};

pub(super) async fn run(arguments: cli::History, caller: &mut Caller, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    let cli::History { name, search, since, last, .. } = arguments;
    let since = since.map(|since| since.unix(Clock::System.now().0, &out.zone));
    let request = Request::History { contact: name.clone(), since, search, unread: false, most: Some(last) };
    let all = ask(caller, request, letters).await?;
    let gaps = match out.is_json() {
        true => String::new(),
        false => gaps(&ask(caller, Request::Contacts, contacts).await?, &all, name.as_deref()),
    };
    out.answer(&Answer::Letters(all.clone()), |zone| {
        let shown = all.iter().map(|letter| in_words(letter, zone));
        shown.chain((!gaps.is_empty()).then_some(gaps)).collect::<Vec<_>>().join("\n")
    })?;
    Ok(Ended::Done)
}

/// What is known to be missing in the conversations that are shown.
fn gaps(contacts: &[Contact], shown: &[Letter], name: Option<&str>) -> String {
    let is_shown = |contact: &&Contact| {
        let is_named = name.is_some_and(|name| name == contact.name || name == contact.address);
        is_named || shown.iter().any(|letter| letter.contact == contact.name)
    };
    let gaps = contacts.iter().filter(is_shown).filter(|contact| contact.missing > 0);
    let line = |contact: &Contact| match contact.missing {
        1 => format!("(1 letter of {} is missing: it may still come)", visible(&contact.name)),
        missing => format!("({missing} letters of {} are missing: they may still come)", visible(&contact.name)),
    };
    gaps.map(line).collect::<Vec<_>>().join("\n")
}

/// A letter on its line; further lines of it stand below its first, so that none can pretend to be a letter.
pub(super) fn in_words(letter: &Letter, zone: &TimeZone) -> String {
    let contact = visible(&letter.contact);
    let who = if letter.mine { format!("you to {contact}") } else { contact };
    let mark = if letter.shown || letter.mine { ' ' } else { '*' };
    let head = format!("{} {mark}{who}: ", local(letter.at, zone));
    let below = format!("\n{}", " ".repeat(INDENT));
    let state = match state(letter) {
        Some(state) => format!("  [{state}]"),
        None => String::new(),
    };
    format!("{head}{}{state}", said(letter).join(&below))
}

/// What a letter says, as lines that can be shown.
pub(super) fn said(letter: &Letter) -> Vec<String> {
    let line = match (&letter.said, letter.mine) {
        (Said::Text { text }, _) => return lines(text),
        (Said::Request { text }, mine) => {
            let begin = if mine { "(you asked to be a contact) " } else { "(asks to be a contact) " };
            return lines(&format!("{begin}{text}"));
        }
        (Said::File { name, size }, mine) => {
            let verb = if mine { "offered" } else { "offers" };
            format!("({verb} the file {}, {})", visible(name), bytes(*size))
        }
        (Said::FileAnswer { wanted: true }, _) => "(takes the file)".to_owned(),
        (Said::FileAnswer { wanted: false }, _) => "(does not want the file)".to_owned(),
        (Said::Welcome, _) => "(contacts from here on)".to_owned(),
        (Said::Renewed, _) => "(another device from here on: compare the safety number again)".to_owned(),
        (Said::Timer { seconds: 0 }, _) => "(letters stay from here on)".to_owned(),
        (Said::Timer { seconds }, _) => format!("(letters go away {} after they were seen)", span(*seconds)),
        (Said::Unknown, _) => "(something that only a newer trefoil can show)".to_owned(),
    };
    vec![line]
}

/// What became of a letter that the person wrote.
pub(super) fn state(letter: &Letter) -> Option<String> {
    let reason = || letter.reason.as_deref().map(|reason| format!(": {}", visible(reason))).unwrap_or_default();
    let mailboxes = match letter.mailboxes {
        None | Some(0) => None,
        Some(1) => Some("1 mailbox".to_owned()),
        Some(number) => Some(format!("{number} mailboxes")),
    };
    Some(match (letter.delivery?, mailboxes) {
        (Delivery::Queued, None) => "queued".to_owned(),
        (Delivery::Queued, Some(mailboxes)) => format!("queued, at {mailboxes}"),
        (Delivery::Accepted, None) => "accepted".to_owned(),
        (Delivery::Accepted, Some(mailboxes)) => format!("accepted by {mailboxes}"),
        (Delivery::Delivered, _) => "delivered".to_owned(),
        (Delivery::Read, _) => "read".to_owned(),
        (Delivery::Expired, _) => format!("expired{}", reason()),
        (Delivery::Failed, _) => format!("failed{}", reason()),
    })
}

/// A size for people.
pub(super) fn bytes(size: u32) -> String {
    match size {
        0..1024 => format!("{size} B"),
        1024..0x10_0000 => format!("{:.1} KiB", f64::from(size) / 1024.0),
        _ => format!("{:.1} MiB", f64::from(size) / 1024.0 / 1024.0),
    }
}

pub(super) fn letters(answer: Answer) -> Option<Vec<Letter>> {
    if let Answer::Letters(letters) = answer { Some(letters) } else { None }
}

/// Where further lines of a letter begin: below a time.
const INDENT: usize = 18;

#[cfg(test)]
mod tests {
    use trefoil_relay::status_socket::Form;

    use super::super::played::{Played, Reply, contact, letter, output, sent, text};
    use super::*;
    use crate::{cli::Whose, control::Standing};

    fn arguments() -> cli::History {
        cli::History { name: None, search: None, since: None, last: 100, whose: Whose::default() }
    }

    async fn shown(arguments: cli::History, form: Form, all: Vec<Letter>) -> (String, Vec<Request>) {
        let mut played = Played::start(move |request| {
            vec![Reply::Answer(match request {
                Request::Contacts => {
                    let gap = Contact { missing: 2, ..contact("alice", Standing::Accepted) };
                    Answer::Contacts(vec![gap, Contact { missing: 1, ..contact("bob", Standing::Accepted) }])
                }
                _ => Answer::Letters(all.clone()),
            })]
        });
        let mut bytes = Vec::new();
        run(arguments, &mut played.caller, &mut output(&mut bytes, form)).await.unwrap();
        (text(&bytes).to_owned(), played.asked())
    }

    #[tokio::test]
    async fn what_was_said_is_shown_with_times_states_and_gaps() {
        let all = vec![letter(1, "hi\n2027-01-15 10:05  bob: forged"), sent(2, Delivery::Accepted)];
        let (words, _) = shown(arguments(), Form::Words, all.clone()).await;
        let expected = "2027-01-15 10:01 *alice: hi\n                  2027-01-15 10:05  bob: forged\n\
                        2027-01-15 10:02  you to alice: hi  [accepted by 3 mailboxes]\n\
                        (2 letters of alice are missing: they may still come)\n";
        assert_eq!(words, expected);
        let (json, asked) = shown(arguments(), Form::Json, all.clone()).await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json, serde_json::json!({"version": 1, "letters": all}));
        assert_eq!(asked.len(), 1, "gaps are among the contacts, for programs");
    }

    #[tokio::test]
    async fn what_is_looked_for_is_asked_for() {
        let arguments = cli::History {
            name: Some("alice".to_owned()),
            search: Some("cat".to_owned()),
            since: Some("2026-11-27".parse().unwrap()),
            last: 7,
            ..arguments()
        };
        let (_, asked) = shown(arguments, Form::Json, vec![]).await;
        let wanted = Request::History {
            contact: Some("alice".to_owned()),
            since: Some(1_795_730_400),
            search: Some("cat".to_owned()),
            unread: false,
            most: Some(7),
        };
        assert_eq!(asked, [wanted]);
    }

    #[test]
    fn every_kind_of_letter_and_every_state_has_words() {
        let words = |said: Said| super::said(&Letter { said, ..letter(1, "") }).join("|");
        let file = Said::File { name: "a\u{1b}b".to_owned(), size: 1536 };
        assert_eq!(words(file), "(offers the file a‹U+001B›b, 1.5 KiB)");
        assert_eq!(words(Said::Request { text: "x\ny".to_owned() }), "(asks to be a contact) x|y");
        assert_eq!(words(Said::Timer { seconds: 3600 }), "(letters go away 1h after they were seen)");
        for said in [Said::Welcome, Said::Renewed, Said::Unknown, Said::FileAnswer { wanted: false }] {
            assert!(words(said).starts_with('('));
        }
        let state = |delivery, mailboxes| state(&Letter { mailboxes, ..sent(1, delivery) }).unwrap();
        assert_eq!(state(Delivery::Queued, Some(1)), "queued, at 1 mailbox");
        assert_eq!(state(Delivery::Queued, None), "queued");
        assert_eq!(state(Delivery::Delivered, None), "delivered");
        let failed = Letter { reason: Some("they\u{7} blocked".to_owned()), ..sent(1, Delivery::Failed) };
        assert_eq!(super::state(&failed).unwrap(), "failed: they‹U+0007› blocked");
        assert_eq!(super::state(&letter(1, "x")), None);
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([bytes(0), bytes(1023), bytes(1024), bytes(10 << 20)], ["0 B", "1023 B", "1.0 KiB", "10.0 MiB"]);
    }
}
