//! The wall clock, as moments are written down: in Unix seconds.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now. A clock before 1970 says 0.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
