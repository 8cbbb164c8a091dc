//! `branchmesh diff`: what an update costs, before it is rolled out.

use crate::{failure::Failure, reading::Reading, text};
use branchmesh_repo::{Change, Contents, Difference, FileDifference};
use serde_json::{Value, json};
use std::time::Duration;

/// Lines of branch offices that the table shows, in Mbit/s.
const LINES_MBIT: [u32; 3] = [2, 10, 100];

/// What an update costs: the bytes that a node with one release must fetch to have another.
#[derive(clap::Args)]
pub struct Diff {
    /// The release that the nodes have, and the new one; one alone shows what it costs a node that has nothing
    #[arg(value_name = "NAME@V", required = true, num_args = 1..=2)]
    releases: Vec<String>,
    /// The repository: a folder or a URL
    #[arg(long, value_name = "URL")]
    repo: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
}

impl Diff {
    pub async fn run(self) -> Result<(), Failure> {
        let repository = self.reading.open(&self.repo).await?;
        let (old, new) = match &self.releases[..] {
            [old, new] => (Some(repository.contents(old).await?), repository.contents(new).await?),
            [new] => (None, repository.contents(new).await?),
            _ => return Err(Failure::because("give one or two releases: NAME@V1 NAME@V2")),
        };
        let difference = Difference::between(old.as_ref(), &new);
        let old = old.as_ref().map(|old| old.entry().name());
        if self.json {
            println!("{}", as_json(old.as_deref(), &new, &difference));
        } else {
            print!("{}", as_text(old.as_deref(), &new, &difference));
        }
        Ok(())
    }
}

fn as_json(old: Option<&str>, new: &Contents, difference: &Difference) -> Value {
    let files: Vec<Value> = difference
        .files
        .iter()
        .map(|file| {
            json!({
                "path": file.path, "change": name_of(file.change), "old_size": file.old_size,
                "new_size": file.new_size, "fetch_bytes": file.fetch_bytes,
            })
        })
        .collect();
    let lines: Vec<Value> = LINES_MBIT
        .iter()
        .map(|&mbit| json!({"mbit_per_second": mbit, "seconds": seconds(difference.fetch_bytes(), mbit)}))
        .collect();
    json!({
        "from": old,
        "to": new.entry().name(),
        "fetch_bytes": difference.fetch_bytes(),
        "blocks": {
            "total": difference.blocks, "new": difference.new_blocks,
            "total_bytes": difference.block_bytes, "new_bytes": difference.new_block_bytes,
        },
        "index": {"total_bytes": difference.index_bytes, "new_bytes": difference.new_index_bytes},
        "lines": lines,
        "files": files,
    })
}

fn as_text(old: Option<&str>, new: &Contents, difference: &Difference) -> String {
    let mut page = match old {
        Some(old) => format!("{old} -> {}\n\n", new.entry().name()),
        None => format!("nothing -> {}\n\n", new.entry().name()),
    };
    let differing = difference.files.iter().filter(|file| file.change != Change::Same);
    let rows: Vec<Vec<String>> = differing.map(file_row).collect();
    if !rows.is_empty() {
        page += &text::table(&["file", "change", "before ", "after ", "to fetch "], &rows);
    }
    let same = difference.files.len() - rows.len();
    if same > 0 {
        page += &format!("{} the same\n", text::count(same as u64, "file"));
    }
    let shared = difference.blocks - difference.new_blocks;
    page += &format!(
        "\n{} of {} are new, {shared} are there already\n",
        difference.new_blocks,
        text::count(difference.blocks, "block")
    );
    page += &format!(
        "to fetch: {} = {} of blocks + {} of index ({} bytes)\n\n",
        text::bytes(difference.fetch_bytes()),
        text::bytes(difference.new_block_bytes),
        text::bytes(difference.new_index_bytes),
        difference.fetch_bytes()
    );
    let times = LINES_MBIT.map(|mbit| {
        let span = Duration::from_secs_f64(seconds(difference.fetch_bytes(), mbit));
        vec![format!("{mbit} Mbit/s"), text::span(span)]
    });
    page + &text::table(&["line ", "time "], &times)
}

fn file_row(file: &FileDifference) -> Vec<String> {
    let size = |size: Option<u64>| size.map_or("-".into(), text::bytes);
    vec![
        file.path.clone(),
        name_of(file.change).into(),
        size(file.old_size),
        size(file.new_size),
        text::bytes(file.fetch_bytes),
    ]
}

/// How long a line is full: its bytes alone, without what the line's own protocols add.
fn seconds(bytes: u64, mbit_per_second: u32) -> f64 {
    bytes as f64 * 8.0 / (f64::from(mbit_per_second) * 1e6)
}

fn name_of(change: Change) -> &'static str {
    match change {
        Change::New => "new",
        Change::Changed => "changed",
        Change::Removed => "removed",
        Change::Same => "same",
    }
}
