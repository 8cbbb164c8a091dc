//! `branchmesh repo remove`.

use crate::{failure::Failure, outcome, publisher::Publisher, text};

/// Takes a release out of a repository; `gc` removes its files later
#[derive(clap::Args)]
pub struct Remove {
    /// The release: NAME@V
    #[arg(value_name = "NAME@V", value_parser = text::release_name)]
    release: (String, String),
    #[command(flatten)]
    publisher: Publisher,
}

impl Remove {
    pub async fn run(self) -> Result<(), Failure> {
        let (image, release) = &self.release;
        let (repo, keys) = (self.publisher.repo(), self.publisher.keys());
        let removed = branchmesh_repo::remove_release(&repo, &keys, image, release)
            .await
            .map_err(|error| Failure::failed("nothing was removed", &error))?;
        let done = format!(
            "{image}@{release} is removed; `branchmesh repo gc` collects what only it needed when the grace period is over"
        );
        outcome::tell(&done, &removed.missing);
        Ok(())
    }
}
