//! One publisher at a time in a folder. The lock ends with the process, however it ends.

use super::PlaceError;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write,
    path::Path,
};

/// Locked by the publisher at work.
const LOCK_FILE: &str = "publish.lock";
/// Bytes of the lock file that an error message quotes.
const LOCK_TEXT_MAX: usize = 120;

/// Held by the one publisher. A cloud has no lock: there, the conditions of the writes keep publishers apart.
pub(crate) struct PublisherLock {
    _file: Option<File>,
}

impl PublisherLock {
    /// No lock.
    pub(super) fn none() -> Self {
        Self { _file: None }
    }

    /// Makes this process the only publisher in `folder`.
    pub(super) fn take(folder: &Path) -> Result<Self, PlaceError> {
        let path = folder.join(LOCK_FILE);
        let failed = |source| PlaceError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                // Windows refuses to read a locked file; the message is as useful without.
                let owner = fs::read_to_string(&path).unwrap_or_default();
                let owner = owner.trim().chars().take(LOCK_TEXT_MAX).collect::<String>();
                let owner = if owner.is_empty() { "unknown process".into() } else { owner };
                return Err(PlaceError::Locked { path: folder.into(), owner });
            }
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "process {}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: Some(file) })
    }
}
