//! `branchmesh repo`: repositories.

use crate::{failure::Failure, text};
use branchmesh_repo::{ContentKeys, Keys, Origin};
use clap::Subcommand;
use std::path::{Path, PathBuf};

/// Repositories.
#[derive(Subcommand)]
pub enum Repo {
    /// Makes an empty repository, and outside of it its keys
    Init {
        /// The repository: a folder
        url: String,
        /// Folder for the signing keys, content keys, and the root of trust for nodes
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
    },
    /// Signs the metadata anew before it expires (the timestamp does after 30 days)
    Refresh {
        /// The repository: a folder
        url: String,
        /// Folder with the signing keys
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
    },
    /// Lists the releases of a repository
    List {
        /// The repository: a folder or a URL
        url: String,
        /// The repository's first root of trust; without it, the one that the repository offers is believed
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Repo {
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Init { url, keys } => {
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
            Self::Refresh { url, keys } => {
                branchmesh_repo::renew(&url.as_str().into(), &Keys::at(&keys))
                    .await
                    .map_err(|error| Failure::failed("the metadata was not signed", &error))?;
                eprintln!("the metadata of {url} is signed anew");
                Ok(())
            }
            Self::List { url, root, json } => list(&url, root.as_deref(), json).await,
        }
    }
}

async fn list(url: &str, root: Option<&Path>, json: bool) -> Result<(), Failure> {
    let fail = |error: &dyn std::error::Error| Failure::failed("the repository cannot be listed", error);
    let root = root.map(std::fs::read).transpose().map_err(|error| fail(&error))?;
    let origin = Origin::open(url).map_err(|error| fail(&error))?;
    let catalog = branchmesh_repo::read_catalog(&origin, root.as_deref(), &ContentKeys::default())
        .await
        .map_err(|error| fail(&error))?;
    if json {
        let releases: Vec<_> = catalog
            .releases
            .iter()
            .map(|entry| {
                serde_json::json!({
                    "image": entry.image, "release": entry.release, "group": entry.group,
                    "channels": entry.channels, "published": entry.published,
                    "bytes": {"plain": entry.plain_bytes, "encoded": entry.encoded_bytes}, "blocks": entry.blocks,
                })
            })
            .collect();
        println!("{}", serde_json::json!({"version": catalog.version, "releases": releases}));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = catalog
        .releases
        .iter()
        .map(|entry| {
            vec![
                entry.name(),
                entry.channels.join(", "),
                entry.group.clone().unwrap_or_else(|| "public".into()),
                text::bytes(entry.plain_bytes),
                text::bytes(entry.encoded_bytes),
            ]
        })
        .collect();
    if rows.is_empty() {
        eprintln!("{url} holds no releases yet");
    } else {
        print!("{}", text::table(&["release", "channels", "group", "size ", "encoded "], &rows));
    }
    Ok(())
}
