//! The kernel's counters of what crossed an interface.

use crate::{place::Place, run::run};
use std::time::Duration;

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
