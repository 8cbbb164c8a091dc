//! The plan: every site's course, and what they come to at headquarters.

use crate::{
    clock::Stretch,
    course::{Course, Ways},
    sites::{SiteEntry, Sites},
    spread::{Setting, Spread, SpreadError},
};
use branchmesh_sim::seeds;
use std::{collections::BTreeMap, time::Duration};

/// An image, with the bytes of the release that is rolled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The name that sites use for it.
    pub name: String,
    /// Its encoded bytes, index included.
    pub size: u64,
    /// What of them is new for those who hold the older release; `None` if nobody does.
    pub new: Option<u64>,
}

/// What a rollout costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is rolled out.
    pub images: Vec<Image>,
    /// Bytes that these releases take in the repository.
    pub repository_bytes: u64,
    /// One for each entry, in the order of the file.
    pub sites: Vec<SitePlan>,
    /// All sites together.
    pub total: Ways<Total>,
    /// How many different sites were simulated.
    pub simulated: usize,
}

/// What it costs a site.
#[derive(Clone, Debug, PartialEq)]
pub struct SitePlan {
    /// Its name.
    pub name: String,
    /// How many such sites there are. All figures are of one.
    pub count: u32,
    /// Its clients.
    pub clients: u32,
    /// Whether it has a seed besides.
    pub has_seed: bool,
    /// Bytes of blocks and indexes that each of its clients lacks.
    pub lacks: u64,
    /// When it begins, from midnight before the first day.
    pub start: Duration,
    /// How it goes.
    pub ways: Ways<Course>,
}

/// What all sites come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Bytes of blocks and indexes that the origin sends.
    pub wan_bytes: u64,
    /// The same with all headers.
    pub wire_bytes: u64,
    /// When the last site is done, from midnight before the first day.
    pub done: Duration,
    /// Most downloads at the same time.
    pub downloads_peak: u64,
    /// Most bytes a second that the origin is asked for, with all headers.
    pub rate_peak: u64,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A site is never done.
    #[error(
        "site {0:?}: takes longer than ten years; give it a faster line, longer windows, or a stick (branchmesh export)"
    )]
    Endless(String),
    /// The simulation failed.
    #[error("site {name:?}: {source}; this should not happen: please report it with this site's entry")]
    Spread {
        /// The site.
        name: String,
        /// How.
        source: SpreadError,
    },
}

impl Plan {
    /// Plans the rollout of `images` to `sites`, on all cores.
    pub fn of(images: Vec<Image>, sites: &Sites) -> Result<Self, PlanError> {
        let settings: Vec<Setting> =
            sites.sites.iter().map(|site| setting(site, &images, sites.tls)).collect();
        let mut distinct = BTreeMap::new();
        for (site, setting) in sites.sites.iter().zip(&settings) {
            distinct.entry(setting).or_insert(site.name.as_str());
        }
        let spreads = simulate(&distinct)?;
        let mut planned = Vec::new();
        for (site, setting) in sites.sites.iter().zip(&settings) {
            let spread = spreads[setting];
            let ways = Course::all(setting, &spread, &site.schedule)
                .ok_or_else(|| PlanError::Endless(site.name.clone()))?;
            planned.push(SitePlan {
                name: site.name.clone(),
                count: site.count,
                clients: site.clients,
                has_seed: site.has_seed,
                lacks: setting.bytes,
                start: site.schedule.start(),
                ways,
            });
        }
        Ok(Self {
            repository_bytes: images.iter().map(|image| image.size).sum(),
            images,
            total: Ways {
                mesh: Total::of(&planned, |ways| &ways.mesh),
                cache: Total::of(&planned, |ways| &ways.cache),
                alone: Total::of(&planned, |ways| &ways.alone),
            },
            sites: planned,
            simulated: spreads.len(),
        })
    }
}

/// All releases that a site gets spread as one: what counts is their bytes.
fn setting(site: &SiteEntry, images: &[Image], tls: bool) -> Setting {
    let is_wanted = |image: &&Image| site.images.as_ref().is_none_or(|wanted| wanted.contains(&image.name));
    let lacks = |image: &Image| match image.new {
        Some(new) if site.holds.contains(&image.name) => new,
        Some(_) | None => image.size,
    };
    Setting {
        clients: site.clients,
        has_seed: site.has_seed,
        wan: site.wan,
        lan: site.lan,
        round_trip: site.round_trip,
        tls,
        bytes: images.iter().filter(is_wanted).map(lacks).sum(),
    }
}

/// Each setting once, on all cores. It comes with the name of a site, for the case that it fails.
fn simulate<'a>(settings: &BTreeMap<&'a Setting, &str>) -> Result<BTreeMap<&'a Setting, Spread>, PlanError> {
    let listed: Vec<&Setting> = settings.keys().copied().collect();
    let spreads = seeds::on_all_cores(0..listed.len() as u64, |number| listed[number as usize].spread());
    let named = |(setting, name): (&&'a Setting, &&str), spread: Result<Spread, SpreadError>| match spread {
        Ok(spread) => Ok((*setting, spread)),
        Err(source) => Err(PlanError::Spread { name: (*name).to_owned(), source }),
    };
    settings.iter().zip(spreads).map(|(setting, spread)| named(setting, spread)).collect()
}

impl Total {
    fn of(sites: &[SitePlan], way: impl Fn(&Ways<Course>) -> &Course) -> Self {
        let mut total = Self::default();
        let mut changes = Vec::new();
        for site in sites {
            let (course, count) = (way(&site.ways), u64::from(site.count));
            total.wan_bytes += course.wan_bytes * count;
            total.wire_bytes += course.wire_bytes * count;
            total.done = total.done.max(course.done);
            let downloads = i64::from(course.downloads) * i64::from(site.count);
            let rate = i128::from(course.rate) * i128::from(site.count);
            for Stretch { from, to } in course.stretches.iter().filter(|stretch| stretch.from < stretch.to) {
                changes.push((*from, downloads, rate));
                changes.push((*to, -downloads, -rate));
            }
        }
        // Those who end at a moment make room for those who begin at it.
        changes.sort_unstable();
        let (mut downloads, mut rate) = (0, 0);
        for (_, more_downloads, more_rate) in changes {
            downloads += more_downloads;
            rate += more_rate;
            total.downloads_peak = total.downloads_peak.max(u64::try_from(downloads).unwrap_or(0));
            total.rate_peak = total.rate_peak.max(u64::try_from(rate).unwrap_or(0));
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "tls = false\n[[release]]\nimage = \"xp\"\nsize = \"16 MB\"\nnew = \"4 MB\"\n";

    fn plan(sites: &str) -> Result<Plan, PlanError> {
        let image = |name: &str, size, new| Image { name: name.into(), size, new };
        let images = vec![image("xp", 16_000_000, Some(4_000_000)), image("cad", 8_000_000, None)];
        let release = format!("{RELEASE}[[release]]\nimage = \"cad\"\nsize = \"8 MB\"\n");
        Plan::of(images, &format!("{release}{sites}").parse().unwrap())
    }

    fn site(name: &str, more: &str) -> String {
        format!("[[site]]\nname = \"{name}\"\nclients = 4\nwan = \"20 Mbit/s\"\n{more}\n")
    }

    #[test]
    fn a_site_lacks_what_it_gets_and_does_not_hold() {
        let sites = [
            site("all", ""),
            site("held", "holds = [\"xp\"]"),
            site("one", "images = [\"xp\"]"),
            site("none", "images = []"),
        ];
        let plan = plan(&sites.concat()).unwrap();
        let lacks: Vec<u64> = plan.sites.iter().map(|site| site.lacks / 1_000_000).collect();
        assert_eq!(lacks, [24, 12, 16, 0]);
        assert_eq!(plan.repository_bytes, 24_000_000);
        for site in &plan.sites {
            let bytes = site.ways.map(|course| course.wan_bytes);
            assert_eq!(bytes, Ways { mesh: site.lacks, cache: site.lacks, alone: site.lacks * 4 });
        }
    }

    #[test]
    fn equal_sites_are_simulated_once_and_counted_as_many() {
        let plan = plan(&[site("a", "count = 50"), site("b", "count = 10\nday = 2")].concat()).unwrap();
        assert_eq!((plan.simulated, plan.sites.len()), (1, 2));
        let mesh = plan.total.mesh;
        assert_eq!((mesh.wan_bytes, mesh.downloads_peak), (60 * 24_000_000, 50));
        assert_eq!(plan.total.alone.downloads_peak, 50 * 4);
        assert_eq!(mesh.done, plan.sites[1].ways.mesh.done);
        // The lines of 50 sites at a time are full, with the mesh for a shorter time.
        assert_eq!(plan.total.alone.rate_peak, 50 * 2_500_000);
        assert_eq!(mesh.rate_peak, 50 * 2_500_000);
    }

    #[test]
    fn who_begins_when_others_end_does_not_add_to_the_peak() {
        let first = site("first", "start = \"20:00\"\nwindows = [\"20:00-20:01\"]\nimages = [\"xp\"]");
        let second = site("second", "start = \"20:01\"\nwindows = [\"20:01-20:02\"]\nimages = [\"xp\"]");
        let plan = plan(&[first, second].concat()).unwrap();
        assert_eq!((plan.total.mesh.downloads_peak, plan.total.alone.downloads_peak), (1, 4));
    }

    #[test]
    fn a_site_that_is_never_done_is_named() {
        let ship =
            "[[site]]\nname = \"ship\"\nclients = 2\nwan = \"1 Mbit/s\"\nwindows = [\"00:00-00:01\"]\n";
        let sites = format!("[[release]]\nimage = \"xp\"\nsize = \"60 GB\"\n{ship}").parse().unwrap();
        let images = vec![Image { name: "xp".into(), size: 60_000_000_000, new: None }];
        let said = Plan::of(images, &sites).unwrap_err().to_string();
        assert!(said.contains("\"ship\"") && said.contains("longer windows"), "{said}");
    }

    #[test]
    fn the_branch_office_that_was_measured_is_planned_right() {
        // docs/benchmarks.md, "Spreading": 8 clients at 200 Mbit/s behind 20 Mbit/s, an origin without TLS.
        const ENCODED: u64 = 129_100_000;
        let images = vec![Image { name: "office".into(), size: ENCODED, new: None }];
        let sites = "tls = false\n[[release]]\nimage = \"office\"\nsize = \"129.1 MB\"\n";
        for (clients, measured) in [(2, 57.1), (4, 57.1), (8, 58.6)] {
            let site = format!(
                "[[site]]\nname = \"office\"\nclients = {clients}\nwan = \"20Mbit/s\"\nlan = \"200Mbit/s\"\nround_trip = \"1ms\"\n"
            );
            let sites = format!("{sites}{site}").parse().unwrap();
            let plan = Plan::of(images.clone(), &sites).unwrap();
            let mesh = plan.total.mesh;
            assert_eq!(mesh.wan_bytes, ENCODED, "amplification 1.000");
            let overhead = mesh.wire_bytes as f64 / ENCODED as f64;
            assert!((overhead - 1.047).abs() < 0.001, "{overhead}");
            let ratio = mesh.done.as_secs_f64() / measured;
            println!("{clients} clients: {:.1} s planned, {measured} s measured", mesh.done.as_secs_f64());
            assert!((0.85..1.15).contains(&ratio), "{clients} clients: {ratio} of what was measured");
        }
    }
}
