//! Exit policy: what a relay is willing to connect to on behalf of others.
//!
//! Specification: docs/protocol.md, "Addresses and exit policies". The exit asks [`ExitPolicy::allows`] about each
//! address that it is about to connect to, after names are resolved; an origin asks [`ExitPolicy::may_allow`] when
//! it chooses a path. This file never resolves names.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    host::Host,
    ip::{self, IpNet, IpNetError},
    limits::{MAX_POLICY_RULES, MAX_RULE_PORTS},
    message::Target,
};

/// Ordered rules, of which the first match decides; what none matches is refused. At most [`MAX_POLICY_RULES`].
///
/// Special addresses (private, loopback, link-local, ...: [`ip::special_block`]) are accepted only by a rule whose
/// network lies wholly inside their block: `accept *:*` and `accept 0.0.0.0/0:*` pass over them.
///
/// As text, rules with `;` between them: `reject 192.0.2.0/24:*; accept *:80,443,8000-8999`. In files, a list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Rule>")]
pub struct ExitPolicy(Vec<Rule>);

/// One rule: `accept NET:PORTS` or `reject NET:PORTS`.
///
/// NET is `*`, or an [`IpNet`]; PORTS is `*`, or a list of ports and ranges with commas between.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    verdict: Verdict,
    network: Option<IpNet>, // `None` is every network
    ports: Vec<PortRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Verdict {
    Accept,
    Reject,
}

/// From the first port to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PortRange(pub(crate) u16, pub(crate) u16);

/// Why something is not an exit policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A rule does not have its form.
    #[error("exit rule {rule:?}: {cause}")]
    Rule {
        /// The rule as it was written.
        rule: String,
        /// What is wrong with it.
        cause: RuleError,
    },
    /// More than [`MAX_POLICY_RULES`].
    #[error("an exit policy has at most {MAX_POLICY_RULES} rules, not {0}")]
    TooManyRules(usize),
}

/// What is wrong with an exit rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It does not begin with `accept` or `reject`.
    #[error("expected \"accept NET:PORTS\" or \"reject NET:PORTS\"")]
    Form,
    /// The network is not one.
    #[error("{0}")]
    Network(#[from] IpNetError),
    /// A port is not one.
    #[error("{0:?} is neither a port from 1 to 65535 nor a range of ports like 8000-8999")]
    Port(String),
    /// More than [`MAX_RULE_PORTS`].
    #[error("a rule lists at most {MAX_RULE_PORTS} ports and ranges, not {0}")]
    TooManyPorts(usize),
}

impl ExitPolicy {
    /// The policy of these rules, in this order.
    ///
    /// # Errors
    /// [`PolicyError::TooManyRules`] above [`MAX_POLICY_RULES`].
    pub fn new(rules: Vec<Rule>) -> Result<Self, PolicyError> {
        if rules.len() <= MAX_POLICY_RULES { Ok(Self(rules)) } else { Err(PolicyError::TooManyRules(rules.len())) }
    }

    /// Whether the exit may connect to this address and port.
    pub fn allows(&self, address: IpAddr, port: u16) -> bool {
        self.first_verdict(address, port, |_| true) == Some(Verdict::Accept)
    }

    /// The same, where rules that accept more than this one address are passed over.
    pub fn allows_by_name(&self, address: IpAddr, port: u16) -> bool {
        let itself = IpNet::around(ip::canonical(address), u8::MAX);
        let counts = |rule: &Rule| rule.verdict == Verdict::Reject || rule.network == Some(itself);
        self.first_verdict(address, port, counts) == Some(Verdict::Accept)
    }

    fn first_verdict(&self, address: IpAddr, port: u16, counts: impl Fn(&Rule) -> bool) -> Option<Verdict> {
        let special = ip::special_block(address);
        let rule = self.0.iter().find(|rule| rule.decides(address, special, port) && counts(rule));
        rule.map(|rule| rule.verdict)
    }

    /// Whether there may be an address to which this port is allowed. Wrong only towards `true`, and only for a
    /// policy that refuses all that it accepts in several pieces.
    pub fn may_allow_port(&self, port: u16) -> bool {
        let rules = || self.0.iter().filter(|rule| rule.has_port(port));
        rules().enumerate().any(|(at, rule)| {
            rule.verdict == Verdict::Accept && !rules().take(at).any(|earlier| earlier.refuses_all_of(rule))
        })
    }

    /// Whether there may be a port to which this address is allowed. Wrong only towards `true`, and only where several
    /// rules together refuse all ports.
    pub fn may_allow_address(&self, address: IpAddr) -> bool {
        let special = ip::special_block(address);
        let mut rules = self.0.iter().filter(|rule| rule.is_about(address, special));
        let first = rules.find(|rule| rule.verdict == Verdict::Accept || rule.ports.contains(&PortRange::ALL));
        first.is_some_and(|rule| rule.verdict == Verdict::Accept)
    }

    /// Whether a stream to this target may be served: exactly for an address, by its port for a name.
    ///
    /// Names are resolved for anyone by a relay that exits anywhere; what is not an exit's task needs no policy.
    pub fn may_allow(&self, target: &Target) -> bool {
        match target {
            Target::Exit { host: Host::Address(address), port } => self.allows(*address, *port),
            Target::Exit { host: Host::Name(_), port } => self.may_allow_port(*port),
            Target::Resolve { .. } => self.is_exit(),
            Target::Directory | Target::Mailbox | Target::Service { .. } => true,
        }
    }

    /// Whether rules about all addresses of one family accept this port. Rules about single networks may still refuse it
    /// there.
    pub(crate) fn accepts_everywhere(&self, port: u16) -> bool {
        let accepts = |everything: IpNet| {
            let is_about = |rule: &&Rule| rule.network.is_none_or(|network| network == everything);
            let rule = self.0.iter().filter(|rule| rule.has_port(port)).find(is_about);
            rule.is_some_and(|rule| rule.verdict == Verdict::Accept)
        };
        accepts(IpNet::ALL_V4) || accepts(IpNet::ALL_V6)
    }

    /// Whether there may be a local address ([`ip::is_local`]) to which this port is allowed; wrong as in
    /// [`Self::may_allow_port`].
    pub(crate) fn accepts_local(&self, port: u16) -> bool {
        let is_local = |net: IpNet| ip::LOCAL.iter().any(|block| block.covers(&net));
        let rules = || self.0.iter().filter(|rule| rule.has_port(port));
        rules().enumerate().any(|(at, rule)| {
            rule.verdict == Verdict::Accept
                && rule.network.is_some_and(is_local)
                && !rules().take(at).any(|earlier| earlier.refuses_all_of(rule))
        })
    }

    /// The ports from which on some rule may decide otherwise than before, in order; 1 is always one.
    pub(crate) fn port_steps(&self) -> BTreeSet<u16> {
        let ranges = self.0.iter().flat_map(|rule| &rule.ports);
        ranges.flat_map(|PortRange(first, last)| [Some(*first), last.checked_add(1)]).flatten().chain([1]).collect()
    }

    /// Whether there is a rule that accepts anything.
    pub fn is_exit(&self) -> bool {
        self.0.iter().any(|rule| rule.verdict == Verdict::Accept)
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PortRange {
    /// Every port there is.
    pub(crate) const ALL: Self = Self(1, u16::MAX);
}

impl Rule {
    /// Accepts these ports of a network, or of all.
    pub(crate) fn accept(network: Option<IpNet>, ports: Vec<PortRange>) -> Self {
        Self { verdict: Verdict::Accept, network, ports }
    }

    /// Refuses these ports of a network, or of all.
    pub(crate) fn reject(network: Option<IpNet>, ports: Vec<PortRange>) -> Self {
        Self { verdict: Verdict::Reject, network, ports }
    }

    fn decides(&self, address: IpAddr, special: Option<IpNet>, port: u16) -> bool {
        self.has_port(port) && self.is_about(address, special)
    }

    fn is_about(&self, address: IpAddr, special: Option<IpNet>) -> bool {
        let matches = self.network.is_none_or(|network| network.contains(address));
        let names = |block: IpNet| self.network.is_some_and(|network| block.covers(&network));
        matches && (self.verdict == Verdict::Reject || special.is_none_or(names))
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|PortRange(first, last)| (*first..=*last).contains(&port))
    }

    fn refuses_all_of(&self, other: &Self) -> bool {
        let covers = match (self.network, other.network) {
            (None, _) => true,
            (Some(ours), Some(theirs)) => ours.covers(&theirs),
            (Some(_), None) => false,
        };
        self.verdict == Verdict::Reject && covers
    }
}

impl FromStr for ExitPolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let rules = text.split(';').map(str::trim).filter(|rule| !rule.is_empty()).map(str::parse);
        Self::new(rules.collect::<Result<_, _>>()?)
    }
}

impl FromStr for Rule {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        parse_rule(text).map_err(|cause| PolicyError::Rule { rule: text.to_owned(), cause })
    }
}

fn parse_rule(text: &str) -> Result<Rule, RuleError> {
    let (verdict, what) = text.split_once(' ').ok_or(RuleError::Form)?;
    let verdict = match verdict {
        "accept" => Verdict::Accept,
        "reject" => Verdict::Reject,
        _ => return Err(RuleError::Form),
    };
    let (network, ports) = what.rsplit_once(':').ok_or(RuleError::Form)?;
    let network = if network == "*" { None } else { Some(network.parse()?) };
    Ok(Rule { verdict, network, ports: parse_ports(ports)? })
}

fn parse_ports(text: &str) -> Result<Vec<PortRange>, RuleError> {
    if text == "*" {
        return Ok(vec![PortRange::ALL]);
    }
    let count = text.split(',').count();
    if count > MAX_RULE_PORTS {
        return Err(RuleError::TooManyPorts(count));
    }
    text.split(',').map(|range| parse_range(range).ok_or_else(|| RuleError::Port(range.to_owned()))).collect()
}

fn parse_range(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = PortRange(parse_port(first)?, parse_port(last)?);
    (range.0 <= range.1).then_some(range)
}

/// A port other than 0, in digits only.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl fmt::Display for ExitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, rule)| write!(f, "{}{rule}", if at == 0 { "" } else { "; " }))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.verdict == Verdict::Accept { "accept " } else { "reject " })?;
        match self.network {
            Some(network) => write!(f, "{network}:")?,
            None => f.write_str("*:")?,
        }
        self.ports.iter().enumerate().try_for_each(|(at, range)| write!(f, "{}{range}", if at == 0 { "" } else { "," }))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            &Self::ALL => f.write_str("*"),
            Self(first, last) if first == last => write!(f, "{first}"),
            Self(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl TryFrom<Vec<Rule>> for ExitPolicy {
    type Error = PolicyError;

    fn try_from(rules: Vec<Rule>) -> Result<Self, PolicyError> {
        Self::new(rules)
    }
}

impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::HostName;

    fn policy(text: &str) -> ExitPolicy {
        text.parse().unwrap()
    }

    fn allows(policy: &ExitPolicy, address: &str, port: u16) -> bool {
        policy.allows(address.parse().unwrap(), port)
    }

    fn cause(rule: &str) -> RuleError {
        match rule.parse::<Rule>() {
            Err(PolicyError::Rule { rule: named, cause }) if named == rule => cause,
            other => panic!("{rule}: {other:?}"),
        }
    }

    #[test]
    fn without_rules_there_is_no_exit_at_all() {
        let none = ExitPolicy::default();
        assert!(none.is_empty() && !none.is_exit());
        assert!(!allows(&none, "1.1.1.1", 80) && !none.may_allow_port(80));
        assert_eq!(policy(""), none);
    }

    #[test]
    fn the_first_match_wins() {
        let rules = policy("reject 1.1.1.0/24:80; accept 1.1.0.0/16:80,443; reject *:443; accept *:*");
        assert!(!allows(&rules, "1.1.1.1", 80));
        assert!(allows(&rules, "1.1.1.1", 443));
        assert!(allows(&rules, "1.1.2.1", 80));
        assert!(!allows(&rules, "2.2.2.2", 443));
        assert!(allows(&rules, "2.2.2.2", 22));
        assert!(!allows(&rules, "2.2.2.2", 0));
    }

    #[test]
    fn a_port_list_mixes_ports_and_ranges() {
        let rules = policy("accept *:80,8000-8999,443");
        assert!([80, 443, 8000, 8500, 8999].iter().all(|port| allows(&rules, "1.1.1.1", *port)));
        assert!([79, 81, 7999, 9000, 442].iter().all(|port| !allows(&rules, "1.1.1.1", *port)));
    }

    #[test]
    fn wide_rules_pass_over_special_addresses() {
        let special = ["127.0.0.1", "10.0.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"];
        let long =
            ["::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "::"];
        for text in ["accept *:*", "accept 0.0.0.0/0:*; accept [::]/0:*", "accept 0.0.0.0/1:*; accept 128.0.0.0/1:*"] {
            let rules = policy(text);
            special.iter().chain(&long).for_each(|address| assert!(!allows(&rules, address, 80), "{text}: {address}"));
            assert!(allows(&rules, "1.1.1.1", 80));
        }
    }

    #[test]
    fn a_special_address_is_accepted_when_a_rule_names_it() {
        let rules = policy("accept *:*; accept 127.0.0.0/8:8080; accept [::1]:*; reject *:25; accept 10.0.0.0/8:*");
        assert!(allows(&rules, "127.3.0.1", 8080) && !allows(&rules, "127.3.0.1", 8081));
        assert!(allows(&rules, "::ffff:127.0.0.1", 8080));
        assert!(allows(&rules, "::1", 25) && !allows(&rules, "::2", 25));
        assert!(allows(&rules, "10.1.1.1", 24) && !allows(&rules, "10.1.1.1", 25));
        assert!(!allows(&policy("accept 8.0.0.0/5:*"), "10.0.0.1", 80));
    }

    #[test]
    fn an_address_is_allowed_by_name_only_by_a_rule_for_it_alone() {
        let rules = policy(
            "accept 1.1.1.1:80; accept [2600::1]:*; accept 1.1.1.0/24:*; accept *:80; accept 1.1.1.3:80; reject 8.8.8.8:*; accept 8.8.8.8:*",
        );
        let by_name = |address: &str, port| rules.allows_by_name(address.parse().unwrap(), port);
        assert!(by_name("1.1.1.3", 80), "wide rules are passed over");
        assert!(by_name("1.1.1.1", 80) && by_name("2600::1", 22) && by_name("64:ff9b::101:101", 80));
        assert!(!by_name("1.1.1.1", 81) && !by_name("1.1.1.2", 80) && !by_name("2600::2", 80));
        assert!(!by_name("8.8.8.8", 22), "a refusal is not");
    }

    #[test]
    fn an_address_may_be_allowed_if_a_rule_accepts_any_of_its_ports() {
        let rules = policy("reject 127.0.0.1:*; reject *:25; accept 127.0.0.0/8:25,80; accept *:80");
        let may = |address: &str| rules.may_allow_address(address.parse().unwrap());
        assert!(may("127.0.0.2") && may("1.1.1.1"));
        assert!(!may("127.0.0.1") && !may("10.0.0.1") && !may("::1"));
    }

    #[test]
    fn an_ipv4_rule_holds_for_addresses_that_embed_it() {
        let rules = policy("reject 8.8.8.8:*; accept *:*");
        assert!(["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808"].iter().all(|address| !allows(&rules, address, 53)));
        assert!(allows(&rules, "64:ff9b::808:809", 53));
    }

    #[test]
    fn a_path_is_chosen_by_what_an_exit_may_serve() {
        let rules = policy("reject *:25; accept 1.0.0.0/8:25; reject 2.0.0.0/8:*; accept 2.1.0.0/16:80; accept *:443");
        assert!(!rules.may_allow_port(25) && !rules.may_allow_port(80) && rules.may_allow_port(443));
        let name = Host::Name(HostName::parse("example.org").unwrap());
        let target = |host: &Host, port| Target::Exit { host: host.clone(), port };
        assert!(rules.may_allow(&target(&name, 443)) && !rules.may_allow(&target(&name, 80)));
        assert!(!rules.may_allow(&target(&Host::parse("10.0.0.1").unwrap(), 443)));
        assert!(rules.may_allow(&Target::Resolve { host: name.clone() }));
        assert!(!policy("reject *:*").may_allow(&Target::Resolve { host: name }));
        assert!(ExitPolicy::default().may_allow(&Target::Directory));
    }

    #[test]
    fn a_bad_rule_is_refused_with_what_is_wrong() {
        for rule in ["", "accept", "allow *:80", "Accept *:80", "accept *", "accept  ", "accept*:80"] {
            assert_eq!(cause(rule), RuleError::Form, "{rule}");
        }
        for port in ["0", "65536", "", "-", "80-", "-80", "90-80", "+80", "http", "80 ", "1-2-3"] {
            assert_eq!(cause(&format!("accept *:{port}")), RuleError::Port(port.to_owned()));
        }
        assert_eq!(cause("accept 10.0.0.0/40:80"), RuleError::Network(IpNetError::Length(32)));
        assert_eq!(cause("accept 2001:db8::1:80"), RuleError::Network(IpNetError::Address));
        let many = vec!["1"; MAX_RULE_PORTS + 1].join(",");
        assert_eq!(cause(&format!("accept *:{many}")), RuleError::TooManyPorts(MAX_RULE_PORTS + 1));
        let rules = vec!["accept *:1"; MAX_POLICY_RULES + 1].join(";");
        assert_eq!(rules.parse::<ExitPolicy>(), Err(PolicyError::TooManyRules(MAX_POLICY_RULES + 1)));
        assert_eq!(
            "accept 10.0.0.1/8:80".parse::<Rule>().unwrap_err().to_string(),
            "exit rule \"accept 10.0.0.1/8:80\": the address has bits set behind its prefix; the network is 10.0.0.0/8"
        );
    }

    #[test]
    fn in_files_a_policy_is_a_list_of_texts() {
        let rules = policy("reject [2001:db8::]/32:443; accept *:80,8000-8999");
        let text = serde_json::to_string(&rules).unwrap();
        assert_eq!(text, r#"["reject [2001:db8::]/32:443","accept *:80,8000-8999"]"#);
        assert_eq!(serde_json::from_str::<ExitPolicy>(&text).unwrap(), rules);
        assert!(serde_json::from_str::<ExitPolicy>(r#"["accept *"]"#).is_err());
    }

    fn rule() -> impl Strategy<Value = String> {
        let verdict = prop_oneof![Just("accept"), Just("reject")];
        let network = prop_oneof![
            Just("*".to_owned()),
            any::<(u32, u8)>().prop_map(|(bits, n)| IpNet::around(IpAddr::V4(bits.into()), n % 33).to_string()),
            any::<(u128, u8)>()
                .prop_map(|(bits, n)| IpNet::around(IpAddr::V6((bits | 1 << 127).into()), n | 1).to_string()),
        ];
        let ports = prop_oneof![
            Just("*".to_owned()),
            (1..=u16::MAX).prop_map(|port| port.to_string()),
            (1u16..100, 100u16..).prop_map(|(first, last)| format!("{first}-{last},7")),
        ];
        (verdict, network, ports).prop_map(|(verdict, network, ports)| format!("{verdict} {network}:{ports}"))
    }

    proptest! {
        #[test]
        fn a_policy_survives_its_text_form(rules in prop::collection::vec(rule(), 0..8)) {
            let text = rules.join("; ");
            prop_assert_eq!(policy(&text).to_string(), text);
        }

        #[test]
        fn what_is_allowed_was_possible(rules in prop::collection::vec(rule(), 0..8), bits: u32, port: u16) {
            let rules = policy(&rules.join(";"));
            let address = IpAddr::V4(bits.into());
            prop_assert!(!rules.allows(address, port) || (rules.may_allow_port(port) && rules.is_exit()));
        }
    }
}
