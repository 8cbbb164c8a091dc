//! What a node wants, as people write it.

use branchmesh_repo::Subscription;

/// Input: the text.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(subscription) = text.parse::<Subscription>() else { return };
    assert_eq!(subscription.to_string(), text);
}
