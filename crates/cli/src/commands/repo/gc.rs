//! `branchmesh repo gc`.

use crate::{access::ToRepository, failure::Failure, outcome, text};
use branchmesh_agent::units::Span;
use branchmesh_repo::{Collected, FileCount, GcOptions, Keys};
use serde_json::{Value, json};
use std::{num::NonZeroUsize, path::PathBuf};

/// Removes what no release needs: packs, index parts, old metadata, leftovers of killed publishers
#[derive(clap::Args)]
pub struct Gc {
    /// The repository: a folder, or s3://, gs://, az://
    url: String,
    /// Folder with the content keys of all groups; with --keep also the signing keys, for clouds also timestamp.key
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// First remove all but the newest N releases of each image; those that a channel points to stay
    #[arg(long, value_name = "N")]
    keep: Option<NonZeroUsize>,
    /// What is younger stays: nodes may still be fetching it, publishers may still need it
    #[arg(long, value_name = "TIME", default_value = "24h")]
    grace: Span,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: ToRepository,
}

impl Gc {
    pub async fn run(self) -> Result<(), Failure> {
        let options = GcOptions {
            repo: self.access.address(&self.url),
            keys: Keys::at(&self.keys),
            keep: self.keep,
            grace: self.grace.0,
            dry_run: self.dry_run,
        };
        let collected = branchmesh_repo::gc(&options)
            .await
            .map_err(|error| Failure::failed("the repository was not cleaned up", &error))?;
        if self.json {
            println!("{}", as_json(&collected, self.dry_run));
        } else {
            print!("{}", as_text(&collected, self.dry_run));
        }
        outcome::tell_missing(&collected.waiting);
        for (path, why) in &collected.stuck {
            eprintln!("{path} stays: {why}");
        }
        if collected.is_cut_short {
            eprintln!("it takes longer than publishers may be kept out");
        }
        if collected.is_done() {
            return Ok(());
        }
        Err(Failure::because("not everything could be removed; the next run goes on"))
    }
}

fn as_json(collected: &Collected, dry_run: bool) -> Value {
    let count = |count: &FileCount| json!({"files": count.files, "bytes": count.bytes});
    let waiting: Vec<String> = collected.waiting.iter().map(ToString::to_string).collect();
    json!({
        "dry_run": dry_run,
        "removed_releases": collected.removed,
        "waiting_for": waiting,
        "packs": count(&collected.packs),
        "index_parts": count(&collected.parts),
        "metadata": count(&collected.metadata),
        "unfinished": count(&collected.unfinished),
        "young": count(&collected.young),
        "stuck": collected.stuck,
        "cut_short": collected.is_cut_short,
    })
}

fn as_text(collected: &Collected, dry_run: bool) -> String {
    let verb = if dry_run { "would be removed" } else { "removed" };
    let mut page = String::new();
    for release in &collected.removed {
        page += &format!("{release} {verb}\n");
    }
    let counts = [
        ("packs", collected.packs),
        ("index parts", collected.parts),
        ("old metadata", collected.metadata),
        ("unfinished files", collected.unfinished),
    ];
    let counts = counts.into_iter().filter(|(_, count)| count.files > 0);
    let rows: Vec<Vec<String>> = counts
        .map(|(what, count)| vec![what.into(), count.files.to_string(), text::bytes(count.bytes)])
        .collect();
    page += &match rows.is_empty() {
        true => format!("no files {verb}: there is nothing that nobody needs\n"),
        false => text::table(&[verb, "files ", "size "], &rows),
    };
    if collected.young.files > 0 {
        page += &format!(
            "{} ({}) that nobody needs within the grace period\n",
            text::count(collected.young.files, "file"),
            text::bytes(collected.young.bytes)
        );
    }
    page
}
