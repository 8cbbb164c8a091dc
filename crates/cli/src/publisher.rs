//! Changing a repository: the options that the commands of those who publish share.

use crate::access::ToRepository;
use branchmesh_repo::{Address, Keys};
use std::path::PathBuf;

/// The repository to change, and what signs the change.
#[derive(clap::Args)]
pub struct Publisher {
    /// The repository: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "URL")]
    repo: String,
    /// Folder with the signing and content keys that `repo init` made
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    #[command(flatten)]
    access: ToRepository,
}

impl Publisher {
    /// Where the repository is.
    pub fn repo(&self) -> Address {
        self.access.address(&self.repo)
    }

    /// The folder of the keys.
    pub fn keys(&self) -> Keys {
        Keys::at(&self.keys)
    }
}
