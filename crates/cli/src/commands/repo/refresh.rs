//! `branchmesh repo refresh`.

use crate::{access::ToRepository, failure::Failure, role_value::role_and};
use branchmesh_repo::{Keys, RoleName};
use std::path::PathBuf;

/// Signs the timestamp anew (it expires after 30 days), and what else expires soon and has its keys here
///
/// Also puts changes in force that have all signatures and waited for somebody with the keys of snapshot and timestamp.
#[derive(clap::Args)]
pub struct Refresh {
    /// The repository: a folder, or s3://, gs://, az://
    url: String,
    /// Folder with the signing keys
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// For how many days the new signatures of a role hold; such a role is signed in any case. Usual are 365, for
    /// snapshot 90, for timestamp 30; may be given several times
    #[arg(long = "valid", value_name = "ROLE=DAYS", value_parser = role_and::<u32>)]
    valid: Vec<(RoleName, u32)>,
    #[command(flatten)]
    access: ToRepository,
}

impl Refresh {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, keys, valid, access } = self;
        let valid = valid.into_iter().collect();
        let refreshed = branchmesh_repo::refresh(&access.address(&url), &Keys::at(&keys), &valid)
            .await
            .map_err(|error| Failure::failed("the metadata was not signed", &error))?;
        let renewed: Vec<String> = refreshed.renewed.iter().map(RoleName::to_string).collect();
        let also = if renewed.is_empty() { String::new() } else { format!(", with {}", renewed.join(", ")) };
        eprintln!("the metadata of {url} is signed anew{also}");
        for role in &refreshed.due {
            eprintln!(
                "{role} expires soon, and its keys are not here: refresh it with the folder that has them"
            );
        }
        Ok(())
    }
}
