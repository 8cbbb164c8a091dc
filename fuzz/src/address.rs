//! The address of a repository, as it stands in a configuration.

use branchmesh_repo::Origin;

/// Input: the text.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(origin) = Origin::open(text) else { return };
    // What is shown in logs and on the live page is an address itself, and the same place.
    let shown = origin.url().to_owned();
    let host = shown.split('/').nth(2).expect("a URL has a host, or an empty one");
    assert!(shown.contains("://") && !host.contains('@'), "{text:?} is shown as {shown:?}");
    let again = Origin::open(shown.as_str()).expect("what is shown is an address");
    assert_eq!(again.is_local(), origin.is_local());
    // A folder is shown as it was written; only a URL has its `..` resolved.
    assert!(again.url() == shown || origin.is_local(), "{shown:?} is shown as {:?}", again.url());
}
