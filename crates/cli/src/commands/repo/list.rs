//! `branchmesh repo list`.

use crate::{failure::Failure, reading::Reading, text};
use branchmesh_repo::{Catalog, CatalogEntry, Contents};
use serde_json::{Value, json};

/// Lists the releases of a repository, or shows one of them
#[derive(clap::Args)]
pub struct List {
    /// The repository: a folder or a URL
    url: String,
    /// Only this image, or all about one release and its files
    #[arg(value_name = "NAME[@V]")]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
}

impl List {
    pub async fn run(self) -> Result<(), Failure> {
        let repository = self.reading.open(&self.url).await?;
        match &self.name {
            Some(name) if name.contains('@') => {
                let contents = repository.contents(name).await?;
                if self.json {
                    println!("{}", release_as_json(&contents));
                } else {
                    print!("{}", release_as_text(&contents));
                }
            }
            image => {
                let is_meant =
                    |entry: &&CatalogEntry| image.as_ref().is_none_or(|image| *image == entry.image);
                let entries: Vec<&CatalogEntry> =
                    repository.catalog.releases.iter().filter(is_meant).collect();
                if self.json {
                    println!("{}", list_as_json(&repository.catalog, &entries));
                } else if entries.is_empty() {
                    let what =
                        image.as_ref().map_or("releases".into(), |image| format!("releases of {image}"));
                    eprintln!("{} holds no {what} that can be read here", repository.origin.url());
                } else {
                    print!("{}", list_as_text(&entries));
                }
            }
        }
        warn(&repository.catalog);
        Ok(())
    }
}

/// What is wrong with the catalog as a whole.
fn warn(catalog: &Catalog) {
    for sealed in catalog.sealed_groups() {
        let releases = text::count(sealed.releases, "release");
        eprintln!("{releases} of the group {} cannot be shown: {}", sealed.group, sealed.advice());
    }
    if catalog.expired {
        eprintln!(
            "warning: the metadata expired on {}: nodes begin nothing new; run `branchmesh repo refresh`",
            text::time(catalog.expires)
        );
    }
}

fn list_as_json(catalog: &Catalog, entries: &[&CatalogEntry]) -> Value {
    let releases: Vec<Value> = entries.iter().map(|entry| entry_as_json(entry)).collect();
    let sealed: Vec<Value> = catalog
        .sealed_groups()
        .iter()
        .map(|sealed| json!({"group": sealed.group, "releases": sealed.releases, "reason": sealed.advice()}))
        .collect();
    json!({
        "version": catalog.version,
        "expires": text::time(catalog.expires),
        "expired": catalog.expired,
        "releases": releases,
        "sealed": sealed,
    })
}

fn entry_as_json(entry: &CatalogEntry) -> Value {
    json!({
        "image": entry.image, "release": entry.release, "id": entry.id().to_string(),
        "group": entry.group, "channels": entry.channels, "labels": entry.labels, "requires": requires(entry),
        "published": text::time(entry.published), "expires": text::time(entry.expires),
        "bytes": {"plain": entry.plain_bytes, "encoded": entry.encoded_bytes},
        "blocks": entry.blocks, "block_size": entry.block_size,
    })
}

fn release_as_json(contents: &Contents) -> Value {
    let files: Vec<Value> = contents
        .files()
        .iter()
        .map(|file| json!({"path": file.path, "size": file.size, "mode": mode(file.mode)}))
        .collect();
    let mut release = entry_as_json(contents.entry());
    release["files"] = files.into();
    release
}

fn list_as_text(entries: &[&CatalogEntry]) -> String {
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.name(),
                entry.channels.join(", "),
                group(entry).into(),
                text::time(entry.published),
                text::bytes(entry.plain_bytes),
                text::bytes(entry.encoded_bytes),
                notes(entry).join("; "),
            ]
        })
        .collect();
    let headings = ["release", "channels", "group", "published", "size ", "encoded ", "labels"];
    // A column that says nothing is left out.
    let shown = if rows.iter().all(|row| row[6].is_empty()) { 6 } else { 7 };
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row[..shown].to_vec()).collect();
    text::table(&headings[..shown], &rows)
}

fn release_as_text(contents: &Contents) -> String {
    let entry = contents.entry();
    let mut page = format!("{}\n", entry.name());
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            page += &format!("  {name:<10} {value}\n");
        }
    };
    line("channels", &entry.channels.join(", "));
    line("group", group(entry));
    line("labels", &labels(entry).join(", "));
    line("requires", &requires(entry).join(", "));
    line("published", &text::time(entry.published));
    line("signed", &format!("until {}", text::time(entry.expires)));
    let (size, blocks) = (text::bytes(entry.plain_bytes), text::count(entry.blocks.into(), "block"));
    line("content", &format!("{size} in {}", text::count(contents.files().len() as u64, "file")));
    let block_size = text::bytes(entry.block_size.into());
    line("stored", &format!("{} in {blocks} of {block_size} on average", text::bytes(entry.encoded_bytes)));
    line("id", &entry.id().to_string());
    let rows: Vec<Vec<String>> = contents
        .files()
        .iter()
        .map(|file| vec![mode(file.mode), text::bytes(file.size), file.path.clone()])
        .collect();
    page + "\n" + &text::table(&["mode", "size ", "file"], &rows)
}

/// Labels, and what is required.
fn notes(entry: &CatalogEntry) -> Vec<String> {
    let requires = requires(entry).into_iter().map(|requirement| format!("requires {requirement}"));
    labels(entry).into_iter().chain(requires).collect()
}

fn labels(entry: &CatalogEntry) -> Vec<String> {
    entry.labels.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn requires(entry: &CatalogEntry) -> Vec<String> {
    entry.requires.iter().map(ToString::to_string).collect()
}

fn group(entry: &CatalogEntry) -> &str {
    entry.group.as_deref().unwrap_or("public")
}

fn mode(mode: u32) -> String {
    format!("{mode:04o}")
}
