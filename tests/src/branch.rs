//! A branch office ready for a rollout: headquarters with nginx behind a thin WAN, and clients in namespaces.

use crate::{
    counters::{self, Usage},
    hq::{Headquarters, RepositorySize},
    images::DiskImage,
    netns::{Links, ORIGIN_ADDRESS, Site},
    nginx::{Manner, Nginx, PackTraffic},
    node::Node,
    scratch::Scratch,
    turn::Turn,
    wait,
};
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Name of the site, and of the image that it gets.
const SITE: &str = "lyon";
/// Name of the image in the tests.
pub const IMAGE: &str = "xp-finance";

/// The office. Fields in the order in which they must go: processes before the network that they run in.
#[derive(Debug)]
pub struct Branch {
    /// The clients.
    pub nodes: Vec<Node>,
    nginx: Nginx,
    /// Its network.
    pub site: Site,
    /// Its headquarters.
    pub hq: Headquarters,
    scratch: Scratch,
    _turn: Turn,
}

/// What happened between two moments.
#[derive(Debug)]
pub struct Spread {
    /// Time of each client, from the start to its files being in place; none if it didn't get them in time.
    pub seconds: Vec<Option<f64>>,
    /// Bytes over the WAN towards the site, with headers.
    pub wan_bytes: u64,
    /// Requests that nginx answered.
    pub requests: usize,
    /// What nginx sent of the packs.
    pub packs: PackTraffic,
    /// Bytes that it sent of index parts.
    pub index_bytes: u64,
    /// Bytes over the WAN since the start, each [`SAMPLE_EVERY`].
    pub wan_course: Vec<u64>,
}

/// How often a spread's course is looked at.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(2);

impl Spread {
    /// Time of the last client; none if one did not get everything.
    #[must_use]
    pub fn last(&self) -> Option<f64> {
        self.seconds.iter().copied().try_fold(0.0, |last: f64, seconds| Some(last.max(seconds?)))
    }
}

impl Spread {
    /// How much of the WAN was used, in percent, over the course of the spread.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn wan_used(&self, links: Links) -> Vec<u64> {
        let full = f64::from(links.wan_mbit) * 1e6 / 8.0 * SAMPLE_EVERY.as_secs_f64();
        let before = std::iter::once(&0).chain(&self.wan_course);
        let steps = before.zip(&self.wan_course).map(|(before, now)| now - before);
        steps.map(|bytes| (bytes as f64 / full * 100.0).round() as u64).collect()
    }
}

impl Branch {
    /// An office with `clients` clients, none of them started, and an empty repository.
    ///
    /// # Panics
    /// If something cannot be set up.
    #[must_use]
    pub fn new(test: &str, links: Links, clients: usize) -> Self {
        let turn = Turn::take();
        let scratch = Scratch::new(test);
        let hq = Headquarters::new(&scratch.path().join("hq"));
        let site = Site::new(links);
        let nginx = serve(&hq, &site, &scratch);
        let mut branch = Self { nodes: Vec::new(), nginx, site, hq, scratch, _turn: turn };
        for _ in 0..clients {
            branch.add_client();
        }
        branch
    }

    /// Adds one more client, not started, and says which it is.
    pub fn add_client(&mut self) -> usize {
        let place = self.site.add_client();
        let name = format!("pc-{:02}", self.nodes.len() + 1);
        let origin = format!("http://{ORIGIN_ADDRESS}");
        self.nodes.push(Node::new(
            &self.hq,
            &name,
            SITE,
            place,
            &self.scratch.path().join("site"),
            &[&origin],
        ));
        self.nodes.len() - 1
    }

    /// Makes a machine image of about `bytes`, and publishes it.
    pub fn publish_first(&self, bytes: u64) -> (DiskImage, RepositorySize) {
        let image = DiskImage::make(&self.folder("image-1"), bytes);
        let size = self.hq.publish(IMAGE, "1", &image.paths());
        (image, size)
    }

    /// Changes about `bytes` inside the image, and publishes it as the second release.
    pub fn publish_second(&self, first: &DiskImage, bytes: u64) -> (DiskImage, RepositorySize) {
        let image = first.updated(&self.folder("image-2"), bytes);
        let size = self.hq.publish(IMAGE, "2", &image.paths());
        (image, size)
    }

    /// Starts the agents of `which`, and says how long that took.
    pub fn start(&mut self, which: impl IntoIterator<Item = usize>) -> Duration {
        let begin = Instant::now();
        which.into_iter().for_each(|node| self.nodes[node].start());
        begin.elapsed()
    }

    /// Follows a release from `begin` until all of `which` have its files, at most `limit`.
    ///
    /// # Panics
    /// If an agent ends.
    #[track_caller]
    pub fn follow(&mut self, which: &[usize], release: &str, limit: Duration, since: &Mark) -> Spread {
        let mut seconds: Vec<Option<f64>> = vec![None; which.len()];
        let mut wan_course = Vec::new();
        wait::until(limit.saturating_sub(since.at.elapsed()), || {
            for (slot, node) in seconds.iter_mut().zip(which) {
                let node = &mut self.nodes[*node];
                if slot.is_none() && node.release_folder(IMAGE, release).is_dir() {
                    *slot = Some(since.at.elapsed().as_secs_f64());
                }
                node.expect_running();
            }
            if since.at.elapsed() >= SAMPLE_EVERY * u32::try_from(wan_course.len() + 1).unwrap_or(u32::MAX) {
                wan_course.push(self.site.wan_bytes() - since.wan_bytes);
            }
            seconds.iter().all(Option::is_some).then_some(())
        });
        let wan_bytes = self.site.wan_bytes() - since.wan_bytes;
        let accesses = &self.accesses()[since.accesses..];
        let index_parts = accesses.iter().filter(|access| access.path.starts_with("/indexes/"));
        Spread {
            seconds,
            wan_bytes,
            requests: accesses.len(),
            packs: PackTraffic::of(accesses),
            index_bytes: index_parts.map(|access| access.body_bytes).sum(),
            wan_course,
        }
    }

    /// Now, for [`Self::follow`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { at: Instant::now(), wan_bytes: self.site.wan_bytes(), accesses: self.accesses().len() }
    }

    /// Bytes over the WAN since a moment.
    #[must_use]
    pub fn wan_bytes_since(&self, mark: &Mark) -> u64 {
        self.site.wan_bytes() - mark.wan_bytes
    }

    /// What a node's agent has used since its last start.
    #[must_use]
    pub fn usage(&mut self, node: usize) -> Usage {
        counters::usage(self.nodes[node].agent().id()).unwrap_or_default()
    }

    /// Ends the web server for good.
    pub fn stop_origin(&mut self) {
        self.nginx.stop();
    }

    /// Which of the running nodes say that they use the WAN now, as numbers of nodes.
    #[must_use]
    pub fn fetchers(&self) -> Vec<usize> {
        let statuses =
            self.nodes.iter().enumerate().filter_map(|(number, node)| Some((number, node.status()?)));
        statuses
            .filter(|(_, status)| status.site.fetchers.contains(&status.node.peer_id))
            .map(|(n, _)| n)
            .collect()
    }

    /// The wrong or missing files of `which`.
    #[must_use]
    pub fn wrong_files(&self, which: &[usize], release: &str, image: &DiskImage) -> Vec<String> {
        which.iter().flat_map(|node| self.nodes[*node].wrong_files(IMAGE, release, &image.paths())).collect()
    }

    fn accesses(&self) -> Vec<crate::nginx::Access> {
        self.nginx.accesses()
    }

    /// A folder for files of a test, made if it is not there.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.scratch.path().join(name);
        fs::create_dir_all(&folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        folder
    }
}

/// A moment, and how far the counters were.
#[derive(Debug)]
pub struct Mark {
    at: Instant,
    wan_bytes: u64,
    accesses: usize,
}

fn serve(hq: &Headquarters, site: &Site, scratch: &Scratch) -> Nginx {
    let address = SocketAddr::new(ORIGIN_ADDRESS.parse().expect("a literal address"), 80);
    Nginx::start(&site.origin(), address, &hq.repository(), &scratch.path().join("nginx"), Manner::Proper)
}
