//! The command line of letters: who, to whom, what, and how it is shown.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use clap_complete::Shell;
use trefoil_protocol::limits::{HISTORY_SHOWN, INVITE_RELAYS, INVITE_SHORT};

use super::{Since, Span, Timer};
use crate::{control::Receipts, profile::ProfileName};

/// Letters, and how things are.
#[derive(Debug, Subcommand)]
pub enum Letters {
    /// Who you are: make an identity, show it, keep it, bring it back
    Id(Id),
    /// Invite somebody to write to you, or to the network
    Invite(Invite),
    /// Whom you write to, and who may write to you
    Contact(Contact),
    /// Write to somebody, and learn what becomes of it
    #[command(after_help = EXIT_CODES)]
    Send(Send),
    /// Show the letters that you have not seen
    Inbox(Inbox),
    /// Show what was said
    History(History),
    /// A screen to write and read with one contact
    Chat(Chat),
    /// Send and take files of up to 10 MiB
    File(File),
    /// Tell how the running up, proxy or forward is: what it knows, and what is wrong if it does not work
    Status(Status),
    /// Go through what can be wrong, and say what to do
    Doctor(Doctor),
    /// Print completions for a shell
    Completions(Completions),
    /// Write the man pages into a directory, or the first of them to standard output
    Man(Man),
}

const EXIT_CODES: &str = "\
Exit codes: 0 the letter is on its way, or reached the state that was waited for; 1 it failed, or has expired; 2 the \
command line is wrong; 3 it had not reached the state in time, and goes on: see `trefoil history`.";

/// Whose letters, and how they are shown.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Whose, and how")]
pub struct Whose {
    /// The network file [default: that of the only network in which the profile exists]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub network: Option<PathBuf>,
    /// The client's data directory [default: that of the network]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data_dir: Option<PathBuf>,
    /// Which of your identities [default: default]
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<ProfileName>,
    /// A file whose first line is the passphrase, for where nobody can be asked
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "key_file", value_hint = ValueHint::FilePath)]
    pub passphrase_file: Option<PathBuf>,
    /// The file that opens the profile instead of a passphrase
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key_file: Option<PathBuf>,
    /// Print JSON, for programs: see docs/control.md
    #[arg(long, global = true)]
    pub json: bool,
}

/// `trefoil id`
#[derive(Args, Debug)]
pub struct Id {
    #[command(subcommand)]
    /// What to do
    pub what: IdWhat,
    #[command(flatten)]
    /// Whose
    pub whose: Whose,
}

/// `trefoil id ...`
#[derive(Debug, Subcommand)]
pub enum IdWhat {
    /// Make an identity; its 24 words are shown once more by `id phrase`
    New,
    /// Show your address
    Show,
    /// Show the 24 words that bring your identity back: whoever has them is you
    Phrase,
    /// Write the whole profile, encrypted as it is, to a file
    Export {
        /// The file, which must not exist; - for standard output
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        to: PathBuf,
    },
    /// Make a profile of an exported file
    Import {
        /// The file; - for standard input
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        from: PathBuf,
    },
    /// Bring an identity back from its 24 words, which are asked for, or read from standard input
    Restore,
    /// Whether contacts are told what you have read, and tell you
    TellRead {
        /// Whether
        #[arg(value_enum)]
        tell: Tell,
    },
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tell {
    /// They are told.
    On,
    /// They are not.
    Off,
}

/// `trefoil invite`
#[derive(Args, Debug)]
pub struct Invite {
    #[command(subcommand)]
    /// What to do
    pub what: InviteWhat,
    #[command(flatten)]
    /// Whose
    pub whose: Whose,
}

/// `trefoil invite ...`
#[derive(Debug, Subcommand)]
pub enum InviteWhat {
    /// Make a link by which somebody becomes your contact
    Create {
        /// What you call it [default: a name that is free]
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        name: String,
        /// How long it counts, like 12h or 7d
        #[arg(long = "for", value_name = "TIME", default_value = "7d")]
        valid: Span,
        /// It counts more than once: for a card or a page
        #[arg(long)]
        reusable: bool,
        /// Draw no QR code
        #[arg(long)]
        no_qr: bool,
    },
    /// Show the invites that count
    List,
    /// Make an invite count no more
    Revoke {
        /// Its name
        name: String,
    },
    /// Print some relays of a network, for a friend to get to know it from
    #[command(after_help = RELAYS_HELP)]
    Relays {
        /// How many relays
        #[arg(long, value_name = "N", default_value_t = INVITE_SHORT, value_parser = parse_relays)]
        relays: usize,
    },
}

const RELAYS_HELP: &str = "\
The relays are drawn at random among those that this client has found to be usable; its guards are among them only by \
chance. Where it has found none, they are those of the network file, which --network names. A friend needs the network \
file, too, saves what is printed as a file, and passes it to `trefoil proxy --bootstrap-file FILE`, or to a relay. \
Whoever makes an invite decides which relays show the network to whoever uses it: take one from people whom you trust.";

/// `trefoil contact`
#[derive(Args, Debug)]
pub struct Contact {
    #[command(subcommand)]
    /// What to do
    pub what: ContactWhat,
    #[command(flatten)]
    /// Whose
    pub whose: Whose,
}

/// `trefoil contact ...`
#[derive(Debug, Subcommand)]
pub enum ContactWhat {
    /// Ask somebody to be a contact
    Add {
        /// An address or an invite; - for standard input
        who: String,
        /// What you call them [default: what they call themselves]
        #[arg(default_value = "", hide_default_value = true)]
        name: String,
        /// What you tell them with the request
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        greeting: String,
    },
    /// Show all contacts
    List,
    /// Show who wants to be a contact
    Requests,
    /// Say yes to a request
    Accept {
        /// Whose
        name: String,
    },
    /// Call a contact something else
    Rename {
        /// Whom
        name: String,
        /// What you call them from now on
        new: String,
    },
    /// Show the number that you both compare, or take note of what came of it
    Verify {
        /// With whom
        name: String,
        /// Both numbers are the same
        #[arg(long, conflicts_with = "differs")]
        matches: bool,
        /// They are not, or you no longer know
        #[arg(long)]
        differs: bool,
    },
    /// Let letters with a contact go away after they were seen
    Timer {
        /// With whom
        name: String,
        /// After how long, like 1h or 7d; off for never
        after: Timer,
    },
    /// When a contact is told that its letters came; who knows that at once knows when you are online
    Receipts {
        /// Whom
        name: String,
        /// When
        when: Receipts,
    },
    /// Take no letters of somebody any more
    Block {
        /// Whom
        name: String,
    },
    /// Take them again
    Unblock {
        /// For whom
        name: String,
    },
    /// Forget a contact, or refuse a request
    Remove {
        /// Whom
        name: String,
    },
}

/// `trefoil send`
#[derive(Args, Debug)]
pub struct Send {
    /// To whom
    pub name: String,
    /// What; - for standard input, which is read, too, where there is no text and something is piped in
    pub text: Option<String>,
    /// Wait until mailboxes have it, or until it was delivered
    #[arg(long, value_enum, value_name = "STATE")]
    pub wait: Option<Wait>,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub timeout: Span,
    #[command(flatten)]
    /// Whose
    pub whose: Whose,
}

/// What `send` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wait {
    /// Enough mailboxes have it
    Accepted,
    /// Their program has it, and shows it
    Delivered,
}

/// `trefoil inbox`
#[derive(Args, Debug)]
pub struct Inbox {
    /// Go on until Ctrl-C, and show letters as they come
    #[arg(long)]
    pub follow: bool,
    /// Let them stay unseen
    #[arg(long)]
    pub keep: bool,
    /// A program to run for each letter, which it reads from standard input as JSON. All that follows is its arguments;
    /// no shell sees them
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true)]
    pub notify: Vec<String>,
    #[command(flatten)]
    /// Whose
    pub whose: Whose,
}

/// `trefoil history`
#[derive(Args, Debug)]
pub struct History {
    /// With whom [default: all]
    pub name: Option<String>,
    /// Only what has this text
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Only what came or was written since: 2d, 2026-11-27, or "2026-11-27 18:30"
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Since>,
    /// Only the last so many
    #[arg(long, value_name = "N", default_value_t = HISTORY_SHOWN)]
    pub last: usize,
    #[command(flatten)]
    /// Whose
    pub whose: Whose,
}

/// `trefoil chat`
#[derive(Args, Debug)]
pub struct Chat {
    /// With whom
    pub name: String,
    #[command(flatten)]
    /// Whose
    pub whose: Whose,
}

/// `trefoil file`
#[derive(Args, Debug)]
pub struct File {
    #[command(subcommand)]
    /// What to do
    pub what: FileWhat,
    #[command(flatten)]
    /// Whose
    pub whose: Whose,
}

/// `trefoil file ...`
#[derive(Debug, Subcommand)]
pub enum FileWhat {
    /// Offer a file
    Send {
        /// To whom
        name: String,
        /// Which; - for standard input, with --as
        #[arg(value_hint = ValueHint::FilePath)]
        path: PathBuf,
        /// The name that they see [default: the file's]
        #[arg(long = "as", value_name = "NAME")]
        shown: Option<String>,
        /// Wait until they have taken all of it, or refused it
        #[arg(long)]
        wait: bool,
    },
    /// Take a file that is offered, wait for all of it, and save it
    Accept {
        /// Whose
        name: String,
        /// Its name, or the beginning of its id
        file: String,
        /// Where to save it: a directory, or a file that does not exist [default: here, by its name]
        #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        to: Option<PathBuf>,
    },
    /// Say that a file is not wanted
    Refuse {
        /// Whose
        name: String,
        /// Its name, or the beginning of its id
        file: String,
    },
    /// Show all files
    List,
}

/// `trefoil status`
#[derive(Args, Debug)]
pub struct Status {
    #[command(flatten)]
    /// Of whom
    pub whose: Whose,
    /// Tell of the relay that runs beside the client instead: that of `trefoil up --relay`
    #[arg(long)]
    pub relay: bool,
    /// Print it again every second, until Ctrl-C; what is asked may be started later, or again
    #[arg(long)]
    pub follow: bool,
}

/// `trefoil doctor`
#[derive(Args, Debug)]
pub struct Doctor {
    #[command(flatten)]
    /// Of whom
    pub whose: Whose,
}

/// `trefoil completions`
#[derive(Args, Debug)]
pub struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `trefoil man`
#[derive(Args, Debug)]
pub struct Man {
    /// Where to write them
    #[arg(value_hint = ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
}

fn parse_relays(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=INVITE_RELAYS).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {INVITE_RELAYS}"))
}
