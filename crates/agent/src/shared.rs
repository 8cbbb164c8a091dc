//! What the loop and its tasks have in common: the disk, the mesh, the origins, and the way back to the loop.
//!
//! The loop alone changes state. Tasks read what is here and tell the loop what happened.

use crate::{
    config::Settings, happening::Happening, harvest::Harvesting, line::Line, nearby::Nearby,
    throttle::TokenBucket,
};
use branchmesh_image::{BlockEntry, Cipher, Index};
use branchmesh_mesh::Mesh;
use branchmesh_repo::{CatalogEntry, ContentKeys, Origin, Trust};
use branchmesh_store::Store;
use branchmesh_wire::{IndexId, NodeId};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, Notify, mpsc};

/// How long a new fetcher waits before it takes an index over the WAN. When a classroom starts at once, a better-ranked
/// node may take the lease within this time, and would take the same index once more.
const FETCHER_SETTLES: Duration = Duration::from_millis(500);

/// One agent's common ground.
pub(crate) struct Shared {
    pub settings: Settings,
    pub store: Store,
    pub mesh: Mesh,
    /// Those behind the WAN, nearest first.
    pub origins: Vec<Origin>,
    /// The line to them.
    pub line: Arc<Line>,
    /// The local ones.
    pub nearby: Nearby,
    /// What opens the images of groups.
    pub content_keys: ContentKeys,
    /// Content keys that cannot be used, in words.
    pub key_problems: Vec<String>,
    /// Locked while metadata is fetched and checked: one update at a time.
    pub trust: Mutex<Trust>,
    pub lan_limit: TokenBucket,
    pub harvest: Harvesting,
    /// Set when the agent stops: threads look at it.
    pub stopping: Arc<AtomicBool>,
    /// Whether blocks rot on the disk again and again, so that nobody is served from it.
    pub disk_fails: AtomicBool,
    happenings: mpsc::Sender<Happening>,
    held: RwLock<BTreeMap<IndexId, Arc<Held>>>,
    holders: RwLock<BTreeMap<IndexId, Vec<NodeId>>>,
    holders_changed: Notify,
    /// Verified metadata for the neighbours: a copy, so that nobody waits for `trust`.
    metadata: RwLock<BTreeMap<String, Bytes>>,
    fetcher_since: RwLock<Option<Instant>>,
}

/// A release whose index is known here.
#[derive(Debug)]
pub(crate) struct Held {
    pub entry: CatalogEntry,
    pub index: Arc<Index>,
    pub cipher: Cipher,
    /// Bytes that WAN origins sent for it since the start, whatever became of them.
    pub crossed: AtomicU64,
}

impl Held {
    /// A block of the index; `None` for a number that somebody made up.
    pub fn block(&self, block: u32) -> Option<&BlockEntry> {
        self.index.blocks().get(block as usize)
    }
}

/// What [`Shared`] is made of.
pub(crate) struct Parts {
    pub settings: Settings,
    pub store: Store,
    pub mesh: Mesh,
    pub origins: Vec<Origin>,
    pub line: Arc<Line>,
    pub local_origins: Vec<Origin>,
    pub content_keys: ContentKeys,
    pub key_problems: Vec<String>,
    pub trust: Trust,
    pub harvest: Harvesting,
    pub stopping: Arc<AtomicBool>,
    pub happenings: mpsc::Sender<Happening>,
}

impl Shared {
    pub fn new(parts: Parts) -> Self {
        Self {
            lan_limit: TokenBucket::new(parts.settings.lan_limit),
            settings: parts.settings,
            store: parts.store,
            mesh: parts.mesh,
            nearby: Nearby::new(parts.local_origins),
            origins: parts.origins,
            line: parts.line,
            content_keys: parts.content_keys,
            key_problems: parts.key_problems,
            trust: Mutex::new(parts.trust),
            harvest: parts.harvest,
            stopping: parts.stopping,
            disk_fails: AtomicBool::new(false),
            happenings: parts.happenings,
            held: RwLock::default(),
            holders: RwLock::default(),
            holders_changed: Notify::new(),
            metadata: RwLock::default(),
            fetcher_since: RwLock::default(),
        }
    }

    /// Tells the loop. Waits while the loop is behind; the loop being gone means that the agent stops.
    pub async fn tell(&self, happening: Happening) {
        let _ = self.happenings.send(happening).await;
    }

    /// The same from a thread that may block.
    pub fn tell_blocking(&self, happening: Happening) {
        let _ = self.happenings.blocking_send(happening);
    }

    /// Whether this node is the site's fetcher, and not just for a moment.
    pub fn is_settled_fetcher(&self) -> bool {
        let since = *self.fetcher_since.read().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() >= FETCHER_SETTLES)
    }

    /// Kept up to date by the loop.
    pub fn set_fetcher(&self, fetcher: bool) {
        let mut since = self.fetcher_since.write().unwrap_or_else(PoisonError::into_inner);
        *since = fetcher.then(|| since.unwrap_or_else(Instant::now));
    }

    /// A release whose index is known.
    pub fn held(&self, release: &IndexId) -> Option<Arc<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).get(release).cloned()
    }

    /// All releases whose index is known.
    pub fn all_held(&self) -> Vec<Arc<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub fn hold(&self, held: Arc<Held>) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).insert(held.entry.id(), held);
    }

    pub fn let_go(&self, release: &IndexId) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).remove(release);
    }

    /// A verified metadata file by its name.
    pub fn metadata(&self, name: &str) -> Option<Bytes> {
        self.metadata.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn set_metadata(&self, files: BTreeMap<String, Bytes>) {
        *self.metadata.write().unwrap_or_else(PoisonError::into_inner) = files;
    }

    /// Connected members that said that they know a release's index.
    pub fn holders(&self, release: &IndexId) -> Vec<NodeId> {
        let holders = self.holders.read().unwrap_or_else(PoisonError::into_inner);
        holders.get(release).cloned().unwrap_or_default()
    }

    pub fn set_holders(&self, all: BTreeMap<IndexId, Vec<NodeId>>) {
        let mut holders = self.holders.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *holders != all;
        *holders = all;
        if changed {
            self.holders_changed.notify_waiters();
        }
    }

    /// A local origin came or changed: whoever waits for something looks there again.
    pub fn nearby_changed(&self) {
        self.nearby.forget_lacks();
        self.holders_changed.notify_waiters();
    }

    /// Waits until other members hold releases than before, something changed near by, or this node may take an index
    /// over the WAN; not longer than `pause`.
    pub async fn wait_for_holders(&self, pause: Duration) {
        let since = *self.fetcher_since.read().unwrap_or_else(PoisonError::into_inner);
        let settles_in = since.and_then(|since| FETCHER_SETTLES.checked_sub(since.elapsed()));
        let pause = settles_in.map_or(pause, |left| pause.min(left));
        // Nobody having come in time is as good a reason to look again.
        let _ = tokio::time::timeout(pause, self.holders_changed.notified()).await;
    }
}
