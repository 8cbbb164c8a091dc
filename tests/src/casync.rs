//! casync (Debian's package), the tool to be compared with: it cuts images by content too, but into one file a chunk,
//! without a mesh and without signatures.
//!
//! Its store lies below `packs/`, so that nginx serves it with the configuration that administrators get, and its
//! downloads are counted in the same log as ours.

use crate::{
    hq::files_below,
    run::run,
    skip::{Need, find_program},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// What the machine must have.
pub const NEED: Need = Need::Program("casync");
/// It takes ten seconds a gigabyte.
const LIMIT: Duration = Duration::from_secs(400);

/// A folder with chunks, and the indexes of images that were made into them.
#[derive(Debug)]
pub struct ChunkStore {
    folder: PathBuf,
}

impl ChunkStore {
    /// A store below `folder`, made by the first image.
    ///
    /// # Panics
    /// If the folder cannot be made.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let packs = folder.join("packs");
        std::fs::create_dir_all(&packs)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", packs.display()));
        Self { folder: folder.into() }
    }

    /// The folder that a web server has to serve.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The command that adds an image, at casync's defaults: chunks of 64 KiB on average, as ours.
    #[must_use]
    pub fn make_command(&self, release: &str, image: &Path) -> Command {
        let mut command = casync("make", &self.chunks().to_string_lossy());
        command.arg(self.index(release)).arg(image);
        command
    }

    /// Adds an image.
    ///
    /// # Panics
    /// If casync fails.
    pub fn make(&self, release: &str, image: &Path) {
        run(&mut self.make_command(release, image), LIMIT).expect_ok();
    }

    /// The command that puts an image together whose chunks are all here.
    #[must_use]
    pub fn extract_command(&self, release: &str, target: &Path) -> Command {
        let mut command = casync("extract", &self.chunks().to_string_lossy());
        command.arg(self.index(release)).arg(target);
        command
    }

    /// Downloads an image from a web server, with what is equal in `seed` taken from there.
    ///
    /// # Panics
    /// If casync fails.
    pub fn extract(url: &str, release: &str, seed: &Path, target: &Path) {
        let mut command = casync("extract", &format!("{url}/packs/chunks"));
        command.arg("--seed").arg(seed).arg(format!("{url}/packs/{release}.caibx")).arg(target);
        run(&mut command, LIMIT).expect_ok();
    }

    /// Bytes of all chunks and of all indexes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        let files = files_below(&self.folder);
        files.iter().filter_map(|file| file.metadata().ok()).map(|found| found.len()).sum()
    }

    fn chunks(&self) -> PathBuf {
        self.folder.join("packs/chunks")
    }

    fn index(&self, release: &str) -> PathBuf {
        self.folder.join("packs").join(format!("{release}.caibx"))
    }
}

fn casync(verb: &str, store: &str) -> Command {
    let mut command = Command::new(find_program("casync").expect("the caller has asked for casync (NEED)"));
    command.arg(verb).arg("--store").arg(store);
    command
}
