//! Headquarters: a CA, a repository, and an administrator who types commands.

use crate::{
    binary::branchmesh,
    run::{Finished, run},
};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use walkdir::WalkDir;

/// No command of an administrator takes longer with images of tests.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// An organisation's central folders.
#[derive(Debug)]
pub struct Headquarters {
    folder: PathBuf,
}

/// Bytes of a repository's folders: what a release costs, measured on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepositorySize {
    /// Of all packs.
    pub packs: u64,
    /// Of all index parts.
    pub indexes: u64,
}

impl RepositorySize {
    /// Packs and index parts together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.packs + self.indexes
    }

    /// What came in addition to `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { packs: self.packs - before.packs, indexes: self.indexes - before.indexes }
    }
}

impl Headquarters {
    /// A new CA and a new, empty repository in `folder`.
    ///
    /// # Panics
    /// If a command fails.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let hq = Self { folder: folder.into() };
        hq.cli(["ca", "init", "--dir"], [hq.ca()]).expect_ok();
        hq.cli(["repo", "init"], [hq.repository().into_os_string(), "--keys".into(), hq.keys().into()])
            .expect_ok();
        hq
    }

    /// The CA's folder.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca")
    }

    /// The repository's folder.
    #[must_use]
    pub fn repository(&self) -> PathBuf {
        self.folder.join("repo")
    }

    /// The folder of the publisher's keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// The content key of a group, which the first publication for it makes.
    #[must_use]
    pub fn content_key(&self, group: &str) -> PathBuf {
        self.keys().join("groups").join(format!("{group}.key"))
    }

    /// The root of trust that is handed to nodes.
    #[must_use]
    pub fn root_of_trust(&self) -> PathBuf {
        self.keys().join("root.json")
    }

    /// Issues a device certificate for a member of `groups` into `out`.
    ///
    /// # Panics
    /// If the command fails.
    pub fn issue(&self, name: &str, site: &str, groups: &[&str], out: &Path) {
        let mut command = self.issue_command(name, site, out);
        groups.iter().for_each(|group| {
            command.args(["--group", group]);
        });
        run(&mut command, COMMAND_LIMIT).expect_ok();
    }

    /// Issues a device certificate for a seed into `out`.
    ///
    /// # Panics
    /// If the command fails.
    pub fn issue_seed(&self, name: &str, site: &str, out: &Path) {
        run(self.issue_command(name, site, out).args(["--role", "seed"]), COMMAND_LIMIT).expect_ok();
    }

    fn issue_command(&self, name: &str, site: &str, out: &Path) -> Command {
        let mut command = Command::new(branchmesh());
        command.args(["ca", "issue", "--dir"]).arg(self.ca());
        command.args(["--name", name, "--site", site, "--out"]).arg(out);
        command
    }

    /// Publishes files, and says how the repository grew by it.
    ///
    /// # Panics
    /// If the command fails.
    pub fn publish(&self, image: &str, release: &str, paths: &[&Path]) -> RepositorySize {
        let before = self.size();
        run(&mut self.publish_command(image, release, paths), COMMAND_LIMIT).expect_ok();
        self.size().since(before)
    }

    /// The command that publishes files.
    #[must_use]
    pub fn publish_command(&self, image: &str, release: &str, paths: &[&Path]) -> Command {
        let mut command = Command::new(branchmesh());
        command.arg("publish").arg("--repo").arg(self.repository()).arg("--keys").arg(self.keys());
        command.args(["--image", image, "--release", release]).args(paths);
        command
    }

    /// Points a channel to a release.
    ///
    /// # Panics
    /// If the command fails.
    pub fn promote(&self, image: &str, release: &str, channel: &str) {
        let mut command = Command::new(branchmesh());
        command.arg("promote").arg(format!("{image}@{release}")).arg(channel);
        command.arg("--repo").arg(self.repository()).arg("--keys").arg(self.keys());
        run(&mut command, COMMAND_LIMIT).expect_ok();
    }

    /// What a query of a repository (`diff`, `repo list`, ...) answers, with all keys at hand.
    ///
    /// # Panics
    /// If the command fails, or prints anything but JSON.
    #[must_use]
    pub fn query(&self, command: &str, arguments: &[&str], repository: &str) -> serde_json::Value {
        let answer = run(&mut self.query_command(command, arguments, repository), COMMAND_LIMIT).expect_ok();
        serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}\n{}", answer.describe()))
    }

    /// The command for that.
    #[must_use]
    pub fn query_command(&self, command: &str, arguments: &[&str], repository: &str) -> Command {
        let mut query = Command::new(branchmesh());
        query.args(command.split(' '));
        if command.starts_with("repo ") {
            query.arg(repository).args(arguments);
        } else {
            query.args(arguments).args(["--repo", repository]);
        }
        query.arg("--keys").arg(self.keys()).arg("--json");
        query
    }

    /// What the repository holds, in bytes.
    #[must_use]
    pub fn size(&self) -> RepositorySize {
        let folder = |name| folder_bytes(&self.repository().join(name));
        RepositorySize { packs: folder("packs"), indexes: folder("indexes") }
    }

    /// All packs.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn packs(&self) -> Vec<PathBuf> {
        let packs = files_below(&self.repository().join("packs"));
        assert!(!packs.is_empty(), "nothing has been published");
        packs
    }

    fn cli<W, P>(&self, words: W, paths: P) -> Finished
    where
        W: IntoIterator<Item = &'static str>,
        P: IntoIterator,
        P::Item: AsRef<OsStr>,
    {
        run(Command::new(branchmesh()).args(words).args(paths).current_dir(&self.folder), COMMAND_LIMIT)
    }
}

/// All files below a folder, in a fixed order.
#[must_use]
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(folder).sort_by_file_name().into_iter().flatten();
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

/// Flips one bit in the middle of a file, as a bad disk does.
///
/// # Panics
/// If the file cannot be changed.
pub fn flip_bit(file: &Path) {
    let mut bytes = fs::read(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
}

fn folder_bytes(folder: &Path) -> u64 {
    files_below(folder).iter().filter_map(|file| file.metadata().ok()).map(|found| found.len()).sum()
}
