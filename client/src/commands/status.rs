//! `trefoil status`: how the running up, proxy or forward is, and the letters of a profile that runs in it.

use std::{fmt, io};

use serde::Serialize;
use tokio::time::timeout;
use trefoil_protocol::limits::STATUS_TIMEOUT;
use trefoil_relay::{
    status as relay,
    status_socket::{self, Form},
};

use super::{Ended, Output, ask, place::Place};
use crate::{
    cli,
    control::{Answer, Request, State, caller::Caller},
    status::{Status, WHO},
    up,
};

/// What is told.
#[derive(Serialize)]
pub(super) struct Told {
    #[serde(flatten)]
    pub(super) client: Status,
    /// Where a profile runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) letters: Option<Letters>,
}

/// How the letters of a profile are.
#[derive(Serialize)]
pub(super) struct Letters {
    waiting: usize,
    unread: usize,
    /// Those that answered, of those that were asked.
    pub(super) mailboxes: (usize, usize),
    pub(super) answered: Option<u64>,
    /// Seconds since a part of the backup was left.
    backed_up: Option<u64>,
    restoring: bool,
}

pub(super) async fn run(arguments: &cli::Status, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    let place = Place::of(&arguments.whose)?;
    let form = if out.is_json() { Form::Json } else { Form::Words };
    let beside = up::relay_directory(&place.data_dir);
    match (arguments.relay, arguments.follow) {
        (true, false) => relay::show(&beside, form).await?,
        (true, true) => relay::follow(&beside, form).await,
        (false, false) => print(&told(&place).await?, out)?,
        (false, true) => status_socket::follow_by(async || told(&place).await, |told| print(told, out)).await,
    }
    Ok(Ended::Done)
}

/// What the running one tells.
pub(super) async fn told(place: &Place) -> Result<Told, status_socket::AskError> {
    let client = status_socket::ask::<Status>(&place.data_dir, WHO).await?;
    Ok(Told { client, letters: letters(place).await })
}

/// `None` where the profile does not run, or does not answer.
async fn letters(place: &Place) -> Option<Letters> {
    let mut caller = Caller::connect(&place.profile.socket()).await.ok()?;
    let asked =
        ask(&mut caller, Request::State, |answer| if let Answer::State(state) = answer { Some(state) } else { None });
    let state = timeout(STATUS_TIMEOUT, asked).await.ok()?.ok()?;
    let State { waiting, unread, mailboxes, answered, backed_up, restoring, .. } = state;
    Some(Letters { waiting, unread, mailboxes, answered, backed_up, restoring })
}

fn print(told: &Told, out: &mut Output<'_>) -> io::Result<()> {
    if out.is_json() { out.json(told) } else { out.print(told.to_string().trim_end()) }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(letters) = &self.letters {
            let Letters { waiting, unread, mailboxes: (answering, asked), answered, .. } = letters;
            let last = match answered {
                None => "none has answered yet".to_owned(),
                Some(seconds) => format!("{answering} of {asked} answered, the last {seconds} s ago"),
            };
            writeln!(f, "letters    {unread} unread, {waiting} on their way out")?;
            writeln!(f, "mailboxes  {last}")?;
            writeln!(f, "backup     {}", letters.backup())?;
        }
        self.client.fmt(f)
    }
}

impl Letters {
    fn backup(&self) -> String {
        let hours = self.backed_up.map(|seconds| seconds / 3600);
        match (self.restoring, hours) {
            (true, _) => "what an earlier device left is looked for".to_owned(),
            (false, None) => "none was left yet".to_owned(),
            (false, Some(0)) => "left within the last hour".to_owned(),
            (false, Some(hours)) => format!("left {hours} h ago"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::status;

    #[test]
    fn the_letters_are_told_beside_the_client() {
        let letters = Letters {
            waiting: 2,
            unread: 1,
            mailboxes: (4, 5),
            answered: Some(7),
            backed_up: Some(7200),
            restoring: false,
        };
        let told = Told { client: status(), letters: Some(letters) };
        let words = told.to_string();
        let first = "letters    1 unread, 2 on their way out\nmailboxes  4 of 5 answered, the last 7 s ago\nbackup     left 2 h ago\n";
        assert!(words.starts_with(first), "{words}");
        assert!(words.ends_with("all is well\n"), "{words}");
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!((&json["known"], &json["letters"]["mailboxes"][0]), (&8.into(), &4.into()));
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status(), "who knows no letters can read it");
        let none = Told { client: status(), letters: None };
        assert!(serde_json::to_value(&none).unwrap().get("letters").is_none());
    }
}
