//! Settings as the agent works with them: the defaults are filled in, and every value was checked.

use super::{ConfigError, Layer, RoleSetting, Update, WanSetting};
use crate::{
    hooks::HookSettings,
    units::{LimitSchedule, Rate, Space},
};
use branchmesh_repo::{Access, Facts, Subscription};
use branchmesh_wire::{Role, WanPolicy};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

/// Where the local API listens unless told otherwise.
pub const HTTP_DEFAULT: &str = "127.0.0.1:8741";
const LISTEN_DEFAULT: &str = "0.0.0.0:8740";
const KEEP_RELEASES_DEFAULT: u32 = 2;
const FETCHERS_DEFAULT: u32 = 1;
/// Nodes that may use the WAN at the same time: more would share the line so finely that none has enough of it.
const FETCHERS_MAX: u32 = 16;
const POLL_DEFAULT: Duration = Duration::from_secs(60);
/// Rot is noticed within two weeks.
const SCRUB_DEFAULT: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const FREE_SPACE_FLOOR_DEFAULT: Space = Space::Percent(10);

/// What the agent works with: every setting has a value and was checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `data_dir`
    pub data_dir: PathBuf,
    /// `site`
    pub site: String,
    /// `role`
    pub role: Role,
    /// `origins`
    pub origins: Vec<String>,
    /// `prestage`
    pub prestage: Option<PathBuf>,
    /// `[access]`
    pub access: Access,
    /// `[hooks]`
    pub hooks: HookSettings,
    /// `subscribe`
    pub subscribe: Vec<Subscription>,
    /// `listen`
    pub listen: SocketAddr,
    /// `http`
    pub http: SocketAddr,
    /// `bootstrap`
    pub bootstrap: Vec<String>,
    /// `mdns`
    pub mdns: bool,
    /// `keep_releases`
    pub keep_releases: u32,
    /// `update`
    pub update: Update,
    /// `trim`
    pub trim: bool,
    /// `harvest`
    pub harvest: Vec<PathBuf>,
    /// `scrub`
    pub scrub: Duration,
    /// `wan`
    pub wan: WanPolicy,
    /// `poll`
    pub poll: Duration,
    /// `free_space_floor`
    pub free_space_floor: Space,
    /// `wan_limit`
    pub wan_limit: LimitSchedule,
    /// `fetchers`
    pub fetchers: u32,
    /// `lan_limit`
    pub lan_limit: Rate,
    /// `[identity] ca`
    pub ca: PathBuf,
    /// `[identity] cert`
    pub cert: PathBuf,
    /// `[identity] key`
    pub key: PathBuf,
    /// `[trust] root`
    pub root: PathBuf,
    /// `[keys]`, by group
    pub keys: BTreeMap<String, PathBuf>,
    /// `[facts]`, and what the program knows by itself
    pub facts: Facts,
}

impl Settings {
    /// Where blocks are looked for on this machine; nowhere without `trim`.
    #[must_use]
    pub fn harvested(&self) -> &[PathBuf] {
        if self.trim { &self.harvest } else { &[] }
    }
}

impl Layer {
    /// Fills in the defaults and checks.
    pub fn settle(self) -> Result<Settings, ConfigError> {
        let fetchers = self.fetchers.unwrap_or(FETCHERS_DEFAULT);
        let (min, max) = (1, FETCHERS_MAX);
        if !(min..=max).contains(&fetchers) {
            return Err(ConfigError::OutOfBounds { name: "fetchers", value: fetchers, min, max });
        }
        let subscribe = self.subscribe.unwrap_or_default();
        Ok(Settings {
            data_dir: required(self.data_dir, "data_dir")?,
            site: required(self.site, "site")?,
            role: match self.role.unwrap_or(RoleSetting::Client) {
                RoleSetting::Seed => Role::Seed,
                RoleSetting::Client => Role::Client,
            },
            origins: self.origins.unwrap_or_default(),
            prestage: self.prestage,
            access: self.access.settle(),
            hooks: self.hooks.settle(),
            subscribe: subscribe.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            listen: self.listen.unwrap_or_else(|| LISTEN_DEFAULT.parse().expect("a literal address")),
            http: self.http.unwrap_or_else(|| HTTP_DEFAULT.parse().expect("a literal address")),
            bootstrap: self.bootstrap.unwrap_or_default(),
            mdns: self.mdns.unwrap_or(true),
            keep_releases: self.keep_releases.unwrap_or(KEEP_RELEASES_DEFAULT).max(1),
            update: self.update.unwrap_or(Update::Auto),
            trim: self.trim.unwrap_or(true),
            harvest: self.harvest.unwrap_or_default(),
            scrub: self.scrub.map_or(SCRUB_DEFAULT, |span| span.0),
            wan: match self.wan.unwrap_or(WanSetting::Fetcher) {
                WanSetting::Fetcher => WanPolicy::Fetcher,
                WanSetting::LastResort => WanPolicy::LastResort,
                WanSetting::Never => WanPolicy::Never,
            },
            poll: self.poll.map_or(POLL_DEFAULT, |span| span.0),
            free_space_floor: self.free_space_floor.unwrap_or(FREE_SPACE_FLOOR_DEFAULT),
            wan_limit: self.wan_limit.unwrap_or_default(),
            fetchers,
            lan_limit: self.lan_limit.unwrap_or_default(),
            ca: required(self.identity.ca, "ca")?,
            cert: required(self.identity.cert, "cert")?,
            key: required(self.identity.key, "key")?,
            root: required(self.trust.root, "trust_root")?,
            keys: self.keys.into_iter().collect(),
            facts: known_facts().chain(self.facts).collect(),
        })
    }
}

fn required<T>(value: Option<T>, name: &'static str) -> Result<T, ConfigError> {
    value.ok_or_else(|| ConfigError::Missing {
        name,
        flag: name.replace('_', "-"),
        variable: name.to_ascii_uppercase(),
    })
}

/// What is known of each machine; the settings may say otherwise.
fn known_facts() -> impl Iterator<Item = (String, String)> {
    let known = [("os", std::env::consts::OS), ("arch", std::env::consts::ARCH)];
    known.into_iter().map(|(name, value)| (name.into(), value.into()))
}
