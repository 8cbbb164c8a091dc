//! `branchmesh repo refresh`.

use crate::failure::Failure;
use branchmesh_repo::Keys;
use std::path::PathBuf;

/// Signs the metadata anew before it expires (the timestamp does after 30 days)
#[derive(clap::Args)]
pub struct Refresh {
    /// The repository: a folder
    url: String,
    /// Folder with the signing keys
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
}

impl Refresh {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, keys } = self;
        branchmesh_repo::renew(&url.as_str().into(), &Keys::at(&keys))
            .await
            .map_err(|error| Failure::failed("the metadata was not signed", &error))?;
        eprintln!("the metadata of {url} is signed anew");
        Ok(())
    }
}
