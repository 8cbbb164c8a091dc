//! What a site says it holds: a file that comes from elsewhere on a stick.

use branchmesh_image::Location;
use branchmesh_repo::{HOLDINGS_MAX, Holdings};

/// Input: the file.
pub fn run(bytes: &[u8]) {
    let Ok(holdings) = Holdings::from_bytes(bytes) else { return };
    assert!(bytes.len() <= HOLDINGS_MAX + 1024);
    let again = Holdings::from_bytes(&holdings.to_bytes()).expect("what was written reads back");
    assert_eq!(again, holdings);
    // Nobody holds what lies beyond the end of a pack, wherever that is said to be.
    let beyond = Location { pack: branchmesh_image::PackId([0; 32]), offset: u32::MAX, len: u32::MAX };
    assert!(!holdings.has(&beyond));
}
