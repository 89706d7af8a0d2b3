//! A disk in memory that fails when it is told to, and forgets what a power cut would.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// See the file's head. All clones are one disk.
#[derive(Clone, Debug, Default)]
pub(in crate::mailbox) struct Faulty(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a reader sees.
    present: Vec<u8>,
    /// What is surely still there after a power cut.
    synced: Vec<u8>,
    /// What was written since then: where, and what.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Changes so far: writes, lengths that were set, and syncs.
    changes: usize,
    /// Which change fails, and whether it is done all the same. From then on nothing works until `restart`.
    fault: Option<(usize, Fault)>,
    dead: bool,
    /// Bytes that it has room for.
    most: Option<u64>,
    set_aside: usize,
}

/// How a change fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mailbox) enum Fault {
    /// It is not done.
    Before,
    /// A part of it is done.
    Within,
    /// It is done, and nobody hears of it.
    After,
    /// The code that would do it has an error.
    Panic,
}

/// What is left after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mailbox) enum Left {
    /// All that was written: only the process has died.
    Written,
    /// All that was synced: the power was cut.
    Synced,
    /// That, and every second one of the writes after it: disks have an order of their own.
    SyncedAndSome,
}

impl Faulty {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // it panics when it is told to
    }

    pub(in crate::mailbox) fn changes(&self) -> usize {
        self.lock().changes
    }

    pub(in crate::mailbox) fn fail_at(&self, change: usize, fault: Fault) {
        self.lock().fault = Some((change, fault));
    }

    /// From now on it has room for so many bytes.
    pub(in crate::mailbox) fn fill_up(&self, most: Option<u64>) {
        self.lock().most = most;
    }

    pub(in crate::mailbox) fn length(&self) -> u64 {
        self.lock().present.len() as u64
    }

    pub(in crate::mailbox) fn change_byte(&self, at: usize) {
        self.lock().present[at] ^= 0x55;
    }

    /// The machine starts again.
    pub(in crate::mailbox) fn restart(&self, left: Left) {
        let mut state = self.lock();
        (state.fault, state.dead) = (None, false);
        let unsynced = std::mem::take(&mut state.unsynced);
        match left {
            Left::Written => state.synced = state.present.clone(),
            Left::Synced => state.present = state.synced.clone(),
            Left::SyncedAndSome => {
                let length = state.present.len();
                state.synced.resize(length, 0);
                for (at, bytes) in unsynced.iter().step_by(2).filter(|(at, bytes)| at + bytes.len() <= length) {
                    state.synced[*at..at + bytes.len()].copy_from_slice(bytes);
                }
                state.present = state.synced.clone();
            }
        }
    }

    pub(in crate::mailbox) fn set_aside(&self) {
        let mut state = self.lock();
        state.present.clear();
        state.synced.clear();
        state.set_aside += 1;
    }

    pub(in crate::mailbox) fn times_set_aside(&self) -> usize {
        self.lock().set_aside
    }
}

impl State {
    /// Does a change of at most `all` bytes, or a part of it, or none.
    fn change(&mut self, all: usize, done: impl FnOnce(&mut Self, usize)) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the disk is gone"));
        }
        let number = self.changes;
        self.changes += 1;
        let fault = self.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        match fault {
            None | Some(Fault::After) => done(self, all),
            Some(Fault::Within) => done(self, all / 2),
            Some(Fault::Before) => {}
            Some(Fault::Panic) => {
                self.dead = true;
                panic!("a panic that was wanted");
            }
        }
        if fault.is_none() {
            return Ok(());
        }
        self.dead = true;
        Err(io::Error::other("a fault that was wanted"))
    }

    fn check_room(&self, end: u64) -> io::Result<()> {
        match self.most {
            Some(most) if end > most => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        Ok(self.length())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        if state.dead {
            return Err(io::Error::other("the disk is gone"));
        }
        let start = usize::try_from(offset).unwrap();
        let found = state.present.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.change(1, |state, done| {
            if done > 0 {
                state.present.resize(usize::try_from(len).unwrap(), 0);
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.lock().change(1, |state, done| {
            if done > 0 {
                state.synced = state.present.clone();
                state.unsynced.clear();
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let start = usize::try_from(offset).unwrap();
        state.check_room(offset + data.len() as u64)?;
        state.change(data.len(), |state, done| {
            state.present[start..start + done].copy_from_slice(&data[..done]);
            state.unsynced.push((start, data[..done].to_vec()));
        })
    }
}
