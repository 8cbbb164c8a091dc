//! `branchmesh publish`.

use crate::{failure::Failure, outcome::tell_missing, progress::Bar, publisher::Publisher, text};
use branchmesh_image::BlockSize;
use branchmesh_repo::{PublishOptions, Published, Requirement};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Publishes a release of an image: its new blocks, its index, signed metadata.
#[derive(clap::Args)]
pub struct Publish {
    /// Name of the image
    #[arg(long, value_name = "NAME")]
    image: String,
    /// Name of the release
    #[arg(long, value_name = "V")]
    release: String,
    /// Channel that points to the release from now on; may be given several times
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<String>,
    /// Group whose members may hold and open it; without one the image is public
    #[arg(long, value_name = "G")]
    group: Option<String>,
    /// A free word for people and tools, such as ticket=4711; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// What a machine must have, such as "virtualization-engine >= 6.1"; may be given several times
    #[arg(long, value_name = "CONDITION")]
    requires: Vec<Requirement>,
    /// zstd level: higher is smaller and slower
    #[arg(long, value_name = "LEVEL", default_value_t = branchmesh_image::block::ZSTD_LEVEL_DEFAULT,
          value_parser = clap::value_parser!(i32).range(1..=19))]
    zstd_level: i32,
    /// Average block: 16KiB, 32KiB, 64KiB or 128KiB; the image's releases keep theirs unless told otherwise. The
    /// first update to another size costs clients a whole image
    #[arg(long, value_name = "SIZE")]
    block_size: Option<BlockSize>,
    /// Print what was published as JSON
    #[arg(long)]
    json: bool,
    /// Files, or folders with all their files
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    publisher: Publisher,
}

impl Publish {
    pub async fn run(self) -> Result<(), Failure> {
        let options = PublishOptions {
            channels: self.channels,
            group: self.group,
            labels: self.labels.into_iter().collect(),
            requires: self.requires,
            zstd_level: self.zstd_level,
            block_size: self.block_size,
            ..PublishOptions::new(
                self.publisher.repo(),
                self.publisher.keys(),
                &self.image,
                &self.release,
                self.paths,
            )
        };
        let (published, took) = publish(options).await?;
        eprintln!(
            "published {}@{}: {}, {}, of these {} holes, in {}",
            published.image,
            published.release,
            text::count(published.files as u64, "file"),
            text::bytes(published.plain_bytes),
            text::bytes(published.hole_bytes),
            text::span(took)
        );
        eprintln!(
            "{} of {} blocks are new: the repository grew by {} of blocks and {} of index",
            published.new_blocks,
            published.blocks,
            text::bytes(published.new_bytes),
            text::bytes(published.index_bytes)
        );
        tell_missing(&published.missing);
        if self.json {
            println!(
                "{}",
                serde_json::json!({
                    "image": published.image, "release": published.release, "id": published.root.id.to_string(),
                    "in_force": published.missing.is_empty(), "files": published.files,
                    "blocks": {"total": published.blocks, "new": published.new_blocks},
                    "bytes": {
                        "plain": published.plain_bytes, "holes": published.hole_bytes,
                        "encoded": published.encoded_bytes, "new": published.new_bytes,
                        "index": published.index_bytes,
                    },
                })
            );
        }
        Ok(())
    }
}

/// Publishes behind a progress bar; gives what came of it, and how long it took.
pub async fn publish(options: PublishOptions) -> Result<(Published, Duration), Failure> {
    let begun = Instant::now();
    let bar = Bar::new();
    let published = branchmesh_repo::publish(options, &bar).await;
    bar.finish();
    let published = published.map_err(|error| Failure::failed("nothing was published", &error))?;
    Ok((published, begun.elapsed()))
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        Some(_) | None => Err("write NAME=VALUE".into()),
    }
}
