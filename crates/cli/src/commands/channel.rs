//! `branchmesh promote` and `demote`: where channels point to.

use crate::{failure::Failure, outcome, publisher::Publisher, text};

const FAILED: &str = "the channel was not moved";

/// Points a channel to a release.
#[derive(clap::Args)]
pub struct Promote {
    /// The release: NAME@V
    #[arg(value_name = "NAME@V", value_parser = text::release_name)]
    release: (String, String),
    /// The channel
    channel: String,
    #[command(flatten)]
    publisher: Publisher,
}

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
    #[command(flatten)]
    publisher: Publisher,
}

impl Promote {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { release: (image, release), channel, publisher } = self;
        let (repo, keys) = (publisher.repo(), publisher.keys());
        let promoted = branchmesh_repo::promote(&repo, &keys, &image, &release, &channel)
            .await
            .map_err(|error| Failure::failed(FAILED, &error))?;
        outcome::tell(&format!("{channel} of {image} is {release} now"), &promoted.missing);
        Ok(())
    }
}

impl Demote {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { release: (image, release), channel, to, publisher } = self;
        let (repo, keys) = (publisher.repo(), publisher.keys());
        let demoted = branchmesh_repo::demote(&repo, &keys, &image, &release, &channel, to.as_deref())
            .await
            .map_err(|error| Failure::failed(FAILED, &error))?;
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
