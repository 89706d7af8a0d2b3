//! Descriptor: what a relay says of itself, signed, in at most 320 bytes.
//!
//! Specification: docs/protocol.md, "Descriptors". A [`Record`] is a descriptor's one form as bytes; a [`Checked`]
//! record has passed everything that a stranger's must pass. This file never keeps any: `view.rs` does.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::{
    crypto,
    entry::{RelayAddresses, RelayEntry, Weight},
    epoch::{Epoch, UnixSeconds},
    exit_summary::ExitSummary,
    family::{Family, FamilyId},
    identity::{OnionKey, RelayId, RelaySecret},
    limits::{CLOCK_TOLERANCE, MAX_RECORD},
    params::{NetworkId, NetworkParams},
    usable::Statement,
    wire::Reader,
    work::Work,
};

/// What a relay says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name.
    pub relay: RelayId,
    /// Its key for circuit handshakes.
    pub onion_key: OnionKey,
    /// Where it listens.
    pub addresses: RelayAddresses,
    /// How likely it is drawn.
    pub weight: Weight,
    /// Where it exits to; `None` when it is no exit.
    pub exit: Option<ExitSummary>,
    /// It keeps mailboxes.
    pub mailbox: bool,
    /// It is going for good: from the next epoch on it is in no path.
    pub leaving: bool,
    /// The other relays of its operator.
    pub family: Option<Family>,
    /// The first epoch in which it counts. A relay has one record in an epoch: two are a fraud.
    pub issued: Epoch,
    /// For how many epochs it counts, the first included; 0 is taken for 1.
    pub lifetime: u8,
    /// What the relay's identity has cost.
    pub work: Work,
}

/// A signed descriptor in its one form as bytes; a decoder has made sure of the form, and of nothing else.
///
/// The bytes are all that is kept, and copies share them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Record(Arc<[u8]>);

/// A record whose signatures and hashcash are good, and that counts now; its memory-hard work is not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed(Record);

/// A record that has passed every check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checked(Record);

/// Why a record does not count, from the cheapest check to the dearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DescriptorError {
    /// Not a descriptor's one form.
    #[error("not a descriptor")]
    Form,
    /// Of a version that this program does not know.
    #[error("a descriptor of version {0}")]
    Version(u8),
    /// Of another network.
    #[error("a descriptor of another network")]
    Network,
    /// A relay of this network can't be at this address.
    #[error("an address that no relay of this network can have")]
    Address,
    /// It is to be valid for longer than the network lets it.
    #[error("valid for too many epochs")]
    Lifetime,
    /// Its first epoch is too far ahead.
    #[error("issued in the future")]
    Future,
    /// Its last epoch is over.
    #[error("expired")]
    Expired,
    /// Too little hashcash, or another relay's.
    #[error("its hashcash is not enough")]
    Hashcash,
    /// Not signed by its relay.
    #[error("its signature is wrong")]
    Signature,
    /// Its family did not sign.
    #[error("its family's signature is wrong")]
    Family,
    /// A key of low order, with which nobody can agree on anything.
    #[error("its onion key is not usable")]
    OnionKey,
    /// Too little memory-hard work, or another relay's.
    #[error("its memory-hard work is not enough")]
    MemoryHard,
}

impl Descriptor {
    /// Signs it for this network. Only the relay's own secret makes a record that anyone takes.
    pub fn sign(&self, network: &NetworkId, secret: &RelaySecret) -> Record {
        let mut bytes = self.encode(network);
        let signature = secret.sign(LABEL, &[network.as_bytes(), &bytes[..]].concat());
        bytes.extend(signature);
        Record(bytes.into())
    }

    /// All but the signature.
    fn encode(&self, network: &NetworkId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAX_RECORD);
        bytes.push(VERSION);
        bytes.extend(prefix(network));
        bytes.extend(self.relay.as_bytes());
        bytes.extend(self.onion_key.as_bytes());
        bytes.push(self.flags());
        bytes.extend(self.issued.0.to_le_bytes());
        bytes.push(self.lifetime.max(1));
        if let Some(v4) = self.addresses.v4() {
            bytes.extend(v4.ip().octets());
            bytes.extend(v4.port().to_le_bytes());
        }
        if let Some(v6) = self.addresses.v6() {
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.port().to_le_bytes());
        }
        if let Some(exit) = &self.exit {
            exit.encode(&mut bytes);
        }
        if let Some(family) = &self.family {
            bytes.extend(family.id.as_bytes());
            bytes.extend(family.signature);
        }
        bytes.extend(self.work.hashcash.to_le_bytes());
        bytes.extend(self.work.argon2.to_le_bytes());
        bytes
    }

    fn flags(&self) -> u8 {
        let flags = [
            (V4, self.addresses.v4().is_some()),
            (V6, self.addresses.v6().is_some()),
            (WEIGHT_TWO, self.weight == Weight::Two),
            (EXIT, self.exit.is_some()),
            (MAILBOX, self.mailbox),
            (LEAVING, self.leaving),
            (FAMILY, self.family.is_some()),
        ];
        flags.iter().filter(|(_, set)| *set).fold(0, |flags, (bit, _)| flags | bit)
    }

    /// Reads a record's bytes; `None` for any that are not its one form.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        reader.take(1 + NETWORK_PREFIX)?;
        let relay = RelayId::from_bytes(reader.array()?);
        let onion_key = OnionKey::from_bytes(reader.array()?);
        let flags = reader.byte()?;
        let issued = Epoch(reader.u32()?);
        let lifetime = reader.byte()?;
        let v4 = if flags & V4 != 0 { Some(SocketAddr::from((reader.array::<4>()?, reader.u16()?))) } else { None };
        let v6 = if flags & V6 != 0 { Some(SocketAddr::from((reader.array::<16>()?, reader.u16()?))) } else { None };
        let addresses = RelayAddresses::new(v4.into_iter().chain(v6)).ok()?;
        let exit = if flags & EXIT != 0 { Some(ExitSummary::decode(&mut reader)?) } else { None };
        let family = if flags & FAMILY != 0 { Some(decode_family(&mut reader)?) } else { None };
        let work = Work { hashcash: reader.u64()?, argon2: reader.u64()? };
        reader.take(SIGNATURE)?;
        let valid = reader.is_empty() && flags & UNKNOWN == 0 && lifetime > 0;
        valid.then_some(Self {
            relay,
            onion_key,
            addresses,
            weight: if flags & WEIGHT_TWO == 0 { Weight::One } else { Weight::Two },
            exit,
            mailbox: flags & MAILBOX != 0,
            leaving: flags & LEAVING != 0,
            family,
            issued,
            lifetime,
            work,
        })
    }
}

fn decode_family(reader: &mut Reader<'_>) -> Option<Family> {
    Some(Family { id: FamilyId::from_bytes(reader.array()?), signature: reader.array()? })
}

impl Record {
    /// Takes bytes that are a descriptor's one form.
    ///
    /// # Errors
    /// [`DescriptorError::Version`] for another version, [`DescriptorError::Form`] for all else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DescriptorError> {
        if bytes.len() > MAX_RECORD {
            return Err(DescriptorError::Form);
        }
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&version) => return Err(DescriptorError::Version(version)),
            None => return Err(DescriptorError::Form),
        }
        Descriptor::decode(bytes).map(|_| Self(bytes.into())).ok_or(DescriptorError::Form)
    }

    /// Its bytes; at most [`MAX_RECORD`].
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// `BLAKE3(bytes)`: the record's name.
    pub fn digest(&self) -> [u8; 32] {
        crypto::blake3(&[&self.0])
    }

    /// `BLAKE3` of all that it says but its epoch and signature: a name that a renewal does not change.
    pub fn statement(&self) -> Statement {
        crypto::blake3(&self.said())
    }

    /// Whether this is a mere renewal, which nobody needs soon: it says what an earlier record says, which counts in the
    /// next epoch, too; and it is no last word.
    pub fn only_renews(&self, earlier: &Self, now: Epoch) -> bool {
        let is_later = self.issued() > earlier.issued();
        is_later && self.said() == earlier.said() && !self.is_leaving() && earlier.expires() > now.next()
    }

    /// All but its epoch and signature.
    fn said(&self) -> [&[u8]; 2] {
        let (said, _) = self.0.split_last_chunk::<SIGNATURE>().expect("every record has a signature");
        let (before, rest) = said.split_at(AT_ISSUED);
        let (_, after) = rest.split_at(AT_LIFETIME - AT_ISSUED);
        [before, after]
    }

    /// Whose it is, or claims to be.
    pub fn relay(&self) -> RelayId {
        RelayId::from_bytes(self.field(AT_RELAY))
    }

    /// The first epoch in which it counts.
    pub fn issued(&self) -> Epoch {
        Epoch(u32::from_le_bytes(self.field(AT_ISSUED)))
    }

    /// The first epoch in which it no longer counts.
    pub fn expires(&self) -> Epoch {
        let [lifetime] = self.field(AT_LIFETIME);
        self.issued().plus(lifetime.into())
    }

    /// Whether the relay is going for good.
    pub fn is_leaving(&self) -> bool {
        let [flags] = self.field::<1>(AT_FLAGS);
        flags & LEAVING != 0
    }

    /// What it says.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::decode(&self.0).expect("a record is a descriptor's form")
    }

    /// What is needed to dial the relay and to draw it for a path; its exit policy is the summary's.
    pub fn entry(&self) -> RelayEntry {
        let Descriptor { relay, onion_key, addresses, weight, exit, .. } = self.descriptor();
        RelayEntry {
            id: relay,
            onion_key,
            addresses,
            weight,
            exit: exit.map(|exit| exit.to_policy()).unwrap_or_default(),
        }
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        *bytes.expect("every record has the fields that do not move")
    }

    /// The checks that cost next to nothing: network, addresses, lifetime, time.
    ///
    /// # Errors
    /// [`DescriptorError`] of the first that fails.
    pub fn check_cheap(&self, params: &NetworkParams, now: UnixSeconds) -> Result<(), DescriptorError> {
        let descriptor = self.descriptor();
        if !self.is_of(&params.id()) {
            return Err(DescriptorError::Network);
        }
        if descriptor.addresses.iter().any(|address| !params.allows_relay_at(address.ip())) {
            return Err(DescriptorError::Address);
        }
        if descriptor.lifetime > params.directory.lifetime {
            return Err(DescriptorError::Lifetime);
        }
        if self.issued() > self.latest(params, now) {
            return Err(DescriptorError::Future);
        }
        if self.expires() <= Epoch::of(now, &params.directory) {
            return Err(DescriptorError::Expired);
        }
        Ok(())
    }

    /// The latest epoch that it may be issued for. A relay that only says that it leaves may say so for the next one,
    /// since for this one it has said otherwise.
    fn latest(&self, params: &NetworkParams, now: UnixSeconds) -> Epoch {
        let directory = &params.directory;
        if self.is_leaving() { Epoch::latest(now, directory) } else { Epoch::of(now.plus(CLOCK_TOLERANCE), directory) }
    }

    /// Whether it is of this network, by the part of the network's id that it carries.
    pub(crate) fn is_of(&self, network: &NetworkId) -> bool {
        self.field(AT_NETWORK) == prefix(network)
    }

    /// The hashcash, which costs a microsecond.
    ///
    /// # Errors
    /// [`DescriptorError::Hashcash`].
    pub fn check_hashcash(&self, params: &NetworkParams) -> Result<(), DescriptorError> {
        let enough = self.descriptor().work.has_hashcash(params, &self.relay());
        if enough { Ok(()) } else { Err(DescriptorError::Hashcash) }
    }

    /// The cheap checks once more, the hashcash, and then the signatures, which cost tens of microseconds each.
    ///
    /// # Errors
    /// [`DescriptorError`] of the first that fails.
    pub fn check_signature(self, params: &NetworkParams, now: UnixSeconds) -> Result<Signed, DescriptorError> {
        self.check_cheap(params, now)?;
        self.check_hashcash(params)?;
        self.check_keys(&params.id())?;
        Ok(Signed(self))
    }

    fn check_keys(&self, network: &NetworkId) -> Result<(), DescriptorError> {
        let Descriptor { relay, onion_key, family, .. } = self.descriptor();
        if !self.is_signed(network) {
            return Err(DescriptorError::Signature);
        }
        if family.is_some_and(|family| !family.is_of(network, &relay)) {
            return Err(DescriptorError::Family);
        }
        if onion_key.is_usable() { Ok(()) } else { Err(DescriptorError::OnionKey) }
    }

    /// Whether its relay signed it, for this network.
    pub(crate) fn is_signed(&self, network: &NetworkId) -> bool {
        self.0.split_last_chunk::<SIGNATURE>().is_some_and(|(signed, signature)| {
            let message = [network.as_bytes(), signed].concat();
            crypto::verify(self.relay().as_bytes(), LABEL, &message, signature)
        })
    }

    /// Every check, from the cheapest to the dearest.
    ///
    /// # Errors
    /// [`DescriptorError`] of the first that fails.
    pub fn check(self, params: &NetworkParams, now: UnixSeconds) -> Result<Checked, DescriptorError> {
        self.check_signature(params, now)?.check_memory_hard(params)
    }
}

impl Signed {
    /// The record.
    pub fn record(&self) -> &Record {
        &self.0
    }

    /// The last check, which costs an Argon2id: milliseconds, and its memory.
    ///
    /// # Errors
    /// [`DescriptorError::MemoryHard`].
    pub fn check_memory_hard(self, params: &NetworkParams) -> Result<Checked, DescriptorError> {
        let enough = self.0.descriptor().work.has_memory_hard(params, &self.0.relay());
        if enough { Ok(Checked(self.0)) } else { Err(DescriptorError::MemoryHard) }
    }
}

impl Checked {
    /// For a client, which leaves the memory-hard work to its sources: these are relays and have checked it, and the
    /// client uses only what most of them list. Never for what a relay takes.
    pub fn listed(signed: Signed) -> Self {
        Self(signed.0)
    }

    /// Takes a record back from one's own disk: only the memory-hard work, which was checked then, is not checked again.
    ///
    /// # Errors
    /// [`DescriptorError`] of the first check that fails.
    pub fn trust_saved(record: Record, params: &NetworkParams, now: UnixSeconds) -> Result<Self, DescriptorError> {
        record.check_signature(params, now).map(|signed| Self(signed.0))
    }

    /// The record.
    pub fn record(&self) -> &Record {
        &self.0
    }
}

fn prefix(network: &NetworkId) -> [u8; NETWORK_PREFIX] {
    *network.as_bytes().first_chunk().expect("32 bytes have 8")
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record of {:?}, {}", self.relay(), self.issued())
    }
}

const LABEL: &[u8] = b"trefoil/1 descriptor";
const VERSION: u8 = 1;
/// Bytes of the network id that a record carries, so that another network's is noticed at once; all of it is signed.
const NETWORK_PREFIX: usize = 8;
const SIGNATURE: usize = 64;

// Where the fields are that do not move.
const AT_NETWORK: usize = 1;
const AT_RELAY: usize = AT_NETWORK + NETWORK_PREFIX;
const AT_FLAGS: usize = AT_RELAY + 32 + 32;
const AT_ISSUED: usize = AT_FLAGS + 1;
const AT_LIFETIME: usize = AT_ISSUED + 4;

// Flags.
const V4: u8 = 1;
const V6: u8 = 1 << 1;
const WEIGHT_TWO: u8 = 1 << 2;
const EXIT: u8 = 1 << 3;
const MAILBOX: u8 = 1 << 4;
const LEAVING: u8 = 1 << 5;
const FAMILY: u8 = 1 << 6;
const UNKNOWN: u8 = 1 << 7;

#[cfg(test)]
pub(crate) mod tests;
