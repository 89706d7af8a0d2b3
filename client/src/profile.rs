//! Profiles: the people whose letters a client keeps, each in a directory of its own.
//!
//! Specification: docs/user-guide.md, "Profiles". A profile is a name, a directory, and the vault in it (`letters/vault`).

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use trefoil_protocol::limits::PROFILE_NAME;

use crate::control::SOCKET;

/// A profile's name: 1 to 32 characters from `a-z`, `0-9`, `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileName(String);

/// The text is not a profile's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a profile's name has 1 to {PROFILE_NAME} characters from a-z, 0-9 and -")]
pub struct BadProfileName;

/// Where a profile is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// Its directory.
    pub directory: PathBuf,
}

impl Profile {
    /// The one of this name in a client's data directory.
    pub fn of(data_dir: &Path, name: ProfileName) -> Self {
        let directory = data_dir.join(DIRECTORY).join(&name.0);
        Self { name, directory }
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.vault().exists()
    }

    /// What is kept in it.
    pub fn vault(&self) -> PathBuf {
        self.directory.join(VAULT)
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }
}

/// The one that is meant where none is named.
impl Default for ProfileName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for ProfileName {
    type Err = BadProfileName;

    fn from_str(text: &str) -> Result<Self, BadProfileName> {
        let is_good = |character| matches!(character, 'a'..='z' | '0'..='9' | '-');
        let has_length = (1..=PROFILE_NAME).contains(&text.len());
        if has_length && text.chars().all(is_good) { Ok(Self(text.to_owned())) } else { Err(BadProfileName) }
    }
}

impl ProfileName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// In the client's data directory.
const DIRECTORY: &str = "profiles";
/// The vault's file in a profile's directory.
const VAULT: &str = "letters.redb";
