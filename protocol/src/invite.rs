//! Invite: some relays of a network as text that people pass on, for a newcomer to find the others through.
//!
//! Specification: docs/protocol.md, "Invites". A line is a relay's URI (`uri.rs`), `network ` and the network's id, or a
//! comment. Nothing else is read, and every error names its line. An invite proves nothing: whoever uses it trusts
//! whoever made it, just as with a network file.

use std::{fmt, net::SocketAddr, str::FromStr};

use crate::{
    limits::{INVITE_RELAYS, MAX_INVITE},
    params::{BadNetworkId, NetworkId, NetworkParams},
    uri::{RelayUri, UriError},
};

/// See the file's head. At least one relay, each named once.
#[derive(Clone, Debug)]
pub struct Invite {
    network: Option<(usize, NetworkId)>,
    relays: Vec<(usize, RelayUri)>,
}

/// Why a text is no invite, or not one to this network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// It has too many bytes.
    #[error("it has more than {MAX_INVITE} bytes")]
    TooLong,
    /// There is nobody in it.
    #[error("it names no relay: each has a line of its own, trefoil-relay:...")]
    Empty,
    /// A line is wrong; lines are counted from 1.
    #[error("line {line}: {cause}")]
    Line {
        /// Which.
        line: usize,
        /// How.
        cause: BadLine,
    },
}

/// What is wrong with a line of an invite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// It is no relay's URI.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// It has no network's id.
    #[error(transparent)]
    Network(#[from] BadNetworkId),
    /// Another line names another network.
    #[error("another line names another network: an invite is to one")]
    TwoNetworks,
    /// There are too many relays.
    #[error("an invite names at most {INVITE_RELAYS} relays")]
    TooMany,
    /// The reader's network is another one.
    #[error("its relays are of the network {}, and the network file is of {}", .theirs.short(), .ours.short())]
    OtherNetwork {
        /// The invite's.
        theirs: NetworkId,
        /// The reader's.
        ours: NetworkId,
    },
    /// No relay of the network can be there.
    #[error("{0} is private or special, and no relay of the network is there")]
    Special(SocketAddr),
}

impl Invite {
    /// An invite to this network. Of more than [`INVITE_RELAYS`] relays the first are taken; `None` for none.
    pub fn new(network: NetworkId, relays: impl IntoIterator<Item = RelayUri>) -> Option<Self> {
        let mut invite = Self { network: Some((1, network)), relays: Vec::new() };
        for relay in relays.into_iter().take(INVITE_RELAYS) {
            invite.put(invite.relays.len() + 2, relay);
        }
        (!invite.relays.is_empty()).then_some(invite)
    }

    /// Its relays, in the order of their lines.
    pub fn relays(&self) -> impl Iterator<Item = &RelayUri> {
        self.relays.iter().map(|(_, relay)| relay)
    }

    /// The network that it is to, if it says so.
    pub fn network(&self) -> Option<NetworkId> {
        self.network.map(|(_, network)| network)
    }

    /// Whether it is to this network, as far as it says, and its relays can be there.
    ///
    /// # Errors
    /// [`InviteError::Line`].
    pub fn check(&self, params: &NetworkParams) -> Result<(), InviteError> {
        let ours = params.id();
        if let Some((line, theirs)) = self.network
            && theirs != ours
        {
            return Err(InviteError::Line { line, cause: BadLine::OtherNetwork { theirs, ours } });
        }
        for (line, relay) in &self.relays {
            if let Some(address) = relay.addresses.iter().find(|address| !params.allows_relay_at(address.ip())) {
                return Err(InviteError::Line { line: *line, cause: BadLine::Special(address) });
            }
        }
        Ok(())
    }

    /// Of a relay that is named twice, the later line counts: invites can be put one after the other.
    fn put(&mut self, line: usize, relay: RelayUri) {
        self.relays.retain(|(_, other)| other.id != relay.id);
        self.relays.push((line, relay));
    }

    fn read_line(&mut self, line: usize, text: &str) -> Result<(), BadLine> {
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            return Ok(());
        }
        if let Some(id) = text.strip_prefix(NETWORK) {
            let network = id.trim_start().parse()?;
            let is_other = self.network.is_some_and(|(_, before)| before != network);
            self.network = Some((line, network));
            return if is_other { Err(BadLine::TwoNetworks) } else { Ok(()) };
        }
        self.put(line, text.parse()?);
        if self.relays.len() > INVITE_RELAYS { Err(BadLine::TooMany) } else { Ok(()) }
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        if text.len() > MAX_INVITE {
            return Err(InviteError::TooLong);
        }
        let mut invite = Self { network: None, relays: Vec::new() };
        for (line, text) in (1..).zip(text.lines()) {
            invite.read_line(line, text).map_err(|cause| InviteError::Line { line, cause })?;
        }
        if invite.relays.is_empty() { Err(InviteError::Empty) } else { Ok(invite) }
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.network().map_or(Ok(()), |network| writeln!(f, "{NETWORK}{network}"))?;
        self.relays().try_for_each(|relay| writeln!(f, "{relay}"))
    }
}

const NETWORK: &str = "network ";

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        entry::Weight,
        identity::{OnionSecret, RelaySecret},
    };

    fn relay(seed: u64, address: &str) -> RelayUri {
        let mut rng = StdRng::seed_from_u64(seed);
        RelayUri {
            id: RelaySecret::generate(&mut rng).id(),
            onion_key: OnionSecret::generate(&mut rng).public(),
            addresses: address.parse().unwrap(),
            weight: Weight::One,
        }
    }

    fn params() -> NetworkParams {
        NetworkParams::testnet("test".parse().unwrap())
    }

    fn relays(invite: &Invite) -> Vec<RelayUri> {
        invite.relays().copied().collect()
    }

    #[test]
    fn an_invite_survives_its_text_form() {
        let two = [relay(1, "10.0.0.1:1"), relay(2, "1.2.3.4:2,[2600::1]:2")];
        let invite = Invite::new(params().id(), two).unwrap();
        let text = invite.to_string();
        assert_eq!(text, format!("network {}\n{}\n{}\n", params().id(), two[0], two[1]));
        let again: Invite = text.parse().unwrap();
        assert_eq!((again.network(), relays(&again)), (Some(params().id()), two.to_vec()));
        assert_eq!(again.check(&params()), Ok(()));
        assert!(Invite::new(params().id(), []).is_none());
    }

    #[test]
    fn comments_spaces_and_line_ends_of_any_kind_are_passed_over() {
        let one = relay(1, "10.0.0.1:1");
        let invite: Invite = format!("# from a friend\r\n\r\n  {one} # hers\r\n\t# end").parse().unwrap();
        assert_eq!((invite.network(), relays(&invite)), (None, vec![one]));
    }

    #[test]
    fn invites_can_be_put_one_after_the_other() {
        let (old, new) = (relay(1, "10.0.0.1:1"), relay(1, "10.0.0.9:9"));
        let both = format!("network {0}\n{old}\nnetwork {0}\n{1}\n{new}\n", params().id(), relay(2, "10.0.0.2:2"));
        let invite: Invite = both.parse().unwrap();
        assert_eq!(relays(&invite), [relay(2, "10.0.0.2:2"), new]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let one = relay(1, "10.0.0.1:1");
        let other = NetworkParams::main().id();
        let cases = [
            (format!("\n{one}\nx"), 3, BadLine::Uri(UriError::Form)),
            (format!("# a\nnetwork 00\n{one}"), 2, BadLine::Network(BadNetworkId)),
            (format!("network {}\nnetwork {other}\n{one}", params().id()), 2, BadLine::TwoNetworks),
            ((0..200).map(|n| format!("{}\n", relay(n, "10.0.0.1:1"))).collect(), 129, BadLine::TooMany),
        ];
        for (text, line, cause) in cases {
            assert_eq!(text.parse::<Invite>().unwrap_err(), InviteError::Line { line, cause });
        }
        assert_eq!("# nobody\n".parse::<Invite>().unwrap_err(), InviteError::Empty);
        let long = format!("{one}\n#{}", "x".repeat(MAX_INVITE));
        assert_eq!(long.parse::<Invite>().unwrap_err(), InviteError::TooLong);
    }

    #[test]
    fn an_invite_to_another_network_or_to_an_address_that_cannot_be_is_refused() {
        let one = relay(1, "10.0.0.1:1");
        let theirs = params().id();
        let invite: Invite = format!("# x\nnetwork {theirs}\n{one}").parse().unwrap();
        let main = NetworkParams::main();
        let cause = BadLine::OtherNetwork { theirs, ours: main.id() };
        assert_eq!(invite.check(&main), Err(InviteError::Line { line: 2, cause }));
        let invite: Invite = format!("# x\n# y\n{one}").parse().unwrap();
        let cause = BadLine::Special("10.0.0.1:1".parse().unwrap());
        assert_eq!(invite.check(&main), Err(InviteError::Line { line: 3, cause }));
    }
}
