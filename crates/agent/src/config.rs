//! The agent's settings: one table that gives each its name in the file, its flag and its variable.
//!
//! A [`Layer`] is what was written down somewhere, every setting optional; [`Settings`] is what it means. Flags
//! stand above `BRANCHMESH_…` variables, these above the file, the file above the defaults.

pub use crate::choices::{RoleSetting, Update, WanSetting};
use crate::{
    access::AccessLayer,
    hooks::{HookSettings, HooksLayer},
    units::{Rate, Space, Span},
};
use branchmesh_repo::{Access, Facts, Subscription, SubscriptionError};
use branchmesh_wire::{Role, WanPolicy};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Settings as somebody wrote them: a file, or flags and variables.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Folder for blocks, images and what must survive a restart
    #[arg(long, env = "BRANCHMESH_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Name of the site: the nodes that share a WAN budget
    #[arg(long, env = "BRANCHMESH_SITE", value_name = "NAME")]
    pub site: Option<String>,
    /// What this node is: a seed keeps everything its site needs and is first in line for the WAN
    #[arg(long, env = "BRANCHMESH_ROLE")]
    pub role: Option<RoleSetting>,
    /// Repositories, nearest first: http(s)://…, s3://…, gs://…, az://… or file:///…
    #[arg(long, env = "BRANCHMESH_ORIGINS", value_name = "URL", value_delimiter = ',')]
    pub origins: Option<Vec<String>>,
    /// Folder into which releases are brought by other means: looked into before all origins
    #[arg(long, env = "BRANCHMESH_PRESTAGE", value_name = "DIR")]
    pub prestage: Option<PathBuf>,
    /// Images to keep here: NAME, NAME@CHANNEL, NAME@RELEASE, or * for all that its groups allow
    #[arg(long, env = "BRANCHMESH_SUBSCRIBE", value_name = "IMAGE", value_delimiter = ',')]
    pub subscribe: Option<Vec<String>>,
    /// Address for other nodes: blocks on UDP, discovery and gossip on TCP
    #[arg(long, env = "BRANCHMESH_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address of the local API, live page and metrics
    #[arg(long, env = "BRANCHMESH_HTTP", value_name = "ADDR:PORT")]
    pub http: Option<SocketAddr>,
    /// Nodes to begin with where mDNS does not reach
    #[arg(long, env = "BRANCHMESH_BOOTSTRAP", value_name = "HOST:PORT", value_delimiter = ',')]
    pub bootstrap: Option<Vec<String>>,
    /// Whether to look for nodes with mDNS
    #[arg(long, env = "BRANCHMESH_MDNS", value_name = "BOOL")]
    pub mdns: Option<bool>,
    /// How many releases of an image stay on the disk
    #[arg(long, env = "BRANCHMESH_KEEP_RELEASES", value_name = "N")]
    pub keep_releases: Option<u32>,
    /// What to do with a new release: fetch it and make it current, suggest it, or leave both to commands
    #[arg(long, env = "BRANCHMESH_UPDATE")]
    pub update: Option<Update>,
    /// Whether to use blocks that are already on this machine
    #[arg(long, env = "BRANCHMESH_TRIM", value_name = "BOOL")]
    pub trim: Option<bool>,
    /// Files, folders and block devices of this machine to take blocks from, such as an old disk
    #[arg(long, env = "BRANCHMESH_HARVEST", value_name = "PATH", value_delimiter = ',')]
    pub harvest: Option<Vec<PathBuf>>,
    /// How often all blocks on the disk are read and verified again
    #[arg(long, env = "BRANCHMESH_SCRUB", value_name = "SPAN")]
    pub scrub: Option<Span>,
    /// What this node may do with the WAN
    #[arg(long, env = "BRANCHMESH_WAN")]
    pub wan: Option<WanSetting>,
    /// How often a fetcher asks an origin for something new
    #[arg(long, env = "BRANCHMESH_POLL", value_name = "SPAN")]
    pub poll: Option<Span>,
    /// Free space that is never used
    #[arg(long, env = "BRANCHMESH_FREE_SPACE_FLOOR", value_name = "SPACE")]
    pub free_space_floor: Option<Space>,
    /// Most that this node takes from the WAN; 0 for no limit
    #[arg(long, env = "BRANCHMESH_WAN_LIMIT", value_name = "RATE")]
    pub wan_limit: Option<Rate>,
    /// Most that this node sends to others; 0 for no limit
    #[arg(long, env = "BRANCHMESH_LAN_LIMIT", value_name = "RATE")]
    pub lan_limit: Option<Rate>,
    /// How to get to the origins
    #[command(flatten)]
    #[serde(default)]
    pub access: AccessLayer,
    /// Whom to tell what happens to releases
    #[command(flatten)]
    #[serde(default)]
    pub hooks: HooksLayer,
    /// Who this node is
    #[command(flatten)]
    #[serde(default)]
    pub identity: IdentityLayer,
    /// Whom it believes
    #[command(flatten)]
    #[serde(default)]
    pub trust: TrustLayer,
    /// Content keys of groups, GROUP=FILE
    #[arg(long = "content-key", env = "BRANCHMESH_CONTENT_KEYS", value_name = "GROUP=FILE", value_delimiter = ',', value_parser = parse_key)]
    #[serde(default, deserialize_with = "table")]
    pub keys: Vec<(String, PathBuf)>,
    /// What releases may require of this machine, such as virtualization-engine=6.1
    #[arg(long = "fact", env = "BRANCHMESH_FACTS", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = parse_fact)]
    #[serde(default, deserialize_with = "table")]
    pub facts: Vec<(String, String)>,
}

/// Section `[identity]`.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct IdentityLayer {
    /// Certificate of the organisation's CA (PEM)
    #[arg(long, env = "BRANCHMESH_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Device certificate of this node (PEM)
    #[arg(long, env = "BRANCHMESH_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Private key of this node (PEM)
    #[arg(long, env = "BRANCHMESH_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// Section `[trust]`.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct TrustLayer {
    /// The repository's first root of trust
    #[arg(long, env = "BRANCHMESH_TRUST_ROOT", value_name = "FILE")]
    pub root: Option<PathBuf>,
}

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
    pub wan_limit: Rate,
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

/// Where the local API listens unless told otherwise.
pub const HTTP_DEFAULT: &str = "127.0.0.1:8741";
const LISTEN_DEFAULT: &str = "0.0.0.0:8740";
const KEEP_RELEASES_DEFAULT: u32 = 2;
const POLL_DEFAULT: Duration = Duration::from_secs(60);
/// Rot is noticed within two weeks.
const SCRUB_DEFAULT: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const FREE_SPACE_FLOOR_DEFAULT: Space = Space::Percent(10);

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown setting, or a value of the wrong kind. The text names line and setting.
    #[error("the configuration {path} is wrong: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// A setting without a default was not given.
    #[error(
        "the setting {name} is missing: give it in the configuration file, as --{flag} or in BRANCHMESH_{variable}"
    )]
    Missing {
        /// Its name in the file.
        name: &'static str,
        /// Its flag.
        flag: String,
        /// The end of its variable's name.
        variable: String,
    },
    /// A subscription that is none.
    #[error("the setting subscribe is wrong")]
    Subscription(#[from] SubscriptionError),
}

impl Layer {
    /// Reads a TOML file. Relative paths in it are relative to its folder.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        let mut layer: Self = toml::from_str(&text).map_err(|error| ConfigError::Invalid {
            path: path.into(),
            reason: error.to_string().trim_end().into(),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = [
            &mut layer.data_dir,
            &mut layer.prestage,
            &mut layer.identity.ca,
            &mut layer.identity.cert,
            &mut layer.identity.key,
            &mut layer.trust.root,
        ];
        let lists = layer.keys.iter_mut().map(|(_, path)| path).chain(layer.harvest.iter_mut().flatten());
        for path in paths.into_iter().flatten().chain(lists) {
            *path = folder.join(&*path);
        }
        layer.access.anchor(folder);
        layer.hooks.anchor(folder);
        Ok(layer)
    }

    /// This layer on top of `below`.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        let mut keys = below.keys;
        keys.extend(self.keys);
        let mut facts = below.facts;
        facts.extend(self.facts);
        Self {
            data_dir: self.data_dir.or(below.data_dir),
            site: self.site.or(below.site),
            role: self.role.or(below.role),
            origins: self.origins.or(below.origins),
            prestage: self.prestage.or(below.prestage),
            subscribe: self.subscribe.or(below.subscribe),
            listen: self.listen.or(below.listen),
            http: self.http.or(below.http),
            bootstrap: self.bootstrap.or(below.bootstrap),
            mdns: self.mdns.or(below.mdns),
            keep_releases: self.keep_releases.or(below.keep_releases),
            update: self.update.or(below.update),
            trim: self.trim.or(below.trim),
            harvest: self.harvest.or(below.harvest),
            scrub: self.scrub.or(below.scrub),
            wan: self.wan.or(below.wan),
            poll: self.poll.or(below.poll),
            free_space_floor: self.free_space_floor.or(below.free_space_floor),
            wan_limit: self.wan_limit.or(below.wan_limit),
            lan_limit: self.lan_limit.or(below.lan_limit),
            access: self.access.over(below.access),
            hooks: self.hooks.over(below.hooks),
            identity: IdentityLayer {
                ca: self.identity.ca.or(below.identity.ca),
                cert: self.identity.cert.or(below.identity.cert),
                key: self.identity.key.or(below.identity.key),
            },
            trust: TrustLayer { root: self.trust.root.or(below.trust.root) },
            keys,
            facts,
        }
    }

    /// Fills in the defaults and checks.
    pub fn settle(self) -> Result<Settings, ConfigError> {
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

fn parse_key(text: &str) -> Result<(String, PathBuf), String> {
    let (group, path) = text.split_once('=').ok_or("GROUP=FILE is expected")?;
    Ok((group.into(), path.into()))
}

fn parse_fact(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected")?;
    Ok((name.trim().into(), value.trim().into()))
}

/// What is known of each machine; the settings may say otherwise.
fn known_facts() -> impl Iterator<Item = (String, String)> {
    let known = [("os", std::env::consts::OS), ("arch", std::env::consts::ARCH)];
    known.into_iter().map(|(name, value)| (name.into(), value.into()))
}

/// A TOML table of the names that somebody chose.
fn table<'de, D: serde::Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<(String, V)>, D::Error> {
    Ok(BTreeMap::<String, V>::deserialize(deserializer)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "data_dir = \"data\"\nsite = \"lyon\"\n[identity]\nca = \"ca.pem\"\ncert = \"node.pem\"\n\
                           key = \"node.key\"\n[trust]\nroot = \"root.json\"\n";

    fn load(text: &str) -> Result<Layer, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("branchmesh.toml");
        std::fs::write(&path, text).unwrap();
        let mut layer = Layer::from_file(&path)?;
        let relative =
            |path: PathBuf| path.strip_prefix(folder.path()).map(Path::to_path_buf).unwrap_or(path);
        layer.data_dir = layer.data_dir.map(relative);
        Ok(layer)
    }

    #[test]
    fn a_minimal_file_is_enough_and_relative_to_its_folder() {
        let settings = load(MINIMAL).unwrap().settle().unwrap();
        assert_eq!(settings.data_dir, Path::new("data"));
        assert_eq!(settings.listen.port(), 8740);
        assert_eq!(settings.poll, Duration::from_secs(60));
        assert!(settings.mdns && settings.trim);
    }

    #[test]
    fn a_typo_is_named_with_its_line() {
        let error = load(&format!("datadir = \"x\"\n{MINIMAL}")).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("datadir"), "{error}");
        let error = load(&format!("wan_limit = \"20 bananas\"\n{MINIMAL}")).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("20 bananas"), "{error}");
        let error = load(&format!("{MINIMAL}rot = \"x\"\n")).unwrap_err().to_string();
        assert!(error.contains("rot"), "{error}");
    }

    #[test]
    fn a_missing_setting_is_named_with_its_flag_and_variable() {
        let error = load("site = \"lyon\"").unwrap().settle().unwrap_err().to_string();
        assert!(error.contains("data_dir") && error.contains("--data-dir"), "{error}");
        assert!(error.contains("BRANCHMESH_DATA_DIR"), "{error}");
    }

    #[test]
    fn facts_are_what_the_machine_is_and_what_somebody_says_of_it() {
        let file =
            load(&format!("{MINIMAL}[facts]\nvirtualization-engine = \"6.1\"\nowner = \"it\"\n")).unwrap();
        let flags = Layer { facts: vec![("owner".into(), "sales".into())], ..Layer::default() };
        let facts = flags.over(file).settle().unwrap().facts;
        let fact = |name: &str| facts.get(name).map(String::as_str);
        assert_eq!(fact("virtualization-engine"), Some("6.1"));
        assert_eq!(fact("owner"), Some("sales"));
        assert_eq!(fact("os"), Some(std::env::consts::OS));
    }

    #[test]
    fn flags_stand_above_the_file() {
        let flags = Layer { site: Some("paris".into()), ..Layer::default() };
        let settings = flags.over(load(MINIMAL).unwrap()).settle().unwrap();
        assert_eq!(settings.site, "paris");
    }
}
