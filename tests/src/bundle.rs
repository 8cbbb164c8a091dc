//! Bundles as an administrator makes and carries them.

use crate::{
    binary::branchmesh,
    hq::{COMMAND_LIMIT, Headquarters, files_below},
    node::Node,
    run::{Finished, run},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The command that exports releases of `hq` into a folder, without what the sites hold.
#[must_use]
pub fn export_command(hq: &Headquarters, releases: &[&str], to: &Path, lacking: &[&Path]) -> Command {
    let mut command = Command::new(branchmesh());
    command.arg("export").args(releases).arg("--repo").arg(hq.repository()).arg("--to").arg(to);
    command.arg("--keys").arg(hq.keys()).arg("--json");
    lacking.iter().for_each(|site| {
        command.arg("--lacking").arg(site);
    });
    command
}

/// Exports releases, and gives what the command says of the bundle.
///
/// # Panics
/// If the command fails, or prints anything but JSON.
pub fn export(hq: &Headquarters, releases: &[&str], to: &Path, lacking: &[&Path]) -> serde_json::Value {
    let answer = run(&mut export_command(hq, releases, to, lacking), COMMAND_LIMIT).expect_ok();
    serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}\n{}", answer.describe()))
}

/// Writes what a node, or its whole site, holds into a file.
///
/// # Panics
/// If the command fails.
pub fn have(node: &Node, of_site: bool, to: &Path) {
    let file = fs::File::create(to).unwrap_or_else(|error| panic!("cannot make {}: {error}", to.display()));
    let mut command = Command::new(branchmesh());
    command.arg("have").args(of_site.then_some("--site")).arg("--http").arg(node.settings.http.to_string());
    let status = command.stdout(file).status().unwrap_or_else(|error| panic!("cannot start it: {error}"));
    assert!(status.success(), "have: {status}");
}

/// Has a node import a folder.
#[must_use]
pub fn import(node: &Node, folder: &Path) -> Finished {
    let mut command = Command::new(branchmesh());
    command.arg("import").arg(folder).arg("--json").arg("--http").arg(node.settings.http.to_string());
    run(&mut command, COMMAND_LIMIT)
}

/// The files of a bundle, without the lock that an export holds.
#[must_use]
pub fn files(bundle: &Path) -> Vec<PathBuf> {
    files_below(bundle).into_iter().filter(|file| !file.ends_with("publish.lock")).collect()
}

/// Copies the files of a bundle whose path begins with `prefix`.
///
/// # Panics
/// If that fails.
pub fn copy(bundle: &Path, prefix: &str, to: &Path) {
    for file in files(bundle) {
        let inside = file.strip_prefix(bundle).expect("files are below their folder");
        if inside.starts_with(prefix) {
            let target = to.join(inside);
            let copied = fs::create_dir_all(target.parent().expect("it is below the folder"))
                .and_then(|()| fs::copy(&file, &target));
            copied.unwrap_or_else(|error| panic!("cannot copy {}: {error}", file.display()));
        }
    }
}
