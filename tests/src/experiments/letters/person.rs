//! Person: somebody with a program of their own, which is started again now and then.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use trefoil_client::letters::{
    Errand, Letters, News, Settings,
    vault::{Memory, Place, Unlock},
};
use trefoil_protocol::{
    crypto::{PassphraseCost, Secret},
    epoch::UnixSeconds,
};

use super::{super::queue::Millis, STAMPS, post::Post};
use crate::records;

/// See the file's head.
pub(super) struct Person {
    /// None only while it is started again.
    letters: Option<Letters>,
    memory: Memory,
    settings: Settings,
    rng: StdRng,
    pub(super) is_online: bool,
    /// Which start of the program this is: what an earlier one asked for is answered to nobody.
    pub(super) start: usize,
    /// Whom they can write to, and who that is in the group.
    pub(super) contacts: BTreeMap<u32, usize>,
    /// Until when they are certainly away.
    pub(super) away_until: Millis,
    /// When the program is looked at next.
    pub(super) wake: Millis,
}

impl Person {
    pub(super) fn new(number: usize, delivery: u64, now: UnixSeconds, rng: &mut StdRng) -> Self {
        let mut rng = StdRng::from_seed(rng.random());
        let (memory, entropy, seed): (_, Secret, Secret) =
            (Memory::default(), rng.random::<[u8; 32]>().into(), rng.random::<[u8; 32]>().into());
        let settings = Settings { stamps: STAMPS, lists: STAMPS, delivery, ..Settings::default() };
        let (place, name) = (Place::Memory(memory.clone()), format!("person {number}"));
        let network = (records::params().id(), settings);
        let letters = Letters::create(&place, &KEY, (&entropy, &name), network, (now, &seed));
        let letters = Some(letters.expect("memory can be written"));
        Self {
            letters,
            memory,
            settings,
            rng,
            is_online: true,
            start: 0,
            contacts: BTreeMap::new(),
            away_until: 0,
            wake: Millis::MAX,
        }
    }

    pub(super) fn letters(&mut self) -> &mut Letters {
        self.letters.as_mut().expect("the program runs")
    }

    /// The program ends, and is started again.
    pub(super) fn restart(&mut self, now: UnixSeconds) {
        self.letters = None;
        self.start += 1;
        let seed: Secret = self.rng.random::<[u8; 32]>().into();
        let network = (records::params().id(), self.settings);
        let letters = Letters::open(&Place::Memory(self.memory.clone()), &KEY, network, (now, &seed));
        self.letters = Some(letters.expect("it was written by the same program"));
    }

    /// What the program wants to be done, and what it tells.
    pub(super) fn errands(&mut self, now: UnixSeconds, post: &Post) -> (Vec<Errand>, Vec<News>) {
        self.letters().errands(now, &|placement| post.ring(placement)).expect("nothing is damaged")
    }
}

/// It costs nothing: nobody steals these vaults.
const KEY: Unlock<'static> = Unlock::Passphrase("words", PassphraseCost { kib: 1 << 10, passes: 1 });
