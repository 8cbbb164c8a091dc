//! `branchmesh get`: wants a release once, waits for it, and puts its files where they are asked for.

use crate::{failure::Failure, local_agent::LocalAgent, text};
use branchmesh_agent::{ReleaseAnswer, status::ReleaseView};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Between two looks at the agent.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Fetches a release through the local agent, and waits for it.
#[derive(clap::Args)]
pub struct Get {
    /// NAME, NAME@CHANNEL or NAME@RELEASE
    #[arg(value_name = "NAME[@V]")]
    image: String,
    /// Copy the files here; without it they stay in the agent's data_dir, and their folder is printed
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Show a progress bar
    #[arg(long)]
    progress: bool,
    #[command(flatten)]
    agent: LocalAgent,
}

impl Get {
    pub async fn run(self) -> Result<(), Failure> {
        let chosen = self.choose().await?;
        let bar = if self.progress { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let template =
            "{msg}  {bar:30} {percent} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}";
        bar.set_style(ProgressStyle::with_template(template).expect("a literal template"));
        bar.set_message(format!("{}@{}", chosen.image, chosen.release));
        let mut told = None;
        let folder = loop {
            let status = self.agent.status().await?;
            let mut releases = status.releases.into_iter();
            let ours = releases.find(|view| view.image == chosen.image && view.release == chosen.release);
            if let Some(release) = ours {
                bar.set_length(release.bytes.total);
                bar.set_position(release.bytes.have);
                if release.state == "failed" {
                    let reason = release.reason.unwrap_or_else(|| "the agent gives no reason".into());
                    return Err(Failure::because(format!("{}@{}: {reason}", chosen.image, chosen.release)));
                }
                if let Some(folder) = release.path {
                    break PathBuf::from(folder);
                }
                tell_once(&release, &mut told, &bar);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        };
        bar.finish_and_clear();
        let Some(output) = self.output else {
            println!("{}", folder.display());
            return Ok(());
        };
        let copied =
            tokio::task::spawn_blocking(move || copy_files(&folder, &output).map(|bytes| (bytes, output)));
        let (bytes, output) = copied
            .await
            .map_err(|error| Failure::failed("the files were not copied", &error))?
            .map_err(|error| Failure::failed("the files were not copied", &error))?;
        eprintln!("{}@{}: {} in {}", chosen.image, chosen.release, text::bytes(bytes), output.display());
        Ok(())
    }
}

impl Get {
    /// Waits until the agent knows the repository, and has it choose the release.
    async fn choose(&self) -> Result<ReleaseAnswer, Failure> {
        let mut told = false;
        loop {
            if let Some(chosen) = self.agent.get(&self.image).await? {
                return Ok(chosen);
            }
            if !std::mem::replace(&mut told, true) {
                eprintln!("the agent knows nothing of the repository yet; waiting (see branchmesh status)");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

fn tell_once(release: &ReleaseView, told: &mut Option<String>, bar: &ProgressBar) {
    if release.reason.is_some() && release.reason != *told {
        told.clone_from(&release.reason);
        let reason = release.reason.as_deref().unwrap_or_default();
        bar.suspend(|| eprintln!("{}@{} is {}: {reason}", release.image, release.release, release.state));
    }
}

/// Copies all files below `from`; std copies within the file system where the system can (reflinks, holes).
fn copy_files(from: &Path, to: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry?;
        let below = entry.path().strip_prefix(from).expect("walkdir stays below its root");
        let target = to.join(below);
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&target)?;
        } else {
            bytes += std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(bytes)
}
