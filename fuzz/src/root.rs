//! `root.json`: where a node's trust begins, as an administrator hands it out.

use crate::{
    input::Input,
    world::{Memory, World, content_keys, signed, wait},
};
use branchmesh_repo::Trust;
use tough::schema::Root;

/// Input: a byte (1: the rest is what is signed, and gets a valid signature), then the file.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_signed_here = input.byte() & 1 == 1;
    let file = input.rest();
    let file = if is_signed_here {
        let Ok(content) = serde_json::from_slice(file) else { return };
        let Some(file) = signed::<Root>(&content) else { return };
        file.to_vec()
    } else {
        file.to_vec()
    };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let Ok(mut node) = Trust::open(&file, folder.path(), content_keys()) else { return };
    if let Ok(catalog) = wait(node.refresh(&Memory(World::good_files()))) {
        assert_eq!(catalog.releases, World::good_catalog().releases);
    }
}
