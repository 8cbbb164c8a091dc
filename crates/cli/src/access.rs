//! The options with which every command gets to a repository.

use branchmesh_agent::AccessLayer;
use branchmesh_repo::Address;

/// How to get to the repository; the same options as an agent's.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Access to the repository")]
pub struct ToRepository {
    #[command(flatten)]
    access: AccessLayer,
}

impl ToRepository {
    /// The repository at `url`.
    pub fn address(&self, url: &str) -> Address {
        Address::from(url).with(self.access.clone().settle())
    }
}
