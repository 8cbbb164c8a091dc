//! Free space: a node never takes the space that its machine's users need.

use crate::{disk::DiskSpace, error::StoreError, files::Files};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Bytes that may be written before the file system is asked again: rarely enough to cost nothing, and little
/// enough that the floor, which is gigabytes, is not missed by much when others fill the disk meanwhile.
const GRANT_MAX: u64 = 16 << 20;

/// How much must stay free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the file system.
    Percent(u8),
}

/// How much a store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of blocks that are present.
    pub pack_bytes: u64,
    /// Bytes that are free on the file system of packs; `None` if the system does not say.
    pub free_bytes: Option<u64>,
}

/// Watches one file system.
pub(crate) struct Space {
    folder: PathBuf,
    files: Files,
    state: Mutex<State>,
}

struct State {
    floor: Floor,
    /// Bytes that may be written without asking.
    granted: u64,
}

impl Space {
    /// Watches the file system that holds `folder`, at first without a floor.
    pub(crate) fn new(folder: PathBuf, files: Files) -> Self {
        Self { folder, files, state: Mutex::new(State { floor: Floor::NONE, granted: 0 }) }
    }

    pub(crate) fn set_floor(&self, floor: Floor) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { floor, granted: 0 };
    }

    /// Bytes that are free.
    pub(crate) fn free(&self) -> Option<u64> {
        self.files.space(&self.folder).map(|space| space.free)
    }

    /// Takes `bytes` of the space above the floor, or says that it is not there. Without a floor the disk itself
    /// says when it is full.
    pub(crate) fn claim(&self, bytes: u64) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.floor == Floor::NONE {
            return Ok(());
        }
        if state.granted < bytes {
            state.granted = self.headroom(&self.folder, state.floor, bytes)?.min(bytes.max(GRANT_MAX));
        }
        state.granted -= bytes;
        Ok(())
    }

    /// Checks that `bytes` fit above the floor of the file system that holds `folder`.
    pub(crate) fn check(&self, folder: &Path, bytes: u64) -> Result<(), StoreError> {
        let floor = self.state.lock().unwrap_or_else(PoisonError::into_inner).floor;
        self.headroom(folder, floor, bytes).map(|_| ())
    }

    /// Bytes between the floor and what is free, at least `needed`. A system that does not say is taken as endless: a
    /// full disk is noticed by the write itself.
    fn headroom(&self, folder: &Path, floor: Floor, needed: u64) -> Result<u64, StoreError> {
        let Some(DiskSpace { free, total }) = self.files.space(folder) else { return Ok(u64::MAX) };
        let floor_bytes = floor.bytes(total);
        if let Some(headroom) = free.checked_sub(floor_bytes).filter(|headroom| *headroom >= needed) {
            return Ok(headroom);
        }
        let path = folder.to_path_buf();
        if floor == Floor::NONE {
            return Err(StoreError::DiskFull { what: "store more in", path });
        }
        Err(StoreError::BelowFloor { path, free, floor: floor_bytes })
    }
}

impl Floor {
    /// All of the disk may be used.
    const NONE: Self = Self::Bytes(0);

    fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent.min(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_disk::SystemDisk;
    use std::sync::Arc;

    #[test]
    fn what_is_above_the_floor_may_be_taken_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::new(folder.path().to_path_buf(), Files::new(Arc::new(SystemDisk)));
        space.claim(1 << 20).unwrap();
        for floor in [Floor::Percent(100), Floor::Bytes(u64::MAX)] {
            space.set_floor(floor);
            assert!(matches!(space.claim(1), Err(StoreError::BelowFloor { .. })), "{floor:?}");
            assert!(matches!(space.check(folder.path(), 1), Err(StoreError::BelowFloor { .. })));
        }
        space.set_floor(Floor::Bytes(space.free().unwrap() / 2));
        space.claim(1 << 20).unwrap();
        assert!(space.claim(space.free().unwrap()).is_err());
        space.set_floor(Floor::NONE);
        assert!(matches!(space.check(folder.path(), u64::MAX), Err(StoreError::DiskFull { .. })));
    }

    #[test]
    fn a_share_of_a_disk_is_counted_in_its_bytes() {
        assert_eq!(Floor::Percent(10).bytes(1000), 100);
        assert_eq!(Floor::Percent(255).bytes(1000), 1000);
        assert_eq!(Floor::Bytes(7).bytes(1000), 7);
    }
}
