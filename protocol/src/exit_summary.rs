//! Exit summary: what a relay's descriptor says of its exit policy, in 34 bytes at most.
//!
//! Specification: docs/protocol.md, "Descriptors". It says at which ports the relay exits to most public addresses,
//! and whether to some local ones; the policy itself, which may refuse more, stays with the exit.

use crate::{
    ip,
    limits::MAX_SUMMARY_RANGES,
    policy::{ExitPolicy, PortRange, Rule},
    wire::Reader,
};

/// At which ports a relay exits, and to which kinds of address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExitSummary {
    list: List,
    reach: Reach,
    ranges: Vec<PortRange>, // in order, with at least one port between two
}

/// What the ranges are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum List {
    Accepted,
    Refused,
}

/// The kinds of address that a relay exits to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reach {
    Public = 1,
    Local = 2,
    Both = 3,
}

impl ExitSummary {
    /// The summary of a policy; `None` if it exits nowhere, or only to a few public addresses.
    ///
    /// A port counts as public if rules for all IPv4 or all IPv6 addresses accept it, as local if a rule for local ones does. Where that
    /// makes more than 8 ranges, those that are next to each other become one.
    pub fn of(policy: &ExitPolicy) -> Option<Self> {
        let public = ranges(policy, |port| policy.accepts_everywhere(port));
        let local = ranges(policy, |port| policy.accepts_local(port));
        let reach = match (public.is_empty(), local.is_empty()) {
            (true, true) => return None,
            (false, true) => Reach::Public,
            (true, false) => Reach::Local,
            (false, false) => Reach::Both,
        };
        let either = |port| policy.accepts_everywhere(port) || policy.accepts_local(port);
        let (accepted, refused) = (ranges(policy, either), ranges(policy, |port| !either(port)));
        let (list, ranges) = if refused.len() < accepted.len() && refused.len() <= MAX_SUMMARY_RANGES {
            (List::Refused, refused)
        } else {
            (List::Accepted, merged(accepted))
        };
        Some(Self { list, reach, ranges })
    }

    /// The policy that says the same.
    pub fn to_policy(&self) -> ExitPolicy {
        let local = ip::LOCAL.iter().filter(|_| self.reach != Reach::Public).map(|block| Some(*block));
        let networks = local.chain((self.reach != Reach::Local).then_some(None));
        let mut rules = Vec::new();
        let accepted = match self.list {
            List::Accepted => self.ranges.clone(),
            List::Refused if self.ranges.is_empty() => vec![PortRange::ALL],
            List::Refused => {
                rules.push(Rule::reject(None, self.ranges.clone()));
                vec![PortRange::ALL]
            }
        };
        rules.extend(networks.map(|network| Rule::accept(network, accepted.clone())));
        ExitPolicy::new(rules).expect("ten rules are few")
    }

    /// Appends mode 1 ‖ count 1 ‖ count × (first 2 ‖ last 2).
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        let refused = if self.list == List::Refused { REFUSED } else { 0 };
        let count = u8::try_from(self.ranges.len()).expect("at most 8 ranges");
        bytes.extend([refused | (self.reach as u8) << 1, count]);
        for PortRange(first, last) in &self.ranges {
            bytes.extend(first.to_le_bytes());
            bytes.extend(last.to_le_bytes());
        }
    }

    /// Takes what [`Self::encode`] made; `None` for anything else, and for a summary of no port at all.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mode = reader.byte()?;
        let list = if mode & REFUSED == 0 { List::Accepted } else { List::Refused };
        let reach = match mode & !REFUSED {
            2 => Reach::Public,
            4 => Reach::Local,
            6 => Reach::Both,
            _ => return None,
        };
        let count = usize::from(reader.byte()?);
        if count > MAX_SUMMARY_RANGES {
            return None;
        }
        let mut ranges = Vec::with_capacity(count);
        let mut free = 1; // the first port that a range may begin with
        for _ in 0..count {
            let (first, last) = (reader.u16()?, reader.u16()?);
            if u32::from(first) < free || last < first {
                return None;
            }
            free = u32::from(last) + 2;
            ranges.push(PortRange(first, last));
        }
        let nothing = match list {
            List::Accepted => ranges.is_empty(),
            List::Refused => ranges == [PortRange::ALL],
        };
        (!nothing).then_some(Self { list, reach, ranges })
    }
}

/// The ranges of ports for which `is_one` holds; it may change only where one of the policy's ranges begins or ends.
fn ranges(policy: &ExitPolicy, is_one: impl Fn(u16) -> bool) -> Vec<PortRange> {
    let steps = policy.port_steps();
    let lasts = steps.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    let mut ranges: Vec<PortRange> = Vec::new();
    for (first, last) in steps.iter().copied().zip(lasts).filter(|(first, _)| is_one(*first)) {
        match ranges.last_mut() {
            Some(before) if u32::from(before.1) + 1 == u32::from(first) => before.1 = last,
            _ => ranges.push(PortRange(first, last)),
        }
    }
    ranges
}

/// At most [`MAX_SUMMARY_RANGES`], made by closing the smallest gaps.
fn merged(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    while ranges.len() > MAX_SUMMARY_RANGES {
        let gaps = ranges.iter().zip(ranges.iter().skip(1)).map(|(before, after)| after.0 - before.1);
        let Some((at, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) else { break };
        let after = ranges.remove(at + 1);
        if let Some(before) = ranges.get_mut(at) {
            before.1 = after.1;
        }
    }
    ranges
}

const REFUSED: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn summary(policy: &str) -> Option<ExitSummary> {
        ExitSummary::of(&policy.parse().unwrap())
    }

    fn bytes(summary: &ExitSummary) -> Vec<u8> {
        let mut bytes = Vec::new();
        summary.encode(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<ExitSummary> {
        let mut reader = Reader::new(bytes);
        ExitSummary::decode(&mut reader).filter(|_| reader.is_empty())
    }

    /// The summary, as the policy that it stands for.
    fn told(policy: &str) -> Option<String> {
        summary(policy).map(|summary| summary.to_policy().to_string())
    }

    #[test]
    fn a_policy_is_told_by_its_ports() {
        let cases = [
            ("accept *:80,443", "accept *:80,443"),
            ("accept *:*", "accept *:*"),
            ("reject *:25,465; accept *:*", "reject *:25,465; accept *:*"),
            ("reject 1.2.3.0/24:*; accept *:80; accept 8.8.8.8:53", "accept *:80"),
            ("reject *:1-1023; accept 0.0.0.0/0:*", "accept *:1024-65535"),
            ("accept *:80; reject *:*; accept *:443", "accept *:80"),
            ("reject [::]/0:*; accept *:80", "accept *:80"),
            ("accept 0.0.0.0/0:80", "accept *:80"),
        ];
        cases.iter().for_each(|(policy, expected)| assert_eq!(told(policy).as_deref(), Some(*expected), "{policy}"));
    }

    #[test]
    fn a_policy_for_few_public_addresses_is_no_exit() {
        for policy in ["", "reject *:*; accept *:80", "accept 8.8.8.8:53", "reject 10.0.0.0/8:*; accept 10.1.1.1:1"] {
            assert_eq!(summary(policy), None, "{policy}");
        }
    }

    #[test]
    fn local_addresses_are_told_apart_from_public_ones() {
        let local = summary("accept 127.0.0.1:8080").unwrap().to_policy();
        assert!(local.allows("127.0.0.1".parse().unwrap(), 8080) && !local.allows("1.1.1.1".parse().unwrap(), 8080));
        assert!(!local.may_allow_port(80));
        let both = summary("accept [fd00::]/16:80; accept *:443").unwrap().to_policy();
        assert!(both.allows("fd00::1".parse().unwrap(), 80) && both.allows("1.1.1.1".parse().unwrap(), 443));
        assert!(!summary("accept *:80").unwrap().to_policy().allows("127.0.0.1".parse().unwrap(), 80));
    }

    #[test]
    fn more_ranges_than_fit_are_merged_where_they_are_nearest() {
        let many = "accept *:1,11,21,31,41,51,61,71,73,81,91,1000";
        let expected = "accept *:1-21,31,41,51,61,71-81,91,1000";
        assert_eq!(told(many).as_deref(), Some(expected));
    }

    #[test]
    fn a_summary_has_one_form_and_its_bounds() {
        let good = [2, 2, 80, 0, 80, 0, 187, 1, 187, 1];
        assert_eq!(decode(&good).map(|summary| bytes(&summary)).as_deref(), Some(&good[..]));
        (0..good.len()).for_each(|length| assert_eq!(decode(&good[..length]), None, "{length}"));
        let refused: [&[u8]; 11] = [
            &[2, 0],                              // accepts nothing
            &[3, 1, 1, 0, 255, 255],              // refuses everything
            &[0, 1, 80, 0, 80, 0],                // to no address
            &[10, 1, 80, 0, 80, 0],               // an unknown bit
            &[2, 1, 0, 0, 80, 0],                 // port 0
            &[2, 1, 81, 0, 80, 0],                // the last before the first
            &[2, 2, 80, 0, 80, 0, 80, 0, 90, 0],  // overlapping
            &[2, 2, 80, 0, 80, 0, 81, 0, 90, 0],  // adjacent
            &[2, 2, 80, 0, 80, 0, 70, 0, 70, 0],  // in the wrong order
            &[2, 2, 80, 0, 255, 255, 1, 0, 1, 0], // behind the last port
            &[2, 9],                              // too many
        ];
        refused.iter().for_each(|bytes| assert_eq!(decode(bytes), None, "{bytes:?}"));
    }

    fn ports() -> impl Strategy<Value = Vec<(u16, u16)>> {
        prop::collection::vec((1..=u16::MAX, 0u16..500).prop_map(|(a, n)| (a, a.saturating_add(n))), 1..20)
    }

    proptest! {
        #[test]
        fn a_summary_survives_and_never_leaves_out_a_port(ports in ports(), probe in 1..=u16::MAX) {
            let list: Vec<_> = ports.iter().map(|(first, last)| format!("{first}-{last}")).collect();
            let policy: ExitPolicy = format!("accept *:{}", list.join(",")).parse().unwrap();
            let summary = ExitSummary::of(&policy).unwrap();
            prop_assert_eq!(decode(&bytes(&summary)), Some(summary.clone()));
            prop_assert!(bytes(&summary).len() <= 34);
            let told = summary.to_policy();
            for port in ports.iter().flat_map(|(first, last)| [*first, *last]).chain([probe]) {
                prop_assert!(told.may_allow_port(port) || !policy.may_allow_port(port), "{}", port);
            }
            prop_assert_eq!(ExitSummary::of(&told), Some(summary));
        }
    }
}
