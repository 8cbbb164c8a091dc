//! The kernel's counters: what crossed an interface, what a process used.

use crate::{place::Place, run::run};
use std::{fs, time::Duration};

/// Bytes that an interface has received, link-layer headers included.
///
/// # Panics
/// If there is no such interface.
#[must_use]
#[track_caller]
pub fn received(place: &Place, interface: &str) -> u64 {
    let path = format!("/sys/class/net/{interface}/statistics/rx_bytes");
    let text = run(place.command("cat").arg(path), Duration::from_secs(10)).expect_ok().stdout;
    text.trim().parse().unwrap_or_else(|error| panic!("the kernel's counter reads {text:?}: {error}"))
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time in seconds, of all its threads.
    pub cpu_seconds: f64,
    /// Most memory that it ever held, in bytes.
    pub peak_memory: u64,
}

/// Clock ticks of `/proc` in a second: 100 on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a running process has used so far; none if it is gone, or on a system without `/proc`.
#[must_use]
pub fn usage(process: u32) -> Option<Usage> {
    // User and system time are the 12th and 13th field after the name.
    let cpu_seconds = cpu_seconds(&process.to_string(), 11)?;
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(Usage { cpu_seconds, peak_memory: kib << 10 })
}

/// Processor time in seconds of all children of this process that have ended and been waited for.
#[must_use]
pub fn children_cpu_seconds() -> Option<f64> {
    cpu_seconds("self", 13)
}

/// The sum of two neighbouring times among the fields after a process's name, which may hold anything.
fn cpu_seconds(process: &str, first_field: usize) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(first_field);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}
