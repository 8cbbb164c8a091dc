//! Headquarters and a few nodes on this machine's loopback addresses: no root, no network of its own.

use crate::{
    free_address::free_address,
    hq::{Headquarters, RepositorySize},
    images,
    nginx::{Manner, Nginx},
    node::Node,
    place::Place,
    scratch::Scratch,
    skip::{Need, have_all},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Name of the image in the tests.
pub const IMAGE: &str = "desk";
/// Name of the site. Each test has a CA of its own, so that sites of this name never mix.
const SITE: &str = "desk";

/// The machine's own little world.
#[derive(Debug)]
pub struct Loopback {
    /// Its headquarters.
    pub hq: Headquarters,
    scratch: Scratch,
}

impl Loopback {
    /// An empty repository and a CA.
    ///
    /// # Panics
    /// If something cannot be set up.
    #[must_use]
    pub fn new(test: &str) -> Self {
        let scratch = Scratch::new(test);
        Self { hq: Headquarters::new(&scratch.path().join("hq")), scratch }
    }

    /// One with nginx to serve it, and a release of about `bytes`; with the file that the release holds. `None`, and
    /// said aloud, where there is no nginx.
    ///
    /// # Panics
    /// If something cannot be set up.
    #[must_use]
    pub fn with_nginx(test: &str, bytes: u64) -> Option<(Self, PathBuf)> {
        have_all(test, &[Need::Program("nginx")]).then(|| {
            let world = Self::new(test);
            let (source, _) = world.publish(bytes);
            (world, source)
        })
    }

    /// Where its files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Publishes about `bytes` of this machine's files as release 1, and says which file they were put into.
    ///
    /// # Panics
    /// If that fails.
    pub fn publish(&self, bytes: u64) -> (PathBuf, RepositorySize) {
        let source = self.path().join("disk.img");
        images::make_blob(&source, bytes);
        let size = self.hq.publish(IMAGE, "1", &[&source]);
        (source, size)
    }

    /// Serves the repository at a free address.
    #[must_use]
    pub fn serve(&self, manner: Manner) -> Nginx {
        self.serve_at(free_address(), manner)
    }

    /// Serves the repository.
    #[must_use]
    pub fn serve_at(&self, address: SocketAddr, manner: Manner) -> Nginx {
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let folder = format!("nginx-{}", SERVERS.fetch_add(1, Ordering::Relaxed));
        Nginx::start(&Place::Here, address, &self.hq.repository(), &self.path().join(folder), manner)
    }

    /// The repository's URL as a local origin.
    #[must_use]
    pub fn folder_origin(&self) -> String {
        format!("file://{}", self.hq.repository().display())
    }

    /// A node that wants everything of its `origins`; not started.
    #[must_use]
    pub fn node(&self, name: &str, origins: &[&str]) -> Node {
        Node::new(&self.hq, name, SITE, Place::Here, self.path(), origins)
    }
}
