//! What went through the ports of a switch, looked at so often that one sees who was idle when.
//!
//! A namespace's counters can be read through any process that lives in it: no program is started for a look, which
//! on a busy machine would be part of what is measured.

use crate::{place::Place, process::Process, wait};
use std::{fs, path::Path, time::Duration};

/// A process is in its namespace within this time, or something is wrong.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The ports of a switch.
#[derive(Debug)]
pub struct Ports {
    names: Vec<String>,
    inside: Process,
}

/// Bytes that a host at a port has sent and received so far. The kernel hands on several packets of one connection
/// at once and then counts the headers of one of them: good for a course, not for a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the host to the switch.
    pub sent: u64,
    /// From the switch to the host.
    pub received: u64,
}

impl Ports {
    /// The ports with these names, of a switch at `place`; `folder` gets a log.
    ///
    /// # Panics
    /// If one of them does not exist.
    #[must_use]
    pub fn new(place: &Place, names: Vec<String>, folder: &Path) -> Self {
        let mut command = place.command("sleep");
        command.arg("infinity");
        let ports = Self { names, inside: Process::start("switch", &command, &folder.join("switch.log")) };
        let found = wait::until(START_LIMIT, || ports.try_look());
        assert!(found.is_some(), "no such ports: {:?}\n{}", ports.names, ports.inside.tail());
        ports
    }

    /// Counters of all ports, in the order of their names.
    ///
    /// # Panics
    /// If a port has gone.
    #[must_use]
    pub fn look(&self) -> Vec<Traffic> {
        self.try_look().unwrap_or_else(|| panic!("the switch has lost one of {:?}", self.names))
    }

    fn try_look(&self) -> Option<Vec<Traffic>> {
        let table = fs::read_to_string(format!("/proc/{}/net/dev", self.inside.id())).ok()?;
        self.names.iter().map(|name| traffic_of(&table, name)).collect()
    }
}

/// The line of one interface in `/proc/net/dev`: eight counters of what came in, beginning with bytes, and then of
/// what went out. What comes in at a port is what its host sent.
fn traffic_of(table: &str, interface: &str) -> Option<Traffic> {
    let mut lines = table.lines().filter_map(|line| line.split_once(':'));
    let (_, counters) = lines.find(|(name, _)| name.trim() == interface)?;
    let mut counters = counters.split_whitespace().map(str::parse);
    let sent = counters.next()?.ok()?;
    let received = counters.nth(7)?.ok()?;
    Some(Traffic { sent, received })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ports_counters_are_found_in_the_kernels_table() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
                     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n\
                     port11: 700 7 0 0 0 0 0 0 900 9 0 0 0 0 0 0\n  port1: 1 1 0 0 0 0 0 0 2 2 0 0 0 0 0 0\n";
        assert_eq!(traffic_of(table, "port11"), Some(Traffic { sent: 700, received: 900 }));
        assert_eq!(traffic_of(table, "port1"), Some(Traffic { sent: 1, received: 2 }));
        assert_eq!(traffic_of(table, "port12"), None);
    }
}
