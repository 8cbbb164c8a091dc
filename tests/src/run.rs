//! Running a command to its end, within a time limit.

use crate::wait;
use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; none if a signal or the time limit ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    /// Whether it succeeded.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Passes itself on if the command succeeded.
    ///
    /// # Panics
    /// If it did not, with all that it said.
    #[track_caller]
    pub fn expect_ok(self) -> Self {
        assert!(self.ok(), "{}", self.describe());
        self
    }

    /// Passes itself on if the command failed by its own decision: with an exit code, not by a panic or a signal.
    ///
    /// # Panics
    /// If it succeeded, panicked or had to be killed.
    #[track_caller]
    pub fn expect_refusal(self) -> Self {
        let panicked = self.stderr.contains("panicked at") || self.code == Some(101);
        assert!(self.code.is_some_and(|code| code != 0) && !panicked, "{}", self.describe());
        self
    }

    /// Passes itself on if stderr holds each of `words`, in any case.
    ///
    /// # Panics
    /// If one is missing.
    #[track_caller]
    pub fn expect_words(self, words: &[&str]) -> Self {
        let text = self.stderr.to_lowercase();
        let missing: Vec<_> = words.iter().filter(|word| !text.contains(&word.to_lowercase())).collect();
        assert!(missing.is_empty(), "the message lacks {missing:?}\n{}", self.describe());
        self
    }

    /// The command and all that it said.
    #[must_use]
    pub fn describe(&self) -> String {
        let code = self.code.map_or_else(|| "no exit code".to_string(), |code| format!("exit code {code}"));
        format!("{}: {code}\n--- stdout\n{}\n--- stderr\n{}", self.command, self.stdout, self.stderr)
    }
}

/// Runs a command; kills it when it takes longer than `limit`.
///
/// # Panics
/// If the command cannot be started at all.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Finished {
    let described = describe(command);
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a temp folder: {error}"));
    let (out, err) = (folder.path().join("stdout"), folder.path().join("stderr"));
    let file = |path| fs::File::create(path).unwrap_or_else(|error| panic!("cannot make a file: {error}"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file(&out))
        .stderr(file(&err))
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {described}: {error}"));
    let code = wait::until(limit, || child.try_wait().ok().flatten()).map(|status| status.code());
    if code.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let late = if code.is_none() { format!("\n[killed after {limit:?}]") } else { String::new() };
    Finished { command: described, code: code.flatten(), stdout: text(&out), stderr: text(&err) + &late }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_ended_and_said_to_be_late() {
        let finished = run(Command::new("sleep").arg("60"), Duration::from_millis(100));
        assert_eq!(finished.code, None);
        assert!(finished.describe().contains("killed after 100ms"), "{}", finished.describe());
    }
}
