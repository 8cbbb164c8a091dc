//! The demo's site: agents on loopback addresses, found through each other.

use super::headquarters::Headquarters;
use crate::failure::Failure;
use branchmesh_agent::{Agent, Layer, config::IdentityLayer, config::TrustLayer, status::StatusView};
use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Name of the site.
const SITE: &str = "branch";
/// How often the demo's fetcher asks for something new: nobody wants to wait a minute here.
const POLL: &str = "2s";
/// Longest wait for an agent's answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// A running site.
pub struct Site {
    clients: Vec<Client>,
    web: reqwest::Client,
}

struct Client {
    name: String,
    agent: Agent,
    data_dir: PathBuf,
}

impl Site {
    /// Starts `count` agents.
    pub async fn start(folder: &Path, count: u16, hq: &Headquarters) -> Result<Self, Failure> {
        let web = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_WAIT)
            .build()
            .map_err(|error| Failure::failed("the HTTP client does not start", &error))?;
        let mut clients: Vec<Client> = Vec::new();
        for number in 1..=count {
            let name = format!("pc-{number:02}");
            let identity = hq.issue(&name, SITE)?;
            let data_dir = folder.join("site").join(&name);
            let known = clients.iter().flat_map(|client| client.agent.listen_addresses());
            let layer = Layer {
                data_dir: Some(data_dir.clone()),
                site: Some(SITE.into()),
                origins: Some(vec![hq.url()]),
                subscribe: Some(vec![super::IMAGE.into()]),
                listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
                http: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
                bootstrap: Some(known.map(ToString::to_string).collect()),
                mdns: Some(false),
                keep_releases: Some(1),
                poll: POLL.parse().ok(),
                free_space_floor: "1%".parse().ok(),
                identity: IdentityLayer {
                    ca: Some(identity.join("ca.pem")),
                    cert: Some(identity.join("node.pem")),
                    key: Some(identity.join("node.key")),
                },
                trust: TrustLayer { root: Some(hq.root_of_trust()) },
                ..Layer::default()
            };
            let settings = layer.settle().map_err(|error| Failure::usage(&error))?;
            let agent = Agent::start(settings)
                .await
                .map_err(|error| Failure::failed(&format!("{name} does not start"), &error))?;
            clients.push(Client { name, agent, data_dir });
        }
        Ok(Self { clients, web })
    }

    /// Names of the clients.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.clients.iter().map(|client| client.name.as_str())
    }

    /// Where the first client's live page is.
    pub fn first_page(&self) -> SocketAddr {
        self.clients[0].agent.http_address()
    }

    /// What a client says of itself, through its API like everybody's.
    pub async fn status(&self, client: usize) -> Result<StatusView, Failure> {
        let url = format!("http://{}/api/v1/status", self.clients[client].agent.http_address());
        let failed = |error: reqwest::Error| Failure::failed("a client does not answer", &error);
        self.web.get(url).send().await.map_err(failed)?.json().await.map_err(failed)
    }

    /// Compares every client's files with their sources, byte for byte; gives their number.
    pub async fn verify(&self, image: &str, release: &str, sources: &[PathBuf]) -> Result<usize, Failure> {
        let mut checked = 0;
        for client in &self.clients {
            for source in sources {
                let name = source.file_name().unwrap_or_default();
                let copy = client.data_dir.join("images").join(image).join(release).join(name);
                let (original, shown) = (source.clone(), copy.display().to_string());
                let same = tokio::task::spawn_blocking(move || same_content(&original, &copy))
                    .await
                    .map_err(|error| Failure::failed("the files were not compared", &error))?
                    .map_err(|error| Failure::failed(&format!("{shown} cannot be compared"), &error))?;
                if !same {
                    return Err(Failure::because(format!("{shown} differs from its source")));
                }
                checked += 1;
            }
        }
        Ok(checked)
    }

    /// Stops all agents.
    pub async fn stop(self) {
        futures::future::join_all(self.clients.into_iter().map(|client| client.agent.stop())).await;
    }
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = a.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}
