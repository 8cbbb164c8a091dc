//! branchmesh as a [`Swarm`]: a holder that once got a release from a folder, and clients that have no origin at all.

use crate::{
    hq::{Headquarters, RepositorySize},
    images,
    lan::{Lan, Swarm},
    node::Node,
    place::Place,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

const SITE: &str = "lyon";
const IMAGE: &str = "xp-finance";
const RELEASE: &str = "1";
/// A holder has got the release from the folder, or read it again after a restart, within this time.
const HOLDER_LIMIT: Duration = Duration::from_secs(120);
/// Random content is the same in each run.
const SEED: u64 = 7;

/// The nodes.
#[derive(Debug)]
pub struct MeshSwarm {
    folder: PathBuf,
    hq: Headquarters,
    source: PathBuf,
    size: RepositorySize,
    nodes: Vec<Node>,
}

impl MeshSwarm {
    /// Publishes a release of `bytes` that no encoding makes smaller.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn new(lan: &Lan, bytes: u64) -> Self {
        let folder = lan.path().join("branchmesh");
        let hq = Headquarters::new(&folder.join("hq"));
        let source = folder.join("disk.img");
        images::make_noise(&source, SEED, bytes);
        let size = hq.publish(IMAGE, RELEASE, &[&source]);
        Self { folder, hq, source, size, nodes: Vec::new() }
    }

    fn add(&mut self, place: &Place, origins: &[&str]) -> &mut Node {
        let name = format!("pc-{:02}", self.nodes.len());
        let mut node = Node::new(&self.hq, &name, SITE, place.clone(), &self.folder.join("site"), origins);
        node.settings.wan = "never".into();
        self.nodes.push(node);
        self.nodes.last_mut().expect("it was just added")
    }

    fn holder(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }
}

impl Swarm for MeshSwarm {
    fn name(&self) -> &str {
        "branchmesh"
    }

    fn payload(&self) -> u64 {
        self.size.total()
    }

    fn start_holder(&mut self, place: &Place) {
        let origin = format!("file://{}", self.hq.repository().display());
        let holder = self.add(place, &[&origin]);
        holder.start();
        holder.wait_complete(IMAGE, RELEASE, HOLDER_LIMIT);
        // From here on nobody has an origin.
        holder.stop();
        holder.settings.origins.clear();
        holder.start();
        holder.wait_complete(IMAGE, RELEASE, HOLDER_LIMIT);
    }

    fn start_client(&mut self, place: &Place) {
        self.add(place, &[]).start();
    }

    fn is_done(&mut self, client: usize) -> bool {
        self.holder().expect_running();
        let node = &mut self.nodes[client + 1];
        node.expect_running();
        node.release_folder(IMAGE, RELEASE).is_dir()
    }

    fn processes(&mut self) -> Vec<u32> {
        self.nodes.iter_mut().map(|node| node.agent().id()).collect()
    }

    fn wrong(&self) -> Vec<String> {
        let source: &[&Path] = &[&self.source];
        self.nodes.iter().flat_map(|node| node.wrong_files(IMAGE, RELEASE, source)).collect()
    }
}
