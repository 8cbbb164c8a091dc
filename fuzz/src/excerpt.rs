//! The head of an excerpt of a pack, in a bundle.

use branchmesh_image::index::PACK_MAX;
use branchmesh_repo::ExcerptHead;

/// Input: the beginning of the file.
pub fn run(bytes: &[u8]) {
    let Ok(head) = ExcerptHead::from_bytes(bytes) else { return };
    assert!(head.file_len() <= bytes.len() as u64 + u64::from(PACK_MAX));
    let mut end = 0;
    for (range, place) in head.places() {
        assert!(!range.is_empty() && range.end <= PACK_MAX, "{range:?} does not lie in a pack");
        assert!(place >= end, "two ranges share bytes of the file");
        end = place + u64::from(range.end - range.start);
    }
    assert!(head.extents().is_empty() || end == head.file_len());
    let again = ExcerptHead::from_bytes(&head.to_bytes()).expect("what was written reads back");
    assert_eq!(again.extents(), head.extents());
}
