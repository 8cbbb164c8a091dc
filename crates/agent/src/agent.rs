//! Starting and stopping an agent.

use crate::{
    api,
    config::Settings,
    harvest,
    line::Line,
    run::Loop,
    scrub,
    shared::{Parts, Shared},
    transfer::Writer,
    units::{LimitSchedule, Space},
    versions::Versions,
};
use branchmesh_mesh::{Credentials, IdentityError, Mesh, MeshConfig, MeshError};
use branchmesh_repo::{Address, ContentKeys, Origin, OriginError, Throttle, Trust, TrustError};
use branchmesh_store::{Floor, Store, StoreError};
use branchmesh_wire::Role;
use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Happenings that may wait for the loop: enough that tasks rarely wait, few enough that nothing piles up.
const HAPPENINGS_MAX: usize = 1024;

/// A running agent. Dropping it stops the agent without a goodbye; [`stop`](Self::stop) says goodbye.
pub struct Agent {
    stop: CancellationToken,
    running: JoinHandle<()>,
    serving: JoinHandle<()>,
    http: SocketAddr,
    listen: Vec<SocketAddr>,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The device certificate cannot be used.
    #[error("this node has no usable identity")]
    Identity(#[from] IdentityError),
    /// The settings say something else than the certificate.
    #[error(
        "the setting {setting} is {configured:?}, but the device certificate says {certified:?}: change the \
         setting, or have a certificate issued for it (branchmesh ca issue)"
    )]
    NotCertified {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        configured: String,
        /// The certificate's value.
        certified: String,
    },
    /// `data_dir` cannot be used.
    #[error("the folder data_dir cannot be used")]
    Store(#[from] StoreError),
    /// An origin's URL is wrong, or the access to it is not set up.
    #[error("an origin cannot be used")]
    Origin(#[from] OriginError),
    /// The root of trust cannot be read.
    #[error("the root of trust {path} cannot be read")]
    RootUnreadable {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The root of trust, or what is kept of it, cannot be used.
    #[error("the repository's root of trust cannot be used")]
    Trust(#[from] TrustError),
    /// The mesh does not start.
    #[error("the mesh does not start")]
    Mesh(#[from] MeshError),
    /// The local API's port is taken, or its address is not of this machine.
    #[error("the local API cannot listen on {address}: choose another address with the setting http")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("the system gives no thread")]
    Thread(#[source] io::Error),
}

impl Agent {
    /// Starts an agent: checks everything that can be wrong, then runs until it is stopped.
    pub async fn start(settings: Settings) -> Result<Self, AgentError> {
        let credentials = Credentials::load(&settings.ca, &settings.cert, &settings.key)?;
        check_certified(&settings, &credentials)?;
        let store = Store::open(&settings.data_dir)?;
        store.set_floor(match settings.free_space_floor {
            Space::Percent(percent) => Floor::Percent(percent),
            Space::Bytes(bytes) => Floor::Bytes(bytes),
        });
        let versions = Versions::load(&store)?;
        let line = Arc::new(Line::new(settings.fetchers));
        let (local_origins, origins) =
            open_origins(&settings, &line)?.into_iter().partition(Origin::is_local);
        let (content_keys, key_problems) = read_content_keys(&settings);
        let trust = open_trust(&settings, content_keys.clone())?;
        let http = TcpListener::bind(settings.http)
            .await
            .map_err(|source| AgentError::Http { address: settings.http, source })?;
        let http_address = http.local_addr().unwrap_or(settings.http);
        let config = MeshConfig {
            listen: settings.listen,
            site: settings.site.clone(),
            bootstrap: settings.bootstrap.clone(),
            mdns: settings.mdns,
        };
        let (mesh, events) = Mesh::start(config, credentials).await?;
        let listen = mesh.listen_addresses();

        let (happenings, happened) = mpsc::channel(HAPPENINGS_MAX);
        let stopping = Arc::<AtomicBool>::default();
        let (harvest, harvester) = harvest::prepare(settings.harvested().to_vec(), Arc::clone(&stopping));
        let shared = Arc::new(Shared::new(Parts {
            settings,
            store,
            mesh,
            origins,
            line,
            local_origins,
            content_keys,
            key_problems,
            trust,
            harvest,
            stopping,
            happenings,
        }));
        harvester.start(&shared).and_then(|()| scrub::start(&shared)).map_err(AgentError::Thread)?;
        let writer = Writer::start(Arc::clone(&shared)).map_err(AgentError::Thread)?;
        let stop = CancellationToken::new();
        let router = api::router(Arc::clone(&shared));
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(http, router).with_graceful_shutdown(stopped).await {
                error!(%error, "the local API failed");
            }
        });
        info!(http = %http_address, listen = ?listen, "the agent runs");
        let running = tokio::spawn(Loop::new(shared, versions, writer).run(events, happened, stop.clone()));
        Ok(Self { stop, running, serving, http: http_address, listen })
    }

    /// Where the local API listens.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where other nodes reach it.
    #[must_use]
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Says goodbye to the site, commits what was received, and stops.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in [self.running, self.serving] {
            if let Err(error) = task.await {
                error!(%error, "a task did not end well");
            }
        }
    }
}

fn check_certified(settings: &Settings, credentials: &Credentials) -> Result<(), AgentError> {
    let identity = credentials.identity();
    if identity.site != settings.site {
        return Err(AgentError::NotCertified {
            setting: "site",
            configured: settings.site.clone(),
            certified: identity.site.clone(),
        });
    }
    if settings.role == Role::Seed && identity.role != Role::Seed {
        return Err(AgentError::NotCertified {
            setting: "role",
            configured: "seed".into(),
            certified: "client".into(),
        });
    }
    Ok(())
}

fn open_origins(settings: &Settings, line: &Arc<Line>) -> Result<Vec<Origin>, OriginError> {
    let limit: Arc<dyn Throttle> = line.clone();
    let open = |url: &String| {
        let origin = Origin::open(Address::from(url).with(settings.access.clone()))?;
        let limited = settings.wan_limit != LimitSchedule::default() && !origin.is_local();
        Ok(if limited { origin.throttled(Arc::clone(&limit)) } else { origin })
    };
    // What was brought here comes before everything else.
    let prestaged = settings.prestage.iter().map(|folder| Origin::open(folder.as_path()));
    prestaged.chain(settings.origins.iter().map(open)).collect()
}

/// The content keys that the settings name, and what is wrong with those that cannot be used: the images of other
/// groups must not suffer from that.
fn read_content_keys(settings: &Settings) -> (ContentKeys, Vec<String>) {
    let mut keys = ContentKeys::default();
    let mut problems = Vec::new();
    for (group, path) in &settings.keys {
        if let Err(error) = keys.add_file(group, path) {
            let words = format!(
                "the releases of the group {group} cannot be opened: {}; put it right and start the agent again",
                crate::in_words(&error)
            );
            error!("{words}");
            problems.push(words);
        }
    }
    (keys, problems)
}

fn open_trust(settings: &Settings, keys: ContentKeys) -> Result<Trust, AgentError> {
    let path = &settings.root;
    let root =
        std::fs::read(path).map_err(|source| AgentError::RootUnreadable { path: path.clone(), source })?;
    Ok(Trust::open(&root, &settings.data_dir.join("trust"), keys)?)
}
