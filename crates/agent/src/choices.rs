//! Settings that are one of a few words.

use serde::Deserialize;

/// Setting `role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RoleSetting {
    /// First in line for the WAN.
    Seed,
    /// Everything else.
    Client,
}

/// Setting `wan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum WanSetting {
    /// Use it when this node's rank says so.
    Fetcher,
    /// Only when no other live member may.
    LastResort,
    /// Never.
    Never,
}

/// Setting `update`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Update {
    /// Fetch it, and make it the current one.
    Auto,
    /// Show what it would cost; fetch it and make it the current one when somebody accepts it.
    Suggest,
    /// Fetch it when asked to, make it the current one when told to.
    Manual,
}
