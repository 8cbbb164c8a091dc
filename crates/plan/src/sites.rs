//! SITES.toml: what is rolled out, and where. Read strictly: what is not understood is an error that names the site.

mod problem;

use crate::clock::Schedule;
use branchmesh_units::{
    Rate, Size, Span,
    clock::{TimeOfDay, Window},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::BTreeSet, str::FromStr, time::Duration};

pub use problem::{Problem, SitesError};

/// Clients of a site: no branch has more, and nobody has tried.
pub const CLIENTS_MAX: u32 = 1000;
/// The thinnest line, in bytes a second (10 kbit/s): over a thinner one no block comes within the time that the exchange
/// gives a fetcher.
pub const WAN_MIN: u64 = 1250;
/// Sites of one entry: no company has more, and sums of their bytes stay far from overflow.
pub const COUNT_MAX: u32 = 100_000;
/// Bytes of a release: the largest that the repository's format allows, with room.
pub const RELEASE_BYTES_MAX: u64 = 1 << 42;
const DAY_MAX: u32 = 3660;
const LAN_DEFAULT: u64 = 125_000_000;
const ROUND_TRIP_DEFAULT: Duration = Duration::from_millis(40);
const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);

/// The file.
#[derive(Clone, Debug, PartialEq)]
pub struct Sites {
    /// Whether the origin is an `https://` one.
    pub tls: bool,
    /// What is rolled out.
    pub releases: Vec<ReleaseEntry>,
    /// Where.
    pub sites: Vec<SiteEntry>,
}

/// A release that is rolled out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseEntry {
    /// The name that sites use for it.
    pub image: String,
    /// Its encoded bytes, index included; needed unless `release` is given.
    pub size: Option<Size>,
    /// What of them is new for those who hold an older one.
    pub new: Option<Size>,
    /// Its name in the repository, where its bytes are looked up: NAME@V.
    pub release: Option<String>,
    /// The older release in the repository.
    pub older: Option<String>,
}

/// A site, or many equal ones.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteEntry {
    /// Its name.
    pub name: String,
    /// How many there are.
    pub count: u32,
    /// Clients at each.
    pub clients: u32,
    /// Whether each has a seed node besides.
    pub has_seed: bool,
    /// Bytes a second on the line.
    pub wan: u64,
    /// Bytes a second of each machine's port.
    pub lan: u64,
    /// To the origin and back.
    pub round_trip: Duration,
    /// Images that it gets; all, if none are named.
    pub images: Option<Vec<String>>,
    /// Images of which its clients hold the older release.
    pub holds: Vec<String>,
    /// When.
    pub schedule: Schedule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "yes")]
    tls: bool,
    #[serde(default)]
    release: Vec<toml::Table>,
    #[serde(default)]
    site: Vec<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Site {
    name: String,
    #[serde(default = "one")]
    count: u32,
    clients: u32,
    #[serde(default)]
    seed: bool,
    wan: Rate,
    lan: Option<Rate>,
    round_trip: Option<Span>,
    images: Option<Vec<String>>,
    #[serde(default)]
    holds: Vec<String>,
    #[serde(default = "one")]
    day: u32,
    #[serde(default)]
    start: TimeOfDay,
    #[serde(default)]
    windows: Vec<Window>,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

impl FromStr for Sites {
    type Err = SitesError;

    fn from_str(text: &str) -> Result<Self, SitesError> {
        let file: File = toml::from_str(text).map_err(|error| SitesError::Toml(Box::new(error)))?;
        let releases: Vec<ReleaseEntry> = entries("release", "image", file.release, ReleaseEntry::checked)?;
        if releases.is_empty() {
            return Err(SitesError::NoReleases);
        }
        let sites = entries("site", "name", file.site, |site: Site| site.checked(&releases))?;
        if sites.is_empty() {
            return Err(SitesError::NoSites);
        }
        Ok(Self { tls: file.tls, releases, sites })
    }
}

/// Reads and checks the entries of one kind, each of which has its own name.
fn entries<Raw: DeserializeOwned, Checked>(
    kind: &'static str,
    key: &'static str,
    tables: Vec<toml::Table>,
    check: impl Fn(Raw) -> Result<Checked, Problem>,
) -> Result<Vec<Checked>, SitesError> {
    let mut names = BTreeSet::new();
    let mut checked = Vec::new();
    for (number, table) in (1..).zip(tables) {
        let Some(name) = table.get(key).and_then(toml::Value::as_str).map(String::from) else {
            return Err(SitesError::Nameless { kind, number, key });
        };
        let fail = |problem| SitesError::Entry { kind, name: name.clone(), problem };
        if !names.insert(name.clone()) {
            return Err(fail(Problem::Twice));
        }
        let raw = table.try_into().map_err(|error: toml::de::Error| {
            fail(Problem::Toml(error.to_string().trim().replace('\n', " ")))
        })?;
        checked.push(check(raw).map_err(fail)?);
    }
    Ok(checked)
}

impl ReleaseEntry {
    fn checked(self) -> Result<Self, Problem> {
        let by_hand = self.size.is_some() && self.release.is_none() && self.older.is_none();
        let from_repository = self.release.is_some() && self.size.is_none() && self.new.is_none();
        if !by_hand && !from_repository {
            return Err(Problem::SizeOrRelease);
        }
        let size = self.size.unwrap_or(Size(1)).0;
        within("size", size, RELEASE_BYTES_MAX)?;
        if self.size.is_some() && self.new.is_some_and(|new| new.0 > size) {
            return Err(Problem::NewAboveSize);
        }
        Ok(self)
    }

    fn has_update(&self) -> bool {
        self.new.is_some() || self.older.is_some()
    }
}

impl Site {
    fn checked(self, releases: &[ReleaseEntry]) -> Result<SiteEntry, Problem> {
        within("count", self.count.into(), COUNT_MAX.into())?;
        within("clients", self.clients.into(), CLIENTS_MAX.into())?;
        within("day", self.day.into(), DAY_MAX.into())?;
        let find = |image: &String| releases.iter().find(|release| release.image == *image);
        for (key, image) in self
            .images
            .iter()
            .flatten()
            .map(|image| ("images", image))
            .chain(self.holds.iter().map(|image| ("holds", image)))
        {
            find(image).ok_or_else(|| Problem::UnknownImage { key, image: image.clone() })?;
        }
        for image in &self.holds {
            if self.images.as_ref().is_some_and(|images| !images.contains(image)) {
                return Err(Problem::HoldsOther(image.clone()));
            }
            if !find(image).is_some_and(ReleaseEntry::has_update) {
                return Err(Problem::NoUpdate(image.clone()));
            }
        }
        let round_trip = self.round_trip.map_or(ROUND_TRIP_DEFAULT, |span| span.0);
        if round_trip > ROUND_TRIP_MAX {
            return Err(Problem::RoundTrip);
        }
        let wan = self.wan.0.ok_or(Problem::NoRate("wan"))?;
        if wan < WAN_MIN {
            return Err(Problem::ThinWan);
        }
        Ok(SiteEntry {
            name: self.name,
            count: self.count,
            clients: self.clients,
            has_seed: self.seed,
            wan,
            lan: self.lan.map_or(Ok(LAN_DEFAULT), |lan| lan.0.ok_or(Problem::NoRate("lan")))?,
            round_trip,
            images: self.images,
            holds: self.holds,
            schedule: Schedule::new(self.day, self.start, &self.windows),
        })
    }
}

fn within(key: &'static str, value: u64, max: u64) -> Result<(), Problem> {
    match (1..=max).contains(&value) {
        true => Ok(()),
        false => Err(Problem::OutOfBounds { key, max }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "[[release]]\nimage = \"xp\"\nsize = \"12 GiB\"\n";

    fn refused(text: &str) -> String {
        text.parse::<Sites>().unwrap_err().to_string()
    }

    /// What is said of a site with these lines instead of, or beside, the usual ones.
    fn site(lines: &str) -> Result<Sites, SitesError> {
        let usual = ["clients = 4", "wan = \"20 Mbit/s\""];
        let given = |usual: &&str| !lines.contains(usual.split(' ').next().unwrap());
        let usual: Vec<&str> = usual.into_iter().filter(given).collect();
        format!("{RELEASE}[[site]]\nname = \"lyon\"\n{}\n{lines}\n", usual.join("\n")).parse()
    }

    #[test]
    fn a_short_file_is_enough() {
        let sites = site("").unwrap();
        assert!(sites.tls);
        let lyon = &sites.sites[0];
        assert_eq!((lyon.count, lyon.clients, lyon.wan, lyon.lan), (1, 4, 2_500_000, 125_000_000));
        assert_eq!(lyon.schedule.start(), Duration::ZERO);
    }

    #[test]
    fn every_setting_is_taken() {
        let text = "tls = false\n[[release]]\nimage = \"xp\"\nrelease = \"xp@2\"\nolder = \"xp@1\"\n\
            [[site]]\nname = \"shop\"\ncount = 80\nclients = 3\nseed = true\nwan = \"2 Mbit/s\"\nlan = \"100 Mbit/s\"\n\
            round_trip = \"90ms\"\nimages = [\"xp\"]\nholds = [\"xp\"]\nday = 2\nstart = \"20:00\"\n\
            windows = [\"20:00-06:00\"]\n";
        let sites: Sites = text.parse().unwrap();
        assert!(!sites.tls);
        assert_eq!(sites.releases[0].older.as_deref(), Some("xp@1"));
        let shop = &sites.sites[0];
        assert_eq!((shop.count, shop.clients, shop.has_seed), (80, 3, true));
        assert_eq!((shop.wan, shop.lan, shop.round_trip.as_millis()), (250_000, 12_500_000, 90));
        assert_eq!(shop.schedule.start().as_secs(), 44 * 3600);
    }

    #[test]
    fn each_error_names_the_site_and_what_to_do() {
        for (lines, words) in [
            ("clinets = 4", "clinets"),
            ("clients = 0", "clients must be from 1 to 1000"),
            ("clients = 1001", "clients must be from 1 to 1000"),
            ("clients = \"four\"", "`clients`"),
            ("count = 0", "count must be from 1 to 100000"),
            ("day = 0", "day must be from 1"),
            ("wan = \"0\"", "wan must be a rate"),
            ("wan = \"9 kbit/s\"", "send a stick"),
            ("wan = \"fast\"", "20Mbit/s"),
            ("lan = \"0\"", "lan must be a rate"),
            ("round_trip = \"6s\"", "what ping shows"),
            ("start = \"noon\"", "20:30"),
            ("windows = [\"night\"]", "20:00-06:00"),
            ("images = [\"vista\"]", "images names \"vista\""),
            ("holds = [\"vista\"]", "holds names \"vista\""),
            ("holds = [\"xp\"]", "neither new nor older"),
            ("images = []\nholds = [\"xp\"]", "not among its images"),
        ] {
            let said = site(lines).unwrap_err().to_string();
            assert!(said.starts_with("site \"lyon\": ") && said.contains(words), "{lines}: {said}");
        }
        let missing = refused(&format!("{RELEASE}[[site]]\nname = \"lyon\"\nclients = 4\n"));
        assert!(missing.contains("lyon") && missing.contains("`wan`"), "{missing}");
    }

    #[test]
    fn each_error_names_the_release_and_what_to_do() {
        for (lines, words) in [
            ("", "either size"),
            ("new = \"1 GiB\"", "either size"),
            ("size = \"1 GiB\"\nrelease = \"xp@2\"", "either size"),
            ("size = \"1 GiB\"\nnew = \"2 GiB\"", "new is more than size"),
            ("size = \"0\"", "size must be from 1"),
            ("size = \"large\"", "12GiB"),
            ("sise = \"1 GiB\"", "sise"),
        ] {
            let said = refused(&format!("[[release]]\nimage = \"xp\"\n{lines}\n"));
            assert!(said.starts_with("release \"xp\": ") && said.contains(words), "{lines}: {said}");
        }
    }

    #[test]
    fn a_file_without_the_main_things_is_refused() {
        assert!(refused("").contains("no release"));
        assert!(refused(RELEASE).contains("no site"));
        assert!(refused("sites = 1").contains("sites"));
        assert!(refused("[[release]]\nsize = \"1 GiB\"").contains("number 1 has no image"));
        assert!(refused(&format!("{RELEASE}{RELEASE}")).contains("twice"));
        assert!(refused(&format!("{RELEASE}[[site]]\nclients = 4")).contains("number 1 has no name"));
    }
}
