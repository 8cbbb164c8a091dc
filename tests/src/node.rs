//! One node: its folder, its certificate, its settings, and its agent when it runs.

use crate::{
    binary::branchmesh,
    free_address::free_address,
    hq::Headquarters,
    images,
    place::Place,
    process::Process,
    run::{Finished, run},
    status::Status,
    wait,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

/// An agent stops within this time when it is asked to.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// A status is answered within this time, also on a busy machine.
const STATUS_LIMIT: Duration = Duration::from_secs(10);

/// Names what the agents of a test shall log, such as `debug`.
const LOG_VARIABLE: &str = "BRANCHMESH_TEST_LOG";

/// An agent's settings file (DESIGN section 7), as far as tests set them.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Everything that the node keeps.
    pub data_dir: PathBuf,
    /// Its site.
    pub site: String,
    /// `client` or `seed`.
    pub role: String,
    /// Repositories, nearest first.
    pub origins: Vec<String>,
    /// Folder into which releases are brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prestage: Option<PathBuf>,
    /// What it wants.
    pub subscribe: Vec<String>,
    /// Address for other nodes.
    pub listen: SocketAddr,
    /// Address of the local API.
    pub http: SocketAddr,
    /// Addresses of other nodes.
    pub bootstrap: Vec<String>,
    /// Whether it looks for others with mDNS.
    pub mdns: bool,
    /// What it may do with the WAN.
    pub wan: String,
    /// How much it takes from the WAN, and when.
    pub wan_limit: String,
    /// How much it sends to others.
    pub lan_limit: String,
    /// How often it asks an origin for news.
    pub poll: String,
    /// Whether it uses what is on its machine.
    pub trim: bool,
    /// Where it looks for that.
    pub harvest: Vec<PathBuf>,
    /// How often it reads everything again.
    pub scrub: String,
    /// What it does with a new release: `auto`, `suggest` or `manual`.
    pub update: String,
    /// How many releases of an image it keeps.
    pub keep_releases: u32,
    /// How it gets to its origins.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub access: BTreeMap<String, String>,
    /// What it leaves free on the disk.
    pub free_space_floor: String,
    /// Commands that it runs, and how long they may take.
    pub hooks: Hooks,
    /// Who it is.
    pub identity: IdentityFiles,
    /// Whom it believes.
    pub trust: TrustFiles,
    /// Content keys, by group.
    pub keys: BTreeMap<String, PathBuf>,
    /// What is known of the machine.
    pub facts: BTreeMap<String, String>,
}

/// The commands that a node runs when something happens to a release.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Hooks {
    /// When its files are in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Vec<String>>,
    /// When it has become the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activated: Option<Vec<String>>,
    /// When it cannot go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Vec<String>>,
    /// How long each may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// The files of a device's identity.
#[derive(Clone, Debug, Serialize)]
pub struct IdentityFiles {
    /// The organisation's CA.
    pub ca: PathBuf,
    /// The device certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl IdentityFiles {
    fn in_folder(folder: &Path) -> Self {
        Self { ca: folder.join("ca.pem"), cert: folder.join("node.pem"), key: folder.join("node.key") }
    }
}

/// The repository's root of trust.
#[derive(Clone, Debug, Serialize)]
pub struct TrustFiles {
    /// The file.
    pub root: PathBuf,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its settings; a change takes effect at the next start.
    pub settings: Settings,
    /// Variables that its agent gets, such as a cloud's credentials.
    pub environment: Vec<(String, String)>,
    place: Place,
    folder: PathBuf,
    agent: Option<Process>,
}

impl Node {
    /// A node with a certificate of `hq`'s CA, which wants everything of its `origins`; not started.
    ///
    /// # Panics
    /// If its folder cannot be made or its certificate not be issued.
    #[must_use]
    pub fn new(
        hq: &Headquarters,
        name: &str,
        site: &str,
        place: Place,
        parent: &Path,
        origins: &[&str],
    ) -> Self {
        let folder = parent.join(name);
        fs::create_dir_all(&folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let identity = folder.join("identity");
        hq.issue(name, site, &[], &identity);
        let (listen, http) = match place {
            Place::Namespace(_) => (address("0.0.0.0:8740"), address("127.0.0.1:8741")),
            Place::Here => (free_address(), free_address()),
        };
        let settings = Settings {
            data_dir: folder.join("data"),
            site: site.into(),
            role: "client".into(),
            origins: origins.iter().copied().map(String::from).collect(),
            prestage: None,
            subscribe: vec!["*".into()],
            listen,
            http,
            bootstrap: Vec::new(),
            mdns: place != Place::Here,
            wan: "fetcher".into(),
            wan_limit: "0".into(),
            lan_limit: "0".into(),
            poll: "2s".into(),
            trim: true,
            harvest: Vec::new(),
            scrub: "14d".into(),
            // A developer's disk is often fuller than a client's may be.
            free_space_floor: "1%".into(),
            update: "auto".into(),
            keep_releases: 2,
            access: BTreeMap::new(),
            hooks: Hooks::default(),
            identity: IdentityFiles::in_folder(&identity),
            trust: TrustFiles { root: hq.root_of_trust() },
            keys: BTreeMap::new(),
            facts: BTreeMap::new(),
        };
        Self { name: name.into(), settings, environment: Vec::new(), place, folder, agent: None }
    }

    /// Makes it a member of a group for whom something has been published: by its certificate, and with the content
    /// key.
    ///
    /// # Panics
    /// If the certificate cannot be issued.
    pub fn join(&mut self, hq: &Headquarters, group: &str) {
        let identity = self.folder.join(format!("identity-{group}"));
        hq.issue(&self.name, &self.settings.site, &[group], &identity);
        self.settings.identity = IdentityFiles::in_folder(&identity);
        self.settings.keys.insert(group.into(), hq.content_key(group));
    }

    /// Makes it a seed: by its certificate and its setting.
    ///
    /// # Panics
    /// If the certificate cannot be issued.
    pub fn make_seed(&mut self, hq: &Headquarters) {
        let identity = self.folder.join("identity-seed");
        hq.issue_seed(&self.name, &self.settings.site, &identity);
        self.settings.identity = IdentityFiles::in_folder(&identity);
        self.settings.role = "seed".into();
    }

    /// Starts its agent; doesn't wait for it.
    ///
    /// # Panics
    /// If the agent cannot be started.
    pub fn start(&mut self) {
        let config = self.write_config();
        let mut command = self.place.command(branchmesh());
        command.arg("agent").arg("--config").arg(config).envs(self.environment.clone());
        if let Some(filter) = std::env::var_os(LOG_VARIABLE) {
            command.arg("--log").arg(filter);
        }
        self.agent = Some(Process::start(&self.name, &command, &self.folder.join("agent.log")));
    }

    /// Writes its settings into its configuration file.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn write_config(&self) -> PathBuf {
        let config = self.folder.join("branchmesh.toml");
        let text = toml::to_string(&self.settings).expect("settings have only names and values");
        fs::write(&config, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", config.display()));
        config
    }

    /// Kills its agent like a power cut.
    #[track_caller]
    pub fn kill(&mut self) {
        self.agent().kill();
    }

    /// Asks its agent to stop, and waits for it.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.agent().stop(STOP_LIMIT)
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its agent.
    ///
    /// # Panics
    /// If it was never started.
    #[track_caller]
    pub fn agent(&mut self) -> &mut Process {
        self.agent.as_mut().expect("the test has started this node")
    }

    /// Whether its agent runs.
    pub fn is_running(&mut self) -> bool {
        self.agent.as_mut().is_some_and(Process::is_running)
    }

    /// Passes if its agent runs.
    ///
    /// # Panics
    /// If it has ended.
    #[track_caller]
    pub fn expect_running(&mut self) {
        assert!(self.is_running(), "{} has ended", self.name);
    }

    /// All that its agent has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.agent.as_ref().map(Process::log).unwrap_or_default()
    }

    /// What its agent says about itself; none while it does not answer.
    ///
    /// # Panics
    /// If the answer is not the JSON that DESIGN section 7 promises.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        let http = self.settings.http.to_string();
        let mut command = self.place.command(branchmesh());
        let answer = run(command.args(["status", "--json", "--http", &http]), STATUS_LIMIT);
        let status = answer.ok().then(|| serde_json::from_str(&answer.stdout));
        status.map(|status| status.unwrap_or_else(|error| panic!("{error}\n{}", answer.describe())))
    }

    /// Has its agent do something about a release, such as `pin` `desk@1`.
    #[must_use]
    pub fn request(&self, verb: &str, about: &str) -> Finished {
        let http = self.settings.http.to_string();
        let mut command = self.place.command(branchmesh());
        run(command.args([verb, about, "--json", "--http", &http]), STATUS_LIMIT)
    }

    /// The release that `current` names.
    #[must_use]
    pub fn current(&self, image: &str) -> Option<String> {
        let pointer = self.release_folder(image, "current");
        fs::read_to_string(pointer).ok().map(|text| text.trim().to_owned())
    }

    /// Waits until its status is as `wanted` says.
    ///
    /// # Panics
    /// If that doesn't happen within `limit`, or its agent ends.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, limit: Duration, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut last = None;
        let found = wait::until(limit, || {
            self.expect_running();
            last = self.status();
            last.clone().filter(|status| wanted(status))
        });
        found.unwrap_or_else(|| panic!("{}: not {what} within {limit:?}; last status: {last:#?}", self.name))
    }

    /// Waits until it says that a release is complete.
    ///
    /// # Panics
    /// If that doesn't happen within `limit`.
    #[track_caller]
    pub fn wait_complete(&mut self, image: &str, release: &str, limit: Duration) -> Status {
        self.wait_for(&format!("complete with {image}@{release}"), limit, |status| {
            status.release(image, release).is_some_and(|entry| is_done(&entry.state))
        })
    }

    /// Where a release's files are, when they are in place.
    #[must_use]
    pub fn release_folder(&self, image: &str, release: &str) -> PathBuf {
        self.settings.data_dir.join("images").join(image).join(release)
    }

    /// Which of `sources` are not equal to this node's files of a release.
    #[must_use]
    pub fn wrong_files(&self, image: &str, release: &str, sources: &[&Path]) -> Vec<String> {
        let folder = self.release_folder(image, release);
        let wrong = sources.iter().filter(|source| {
            let here = folder.join(source.file_name().expect("sources are files"));
            !here.is_file() || !images::same_content(source, &here)
        });
        wrong.map(|source| format!("{}: {}", self.name, source.display())).collect()
    }
}

/// Whether a release in this state has its files in place.
#[must_use]
pub fn is_done(state: &str) -> bool {
    matches!(state, "complete" | "active")
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("a literal address")
}
