//! Home: a person's letters, at work over a client: in `trefoil up`, or in a command that does it for itself.
//!
//! Specification: docs/user-guide.md, "Letters". Here profile, network and client come together.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, ensure};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{net::UnixStream, time::timeout};
use tokio_util::sync::CancellationToken;
use trefoil_protocol::{
    crypto::{PassphraseCost, Secret},
    limits::{OWN_PATIENCE, PROFILE_FILE, TICKETS_BOUGHT},
    params::NetworkParams,
    phrase::Phrase,
};
use trefoil_relay::{
    clock::Clock,
    file::{self, Access},
    network::NetworkFile,
    seed::seed,
};
use zeroize::Zeroizing;

use crate::{
    cli::{self, Opening},
    commands::{
        place::default_directory,
        unlock::{Key, Opener},
    },
    control::{
        Me, VERSION,
        caller::Caller,
        server::{self, Server},
    },
    desk::{About, Desk},
    letters::{
        Letters, Settings,
        vault::{self, Place, Unlock},
    },
    postman,
    profile::Profile,
    start,
    tunnel::Client,
};

/// Letters that were opened, and have no network yet.
pub struct Home {
    letters: Letters,
    profile: Profile,
    network: NetworkFile,
}

/// A person's program at work.
pub struct AtHome {
    desk: Arc<Desk>,
    client: Client,
    profile: Profile,
}

impl Home {
    /// What `trefoil up` is to see to: the profile that is named, or the default one if there is one.
    ///
    /// # Errors
    /// Where it cannot be opened, or is not there and was named.
    pub fn wanted(opening: &Opening, of: &cli::Network, network: &NetworkFile) -> anyhow::Result<Option<Self>> {
        if opening.no_letters {
            return Ok(None);
        }
        let directory = match &of.data_dir {
            Some(directory) => Some(directory.clone()),
            None => default_directory(&network.params)?,
        };
        let profile = directory.map(|directory| Profile::of(&directory, opening.profile.clone().unwrap_or_default()));
        match profile {
            Some(profile) if profile.exists() => {
                let key = Key::from_files(opening.passphrase_file.as_deref(), opening.key_file.as_deref());
                Self::open(profile, &key, network.clone()).map(Some)
            }
            _ => {
                let name = opening.profile.as_ref();
                ensure!(
                    name.is_none(),
                    "there is no profile {:?}: `trefoil id new` makes one",
                    name.map(ToString::to_string)
                );
                Ok(None)
            }
        }
    }

    /// Opens a profile.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn open(profile: Profile, key: &Key, network: NetworkFile) -> anyhow::Result<Self> {
        let opener = key.open()?;
        let about = (network.params.id(), settings(&network.params));
        let letters = Letters::open(&at(&profile), &opener.unlock(), about, (Clock::System.now(), &secret()))?;
        Ok(Self { letters, profile, network })
    }

    /// Makes a profile, of a new person or the one of this phrase: who that is.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn make(profile: &Profile, key: &Key, params: &NetworkParams, phrase: Option<&str>) -> anyhow::Result<Me> {
        ensure!(!profile.exists(), "there is a profile \"{}\" already: choose another --profile", profile.name);
        let person = match phrase {
            Some(words) => Phrase::parse(words)?,
            None => Phrase::from_entropy(secret()),
        };
        if let Key::KeyFile(path) = key
            && !path.exists()
        {
            vault::new_key_file(path, &mut StdRng::from_seed(seed()))?;
        }
        let opener = key.choose()?;
        let (about, now) = ((params.id(), settings(params)), Clock::System.now());
        let mut letters =
            Letters::create(&at(profile), &opener.unlock(), (person.entropy(), ""), about, (now, &secret()))?;
        if phrase.is_some() {
            letters.look_for_backup(now)?;
        }
        Ok(me(profile, params, &letters))
    }

    /// Has the letters come and go over this client.
    pub fn move_in(self, client: Client) -> AtHome {
        let Self { letters, profile, network } = self;
        let about = About {
            profile: profile.name.clone(),
            network: network.params.name.to_string(),
            id: network.params.id(),
            clock: Clock::System,
            named: network.relays,
        };
        AtHome { desk: Desk::new(letters, client.clone(), about), client, profile }
    }
}

impl AtHome {
    /// Whose.
    pub fn profile(&self) -> &str {
        self.profile.name.as_str()
    }

    /// Answers programs and carries letters, until `shutdown`.
    ///
    /// # Errors
    /// Where the control socket cannot be made.
    pub async fn serve(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let socket = self.profile.socket();
        let server = Server::bind(&socket);
        let server = server.with_context(|| format!("cannot make the control socket {}", socket.display()))?;
        let work = async {
            tokio::join!(server.run(Arc::clone(&self.desk)), postman::run(Arc::clone(&self.desk), self.client.clone()))
        };
        shutdown.run_until_cancelled(work).await;
        Ok(())
    }

    /// For one command: whoever asks is answered for as long as it does.
    fn serve_one(self) -> std::io::Result<Caller> {
        let (near, far) = UnixStream::pair()?;
        tokio::spawn(async move {
            tokio::select! {
                () = server::answer(far, Arc::clone(&self.desk)) => {}
                () = postman::run(Arc::clone(&self.desk), self.client.clone()) => {}
            }
            self.client.close().await;
        });
        Ok(Caller::on(near))
    }
}

/// A program of the person's for one command.
///
/// # Errors
/// Where the profile cannot be opened, or the network is not known.
pub async fn for_one_command(network: &Path, data_dir: &Path, profile: Profile, key: &Key) -> anyhow::Result<Caller> {
    let file = NetworkFile::load(network)?;
    let home = Home::open(profile, key, file.clone())?;
    let client = start::client(file, cli::Network::of(network, data_dir), Vec::new())?;
    let home = home.move_in(client);
    let desk = Arc::clone(&home.desk);
    let caller = home.serve_one()?;
    eprintln!("trefoil: no trefoil is running with this profile: asking the mailboxes for this command alone");
    let _late = timeout(OWN_PATIENCE, desk.caught_up()).await; // what came by then is shown
    Ok(caller)
}

/// Writes a profile as it is, encrypted, while nobody runs with it.
///
/// # Errors
/// What is wrong, and what to do.
pub fn export(profile: &Profile, to: &Path) -> anyhow::Result<()> {
    ensure!(profile.exists(), "there is no profile \"{}\" to export", profile.name);
    let _lock = vault::hold(&profile.directory)?;
    let bytes = fs::read(profile.vault()).context("cannot read the profile")?;
    if to == Path::new("-") {
        return std::io::Write::write_all(&mut std::io::stdout().lock(), &bytes).context("cannot write the profile");
    }
    ensure!(!to.exists(), "{} exists already: nothing was written", to.display());
    file::write_atomic(to, &bytes, Access::Private).with_context(|| format!("cannot write {}", to.display()))
}

/// Makes a profile of one that was written by [`export`]: who that is.
///
/// # Errors
/// What is wrong, and what to do; nothing is left then.
pub fn import(profile: &Profile, key: &Key, params: &NetworkParams, from: &Path) -> anyhow::Result<Me> {
    ensure!(!profile.exists(), "there is a profile \"{}\" already: choose another --profile", profile.name);
    let bytes = read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let lock = vault::hold(&profile.directory)?;
    file::write_atomic(&profile.vault(), &bytes, Access::Private).context("cannot write the profile")?;
    drop(lock);
    let opened = key.open().and_then(|opener| {
        let about = (params.id(), settings(params));
        let now = Clock::System.now();
        let mut letters = Letters::open(&at(profile), &opener.unlock(), about, (now, &secret()))?;
        letters.begin_device(now)?; // the original may have gone on, and its ratchets are its own
        Ok(letters)
    });
    match opened {
        Ok(letters) => Ok(me(profile, params, &letters)),
        Err(error) => {
            fs::remove_file(profile.vault()).context("what was imported is of no use, and could not be removed")?;
            Err(error.context("nothing was imported"))
        }
    }
}

fn read(from: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let input: Box<dyn Read> =
        if from == Path::new("-") { Box::new(std::io::stdin().lock()) } else { Box::new(fs::File::open(from)?) };
    input.take(PROFILE_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn me(profile: &Profile, params: &NetworkParams, letters: &Letters) -> Me {
    let (profile, network) = (profile.name.to_string(), params.name.to_string());
    Me { version: VERSION, profile, network, address: letters.address().to_string() }
}

/// How long things take in a network: on one machine people wait for each step, and nobody watches.
pub(crate) fn settings(params: &NetworkParams) -> Settings {
    match params.allow_loopback {
        true => Settings { spread: 1, receipt: 1, backup: 3, requests: 2, room: TICKETS_BOUGHT, ..Settings::default() },
        false => Settings::default(),
    }
}

fn at(profile: &Profile) -> Place {
    Place::directory(&profile.directory)
}

fn secret() -> Secret {
    Zeroizing::new(seed())
}

impl Opener {
    fn unlock(&self) -> Unlock<'_> {
        match self {
            Self::Passphrase(words) => Unlock::Passphrase(words, PassphraseCost::USUAL),
            Self::KeyFile(path) => Unlock::KeyFile(path),
        }
    }
}
