//! Group: people who all know each other, in simulated time: they come and go, write, and have their errands done.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use trefoil_client::letters::{Errand, Known, News, Said as Words, Standing};
use trefoil_protocol::{address::Address, epoch::UnixSeconds, letter::MessageId, mailbox::Answer};

use super::{
    super::queue::{DAY, HOUR, MINUTE, Millis, Queue, SECOND},
    Shape,
    person::Person,
    post::{LENGTH, Post, Said, Watched},
    tally::{Fate, Fates, Records, Tally},
};

/// See the file's head.
pub(super) struct Group {
    shape: Shape,
    now: Millis,
    queue: Queue<Event>,
    people: Vec<Person>,
    /// Whose address is whose.
    known: HashMap<Address, usize>,
    /// For how long two of them were there at once, and until when that was counted.
    together: HashMap<[usize; 2], Millis>,
    counted: Millis,
    post: Post,
    rng: StdRng,
    fates: Fates,
    /// How many of them are still on their way, by what their writers were told.
    open: usize,
    /// Errands that wait at a mailbox for letters to come.
    watchers: HashMap<Watched, Flight>,
    flights: u64,
    replaced: usize,
}

/// What happens.
enum Event {
    /// A program has something to do.
    Wake(usize),
    /// An errand is over: with an answer, or without.
    Answered(Flight, Option<Vec<u8>>),
    /// A mailbox has waited for long enough.
    Patience(Watched, u64, Vec<u8>),
    /// Somebody comes, or goes.
    Turn(usize),
    /// Somebody goes for longer than letters wait.
    Leave(usize),
    /// Somebody writes.
    Write(usize),
    /// A letter's time is over, whenever its writer is told.
    Ends(MessageId),
    Epoch,
}

/// An errand under way.
struct Flight {
    number: u64,
    person: usize,
    start: usize,
    errand: Box<Errand>,
}

impl Group {
    /// The group of this number.
    pub(super) fn new(shape: Shape, seed: u64, number: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(1 << 20).wrapping_add(number as u64));
        let delivery = shape.delivery / SECOND;
        let people = (0..shape.people).map(|person| Person::new(person, delivery, START, &mut rng)).collect();
        Self {
            shape,
            now: 0,
            queue: Queue::default(),
            people,
            known: HashMap::new(),
            together: HashMap::new(),
            counted: 0,
            post: Post::new(shape.relays),
            rng,
            fates: Fates::new(),
            open: 0,
            watchers: HashMap::new(),
            flights: 0,
            replaced: 0,
        }
    }

    /// Runs until nothing is on its way any more, and a little longer; or until everything should have been over for long.
    pub(super) fn run(mut self) -> Tally {
        self.meet();
        let last = self.shape.writing + 2 * self.shape.delivery + 5 * DAY;
        while !self.is_written() || (self.open > 0 && self.now < last) {
            let step = self.now + HOUR;
            self.run_until(step);
        }
        self.run_until(self.now + DAY);
        self.count()
    }

    /// Everyone asks everyone to be a contact; and life begins.
    fn meet(&mut self) {
        let addresses: Vec<_> = self.people.iter_mut().map(|person| person.letters().address()).collect();
        self.known = addresses.iter().copied().zip(0..).collect();
        for (at, person) in self.people.iter_mut().enumerate() {
            for (other, address) in addresses.iter().enumerate().skip(at + 1) {
                let name = format!("person {other}");
                person.letters().request(address, (&name, "hello"), None, START).expect("a request can be made");
            }
            self.queue.put(0, Event::Wake(at));
            let first = (DAY as f64 * self.rng.random_range(1.0..2.0)) as Millis;
            self.queue.put(first, Event::Turn(at));
            self.queue.put(DAY + self.rng.random_range(0..HOUR), Event::Write(at));
        }
        self.queue.put(self.shape.writing / 4, Event::Leave(0));
        self.queue.put(EPOCH, Event::Epoch);
    }

    fn run_until(&mut self, end: Millis) {
        while let Some((now, event)) = self.queue.take_before(end) {
            self.now = now;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(person) => {
                if self.people[person].wake <= self.now {
                    self.people[person].wake = Millis::MAX;
                }
                self.step(person);
            }
            Event::Answered(flight, frame) => self.answered(flight, frame),
            Event::Patience(watched, number, frame) => {
                if self.watchers.get(&watched).is_some_and(|flight| flight.number == number)
                    && let Some(flight) = self.watchers.remove(&watched)
                {
                    let is_there = self.post.is_there(&watched.0);
                    self.answered(flight, is_there.then_some(frame));
                }
            }
            Event::Turn(person) => self.turn(person),
            Event::Leave(person) => {
                self.count_together();
                self.people[person].is_online = false;
                let back = self.now + self.shape.delivery + DAY;
                self.people[person].away_until = back;
                self.queue.put(back, Event::Turn(person));
            }
            Event::Write(person) => self.write(person),
            Event::Ends(letter) => {
                self.count_together();
                if let Some(fate) = self.fates.get_mut(&letter) {
                    fate.together = self.together.get(&fate.between).unwrap_or(&0) - fate.together;
                }
            }
            Event::Epoch => {
                let count = self.post.relays() * 3 / 10;
                self.post.churn(count, &mut self.rng);
                self.replaced += count;
                self.queue.put(self.now + EPOCH, Event::Epoch);
            }
        }
    }

    /// Somebody who is there goes, for hours or days; whoever was away comes, at times with a program that was ended.
    fn turn(&mut self, person: usize) {
        if self.now < self.people[person].away_until {
            return;
        }
        self.count_together();
        let (now, next) = (self.unix(), &mut self.people[person]);
        next.is_online = !next.is_online;
        let mean = match next.is_online {
            true => 6.0,
            false if self.rng.random_ratio(1, 20) => 48.0,
            false => 8.0,
        };
        if next.is_online && self.rng.random_ratio(1, 4) {
            next.restart(now);
        }
        let after = exponential(mean * HOUR as f64, &mut self.rng).max(MINUTE);
        self.queue.put(self.now + after, Event::Turn(person));
        self.step(person);
    }

    /// Somebody writes to a contact: mostly one letter, sometimes many at once.
    fn write(&mut self, person: usize) {
        if self.is_written() {
            return;
        }
        self.count_together();
        let (now, rng, is_there) = (self.unix(), &mut self.rng, self.people[person].is_online);
        let burst = if rng.random_ratio(1, 20) { rng.random_range(2..BURST) } else { 1 };
        let contacts = &self.people[person].contacts;
        let contact = contacts.iter().nth(rng.random_range(0..contacts.len().max(1)));
        let contact = contact.map(|(contact, reader)| (*contact, *reader));
        for _ in 0..burst {
            let Some((contact, reader)) = contact.filter(|_| is_there && !self.is_written()) else { break };
            let length = if self.rng.random_ratio(1, 50) { 2000 } else { self.rng.random_range(1..200) };
            let written = self.people[person].letters().write(contact, &"x".repeat(length), now);
            let Ok(letter) = written else { break }; // so many wait that they have to be patient
            let between = [person.min(reader), person.max(reader)];
            let together = self.together.get(&between).copied().unwrap_or(0);
            self.fates.insert(letter, Fate { written: now, shown: None, over: None, between, together });
            self.queue.put(self.now + self.shape.delivery, Event::Ends(letter));
            self.open += 1;
        }
        let mean =
            ONLINE * self.shape.writing as f64 * (self.shape.people * MEAN_BURST) as f64 / self.shape.letters as f64;
        let after = exponential(mean, &mut self.rng);
        self.queue.put(self.now + after, Event::Write(person));
        self.step(person);
    }

    /// Who is there now has been there since somebody came or went last.
    fn count_together(&mut self) {
        let there: Vec<_> = (0..self.people.len()).filter(|person| self.people[*person].is_online).collect();
        for (at, one) in there.iter().enumerate() {
            for other in &there[at + 1..] {
                *self.together.entry([*one, *other]).or_default() += self.now - self.counted;
            }
        }
        self.counted = self.now;
    }

    fn is_written(&self) -> bool {
        self.fates.len() >= self.shape.letters
    }

    /// Has a program do what is due, if it has a network.
    fn step(&mut self, person: usize) {
        let now = self.unix();
        if !self.people[person].is_online {
            return;
        }
        let (errands, news) = self.people[person].errands(now, &self.post);
        self.hear(person, news);
        errands.into_iter().for_each(|errand| self.send(person, errand));
        let someone = &mut self.people[person];
        if let Some(next) = someone.letters().next() {
            let next = (next.since(START) * SECOND).max(self.now + SECOND);
            if next < someone.wake {
                someone.wake = next;
                self.queue.put(next, Event::Wake(person));
            }
        }
    }

    fn send(&mut self, person: usize, errand: Errand) {
        let patience = u64::from(errand.patience()) * SECOND;
        let (way, given_up) = (self.now + self.rng.random_range(200..2000), self.now + patience + TIMEOUT);
        self.flights += 1;
        let start = self.people[person].start;
        let flight = Flight { number: self.flights, person, start, errand: Box::new(errand) };
        if self.is_lost() {
            return self.queue.put(given_up, Event::Answered(flight, None));
        }
        match self.post.ask(&flight.errand, self.unix()) {
            Said::Nothing => self.queue.put(way, Event::Answered(flight, None)),
            Said::Empty(frame, watched) => {
                self.queue.put(self.now + patience, Event::Patience(watched, flight.number, frame));
                self.watchers.insert(watched, flight);
            }
            Said::Answer(frame) => self.bring(flight, frame, (way, given_up)),
            Said::Accepted(frame, watched) => {
                self.bring(flight, frame, (way, given_up));
                self.tell(&watched);
            }
        }
    }

    /// An answer goes back, if it is not lost.
    fn bring(&mut self, flight: Flight, frame: Vec<u8>, (way, given_up): (Millis, Millis)) {
        if self.is_lost() {
            self.queue.put(given_up, Event::Answered(flight, None));
        } else {
            self.queue.put(way, Event::Answered(flight, Some(frame)));
        }
    }

    /// Whoever waits there for letters hears of one.
    fn tell(&mut self, watched: &Watched) {
        let Some(flight) = self.watchers.remove(watched) else { return };
        let way = self.now + self.rng.random_range(200..2000);
        let patience = u64::from(flight.errand.patience()) * SECOND;
        match self.post.ask(&flight.errand, self.unix()) {
            Said::Answer(frame) => self.bring(flight, frame, (way, self.now + patience + TIMEOUT)),
            _ => self.queue.put(way, Event::Answered(flight, None)),
        }
    }

    fn answered(&mut self, flight: Flight, frame: Option<Vec<u8>>) {
        let (now, person) = (self.unix(), &mut self.people[flight.person]);
        if person.start != flight.start {
            return; // nobody is there who asked
        }
        let frame = frame.filter(|_| person.is_online);
        let answer = frame.as_deref().and_then(|frame| Answer::decode(frame.get(LENGTH..)?).ok());
        let post = &self.post;
        let news = person.letters().done(&flight.errand, answer.as_ref(), now, &|placement| post.ring(placement));
        self.hear(flight.person, news.expect("nothing is damaged"));
        self.step(flight.person);
    }

    /// What a program tells its person.
    fn hear(&mut self, person: usize, news: Vec<News>) {
        let now = self.unix();
        for news in news {
            let someone = &mut self.people[person];
            match news {
                News::Requested { contact } => {
                    someone.letters().accept(contact, now).expect("a request can be accepted");
                    self.meets(person, contact);
                }
                News::Accepted { contact } => self.meets(person, contact),
                News::Letter { letter, .. } => {
                    self.fates.entry(letter).and_modify(|fate| fate.shown = fate.shown.or(Some(now)));
                }
                News::Became { letter, delivery, .. } if delivery.is_over() => self.over(letter),
                _ => {}
            }
        }
    }

    /// Somebody can write to this contact from now on.
    fn meets(&mut self, person: usize, contact: u32) {
        let someone = &mut self.people[person];
        let known = someone.letters().contacts().expect("nothing is damaged");
        let address = known.iter().find(|known| known.id == contact).expect("whom the news named").address;
        someone.contacts.insert(contact, self.known[&address]);
    }

    fn over(&mut self, letter: MessageId) {
        let now = self.unix();
        if let Some(fate) = self.fates.get_mut(&letter).filter(|fate| fate.over.is_none()) {
            fate.over = Some(now);
            self.open -= 1;
        }
    }

    /// What all histories say at the end.
    fn count(mut self) -> Tally {
        let mut records = Records::default();
        for person in &mut self.people {
            let letters = person.letters();
            let known = letters.contacts().expect("nothing is damaged");
            for Known { id, .. } in known.into_iter().filter(|known| known.standing == Standing::Accepted) {
                let lines = letters.conversation(id).expect("nothing is damaged");
                lines.iter().filter(|line| matches!(line.said, Words::Text(_))).for_each(|line| records.note(line));
            }
        }
        let mut tally = Tally::of(&self.fates, &records, self.shape.delivery / SECOND);
        let traffic = self.post.traffic;
        (tally.deposits, tally.lists, tally.bytes) = (traffic.deposits, traffic.lists, traffic.bytes);
        (tally.replaced, tally.restarts) = (self.replaced, self.people.iter().map(|person| person.start).sum());
        tally
    }

    fn is_lost(&mut self) -> bool {
        self.rng.random_ratio(LOST, 100)
    }

    fn unix(&self) -> UnixSeconds {
        START.plus(self.now / SECOND)
    }
}

/// A time of this mean.
fn exponential(mean: f64, rng: &mut StdRng) -> Millis {
    (-rng.random_range(f64::MIN_POSITIVE..1.0).ln() * mean) as Millis
}

const START: UnixSeconds = UnixSeconds(1_750_000_000);
/// As on the public network.
const EPOCH: Millis = 6 * HOUR;
/// Requests, and answers, in a hundred that are lost.
const LOST: u32 = 2;
/// How long whoever asks waits beside what the mailbox may wait.
const TIMEOUT: Millis = 30 * SECOND;
/// The share of time for which people are there, and write.
const ONLINE: f64 = 0.375;
/// Letters at once, at most.
const BURST: usize = 40;
/// Letters at once, on average.
const MEAN_BURST: usize = 2;
