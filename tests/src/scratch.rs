//! Where a test keeps its files.
//!
//! Eight clients of a test share one disk, which eight clients of a branch never do. Their files therefore lie
//! in memory where there is enough of it; otherwise in the temp folder.

use crate::run::run;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// Memory that must be available before files are kept in it: nine clients with two releases take 14 GB.
const MEMORY_MIN_KIB: u64 = 18 << 20;
/// Begins the name of each folder; then comes the id of the test's process.
const PREFIX: &str = "branchmesh-test-";
/// Names the folder to use instead.
const FOLDER_VARIABLE: &str = "BRANCHMESH_TEST_DIR";

/// A folder that is removed with its content when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// A new folder, named after the test.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(test: &str) -> Self {
        let parent = parent();
        remove_leftovers(&parent);
        let folder = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-{test}-", std::process::id()))
            .tempdir_in(&parent)
            .unwrap_or_else(|error| panic!("cannot make a folder in {}: {error}", parent.display()));
        Self { folder }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn parent() -> PathBuf {
    if let Some(folder) = env::var_os(FOLDER_VARIABLE) {
        return folder.into();
    }
    let memory = Path::new("/dev/shm");
    let free = free_kib(memory).min(available_memory_kib());
    if memory.is_dir() && free > Some(MEMORY_MIN_KIB) { memory.into() } else { env::temp_dir() }
}

fn available_memory_kib() -> Option<u64> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// Removes what killed runs left behind: in memory, it would be missed.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        let gone = |owner| Path::new("/proc/self").exists() && !Path::new("/proc").join(owner).exists();
        if owner.is_some_and(gone) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn free_kib(folder: &Path) -> Option<u64> {
    let output = run(Command::new("df").args(["-Pk"]).arg(folder), Duration::from_secs(10));
    output.stdout.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}
