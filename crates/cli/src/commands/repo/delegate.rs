//! `branchmesh repo delegate`.

use crate::{access::ToRepository, failure::Failure, outcome::tell_missing};
use branchmesh_repo::{Keys, Threshold};
use std::path::PathBuf;

/// Makes a group, whose team signs its own images with its own keys
#[derive(clap::Args)]
pub struct Delegate {
    /// The repository: a folder, or s3://, gs://, az://
    url: String,
    /// Folder with the keys of targets, snapshot and timestamp
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// The group
    #[arg(long, value_name = "G")]
    group: String,
    /// Folder for the team's keys: signing, content, and the root of trust; the folder of --keys unless given
    #[arg(long, value_name = "DIR")]
    team: Option<PathBuf>,
    /// How many of the team's keys must sign, and how many there are
    #[arg(long, value_name = "M/N", default_value_t = Threshold::ONE)]
    threshold: Threshold,
    #[command(flatten)]
    access: ToRepository,
}

impl Delegate {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, keys, group, team, threshold, access } = self;
        let team = team.unwrap_or_else(|| keys.clone());
        let (address, folder) = (access.address(&url), Keys::at(&team));
        let outcome = branchmesh_repo::delegate(&address, &Keys::at(&keys), &group, &folder, threshold)
            .await
            .map_err(|error| Failure::failed("no group was made", &error))?;
        let team = team.display();
        eprintln!("made the group {group}: {threshold} keys sign it (needed/all), {team}/group-{group}*.key");
        eprintln!(
            "give {team}/groups/{group}.key to its members' nodes; to publish, the team also needs snapshot.key and timestamp.key"
        );
        tell_missing(&outcome.missing);
        Ok(())
    }
}
