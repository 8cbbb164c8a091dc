//! The binary under test: built once per test process, exactly as cargo would build it for a user.
//!
//! A package cannot depend on the binary of another one, so cargo is asked; where nothing changed, this costs
//! a fraction of a second.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Names a binary that is to be tested as it is, without building.
const BINARY_VARIABLE: &str = "BRANCHMESH_BIN";

/// The path of `branchmesh`.
///
/// # Panics
/// If it does not build.
pub fn branchmesh() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| env::var_os(BINARY_VARIABLE).map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace, as in `cargo test --workspace`: with one package alone, features are unified
    // differently and dependencies would be built again.
    command
        .args(["build", "--workspace", "--bins", "--message-format=json-render-diagnostics"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
    assert!(output.status.success(), "cargo cannot build the workspace's binaries (see above)");
    let messages = String::from_utf8_lossy(&output.stdout);
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| {
            message["reason"] == "compiler-artifact" && message["target"]["name"] == "branchmesh"
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable of each binary that it builds, fresh or not")
}
