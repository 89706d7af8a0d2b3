//! Status: what a running client tells about itself, on the status socket of its data directory.
//!
//! Specification: docs/user-guide.md, "status". It names no target and no path; guards only by the beginning of their
//! ids.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use trefoil_protocol::limits::{CLOCK_TOLERANCE, PATH_HOPS};
use trefoil_relay::status_socket::{self, SOCKET};

use crate::tunnel::Client;

/// How a client is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The network's name.
    pub network: String,
    /// Relays whose records are known.
    pub known: usize,
    /// Relays that circuits are drawn from.
    pub usable: usize,
    /// Relays that told which are usable, for the set that is used.
    pub sources: usize,
    /// Of these, how many told just that set.
    pub agreeing: usize,
    /// Relays that sources list and whose records nobody has shown.
    pub unknown: usize,
    /// The epoch now.
    pub epoch: u32,
    /// The epoch of the set that is used.
    pub usable_epoch: Option<u32>,
    /// The guards in use: the beginnings of their ids.
    pub guards: Vec<String>,
    /// Guards that were dialled within 30 days.
    pub guards_dialled: usize,
    /// Relays that were met at addresses which nobody vouches for, by where these came from: `lan`, `dht`.
    pub met: BTreeMap<String, u64>,
    /// Circuits that are built and wait to be used.
    pub circuits: usize,
    /// How many minutes this machine's clock is behind those of others, by their median.
    pub clock_behind_minutes: Option<i64>,
    /// Whether this process keeps what it knows for the next run.
    pub kept: bool,
    /// What is wrong, if anything is.
    pub trouble: Option<String>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "network    {}", self.network)?;
        writeln!(f, "relays     {} known, {} usable", self.known, self.usable)?;
        writeln!(f, "sources    {}", self.sources_in_words())?;
        let guards = if self.guards.is_empty() { "none yet".to_owned() } else { self.guards.join(", ") };
        writeln!(f, "guards     {guards} ({} tried within 30 days)", self.guards_dialled)?;
        if self.met.values().any(|times| *times > 0) {
            writeln!(f, "met        {}", self.met_in_words())?;
        }
        writeln!(f, "circuits   {} ready", self.circuits)?;
        writeln!(f, "clock      {}", self.clock_in_words())?;
        if !self.kept {
            writeln!(f, "kept       nothing: this process writes nothing to disk")?;
        }
        match &self.trouble {
            Some(trouble) if self.usable >= PATH_HOPS => writeln!(f, "trouble    {trouble} (the last set is used on)"),
            Some(trouble) => writeln!(f, "trouble    {trouble}"),
            None if self.usable >= PATH_HOPS => writeln!(f, "all is well"),
            None => writeln!(f, "trouble    the network's relays are not known yet"),
        }
    }
}

impl Status {
    fn sources_in_words(&self) -> String {
        let age = match self.usable_epoch {
            None => return "none has answered yet".to_owned(),
            Some(_) if self.sources == 0 => {
                return "none asked yet in this run; the set is that of the last".to_owned();
            }
            Some(epoch) if epoch < self.epoch => match self.epoch - epoch {
                1 => ", an epoch ago".to_owned(),
                epochs => format!(", {epochs} epochs ago"),
            },
            Some(_) => String::new(),
        };
        let unknown = match self.unknown {
            0 => String::new(),
            unknown => format!("; they list {unknown} relays that nobody has shown"),
        };
        format!("{} answered{age}, {} of them agree on every relay{unknown}", self.sources, self.agreeing)
    }

    fn met_in_words(&self) -> String {
        let met = self.met.iter().filter(|(_, times)| **times > 0);
        let met: Vec<_> = met.map(|(kind, times)| format!("{times} relays by {kind}")).collect();
        met.join(", ")
    }

    fn clock_in_words(&self) -> String {
        let tolerated = i64::try_from(CLOCK_TOLERANCE / 60).unwrap_or(i64::MAX);
        match self.clock_behind_minutes {
            None => "not compared yet".to_owned(),
            Some(behind) if behind > tolerated => format!("{behind} min behind others: set it right"),
            Some(behind) if behind < -tolerated => format!("{} min ahead of others: set it right", -behind),
            Some(_) => "right, by those of others".to_owned(),
        }
    }
}

/// Serves the client's status at its data directory, if it holds one, until `shutdown`.
pub async fn serve(client: Client, shutdown: CancellationToken) {
    let Some(path) = client.state().own_file(SOCKET) else { return };
    shutdown.run_until_cancelled(status_socket::serve(path, || client.status())).await;
}

/// Who tells it.
pub const WHO: &str = "trefoil";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn status() -> Status {
        Status {
            network: "test".to_owned(),
            known: 8,
            usable: 8,
            sources: 5,
            agreeing: 4,
            unknown: 0,
            epoch: 7,
            usable_epoch: Some(7),
            guards: vec!["abcdefgh".to_owned()],
            guards_dialled: 2,
            met: BTreeMap::new(),
            circuits: 2,
            clock_behind_minutes: Some(0),
            kept: true,
            trouble: None,
        }
    }

    #[test]
    fn a_status_survives_its_json() {
        assert_eq!(serde_json::from_str::<Status>(&status_socket::to_json(&status())).unwrap(), status());
    }

    #[test]
    fn words_say_what_is_well_and_what_is_not() {
        let words = status().to_string();
        assert!(words.contains("8 known, 8 usable") && words.contains("all is well"), "{words}");
        assert!(words.contains("5 answered, 4 of them agree"), "{words}");
        let off = Status { clock_behind_minutes: Some(-95), usable_epoch: Some(4), unknown: 3, ..status() };
        let words = off.to_string();
        assert!(words.contains("95 min ahead") && words.contains("3 epochs ago"), "{words}");
        assert!(words.contains("3 relays that nobody has shown"), "{words}");
        let last = Status { usable_epoch: Some(off.epoch - 1), ..status() };
        assert!(last.to_string().contains("5 answered, an epoch ago, 4 of them"), "{last}");
        let met = Status { met: [("dht".to_owned(), 2), ("lan".to_owned(), 0)].into(), ..status() };
        assert!(met.to_string().contains("met        2 relays by dht\n") && !words.contains("met  "), "{met}");
        let nothing = Status { usable: 0, usable_epoch: None, trouble: Some("no".to_owned()), ..status() };
        let words = nothing.to_string();
        assert!(words.contains("none has answered yet") && words.contains("trouble    no\n"), "{words}");
        assert!(!words.contains("all is well"), "{words}");
    }
}
