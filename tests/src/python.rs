//! Python with the packages that tests use, kept apart from the system's in `target/test-tools`. `.ci/run` makes it:
//! `python3 -m venv target/test-tools && target/test-tools/bin/pip install -r tests/requirements.txt`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// An interpreter that has all of `modules`: that of `target/test-tools`, or the system's, also where the search path
/// has another one before it.
#[must_use]
pub fn with_modules(modules: &[&str]) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools");
    let own = tools.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let others = ["python3", "python", "/usr/bin/python3"].map(PathBuf::from);
    [own].into_iter().chain(others).find(|python| has_modules(python, modules))
}

fn has_modules(python: &Path, modules: &[&str]) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", &format!("import {}", modules.join(", "))]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
