//! One run of a hook: a process with the facts in its environment, a limit to its time, and a limit to what of its
//! output is kept.
//!
//! On Unix a hook is the head of a process group, so that a script that hangs is ended with all that it started.
//! On Windows only the process itself is ended.

use super::settings::HookCommand;
use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    task::JoinHandle,
};

/// Most bytes of each of stdout and stderr that are kept: their ends.
const OUTPUT_MAX: usize = 8 << 10;
/// After a hook has ended, how long what it still had to say is waited for: something that it started may hold its
/// output open for ever.
const OUTPUT_WAIT: Duration = Duration::from_secs(1);
/// Most bytes of a fact: systems limit an environment, and reasons may be long.
const FACT_MAX: usize = 4 << 10;

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// The program does not start.
    #[error("{} cannot be started ({source}): check its path, and that the agent's user may run it", .program.display())]
    NotStarted {
        /// Which.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be told how it ends.
    #[error("nothing is known of how it ended: {0}")]
    Lost(io::Error),
    /// It says that it failed.
    #[error("it ended with {status}{}", in_brackets(.output))]
    Failed {
        /// How.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// It took too long.
    #[error(
        "it was ended after {}{}: make it quicker, or give it more time with the setting timeout in [hooks]",
        seconds(.limit), in_brackets(.output)
    )]
    TimedOut {
        /// Its time.
        limit: Duration,
        /// The end of what it said.
        output: String,
    },
}

/// Runs a command with `facts` in its environment (`None` takes a name away). Returns the end of what it said.
pub(crate) async fn run(
    command: &HookCommand,
    facts: &[(&str, Option<String>)],
    folder: &Path,
    limit: Duration,
) -> Result<String, HookError> {
    let mut process = Command::new(&command.program);
    process.args(&command.arguments).current_dir(folder).kill_on_drop(true);
    process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in facts {
        match value {
            Some(value) => process.env(name, presentable(value)),
            None => process.env_remove(name),
        };
    }
    set_apart(&mut process);
    let mut running = Running(
        process
            .spawn()
            .map_err(|source| HookError::NotStarted { program: command.program.clone(), source })?,
    );
    let said = [listen(running.0.stdout.take()), listen(running.0.stderr.take())];
    let ended = tokio::time::timeout(limit, running.0.wait()).await;
    if ended.is_err() {
        running.end().await;
    }
    let output = gather(said).await;
    match ended {
        Ok(Ok(status)) if status.success() => Ok(output),
        Ok(Ok(status)) => Err(HookError::Failed { status, output }),
        Ok(Err(error)) => Err(HookError::Lost(error)),
        Err(_) => Err(HookError::TimedOut { limit, output }),
    }
}

/// A hook that is ended when nobody waits for it any more.
struct Running(Child);

impl Running {
    async fn end(&mut self) {
        self.end_group();
        // It may have ended by itself in this moment.
        let _ = self.0.kill().await;
    }

    #[cfg(unix)]
    fn end_group(&self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        // As long as the child was not waited for, its id is nobody else's.
        let group = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // All of it may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    #[cfg(not(unix))]
    fn end_group(&self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end_group();
    }
}

#[cfg(unix)]
fn set_apart(process: &mut Command) {
    process.process_group(0);
}

/// No console window comes up on somebody's desktop.
#[cfg(windows)]
fn set_apart(process: &mut Command) {
    const CREATE_NO_WINDOW: u32 = 0x0800_0000;
    process.creation_flags(CREATE_NO_WINDOW);
}

#[cfg(not(any(unix, windows)))]
fn set_apart(_process: &mut Command) {}

/// What is read from a hook's output while it runs.
struct Said {
    tail: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

/// Reads all that comes, so that the hook never waits, and keeps its end.
fn listen(stream: Option<impl AsyncRead + Unpin + Send + 'static>) -> Said {
    let tail = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&tail);
    let reading = tokio::spawn(async move {
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0; OUTPUT_MAX];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let mut tail = kept.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend_from_slice(&buffer[..read]);
            let surplus = tail.len().saturating_sub(OUTPUT_MAX);
            tail.drain(..surplus);
        }
    });
    Said { tail, reading }
}

/// The ends of both outputs as text.
async fn gather(said: [Said; 2]) -> String {
    let mut text = String::new();
    for Said { tail, mut reading } in said {
        if tokio::time::timeout(OUTPUT_WAIT, &mut reading).await.is_err() {
            reading.abort();
        }
        let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(&String::from_utf8_lossy(&tail));
    }
    text.trim().to_owned()
}

/// A fact as any system takes it.
fn presentable(value: &str) -> String {
    let mut end = value.len().min(FACT_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].replace('\0', " ")
}

fn seconds(span: &Duration) -> String {
    format!("{} s", span.as_secs_f64())
}

/// The last line of what a hook said.
fn in_brackets(output: &str) -> String {
    output.lines().last().map_or(String::new(), |line| format!(" ({})", line.trim()))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    async fn shell(script: &str, limit: Duration) -> Result<String, HookError> {
        let command = HookCommand {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into(), "x".into()],
        };
        let facts = [("BRANCHMESH_EVENT", Some("ready; exit 7".to_owned())), ("PATH_TO_NOWHERE", None)];
        run(&command, &facts, Path::new("/"), limit).await
    }

    #[tokio::test]
    async fn facts_are_in_the_environment_as_they_are() {
        let said = shell("printf '%s' \"$BRANCHMESH_EVENT\"; pwd", LIMIT).await.unwrap();
        assert_eq!(said, "ready; exit 7/");
    }

    #[tokio::test]
    async fn a_failure_comes_with_its_last_words() {
        let error = shell("echo first; echo no such machine >&2; exit 3", LIMIT).await.unwrap_err();
        assert!(matches!(&error, HookError::Failed { status, .. } if status.code() == Some(3)));
        assert!(error.to_string().contains("(no such machine)"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let command = HookCommand { program: "/no/such/program".into(), arguments: Vec::new() };
        let error = run(&command, &[], Path::new("/"), LIMIT).await.unwrap_err().to_string();
        assert!(error.contains("/no/such/program"), "{error}");
    }

    #[tokio::test]
    async fn endless_output_takes_no_memory_and_only_its_end_is_kept() {
        let said = shell("head -c 3000000 /dev/zero | tr '\\0' y; echo; echo the end", LIMIT).await.unwrap();
        assert!(said.len() <= OUTPUT_MAX && said.ends_with("the end"), "{} bytes", said.len());
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; echo begun; wait", pid.display());
        let error = shell(&script, Duration::from_secs(2)).await.unwrap_err();
        assert!(matches!(&error, HookError::TimedOut { output, .. } if output == "begun"), "{error}");
        let child: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        // It ends in its own time after it was told to.
        let ended = async {
            while is_running(child) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, ended).await.unwrap();
    }

    fn is_running(pid: i32) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    }

    #[tokio::test]
    async fn a_hook_may_leave_something_running_that_holds_its_output() {
        let said = shell("sleep 5 & echo done", LIMIT).await.unwrap();
        assert_eq!(said, "done");
    }

    #[test]
    fn facts_that_no_system_takes_are_made_presentable() {
        assert_eq!(presentable("a\0b"), "a b");
        assert_eq!(presentable(&"é".repeat(FACT_MAX)).len(), FACT_MAX);
    }
}
