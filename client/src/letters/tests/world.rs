//! People with their own programs, and a world in which they come, go, write and lose things.

use std::collections::BTreeMap;

use rand::RngExt;
use trefoil_protocol::{crypto, identity::RelayId, puzzle::Hour, ring::Placement};
use zeroize::Zeroizing;

use super::{
    boxes::{Box_, Lie},
    *,
};

pub(super) const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
pub(super) const START: UnixSeconds = UnixSeconds(1_750_000_000);

pub(super) struct World {
    pub(super) now: UnixSeconds,
    pub(super) boxes: Vec<Box_>,
    pub(super) people: Vec<Someone>,
    pub(super) faults: Faults,
    pub(super) crashes: u32,
    /// All that mailboxes were asked, in the order in which they answered.
    pub(super) tape: Vec<Asked>,
    rng: StdRng,
}

/// What a mailbox was asked on a circuit, and what it said.
pub(super) struct Asked {
    pub(super) person: usize,
    pub(super) mailbox: RelayId,
    /// The name of the circuit: a person has one for each.
    pub(super) circuit: [u8; 32],
    pub(super) from: UnixSeconds,
    pub(super) to: UnixSeconds,
    pub(super) request: Vec<u8>,
    pub(super) answer: Option<Vec<u8>>,
}

/// Messages in a hundred that are lost or come twice, and steps in a thousand after which a process dies.
#[derive(Clone, Copy)]
pub(super) struct Faults {
    pub(super) lost: u32,
    pub(super) twice: u32,
    pub(super) crash: u32,
}

pub(super) struct Someone {
    pub(super) letters: Option<Letters>,
    pub(super) memory: vault::Memory,
    pub(super) address: Address,
    pub(super) online: bool,
    pub(super) news: Vec<News>,
    /// How often its program asked mailboxes for what.
    pub(super) asked: BTreeMap<String, usize>,
    number: u8,
    opened: u8,
    pending: Vec<(Errand, UnixSeconds)>,
}

impl World {
    pub(super) fn new(boxes: u8, people: u8) -> Self {
        Self::seeded(boxes, people, 5)
    }

    pub(super) fn seeded(boxes: u8, people: u8, seed: u64) -> Self {
        Self {
            now: START,
            boxes: (0..boxes).map(Box_::new).collect(),
            people: (0..people).map(|number| Someone::new(number, START)).collect(),
            faults: NONE,
            crashes: 0,
            tape: vec![],
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// The first asks, the second accepts: each one's number of the other.
    pub(super) fn meet(&mut self, asks: usize, accepts: usize) -> (u32, u32) {
        let now = self.now;
        let (address, own) = (self.people[accepts].address, self.people[asks].address);
        let other =
            self.people[asks].letters().request(&address, (&format!("person {accepts}"), "hi"), None, now).unwrap();
        self.run_until(40 * 86_400, |world| world.people[accepts].knows(&own).is_some());
        let (id, now) = (self.people[accepts].knows(&own).unwrap(), self.now);
        self.people[accepts].letters().accept(id, now).unwrap();
        self.run_until(40 * 86_400, |world| {
            let known = world.people[asks].read().contacts().unwrap();
            known.iter().any(|known| known.id == other && known.standing == Standing::Accepted)
        });
        self.run(2 * 3600);
        (other, id)
    }

    pub(super) fn run(&mut self, seconds: u64) {
        self.run_until(seconds, |_| false);
    }

    pub(super) fn run_until(&mut self, seconds: u64, is_done: impl Fn(&Self) -> bool) {
        let end = self.now.plus(seconds);
        while !is_done(self) && self.now < end {
            if self.step() {
                continue;
            }
            let online = self.people.iter().filter(|person| person.online);
            let due = online.flat_map(|person| {
                let deadlines = person.pending.iter().map(|(_, deadline)| *deadline);
                deadlines.chain(person.letters.as_ref().and_then(Letters::next)).collect::<Vec<_>>()
            });
            self.now = due.min().unwrap_or(end).max(self.now.plus(1)).min(end);
        }
    }

    /// Whether anything happened.
    fn step(&mut self) -> bool {
        let mut moved = false;
        for at in 0..self.people.len() {
            if self.people[at].online {
                moved |= self.step_of(at);
            }
        }
        moved
    }

    fn step_of(&mut self, at: usize) -> bool {
        let (now, ring) = (self.now, self.ring());
        let ring: Ring<'_> = &ring;
        let snapshot = self.snapshot(at);
        let (errands, news) = self.people[at].letters().errands(now, ring).unwrap();
        if self.crashes(at, snapshot) {
            return true;
        }
        let mut moved = !errands.is_empty();
        for errand in &errands {
            *self.people[at].asked.entry(format!("{errand:?}")).or_default() += 1;
        }
        self.people[at].news.extend(news);
        let pending = errands.into_iter().map(|errand| {
            let deadline = now.plus(errand.patience().into());
            (errand, deadline)
        });
        self.people[at].pending.extend(pending);
        for (errand, deadline) in std::mem::take(&mut self.people[at].pending) {
            let (request, frame) = self.ask(at, &errand);
            let is_hasty = |mailbox: &Box_| mailbox.id() == errand.mailbox && mailbox.lie == Lie::Hasty;
            let is_early = frame.as_ref().is_some_and(|frame| is_empty_list(frame)) && now < deadline;
            let waits = is_early && !self.boxes.iter().any(is_hasty);
            if waits {
                self.people[at].pending.push((errand, deadline));
                continue;
            }
            moved = true;
            let from = UnixSeconds(deadline.0 - u64::from(errand.patience()));
            let (mailbox, circuit, answer) = (errand.mailbox, errand.circuit(), frame.clone());
            self.tape.push(Asked { person: at, mailbox, circuit, from, to: now, request, answer });
            let snapshot = self.snapshot(at);
            let answer = frame.as_deref().and_then(|frame| Answer::decode(frame.get(4..)?).ok());
            let news = self.people[at].letters().done(&errand, answer.as_ref(), now, ring).unwrap();
            if self.crashes(at, snapshot) {
                return true;
            }
            self.people[at].news.extend(news);
        }
        moved
    }

    /// The disk as it is before something is done, where that may not come about.
    fn snapshot(&self, at: usize) -> vault::Memory {
        if self.faults.crash > 0 { self.people[at].memory.copy() } else { vault::Memory::default() }
    }

    /// The process may die: before what it did last was on disk, or after, and nobody has heard of it.
    fn crashes(&mut self, at: usize, before: vault::Memory) -> bool {
        if !self.rng.random_ratio(self.faults.crash, 1000) {
            return false;
        }
        let memory = if self.rng.random_ratio(1, 2) { before } else { self.people[at].memory.copy() };
        self.crashes += 1;
        self.people[at].reopen(memory, self.now);
        true
    }

    /// The request, as it came to the mailbox if it did, and the answer.
    fn ask(&mut self, at: usize, errand: &Errand) -> (Vec<u8>, Option<Vec<u8>>) {
        let binding = crypto::blake3(&[&errand.circuit(), &at.to_le_bytes()]); // each circuit has its own
        let request = errand.request(&binding);
        let answer = self.carry(errand, &request, &binding);
        (request, answer)
    }

    fn carry(&mut self, errand: &Errand, request: &[u8], binding: &[u8; 32]) -> Option<Vec<u8>> {
        let faults = self.faults;
        if self.rng.random_ratio(faults.lost, 100) {
            return None; // the request was lost
        }
        let now = self.now;
        let mailbox = self.boxes.iter_mut().find(|mailbox| mailbox.id() == errand.mailbox)?;
        let mut frame = mailbox.answer(request, binding, now)?;
        if self.rng.random_ratio(faults.twice, 100) {
            frame = mailbox.answer(request, binding, now)?;
        }
        (!self.rng.random_ratio(faults.lost, 100)).then_some(frame) // or the answer was
    }

    /// Whoever has a stamp, or a ticket, leaves something.
    pub(super) fn leave(&mut self, inbox: Placement, envelope: &[u8]) {
        let expiry = Hour::of_unix(self.now.plus(14 * 86_400).0);
        self.boxes.iter_mut().for_each(|mailbox| mailbox.keep(inbox, envelope, expiry));
    }

    pub(super) fn ring(&self) -> impl Fn(&Placement) -> Vec<RelayId> + use<> {
        let relays: Vec<_> = self.boxes.iter().map(|mailbox| mailbox.id()).collect();
        move |placement| {
            let mut relays = relays.clone();
            relays.sort_by_key(|relay| crypto::blake3(&[&placement.encode(), relay.as_bytes()]));
            relays
        }
    }

    /// What became of the words that a person sent.
    pub(super) fn deliveries(&self, person: usize, contact: u32) -> Vec<Delivery> {
        let lines = self.people[person].read().conversation(contact).unwrap();
        lines.iter().filter(|line| matches!(line.said, Said::Text(_))).filter_map(|line| line.delivery).collect()
    }

    pub(super) fn all_delivered(&self) -> bool {
        (0..self.people.len()).all(|person| {
            let known = self.people[person].read().contacts().unwrap();
            known.iter().flat_map(|known| self.deliveries(person, known.id)).all(|sent| sent == Delivery::Delivered)
        })
    }
}

/// The words of a conversation; what others said after `<`.
pub(super) fn texts(world: &World, person: usize, contact: u32) -> Vec<String> {
    let lines = world.people[person].read().conversation(contact).unwrap();
    let words = lines.into_iter().filter_map(|line| match line.said {
        Said::Text(text) if line.is_ours => Some(format!("> {text}")),
        Said::Text(text) => Some(format!("< {text}")),
        _ => None,
    });
    words.collect()
}

fn is_empty_list(frame: &[u8]) -> bool {
    matches!(Answer::decode(&frame[4..]), Ok(Answer::Letters { letters, .. }) if letters.is_empty())
}

pub(super) fn settings() -> Settings {
    Settings { spread: 5, receipt: 2, stamps: 4, lists: 4, room: 0, ..Settings::default() }
}

impl Someone {
    fn new(number: u8, now: UnixSeconds) -> Self {
        Self::on_device(number, number, now)
    }

    /// Another device draws other numbers.
    fn on_device(number: u8, seed: u8, now: UnixSeconds) -> Self {
        let (memory, entropy) = (vault::Memory::default(), Zeroizing::new([number + 1; 32]));
        let place = Place::Memory(memory.clone());
        let name = format!("person {number}");
        let letters = Letters::create(
            &place,
            &key(),
            (&entropy, &name),
            (NETWORK, settings()),
            (now, &Zeroizing::new([seed; 32])),
        );
        let letters = letters.unwrap();
        let address = letters.address();
        let (news, pending, asked) = (vec![], vec![], BTreeMap::new());
        Self { letters: Some(letters), memory, address, online: true, news, asked, number, opened: 0, pending }
    }

    pub(super) fn letters(&mut self) -> &mut Letters {
        self.letters.as_mut().unwrap()
    }

    pub(super) fn read(&self) -> &Letters {
        self.letters.as_ref().unwrap()
    }

    pub(super) fn write(&mut self, contact: u32, text: &str, now: UnixSeconds) -> MessageId {
        self.letters().write(contact, text, now).unwrap()
    }

    /// Has the prekeys of a contact looked up.
    pub(super) fn look_up(&mut self, contact: u32, now: UnixSeconds) {
        let looked = self.letters().change(now, |work| {
            let week = work.week_of(contact)?;
            work.wake(0, Job::Look(contact, week));
            Ok(())
        });
        looked.unwrap();
    }

    pub(super) fn knows(&self, address: &Address) -> Option<u32> {
        let known = self.read().contacts().unwrap();
        known.into_iter().find(|known| known.address == *address).map(|known| known.id)
    }

    /// The process has died, and another one begins with this disk.
    pub(super) fn reopen(&mut self, memory: vault::Memory, now: UnixSeconds) {
        self.letters = None;
        self.pending.clear();
        self.opened = self.opened.wrapping_add(1);
        self.memory = memory.copy();
        let seed = Zeroizing::new([[self.number; 16], [self.opened; 16]].concat().try_into().unwrap());
        let place = Place::Memory(self.memory.clone());
        self.letters = Some(Letters::open(&place, &key(), (NETWORK, settings()), (now, &seed)).unwrap());
    }

    /// A copy of the disk.
    pub(super) fn copy(&self) -> vault::Memory {
        self.memory.copy()
    }

    /// As [`Self::restore`], and what the person's own inbox has is looked for.
    pub(super) fn restore_backup(&mut self, now: UnixSeconds) {
        self.restore(now);
        self.letters().look_for_backup(now).unwrap();
    }

    /// The disk is gone: what is left is the phrase.
    pub(super) fn restore(&mut self, now: UnixSeconds) {
        let phrase = Phrase::parse(&self.read().phrase().unwrap().words()).unwrap();
        assert_eq!(phrase.address_secret().address(), self.address);
        *self = Self { news: std::mem::take(&mut self.news), ..Self::on_device(self.number, self.number + 50, now) };
    }
}

pub(super) fn key() -> Unlock<'static> {
    Unlock::Passphrase("words", CHEAP)
}
