//! What is wrong with a relay, or keeps it from being listed, in words for the person who runs it.
//!
//! Specification: docs/operator.md, "Watching it". The log says the same. No peer is ever named.

use trefoil_protocol::{entry::RelayAddresses, limits::OUTAGE_OF};

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// It asks others for the directory, as it does first of all.
    #[error("it has just started and asks other relays for all others; it lists itself after that")]
    Starting,
    /// Its proof of work is being done.
    #[error("its proof of work is under way, which takes seconds and is done once; it lists itself after that")]
    Work,
    /// Others are asked to dial it.
    #[error("other relays are asked to dial it; it lists itself when one of them could")]
    Checking,
    /// Others could not.
    #[error(
        "UDP port {} is not reachable from outside: other relays could not dial {addresses}. Open the port in the \
         firewall, forward it on the router, or set `advertise` to the address that others see",
        port(.addresses)
    )]
    Unreachable { addresses: RelayAddresses },
    /// Others have another time; by how many minutes it is ahead of ours.
    #[error(
        "this machine's clock is {} minutes {} those of other relays: set it (NTP); until then this relay publishes \
         nothing and begins no epoch",
        .ahead.unsigned_abs(), if *.ahead > 0 { "behind" } else { "ahead of" }
    )]
    Clock { ahead: i64 },
    /// Those that are known do not answer.
    #[error("no other relay answers; this one tries on. Is UDP blocked, or the network file old?")]
    Silent,
    /// Many of those that it drew to talk to do not.
    #[error(
        "{silent} of the last {OUTAGE_OF} relays that this one dialled did not answer: its line is bad, or the network \
         has fallen into parts"
    )]
    Outage { silent: usize },
    /// Nobody is known.
    #[error(
        "no other relay is known, and this one waits to be found: name one as `bootstrap`, unless it is the first of \
         its network"
    )]
    Alone,
    /// Its key has signed two records for one epoch.
    #[error(
        "another relay uses this relay's identity: two records for one epoch are signed with its key, and all relays \
         leave it out for some days. If the key was stolen, start anew in an empty data directory; if you run it \
         twice, stop one"
    )]
    Twice,
    /// Its record is not on disk, and so not published.
    #[error("this relay's own record cannot be saved, so it is not published: is the disk full?")]
    Unsaved,
    /// Its mailboxes broke down.
    #[error("this relay's mailboxes broke down, and keep no letters until it is started again: is the disk in order?")]
    Mailboxes,
}

impl Trouble {
    /// All names.
    pub(crate) const NAMES: [&str; 11] = [
        "starting",
        "work",
        "checking",
        "unreachable",
        "clock",
        "silent",
        "outage",
        "alone",
        "twice",
        "unsaved",
        "mailboxes",
    ];

    /// Its name in a status and in metrics. These do not change, since people keep them.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Work => "work",
            Self::Checking => "checking",
            Self::Unreachable { .. } => "unreachable",
            Self::Clock { .. } => "clock",
            Self::Silent => "silent",
            Self::Outage { .. } => "outage",
            Self::Alone => "alone",
            Self::Twice => "twice",
            Self::Unsaved => "unsaved",
            Self::Mailboxes => "mailboxes",
        }
    }
}

fn port(addresses: &RelayAddresses) -> u16 {
    addresses.iter().next().map_or(0, |address| address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much_and_which_way() {
        assert!(Trouble::Clock { ahead: 95 }.to_string().contains("is 95 minutes behind those of"));
        assert!(Trouble::Clock { ahead: -31 }.to_string().contains("is 31 minutes ahead of those of"));
    }

    #[test]
    fn a_port_that_nobody_can_dial_is_told_with_its_addresses_and_what_to_do() {
        let words =
            Trouble::Unreachable { addresses: "192.0.2.7:9001,[2001:db8::7]:9002".parse().unwrap() }.to_string();
        for part in ["UDP port 9001 is", "192.0.2.7:9001,[2001:db8::7]:9002", "firewall", "`advertise`"] {
            assert!(words.contains(part), "{part:?} is not in: {words}");
        }
    }
}
