//! `branchmesh repo list`.

use crate::{access::ToRepository, failure::Failure, text};
use branchmesh_repo::{ContentKeys, Origin};
use std::path::PathBuf;

/// Lists the releases of a repository
#[derive(clap::Args)]
pub struct List {
    /// The repository: a folder or a URL
    url: String,
    /// The repository's first root of trust; without it, the one that the repository offers is believed
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: ToRepository,
}

impl List {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, root, json, access } = self;
        let fail = |error: &dyn std::error::Error| Failure::failed("the repository cannot be listed", error);
        let root = root.map(std::fs::read).transpose().map_err(|error| fail(&error))?;
        let origin = Origin::open(access.address(&url)).map_err(|error| fail(&error))?;
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
            eprintln!("{} holds no releases yet", origin.url());
        } else {
            print!("{}", text::table(&["release", "channels", "group", "size ", "encoded "], &rows));
        }
        Ok(())
    }
}
