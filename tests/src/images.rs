//! Real machine images: ext4 file systems full of this machine's own files, as raw disk and as qcow2.

use crate::{
    run::{Finished, run},
    skip::find_program,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use walkdir::WalkDir;

/// Where files are taken from: programs, libraries and documents, as in any machine image.
const SOURCES: [&str; 3] = ["/usr/bin", "/usr/lib", "/usr/share"];
/// Larger files are left out: one of them would be most of a small image.
const FILE_MAX: u64 = 8 << 20;
/// No tool takes longer on images of this size.
const TOOL_LIMIT: Duration = Duration::from_secs(300);
/// What a file system needs beside the files themselves: 1/4 of their size and this.
const OVERHEAD: u64 = 16 << 20;

/// Both forms of a machine's disk.
#[derive(Clone, Debug)]
pub struct DiskImage {
    /// The raw ext4 file system.
    pub raw: PathBuf,
    /// The same, converted.
    pub qcow2: PathBuf,
    /// Files in it, as (path inside, bytes).
    files: Vec<(String, u64)>,
}

impl DiskImage {
    /// A file system with about `bytes` of this machine's files, made in `folder`.
    ///
    /// # Panics
    /// If a tool fails, or this machine has too few files.
    #[must_use]
    pub fn make(folder: &Path, bytes: u64) -> Self {
        let tree = folder.join("tree");
        let files = copy_sample(&tree, bytes);
        let raw = folder.join("disk.img");
        make_file_system(&raw, &tree, bytes + bytes / 4 + OVERHEAD);
        remove_folder(&tree);
        let image = Self { qcow2: folder.join("disk.qcow2"), raw, files };
        image.convert();
        image
    }

    /// A copy in `folder` in which some files, of about `bytes` together, have other content: what a security
    /// update does, written inside the file system.
    ///
    /// # Panics
    /// If a tool fails.
    #[must_use]
    pub fn updated(&self, folder: &Path, bytes: u64) -> Self {
        let raw = folder.join("disk.img");
        copy_sparse(&self.raw, &raw);
        let new = folder.join("new");
        fs::create_dir_all(&new).unwrap_or_else(|error| panic!("cannot make {}: {error}", new.display()));
        let mut script = String::new();
        let mut left = bytes;
        // From the middle on, so that the changes lie in the middle of the disk.
        let middle = self.files.len() / 2;
        for (number, (path, size)) in self.files[middle..].iter().enumerate().step_by(3) {
            if left < *size {
                continue;
            }
            left -= *size;
            let local = new.join(number.to_string());
            fs::write(&local, changed_content(Path::new(path), *size))
                .unwrap_or_else(|error| panic!("cannot write {}: {error}", local.display()));
            script += &format!("rm \"{path}\"\nwrite \"{}\" \"{path}\"\n", local.display());
        }
        let script_file = folder.join("changes");
        fs::write(&script_file, script).unwrap_or_else(|error| panic!("cannot write the script: {error}"));
        let done = tool(Command::new("debugfs").arg("-w").arg("-f").arg(&script_file).arg(&raw));
        let failures: Vec<&str> =
            done.stderr.lines().filter(|line| !line.starts_with("debugfs ") && !line.is_empty()).collect();
        assert!(failures.is_empty(), "debugfs could not change the image: {failures:?}");
        // debugfs leaves block counts to fsck: 1 says "corrected".
        let check = run(Command::new("e2fsck").args(["-f", "-y"]).arg(&raw), TOOL_LIMIT);
        assert!(matches!(check.code, Some(0 | 1)), "{}", check.describe());
        remove_folder(&new);
        let image = Self { raw, qcow2: folder.join("disk.qcow2"), files: self.files.clone() };
        image.convert();
        image
    }

    /// Both files.
    #[must_use]
    pub fn paths(&self) -> [&Path; 2] {
        [&self.raw, &self.qcow2]
    }

    fn convert(&self) {
        let formats = ["convert", "-f", "raw", "-O", "qcow2"];
        tool(Command::new("qemu-img").args(formats).arg(&self.raw).arg(&self.qcow2));
    }
}

/// Whether two files have the same content.
///
/// # Panics
/// If one cannot be read.
#[must_use]
pub fn same_content(left: &Path, right: &Path) -> bool {
    let compared = run(Command::new("cmp").arg(left).arg(right), TOOL_LIMIT);
    assert!(matches!(compared.code, Some(0 | 1)), "{}", compared.describe());
    compared.ok()
}

/// One file with about `bytes` of this machine's files' content, back to back: a small stand-in for an image.
///
/// # Panics
/// If it cannot be written, or this machine has too few files.
pub fn make_blob(path: &Path, bytes: u64) {
    let mut content = Vec::new();
    for source in sample(bytes) {
        content.extend(fs::read(&source).unwrap_or_default());
    }
    fs::write(path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// One file of `bytes` that do not compress, always the same for a `seed` (xorshift64*).
///
/// # Panics
/// If it cannot be written.
pub fn make_noise(path: &Path, seed: u64, bytes: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    });
    let words = words.take(usize::try_from(bytes / 8).expect("a test's image fits into memory"));
    let content: Vec<u8> = words.flatten().collect();
    fs::write(path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Copies about `bytes` of this machine's files below `tree`: as (path on this machine, bytes).
pub(crate) fn copy_sample(tree: &Path, bytes: u64) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    for source in sample(bytes) {
        let inside = source.to_string_lossy().into_owned();
        let target = tree.join(inside.trim_start_matches('/'));
        let parent = target.parent().expect("a path below the tree has a parent");
        let copied = fs::create_dir_all(parent).and_then(|()| fs::copy(&source, &target));
        // Not every file may be read by everybody; there are enough others.
        if let Ok(size) = copied {
            files.push((inside, size));
        }
    }
    files
}

/// The same files each time on one machine, taken evenly from all sources.
fn sample(bytes: u64) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for source in SOURCES {
        let mut left = bytes / SOURCES.len() as u64;
        for entry in WalkDir::new(source).sort_by_file_name().into_iter().flatten() {
            let Ok(size) = entry.metadata().map(|found| found.len()) else { continue };
            if !entry.file_type().is_file() || size == 0 || size > FILE_MAX.min(left) {
                continue;
            }
            // debugfs's scripts know no escapes.
            if entry.path().to_string_lossy().contains(['"', '\\', '\n']) {
                continue;
            }
            left -= size;
            files.push(entry.into_path());
        }
    }
    files
}

/// The content of a file's new version: as compressible as the old one, and nowhere equal to it.
fn changed_content(path: &Path, size: u64) -> Vec<u8> {
    let mut content = fs::read(path).unwrap_or_default();
    content.resize(usize::try_from(size).expect("files are small (FILE_MAX)"), 0);
    content.reverse();
    content.iter_mut().for_each(|byte| *byte ^= 0x55);
    content
}

/// Makes an ext4 file system of `bytes` that holds `tree`.
pub(crate) fn make_file_system(raw: &Path, tree: &Path, bytes: u64) {
    let ids = ["6a1c2f0e-5d3b-4f0a-9b7e-2f9d1c8e7a55", "6a1c2f0e-5d3b-4f0a-9b7e-2f9d1c8e7a56"];
    let mut command = Command::new(find_program("mkfs.ext4").expect("the caller has asked for mkfs.ext4"));
    command.args(["-q", "-F", "-U", ids[0], "-E", &format!("no_copy_xattrs,hash_seed={}", ids[1])]);
    tool(command.arg("-d").arg(tree).arg(raw).arg(format!("{}k", bytes >> 10)));
}

/// Copies an image, and leaves out what is zero.
pub(crate) fn copy_sparse(from: &Path, to: &Path) {
    tool(Command::new("cp").arg("--sparse=always").arg(from).arg(to));
}

fn tool(command: &mut Command) -> Finished {
    run(command, TOOL_LIMIT).expect_ok()
}

pub(crate) fn remove_folder(folder: &Path) {
    fs::remove_dir_all(folder).unwrap_or_else(|error| panic!("cannot remove {}: {error}", folder.display()));
}
