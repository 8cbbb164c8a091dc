//! How much a bundle needs on its file system, asked before anything is written.

use super::ExportError;
use std::{collections::BTreeSet, path::Path};

/// Files that are to be written.
#[derive(Debug, Default)]
pub(super) struct Needed {
    lengths: Vec<u64>,
    folders: BTreeSet<String>,
}

impl Needed {
    pub(super) fn add(&mut self, path: &str, length: u64) {
        self.lengths.push(length);
        self.folders.extend(path.rsplit_once('/').map(|(folder, _)| folder.to_owned()));
    }

    /// Bytes that a file system takes which gives space in units of `unit` bytes, on exFAT 128 KiB and more. A file that
    /// replaces another needs all of its space, because the other one goes only when it is there.
    fn bytes(&self, unit: u64) -> u64 {
        let unit = unit.max(1);
        let files = self.lengths.iter().map(|length| length.div_ceil(unit) * unit);
        files.sum::<u64>() + self.folders.len() as u64 * unit
    }
}

/// Fails if `folder` has too little space. A system that does not say is believed to have enough.
pub(super) fn check(folder: &Path, needed: &Needed) -> Result<(), ExportError> {
    let Ok(stats) = fs4::statvfs(folder) else { return Ok(()) };
    check_free(folder, needed.bytes(stats.allocation_granularity()), stats.available_space())
}

fn check_free(folder: &Path, needed: u64, free: u64) -> Result<(), ExportError> {
    if needed <= free { Ok(()) } else { Err(ExportError::NoSpace { path: folder.into(), needed, free }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_take_whole_units() {
        let mut needed = Needed::default();
        assert_eq!(needed.bytes(4096), 0);
        needed.add("packs/ab/one.pack", 1);
        needed.add("packs/ab/two.pack", 4096);
        needed.add("packs/cd/three.pack", 4097);
        assert_eq!(needed.bytes(4096), (1 + 1 + 2 + 2) * 4096);
        assert_eq!(needed.bytes(0), 1 + 4096 + 4097 + 2);
    }

    #[test]
    fn what_does_not_fit_is_said_with_both_numbers() {
        assert!(check_free(Path::new("stick"), 10, 10).is_ok());
        let refused = check_free(Path::new("stick"), 4711, 42).unwrap_err().to_string();
        assert!(refused.contains("4711") && refused.contains("42") && refused.contains("stick"), "{refused}");
    }
}
