//! Waiting for something that only the outside can see, with an end.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Between two looks: short against what is measured, long against the cost of a look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until `look` finds something, at most `limit` long.
pub fn until<T>(limit: Duration, look: impl FnMut() -> Option<T>) -> Option<T> {
    until_every(LOOK_EVERY, limit, look)
}

/// The same with another time between two looks.
pub fn until_every<T>(pause: Duration, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(pause);
    }
}
