//! The plaintext of an index's root.

use branchmesh_image::{IndexRoot, path, piece::PIECE_PLAIN_MAX};
use std::collections::HashSet;

/// Input: the plaintext.
pub fn run(bytes: &[u8]) {
    let Ok(root) = IndexRoot::from_bytes(bytes) else { return };
    check(&root);
    let again = IndexRoot::from_bytes(&root.to_bytes()).expect("what was written reads back");
    assert_eq!(again, root);
}

/// What every root promises that was accepted.
pub(crate) fn check(root: &IndexRoot) {
    assert!(path::check_name(&root.image).is_ok() && path::check_name(&root.release).is_ok());
    let mut folded = HashSet::new();
    for file in &root.files {
        assert!(path::check_path(&file.path).is_ok(), "a path that leaves the folder: {:?}", file.path);
        assert!(folded.insert(file.path.to_lowercase()), "two files with one name: {:?}", file.path);
    }
    assert!(root.pieces.iter().all(|piece| piece.plain_len as usize <= PIECE_PLAIN_MAX));
}
