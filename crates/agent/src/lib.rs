//! The daemon: one loop that feeds the exchange from mesh, store and repository, and carries its actions out.
//!
//! The loop (`run`) alone changes state, one event at a time, and drains the exchange's actions after each.
//! Whatever takes time (a request, a transfer, an index, putting files in place) is a task that tells the loop
//! how it ended. Only this crate knows both the brain and the shell.

mod access;
mod activation;
mod agent;
mod api;
mod assembly;
mod choices;
mod comply;
pub mod config;
mod following;
mod happening;
mod harvest;
mod holdings;
mod hooks;
mod hours;
mod idle;
mod import;
mod keeping;
mod line;
mod metrics;
mod nearby;
mod news;
mod problems;
mod release_view;
mod releases;
mod requests;
mod retire;
mod rollout;
mod run;
mod scrub;
mod serve;
mod shared;
mod sources;
pub mod status;
mod throttle;
mod transfer;
mod verify;
mod versions;
mod view;
mod wishes;

pub use access::AccessLayer;
pub use agent::{Agent, AgentError};
pub use api::ApiError;
pub use branchmesh_mesh::ca;
pub use branchmesh_units as units;
pub use config::{ConfigError, Layer, Settings};
pub use hooks::{HookCommand, HookCommandError, HookSettings, HooksLayer};
pub use import::{Amount, DamagedFile, ImportReport, ImportRequest, ImportedRelease};
pub use requests::{ReleaseAnswer, ReleaseRequest, Verb};
pub use throttle::TokenBucket;
pub use verify::{ChangedView, VerifyAnswer};

/// An error and all that caused it, in one line.
#[must_use]
pub fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some crates repeat their cause in their own text.
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = error.source();
    }
    words
}
