//! Where a program runs: on this machine, or on a host of a test's own network.

use std::{ffi::OsStr, process::Command};

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This machine itself; tests there use loopback addresses.
    Here,
    /// The network namespace with this name.
    Namespace(String),
}

impl Place {
    /// A command that will run there.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Here => Command::new(program),
            Self::Namespace(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
        }
    }
}
