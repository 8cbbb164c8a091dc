//! `branchmesh demo`: the newcomer's first minute.
//!
//! A headquarters (certificate authority, repository, web server behind a thin line) and a site of agents on
//! loopback addresses, with real sockets and the same code as in production. Two releases spread; at the end
//! everything is checked against the source, and what crossed the line is compared with what had to.

mod headquarters;
mod sample;
mod show;
mod site;

use crate::{commands::agent::told_to_stop, failure::Failure, text};
use branchmesh_agent::units::Rate;
use headquarters::Headquarters;
use show::Spread;
use site::Site;
use std::{path::PathBuf, time::Duration};

/// Name of the image that the demo spreads.
const IMAGE: &str = "demo";
/// Longest wait for a release to reach every client: many times what the line needs.
const SPREAD_WAIT: Duration = Duration::from_secs(600);

/// Shows the main job on this machine: a headquarters, a thin WAN and a site of agents.
#[derive(clap::Args)]
pub struct Demo {
    /// How many clients the site has
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    clients: u16,
    /// Spread these files instead of a sample of this machine's; may be given several times
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// How much of this machine's files to take for the sample, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    size: u64,
    /// Rate of the line between headquarters and site
    #[arg(long, value_name = "RATE", default_value = "50Mbit/s")]
    wan: Rate,
    /// Folder for everything; it is made, and removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave it running until Ctrl-C
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub async fn run(self) -> Result<(), Failure> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let folder =
            tempfile::Builder::new().prefix("branchmesh-demo-").tempdir_in(&parent).map_err(|error| {
                Failure::failed(
                    &format!("no folder can be made in {} (another: --dir)", parent.display()),
                    &error,
                )
            })?;
        tokio::select! {
            result = self.play(folder.path()) => result,
            stopped = told_to_stop() => {
                stopped.map_err(|error| Failure::failed("no signals can be received", &error))?;
                Err(Failure::because("stopped before the end"))
            }
        }
    }

    async fn play(&self, folder: &std::path::Path) -> Result<(), Failure> {
        eprintln!("Headquarters");
        let headquarters = Headquarters::found(folder, self.wan).await?;
        let sources = self.sources(folder).await?;
        headquarters.publish(IMAGE, "1", &sources.first).await?;

        eprintln!("\nSite of {} clients behind a line of {}", self.clients, self.wan);
        let site = Site::start(folder, self.clients, &headquarters).await?;
        eprintln!("the live page of the first client: http://{}/", site.first_page());
        let first = self.spread(&headquarters, &site, "1").await?;

        eprintln!("\nHeadquarters publishes a changed release");
        headquarters.publish(IMAGE, "2", &sources.second).await?;
        let second = self.spread(&headquarters, &site, "2").await?;

        eprintln!();
        for spread in [&first, &second] {
            println!("{}", spread.table());
        }
        let checked = site.verify(IMAGE, "2", &sources.second).await?;
        println!(
            "{checked} files on {} clients compared with their sources: all files verified",
            self.clients
        );
        if self.keep {
            eprintln!("\nstill running: http://{}/ (Ctrl-C ends it)", site.first_page());
            std::future::pending::<()>().await;
        }
        site.stop().await;
        Ok(())
    }

    async fn sources(&self, folder: &std::path::Path) -> Result<sample::Sources, Failure> {
        let (images, folder, size) = (self.images.clone(), folder.join("sources"), self.size << 20);
        let made = tokio::task::spawn_blocking(move || {
            if images.is_empty() {
                sample::of_this_machine(&folder, size)
            } else {
                sample::of_files(&folder, &images)
            }
        });
        let sources = made.await.map_err(|error| Failure::failed("no image could be made", &error))?;
        let sources = sources.map_err(|error| Failure::failed("no image could be made", &error))?;
        eprintln!("{}", sources.description);
        Ok(sources)
    }

    async fn spread(&self, hq: &Headquarters, site: &Site, release: &str) -> Result<Spread, Failure> {
        let spread = tokio::time::timeout(SPREAD_WAIT, show::spread(hq, site, IMAGE, release)).await;
        spread.unwrap_or_else(|_| {
            Err(Failure::because(format!(
                "{IMAGE}@{release} did not reach every client within {}",
                text::span(SPREAD_WAIT)
            )))
        })
    }
}
