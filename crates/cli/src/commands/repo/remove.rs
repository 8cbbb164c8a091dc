//! `branchmesh repo remove`.

use crate::{access::ToRepository, failure::Failure, outcome, text};
use branchmesh_repo::Keys;
use std::path::PathBuf;

/// Takes a release out of a repository; `gc` removes its files later
#[derive(clap::Args)]
pub struct Remove {
    /// The release: NAME@V
    #[arg(value_name = "NAME@V", value_parser = text::release_name)]
    release: (String, String),
    /// The repository: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "URL")]
    repo: String,
    /// Folder with the signing keys
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    #[command(flatten)]
    access: ToRepository,
}

impl Remove {
    pub async fn run(self) -> Result<(), Failure> {
        let (image, release) = &self.release;
        let repo = self.access.address(&self.repo);
        let removed = branchmesh_repo::remove_release(&repo, &Keys::at(&self.keys), image, release)
            .await
            .map_err(|error| Failure::failed("nothing was removed", &error))?;
        let done = format!(
            "{image}@{release} is removed; `branchmesh repo gc` collects what only it needed when the grace period is over"
        );
        outcome::tell(&done, &removed.missing);
        Ok(())
    }
}
