//! What the code under test logs as an error. In a virtual site nothing is one: its faults are what the exchange is made for,
//! and an error in the log is something that the exchange itself holds for wrong.
//!
//! A run belongs to one thread, and so do its lines.

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::LazyLock,
};
use tracing::{Dispatch, Level, dispatcher};

/// Bytes of lines that are kept: the first ones say it all.
const BYTES_MAX: usize = 4096;

static LOG: LazyLock<Dispatch> = LazyLock::new(|| {
    let lines = tracing_subscriber::fmt().with_max_level(Level::ERROR).with_ansi(false).without_time();
    Dispatch::new(lines.with_writer(|| Collected).finish())
});

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs something, and gives what it logged as errors, a line each.
pub(crate) fn collect<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
    let done = dispatcher::with_default(&LOG, run);
    let lines = LINES.take();
    (done, String::from_utf8_lossy(&lines).lines().map(|line| line.trim().to_owned()).collect())
}

/// Writes to the lines of its thread.
struct Collected;

impl Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| {
            let room = BYTES_MAX.saturating_sub(lines.len());
            lines.extend_from_slice(&bytes[..bytes.len().min(room)]);
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_collected_and_nothing_else() {
        let (done, lines) = collect(|| {
            tracing::warn!("a neighbour sent a bad block");
            tracing::error!(block = 7, "held twice");
            5
        });
        assert_eq!((done, lines.len()), (5, 1));
        assert!(lines[0].contains("held twice") && lines[0].contains("block=7"), "{lines:?}");
        assert_eq!(collect(|| ()).1, [""; 0], "they are told once");
    }

    #[test]
    fn a_flood_of_errors_is_bounded() {
        let (_, lines) = collect(|| (0..10_000).for_each(|block| tracing::error!(block, "held twice")));
        let bytes: usize = lines.iter().map(String::len).sum();
        assert!(!lines.is_empty() && bytes <= BYTES_MAX);
    }
}
