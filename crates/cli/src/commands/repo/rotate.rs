//! `branchmesh repo rotate`.

use crate::{access::ToRepository, failure::Failure, outcome::tell_missing};
use branchmesh_repo::{Keys, RoleName, Threshold};
use std::path::PathBuf;

/// Gives a role new keys
///
/// The keys of root, targets, snapshot and timestamp are named by root: this needs root's keys. Those of a group are
/// named by targets. Keep the old keys until the change is in force: readers then pass over to the new ones without a
/// gap.
#[derive(clap::Args)]
pub struct Rotate {
    /// The repository: a folder, or s3://, gs://, az://
    url: String,
    /// The role: root, targets, snapshot, timestamp, or a group
    role: RoleName,
    /// Folder with the present keys
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Folder of the new keys, which are made if they are not there; the folder of --keys unless given
    #[arg(long, value_name = "DIR")]
    new_keys: Option<PathBuf>,
    /// How many of the new keys must sign, and how many there are; as before unless given
    #[arg(long, value_name = "M/N")]
    threshold: Option<Threshold>,
    #[command(flatten)]
    access: ToRepository,
}

impl Rotate {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, role, keys, new_keys, threshold, access } = self;
        let new = Keys::at(new_keys.as_ref().unwrap_or(&keys));
        let outcome =
            branchmesh_repo::rotate(&access.address(&url), &Keys::at(&keys), &role, &new, threshold)
                .await
                .map_err(|error| Failure::failed("no keys were changed", &error))?;
        eprintln!("{role} has new keys, in {}", new.folder().display());
        if outcome.in_force.is_some() {
            eprintln!("the old ones count no more: move them away");
        }
        tell_missing(&outcome.missing);
        Ok(())
    }
}
