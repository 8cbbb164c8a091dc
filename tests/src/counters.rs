//! The kernel's counters: what crossed an interface, what a process used.

use crate::{place::Place, run::run};
use std::{collections::BTreeMap, fs, time::Duration};

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

/// Bytes that the shapers of a host have let out, by interface: all frames with the headers of each, also where the
/// kernel hands on several at once, which the counters of an interface do not see.
///
/// # Panics
/// If `tc` does not tell.
#[must_use]
#[track_caller]
pub fn shaped(place: &Place) -> BTreeMap<String, u64> {
    let mut command = place.command("tc");
    let answer = run(command.args(["-s", "-j", "qdisc", "show"]), Duration::from_secs(10)).expect_ok();
    let queues: Vec<serde_json::Value> = serde_json::from_str(&answer.stdout)
        .unwrap_or_else(|error| panic!("tc's answer is not JSON: {error}\n{}", answer.describe()));
    let shapers = queues.iter().filter(|queue| queue["kind"] == "tbf");
    shapers.filter_map(|queue| Some((queue["dev"].as_str()?.into(), queue["bytes"].as_u64()?))).collect()
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

/// Seconds that all processors of this machine have worked so far, for whomever; none on a system without `/proc`.
#[must_use]
pub fn machine_cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields = stat.lines().next()?.split_whitespace().skip(1).map(str::parse::<f64>);
    let ticks = fields.take(STAT_TIMES).collect::<Result<Vec<f64>, _>>().ok()?;
    let worked = ticks.iter().enumerate().filter(|(field, _)| !STAT_IDLE.contains(field));
    Some(worked.map(|(_, ticks)| ticks).sum::<f64>() / TICKS_PER_SECOND)
}

/// Times of a processor in `/proc/stat` before those of guests, which are part of the others.
const STAT_TIMES: usize = 8;
/// Those that are no work: idle, waiting for a disk, and what went to other virtual machines.
const STAT_IDLE: [usize; 3] = [3, 4, 7];

/// The sum of two neighbouring times among the fields after a process's name, which may hold anything.
fn cpu_seconds(process: &str, first_field: usize) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(first_field);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}
