//! `branchmesh repo verify`.

use crate::{failure::Failure, progress::Bar, reading::Reading, text};
use branchmesh_repo::{Damage, FileCount, Verification};
use serde_json::{Value, json};

/// Reads everything in a repository again: metadata, indexes, every block
#[derive(clap::Args)]
pub struct Verify {
    /// The repository: a folder or a URL
    url: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
}

impl Verify {
    pub async fn run(self) -> Result<(), Failure> {
        let Self { url, reading, json } = self;
        let fail = |error: &dyn std::error::Error| Failure::failed("the repository was not verified", error);
        let root = reading.root_of_trust()?;
        let keys = reading.content_keys().map_err(|error| fail(&error))?;
        let bar = Bar::new();
        let found = branchmesh_repo::verify(&reading.address(&url), root.as_deref(), &keys, &bar).await;
        bar.finish();
        let found = found.map_err(|error| fail(&error))?;
        if json {
            println!("{}", as_json(&found));
        } else {
            print!("{}", as_text(&found));
        }
        for group in &found.unchecked {
            let releases = text::count(group.releases, "release");
            eprintln!("{releases} of the group {} not checked: {}", group.group, group.advice());
        }
        if found.catalog.expired {
            eprintln!("the metadata has expired: nodes begin nothing new; run `branchmesh repo refresh`");
        }
        if !found.damages.is_empty() {
            eprintln!("{}", advice(&found.damages));
        }
        if found.is_whole() { Ok(()) } else { Err(Failure::because("the repository is not in order")) }
    }
}

fn as_json(found: &Verification) -> Value {
    let count = |count: &FileCount| json!({"files": count.files, "bytes": count.bytes});
    let damages: Vec<Value> = found
        .damages
        .iter()
        .map(|damage| {
            json!({
                "path": damage.path, "problem": damage.kind.to_string(), "blocks": damage.blocks,
                "releases": damage.releases,
            })
        })
        .collect();
    let unchecked: Vec<Value> = found
        .unchecked
        .iter()
        .map(|group| json!({"group": group.group, "releases": group.releases, "reason": group.advice()}))
        .collect();
    json!({
        "ok": found.is_whole(),
        "version": found.catalog.version,
        "expired": found.catalog.expired,
        "releases": found.releases,
        "index_parts": count(&found.parts),
        "packs": count(&found.packs),
        "blocks": found.blocks,
        "damages": damages,
        "unchecked": unchecked,
        "unreferenced": found.unreferenced.as_ref().map(count),
    })
}

fn as_text(found: &Verification) -> String {
    let mut page = format!(
        "read {}: {} of {} ({}), {} ({})\n",
        text::count(found.releases, "release"),
        text::count(found.blocks, "block"),
        text::count(found.packs.files, "pack"),
        text::bytes(found.packs.bytes),
        text::count(found.parts.files, "index part"),
        text::bytes(found.parts.bytes)
    );
    if let Some(FileCount { files: files @ 1.., bytes }) = found.unreferenced {
        page += &format!(
            "no release refers to {} ({}): `branchmesh repo gc` removes what is old enough\n",
            text::count(files, "file"),
            text::bytes(bytes)
        );
    }
    if found.damages.is_empty() {
        return page + "everything is in order\n";
    }
    let rows: Vec<Vec<String>> = found
        .damages
        .iter()
        .map(|damage| {
            let releases: Vec<&str> = damage.releases.iter().map(String::as_str).collect();
            let blocks = damage.blocks.map_or("-".into(), |blocks| blocks.to_string());
            vec![damage.path.clone(), damage.kind.to_string(), blocks, releases.join(", ")]
        })
        .collect();
    page + "\n" + &text::table(&["file", "problem", "blocks ", "breaks"], &rows)
}

/// What heals a repository.
fn advice(damages: &[Damage]) -> &'static str {
    if damages.iter().any(|damage| damage.blocks.is_some()) {
        return "restore these files from a backup or another copy of the repository. Without one: remove them, and \
                publish the same content again as a new release, which stores what is missing; then verify again, and \
                `branchmesh repo remove` the releases that are still broken";
    }
    "restore these files from a backup or another copy of the repository. Without one: publish the same content \
     again as a new release, and `branchmesh repo remove` the broken ones"
}
