//! One at a time: tests that measure time or traffic must not share the machine with each other.

use std::{env, fs::File};

/// The right to measure, held until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits for the turn. Holds across test binaries and across several runs of them.
    ///
    /// # Panics
    /// If the temp folder cannot be written.
    #[must_use]
    pub fn take() -> Self {
        let path = env::temp_dir().join("branchmesh-tests.turn");
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        lock.lock().unwrap_or_else(|error| panic!("cannot lock {}: {error}", path.display()));
        Self { _lock: lock }
    }
}
