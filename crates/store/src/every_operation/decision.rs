//! What somebody decided about the image: a record that is there, once it is written, or is not, and is never half there.

use super::{
    node::Node,
    world::{IMAGE, Release},
};
use crate::{
    error::StoreError,
    image_record::{Hold, ImageRecord},
    store::Store,
};
use std::collections::BTreeSet;

/// Whether it was made.
#[derive(Clone)]
pub(super) struct Decision {
    record: ImageRecord,
    is_made: bool,
}

impl Decision {
    /// To pin one release, and to stay with it.
    pub(super) fn for_release(release: &Release) -> Self {
        let record = ImageRecord {
            pinned: BTreeSet::from([release.name.to_owned()]),
            hold: Some(Hold { release: release.name.to_owned(), past: 3 }),
            told_ready: BTreeSet::from([release.root.id]),
            ..ImageRecord::NOTHING
        };
        Self { record, is_made: false }
    }

    /// Makes it, if that was not done.
    pub(super) fn make(&mut self, node: &Node) -> Result<(), StoreError> {
        if node.images_remembered()?.is_empty() {
            node.put_image(IMAGE, &self.record)?;
        }
        self.is_made = true;
        Ok(())
    }

    pub(super) fn expect_kept(&self, store: &Store) {
        let found = store.images_remembered().unwrap();
        let is_there = found == [(IMAGE.to_owned(), self.record.clone())];
        assert!(is_there || (!self.is_made && found.is_empty()), "of a decision is left {found:?}");
    }
}
