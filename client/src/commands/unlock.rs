//! Unlocking: how a command learns the passphrase of a profile.
//!
//! From the terminal without an echo, from the first line of a file, or not at all, where a key file opens the profile.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use trefoil_protocol::limits::PASSPHRASE;
use trefoil_relay::file::check_mode;
use zeroize::Zeroizing;

use crate::cli::Whose;

/// By what a profile is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A passphrase that the person types.
    Asked,
    /// A passphrase in the first line of this file.
    PassphraseFile(PathBuf),
    /// This file's bytes.
    KeyFile(PathBuf),
}

/// What opens a profile.
pub enum Opener {
    /// A passphrase.
    Passphrase(Zeroizing<String>),
    /// A key file.
    KeyFile(PathBuf),
}

impl Key {
    /// What the command line says.
    pub fn of(whose: &Whose) -> Self {
        Self::from_files(whose.passphrase_file.as_deref(), whose.key_file.as_deref())
    }

    /// The file that holds a passphrase, or opens the profile itself; without either the person is asked.
    pub fn from_files(passphrase: Option<&Path>, key: Option<&Path>) -> Self {
        match (passphrase, key) {
            (Some(file), _) => Self::PassphraseFile(file.to_owned()),
            (None, Some(file)) => Self::KeyFile(file.to_owned()),
            (None, None) => Self::Asked,
        }
    }

    /// Opens what is there: asks the person once, if at all.
    ///
    /// # Errors
    /// Where there is no terminal, or the file cannot be read.
    pub fn open(&self) -> anyhow::Result<Opener> {
        self.opener(|| ask_hidden("passphrase: "))
    }

    /// For what is made anew: asks the person twice, if at all.
    ///
    /// # Errors
    /// The same, or both are not the same.
    pub fn choose(&self) -> anyhow::Result<Opener> {
        self.opener(|| {
            let first = ask_hidden("new passphrase: ")?;
            ensure!(!first.is_empty(), "an empty passphrase protects nothing: choose one, or pass --key-file");
            ensure!(first == ask_hidden("the same again: ")?, "the two passphrases are not the same: nothing was made");
            Ok(first)
        })
    }

    fn opener(&self, ask: impl FnOnce() -> anyhow::Result<Zeroizing<String>>) -> anyhow::Result<Opener> {
        Ok(match self {
            Self::Asked => Opener::Passphrase(ask()?),
            Self::PassphraseFile(file) => Opener::Passphrase(of_file(file)?),
            Self::KeyFile(file) => Opener::KeyFile(file.clone()),
        })
    }
}

fn of_file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let file = File::open(path).with_context(|| format!("cannot read the passphrase file {}", path.display()))?;
    let metadata = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    if metadata.is_file() {
        check_mode(path, &metadata)?; // a pipe of the shell has no mode of its own
    }
    let line = first_line(file).with_context(|| format!("cannot use the passphrase file {}", path.display()))?;
    ensure!(!line.is_empty(), "the first line of {} is empty: the passphrase goes there", path.display());
    Ok(line)
}

/// Asks on the terminal, whatever standard input and output are; what is typed is not shown.
///
/// # Errors
/// Where there is no terminal.
pub fn ask_hidden(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let terminal = terminal.context("there is no terminal to ask: pass --passphrase-file or --key-file")?;
    let quiet = Quiet::start(&terminal).context("cannot turn off the terminal's echo")?;
    (&terminal).write_all(prompt.as_bytes())?;
    let line = typed_line(&terminal).context("cannot read from the terminal");
    (&terminal).write_all(b"\n")?;
    drop(quiet);
    line
}

fn first_line(input: impl Read) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(PASSPHRASE + 2)); // growing would leave copies behind
    BufReader::with_capacity(1, input.take(PASSPHRASE as u64 + 2)).read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    if end > PASSPHRASE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    line.truncate(end);
    Ok(line)
}

/// What a person types up to the end of the line. Keys come one by one, Ctrl-C too: a signal would end the program and
/// leave the terminal without its echo.
fn typed_line(mut input: impl Read) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE));
    let mut key = [0];
    loop {
        input.read_exact(&mut key)?;
        match key[0] {
            b'\r' | b'\n' => break,
            CONTROL_C | CONTROL_D => return Err(io::Error::other("interrupted")),
            CONTROL_U => line.clear(),
            BACKSPACE | DELETE => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}, // all of a character
            _ if line.len() == PASSPHRASE => return Err(io::Error::other("it is too long")),
            byte => line.push(byte),
        }
    }
    let text = str::from_utf8(&line).map_err(|_| io::Error::other("it is not in UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A terminal that shows nothing of what is typed, until dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn start(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before); // there is no one left to tell
    }
}

const CONTROL_C: u8 = 3;
const CONTROL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CONTROL_U: u8 = 21;
const DELETE: u8 = 127;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn passphrase(opener: Opener) -> String {
        match opener {
            Opener::Passphrase(passphrase) => passphrase.to_string(),
            Opener::KeyFile(file) => panic!("a key file: {}", file.display()),
        }
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_a_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passphrase");
        let key = Key::PassphraseFile(path.clone());
        assert!(key.open().err().unwrap().to_string().contains("cannot read the passphrase file"));
        fs::write(&path, "correct horse \nnot this\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(key.open().err().unwrap().to_string().contains("chmod"), "others can read it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(passphrase(key.open().unwrap()), "correct horse ");
        fs::write(&path, "\nsecond").unwrap();
        assert!(key.choose().err().unwrap().to_string().contains("is empty"));
        fs::write(&path, "x".repeat(PASSPHRASE + 1)).unwrap();
        assert!(format!("{:#}", key.open().err().unwrap()).contains("too long"));
    }

    #[test]
    fn a_line_is_taken_whole_and_never_a_byte_of_the_next() {
        let mut input = &b"one\r\ntwo\n"[..];
        assert_eq!(*first_line(&mut input).unwrap(), "one");
        assert_eq!(*first_line(&mut input).unwrap(), "two");
        assert_eq!(*first_line(&mut input).unwrap(), "");
    }

    #[test]
    fn what_is_typed_can_be_mended_and_given_up() {
        let typed = |keys: &[u8]| typed_line(keys).map(|line| line.to_string());
        assert_eq!(typed(b"wrong\x15pax\x7fss\nmore").unwrap(), "pass");
        assert_eq!(typed("aü\u{8}b漢\u{7f}\u{7f}\u{7f}\u{7f}x\r".as_bytes()).unwrap(), "x");
        assert!(typed(b"half\x03\n").unwrap_err().to_string().contains("interrupted"));
        assert!(typed(b"half").is_err(), "the terminal is gone");
        assert!(typed(b"\xff\n").unwrap_err().to_string().contains("UTF-8"));
        assert!(typed(&[b'x'; PASSPHRASE + 1]).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn the_command_line_says_by_what_a_profile_is_opened() {
        let file = |name: &str| Some(PathBuf::from(name));
        assert_eq!(Key::of(&Whose::default()), Key::Asked);
        let whose = Whose { passphrase_file: file("p"), ..Whose::default() };
        assert_eq!(Key::of(&whose), Key::PassphraseFile("p".into()));
        let whose = Whose { key_file: file("k"), ..Whose::default() };
        assert_eq!(Key::of(&whose), Key::KeyFile("k".into()));
        assert!(matches!(Key::of(&whose).open().unwrap(), Opener::KeyFile(file) if file == Path::new("k")));
    }
}
