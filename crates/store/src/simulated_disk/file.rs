//! An open file of the simulated disk.

use super::{Failure, Kind, SimulatedDisk, content::Content, names::Node};
use crate::disk::DiskFile;
use std::{fs, io, path::PathBuf};

/// It, as long as it is open and the power is on.
pub(super) struct SimulatedFile {
    pub(super) disk: SimulatedDisk,
    pub(super) path: PathBuf,
    pub(super) node: Node,
    pub(super) handle: u64,
    pub(super) boot: u64,
}

impl SimulatedFile {
    /// One more operation on its content.
    fn change<T>(
        &self,
        kind: Kind,
        work: impl FnOnce(&mut Content, Result<(), Failure>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.disk.state();
        if state.boot != self.boot {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let outcome = state.next(kind, &self.path);
        if !state.is_on {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let content = state.files.get_mut(&self.node).expect("an open file has its content");
        work(content, outcome)
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        self.change(Kind::Look, |content, outcome| {
            outcome?;
            Ok(content.len() as u64)
        })
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.change(Kind::Write, |content, outcome| {
            outcome?;
            content.set_len(at(bytes));
            Ok(())
        })
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.change(Kind::Look, |content, outcome| {
            outcome?;
            if content.read(buffer, at(offset)) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Kind::Write, |content, outcome| {
            let written = match outcome {
                Ok(()) => bytes.len(),
                Err(Failure::ShortWrite) => bytes.len() / 2,
                Err(Failure::Error(_)) => 0,
            };
            if written > 0 {
                content.write(&bytes[..written], at(offset));
            }
            Ok(outcome?)
        })?;
        let after = self.disk.state().after_write.take();
        after.into_iter().for_each(|after| after());
        Ok(())
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.change(Kind::Write, |content, outcome| {
            outcome?;
            content.punch(at(offset), at(bytes));
            Ok(())
        })
    }

    fn reserve(&self, _offset: u64, _bytes: u64) -> io::Result<()> {
        self.change(Kind::Write, |_, outcome| Ok(outcome?))
    }

    fn set_mode(&self, _mode: u32) -> io::Result<()> {
        self.change(Kind::Write, |_, outcome| Ok(outcome?))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Kind::Sync, |content, outcome| {
            match outcome {
                Ok(()) => content.sync(),
                Err(_) => content.fail_sync(),
            }
            Ok(outcome?)
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn try_lock(&self) -> Result<(), fs::TryLockError> {
        let mut state = self.disk.state();
        state.look(&self.path).map_err(fs::TryLockError::Error)?;
        let holder = *state.locks.entry(self.node).or_insert(self.handle);
        if holder == self.handle { Ok(()) } else { Err(fs::TryLockError::WouldBlock) }
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.locks.get(&self.node) == Some(&self.handle) {
            state.locks.remove(&self.node);
        }
    }
}

fn at(bytes: u64) -> usize {
    usize::try_from(bytes).expect("simulated files fit into memory")
}
