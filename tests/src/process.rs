//! A process in the background: its output in a log, killed with the test, its last words shown when the test fails.

use crate::{run::run, skip::find_program, wait};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

/// How much of a log a failed test shows.
const TAIL_LINES: usize = 8;

/// Set to keep the logs of tests that pass, too.
const KEEP_VARIABLE: &str = "BRANCHMESH_TEST_KEEP_LOGS";

/// A running (or finished) program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; stdout and stderr are appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn start(name: &str, command: &Command, log: &Path) -> Self {
        let file = || {
            fs::File::options()
                .create(true)
                .append(true)
                .open(log)
                .unwrap_or_else(|error| panic!("cannot open {}: {error}", log.display()))
        };
        let child = tied_to_us(command)
            .stdin(Stdio::null())
            .stdout(file())
            .stderr(file())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.into(), child, log: log.into() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it without a chance to tidy up, as a power cut does.
    ///
    /// # Panics
    /// If it had already ended by itself: then the test does not test what it says.
    #[track_caller]
    pub fn kill(&mut self) {
        assert!(self.is_running(), "{} had already ended\n{}", self.name, self.tail());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop (SIGTERM), and waits for its end.
    ///
    /// # Panics
    /// If it doesn't stop within `limit`.
    #[track_caller]
    pub fn stop(&mut self, limit: Duration) -> ExitStatus {
        run(Command::new("kill").args(["-TERM", &self.id().to_string()]), Duration::from_secs(5));
        self.wait(limit)
            .unwrap_or_else(|| panic!("{} ignores SIGTERM for {limit:?}\n{}", self.name, self.tail()))
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait::until(limit, || self.child.try_wait().ok().flatten())
    }

    /// All that it said.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last that it said.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        format!("--- the end of {}'s log\n{last}\n---", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", self.tail());
        }
        if thread::panicking() || env::var_os(KEEP_VARIABLE).is_some() {
            self.keep_log();
        }
    }
}

impl Process {
    /// Puts the whole log where it outlives the test's own folder.
    fn keep_log(&self) {
        let folder = env::temp_dir().join(format!("branchmesh-failed-{}", std::process::id()));
        let kept = folder.join(format!("{}-{}.log", self.name, self.id()));
        if fs::create_dir_all(&folder).and_then(|()| fs::copy(&self.log, &kept)).is_ok() {
            eprintln!("    all of it: {}", kept.display());
        }
    }
}

/// The same command, such that the program also dies when the test itself is killed.
fn tied_to_us(command: &Command) -> Command {
    let mut tied = match find_program("setpriv").filter(|_| cfg!(target_os = "linux")) {
        None => Command::new(command.get_program()),
        Some(setpriv) => {
            let mut tied = Command::new(setpriv);
            tied.args(["--pdeathsig", "KILL"]).arg(command.get_program());
            tied
        }
    };
    tied.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        tied.current_dir(folder);
    }
    tied
}
