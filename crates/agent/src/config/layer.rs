//! Settings as they are written down: one table that gives each its name in the file, its flag and its variable.

use super::{ConfigError, RoleSetting, Update, WanSetting};
use crate::{
    access::AccessLayer,
    hooks::HooksLayer,
    units::{LimitSchedule, Rate, Space, Span},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
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
    /// Most that the site takes from the WAN: a rate, 0 for no limit, or by the hour: 20:00-06:00 50Mbit/s, off
    #[arg(long, env = "BRANCHMESH_WAN_LIMIT", value_name = "RATE|SCHEDULE")]
    pub wan_limit: Option<LimitSchedule>,
    /// How many nodes of the site may use the WAN at the same time; each takes its share of wan_limit
    #[arg(long, env = "BRANCHMESH_FETCHERS", value_name = "N")]
    pub fetchers: Option<u32>,
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
            fetchers: self.fetchers.or(below.fetchers),
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
}

fn parse_key(text: &str) -> Result<(String, PathBuf), String> {
    let (group, path) = text.split_once('=').ok_or("GROUP=FILE is expected")?;
    Ok((group.into(), path.into()))
}

fn parse_fact(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected")?;
    Ok((name.trim().into(), value.trim().into()))
}

/// A TOML table of the names that somebody chose.
fn table<'de, D: serde::Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<(String, V)>, D::Error> {
    Ok(BTreeMap::<String, V>::deserialize(deserializer)?.into_iter().collect())
}
