//! Sessions: what reconciliations cost, measured on the production code.
//!
//! A simulated day has millions of reconciliations, too many to compute each. What one takes depends on how many
//! records the two have and how many differ, so it is measured once for each of some numbers, and read between them.

use std::time::Instant;

use trefoil_protocol::{
    descriptor::Record,
    directory::{Answer, Greeting, Request},
    params::NetworkParams,
    reconcile::{Held, Reconciler, Responder, Salt},
    view::View,
};

use super::{
    knowledge::Facts,
    traffic::{PACKET, on_wire},
    world::{FIRST, Relay, World},
};

/// What sessions cost between views of one size.
pub struct Sessions {
    /// For numbers of differences, in their order, what a session costs.
    costs: Vec<(usize, Cost)>,
    /// Seconds of one processor for a session without differences, both sides together; a figure of this machine.
    pub seconds: f64,
}

/// What a session costs, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Bytes of frames.
    pub frames: f64,
    /// Bytes of the packets that carry them.
    pub packets: f64,
}

impl Sessions {
    /// Measures sessions between views of the records that there are at the start, one of each relay.
    pub fn measure(world: &World, facts: &Facts, relays: &[&Relay]) -> Self {
        let now = FIRST.start(&world.params.directory);
        let mut whole = View::new(&world.params, now);
        (0..relays.len()).for_each(|number| drop(whole.offer(facts.fact(number).checked.clone(), now)));
        let mut oldest: Vec<_> = (0..relays.len()).collect();
        oldest.sort_by_key(|number| facts.fact(*number).checked.record().issued());
        // What differs are renewals of the oldest records: each side knows half of them. Of each the one side has the new
        // record and the other the old one, which are two differences.
        let renewed = |differences: usize, parity: usize| {
            let mut view = whole.clone();
            for number in oldest[..differences / 2].iter().skip(parity).step_by(2) {
                let relay = relays[*number];
                view.offer(world.record(relay, &world.describe(relay, FIRST)), now);
            }
            view
        };
        let differences = [0, 2, 4, 8, 16, 32, 64, 128, 256].into_iter().filter(|count| *count <= relays.len() / 2);
        let costs = differences.map(|count| (count, session(&renewed(count, 0), &renewed(count, 1)))).collect();
        let started = Instant::now();
        session(&whole, &whole);
        Self { costs, seconds: started.elapsed().as_secs_f64() }
    }

    /// What a session costs that finds so many differences.
    pub fn cost(&self, differences: usize) -> Cost {
        let above = self.costs.iter().position(|(count, _)| *count >= differences).unwrap_or(self.costs.len() - 1);
        let (high, high_cost) = self.costs[above];
        let (low, low_cost) = self.costs[above.saturating_sub(1)];
        if high == low || high <= differences {
            let factor = differences.max(1) as f64 / high.max(1) as f64;
            return Cost { frames: high_cost.frames * factor, packets: high_cost.packets * factor };
        }
        let share = (differences - low) as f64 / (high - low) as f64;
        let between = |low: f64, high: f64| low + share * (high - low);
        Cost {
            frames: between(low_cost.frames, high_cost.frames),
            packets: between(low_cost.packets, high_cost.packets),
        }
    }
}

/// A session between two views, all of it production code: its messages and the names of what is wanted; the records
/// themselves are counted elsewhere.
///
/// # Panics
/// If it does not find exactly what differs.
fn session(asker: &View, other: &View) -> Cost {
    let salt = Salt([7; 16]);
    let mut cost = Cost::default();
    let mut count = |bytes: usize| {
        cost.frames += bytes as f64;
        cost.packets += on_wire(bytes);
    };
    // As relays do: a greeting first, fraud proofs last, of which there are none.
    let hello = Greeting {
        minutes: 0,
        network: NetworkParams::main().id(),
        records: 0,
        usable: [0; 32],
        epoch: FIRST,
        seen: Some(([192, 0, 2, 1], 9001).into()),
    };
    count(Request::Hello.encode().len());
    count(Answer::Hello(hello).encode().len());
    count(Request::Frauds { offset: 0 }.encode().len());
    count(Answer::Frauds(vec![]).encode().len());
    let (mut reconciler, first) = Reconciler::start(&Held::of(asker), salt);
    let mut responder = Responder::new(&Held::of(other), salt);
    let mut message = Some((Some(salt), first));
    while let Some((begin, question)) = message {
        count(Request::Reconcile { begin, message: &question }.encode().len());
        let answer = responder.respond(&question).expect("an honest question");
        count(Answer::Reconcile(&answer).encode().len());
        message = reconciler.handle_answer(&answer).expect("an honest answer").map(|next| (None, next));
    }
    let has =
        |view: &View, record: &Record| view.get(&record.relay()).is_some_and(|known| known.record.record() == record);
    let lacks = |one: &View, other: &View| other.iter().filter(|(_, known)| !has(one, known.record.record())).count();
    let wants: Vec<_> = reconciler.wants().collect();
    assert_eq!((wants.len(), reconciler.haves().count()), (lacks(asker, other), lacks(other, asker)));
    for wants in wants.chunks(256) {
        count(Request::Want(wants.to_vec()).encode().len());
    }
    cost.packets += 2.0 * PACKET; // the stream's two ends, and the last acknowledgement
    cost
}
