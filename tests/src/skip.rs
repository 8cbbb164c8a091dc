//! What a test needs of the machine, and the clear word when the machine lacks it.
//!
//! A skipped test passes, so that `cargo test --workspace` works for a newcomer without root; in CI (`CI=true`)
//! a skip is a failure, because there it would hide that nothing was proved.

use crate::{mirror::Mirror, python};
use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// Something that not every machine has.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Network namespaces: Linux, root, `ip` and `tc`.
    Namespaces,
    /// Mounting file system images in a mount namespace: Linux, root, loop devices.
    Mounts,
    /// An apt that knows where to get a Debian from (see [`Mirror`]).
    PackageMirror,
    /// A program in the search path or in the system's folders for administrators.
    Program(&'static str),
    /// Python with these modules.
    Python(&'static [&'static str]),
}

/// Whether all of `needs` are there; if not, says so on stderr, and the caller returns.
///
/// # Panics
/// If something is missing and `CI=true`.
#[must_use]
pub fn have_all(test: &str, needs: &[Need]) -> bool {
    let missing: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join("; ");
    assert!(!in_ci(), "{test} may not be skipped in CI: {missing}");
    // Not `eprintln!`, which the test runner keeps to itself when a test passes.
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {missing}");
    false
}

/// Whether this is CI, where nothing may be skipped and the figures belong into the log.
#[must_use]
pub fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|ci| ci == "true")
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Self::Namespaces if !cfg!(target_os = "linux") => {
                Some("it needs Linux network namespaces".into())
            }
            Self::Namespaces if !is_root() => {
                Some("it needs root, to make network namespaces (run `sudo -E cargo test`)".into())
            }
            Self::Namespaces => ["ip", "tc"].iter().find_map(|name| Self::Program(name).missing()),
            Self::Mounts if !is_root() => {
                Some("it needs root, to mount file systems (run `sudo -E cargo test`)".into())
            }
            Self::Mounts if !Path::new("/dev/loop-control").exists() => {
                Some("it needs loop devices, to mount file systems in files".into())
            }
            Self::Mounts => ["mount", "unshare"].iter().find_map(|name| Self::Program(name).missing()),
            Self::PackageMirror => Mirror::of_this_machine()
                .is_none()
                .then(|| "apt is not set up for a mirror (http) of a system that debootstrap knows".into()),
            Self::Program(name) => {
                find_program(name).is_none().then(|| format!("the program {name} is not installed"))
            }
            Self::Python(modules) => python::with_modules(modules).is_none().then(|| {
                format!(
                    "there is no python with {} (tests/requirements.txt, or a package of the system)",
                    modules.join(", ")
                )
            }),
        }
    }
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Where a program is; also in the `sbin` folders, which a user's search path often lacks.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(admin)
        .map(|folder| folder.join(name))
        .find(|program| fs::metadata(program).is_ok_and(|found| found.is_file()))
}
