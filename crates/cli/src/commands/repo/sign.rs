//! `branchmesh repo sign`.

use crate::{access::ToRepository, failure::Failure, outcome::tell_missing};
use branchmesh_repo::{Keys, Staged};
use std::path::PathBuf;

/// Adds signatures to changes that wait for them
///
/// Says what changes before it signs. What has enough signatures then is put in force, if the keys of snapshot and
/// timestamp are here too; otherwise by `branchmesh repo refresh`.
#[derive(clap::Args)]
pub struct Sign {
    /// The repository: a folder, or s3://, gs://, az://
    url: String,
    /// Folder with signing keys
    #[arg(long, value_name = "DIR", required_unless_present = "drop")]
    keys: Option<PathBuf>,
    /// Take all waiting changes back instead
    #[arg(long, conflicts_with = "keys")]
    drop: bool,
    #[command(flatten)]
    access: ToRepository,
}

impl Sign {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, keys, access, .. } = self;
        let address = access.address(&url);
        let Some(keys) = keys else {
            let files = branchmesh_repo::drop_staged(&address)
                .await
                .map_err(|error| Failure::failed("nothing was taken back", &error))?;
            eprintln!("took back {} of {url}", crate::text::count(files.len() as u64, "waiting change"));
            return Ok(());
        };
        let outcome = branchmesh_repo::sign(&address, &Keys::at(&keys), show)
            .await
            .map_err(|error| Failure::failed("nothing was signed", &error))?;
        if outcome.in_force.is_some() {
            eprintln!("in force now");
        }
        tell_missing(&outcome.missing);
        Ok(())
    }
}

fn show(staged: &Staged) {
    for role in &staged.roles {
        eprintln!("version {} of {}:", role.version, role.role);
        role.changes.iter().for_each(|change| eprintln!("  {change}"));
    }
}
