//! Metadata files from a source that can sign nothing.

use crate::{
    input::Input,
    world::{Files, Memory, World, content_keys, wait},
};
use branchmesh_repo::{Trust, TrustError};
use bytes::Bytes;
use std::collections::BTreeSet;

/// Input: a byte that chooses the file, then what is given instead of it.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let good = World::good_files();
    let next_root = "3.root.json".to_owned();
    let names: BTreeSet<&String> = good.keys().chain([&next_root]).collect();
    let choice = usize::from(input.byte()) % names.len();
    let name = names.into_iter().nth(choice).expect("the choice is below their number");
    let mut files = good.clone();
    files.insert(name.clone(), Bytes::copy_from_slice(input.rest()));

    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut node = open(&good["1.root.json"], folder.path());
    match wait(node.refresh(&Memory(&files))) {
        Ok(catalog) => {
            assert_eq!(*catalog, *World::good_catalog(), "somebody without a key changed the meaning");
        }
        Err(_) => {
            assert!(node.catalog().is_none() && node.files().is_empty(), "what was refused is believed");
        }
    }
    let mut knows = open(&good["1.root.json"], folder.path());
    check_belief(&mut knows, &files);
}

/// A node that believes the good state goes on believing it.
fn check_belief(node: &mut Trust, files: &Files) {
    wait(node.refresh(&Memory(World::good_files()))).expect("the good state is accepted");
    let result: Result<_, TrustError> = wait(node.refresh(&Memory(files)));
    drop(result);
    assert_eq!(node.catalog().as_deref(), Some(World::good_catalog()), "what was believed is gone");
}

fn open(root: &[u8], folder: &std::path::Path) -> Trust {
    Trust::open(root, folder, content_keys()).expect("the good root of trust is accepted")
}
