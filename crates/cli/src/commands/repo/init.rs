//! `branchmesh repo init`.

use crate::failure::Failure;
use branchmesh_repo::Keys;
use std::path::PathBuf;

/// Makes an empty repository, and outside of it its keys
#[derive(clap::Args)]
pub struct Init {
    /// The repository: a folder
    url: String,
    /// Folder for the signing keys, content keys, and the root of trust for nodes
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
}

impl Init {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, keys } = self;
        branchmesh_repo::init(&url.as_str().into(), &Keys::at(&keys))
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
