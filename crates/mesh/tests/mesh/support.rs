//! A site for tests: a CA in a temporary folder, and nodes with certificates of it.

use branchmesh_mesh::{
    Credentials, Event, Mesh, MeshConfig, Reply,
    ca::{self, IssueRequest},
};
use branchmesh_wire::{
    Identity, NodeId, Request, Role, Status, WanPolicy,
    limits::{REQUEST_BLOCKS_MAX, WIRE_VERSION},
};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use std::{
    collections::VecDeque,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};

/// Long enough for a busy machine; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An organisation: a CA and the identities that it has issued.
pub struct Organisation {
    dir: TempDir,
}

/// Files of one identity.
pub struct IdentityFiles {
    pub dir: PathBuf,
}

impl Organisation {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca::init(&dir.path().join("ca")).unwrap();
        Self { dir }
    }

    pub fn ca_dir(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    pub fn issue(&self, name: &str, site: &str) -> IdentityFiles {
        let now = SystemTime::now();
        self.issue_for(name, site, now - Duration::from_secs(60)..now + Duration::from_secs(3600))
    }

    pub fn issue_for(&self, name: &str, site: &str, validity: std::ops::Range<SystemTime>) -> IdentityFiles {
        let request = IssueRequest {
            name: name.into(),
            site: site.into(),
            role: if name.starts_with("seed") { Role::Seed } else { Role::Client },
            groups: vec!["finance".into()],
            valid_days: 1,
        };
        let dir = self.dir.path().join(name);
        ca::issue_for(&self.ca_dir(), &request, validity, &dir).unwrap();
        IdentityFiles { dir }
    }

    /// A certificate as another PKI might issue it.
    pub fn issue_by_hand(
        &self,
        name: &str,
        algorithm: &'static rcgen::SignatureAlgorithm,
        san: &[&str],
    ) -> IdentityFiles {
        let pem = |file: &str| fs::read_to_string(self.ca_dir().join(file)).unwrap();
        let ca_key = KeyPair::from_pem(&pem("ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&pem("ca.pem"), ca_key).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = san.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("node.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(dir.join("node.key"), key.serialize_pem()).unwrap();
        fs::write(dir.join("ca.pem"), pem("ca.pem")).unwrap();
        IdentityFiles { dir }
    }

    pub fn credentials(&self, name: &str) -> Credentials {
        self.issue(name, "lyon").load()
    }

    /// A node of the site lyon.
    pub async fn start(&self, name: &str, bootstrap: &[&Node]) -> Node {
        let addresses: Vec<SocketAddr> = bootstrap.iter().map(|node| node.address()).collect();
        Node::start(self.credentials(name), &addresses).await
    }
}

impl IdentityFiles {
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub fn load(&self) -> Credentials {
        load(&self.dir, &self.dir)
    }
}

/// The identity in `dir`, checked against the CA in `ca_dir`.
pub fn load(dir: &Path, ca_dir: &Path) -> Credentials {
    Credentials::load(&ca_dir.join("ca.pem"), &dir.join("node.pem"), &dir.join("node.key")).unwrap()
}

/// A running node. Events that a test does not wait for are kept.
pub struct Node {
    pub mesh: Mesh,
    events: mpsc::Receiver<Event>,
    kept: VecDeque<Event>,
}

impl Node {
    pub async fn start(credentials: Credentials, bootstrap: &[SocketAddr]) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), credentials, bootstrap).await
    }

    pub async fn start_on(listen: SocketAddr, credentials: Credentials, bootstrap: &[SocketAddr]) -> Self {
        let config = MeshConfig {
            listen,
            site: credentials.identity().site.clone(),
            bootstrap: bootstrap.iter().map(ToString::to_string).collect(),
            mdns: false,
        };
        let (mesh, events) = Mesh::start(config, credentials).await.unwrap();
        Self { mesh, events, kept: VecDeque::new() }
    }

    pub fn id(&self) -> NodeId {
        self.mesh.identity().node
    }

    pub fn address(&self) -> SocketAddr {
        self.mesh.listen_addresses()[0]
    }

    /// The first event, kept or new, in which `wanted` finds something.
    pub async fn expect<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        for at in 0..self.kept.len() {
            if let Some(found) = wanted(&self.kept[at]) {
                self.kept.remove(at);
                return found;
            }
        }
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the mesh has ended");
                if let Some(found) = wanted(&event) {
                    return found;
                }
                self.kept.push_back(event);
            }
        };
        match timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for {what}; there were {:?}", self.kept),
        }
    }

    pub async fn connected(&mut self, node: NodeId) -> (Identity, SocketAddr) {
        self.expect("a connection", |event| match event {
            Event::Connected { identity, address } if identity.node == node => {
                Some((identity.clone(), *address))
            }
            _ => None,
        })
        .await
    }

    pub async fn disconnected(&mut self, node: NodeId) -> String {
        self.expect("a disconnection", |event| match event {
            Event::Disconnected { node: gone, reason } if *gone == node => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    pub async fn refused(&mut self) -> (SocketAddr, String) {
        self.expect("a refusal", |event| match event {
            Event::Refused { address, reason } => Some((*address, reason.clone())),
            _ => None,
        })
        .await
    }

    pub async fn status_of(&mut self, node: NodeId, sequence: u64) -> Status {
        self.expect("a status", |event| match event {
            Event::Status { status } if status.node == node && status.sequence >= sequence => {
                Some(status.clone())
            }
            _ => None,
        })
        .await
    }

    /// The next request. Other events on the way are kept.
    pub async fn request(&mut self) -> (Identity, Request, Reply) {
        let kept = self.kept.iter().position(|event| matches!(event, Event::Request { .. }));
        let mut event = kept.and_then(|at| self.kept.remove(at));
        loop {
            match event {
                Some(Event::Request { from, request, reply }) => return (from, request, reply),
                Some(other) => self.kept.push_back(other),
                None => {}
            }
            event = timeout(PATIENCE, self.events.recv()).await.expect("a request");
            assert!(event.is_some(), "the mesh has ended");
        }
    }

    /// Whatever has been received and not been asked for.
    pub fn leftovers(&mut self) -> Vec<Event> {
        while let Ok(event) = self.events.try_recv() {
            self.kept.push_back(event);
        }
        self.kept.drain(..).collect()
    }

    /// Both events of a connection, on both sides.
    pub async fn meet(&mut self, other: &mut Self) {
        let (own, theirs) = (self.id(), other.id());
        self.connected(theirs).await;
        other.connected(own).await;
    }
}

/// A status of this node.
pub fn status(node: &Node, sequence: u64) -> Status {
    let identity = node.mesh.identity();
    Status {
        version: WIRE_VERSION,
        node: identity.node,
        name: identity.name.clone(),
        peer_id: identity.peer_id.clone(),
        role: identity.role,
        wan_policy: WanPolicy::Fetcher,
        incarnation: 1,
        sequence,
        addresses: node.mesh.listen_addresses(),
        fetching: false,
        metadata: 0,
        wan_bytes: 0,
        releases: Vec::new(),
        leaving: false,
    }
}

/// The blocks that a request names.
pub fn requested_blocks(request: &Request) -> Vec<u32> {
    match request {
        Request::Blocks { blocks, .. } => blocks.blocks(REQUEST_BLOCKS_MAX).collect(),
        other => panic!("{other:?} asks for no blocks"),
    }
}
