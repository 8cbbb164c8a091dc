//! The first steps of a release's way onto this node, each as a task of its own: learn of it, learn its index and
//! what of it is here or near by. What they find goes to the loop, which decides.

use crate::{
    happening::{Happening, Indexed, MetadataFrom},
    line::OverLine,
    nearby,
    shared::{Held, Shared},
};
use async_trait::async_trait;
use branchmesh_image::{BlobRef, Index, IndexId, VerifiedBlock};
use branchmesh_mesh::RequestError;
use branchmesh_repo::{
    Catalog, CatalogEntry, MetadataSource, Origin, PartSource, SourceError, TrustError, load_release,
};
use branchmesh_store::ReleaseRecord;
use branchmesh_wire::{BlockSet, NodeId, Refusal, Request};
use bytes::Bytes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tracing::{debug, warn};

/// First and longest pause between two attempts to get an index part that nobody gave.
const PART_RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Asks all WAN origins for new metadata, and tells the loop what came of it.
pub(crate) async fn refresh_wan(shared: Arc<Shared>) {
    let mut result = Err("no origin is configured".into());
    // All of them: a mirror may be behind the others, and trust only moves forward.
    for origin in &shared.origins {
        let refreshed = refresh(&shared, &OverLine { line: &shared.line, origin }).await;
        let refreshed = refreshed.map_err(|error| in_words_of(origin.url(), &error));
        if refreshed.is_ok() || result.is_err() {
            result = refreshed;
        }
    }
    // The exchange closed the line itself, and waits for no answer.
    if result.is_ok() || shared.line.is_open() {
        shared.tell(Happening::Metadata(MetadataFrom::Wan, result)).await;
    }
}

/// Asks a member for new metadata, and tells the loop what came of it.
pub(crate) async fn refresh_member(shared: Arc<Shared>, node: NodeId) {
    let source = Member { shared: Arc::clone(&shared), node };
    let result = refresh(&shared, &source).await.map_err(|error| crate::in_words(&error));
    shared.tell(Happening::Metadata(MetadataFrom::Member(node), result)).await;
}

/// Asks a local origin for new metadata. One that is behind has nothing to say: a stick that was prepared last month
/// is no attack.
pub(crate) async fn refresh_local(shared: &Shared, origin: &Origin) -> Result<Arc<Catalog>, String> {
    match refresh(shared, origin).await {
        Ok(catalog) => Ok(catalog),
        Err(error @ TrustError::Rollback { .. }) => {
            let known = shared.trust.lock().await.catalog();
            known.ok_or_else(|| in_words_of(origin.url(), &error))
        }
        Err(error) => Err(in_words_of(origin.url(), &error)),
    }
}

/// One update at a time.
async fn refresh(shared: &Shared, source: &dyn MetadataSource) -> Result<Arc<Catalog>, TrustError> {
    let mut trust = shared.trust.lock().await;
    let result = trust.refresh(source).await;
    shared.set_metadata(trust.files().clone());
    result
}

/// An origin's error in words that name it.
fn in_words_of(url: &str, error: &TrustError) -> String {
    let words = crate::in_words(error);
    if words.contains(url.trim_end_matches('/')) { words } else { format!("{url}: {words}") }
}

/// Metadata as one member of the site has it.
struct Member {
    shared: Arc<Shared>,
    node: NodeId,
}

#[async_trait]
impl MetadataSource for Member {
    async fn metadata(&self, name: &str, max: usize) -> Result<Option<Bytes>, SourceError> {
        let request = Request::Metadata { name: name.into() };
        match self.shared.mesh.request_part(self.node, request, max).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(RequestError::Refused(Refusal::NotHere)) => Ok(None),
            Err(error) => Err(SourceError::Members(crate::in_words(&error))),
        }
    }
}

/// Learns a release's index and what of it is here already, and tells the loop. Local origins and files of this machine
/// are asked only for what is `wanted`.
pub(crate) async fn index_release(
    shared: Arc<Shared>,
    entry: CatalogEntry,
    wanted: bool,
    record: Option<ReleaseRecord>,
) {
    let indexed = indexed(&shared, &entry, wanted, record).await;
    shared.tell(Happening::Indexed(Box::new(entry), indexed)).await;
}

async fn indexed(
    shared: &Arc<Shared>,
    entry: &CatalogEntry,
    wanted: bool,
    record: Option<ReleaseRecord>,
) -> Result<Indexed, String> {
    // A release whose description could be read has a key that opens it.
    let cipher = shared.content_keys.cipher(entry.group.as_deref()).ok_or_else(|| {
        format!("there is no content key for the group {}", entry.group.as_deref().unwrap_or_default())
    })?;
    let parts = SiteParts { shared: Arc::clone(shared), crossed: AtomicU64::new(0) };
    let index = load_release(entry, cipher.clone(), &parts).await.map_err(|error| crate::in_words(&error))?;
    let held =
        Arc::new(Held { entry: entry.clone(), index: Arc::new(index), cipher, crossed: parts.crossed });
    let trim = shared.settings.trim || record.is_some();
    let mut have = blocks_here(shared, &held.index, trim).await;
    if !wanted {
        return Ok(Indexed { held, have, record, wanted });
    }
    nearby::take_all(shared, &held, &mut have).await;
    if !have.is_full() && shared.harvest.look_for(&held).await {
        have.union_with(&blocks_here(shared, &held.index, trim).await);
    }
    Ok(Indexed { held, have, record, wanted })
}

/// Index parts from the nearest place: this disk, local origins, members, and the WAN if this node is a fetcher.
struct SiteParts {
    shared: Arc<Shared>,
    /// Bytes that WAN origins sent.
    crossed: AtomicU64,
}

#[async_trait]
impl PartSource for SiteParts {
    /// Waits until somebody has the part: a node that may not use the WAN depends on the others.
    async fn part(&self, release: IndexId, blob: &BlobRef) -> Result<VerifiedBlock, SourceError> {
        let id = blob.id;
        let shared = Arc::clone(&self.shared);
        if let Ok(Ok(Some(part))) = tokio::task::spawn_blocking(move || shared.store.part(&id)).await {
            return Ok(part);
        }
        let mut pause = PART_RETRY.0;
        loop {
            if let Some(part) = self.ask_for_part(release, blob).await {
                self.keep(part.clone()).await;
                return Ok(part);
            }
            self.shared.wait_for_holders(pause).await;
            pause = (pause * 3 / 2).min(PART_RETRY.1);
        }
    }
}

impl SiteParts {
    async fn ask_for_part(&self, release: IndexId, blob: &BlobRef) -> Option<VerifiedBlock> {
        for place in self.shared.nearby.places() {
            match place.origin.part(release, blob).await {
                Ok(part) => return Some(part),
                Err(SourceError::Origin(error)) => {
                    place.note(release, &error);
                }
                Err(SourceError::Members(_) | SourceError::LineClosed) => {}
            }
        }
        self.shared.nearby.index_is_elsewhere(release);
        for node in self.shared.holders(&release) {
            let request = Request::IndexPart { release, id: blob.id };
            match self.shared.mesh.request_part(node, request, blob.encoded_len as usize).await {
                Ok(bytes) => match VerifiedBlock::verify(&blob.id, bytes) {
                    Ok(part) => return Some(part),
                    Err(error) => warn!(%node, error = crate::in_words(&error), "a bad index part was sent"),
                },
                Err(error) => debug!(%node, error = crate::in_words(&error), "no index part"),
            }
        }
        if !self.shared.is_settled_fetcher() {
            return None;
        }
        for origin in &self.shared.origins {
            match (OverLine { line: &self.shared.line, origin }).part(release, blob).await {
                Ok(part) => {
                    self.crossed.fetch_add(u64::from(blob.encoded_len), Ordering::Relaxed);
                    return Some(part);
                }
                Err(SourceError::LineClosed) => return None,
                Err(error) => {
                    let words = crate::in_words(&error);
                    warn!(origin = origin.url(), error = words, "an index part did not come");
                    self.shared.tell(Happening::OriginFailed(words)).await;
                }
            }
        }
        None
    }

    async fn keep(&self, part: VerifiedBlock) {
        let shared = Arc::clone(&self.shared);
        let kept = tokio::task::spawn_blocking(move || shared.store.put_part(&part)).await;
        if let Ok(Err(error)) = kept {
            self.shared.tell(Happening::DiskFailed(crate::in_words(&error))).await;
        }
    }
}

async fn blocks_here(shared: &Arc<Shared>, index: &Arc<Index>, trim: bool) -> BlockSet {
    let (shared, index) = (Arc::clone(shared), Arc::clone(index));
    let count = u32::try_from(index.blocks().len()).expect("an index has at most 2^32 blocks");
    let found = tokio::task::spawn_blocking(move || {
        let mut have = BlockSet::empty(count);
        for (number, block) in (0u32..).zip(index.blocks()) {
            if trim && shared.store.has(&block.location()) {
                have.insert(number);
            }
        }
        have
    });
    found.await.unwrap_or_else(|_| BlockSet::empty(count))
}
