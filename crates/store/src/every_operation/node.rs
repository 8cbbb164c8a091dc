//! What a process has of a simulated disk.

use super::on_disk::DATA_DIR;
use crate::{error::StoreError, harvest::Harvest, simulated_disk::SimulatedDisk, store::Store};
use std::{ops::Deref, path::Path, sync::Arc};

/// An open store, what finds pieces for it in the machine's own files, and the disk that both are on.
pub(super) struct Node {
    pub harvest: Harvest,
    store: Store,
    pub disk: SimulatedDisk,
}

impl Node {
    pub(super) fn open(disk: &SimulatedDisk) -> Result<Self, StoreError> {
        let store = Store::open_on(Path::new(DATA_DIR), Arc::new(disk.clone()))?;
        Ok(Self { harvest: Harvest::new(&store), store, disk: disk.clone() })
    }
}

impl Deref for Node {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
