//! Structured logs through `tracing`, on stderr.

use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

/// What is logged, and how.
#[derive(clap::Args)]
pub struct Logging {
    /// What to log: error, warn, info, debug, trace, or a tracing filter
    #[arg(long, global = true, env = "BRANCHMESH_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How to log: for people, or as JSON lines
    #[arg(long, global = true, env = "BRANCHMESH_LOG_FORMAT", default_value = "text")]
    log_format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Logging {
    /// Starts logging; `default` is the filter unless the user asked for another.
    pub fn start(&self, default: &str) {
        let wanted = self.log.as_deref().unwrap_or(default);
        let filter = EnvFilter::try_new(wanted).unwrap_or_else(|error| {
            eprintln!("warning: --log {wanted:?} is not a filter ({error}); logging at the level info");
            EnvFilter::new("info")
        });
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
        match self.log_format {
            Format::Text => logs.finish().init(),
            Format::Json => logs.json().finish().init(),
        }
    }
}
