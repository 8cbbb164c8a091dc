//! Python with the packages that tests use, kept apart from the system's in `target/venv`. `.ci/run` makes it:
//! `python3 -m venv target/venv && target/venv/bin/pip install -r tests/requirements.txt`.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// An interpreter that has all of `modules`: that of `target/venv`, or the system's.
#[must_use]
pub fn with_modules(modules: &[&str]) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let bin = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let own = [root.join("target"), target].map(|target| target.join("venv").join(bin));
    let system = ["python3", "python"].map(PathBuf::from);
    own.into_iter().chain(system).find(|python| has_modules(python, modules))
}

fn has_modules(python: &Path, modules: &[&str]) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", &format!("import {}", modules.join(", "))]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
