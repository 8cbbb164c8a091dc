//! `branchmesh import`: takes a bundle into the local agent's store.

use crate::{failure::Failure, local_agent::LocalAgent, text};
use branchmesh_agent::{Amount, ImportReport};
use std::path::PathBuf;

/// Takes a bundle from a folder, such as a stick, into the local agent's store.
#[derive(clap::Args)]
pub struct Import {
    /// The folder; the agent must be able to read it
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print what came of it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: LocalAgent,
}

impl Import {
    pub async fn run(self) -> Result<(), Failure> {
        let folder = std::path::absolute(&self.folder)
            .map_err(|error| Failure::failed(&format!("{} is no folder", self.folder.display()), &error))?;
        eprintln!("the agent reads {}", folder.display());
        let report = self.agent.import(folder).await?;
        if self.json {
            println!("{}", text::json(&report)?);
        }
        eprint!("{}", describe(&report));
        if report.damaged.is_empty() {
            return Ok(());
        }
        Err(Failure::because(
            "the bundle is damaged; all that was good in it is used. Export it again into the same folder, which \
             heals it, or let the rest come from elsewhere",
        ))
    }
}

fn describe(report: &ImportReport) -> String {
    let mut page = String::new();
    let mut line = |words: String| page += &format!("{words}\n");
    if let Some(words) = &report.metadata_problem {
        line(format!("the bundle's metadata was not believed, only its blocks count: {words}"));
    }
    for release in &report.releases {
        let left = match release.missing {
            None => "its index must come from elsewhere; then import again".into(),
            Some(Amount { blocks: 0, .. }) => "all blocks are here".into(),
            Some(missing) => format!("{} are missing still", amount(missing)),
        };
        line(format!("{}: took {}; {left}", release.name, amount(release.taken)));
    }
    if report.releases.is_empty() {
        line("nothing that this node wants was missing".into());
    }
    for release in &report.unwanted {
        line(format!(
            "{release} is in the bundle and not wanted here: `branchmesh get {release}`, then import again"
        ));
    }
    for file in &report.damaged {
        let releases = file.releases.join(", ");
        match file.count {
            0 => line(format!("damaged: {}, for {releases}", file.file)),
            count => {
                line(format!("damaged: {} of {}, for {releases}", text::count(count, "block"), file.file));
                file.blocks.iter().for_each(|block| line(format!("  {block}")));
            }
        }
    }
    page
}

fn amount(amount: Amount) -> String {
    format!("{} ({})", text::count(amount.blocks, "block"), text::bytes(amount.bytes))
}
