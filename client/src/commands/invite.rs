//! `trefoil invite`: links by which somebody becomes a contact, and relays by which somebody finds the network.

use anyhow::Context;
use jiff::tz::TimeZone;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use rand::{SeedableRng, rngs::StdRng};
use trefoil_protocol::limits::INVITE_LONGEST;
use trefoil_relay::{clock::Clock, network::NetworkFile, seed::seed};

use super::{
    Ended, Output, Usage, ask,
    output::{local, table},
    visible,
};
use crate::{
    cli::{InviteWhat, Span, Whose},
    control::{Answer, Invite, Request, caller::Caller},
    invite::draw,
    state::{self, State},
};

pub(super) async fn run(what: InviteWhat, caller: &mut Caller, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    match what {
        InviteWhat::Create { name, valid, reusable, no_qr } => {
            let request = Request::Invite { name, hours: hours(valid)?, reusable };
            let invite = ask(caller, request, |answer| match answer {
                Answer::Invite(invite) => Some(invite),
                _ => None,
            });
            let invite = invite.await?;
            let picture = !no_qr && out.is_terminal;
            out.answer(&Answer::Invite(invite.clone()), |zone| new_in_words(&invite, zone, picture))?;
        }
        InviteWhat::List | InviteWhat::Relays { .. } => {
            let invites = ask(caller, Request::Invites, |answer| match answer {
                Answer::Invites(invites) => Some(invites),
                _ => None,
            });
            let invites = invites.await?;
            out.answer(&Answer::Invites(invites.clone()), |zone| list_in_words(&invites, zone))?;
        }
        InviteWhat::Revoke { name } => {
            let answer = caller.call(Request::Revoke { name: name.clone() }).await?;
            out.answer(&answer, |_| format!("the invite {} counts no more", visible(&name)))?;
        }
    }
    Ok(Ended::Done)
}

/// Prints some relays of the network.
pub(super) fn relays(whose: &Whose, relays: usize, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    let file = whose.network.as_ref();
    let file = file.ok_or_else(|| Usage("of which network? pass --network FILE".to_owned()))?;
    let network = NetworkFile::load(file)?;
    let directory = match &whose.data_dir {
        Some(directory) => Some(directory.clone()),
        None => state::default_directory(&network.params),
    };
    let state = match directory.filter(|directory| directory.is_dir()) {
        Some(directory) => State::open(&directory)?,
        None => State::none(),
    };
    let rng = StdRng::from_seed(seed());
    let invite = draw(&network, &state, relays, Clock::System.now(), rng)?
        .context("no relay is known: use the network first, or a network file that names one")?;
    let name = &network.params.name;
    let text =
        format!("# Relays of the network \"{name}\", for --bootstrap-file. The network file is needed, too.\n{invite}");
    match out.is_json() {
        true => out.json(&serde_json::json!({ "relays": text }))?,
        false => out.print(&text)?,
    }
    Ok(Ended::Done)
}

/// Whole hours, none too few.
fn hours(valid: Span) -> anyhow::Result<u32> {
    let seconds = valid.0.as_secs();
    if !(1..=INVITE_LONGEST).contains(&seconds) {
        let days = INVITE_LONGEST / (24 * 3600);
        return Err(Usage(format!("an invite counts for at least an hour and at most {days} days")).into());
    }
    Ok(u32::try_from(seconds.div_ceil(3600)).expect("a year has fewer hours"))
}

fn new_in_words(invite: &Invite, zone: &TimeZone, picture: bool) -> String {
    let link = visible(invite.link.as_deref().unwrap_or_default());
    let picture = if picture { qr(&link).map(|picture| picture + "\n") } else { None };
    let times = if invite.reusable { "as often as it is used" } else { "once" };
    format!(
        "{}{link}\n\nThe invite {} counts {times}, until {}. Whoever uses it becomes your contact: give it only to\n\
         whom you mean, and not where others can read it.",
        picture.unwrap_or_default(),
        visible(&invite.name),
        local(invite.expires, zone),
    )
}

fn list_in_words(invites: &[Invite], zone: &TimeZone) -> String {
    let row = |invite: &Invite| {
        let times = if invite.reusable { "reusable" } else { "once" };
        let used = format!("used {}", invite.used);
        [visible(&invite.name), times.to_owned(), used, format!("until {}", local(invite.expires, zone))]
    };
    match invites {
        [] => "no invite counts now".to_owned(),
        invites => table(&invites.iter().map(row).collect::<Vec<_>>()),
    }
}

/// A link as a picture of half blocks, light on dark as terminals are. Capitals take fewer dots, and a link has no case.
fn qr(link: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(link.to_ascii_uppercase(), EcLevel::L).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use trefoil_relay::status_socket::Form;

    use super::super::played::{Played, output, text};
    use super::*;

    fn invite(link: Option<&str>) -> Invite {
        let link = link.map(str::to_owned);
        Invite { name: "party".to_owned(), link, expires: 1_800_000_000, reusable: true, used: 3 }
    }

    async fn shown(what: InviteWhat, form: Form, terminal: bool, answer: Answer) -> (String, Vec<Request>) {
        let (mut played, mut bytes) = (Played::always(answer), Vec::new());
        let mut out = output(&mut bytes, form);
        out.is_terminal = terminal;
        run(what, &mut played.caller, &mut out).await.unwrap();
        (text(&bytes).to_owned(), played.asked())
    }

    fn create(valid: &str) -> InviteWhat {
        let valid = valid.parse().unwrap();
        InviteWhat::Create { name: "party".to_owned(), valid, reusable: true, no_qr: false }
    }

    #[tokio::test]
    async fn a_link_is_shown_on_a_line_of_its_own_and_on_terminals_as_a_picture() {
        let answer = || Answer::Invite(invite(Some("trefoil:abc")));
        let (words, asked) = shown(create("90m"), Form::Words, false, answer()).await;
        assert!(
            words.starts_with("trefoil:abc\n\nThe invite party counts as often as it is used, until 2027-01-15 10:00")
        );
        assert_eq!(asked, [Request::Invite { name: "party".to_owned(), hours: 2, reusable: true }]);
        let (picture, _) = shown(create("7d"), Form::Words, true, answer()).await;
        assert!(picture.contains('▀') && picture.contains("\ntrefoil:abc\n"), "{picture}");
        let (json, _) = shown(create("7d"), Form::Json, true, answer()).await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["version"], &json["invite"]["link"]), (&1.into(), &"trefoil:abc".into()));
    }

    #[test]
    fn a_picture_has_a_light_border_and_a_link_with_three_relays_fits_a_terminal() {
        let picture = qr(&format!("trefoil:{}", "abcdefgh27".repeat(90))).unwrap();
        let lines: Vec<_> = picture.lines().collect();
        assert!(lines.len() <= 55 && lines[0].chars().count() <= 110, "{} x {}", lines.len(), lines[0].chars().count());
        assert!(lines[0].chars().all(|dot| dot == '█'), "the border is lit");
        let (last, others) = lines.split_last().unwrap();
        assert!(others.iter().all(|line| line.starts_with("████") && line.ends_with("████")));
        assert!(last.chars().all(|dot| dot == '▀'), "half a row: {last}");
        assert!(qr(&"x".repeat(5000)).is_none(), "no picture is better than a wrong one");
    }

    #[tokio::test]
    async fn invites_are_listed_and_revoked() {
        let (words, _) = shown(InviteWhat::List, Form::Words, false, Answer::Invites(vec![invite(None)])).await;
        assert_eq!(words, "party  reusable  used 3  until 2027-01-15 10:00\n");
        let revoke = InviteWhat::Revoke { name: "party".to_owned() };
        let (words, asked) = shown(revoke, Form::Words, false, Answer::Nothing {}).await;
        assert_eq!(words, "the invite party counts no more\n");
        assert_eq!(asked, [Request::Revoke { name: "party".to_owned() }]);
    }

    #[test]
    fn an_invite_counts_for_some_time_but_not_for_ever() {
        let whole = |seconds| hours(Span(Duration::from_secs(seconds)));
        assert_eq!((whole(1).unwrap(), whole(3600).unwrap(), whole(3601).unwrap()), (1, 1, 2));
        assert!(whole(0).unwrap_err().is::<Usage>() && whole(INVITE_LONGEST + 1).is_err());
    }

    #[test]
    fn relays_are_asked_of_a_network_that_is_named_and_there() {
        let mut bytes = Vec::new();
        let error = relays(&Whose::default(), 5, &mut output(&mut bytes, Form::Words)).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("--network"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("network.toml");
        fs::write(&file, "nonsense").unwrap();
        let whose = Whose { network: Some(file), ..Whose::default() };
        relays(&whose, 5, &mut output(&mut bytes, Form::Words)).unwrap_err();
        assert!(bytes.is_empty());
    }
}
