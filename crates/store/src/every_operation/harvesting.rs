//! What a node takes from files of its machine: the files lie on a real disk that never fails, all that the store
//! makes of them is on the simulated one.

use super::{
    node::Node,
    world::{Release, releases},
};
use crate::{
    error::StoreError,
    harvest::{HarvestError, Scan},
    simulated_disk::{Failure, Kind, Loss, SimulatedDisk},
};
use branchmesh_image::{BlockSize, Cipher};
use std::{io, sync::atomic::AtomicBool};

/// Each file is a block of this size at the most, and is cut nowhere.
const SIZE: BlockSize = BlockSize::KiB128;

/// What is known of the files by now.
#[derive(Clone, Default)]
pub(super) struct Harvesting {
    is_scanned: bool,
}

impl Harvesting {
    /// Puts what the files hold of a release into the store. The caller commits.
    pub(super) fn take(&mut self, node: &Node, release: &Release) -> Result<(), StoreError> {
        let files = release.at_hand.blocks().len() as u64;
        let scan = scan(node, release).map_err(of_the_disk)?;
        assert_eq!(scan.files + scan.unchanged, files);
        assert!(!self.is_scanned || scan.unchanged == files, "a file was hashed twice");
        self.is_scanned = true;
        let wanted = (&*release.index, &Cipher::None);
        let taken = node.harvest.take(node, wanted, &AtomicBool::new(false), &mut |_| {});
        let taken = taken.map_err(of_the_disk)?;
        assert_eq!((taken.changed, taken.foreign), (0, 0));
        assert!(release.at_hand.blocks().iter().all(|at| node.has(at)), "a piece was not found");
        Ok(())
    }

    /// What was read is remembered, whatever has happened to the process that read it.
    pub(super) fn expect_remembered(&self, node: &Node, release: &Release) {
        let scan = scan(node, release).unwrap();
        assert!(self.is_scanned && scan.files == 0, "a file was hashed twice");
    }
}

#[test]
fn a_memory_whose_name_could_not_be_synced_is_there_once_it_is_used() {
    let [_, release] = releases();
    let (disk, mut harvesting) = (SimulatedDisk::new(), Harvesting::default());
    let node = Node::open(&disk).unwrap();
    disk.fail_next(Kind::SyncFolder, "store", Failure::Error(io::ErrorKind::StorageFull));
    assert!(harvesting.take(&node, &release).is_err());
    harvesting.take(&node, &release).unwrap();
    disk.cut_power();
    drop(node);
    disk.power_on(Loss::Everything);
    harvesting.expect_remembered(&Node::open(&disk).unwrap(), &release);
}

fn scan(node: &Node, release: &Release) -> Result<Scan, HarvestError> {
    let scan = node.harvest.scan(&[release.at_hand.path()], SIZE, &AtomicBool::new(false))?;
    assert_eq!(scan.unreadable, []);
    Ok(scan)
}

fn of_the_disk(error: HarvestError) -> StoreError {
    match error {
        HarvestError::Pieces(error) | HarvestError::Store(error) => error,
        HarvestError::Encode(error) => panic!("{error}"),
    }
}
