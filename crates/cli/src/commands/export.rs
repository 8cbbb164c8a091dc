//! `branchmesh export`: a bundle for a site without a line, on a stick or for prestaging.

use crate::{failure::Failure, progress::Bar, reading::Reading, text};
use branchmesh_repo::{ExportError, ExportOptions, Exported, Holdings, Subscription};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Puts releases into a folder, with all that a site without a line needs to verify them.
///
/// The folder is a bundle: the blocks that the sites lack, the whole index, and the signed metadata. Exports into the
/// same folder add up, and one that was interrupted goes on where it was.
#[derive(clap::Args)]
pub struct Export {
    /// NAME, NAME@CHANNEL or NAME@RELEASE
    #[arg(value_name = "NAME@V", required = true)]
    releases: Vec<Subscription>,
    /// The repository: a folder or a URL
    #[arg(long, value_name = "URL")]
    repo: String,
    /// The folder of the bundle, made where it is missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// What a site holds, from `branchmesh have --site`: blocks that it has are left out. Given several times, for a
    /// bundle that goes to several sites, only what all of them have is left out
    #[arg(long, value_name = "SITE.have")]
    lacking: Vec<PathBuf>,
    /// Print what the bundle holds as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
}

impl Export {
    pub async fn run(self) -> Result<(), Failure> {
        let lacking = self.lacking.iter().map(|path| read_holdings(path)).collect::<Result<Vec<_>, _>>()?;
        let keys = self.reading.content_keys();
        let options = ExportOptions {
            repo: self.reading.address(&self.repo),
            root: self.reading.root_of_trust()?,
            keys: keys.map_err(|error| Failure::failed("the content keys cannot be read", &error))?,
            releases: self.releases,
            to: self.to.clone(),
            lacking,
        };
        let bar = Bar::new();
        let exported = branchmesh_repo::export(options, &bar).await;
        bar.finish();
        let exported = exported.map_err(|error| failed(&error))?;
        tell(&exported, &self.to);
        if self.json {
            println!(
                "{}",
                json!({
                    "releases": exported.releases,
                    "version": exported.version,
                    "expires": text::time(exported.expires),
                    "blocks": {"exported": exported.blocks, "left_out": exported.held_blocks},
                    "bytes": {
                        "blocks": exported.block_bytes, "found": exported.found_bytes,
                        "left_out": exported.held_bytes, "index": exported.index_bytes,
                        "metadata": exported.metadata_bytes,
                    },
                })
            );
        }
        Ok(())
    }
}

fn read_holdings(path: &Path) -> Result<Holdings, Failure> {
    let holdings = Holdings::read(path)
        .map_err(|error| Failure::failed(&format!("{} cannot be used", path.display()), &error))?;
    eprintln!(
        "{} holds {} (told by {} at {}, for {})",
        holdings.site,
        text::bytes(holdings.bytes()),
        holdings.node,
        text::time(holdings.made),
        text::count(holdings.members.into(), "member")
    );
    Ok(holdings)
}

fn failed(error: &ExportError) -> Failure {
    if let ExportError::NoSpace { needed, free, .. } = error {
        let missing = text::bytes(needed.saturating_sub(*free));
        return Failure::failed(&format!("nothing was exported, {missing} are missing"), error);
    }
    Failure::failed("the bundle is not complete", error)
}

fn tell(exported: &Exported, to: &Path) {
    eprintln!(
        "{} in {}: {} ({}), {} of index, {} of metadata",
        exported.releases.join(", "),
        to.display(),
        text::count(exported.blocks, "block"),
        text::bytes(exported.block_bytes),
        text::bytes(exported.index_bytes),
        text::bytes(exported.metadata_bytes)
    );
    if exported.held_blocks > 0 {
        eprintln!(
            "left out {} ({}) that the sites hold",
            text::count(exported.held_blocks, "block"),
            text::bytes(exported.held_bytes)
        );
    }
    if exported.found_bytes > 0 {
        eprintln!("{} of the blocks were there already, and are intact", text::bytes(exported.found_bytes));
    }
    eprintln!("nodes begin with it until {}, when its metadata expires", text::time(exported.expires));
}
