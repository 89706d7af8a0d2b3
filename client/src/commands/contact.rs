//! `trefoil contact`: whom the person writes to, and who may write to the person.

use trefoil_protocol::limits::GREETING;

use super::{Ended, Output, ask, output::table, text_or_stdin, visible, words::lines};
use crate::{
    cli::ContactWhat,
    control::{Answer, Contact, Receipts, Request, Standing, caller::Caller},
};

pub(super) async fn run(what: ContactWhat, caller: &mut Caller, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    match what {
        ContactWhat::List => list(caller, out).await?,
        ContactWhat::Requests => requests(caller, out).await?,
        ContactWhat::Verify { name, matches: false, differs: false } => safety(name, caller, out).await?,
        ContactWhat::Remove { name } => {
            let answer = caller.call(Request::Remove { contact: name.clone() }).await?;
            out.answer(&answer, |_| format!("{} is forgotten", visible(&name)))?;
        }
        one => {
            let contact = ask(caller, request(one)?, contact).await?;
            let words = standing(&contact);
            out.answer(&Answer::Contact(contact), |_| words)?;
        }
    }
    Ok(Ended::Done)
}

/// For those that are answered with the contact as it is then.
fn request(what: ContactWhat) -> anyhow::Result<Request> {
    Ok(match what {
        ContactWhat::Add { who, name, greeting } => {
            let who = text_or_stdin(who, INVITE)?.trim().to_owned();
            Request::Add { who, name, greeting: text_or_stdin(greeting, GREETING)? }
        }
        ContactWhat::Accept { name } => Request::Accept { contact: name },
        ContactWhat::Rename { name, new } => Request::Rename { contact: name, name: new },
        ContactWhat::Verify { name, matches, .. } => Request::Verified { contact: name, verified: matches },
        ContactWhat::Receipts { name, when } => Request::Receipts { contact: name, when },
        ContactWhat::Timer { name, after } => Request::Timer { contact: name, seconds: after.seconds() },
        ContactWhat::Block { name } => Request::Block { contact: name },
        ContactWhat::Unblock { name } => Request::Unblock { contact: name },
        ContactWhat::List | ContactWhat::Requests | ContactWhat::Remove { .. } => {
            unreachable!("these have answers of their own")
        }
    })
}

async fn list(caller: &mut Caller, out: &mut Output<'_>) -> anyhow::Result<()> {
    let contacts = ask(caller, Request::Contacts, contacts).await?;
    let words = if contacts.is_empty() {
        "nobody yet: `trefoil invite create` makes a link for somebody, `trefoil contact add` asks somebody".to_owned()
    } else {
        table(&contacts.iter().map(row).collect::<Vec<_>>())
    };
    Ok(out.answer(&Answer::Contacts(contacts), |_| words)?)
}

async fn requests(caller: &mut Caller, out: &mut Output<'_>) -> anyhow::Result<()> {
    let mut requests = ask(caller, Request::Contacts, contacts).await?;
    requests.retain(|contact| contact.standing == Standing::Asks);
    let words = match requests.as_slice() {
        [] => "nobody asks".to_owned(),
        some => some.iter().map(request_words).collect::<Vec<_>>().join("\n"),
    };
    Ok(out.answer(&Answer::Contacts(requests), |_| words)?)
}

async fn safety(name: String, caller: &mut Caller, out: &mut Output<'_>) -> anyhow::Result<()> {
    let shown = visible(&name);
    let number = ask(caller, Request::Safety { contact: name }, |answer| match answer {
        Answer::Safety(number) => Some(number),
        _ => None,
    });
    let number = number.await?;
    let groups: Vec<_> = number.split_whitespace().map(visible).collect();
    let groups = groups.chunks(4).map(|groups| groups.join(" ")).collect::<Vec<_>>().join("\n  ");
    let words = format!(
        "  {groups}\n\nCompare it with what {shown} sees, by voice or side by side: all 60 digits.\n\
         Then: trefoil contact verify {shown} --matches    (or --differs)"
    );
    Ok(out.answer(&Answer::Safety(number), |_| words)?)
}

fn row(contact: &Contact) -> [String; 4] {
    let mut notes = Vec::new();
    if contact.unread > 0 {
        notes.push(format!("{} unread", contact.unread));
    }
    if contact.missing > 0 {
        notes.push(format!("{} missing", contact.missing));
    }
    if contact.timer > 0 {
        notes.push(format!("letters go away after {}", span(contact.timer)));
    }
    match contact.receipts {
        Receipts::Usual => {}
        Receipts::Slow => notes.push("slow receipts".to_owned()),
        Receipts::Off => notes.push("no receipts".to_owned()),
    }
    let verified = match (contact.standing, contact.verified) {
        (Standing::Accepted, true) => "verified",
        (Standing::Accepted, false) => "not verified",
        _ => "",
    };
    [visible(&contact.name), short(contact.standing).to_owned(), verified.to_owned(), notes.join(", ")]
}

fn request_words(contact: &Contact) -> String {
    let own_name = match contact.own_name.as_str() {
        "" => String::new(),
        own_name => format!(" (calls itself {})", visible(own_name)),
    };
    let greeting: String = lines(&contact.greeting).iter().map(|line| format!("\n    {line}")).collect();
    let greeting = if contact.greeting.is_empty() { String::new() } else { greeting };
    format!("{}{own_name}  {}{greeting}", visible(&contact.name), visible(&contact.address))
}

fn short(standing: Standing) -> &'static str {
    match standing {
        Standing::Asked => "asked",
        Standing::Asks => "asks you",
        Standing::Accepted => "contact",
        Standing::Blocked => "blocked",
    }
}

fn standing(contact: &Contact) -> String {
    let name = visible(&contact.name);
    match contact.standing {
        Standing::Asked => format!("{name} was asked; you can write when they have accepted"),
        Standing::Asks => format!("{name} asks you: trefoil contact accept {name}, or remove {name}"),
        Standing::Blocked => format!("{name} is blocked"),
        Standing::Accepted => {
            let verified = if contact.verified { "verified" } else { "not verified" };
            let timer = match contact.timer {
                0 => String::new(),
                seconds => format!(", letters go away {} after they were seen", span(seconds)),
            };
            format!("{name} is a contact, {verified}{timer}")
        }
    }
}

/// In the largest unit that fits.
pub(super) fn span(seconds: u32) -> String {
    let units = [(7 * 24 * 3600, "w"), (24 * 3600, "d"), (3600, "h"), (60, "m")];
    let fitting = units.iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    fitting.map_or_else(|| format!("{seconds}s"), |(unit, letter)| format!("{}{letter}", seconds / unit))
}

fn contact(answer: Answer) -> Option<Contact> {
    if let Answer::Contact(contact) = answer { Some(contact) } else { None }
}

pub(super) fn contacts(answer: Answer) -> Option<Vec<Contact>> {
    if let Answer::Contacts(contacts) = answer { Some(contacts) } else { None }
}

/// Bytes of an invite link, at most, that are read from standard input.
const INVITE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use trefoil_relay::status_socket::Form;

    use super::super::played::{Played, Reply, contact, output, text};
    use super::*;
    use crate::{cli::Timer, control::Code};

    /// What a command shows, and asks.
    async fn shown(what: ContactWhat, form: Form, answer: Answer) -> (String, Vec<Request>) {
        let (mut played, mut bytes) = (Played::always(answer), Vec::new());
        let ended = run(what, &mut played.caller, &mut output(&mut bytes, form)).await.unwrap();
        assert_eq!(ended, Ended::Done);
        (text(&bytes).to_owned(), played.asked())
    }

    fn alice() -> Contact {
        contact("alice", Standing::Accepted)
    }

    #[tokio::test]
    async fn contacts_are_shown_as_words_and_as_json() {
        let mallory = Contact { unread: 2, missing: 1, timer: 3600, ..contact("m\u{202e}x", Standing::Accepted) };
        let all = vec![Contact { verified: true, ..alice() }, contact("bob", Standing::Asks), mallory];
        let (words, asked) = shown(ContactWhat::List, Form::Words, Answer::Contacts(all.clone())).await;
        assert_eq!(asked, [Request::Contacts]);
        let expected = "alice       contact   verified\n\
                        bob         asks you\n\
                        m‹U+202E›x  contact   not verified  2 unread, 1 missing, letters go away after 1h\n";
        assert_eq!(words, expected);
        let (json, _) = shown(ContactWhat::List, Form::Json, Answer::Contacts(all.clone())).await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["version"], &json["contacts"][1]["standing"]), (&1.into(), &"asks".into()));
        let (none, _) = shown(ContactWhat::List, Form::Words, Answer::Contacts(vec![])).await;
        assert!(none.contains("invite create"), "{none}");
        let (requests, _) = shown(ContactWhat::Requests, Form::Json, Answer::Contacts(all)).await;
        let json: serde_json::Value = serde_json::from_str(&requests).unwrap();
        assert_eq!(json["contacts"].as_array().unwrap().len(), 1, "only those who ask");
    }

    #[tokio::test]
    async fn requests_are_shown_with_their_words_none_of_which_can_pretend_to_be_ours() {
        let asks = Contact {
            own_name: "Bo\u{200b}b".to_owned(),
            greeting: "hi\nalice  verified".to_owned(),
            ..contact("bob", Standing::Asks)
        };
        let (words, _) = shown(ContactWhat::Requests, Form::Words, Answer::Contacts(vec![asks])).await;
        assert_eq!(words, "bob (calls itself Bo‹U+200B›b)  bob-address\n    hi\n    alice  verified\n");
    }

    #[tokio::test]
    async fn each_command_asks_for_what_it_says() {
        let name = || "alice".to_owned();
        let wanted = [
            (ContactWhat::Accept { name: name() }, Request::Accept { contact: name() }),
            (
                ContactWhat::Rename { name: name(), new: "al".to_owned() },
                Request::Rename { contact: name(), name: "al".to_owned() },
            ),
            (
                ContactWhat::Verify { name: name(), matches: true, differs: false },
                Request::Verified { contact: name(), verified: true },
            ),
            (
                ContactWhat::Verify { name: name(), matches: false, differs: true },
                Request::Verified { contact: name(), verified: false },
            ),
            (
                ContactWhat::Receipts { name: name(), when: Receipts::Off },
                Request::Receipts { contact: name(), when: Receipts::Off },
            ),
            (
                ContactWhat::Timer { name: name(), after: Timer::After(60) },
                Request::Timer { contact: name(), seconds: 60 },
            ),
            (ContactWhat::Block { name: name() }, Request::Block { contact: name() }),
            (ContactWhat::Unblock { name: name() }, Request::Unblock { contact: name() }),
            (
                ContactWhat::Add { who: " trefoil:x ".to_owned(), name: name(), greeting: "hi".to_owned() },
                Request::Add { who: "trefoil:x".to_owned(), name: name(), greeting: "hi".to_owned() },
            ),
        ];
        for (what, request) in wanted {
            let (words, asked) = shown(what, Form::Words, Answer::Contact(alice())).await;
            assert_eq!((words.as_str(), asked), ("alice is a contact, not verified\n", vec![request]));
        }
        let (words, asked) = shown(ContactWhat::Remove { name: name() }, Form::Words, Answer::Nothing {}).await;
        assert_eq!((words.as_str(), asked), ("alice is forgotten\n", vec![Request::Remove { contact: name() }]));
    }

    #[tokio::test]
    async fn the_safety_number_is_shown_in_three_rows_with_what_to_do() {
        let number = (1..=12).map(|group| format!("{group:05}")).collect::<Vec<_>>().join(" ");
        let what = ContactWhat::Verify { name: "alice".to_owned(), matches: false, differs: false };
        let (words, asked) = shown(what, Form::Words, Answer::Safety(number)).await;
        assert!(words.starts_with("  00001 00002 00003 00004\n  00005"), "{words}");
        assert!(words.contains("--matches"), "{words}");
        assert_eq!(asked, [Request::Safety { contact: "alice".to_owned() }]);
    }

    #[tokio::test]
    async fn what_the_running_one_says_against_it_is_the_error() {
        let mut played = Played::start(|_| vec![Reply::Problem(Code::UnknownContact, "nobody is called al")]);
        let mut bytes = Vec::new();
        let what = ContactWhat::Accept { name: "al".to_owned() };
        let error = run(what, &mut played.caller, &mut output(&mut bytes, Form::Words)).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), bytes.len()), ("nobody is called al", 0));
        let mut played = Played::always(Answer::Nothing {});
        let error = run(ContactWhat::List, &mut played.caller, &mut output(&mut bytes, Form::Words)).await.unwrap_err();
        assert!(error.to_string().contains("another version"), "{error}");
    }

    #[test]
    fn spans_are_in_the_largest_unit_that_fits() {
        assert_eq!([span(1_209_600), span(86_400), span(7200), span(90), span(0)], ["2w", "1d", "2h", "90s", "0s"]);
    }
}
