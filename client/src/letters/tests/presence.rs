//! When somebody is online, as others try to find out: a contact, a stranger and a mailbox. Each plays the same part
//! twice, with an owner whose days differ in one thing, and what it has seen is compared: for what is hidden it is
//! equal, and what is still seen is shown to differ.

use std::collections::{BTreeMap, BTreeSet};

use trefoil_protocol::{
    crypto,
    limits::WATCH,
    mailbox::{Ask, FRAME_HEADER, Owned, Request},
    period::{Week, WeekOffset},
    prekeys::{self, PrekeysOf, PrekeysRecord},
};

use super::world::{Asked, NETWORK, World, settings};
use super::*;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// The owner, who is Alice, and Bob, who is a contact or a stranger.
const ALICE: usize = 0;
const BOB: usize = 1;

/// What Alice does in three days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Days {
    /// Her program runs, and she looks at nothing.
    Online,
    /// And she reads each hour what has come.
    Reading,
    /// Her program does not run from the first evening to the evening after it.
    Away,
}

/// Hours between two of Bob's letters.
const LETTER_EVERY: u64 = 5;
const LEAVES: u64 = 18 * HOUR;
const COMES: u64 = 42 * HOUR;

/// A moment, and what was seen then.
type Seen = (u64, String);

/// What Bob's program is told, hour by hour, and what mailboxes answer it, second by second.
fn seen_by_contact(receipts: Receipts, days: Days) -> Vec<Seen> {
    let mut world = World::new(5, 2);
    let (bob, alice) = world.meet(BOB, ALICE);
    world.run_to_a_quiet_day();
    let now = world.now;
    world.people[ALICE].letters().set_receipts(alice, receipts, now).unwrap();
    let (start, before) = (world.now, world.tape.len());
    world.people[BOB].news.clear();
    let mut seen = vec![];
    for hour in 0..72u64 {
        world.live(alice, days, hour);
        if hour % LETTER_EVERY == 0 {
            world.people[BOB].write(bob, &format!("hour {hour}"), world.now);
        }
        world.run(HOUR);
        let news = std::mem::take(&mut world.people[BOB].news);
        seen.extend(news.iter().map(|news| (world.now.since(start), kind(news))));
    }
    let answers = world.tape[before..].iter().filter(|asked| asked.person == BOB);
    seen.extend(answers.map(|asked| (asked.to.since(start), answered(asked))));
    seen
}

#[test]
fn a_contact_never_learns_whether_somebody_looks_at_letters_and_without_receipts_not_whether_the_program_runs() {
    let [online, reading, without, away] = [
        (Receipts::Usual, Days::Online),
        (Receipts::Usual, Days::Reading),
        (Receipts::Off, Days::Online),
        (Receipts::Off, Days::Away),
    ]
    .map(|(receipts, days)| seen_by_contact(receipts, days));
    assert!(online.iter().filter(|(_, what)| what == "Delivered").count() == 15, "{online:?}");
    assert_same(&online, &reading);
    assert!(without.iter().all(|(_, what)| what != "Delivered"));
    assert_same(&without, &away);
}

#[test]
fn a_contact_sees_by_receipts_when_the_program_runs_and_when_it_comes_back() {
    for (receipts, mean) in [(Receipts::Usual, settings().receipt), (Receipts::Slow, 10 * settings().receipt)] {
        let told = |days| {
            let mut seen = seen_by_contact(receipts, days);
            seen.retain(|(_, what)| what.starts_with("fetch"));
            seen.into_iter().map(|(at, _)| at).collect::<Vec<_>>()
        };
        let (online, away) = (told(Days::Online), told(Days::Away));
        let latest = 8 * mean + 10; // the longest delay, and the way there and back
        let after = |told: &[u64], from: u64| told.iter().any(|at| (from..from + latest).contains(at));
        for letter in (0..72).filter(|hour| hour % LETTER_EVERY == 0).map(|hour| hour * HOUR) {
            assert!(after(&online, letter), "{receipts:?}, {letter}: {online:?}");
        }
        let gap = away.iter().filter(|at| (LEAVES + latest..COMES).contains(at)).count();
        assert!(gap == 0 && after(&away, COMES), "{receipts:?}: {away:?}");
    }
}

/// Without receipts a contact still gets passes: one a week, when the program first runs in it.
#[test]
fn a_contact_sees_once_a_week_when_the_program_first_runs_also_without_receipts() {
    let told = |away: u64| {
        let mut world = World::new(5, 2);
        let (_, alice) = world.meet(BOB, ALICE);
        let now = world.now;
        world.people[ALICE].letters().set_receipts(alice, Receipts::Off, now).unwrap();
        let offset = world.home();
        let turn = Week::of(now, offset).plus(1).start(offset);
        world.run(turn.since(now) - 60);
        let before = world.tape.len();
        world.people[ALICE].online = away == 0;
        world.run(away + 60);
        world.people[ALICE].online = true;
        world.run(DAY);
        let told = world.tape[before..].iter().filter(|asked| asked.person == BOB && what(asked) == "fetch");
        told.map(|asked| asked.to.since(turn)).min().unwrap()
    };
    let (online, away) = (told(0), told(2 * DAY));
    assert!(online < 600, "{online} s after the turn");
    assert!((2 * DAY..2 * DAY + 600).contains(&away), "{away} s after the turn");
}

/// What a stranger sees who asks to be a contact and is not answered, and looks each hour at what mailboxes have for
/// who knows the address; without what Olm draws, which no two runs have in common.
fn seen_by_stranger(life: impl Fn(&mut World, u64)) -> Vec<Seen> {
    let mut world = World::new(5, 2);
    world.run_to_a_quiet_day();
    let (address, now) = (world.people[ALICE].address, world.now);
    world.people[BOB].letters().settings.stamps = 6; // what it costs: a cheaper one would be enough by chance
    world.people[BOB].letters().request(&address, ("Alice", "hello?"), None, now).unwrap();
    let (start, heard) = (world.now, world.tape.len());
    let mut seen = vec![];
    for hour in 0..72 {
        life(&mut world, hour);
        world.run(HOUR);
        let news = std::mem::take(&mut world.people[BOB].news);
        seen.extend(news.iter().map(|news| (world.now.since(start), kind(news))));
        seen.extend(world.prekeys_of(ALICE).into_iter().map(|prekeys| (world.now.since(start), prekeys)));
    }
    let answers = world.tape[heard..].iter().filter(|asked| asked.person == BOB);
    seen.extend(answers.map(|asked| (asked.to.since(start), answered(asked))));
    seen
}

/// Does something with the request that came.
fn answering(world: &mut World, hour: u64, answer: impl Fn(&mut Letters, u32, UnixSeconds)) {
    if hour == 20 {
        let (now, bob) = (world.now, world.people[BOB].address);
        let id = world.people[ALICE].knows(&bob).expect("the request has come");
        answer(world.people[ALICE].letters(), id, now);
    }
}

#[test]
fn a_stranger_sees_the_same_whether_the_program_runs_or_not_and_whether_a_request_is_read_or_refused() {
    let online = seen_by_stranger(|_, _| ());
    assert!(online.len() > 72 * 5 * 4, "{}", online.len());
    let away = seen_by_stranger(|world, hour| {
        world.people[ALICE].online = !(LEAVES..COMES).contains(&(hour * HOUR));
    });
    assert_same(&online, &away);
    let removed = seen_by_stranger(|world, hour| {
        answering(world, hour, |letters, bob, now| letters.remove(bob, now).unwrap());
    });
    assert_same(&online, &removed);
    let blocked = seen_by_stranger(|world, hour| {
        answering(world, hour, |letters, bob, now| letters.block(bob, now).unwrap());
    });
    assert_same(&online, &blocked);
    let accepted = seen_by_stranger(|world, hour| {
        answering(world, hour, |letters, bob, now| letters.accept(bob, now).unwrap());
    });
    assert_ne!(online, accepted, "whoever is accepted sees that");
}

/// What is still seen: the prekeys of a week to come are left when the program first runs in a week.
#[test]
fn a_stranger_sees_once_a_week_when_the_program_first_runs_and_after_three_weeks_that_it_did_not() {
    let first = |away: u64| {
        let mut world = World::new(5, 1);
        world.run_to_a_quiet_day();
        world.people[ALICE].online = false;
        let (start, before) = (world.now, world.prekeys_of(ALICE).len());
        while world.now.since(start) < away {
            world.run(HOUR);
        }
        let meanwhile = world.prekeys_of(ALICE).len();
        world.people[ALICE].online = true;
        world.run(HOUR);
        (before, meanwhile, world.prekeys_of(ALICE).len())
    };
    let (before, meanwhile, after) = first(8 * DAY);
    assert!(
        meanwhile < before && after == before,
        "of four weeks, three, and four again: {before} {meanwhile} {after}"
    );
    assert_eq!(first(29 * DAY).1, 0, "none are left");
}

/// All that a mailbox reads of prekeys, and that a stranger reads for as long as they are there: their revision.
#[test]
fn the_revision_of_prekeys_is_everyones_but_for_those_that_a_device_begins_with() {
    let mut world = World::new(3, 2);
    let began = world.now;
    world.people[BOB].online = false;
    world.run(DAY + 12_345);
    world.people[BOB].online = true;
    world.run(40 * DAY);
    let revisions = [ALICE, BOB].map(|person| {
        let revisions = world.records_of(person).into_iter().map(|(_, week, record)| (week, record.revision()));
        revisions.collect::<BTreeMap<_, _>>()
    });
    let common = revisions[ALICE].iter().filter(|(week, _)| revisions[BOB].contains_key(week));
    let common = common.collect::<Vec<_>>();
    assert!(common.len() >= 3, "{revisions:?}");
    for (week, revision) in common {
        assert_eq!((*revision, revision % (7 * 86_400)), (revisions[BOB][week], 0));
    }
    world.restore_alice();
    world.run(HOUR);
    let again = world.records_of(ALICE);
    let times = again.iter().map(|(_, week, record)| (*week, u64::from(record.revision()))).collect::<BTreeMap<_, _>>();
    assert!(times.values().all(|time| *time > world.now.0 - 2 * HOUR), "since {began:?}: {times:?}");
    let times = times.into_values().collect::<Vec<_>>();
    assert!(times.len() == 4 && times.windows(2).all(|two| two[0].abs_diff(two[1]) > HOUR), "{times:?} are shifted");
}

/// Otherwise whoever looks up the prekeys would write what nobody can read.
#[test]
fn a_person_whose_disk_was_put_back_by_weeks_is_reached_by_new_letters_all_the_same() {
    let mut world = World::new(5, 2);
    world.people[BOB].online = false;
    world.run(HOUR);
    let before = world.people[ALICE].copy();
    world.run(15 * DAY);
    let now = world.now;
    world.people[ALICE].reopen(before, now);
    world.run(3 * HOUR);
    let now = world.now;
    let own = world.people[ALICE].letters().change(now, |work| work.published()).unwrap();
    let records = world.records_of(ALICE);
    let present: Vec<_> = records.iter().filter(|(_, week, _)| *week == own.week.0).collect();
    let has_own = |(_, _, record): &&&(usize, u32, &PrekeysRecord)| record.as_bytes() == own.prekeys.as_bytes();
    assert_eq!((present.iter().filter(has_own).count(), present.len()), (5, 5), "all mailboxes have the new one");
    world.run(17 * DAY);
    world.people[BOB].online = true;
    world.run(HOUR);
    let (address, now) = (world.people[ALICE].address, world.now);
    world.people[BOB].letters().request(&address, ("Alice", "hello"), None, now).unwrap();
    world.run(3 * HOUR);
    let bob = world.people[BOB].address;
    assert!(world.people[ALICE].knows(&bob).is_some());
}

/// What each mailbox is asked by Alice: when, on which of its circuits, and what.
fn seen_by_mailboxes(days: Days) -> BTreeMap<RelayId, Vec<(u64, usize, String)>> {
    let mut world = World::new(7, 2);
    let (bob, alice) = world.meet(BOB, ALICE);
    world.run_to_a_quiet_day();
    let (start, before) = (world.now, world.tape.len());
    for hour in 0..72 {
        world.live(alice, days, hour);
        if hour == 1 {
            world.people[BOB].write(bob, "hello", world.now);
        }
        world.run(HOUR);
    }
    let (mut seen, mut circuits) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    for asked in world.tape[before..].iter().filter(|asked| asked.person == ALICE && asked.from >= start) {
        let of: &mut Vec<[u8; 32]> = circuits.entry(asked.mailbox).or_default();
        let known = of.iter().position(|circuit| *circuit == asked.circuit);
        let circuit = known.unwrap_or_else(|| {
            of.push(asked.circuit);
            of.len() - 1
        });
        seen.entry(asked.mailbox).or_default().push((asked.from.since(start), circuit, what(asked)));
    }
    seen
}

#[test]
fn a_mailbox_never_sees_whether_somebody_looks_at_letters_and_sees_when_somebody_it_does_not_know_waits() {
    let [online, reading, away] = [Days::Online, Days::Reading, Days::Away].map(seen_by_mailboxes);
    assert_eq!(online, reading);
    assert_ne!(online, away);
    let gap = LEAVES + u64::from(WATCH)..COMES;
    for (seen, is_away) in [(&online, false), (&away, true)] {
        let mut watched_for = 0;
        for asked in seen.values() {
            let during = asked.iter().filter(|(at, _, _)| gap.contains(at)).collect::<Vec<_>>();
            let watching = during.iter().filter(|(_, _, what)| what == "watch").map(|(at, _, _)| *at);
            let watching = watching.collect::<Vec<_>>();
            assert!(!is_away || during.is_empty(), "nothing is asked by a program that does not run: {during:?}");
            if let (Some(first), Some(last)) = (watching.first(), watching.last()) {
                watched_for += last - first + u64::from(WATCH);
                let most = watching.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(0);
                assert!(most <= u64::from(WATCH) + 1, "it is seen to wait without a break: {most} s");
            }
        }
        let all = COMES - LEAVES - u64::from(WATCH);
        assert_eq!(watched_for >= all - 2 * u64::from(WATCH), !is_away, "{watched_for} of {all} s");
    }
}

#[test]
fn one_mailbox_a_day_sees_somebody_wait_and_the_others_are_asked_at_random_times() {
    let (mut watched, mut waits) = (BTreeSet::new(), vec![]);
    for (mailbox, asked) in seen_by_mailboxes(Days::Online) {
        let times = |kind: &str| {
            let times = asked.iter().filter(|(_, _, what)| what == kind).map(|(at, circuit, _)| (*circuit, *at));
            times.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        watched.extend(times("watch").iter().map(|(_, at)| (at / DAY, mailbox)));
        let looks = times("look");
        waits.extend(looks.windows(2).filter(|two| two[0].0 == two[1].0).map(|two| two[1].1 - two[0].1));
    }
    let days: Vec<_> = watched.iter().map(|(day, _)| *day).collect();
    assert_eq!(days, [0, 1, 2], "one mailbox each day");
    let different: BTreeSet<_> = waits.iter().collect();
    assert!(waits.len() > 100 && different.len() > waits.len() * 3 / 4, "{} of {}", different.len(), waits.len());
}

impl World {
    /// Runs until a day begins in which, as in the next two, no week of Alice's inbox or prekeys does.
    fn run_to_a_quiet_day(&mut self) {
        let offsets = [self.home(), prekeys::offset(&self.people[ALICE].address)];
        let is_quiet = |now: UnixSeconds| {
            let turns = offsets.iter().map(|offset| Week::of(now, *offset).plus(1).start(*offset));
            now.0.is_multiple_of(DAY)
                && turns.into_iter().all(|turn| (3 * DAY + 1..7 * DAY - 2 * HOUR).contains(&turn.since(now)))
        };
        while !is_quiet(self.now) {
            self.run(HOUR - self.now.0 % HOUR);
        }
    }

    /// When weeks of Alice's private inbox begin.
    fn home(&mut self) -> WeekOffset {
        let now = self.now;
        self.people[ALICE].letters().change(now, |work| Ok(work.home().offset())).unwrap()
    }

    /// An hour of Alice's life.
    fn live(&mut self, contact: u32, days: Days, hour: u64) {
        self.people[ALICE].online = days != Days::Away || !(LEAVES..COMES).contains(&(hour * HOUR));
        if days == Days::Reading {
            let now = self.now;
            let lines = self.people[ALICE].read().conversation(contact).unwrap();
            let letters: Vec<_> = lines.iter().filter(|line| !line.is_ours).map(|line| line.id).collect();
            self.people[ALICE].letters().shown(contact, &letters, now).unwrap();
        }
    }

    fn restore_alice(&mut self) {
        let now = self.now;
        self.people[ALICE].restore(now);
    }

    /// The prekeys that mailboxes have of somebody, of this week and those to come: at which, of which week.
    fn records_of(&self, person: usize) -> Vec<(usize, u32, &PrekeysRecord)> {
        let address = self.people[person].address;
        let week = Week::of(self.now, prekeys::offset(&address));
        let mut found = vec![];
        for week in (0..4).map(|weeks| week.plus(weeks)) {
            let placement = PrekeysOf::new(&NETWORK, address, week).placement();
            let records = self.boxes.iter().enumerate();
            let records = records.filter_map(|(number, mailbox)| Some((number, week.0, mailbox.prekeys(&placement)?)));
            found.extend(records);
        }
        found
    }

    /// The same as text, as who knows the address reads them: without what Olm draws.
    fn prekeys_of(&self, person: usize) -> Vec<String> {
        let address = self.people[person].address;
        let records = self.records_of(person).into_iter().map(|(number, week, record)| {
            let prekeys = PrekeysOf::new(&NETWORK, address, Week(week)).open(record).unwrap();
            let xwing = crypto::blake3(&[&prekeys.xwing])[0];
            format!("{number}: {week} {} {} {xwing}", record.revision(), prekeys.device)
        });
        records.collect()
    }
}

fn assert_same(one: &[Seen], other: &[Seen]) {
    let differs = one.iter().zip(other).find(|(one, other)| one != other);
    assert!(differs.is_none() && one.len() == other.len(), "{} and {}: {differs:?}", one.len(), other.len());
}

fn kind(news: &News) -> String {
    match news {
        News::Became { delivery, .. } => format!("{delivery:?}"),
        News::Letter { .. } => "letter".to_owned(),
        other => format!("{other:?}"),
    }
}

/// What a mailbox answered, without what it was about.
fn answered(asked: &Asked) -> String {
    let answer = asked.answer.as_ref().map(|frame| Answer::decode(&frame[FRAME_HEADER..]).unwrap());
    match answer {
        Some(Answer::Accepted(receipt)) => format!("{}: accepted until {:?}", what(asked), receipt.expiry),
        Some(Answer::Letters { letters, .. }) => format!("{}: {} letters", what(asked), letters.len()),
        Some(Answer::Refused(refusal)) => format!("{}: {refusal:?}", what(asked)),
        Some(Answer::Letter(envelope)) => format!("{}: {} bytes", what(asked), envelope.len()),
        Some(Answer::Prekeys(record)) => format!("{}: revision {}", what(asked), record.revision()),
        Some(_) => what(asked),
        None => format!("{}: nothing", what(asked)),
    }
}

/// What is asked, without what it is about.
fn what(asked: &Asked) -> String {
    let what = match Request::decode(&asked.request[FRAME_HEADER..]).unwrap() {
        Request::Deposit(deposit) => return format!("deposit {} for {} h", deposit.envelope.len(), deposit.hours),
        Request::Owned(Owned { ask: Ask::List { patience: 1.., .. }, .. }) => "watch",
        Request::Owned(Owned { ask: Ask::List { .. }, .. }) => "look",
        Request::Owned(Owned { ask: Ask::Fetch(_), .. }) => "fetch",
        Request::Owned(Owned { ask: Ask::Register { .. }, .. }) => "register",
        Request::Delete { .. } => "delete",
        Request::Publish { .. } => "publish",
        Request::Look { .. } => "look up",
        Request::Pull { .. } | Request::Take { .. } | Request::Kept { .. } => "as a relay",
    };
    what.to_owned()
}
