//! The progress bar of commands that read many bytes.

use branchmesh_repo::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar over bytes with rate and time left, on stderr where that is a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// An empty bar.
    pub fn new() -> Self {
        let bar = ProgressBar::new(0);
        let template = "{bar:30} {percent} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("a literal template"));
        Self(bar)
    }

    /// Takes it off the screen.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn total(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
