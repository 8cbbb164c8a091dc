//! `branchmesh plan`: what a rollout costs every site and headquarters, before it is begun.

mod chart;
mod document;
mod page;

use crate::{failure::Failure, reading::Reading, text};
use branchmesh_plan::{Image, Plan, ReleaseEntry, Sites};
use branchmesh_repo::Difference;
use std::path::PathBuf;

/// What a rollout costs: bytes and times of each site with the mesh, with a cache at the site, and without either.
#[derive(clap::Args)]
pub struct MakePlan {
    /// Sites and releases (docs/operations.md, "Planning a rollout")
    #[arg(value_name = "SITES.toml")]
    sites: PathBuf,
    /// The repository in which releases are looked up: a folder or a URL
    #[arg(long, value_name = "URL")]
    repo: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw a chart of the times into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
}

impl MakePlan {
    pub async fn run(self) -> Result<(), Failure> {
        let unreadable = |error| Failure::failed(&format!("{} cannot be read", self.sites.display()), &error);
        let file = std::fs::read_to_string(&self.sites).map_err(unreadable)?;
        let sites: Sites = file.parse().map_err(|error| Failure::usage(&error))?;
        let images = self.images(&sites.releases).await?;
        let plan = tokio::task::spawn_blocking(move || Plan::of(images, &sites));
        let plan = plan.await.map_err(|error| Failure::failed("the simulation broke off", &error))?;
        let plan = plan.map_err(|error| Failure::failed("there is no plan", &error))?;
        if let Some(path) = &self.svg {
            let unwritten = |error| Failure::failed(&format!("{} cannot be written", path.display()), &error);
            std::fs::write(path, chart::svg(&plan)).map_err(unwritten)?;
        }
        if self.json {
            println!("{}", text::json(&document::json(&plan))?);
        } else {
            print!("{}", page::text(&plan));
        }
        Ok(())
    }

    /// The bytes of the releases: as the file says, or as the repository does.
    async fn images(&self, releases: &[ReleaseEntry]) -> Result<Vec<Image>, Failure> {
        let repository = match &self.repo {
            Some(url) => Some(self.reading.open(url).await?),
            None => None,
        };
        let mut images = Vec::new();
        for entry in releases {
            let name = entry.image.clone();
            let Some(release) = &entry.release else {
                let size = entry.size.unwrap_or_default().0;
                images.push(Image { name, size, new: entry.new.map(|new| new.0) });
                continue;
            };
            let repository = repository.as_ref().ok_or_else(|| {
                Failure::because(format!("release {name:?}: {release} must be looked up: give --repo"))
            })?;
            let contents = repository.contents(release).await?;
            let size = Difference::between(None, &contents).fetch_bytes();
            let new = match &entry.older {
                Some(older) => {
                    let older = repository.contents(older).await?;
                    Some(Difference::between(Some(&older), &contents).fetch_bytes())
                }
                None => None,
            };
            images.push(Image { name, size, new });
        }
        Ok(images)
    }
}

#[cfg(test)]
mod tests {
    //! What a small plan looks like, to the letter: people read it, and programs.

    use super::*;

    const SITES: &str = include_str!("../../../tests/golden/plan/sites.toml");

    fn plan() -> Plan {
        let sites: Sites = SITES.parse().expect("the golden file is right");
        let images = sites.releases.iter().map(|entry| Image {
            name: entry.image.clone(),
            size: entry.size.unwrap_or_default().0,
            new: entry.new.map(|new| new.0),
        });
        let images = images.collect();
        Plan::of(images, &sites).expect("the golden file can be planned")
    }

    /// Compares; with `BRANCHMESH_BLESS` in the environment, writes what is expected from now on.
    fn compare(name: &str, text: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plan").join(name);
        if std::env::var_os("BRANCHMESH_BLESS").is_some() {
            std::fs::write(&path, text).expect("the golden file can be written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
        assert_eq!(text, golden, "{name} differs; if that is right, run the test with BRANCHMESH_BLESS=1");
    }

    #[test]
    fn a_small_plan_reads_like_this() {
        let plan = plan();
        compare("page.txt", &page::text(&plan));
        let document = serde_json::to_string_pretty(&document::json(&plan)).expect("it is JSON");
        compare("plan.json", &format!("{document}\n"));
        compare("chart.svg", &chart::svg(&plan));
    }

    #[test]
    fn the_example_to_copy_is_right() {
        let example = include_str!("../../../../../deploy/sites.toml");
        let sites: Sites = example.parse().unwrap_or_else(|error| panic!("{error}"));
        assert!(sites.sites.len() > 1 && !sites.releases.is_empty());
    }
}
