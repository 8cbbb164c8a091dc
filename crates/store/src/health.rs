//! The disk's health: when blocks turned out to be rotten, and how far the last look at all of them came.
//!
//! Both survive restarts, so that a disk that rots a little each day is noticed.

use crate::{error::StoreError, store::Store, unix_time};
use bincode::{Decode, Encode};
use branchmesh_image::{PackId, codec};
use std::time::Duration;

/// Name of the mark that holds [`RotLog`].
const ROT: &str = "rot";
/// Name of the mark that holds [`ScrubState`].
const SCRUB: &str = "scrub";
/// Most moments that are remembered.
const ROT_MAX: usize = 64;
/// Most bytes of a mark.
const MARK_BYTES_MAX: usize = 1 << 10;

/// When blocks turned out to be rotten, in Unix seconds, the last one last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
struct RotLog(Vec<u64>);

/// How far a scrub has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ScrubState {
    /// When it began, in Unix seconds; 0 before the first one.
    pub begun: u64,
    /// The pack that was looked at last, in the order of their names.
    pub done_to: Option<[u8; 32]>,
    /// Whether all were looked at.
    pub finished: bool,
}

impl Store {
    /// How many blocks turned out to be rotten within `span`.
    pub fn rotten_within(&self, span: Duration) -> Result<usize, StoreError> {
        let since = unix_time::now().saturating_sub(span.as_secs());
        Ok(self.rot_log()?.0.iter().filter(|at| **at >= since).count())
    }

    /// Remembers that a block turned out to be rotten.
    pub(crate) fn remember_rot(&self) -> Result<(), StoreError> {
        let mut log = self.rot_log()?;
        log.0.push(unix_time::now());
        let surplus = log.0.len().saturating_sub(ROT_MAX);
        log.0.drain(..surplus);
        self.ledger().set_mark(ROT, &codec::encode(&log))
    }

    /// How far the last scrub came.
    pub fn scrub_state(&self) -> Result<ScrubState, StoreError> {
        let mark = self.ledger().mark(SCRUB)?;
        // One that cannot be read is as good as none: everything is looked at again.
        Ok(mark.and_then(|mark| codec::decode::<_, MARK_BYTES_MAX>(&mark).ok()).unwrap_or_default())
    }

    /// Remembers how far a scrub has come.
    pub fn set_scrub_state(&self, state: &ScrubState) -> Result<(), StoreError> {
        self.ledger().set_mark(SCRUB, &codec::encode(state))
    }

    /// The packs of which blocks are here, in the order of their names.
    #[must_use]
    pub fn pack_ids(&self) -> Vec<PackId> {
        let mut packs: Vec<PackId> = self.presence().packs().copied().collect();
        packs.sort_unstable();
        packs
    }

    fn rot_log(&self) -> Result<RotLog, StoreError> {
        let mark = self.ledger().mark(ROT)?;
        Ok(mark.and_then(|mark| codec::decode::<_, MARK_BYTES_MAX>(&mark).ok()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rot_is_remembered_over_restarts_and_not_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.rotten_within(Duration::from_secs(60)).unwrap(), 0);
        (0..3).for_each(|_| store.remember_rot().unwrap());
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.rotten_within(Duration::from_secs(60)).unwrap(), 3);
        let old = RotLog(vec![0; ROT_MAX]);
        store.ledger().set_mark(ROT, &codec::encode(&old)).unwrap();
        store.remember_rot().unwrap();
        assert_eq!(store.rotten_within(Duration::from_secs(60)).unwrap(), 1);
        assert_eq!(store.rot_log().unwrap().0.len(), ROT_MAX);
    }

    #[test]
    fn a_scrub_goes_on_after_a_restart_and_begins_anew_if_its_mark_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.scrub_state().unwrap(), ScrubState::default());
        let state = ScrubState { begun: 7, done_to: Some([3; 32]), finished: false };
        store.set_scrub_state(&state).unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.scrub_state().unwrap(), state);
        store.ledger().set_mark(SCRUB, &[0xff; 40]).unwrap();
        assert_eq!(store.scrub_state().unwrap(), ScrubState::default());
    }
}
