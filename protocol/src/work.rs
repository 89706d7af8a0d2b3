//! Work: what a relay's identity must have cost before its descriptor counts.
//!
//! Specification: docs/protocol.md, "Proof of work". It is a brake on making identities, and on choosing among many,
//! and no more than that. It is bound to the network and the `RelayId`, so it is done once and lasts.

use crate::{
    crypto::{self, MemoryHard},
    identity::RelayId,
    params::{DirectoryParams, NetworkId, NetworkParams},
};

/// The two nonces of a relay's proof of work. As bytes: hashcash 8 ‖ argon2 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Work {
    /// Makes `BLAKE3("trefoil/1 work" ‖ network id ‖ RelayId ‖ nonce)` begin with enough zero bits.
    pub hashcash: u64,
    /// Makes Argon2id of both nonces begin with enough zero bits.
    pub argon2: u64,
}

/// What a relay works on: hashes are tried in steps, so that a caller can stop between them.
pub struct Search<'a> {
    network: NetworkId,
    params: &'a DirectoryParams,
    relay: RelayId,
    work: Work,
    memory: Option<MemoryHard>, // there once the hashcash is found
}

impl Work {
    /// Whether the hashcash is enough for this relay; costs one BLAKE3.
    pub fn has_hashcash(&self, params: &NetworkParams, relay: &RelayId) -> bool {
        self.hashcash_bits(&params.id(), relay) >= u32::from(params.directory.hashcash_bits)
    }

    /// Whether Argon2id's part is enough for this relay; costs one Argon2id, with all its memory.
    pub fn has_memory_hard(&self, params: &NetworkParams, relay: &RelayId) -> bool {
        let directory = &params.directory;
        let mut memory = (directory.argon2_bits > 0).then(|| MemoryHard::new(directory.argon2_kib));
        memory
            .as_mut()
            .is_none_or(|memory| self.argon2_bits(&params.id(), relay, memory) >= u32::from(directory.argon2_bits))
    }

    fn hashcash_bits(&self, network: &NetworkId, relay: &RelayId) -> u32 {
        let hash = crypto::blake3(&[LABEL, network.as_bytes(), relay.as_bytes(), &self.hashcash.to_le_bytes()]);
        crypto::leading_zeros(&hash)
    }

    fn argon2_bits(&self, network: &NetworkId, relay: &RelayId, memory: &mut MemoryHard) -> u32 {
        let salt = crypto::blake3(&[SALT_LABEL, network.as_bytes(), relay.as_bytes()]);
        let (salt, _) = salt.split_first_chunk().expect("32 bytes have 16");
        let password = [self.argon2.to_le_bytes(), self.hashcash.to_le_bytes()];
        crypto::leading_zeros(&memory.hash(password.as_flattened(), salt))
    }
}

impl<'a> Search<'a> {
    /// Starts at nonce 0.
    pub fn new(params: &'a NetworkParams, relay: RelayId) -> Self {
        Self { network: params.id(), params: &params.directory, relay, work: Work::default(), memory: None }
    }

    /// Goes on for at most so many hashes of either kind; `None` if the work is not done by then.
    pub fn step(&mut self, hashes: u32) -> Option<Work> {
        (0..hashes).find_map(|_| if self.memory.is_none() { self.try_hashcash() } else { self.try_memory_hard() })
    }

    fn try_hashcash(&mut self) -> Option<Work> {
        if self.work.hashcash_bits(&self.network, &self.relay) < u32::from(self.params.hashcash_bits) {
            self.work.hashcash = self.work.hashcash.wrapping_add(1);
            return None;
        }
        if self.params.argon2_bits == 0 {
            return Some(self.work);
        }
        self.memory = Some(MemoryHard::new(self.params.argon2_kib));
        None
    }

    fn try_memory_hard(&mut self) -> Option<Work> {
        let memory = self.memory.as_mut()?;
        if self.work.argon2_bits(&self.network, &self.relay, memory) >= u32::from(self.params.argon2_bits) {
            return Some(self.work);
        }
        self.work.argon2 = self.work.argon2.wrapping_add(1);
        None
    }
}

const LABEL: &[u8] = b"trefoil/1 work";
const SALT_LABEL: &[u8] = b"trefoil/1 work salt";

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: RelayId = RelayId::from_bytes([3; 32]);

    fn params() -> NetworkParams {
        NetworkParams::testnet("test".parse().unwrap())
    }

    fn work(params: &NetworkParams) -> Work {
        Search::new(params, RELAY).step(u32::MAX).unwrap()
    }

    #[test]
    fn work_counts_for_its_relay_and_network_only() {
        let mut params = params();
        let directory = &mut params.directory; // enough bits that chance helps no stranger
        (directory.hashcash_bits, directory.argon2_kib, directory.argon2_bits) = (16, 8, 8);
        let work = work(&params);
        assert!(work.has_hashcash(&params, &RELAY) && work.has_memory_hard(&params, &RELAY));
        let stranger = RelayId::from_bytes([4; 32]);
        assert!(!work.has_hashcash(&params, &stranger) && !work.has_memory_hard(&params, &stranger));
        let other = NetworkParams { allow_same_netgroup: true, ..params };
        assert!(!work.has_hashcash(&other, &RELAY) && !work.has_memory_hard(&other, &RELAY));
    }

    #[test]
    fn a_search_in_steps_finds_the_same_as_one_without() {
        let params = params();
        let mut search = Search::new(&params, RELAY);
        let mut steps = 0;
        let found = loop {
            steps += 1;
            if let Some(work) = search.step(10) {
                break work;
            }
        };
        assert_eq!(found, work(&params));
        assert!(steps > 1);
    }

    #[test]
    fn the_memory_hard_part_is_bound_to_the_hashcash() {
        let mut params = params();
        params.directory.argon2_bits = 3;
        let work = work(&params);
        let others = (1..20).map(|more| Work { hashcash: work.hashcash + more, ..work });
        assert!(others.filter(|other| other.has_memory_hard(&params, &RELAY)).count() < 10);
    }

    #[test]
    fn a_network_may_ask_for_no_work() {
        let mut params = params();
        (params.directory.hashcash_bits, params.directory.argon2_bits) = (0, 0);
        assert_eq!(work(&params), Work::default());
        assert!(Work { hashcash: 7, argon2: 7 }.has_hashcash(&params, &RELAY));
        assert!(Work { hashcash: 7, argon2: 7 }.has_memory_hard(&params, &RELAY));
    }
}
