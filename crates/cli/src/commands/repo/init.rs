//! `branchmesh repo init`.

use crate::{access::ToRepository, failure::Failure, role_value::role_and};
use branchmesh_repo::{Keys, RoleName, Threshold};
use std::path::PathBuf;

/// Makes an empty repository, and outside of it its keys
#[derive(clap::Args)]
pub struct Init {
    /// The repository: a folder, or s3://, gs://, az://
    url: String,
    /// Folder for the signing keys, content keys, and the root of trust for nodes
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// How many keys of a role must sign, and how many there are (1/1); ROLE is root, targets, snapshot or timestamp,
    /// and the keys are ROLE.key, ROLE-2.key and so on; may be given several times
    #[arg(long = "threshold", value_name = "ROLE=M/N", value_parser = role_and::<Threshold>)]
    thresholds: Vec<(RoleName, Threshold)>,
    #[command(flatten)]
    access: ToRepository,
}

impl Init {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, keys, thresholds, access } = self;
        let thresholds = thresholds.into_iter().collect();
        branchmesh_repo::init_with(&access.address(&url), &Keys::at(&keys), &thresholds)
            .await
            .map_err(|error| Failure::failed("no repository was made", &error))?;
        eprintln!("made an empty repository in {url}");
        eprintln!(
            "its keys are in {0}: keep them offline and backed up. Give {0}/root.json to every node",
            keys.display()
        );
        Ok(())
    }
}
