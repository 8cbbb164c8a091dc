//! A block that rots on the disk, once, after everything was in place, and what a scrub does about it.

use super::{
    node::Node,
    world::{Placed, Release},
};
use crate::{
    error::{ReadError, StoreError},
    health::ScrubState,
    store::Store,
};
use branchmesh_image::Location;

/// What has become of the block.
#[derive(Clone)]
pub(super) struct Rot {
    at: Location,
    state: State,
    is_scrubbed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is as it was written.
    Ahead,
    /// Other bytes lie in its place.
    Rotten,
    /// It was written again, and committed.
    Replaced,
}

impl Rot {
    /// Comes over the first block of a release.
    pub(super) fn of_release(release: &Release) -> Self {
        Self { at: release.blocks[0].0, state: State::Ahead, is_scrubbed: false }
    }

    /// Whether a block is the one, and nothing is owed of it now.
    pub(super) fn is_over(&self, at: &Location) -> bool {
        self.state == State::Rotten && *at == self.at
    }

    /// Lets the block rot, and looks through its pack.
    pub(super) fn scrub(&mut self, node: &Node, release: &Release) -> Result<(), StoreError> {
        if self.state == State::Ahead {
            node.disk.rot(&node.packs().path(&self.at.pack), self.at.offset);
            self.state = State::Rotten;
        }
        for (at, block) in release.blocks.iter().filter(|(at, _)| at.pack == self.at.pack) {
            match node.read(at, block.id()) {
                Ok(read) => assert_eq!(read.bytes(), block.bytes()),
                Err(ReadError::Rotten { .. }) => self.expect_rotten(node, at),
                Err(ReadError::NotHere(_)) => {}
                Err(ReadError::Io(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// The block was fetched again, and committed.
    pub(super) fn is_replaced(&mut self, node: &Node) -> Result<(), StoreError> {
        self.state = State::Replaced;
        node.set_scrub_state(&self.done())?;
        self.is_scrubbed = true;
        Ok(())
    }

    pub(super) fn expect_readable(&self, store: &Store, (at, block): &Placed) {
        match store.read(at, block.id()) {
            Ok(read) => assert_eq!(read.bytes(), block.bytes()),
            Err(ReadError::Rotten { .. }) => self.expect_rotten(store, at),
            Err(error @ (ReadError::NotHere(_) | ReadError::Io(_))) => panic!("{error}"),
        }
    }

    pub(super) fn expect_kept(&self, store: &Store) {
        let state = store.scrub_state().unwrap();
        let is_there = state == self.done();
        assert!(is_there || (!self.is_scrubbed && state == ScrubState::default()), "{state:?} is kept");
    }

    fn expect_rotten(&self, store: &Store, at: &Location) {
        assert!(self.is_over(at), "a block is claimed that is not there: {at:?}");
        assert!(!store.has(at), "a rotten block is claimed still");
    }

    fn done(&self) -> ScrubState {
        ScrubState { begun: 7, done_to: Some(self.at.pack.0), finished: true }
    }
}
