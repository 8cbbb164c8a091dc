//! `branchmesh demote`: takes a channel away from a release.

use crate::{access::ToRepository, failure::Failure, outcome, text};
use branchmesh_repo::Keys;
use std::path::PathBuf;

/// Takes a channel away from a release, and gives it to another one.
///
/// Where the channel pointed before is not remembered: say with --to which release the nodes shall have. Without --to
/// the channel points to nothing, and the nodes that follow it keep what they have.
#[derive(clap::Args)]
pub struct Demote {
    /// The release: NAME@V
    #[arg(value_name = "NAME@V", value_parser = text::release_name)]
    release: (String, String),
    /// The channel
    channel: String,
    /// The release of the image that the channel shall point to instead
    #[arg(long, value_name = "V")]
    to: Option<String>,
    /// The repository: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "URL")]
    repo: String,
    /// Folder with the signing keys
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    #[command(flatten)]
    access: ToRepository,
}

impl Demote {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { release: (image, release), channel, to, repo, keys, access } = self;
        let (repo, keys) = (access.address(&repo), Keys::at(&keys));
        let demoted = branchmesh_repo::demote(&repo, &keys, &image, &release, &channel, to.as_deref())
            .await
            .map_err(|error| Failure::failed("the channel was not moved", &error))?;
        let done = match to {
            Some(to) => format!("{channel} of {image} is {to} now"),
            None => format!(
                "{channel} of {image} points to nothing now: nodes that follow it keep what they have"
            ),
        };
        outcome::tell(&done, &demoted.missing);
        Ok(())
    }
}
