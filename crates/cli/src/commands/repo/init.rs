//! `branchmesh repo init`.

use crate::{access::ToRepository, failure::Failure};
use branchmesh_repo::Keys;
use std::path::PathBuf;

/// Makes an empty repository, and outside of it its keys
#[derive(clap::Args)]
pub struct Init {
    /// The repository: a folder, or s3://, gs://, az://
    url: String,
    /// Folder for the signing keys, content keys, and the root of trust for nodes
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    #[command(flatten)]
    access: ToRepository,
}

impl Init {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, keys, access } = self;
        branchmesh_repo::init(&access.address(&url), &Keys::at(&keys))
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
