//! `branchmesh repo refresh`.

use crate::{access::ToRepository, failure::Failure};
use branchmesh_repo::Keys;
use std::{collections::BTreeMap, path::PathBuf};

/// Signs the metadata anew before it expires (the timestamp does after 30 days)
#[derive(clap::Args)]
pub struct Refresh {
    /// The repository: a folder, or s3://, gs://, az://
    url: String,
    /// Folder with the signing keys
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    #[command(flatten)]
    access: ToRepository,
}

impl Refresh {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, keys, access } = self;
        branchmesh_repo::refresh(&access.address(&url), &Keys::at(&keys), &BTreeMap::new())
            .await
            .map_err(|error| Failure::failed("the metadata was not signed", &error))?;
        eprintln!("the metadata of {url} is signed anew");
        Ok(())
    }
}
