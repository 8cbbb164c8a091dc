//! A program run once with everything that it costs: what benchmarks print and compare.

use crate::{
    claims::{Claims, Figure},
    counters,
    process::Process,
    wait,
};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Between two looks at a running program: the precision of the time, which is seconds.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Its memory is looked at each so many looks: the peak only grows, and a look at it is not free.
const LOOKS_PER_MEMORY: u32 = 10;
/// No program that is measured takes longer.
const LIMIT: Duration = Duration::from_secs(900);

/// What one run of a program cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// From its start to its end.
    pub seconds: f64,
    /// Processor time of all its threads and children.
    pub cpu_seconds: f64,
    /// Most memory that it held, in bytes.
    pub peak_memory: u64,
}

impl Cost {
    /// Runs a command to its end. The caller runs nothing else at that time.
    ///
    /// # Panics
    /// If the command fails or doesn't end.
    #[track_caller]
    pub fn of(name: &str, command: &Command, log: &Path) -> Self {
        let cpu_before = counters::children_cpu_seconds();
        let (begin, mut looks, mut peak_memory) = (Instant::now(), 0, 0);
        let mut process = Process::start(name, command, log);
        let done = wait::until_every(LOOK_EVERY, LIMIT, || {
            if looks % LOOKS_PER_MEMORY == 0 {
                let used = counters::usage(process.id()).unwrap_or_default();
                peak_memory = used.peak_memory.max(peak_memory);
            }
            looks += 1;
            process.wait(Duration::ZERO)
        });
        let seconds = begin.elapsed().as_secs_f64();
        assert!(done.is_some_and(|status| status.success()), "{name}: {done:?}\n{}", process.tail());
        let cpu_seconds =
            counters::children_cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
        Self { seconds, cpu_seconds: cpu_seconds.unwrap_or_default(), peak_memory }
    }

    /// Of several runs, the one in the middle by time.
    ///
    /// # Panics
    /// If there was none.
    #[must_use]
    pub fn median(mut runs: Vec<Self>) -> Self {
        runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        runs[runs.len() / 2]
    }

    /// How much of something it went through in a second, in MiB.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52 bytes")]
    pub fn mib_per_second(&self, bytes: u64) -> f64 {
        bytes as f64 / f64::from(1 << 20) / self.seconds
    }

    /// Shows all figures of a run that went through `bytes`.
    pub fn note(&self, figures: &mut Claims, bytes: u64) {
        figures.note("time", Figure::seconds(self.seconds));
        figures.note("MiB/s", Figure::ratio(self.mib_per_second(bytes)));
        figures.note("CPU seconds", Figure::seconds(self.cpu_seconds));
        figures.note("cores", Figure::ratio(self.cpu_seconds / self.seconds));
        figures.note("peak memory", Figure::bytes(self.peak_memory));
    }
}
