//! Work that can wait: threads that get the processor and the disk when nobody else wants them.

use std::{io, thread::JoinHandle};
use thread_priority::{ThreadBuilder, ThreadPriority};

/// Starts a thread for work that can wait. On Linux it is scheduled as `SCHED_IDLE`, which also makes its disk
/// accesses those of the idle class; on Windows in background mode; elsewhere at the lowest priority.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    ThreadBuilder::default().name(name).spawn(move |_| {
        if let Err(error) = lower_priority() {
            tracing::warn!(
                ?error,
                "work that can wait runs at normal priority: the system does not lower it"
            );
        }
        work();
    })
}

#[cfg(target_os = "linux")]
fn lower_priority() -> Result<(), thread_priority::Error> {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    };
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
}

#[cfg(windows)]
fn lower_priority() -> Result<(), thread_priority::Error> {
    use thread_priority::{WinAPIThreadPriority, set_current_thread_priority};
    set_current_thread_priority(ThreadPriority::Os(WinAPIThreadPriority::BackgroundModeBegin.into()))
}

#[cfg(not(any(target_os = "linux", windows)))]
fn lower_priority() -> Result<(), thread_priority::Error> {
    thread_priority::set_current_thread_priority(ThreadPriority::Min)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_that_it_can_wait() {
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // The 41st field, the 39th after the name (proc(5)).
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap().to_owned()
        };
        const SCHED_IDLE: &str = "5";
        assert_ne!(policy(), SCHED_IDLE);
        spawn("idle", move || assert_eq!(policy(), SCHED_IDLE)).unwrap().join().unwrap();
    }
}
