//! `trefoil doctor`: goes through what can be wrong, and says what to do.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
};

use serde::Serialize;
use trefoil_protocol::limits::{CLOCK_TOLERANCE, PATH_HOPS};
use trefoil_relay::{file::check_mode, network::NetworkFile};

use super::{
    Ended, Output,
    output::table,
    place::Place,
    status::{self, Told},
    visible,
};
use crate::cli::Whose;

/// What was looked at, and how it is.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
    check: &'static str,
    is: Is,
    /// What there is, or what to do.
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Is {
    Well,
    Wrong,
    /// It cannot be told.
    Unknown,
}

#[derive(Serialize)]
struct Checks {
    checks: Vec<Check>,
}

pub(super) async fn run(whose: &Whose, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    let mut checks: Vec<_> = whose.network.as_deref().map(network_file).into_iter().collect();
    if checks.iter().all(|check| check.is != Is::Wrong) {
        let place = Place::of(whose)?;
        checks.push(directory(&place.data_dir));
        checks.push(profile(&place));
        let told = status::told(&place).await;
        checks.push(lock(&place.data_dir, told.is_ok()));
        match told {
            Ok(told) => checks.extend(running(&told)),
            Err(error) => checks.push(Check::wrong("running", format!("{error}; start `trefoil up`"))),
        }
    }
    let ended = if checks.iter().any(|check| check.is == Is::Wrong) { Ended::Unwell } else { Ended::Done };
    match out.is_json() {
        true => out.json(&Checks { checks })?,
        false => out.print(&table(&checks.iter().map(Check::row).collect::<Vec<_>>()))?,
    }
    Ok(ended)
}

impl Check {
    fn well(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, is: Is::Well, text: text.into() }
    }

    fn wrong(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, is: Is::Wrong, text: text.into() }
    }

    fn unknown(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, is: Is::Unknown, text: text.into() }
    }

    fn row(&self) -> [String; 3] {
        let is = match self.is {
            Is::Well => "well",
            Is::Wrong => "WRONG",
            Is::Unknown => "?",
        };
        [self.check.to_owned(), is.to_owned(), visible(&self.text)]
    }
}

fn network_file(path: &Path) -> Check {
    match NetworkFile::load(path) {
        Ok(file) => Check::well("network file", format!("the network \"{}\"", file.params.name)),
        Err(error) => Check::wrong("network file", error.to_string()),
    }
}

fn directory(path: &Path) -> Check {
    const NAME: &str = "data directory";
    match fs::metadata(path) {
        Err(error) => Check::wrong(NAME, format!("cannot look at {}: {error}; `trefoil up` makes it", path.display())),
        Ok(metadata) if !metadata.is_dir() => Check::wrong(NAME, format!("{} is no directory", path.display())),
        Ok(metadata) => match check_mode(path, &metadata) {
            Ok(()) => Check::well(NAME, format!("{} is yours alone", path.display())),
            Err(error) => Check::wrong(NAME, error.to_string()),
        },
    }
}

fn profile(place: &Place) -> Check {
    let name = &place.profile.name;
    let vault = place.profile.vault();
    match fs::metadata(&vault) {
        Err(_) => Check::wrong("profile", format!("there is no profile \"{name}\": `trefoil id new` makes one")),
        Ok(metadata) => match check_mode(&vault, &metadata) {
            Ok(()) => Check::well("profile", format!("\"{name}\" is there")),
            Err(error) => Check::wrong("profile", error.to_string()),
        },
    }
}

/// Whether somebody holds the data directory who does not answer.
fn lock(directory: &Path, is_answered: bool) -> Check {
    let held = match File::open(directory.join(LOCK)).map(|file| file.try_lock_shared()) {
        Err(_) | Ok(Ok(())) => false,
        Ok(Err(TryLockError::WouldBlock)) => true,
        Ok(Err(TryLockError::Error(error))) => return Check::unknown("lock", format!("cannot be tried: {error}")),
    };
    match (held, is_answered) {
        (true, false) => Check::wrong("lock", "a trefoil holds the data directory, and does not answer: end it"),
        (true, true) => Check::well("lock", "held by the one that runs"),
        (false, _) => Check::well("lock", "held by nobody"),
    }
}

/// What the running one says of itself.
fn running(told: &Told) -> Vec<Check> {
    let client = &told.client;
    let relays = match &client.trouble {
        _ if client.usable >= PATH_HOPS => {
            Check::well("relays", format!("{} known, {} usable", client.known, client.usable))
        }
        Some(trouble) => Check::wrong("relays", trouble),
        None => Check::wrong("relays", "the network's relays are not known yet: wait, or look at --bootstrap"),
    };
    vec![
        Check::well("running", "it answers"),
        relays,
        clock(client.clock_behind_minutes),
        letters(told),
        mailboxes(told),
    ]
}

fn clock(behind: Option<i64>) -> Check {
    let tolerated = i64::try_from(CLOCK_TOLERANCE / 60).unwrap_or(i64::MAX);
    match behind {
        None => Check::unknown("clock", "not compared with others yet"),
        Some(behind) if behind.abs() <= tolerated => Check::well("clock", "right, by those of others"),
        Some(behind) if behind > 0 => Check::wrong("clock", format!("{behind} min behind others: set it right")),
        Some(behind) => Check::wrong("clock", format!("{} min ahead of others: set it right", -behind)),
    }
}

fn letters(told: &Told) -> Check {
    match told.letters {
        Some(_) => Check::well("letters", "the profile runs"),
        None => Check::wrong("letters", "nobody answers for the profile: start `trefoil up` with it"),
    }
}

fn mailboxes(told: &Told) -> Check {
    match &told.letters {
        None => Check::unknown("mailboxes", "nobody asks them"),
        Some(letters) => match (letters.mailboxes, letters.answered) {
            ((_, 0), _) => Check::unknown("mailboxes", "none was asked yet"),
            ((0, asked), _) | ((_, asked), None) => {
                Check::wrong("mailboxes", format!("none of {asked} answers: letters wait until some do"))
            }
            ((answering, asked), Some(seconds)) => {
                Check::well("mailboxes", format!("{answering} of {asked} answered, the last {seconds} s ago"))
            }
        },
    }
}

/// The lock of a data directory: see `relay/src/data_dir.rs`.
const LOCK: &str = "lock";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use trefoil_relay::{data_dir::DataDir, status_socket::Form};

    use super::super::played::{output, text};
    use super::*;
    use crate::status::{Status, tests::status};

    fn told(client: Status) -> Told {
        Told { client, letters: None }
    }

    #[test]
    fn what_the_running_one_says_is_well_or_wrong() {
        let find =
            |client: Status, name: &str| running(&told(client)).into_iter().find(|check| check.check == name).unwrap();
        assert_eq!(find(status(), "relays"), Check::well("relays", "8 known, 8 usable"));
        let few = Status { usable: 2, trouble: Some("two are too few".to_owned()), ..status() };
        assert_eq!(find(few, "relays"), Check::wrong("relays", "two are too few"));
        for (behind, is) in [(None, Is::Unknown), (Some(0), Is::Well), (Some(-95), Is::Wrong), (Some(95), Is::Wrong)] {
            assert_eq!(clock(behind).is, is, "{behind:?}");
        }
        assert!(clock(Some(-95)).text.contains("95 min ahead"));
        assert_eq!((find(status(), "letters").is, find(status(), "mailboxes").is), (Is::Wrong, Is::Unknown));
    }

    #[test]
    fn a_directory_that_others_can_reach_is_wrong_and_so_is_one_that_is_not_there() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        assert_eq!(directory(&path).is, Is::Wrong);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let open = directory(&path);
        assert!(open.is == Is::Wrong && open.text.contains("chmod"), "{open:?}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(directory(&path).is, Is::Well);
    }

    #[test]
    fn a_lock_that_is_held_by_one_who_does_not_answer_is_wrong() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        assert_eq!(lock(&path, false).is, Is::Well, "there is none");
        let (_directory, held) = DataDir::open(&path).unwrap();
        assert_eq!((lock(&path, true).is, lock(&path, false).is), (Is::Well, Is::Wrong));
        drop(held);
        assert_eq!(lock(&path, false), Check::well("lock", "held by nobody"));
    }

    #[tokio::test]
    async fn where_nothing_is_there_it_is_said_what_to_do_and_the_shell_is_told() {
        let place = tempfile::tempdir().unwrap();
        let whose = Whose { data_dir: Some(place.path().join("none")), ..Whose::default() };
        let mut bytes = Vec::new();
        assert_eq!(run(&whose, &mut output(&mut bytes, Form::Words)).await.unwrap(), Ended::Unwell);
        let words = text(&bytes).to_owned();
        assert!(words.contains("id new") && words.contains("start `trefoil up`"), "{words}");
        bytes.clear();
        run(&whose, &mut output(&mut bytes, Form::Json)).await.unwrap();
        let json: serde_json::Value = serde_json::from_str(text(&bytes)).unwrap();
        assert_eq!((&json["version"], &json["checks"][0]["is"]), (&1.into(), &"wrong".into()));
        let whose = Whose { network: Some(place.path().join("none.toml")), ..Whose::default() };
        bytes.clear();
        assert_eq!(run(&whose, &mut output(&mut bytes, Form::Words)).await.unwrap(), Ended::Unwell);
        assert!(text(&bytes).starts_with("network file  WRONG"), "{}", text(&bytes));
    }
}
