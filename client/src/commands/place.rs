//! Place: where the person's network, data directory and profile are, and who answers for them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use trefoil_protocol::params::NetworkParams;
use trefoil_relay::network::NetworkFile;

use super::{Usage, unlock::Key};
use crate::{
    cli::Whose,
    control::caller::Caller,
    home,
    profile::{Profile, ProfileName},
    state,
};

/// Where the person's things are.
#[derive(Debug)]
pub struct Place {
    /// The network file, where one was named.
    pub network: Option<PathBuf>,
    /// The client's data directory.
    pub data_dir: PathBuf,
    /// Whose.
    pub profile: Profile,
    /// By what the profile is opened.
    pub key: Key,
}

/// Somebody who answers.
pub struct Reached {
    /// By whom to ask.
    pub caller: Caller,
    /// Whether it runs only for this command: what is queued waits when the command ends.
    pub is_own: bool,
}

impl Place {
    /// What the command line says.
    ///
    /// # Errors
    /// Where it does not say enough.
    pub fn of(whose: &Whose) -> anyhow::Result<Self> {
        Self::within(whose, state::all_directories())
    }

    /// The same, where the data directories of networks are in this one unless the command line names another.
    fn within(whose: &Whose, all: Option<PathBuf>) -> anyhow::Result<Self> {
        let name = whose.profile.clone().unwrap_or_default();
        let data_dir = match (&whose.data_dir, &whose.network) {
            (Some(directory), _) => directory.clone(),
            (None, Some(network)) => of_network(network)?,
            (None, None) => only_network(&name, all.as_deref())?,
        };
        let profile = Profile::of(&data_dir, name);
        Ok(Self { network: whose.network.clone(), data_dir, profile, key: Key::of(whose) })
    }
}

/// Who answers for the profile: the running trefoil, or one that the command runs for itself.
///
/// # Errors
/// Where nobody does, with what to do.
pub async fn caller(place: &Place) -> anyhow::Result<Reached> {
    let socket = place.profile.socket();
    match Caller::connect(&socket).await {
        Ok(caller) => Ok(Reached { caller, is_own: false }),
        Err(error) if is_nobody(&error) => own(place).await,
        Err(error) => {
            Err(error).with_context(|| format!("cannot ask at {}: ask as the user that runs trefoil", socket.display()))
        }
    }
}

/// One for this command alone.
async fn own(place: &Place) -> anyhow::Result<Reached> {
    let profile = &place.profile;
    anyhow::ensure!(profile.exists(), "there is no profile \"{}\": `trefoil id new` makes one", profile.name);
    let network = place.network.as_deref().with_context(|| {
        let name = &profile.name;
        format!("no trefoil is running with the profile \"{name}\": start `trefoil up`, or pass --network")
    })?;
    let caller = home::for_one_command(network, &place.data_dir, profile.clone(), &place.key).await?;
    Ok(Reached { caller, is_own: true })
}

/// Whether nobody serves a socket.
pub(super) fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn of_network(file: &Path) -> anyhow::Result<PathBuf> {
    let params = NetworkFile::load(file)?.params;
    default_directory(&params)?.context(
        "a network of local relays has no data directory unless one is named: pass --data-dir, \
         the one that `trefoil up` was started with",
    )
}

/// That of the only network in which there is such a profile.
fn only_network(name: &ProfileName, all: Option<&Path>) -> anyhow::Result<PathBuf> {
    let entries = all.and_then(|all| fs::read_dir(all).ok()).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).collect();
    found.retain(|directory| Profile::of(directory, name.clone()).exists());
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Usage(format!(
            "there is no profile \"{name}\" yet: pass --network or --data-dir, and `trefoil id new` makes one"
        ))
        .into()),
        several => {
            let names = several.iter().filter_map(|path| path.file_name()).map(|name| name.display().to_string());
            let names = names.collect::<Vec<_>>().join(", ");
            Err(Usage(format!("there is a profile \"{name}\" in several networks ({names}): pass --network")).into())
        }
    }
}

/// Where a client of this network keeps its state. A network of local relays is for trying things out: its relays are
/// new each time, so nothing is worth keeping.
///
/// # Errors
/// Where there is no home directory.
pub fn default_directory(params: &NetworkParams) -> anyhow::Result<Option<PathBuf>> {
    if params.allow_loopback {
        return Ok(None);
    }
    let directory = state::default_directory(params);
    directory.map(Some).context("there is no home directory to keep guards in: pass --data-dir, or --no-state")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(data_dir: Option<PathBuf>, profile: &str) -> Whose {
        Whose { data_dir, profile: Some(profile.parse().unwrap()), ..Whose::default() }
    }

    fn profile(data_dir: &Path, name: &str) {
        let profile = Profile::of(data_dir, name.parse().unwrap());
        fs::create_dir_all(&profile.directory).unwrap();
        fs::write(profile.vault(), "").unwrap();
    }

    #[test]
    fn where_only_one_network_has_the_profile_it_need_not_be_named() {
        let all = tempfile::tempdir().unwrap();
        let find = |name: &str| Place::within(&whose(None, name), Some(all.path().to_owned()));
        let said = find("work").unwrap_err();
        assert!(said.is::<Usage>() && said.to_string().contains("id new"), "{said}");
        profile(&all.path().join("main"), "work");
        profile(&all.path().join("main"), "home");
        fs::create_dir(all.path().join("other")).unwrap();
        assert_eq!(find("work").unwrap().data_dir, all.path().join("main"));
        profile(&all.path().join("other"), "work");
        assert!(find("work").unwrap_err().to_string().contains("main, other"));
        assert_eq!(find("home").unwrap().data_dir, all.path().join("main"));
    }

    #[tokio::test]
    async fn where_nobody_answers_it_is_said_what_to_start() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of(&whose(Some(directory.path().to_owned()), "work")).unwrap();
        assert_eq!(place.profile.directory, directory.path().join("profiles/work"));
        let said = async || caller(&place).await.err().unwrap().to_string();
        assert!(said().await.contains("trefoil id new"));
        profile(directory.path(), "work");
        let said = said().await;
        assert!(said.contains("\"work\"") && said.contains("trefoil up"), "{said}");
    }

    #[tokio::test]
    async fn whoever_serves_the_socket_answers() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of(&whose(Some(directory.path().to_owned()), "work")).unwrap();
        fs::create_dir_all(&place.profile.directory).unwrap();
        let _listener = tokio::net::UnixListener::bind(place.profile.socket()).unwrap();
        assert!(!caller(&place).await.unwrap().is_own);
    }
}
