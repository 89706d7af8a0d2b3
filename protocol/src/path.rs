//! Path: which relays a circuit goes through.
//!
//! Specification: docs/protocol.md, "Paths". The origin draws every hop, by weight among all that the rules allow,
//! and never learns to prefer one: selection that adapts is selection that others can steer. This file keeps no
//! state and draws from the generator that it is handed.

use rand::{Rng, RngExt};

use crate::{
    entry::RelayEntry,
    host::Host,
    identity::RelayId,
    limits::{MAX_HOPS, MAX_PATH_SCANS, NEWCOMERS_SHARE},
    message::Target,
    relays::{Candidate, Marks, UsableRelay, UsableRelays},
};

/// What a path must be.
#[derive(Clone, Copy, Debug)]
pub struct PathRules<'a> {
    /// How many relays; 1 to [`MAX_HOPS`].
    pub hops: usize,
    /// Whether several relays may be in one netgroup; a parameter of the network.
    pub allow_same_netgroup: bool,
    /// The first hop, where it is chosen already. Without one a senior is drawn.
    pub guard: Option<RelayId>,
    /// What the last relay must be able to do.
    pub need: Need<'a>,
    /// Relays to leave out: those that failed lately.
    pub exclude: &'a [RelayId],
    /// One's own relays: left out with all that share a netgroup or family with them.
    pub own: &'a [UsableRelay],
}

/// What the last relay of a path must be able to do.
#[derive(Clone, Copy, Debug)]
pub enum Need<'a> {
    /// Nothing: any relay will do.
    Any,
    /// Exit to this port, of a host not known yet.
    Port(u16),
    /// Serve a stream to this target.
    Target(&'a Target),
}

/// Why there is no path, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// The network is too small.
    #[error("too few relays are known: {known}, and a circuit needs {hops}")]
    TooFew {
        /// Relays known.
        known: usize,
        /// Relays needed.
        hops: usize,
    },
    /// The network would be large enough.
    #[error(
        "too few relays are left: {left} of {known}, the others failed lately or are near yours, and a circuit \
             needs {hops}"
    )]
    TooFewLeft {
        /// Relays not left out.
        left: usize,
        /// Relays known.
        known: usize,
        /// Relays needed.
        hops: usize,
    },
    /// The guard that the rules name is not among the relays that are left.
    #[error("the guard is not among the relays that can be used now")]
    Guard,
    /// Of those that are left, none may be first.
    #[error("no relay that is known for long enough to be first is left: all of them failed lately")]
    NoFirst,
    /// No relay can be the last.
    #[error("none of the {known} relays {what}")]
    NoExit {
        /// Relays known.
        known: usize,
        /// What they do not do: "exits to port 25".
        what: String,
    },
    /// Some relays could be the last, but all of them are left out.
    #[error("no relay that {what} is left: all of them failed lately")]
    NoExitLeft {
        /// What no relay that is left does.
        what: String,
    },
    /// The relays are too close to each other.
    #[error("the relays that can be used are in too few different networks (/16, of IPv6 /32) for a circuit of {hops}")]
    Netgroups {
        /// Relays needed, each in a netgroup of its own.
        hops: usize,
    },
}

/// Draws a path through `relays`, first hop first.
///
/// With a guard, the others are drawn to fit it. The last hop is drawn first, then the first, then those between, each
/// by weight among all relays that the rules still allow, newcomers with at most a tenth of the mass; a draw that
/// leaves none for the hops that follow is taken back. Work is bounded: a few scans of `relays`, and never more than
/// [`MAX_PATH_SCANS`].
///
/// # Errors
/// [`NoPath`] when the rules leave none.
///
/// # Panics
/// If `rules.hops` is not 1 to [`MAX_HOPS`].
pub fn choose<'r>(
    relays: &'r UsableRelays,
    rules: &PathRules<'_>,
    rng: &mut impl Rng,
) -> Result<Vec<&'r RelayEntry>, NoPath> {
    let choice = Choice::new(relays, rules)?;
    choice.draw(rng)
}

/// Draws `count` paths, as [`choose`] does, to be tried one after the other.
///
/// Each is drawn as if it were the only one. All of them before the first is tried: so a relay that fails changes which
/// of them is used, and never what is drawn.
///
/// # Errors
/// [`NoPath`] when the rules leave none.
///
/// # Panics
/// If `rules.hops` is not 1 to [`MAX_HOPS`].
pub fn choose_many<'r>(
    relays: &'r UsableRelays,
    rules: &PathRules<'_>,
    count: usize,
    rng: &mut impl Rng,
) -> Result<Vec<Vec<&'r RelayEntry>>, NoPath> {
    let choice = Choice::new(relays, rules)?;
    (0..count).map(|_| choice.draw(rng)).collect()
}

/// What all paths under the same rules are drawn from.
struct Choice<'r, 'a> {
    relays: &'r UsableRelays,
    rules: &'a PathRules<'a>,
    left: Vec<Candidate>,
    lasts: Vec<Candidate>,
    guard: Option<Candidate>,
}

impl<'r, 'a> Choice<'r, 'a> {
    fn new(relays: &'r UsableRelays, rules: &'a PathRules<'_>) -> Result<Self, NoPath> {
        assert!((1..=MAX_HOPS).contains(&rules.hops), "a path has 1 to {MAX_HOPS} hops");
        let left = left(relays, rules)?;
        let guard = match rules.guard {
            Some(guard) => Some(find(&left, relays.position(&guard)).ok_or(NoPath::Guard)?),
            None if left.iter().any(|candidate| candidate.senior) => None,
            None => return Err(NoPath::NoFirst),
        };
        let can = |candidate: &Candidate| match rules.need {
            Need::Any => true,
            need => candidate.exit && relays.at(candidate.at).is_some_and(|relay| need.is_met_by(&relay.entry)),
        };
        let lasts: Vec<_> = left.iter().filter(|candidate| can(candidate)).copied().collect();
        if lasts.is_empty() { Err(no_exit(relays, rules)) } else { Ok(Self { relays, rules, left, lasts, guard }) }
    }

    fn draw(&self, rng: &mut impl Rng) -> Result<Vec<&'r RelayEntry>, NoPath> {
        let mut search = Search { choice: self, chosen: Vec::with_capacity(self.rules.hops), scans: MAX_PATH_SCANS };
        if !search.draw_all(rng) {
            return Err(NoPath::Netgroups { hops: self.rules.hops });
        }
        let mut chosen = search.chosen;
        if self.guard.is_none() || self.rules.hops == 1 {
            chosen.rotate_left(1); // the last hop was drawn first
        } else if let Some(at) = chosen.get_mut(1..) {
            at.rotate_left(1); // behind the guard
        }
        Ok(chosen.iter().filter_map(|candidate| Some(&self.relays.at(candidate.at)?.entry)).collect())
    }
}

/// The relays that are not left out, if they are enough.
fn left(relays: &UsableRelays, rules: &PathRules<'_>) -> Result<Vec<Candidate>, NoPath> {
    let (known, hops) = (relays.len(), rules.hops);
    if known < hops {
        return Err(NoPath::TooFew { known, hops });
    }
    let count = |marks: Marks| if rules.allow_same_netgroup { marks.family_only() } else { marks };
    let own: Vec<_> = rules.own.iter().map(|relay| count(relays.marks_of(relay))).collect();
    let own_ids = rules.own.iter().map(|relay| &relay.entry.id);
    let mut out: Vec<_> = rules.exclude.iter().chain(own_ids).filter_map(|id| relays.position(id)).collect();
    out.sort_unstable();
    let may_be_drawn = |candidate: &Candidate| {
        let candidate = Candidate { marks: count(candidate.marks), ..*candidate };
        let stays = out.binary_search(&candidate.at).is_err() && !own.iter().any(|own| own.meet(candidate.marks));
        stays.then_some(candidate)
    };
    let left: Vec<_> = relays.candidates().iter().filter_map(may_be_drawn).collect();
    if left.len() < hops { Err(NoPath::TooFewLeft { left: left.len(), known, hops }) } else { Ok(left) }
}

/// The candidate at this place; `candidates` are in the order of their places.
fn find(candidates: &[Candidate], at: Option<u32>) -> Option<Candidate> {
    let found = candidates.binary_search_by_key(&at?, |candidate| candidate.at).ok()?;
    candidates.get(found).copied()
}

fn no_exit(relays: &UsableRelays, rules: &PathRules<'_>) -> NoPath {
    let what = rules.need.in_words();
    if relays.iter().any(|relay| rules.need.is_met_by(&relay.entry)) {
        NoPath::NoExitLeft { what }
    } else {
        NoPath::NoExit { known: relays.len(), what }
    }
}

/// The draw of one path, hop by hop: the guard if it is given, the last, the first if it is not, those between.
struct Search<'s, 'r, 'a> {
    choice: &'s Choice<'r, 'a>,
    chosen: Vec<Candidate>,
    scans: usize,
}

impl Search<'_, '_, '_> {
    fn draw_all(&mut self, rng: &mut impl Rng) -> bool {
        let Choice { lasts, guard, rules, .. } = self.choice;
        let candidates: Vec<_> = match (guard, rules.hops) {
            (Some(guard), 1) => find(lasts, Some(guard.at)).into_iter().collect(),
            (Some(guard), _) => {
                self.chosen.push(*guard);
                lasts.iter().filter(|last| may_meet(last, guard)).copied().collect()
            }
            (None, 1) => lasts.iter().filter(|last| last.senior).copied().collect(),
            (None, _) => lasts.clone(),
        };
        self.draw_from(candidates, rng)
    }

    /// Draws the next hop from `candidates`, and then all that follow. `false` if there is no way.
    fn draw_from(&mut self, mut candidates: Vec<Candidate>, rng: &mut impl Rng) -> bool {
        while let Some(drawn) = draw(&candidates, rng) {
            self.chosen.push(drawn);
            if self.chosen.len() == self.choice.rules.hops {
                return true;
            }
            let Some(next) = self.scan() else { return false };
            if self.draw_from(next, rng) {
                return true;
            }
            self.chosen.pop();
            // Those like it would fail for the same reason.
            candidates
                .retain(|other| other.at != drawn.at && (other.marks, other.senior) != (drawn.marks, drawn.senior));
        }
        false
    }

    /// The relays that may join those chosen, as the next hop; `None` when the work is not worth going on.
    fn scan(&mut self) -> Option<Vec<Candidate>> {
        self.scans = self.scans.checked_sub(1)?;
        let first = self.choice.guard.is_none() && self.chosen.len() == 1;
        let may_join =
            |relay: &&Candidate| (relay.senior || !first) && self.chosen.iter().all(|other| may_meet(relay, other));
        Some(self.choice.left.iter().filter(may_join).copied().collect())
    }
}

fn may_meet(one: &Candidate, other: &Candidate) -> bool {
    one.at != other.at && !one.marks.meet(other.marks)
}

/// One of the candidates, by weight. All newcomers together have at most one part in [`NEWCOMERS_SHARE`] of the mass,
/// unless there is nobody else.
fn draw(candidates: &[Candidate], rng: &mut impl Rng) -> Option<Candidate> {
    let (mut seniors, mut newcomers) = (0u64, 0u64);
    for candidate in candidates {
        *(if candidate.senior { &mut seniors } else { &mut newcomers }) += u64::from(candidate.weight);
    }
    if seniors > 0 && newcomers * (NEWCOMERS_SHARE - 1) > seniors {
        // Too many newcomers for a draw from all: which group, and then which of it.
        let senior = rng.random_range(0..NEWCOMERS_SHARE) != 0;
        let all = if senior { seniors } else { newcomers };
        return pick(candidates.iter().filter(|candidate| candidate.senior == senior), all, rng);
    }
    pick(candidates.iter(), seniors + newcomers, rng)
}

/// One of those whose weights add up to `mass`, by weight.
fn pick<'c>(mut group: impl Iterator<Item = &'c Candidate>, mass: u64, rng: &mut impl Rng) -> Option<Candidate> {
    let mut left = if mass == 0 { return None } else { rng.random_range(0..mass) };
    let hit = group.find(|candidate| {
        let weight = u64::from(candidate.weight);
        let hit = left < weight;
        left = left.saturating_sub(weight);
        hit
    });
    hit.copied()
}

impl Need<'_> {
    /// Whether this relay can do it.
    pub fn is_met_by(&self, relay: &RelayEntry) -> bool {
        match self {
            Self::Any => true,
            Self::Port(port) => relay.exit.may_allow_port(*port),
            Self::Target(target) => relay.exit.may_allow(target),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Port(port) | Self::Target(Target::Exit { host: Host::Name(_), port }) => {
                format!("exits to port {port}")
            }
            Self::Target(Target::Exit { host: Host::Address(address), port }) => {
                format!("exits to {address}, port {port}")
            }
            Self::Target(Target::Resolve { .. }) => "resolves names".to_owned(),
            Self::Any | Self::Target(_) => "can be the last".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
