//! How a command fails: what to say, and with which exit code.

use branchmesh_agent::in_words;
use std::{error::Error, process::ExitCode};

/// A command that did not do its job.
pub struct Failure {
    words: String,
    code: u8,
}

impl Failure {
    /// The command failed.
    pub fn failed(what: &str, cause: &dyn Error) -> Self {
        Self { words: format!("{what}: {}", in_words(cause)), code: 1 }
    }

    /// The command failed, and the words say it all.
    pub fn because(words: impl Into<String>) -> Self {
        Self { words: words.into(), code: 1 }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(cause: &dyn Error) -> Self {
        Self { words: in_words(cause), code: 2 }
    }

    /// The local agent does not answer.
    pub fn no_agent(words: impl Into<String>) -> Self {
        Self { words: words.into(), code: 3 }
    }

    /// Tells the user, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        eprintln!("error: {}", self.words);
        ExitCode::from(self.code)
    }
}
