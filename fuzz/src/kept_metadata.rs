//! The file in which a node keeps what it believes.

use crate::world::{Memory, World, content_keys, wait};
use branchmesh_repo::Trust;
use std::fs;

/// Input: the file.
pub fn run(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    fs::write(folder.path().join("metadata.json"), bytes).expect("the folder can be written to");
    let good = World::good_files();
    let open = || Trust::open(&good["1.root.json"], folder.path(), content_keys());
    let mut node = open().expect("the good root of trust is accepted");
    if let Ok(Some(catalog)) = wait(node.load_local()) {
        assert_eq!(*catalog, *World::good_catalog(), "something else was kept than was ever believed");
    }
    // Whatever the file holds, it must not keep a node from getting on.
    let mut node = open().expect("the good root of trust is accepted");
    let catalog = wait(node.refresh(&Memory(good))).expect("the good state is accepted");
    assert_eq!(*catalog, *World::good_catalog());
}
