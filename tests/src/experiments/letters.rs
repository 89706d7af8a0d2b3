//! Letters: thousands of them, or a million, between people who come and go, over mailboxes of which three in ten vanish each epoch.
//!
//! Real are: each person's program (`trefoil_client::letters`, with its vault, ratchets, envelopes, tickets), each
//! mailbox (`trefoil_relay::mailbox`), every request and answer as bytes, and the rule of rings. Simulated are the clock
//! and the way: an errand takes up to two seconds, one request in fifty is lost, and one answer in fifty, and whoever
//! asked waits as long as its program would. A relay that is replaced takes all that it had with it, and nothing is copied
//! from one mailbox to another: letters come through because their writers leave them again. All see the same relays at
//! the same time, and stamps are cheap here (`REBATE`). People are in groups in which everyone knows everyone; groups
//! share nothing, and run beside each other.

use std::thread;

use super::{
    Line, Outcome, Setup,
    queue::{DAY, Millis},
    table::{Table, bytes},
    trace::Trace,
};

mod group;
mod person;
mod post;
mod tally;

use self::{group::Group, tally::Tally};

/// How large a group is, and how long it writes.
#[derive(Clone, Copy, Debug)]
struct Shape {
    people: usize,
    relays: usize,
    letters: usize,
    /// For how long people write.
    writing: Millis,
    /// For how long a letter is delivered.
    delivery: Millis,
}

/// The experiment.
pub fn run(setup: &Setup) -> Outcome {
    let letters = setup.letters.unwrap_or(setup.pick(20_000, 40));
    let groups = letters.div_ceil(GROUP).max(1);
    let shape = Shape::of(setup, letters / groups);
    let tally = run_all(shape, setup.seed, groups);
    let mut trace = Trace::default();
    tally.enter(&mut trace);
    let lines = lines(&tally);
    Outcome { tables: vec![table(&tally, shape, groups)], lines, notes: vec![], trace: trace.value() }
}

impl Shape {
    /// About a hundred letters a week from everyone to everyone.
    fn of(setup: &Setup, letters: usize) -> Self {
        let days = setup.pick(28, 1);
        let pairs = letters as f64 * 7.0 / (days as f64 * WEEKLY);
        let people = (pairs.sqrt().ceil() as usize).clamp(2, 128) + 1;
        let delivery = setup.pick(14, 2) * DAY;
        Self { people, relays: setup.relays(60, 40), letters, writing: days * DAY, delivery }
    }
}

/// Runs the groups on as many threads as there are cores; in which order they end is of no matter.
fn run_all(shape: Shape, seed: u64, groups: usize) -> Tally {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(groups);
    let group = |number: usize| Group::new(shape, seed, number).run();
    let share = |first: usize| (first..groups).step_by(threads).map(group).collect::<Vec<_>>();
    let mut found: Vec<Vec<Tally>> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        running.into_iter().map(|thread| thread.join().expect("a group runs to its end")).collect()
    });
    let mut all = Tally::default();
    for number in 0..groups {
        all.add(std::mem::take(&mut found[number % threads][number / threads]));
    }
    all
}

fn table(tally: &Tally, shape: Shape, groups: usize) -> Table {
    let title = format!(
        "{groups} groups of {} people and {} relays; letters are written for {} days and delivered for {}",
        shape.people,
        shape.relays,
        shape.writing / DAY,
        shape.delivery / DAY,
    );
    let mut table = Table::new(title, &["what", "figure"]);
    let each = |count: u64| count as f64 / tally.letters.max(1) as f64;
    let rows = [
        ("letters", tally.letters.to_string()),
        ("delivered", tally.delivered.to_string()),
        ("expired", tally.expired.to_string()),
        ("of these, shown all the same", tally.expired_shown.to_string()),
        ("failed", tally.failed.to_string()),
        ("silent", tally.silent.to_string()),
        ("shown twice", tally.twice.to_string()),
        ("until shown: median", hours(tally.quantile(0.5))),
        ("until shown: 99 %", hours(tally.quantile(0.99))),
        ("deposits that came to a mailbox, per letter", format!("{:.1}", each(tally.deposits))),
        ("lists of tickets registered, per letter", format!("{:.1}", each(tally.lists))),
        ("requests and answers, per letter", bytes(each(tally.bytes))),
        ("relays replaced", tally.replaced.to_string()),
        ("programs started again", tally.restarts.to_string()),
    ];
    rows.into_iter().for_each(|(what, figure)| table.row(vec![what.to_owned(), figure]));
    table
}

fn lines(tally: &Tally) -> Vec<Line> {
    let none = |claim: &str, count: usize| Line::new(claim, format!("{count} that are not"), count == 0);
    let written = tally.delivered + tally.expired + tally.failed + tally.silent;
    vec![
        none("every letter ends delivered, or is reported as expired or failed", tally.silent),
        none("whatever is reported as delivered was shown", tally.unshown),
        none("no letter is shown but once", tally.twice),
        none("every letter stands in its writer's history", tally.letters.abs_diff(written)),
        none("every letter that expired was on its way for all of its time", tally.hasty),
        none("every letter that expired unread was between two who were hardly there at once", tally.missed),
        Line::new("something was delivered", tally.delivered.to_string(), tally.delivered > 0),
    ]
}

fn hours(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{:.1} min", seconds as f64 / 60.0),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

/// Letters of a group at most.
const GROUP: usize = 20_000;
/// Letters in a week from one person to another: with the receipts, what a contact's tickets suffice for.
const WEEKLY: f64 = 400.0;
/// Bits that a stamp may lack here; see `Terms::rebate`.
const REBATE: u8 = 14;
/// Zero bits of stamps: with what they may lack, the least price of a list of tickets.
const STAMPS: u8 = 4;
