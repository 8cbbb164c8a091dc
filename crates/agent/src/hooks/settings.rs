//! Section `[hooks]` of the settings: which commands are told of what happens to releases.

use crate::units::Span;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// How long a hook may take unless told otherwise: enough to register a machine, not enough to be forgotten.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);

/// A program and its arguments. No shell reads it unless the program is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCommand {
    /// What to run: a path, or a name that is looked for in `PATH`.
    pub program: PathBuf,
    /// Its arguments, as they are.
    pub arguments: Vec<String>,
}

/// Text or an array that is no command.
#[derive(Debug, thiserror::Error)]
#[error(
    r#"{0:?} is not a command: write a program, or a program and its arguments as an array such as ["/bin/sh", "/etc/branchmesh/ready.sh"]"#
)]
pub struct HookCommandError(String);

/// Section `[hooks]` as somebody wrote it.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct HooksLayer {
    /// Command that is run when a release's files are in place: a program, or ["PROGRAM", "ARGUMENT"…]
    #[arg(id = "hook_ready", long = "hook-ready", env = "BRANCHMESH_HOOK_READY", value_name = "COMMAND")]
    pub ready: Option<HookCommand>,
    /// Command that is run when another release has become the current one
    #[arg(
        id = "hook_activated",
        long = "hook-activated",
        env = "BRANCHMESH_HOOK_ACTIVATED",
        value_name = "COMMAND"
    )]
    pub activated: Option<HookCommand>,
    /// Command that is run when a release cannot go on
    #[arg(id = "hook_failed", long = "hook-failed", env = "BRANCHMESH_HOOK_FAILED", value_name = "COMMAND")]
    pub failed: Option<HookCommand>,
    /// How long such a command may take before it is ended
    #[arg(id = "hook_timeout", long = "hook-timeout", env = "BRANCHMESH_HOOK_TIMEOUT", value_name = "SPAN")]
    pub timeout: Option<Span>,
}

/// Section `[hooks]`, settled.
#[derive(Clone, Debug)]
pub struct HookSettings {
    /// `ready`
    pub ready: Option<HookCommand>,
    /// `activated`
    pub activated: Option<HookCommand>,
    /// `failed`
    pub failed: Option<HookCommand>,
    /// `timeout`
    pub timeout: Duration,
}

impl HooksLayer {
    /// Makes relative paths relative to `folder`. A bare name is not a path: it is looked for in `PATH`.
    pub(crate) fn anchor(&mut self, folder: &Path) {
        for command in [&mut self.ready, &mut self.activated, &mut self.failed].into_iter().flatten() {
            if command.is_path() {
                command.program = folder.join(&command.program);
            }
        }
    }

    /// This layer on top of `below`.
    pub(crate) fn over(self, below: Self) -> Self {
        Self {
            ready: self.ready.or(below.ready),
            activated: self.activated.or(below.activated),
            failed: self.failed.or(below.failed),
            timeout: self.timeout.or(below.timeout),
        }
    }

    /// Fills in the default.
    pub(crate) fn settle(self) -> HookSettings {
        HookSettings {
            ready: self.ready.map(HookCommand::absolute),
            activated: self.activated.map(HookCommand::absolute),
            failed: self.failed.map(HookCommand::absolute),
            timeout: self.timeout.map_or(TIMEOUT_DEFAULT, |span| span.0),
        }
    }
}

impl HookCommand {
    fn new(words: Vec<String>) -> Result<Self, HookCommandError> {
        let mut words = words.into_iter();
        match words.next() {
            Some(program) if !program.is_empty() => {
                Ok(Self { program: program.into(), arguments: words.collect() })
            }
            Some(_) | None => Err(HookCommandError(String::new())),
        }
    }

    /// Whether the program is a path, and not a name.
    fn is_path(&self) -> bool {
        self.program.components().count() > 1
    }

    /// A hook runs in another folder than the agent.
    fn absolute(mut self) -> Self {
        if self.is_path()
            && let Ok(path) = std::path::absolute(&self.program)
        {
            self.program = path;
        }
        self
    }
}

/// As a flag or variable: a program as it is, or an array as in the file.
impl FromStr for HookCommand {
    type Err = HookCommandError;

    fn from_str(text: &str) -> Result<Self, HookCommandError> {
        if !text.trim_start().starts_with('[') {
            return Self::new(vec![text.to_owned()]);
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Line {
            words: Vec<String>,
        }
        let line: Line =
            toml::from_str(&format!("words = {text}")).map_err(|_| HookCommandError(text.into()))?;
        Self::new(line.words).map_err(|_| HookCommandError(text.into()))
    }
}

impl<'de> Deserialize<'de> for HookCommand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> HooksLayer {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_command_is_an_array_in_the_file_and_may_be_a_bare_program_in_a_flag() {
        let written = layer(r#"ready = ["/usr/bin/register", "--now", "a b"]"#).ready.unwrap();
        assert_eq!(written.arguments, ["--now", "a b"]);
        let flag: HookCommand = r#"["/usr/bin/register", "--now", "a b"]"#.parse().unwrap();
        assert_eq!(flag, written);
        let bare: HookCommand = r"C:\Program Files\register.exe".parse().unwrap();
        assert_eq!(
            (bare.program.to_str().unwrap(), bare.arguments.len()),
            (r"C:\Program Files\register.exe", 0)
        );
    }

    #[test]
    fn what_is_no_command_is_refused_with_an_example() {
        for text in ["", "[]", "[\"\"]", "[1]", "[\"a\"", "[\"a\"]\nb = 1"] {
            let error = text.parse::<HookCommand>().unwrap_err().to_string();
            assert!(error.contains("/bin/sh"), "{text:?}: {error}");
        }
        for text in ["ready = \"sh\"", "ready = []", "then = [\"sh\"]"] {
            assert!(toml::from_str::<HooksLayer>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_file_and_names_are_not_paths() {
        let mut hooks = layer("ready = [\"hooks/ready.sh\"]\nactivated = [\"systemctl\", \"x\"]");
        hooks.anchor(Path::new("/etc/branchmesh"));
        assert_eq!(hooks.ready.unwrap().program, Path::new("/etc/branchmesh/hooks/ready.sh"));
        assert_eq!(hooks.activated.unwrap().program, Path::new("systemctl"));
    }

    #[test]
    fn paths_mean_the_same_in_the_folder_that_hooks_run_in() {
        let settled = layer("ready = [\"hooks/ready.sh\"]\nfailed = [\"sh\"]").settle();
        let program = settled.ready.unwrap().program;
        assert!(program.is_absolute() && program.ends_with("hooks/ready.sh"), "{}", program.display());
        assert_eq!(settled.failed.unwrap().program, Path::new("sh"));
    }

    #[test]
    fn each_hook_of_a_higher_layer_replaces_that_of_the_lower_one() {
        let below = layer("ready = [\"a\"]\nfailed = [\"b\"]\ntimeout = \"7s\"");
        let settled = layer("ready = [\"c\"]").over(below).settle();
        assert_eq!(settled.ready.unwrap().program, Path::new("c"));
        assert_eq!(settled.failed.unwrap().program, Path::new("b"));
        assert_eq!((settled.activated, settled.timeout), (None, Duration::from_secs(7)));
    }
}
